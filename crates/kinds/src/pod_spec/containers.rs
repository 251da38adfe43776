//! Containers of a pod: regular, init and ephemeral ones.

use api::field::{Error, Path};
use api::{Value, validate};

use super::{env, probes, resources, security, volumes};
use crate::{checks, tree};

/// Fields that ephemeral containers may not have.
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

/// All three lists of containers.
pub fn containers(spec: &Value, path: &Path) -> Vec<Error> {
    let mut errors = regular(spec, &path.child("containers"));
    errors.extend(init(spec, &path.child("initContainers")));
    errors.extend(ephemeral(spec, &path.child("ephemeralContainers")));
    errors
}

fn names<'v>(spec: &'v Value, lists: &[&str]) -> Vec<&'v str> {
    lists
        .iter()
        .flat_map(|list| tree::list(spec, list))
        .map(|container| tree::text(container, "name"))
        .collect()
}

fn regular(spec: &Value, path: &Path) -> Vec<Error> {
    let list = tree::list(spec, "containers");
    if list.is_empty() {
        return vec![Error::required(path, "")];
    }
    let mut errors = Vec::new();
    for (index, container) in list.iter().enumerate() {
        let item = path.index(index);
        errors.extend(common(spec, container, &item));
        let name = tree::text(container, "name");
        if list[..index].iter().any(|other| tree::text(other, "name") == name) {
            errors.push(Error::duplicate(&item.child("name"), name));
        }
        errors.extend(probes::lifecycle(container, &item));
        errors.extend(probes::probes(container, &item));
        errors.extend(restart_policy(container, &["Always", "Never", "OnFailure"], &item));
    }
    errors.extend(host_ports(list, path));
    errors
}

fn init(spec: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let list = tree::list(spec, "initContainers");
    let regular = names(spec, &["containers"]);
    for (index, container) in list.iter().enumerate() {
        let item = path.index(index);
        errors.extend(common(spec, container, &item));
        errors.extend(restart_policy(container, &["Always", "Never", "OnFailure"], &item));
        let name = tree::text(container, "name");
        let taken = regular.contains(&name) || list[..index].iter().any(|other| tree::text(other, "name") == name);
        if taken && !name.is_empty() {
            errors.push(Error::duplicate(&item.child("name"), name));
        }
        errors.extend(host_ports(std::slice::from_ref(container), path));
        if tree::text(container, "restartPolicy") == "Always" {
            errors.extend(probes::lifecycle(container, &item));
            errors.extend(probes::probes(container, &item));
            continue;
        }
        for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            if tree::at(container, field).is_some() {
                errors.push(Error::forbidden(&item.child(field), INIT_ONLY_ALWAYS));
            }
        }
        if !tree::list(container, "resizePolicy").is_empty() {
            let policy = container["resizePolicy"].clone();
            errors.push(Error::invalid(
                &item.child("resizePolicy"),
                policy,
                "must not be set for init containers",
            ));
        }
    }
    errors
}

fn ephemeral(spec: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let others = names(spec, &["containers", "initContainers"]);
    let list = tree::list(spec, "ephemeralContainers");
    for (index, container) in list.iter().enumerate() {
        let item = path.index(index);
        errors.extend(common(spec, container, &item));
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
        for field in NOT_EPHEMERAL
            .iter()
            .filter(|field| tree::is_set(container.get(**field)))
        {
            errors.push(Error::forbidden(&item.child(field), detail));
        }
        for (index, mount) in tree::list(container, "volumeMounts").iter().enumerate() {
            for field in ["subPath", "subPathExpr"]
                .iter()
                .filter(|field| !tree::text(mount, field).is_empty())
            {
                errors.push(Error::forbidden(
                    &item.child("volumeMounts").index(index).child(field),
                    detail,
                ));
            }
        }
    }
    errors
}

/// What every container must be (`validateContainerCommon`).
fn common(spec: &Value, container: &Value, path: &Path) -> Vec<Error> {
    let text = |name| tree::text(container, name);
    let mut errors = match text("name") {
        "" => vec![Error::required(&path.child("name"), "")],
        name => checks::dns_label(name, &path.child("name")),
    };
    if text("image").is_empty() {
        errors.push(Error::required(&path.child("image"), ""));
    }
    let known = &["File", "FallbackToLogsOnError"];
    errors.extend(checks::one_of(
        text("terminationMessagePolicy"),
        known,
        &path.child("terminationMessagePolicy"),
    ));
    errors.extend(ports(container, &path.child("ports")));
    errors.extend(env::env(container, &path.child("env")));
    errors.extend(env::env_from(container, &path.child("envFrom")));
    errors.extend(volumes::mounts(spec, container, &path.child("volumeMounts")));
    errors.extend(volumes::devices(spec, container, &path.child("volumeDevices")));
    let known = &["Always", "IfNotPresent", "Never"];
    errors.extend(checks::one_of(
        text("imagePullPolicy"),
        known,
        &path.child("imagePullPolicy"),
    ));
    if let Some(amounts) = tree::at(container, "resources") {
        let claims: Vec<&str> = tree::list(spec, "resourceClaims")
            .iter()
            .map(|claim| tree::text(claim, "name"))
            .collect();
        errors.extend(resources::requirements(amounts, &claims, &path.child("resources")));
    }
    errors.extend(resize_policy(container, &path.child("resizePolicy")));
    errors.extend(security::container(container, path));
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
        errors.extend(checks::one_of(
            tree::text(port, "protocol"),
            checks::PROTOCOLS,
            &path.child("protocol"),
        ));
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

fn resize_policy(container: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let list = tree::list(container, "resizePolicy");
    for (index, policy) in list.iter().enumerate() {
        let name = tree::text(policy, "resourceName");
        if list[..index]
            .iter()
            .any(|other| tree::text(other, "resourceName") == name)
        {
            errors.push(Error::duplicate(&path.index(index), name));
        }
        errors.extend(checks::one_of(name, &["cpu", "memory"], path));
        let known = &["NotRequired", "RestartContainer"];
        errors.extend(checks::one_of(tree::text(policy, "restartPolicy"), known, path));
    }
    errors
}

fn restart_policy(container: &Value, known: &[&str], path: &Path) -> Vec<Error> {
    let policy = tree::text_opt(container, "restartPolicy");
    let mut errors = checks::optional_one_of(policy, known, &path.child("restartPolicy"));
    let rules = tree::list(container, "restartPolicyRules");
    let path = path.child("restartPolicyRules");
    if !rules.is_empty() && policy.is_none() {
        errors.push(Error::required(
            &path,
            "must specify restartPolicy when restart rules are used",
        ));
    }
    if rules.len() > 20 {
        errors.push(Error::too_many(&path, rules.len(), 20));
    }
    for (index, rule) in rules.iter().enumerate() {
        let path = path.index(index);
        let action = tree::text(rule, "action");
        errors.extend(checks::one_of(
            action,
            &["Restart", "RestartAllContainers"],
            &path.child("action"),
        ));
        match tree::at(rule, "exitCodes") {
            None => errors.push(Error::required(&path.child("exitCodes"), "must be specified")),
            Some(codes) => {
                let operator = tree::text(codes, "operator");
                let path = path.child("exitCodes").child("operator");
                errors.extend(checks::one_of(operator, &["In", "NotIn"], &path));
            }
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
    vec![Error::invalid(
        &path.child("image"),
        image,
        "must not have leading or trailing whitespace",
    )]
}
