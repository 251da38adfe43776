//! Containers of a pod: regular, init and ephemeral ones.

use api::field::{Error, Path};
use api::{Value, validate};

use super::{env, mounts, probes, resources, security};
use crate::{checks, tree};

/// Fields that ephemeral containers may not have, in the order of upstream's struct.
const NOT_EPHEMERAL: &[&str] = &[
    "ports",
    "resources",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
];
const INIT_ONLY_ALWAYS: &str = "may not be set for init containers without restartPolicy=Always";
const RULES_NEED_POLICY: &str = "must specify restartPolicy when restart rules are used";

/// What containers refer to in their pod.
pub struct Surroundings<'v> {
    /// The pod's spec.
    pub spec: &'v Value,
    /// Its volumes that are well-formed; mounts of others report them as missing.
    pub volumes: Vec<&'v Value>,
    /// Names of the claims for devices.
    pub claims: Vec<&'v str>,
}

impl<'v> Surroundings<'v> {
    /// The surroundings of a spec's containers.
    pub fn new(spec: &'v Value, volumes: Vec<&'v Value>) -> Self {
        let claims = tree::list(spec, "resourceClaims");
        let mut claims: Vec<&str> = claims.iter().map(|claim| tree::text(claim, "name")).collect();
        claims.retain(|name| !name.is_empty());
        claims.sort_unstable();
        claims.dedup();
        Surroundings { spec, volumes, claims }
    }

    /// The well-formed volume of that name.
    pub fn volume(&self, name: &str) -> Option<&'v Value> {
        let mut volumes = self.volumes.iter().copied();
        volumes.find(|volume| tree::text(volume, "name") == name)
    }
}

/// Every container with its path: init, regular, ephemeral (`VisitContainersWithPath`).
pub fn visit<'v>(spec: &'v Value, path: &Path) -> Vec<(&'v Value, Path)> {
    let mut all = Vec::new();
    for list in super::defaults::CONTAINER_LISTS {
        let path = path.child(list);
        let items = tree::list(spec, list).iter().enumerate();
        all.extend(items.map(|(index, container)| (container, path.index(index))));
    }
    all
}

/// All three lists of containers.
pub fn containers(around: &Surroundings<'_>, path: &Path) -> Vec<Error> {
    let mut errors = regular(around, &path.child("containers"));
    errors.extend(init(around, &path.child("initContainers")));
    errors.extend(ephemeral(around, &path.child("ephemeralContainers")));
    errors
}

fn names<'v>(spec: &'v Value, lists: &[&str]) -> Vec<&'v str> {
    let containers = lists.iter().flat_map(|list| tree::list(spec, list));
    containers.map(|container| tree::text(container, "name")).collect()
}

fn regular(around: &Surroundings<'_>, path: &Path) -> Vec<Error> {
    let list = tree::list(around.spec, "containers");
    if list.is_empty() {
        return vec![Error::required(path, "")];
    }
    let mut errors = Vec::new();
    for (index, container) in list.iter().enumerate() {
        let item = path.index(index);
        errors.extend(common(around, container, &item));
        let name = tree::text(container, "name");
        if list[..index].iter().any(|other| tree::text(other, "name") == name) {
            errors.push(Error::duplicate(&item.child("name"), name));
        }
        errors.extend(probes::lifecycle(container, around.spec, &item));
        errors.extend(probes::probes(container, &item));
        errors.extend(restart_policy(container, &item));
    }
    errors.extend(host_ports(list, path));
    errors
}

fn init(around: &Surroundings<'_>, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let list = tree::list(around.spec, "initContainers");
    let regular = names(around.spec, &["containers"]);
    for (index, container) in list.iter().enumerate() {
        let item = path.index(index);
        errors.extend(common(around, container, &item));
        errors.extend(restart_policy(container, &item));
        let name = tree::text(container, "name");
        let earlier = || list[..index].iter().any(|other| tree::text(other, "name") == name);
        if regular.contains(&name) || (!name.is_empty() && earlier()) {
            errors.push(Error::duplicate(&item.child("name"), name));
        }
        errors.extend(host_ports(std::slice::from_ref(container), path));
        if tree::text(container, "restartPolicy") == "Always" {
            errors.extend(probes::lifecycle(container, around.spec, &item));
            errors.extend(probes::probes(container, &item));
            continue;
        }
        for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            if tree::at(container, field).is_some() {
                errors.push(Error::forbidden(&item.child(field), INIT_ONLY_ALWAYS));
            }
        }
        for (number, policy) in tree::list(container, "resizePolicy").iter().enumerate() {
            if tree::text(policy, "restartPolicy") == "RestartContainer" {
                let path = item.child("resizePolicy").index(number).child("restartPolicy");
                let detail = "must not be set to 'RestartContainer' for non-sidecar initContainers";
                errors.push(Error::invalid(&path, "RestartContainer", detail));
            }
        }
    }
    errors
}

fn ephemeral(around: &Surroundings<'_>, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let others = names(around.spec, &["containers", "initContainers"]);
    let list = tree::list(around.spec, "ephemeralContainers");
    for (index, container) in list.iter().enumerate() {
        let item = path.index(index);
        errors.extend(common(around, container, &item));
        errors.extend(image_without_padding(container, &item));
        let name = tree::text(container, "name");
        if others.contains(&name) || list[..index].iter().any(|other| tree::text(other, "name") == name) {
            errors.push(Error::duplicate(&item.child("name"), name));
        }
        let target = tree::text(container, "targetContainerName");
        if !target.is_empty() && !others.contains(&target) {
            errors.push(Error::not_found(&item.child("targetContainerName"), target));
        }
        let detail = "cannot be set for an Ephemeral Container";
        for field in NOT_EPHEMERAL {
            if tree::is_set(container.get(*field)) {
                errors.push(Error::forbidden(&item.child(field), detail));
            }
        }
        for (index, mount) in tree::list(container, "volumeMounts").iter().enumerate() {
            let path = item.child("volumeMounts").index(index);
            for field in ["subPath", "subPathExpr"] {
                if !tree::text(mount, field).is_empty() {
                    errors.push(Error::forbidden(&path.child(field), detail));
                }
            }
        }
    }
    errors
}

/// What every container must be (`validateContainerCommon`).
fn common(around: &Surroundings<'_>, container: &Value, path: &Path) -> Vec<Error> {
    let text = |name| tree::text(container, name);
    let mut errors = match text("name") {
        "" => vec![Error::required(&path.child("name"), "")],
        name => checks::dns_label(name, &path.child("name")),
    };
    if text("image").is_empty() {
        errors.push(Error::required(&path.child("image"), ""));
    }
    let known = &["File", "FallbackToLogsOnError"];
    let policy_path = path.child("terminationMessagePolicy");
    errors.extend(checks::one_of(text("terminationMessagePolicy"), known, &policy_path));
    errors.extend(ports(container, &path.child("ports")));
    errors.extend(env::env(container, &path.child("env")));
    errors.extend(env::env_from(container, &path.child("envFrom")));
    errors.extend(mounts::mounts(around, container, &path.child("volumeMounts")));
    errors.extend(mounts::devices(around, container, &path.child("volumeDevices")));
    let known = &["Always", "IfNotPresent", "Never"];
    let pull_path = path.child("imagePullPolicy");
    errors.extend(checks::one_of(text("imagePullPolicy"), known, &pull_path));
    if let Some(amounts) = tree::at(container, "resources") {
        let path = path.child("resources");
        errors.extend(resources::requirements(amounts, &around.claims, &path));
    }
    errors.extend(resize_policy(container, around.spec, &path.child("resizePolicy")));
    errors.extend(security::container(container, around.spec, path));
    errors
}

fn ports(container: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let list = tree::list(container, "ports");
    for (index, port) in list.iter().enumerate() {
        let path = path.index(index);
        let name = tree::text(port, "name");
        if !name.is_empty() {
            let bad = checks::invalid_each(&path.child("name"), name, validate::port_name(name));
            if bad.is_empty() && list[..index].iter().any(|other| tree::text(other, "name") == name) {
                errors.push(Error::duplicate(&path.child("name"), name));
            }
            errors.extend(bad);
        }
        match tree::count(port, "containerPort") {
            0 => errors.push(Error::required(&path.child("containerPort"), "")),
            number => errors.extend(checks::port_number(number, &path.child("containerPort"))),
        }
        let host = tree::count(port, "hostPort");
        if host != 0 {
            errors.extend(checks::port_number(host, &path.child("hostPort")));
        }
        let protocol = tree::text(port, "protocol");
        errors.extend(checks::one_of(protocol, checks::PROTOCOLS, &path.child("protocol")));
    }
    errors
}

/// No two containers may want the same port of the host.
fn host_ports(list: &[Value], path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut seen: Vec<String> = Vec::new();
    for (index, container) in list.iter().enumerate() {
        for (number, port) in tree::list(container, "ports").iter().enumerate() {
            let host = tree::count(port, "hostPort");
            if host == 0 {
                continue;
            }
            let key = format!("{}/{}/{host}", tree::text(port, "protocol"), tree::text(port, "hostIP"));
            if seen.contains(&key) {
                let path = path.index(index).child("ports").index(number).child("hostPort");
                errors.push(Error::duplicate(&path, key));
            } else {
                seen.push(key);
            }
        }
    }
    errors
}

fn resize_policy(container: &Value, spec: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let list = tree::list(container, "resizePolicy");
    for (index, policy) in list.iter().enumerate() {
        let name = tree::text(policy, "resourceName");
        let same = |other: &Value| tree::text(other, "resourceName") == name;
        if list[..index].iter().any(same) {
            errors.push(Error::duplicate(&path.index(index), name));
        }
        errors.extend(checks::one_of(name, &["cpu", "memory"], path));
        let restart = tree::text(policy, "restartPolicy");
        errors.extend(checks::one_of(restart, &["NotRequired", "RestartContainer"], path));
        if tree::text(spec, "restartPolicy") == "Never" && restart != "NotRequired" {
            let detail = "must be 'NotRequired' when pod `restartPolicy` is 'Never'";
            errors.push(Error::invalid(path, restart, detail));
        }
    }
    errors
}

fn restart_policy(container: &Value, path: &Path) -> Vec<Error> {
    let policy = tree::text_opt(container, "restartPolicy");
    let rules = tree::list(container, "restartPolicyRules");
    let policy_path = path.child("restartPolicy");
    let known = &["Always", "Never", "OnFailure"];
    let mut errors = checks::optional_one_of(policy, known, &policy_path);
    if !rules.is_empty() && policy.is_none() {
        errors.push(Error::required(&policy_path, RULES_NEED_POLICY));
    }
    let path = path.child("restartPolicyRules");
    if rules.len() > 20 {
        errors.push(Error::too_many(&path, rules.len(), 20));
    }
    for (index, rule) in rules.iter().enumerate() {
        let path = path.index(index);
        let action = tree::text(rule, "action");
        let known = &["Restart", "RestartAllContainers"];
        errors.extend(checks::optional_one_of(Some(action), known, &path.child("action")));
        let path = path.child("exitCodes");
        let Some(codes) = tree::at(rule, "exitCodes") else {
            errors.push(Error::required(&path, "must be specified"));
            continue;
        };
        let operator = Some(tree::text(codes, "operator"));
        errors.extend(checks::optional_one_of(
            operator,
            &["In", "NotIn"],
            &path.child("operator"),
        ));
        let values = tree::list(codes, "values").len();
        if values > 255 {
            errors.push(Error::too_many(&path.child("values"), values, 255));
        }
    }
    errors
}

/// Pods, unlike templates, refuse images with spaces around them.
pub fn image_without_padding(container: &Value, path: &Path) -> Vec<Error> {
    let image = tree::text(container, "image");
    if image.trim() == image {
        return Vec::new();
    }
    let detail = "must not have leading or trailing whitespace";
    vec![Error::invalid(&path.child("image"), image, detail)]
}
