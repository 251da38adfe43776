//! Validation of a whole pod spec and of pod templates (`ValidatePodSpec`).

use api::field::{Error, Path};
use api::{Value, validate};

use super::annotations;
use super::containers::{self, Surroundings};
use super::{resources, scheduling, security, volumes, windows};
use crate::{checks, tree};

/// What the spec belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Holder<'a> {
    /// A pod of this name.
    Pod(&'a str),
    /// A template of a workload.
    Template,
}

/// Every error of a pod spec, in upstream's order.
pub fn spec(spec: &Value, holder: Holder<'_>, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if tree::at(spec, "terminationGracePeriodSeconds").is_none() {
        errors.push(Error::required(&path.child("terminationGracePeriodSeconds"), ""));
    }
    let (usable, bad) = volumes::volumes(spec, holder, &path.child("volumes"));
    errors.extend(bad);
    errors.extend(resource_claims(spec, &path.child("resourceClaims")));
    let around = Surroundings::new(spec, usable);
    errors.extend(containers::containers(&around, path));
    errors.extend(resources::pod_level(spec, path));
    errors.extend(host_network(spec, holder, path));
    let known = &["Always", "OnFailure", "Never"];
    let policy = tree::text(spec, "restartPolicy");
    errors.extend(checks::one_of(policy, known, &path.child("restartPolicy")));
    let known = &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    let policy = tree::text(spec, "dnsPolicy");
    errors.extend(checks::one_of(policy, known, &path.child("dnsPolicy")));
    let selector = tree::at(spec, "nodeSelector");
    errors.extend(validate::labels(selector, &path.child("nodeSelector")));
    errors.extend(security::pod(spec, path));
    errors.extend(scheduling::affinity(spec, path));
    errors.extend(dns_config(spec, &path.child("dnsConfig")));
    errors.extend(gates(spec, path));
    errors.extend(scheduling::spread_constraints(spec, path));
    errors.extend(windows::host_process(spec, path));
    errors.extend(security::host_users(spec, path));
    errors.extend(hostname_override(spec, &path.child("hostnameOverride")));
    errors.extend(rest(spec, path));
    errors.extend(security::operating_system(spec, path));
    errors.extend(env_file_volumes(spec, path));
    errors
}

/// The plain fields after the structured ones.
fn rest(spec: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let name = |field: &str, check: fn(&str, &Path) -> Vec<Error>| match tree::text(spec, field) {
        "" => Vec::new(),
        value => check(value, &path.child(field)),
    };
    errors.extend(name("serviceAccountName", checks::dns_subdomain));
    errors.extend(name("nodeName", checks::dns_subdomain));
    if let Some(seconds) = tree::int(spec, "activeDeadlineSeconds") {
        let messages = validate::in_range(seconds, 1, i64::from(i32::MAX));
        let path = path.child("activeDeadlineSeconds");
        errors.extend(messages.into_iter().map(|text| Error::invalid(&path, seconds, text)));
    }
    errors.extend(name("hostname", checks::dns_label));
    errors.extend(name("subdomain", checks::dns_label));
    let tolerations = tree::list(spec, "tolerations");
    errors.extend(scheduling::tolerations(tolerations, &path.child("tolerations")));
    errors.extend(host_aliases(spec, &path.child("hostAliases")));
    errors.extend(name("priorityClassName", checks::dns_subdomain));
    if let Some(class) = tree::text_opt(spec, "runtimeClassName") {
        errors.extend(checks::dns_subdomain(class, &path.child("runtimeClassName")));
    }
    if let Some(policy) = tree::text_opt(spec, "preemptionPolicy") {
        let known = &["PreemptLowerPriority", "Never"];
        errors.extend(checks::one_of(policy, known, &path.child("preemptionPolicy")));
    }
    if let Some(overhead) = tree::at(spec, "overhead") {
        let amounts = serde_json::json!({"limits": overhead});
        errors.extend(resources::requirements(&amounts, &[], &path.child("overhead")));
    }
    errors
}

fn hostname_override(spec: &Value, path: &Path) -> Vec<Error> {
    let Some(name) = tree::text_opt(spec, "hostnameOverride") else {
        return Vec::new();
    };
    let mut errors = Vec::new();
    for (field, detail) in [
        (
            "setHostnameAsFQDN",
            "may not be specified when setHostnameAsFQDN is true",
        ),
        ("hostNetwork", "may not be specified when hostNetwork is true"),
    ] {
        if tree::flag(spec, field) {
            errors.push(Error::forbidden(path, detail));
        }
    }
    if name.len() > 64 {
        errors.push(Error::too_long(path, 64));
    }
    errors.extend(checks::dns_subdomain(name, path));
    errors
}

fn resource_claims(spec: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let claims = tree::list(spec, "resourceClaims");
    for (index, claim) in claims.iter().enumerate() {
        let path = path.index(index);
        let name = tree::text(claim, "name");
        if name.is_empty() {
            errors.push(Error::required(&path.child("name"), ""));
        } else if claims[..index].iter().any(|other| tree::text(other, "name") == name) {
            errors.push(Error::duplicate(&path.child("name"), name));
        } else {
            errors.extend(checks::dns_label(name, &path.child("name")));
        }
        let fields = ["resourceClaimName", "resourceClaimTemplateName"];
        let set: Vec<&str> = fields
            .into_iter()
            .filter(|field| tree::at(claim, field).is_some())
            .collect();
        let detail = match set.len() {
            2 => Some("at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"),
            0 => Some("must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"),
            _ => None,
        };
        if let Some(detail) = detail {
            let shown = checks::go_struct(
                claim,
                &[
                    "Name=name",
                    "ResourceClaimName?resourceClaimName",
                    "ResourceClaimTemplateName?resourceClaimTemplateName",
                ],
            );
            errors.push(Error::invalid(&path, claim.clone(), detail).showing(shown));
        }
        for field in set {
            errors.extend(checks::dns_subdomain(tree::text(claim, field), &path.child(field)));
        }
    }
    errors
}

/// With the host's network a container's port is the host's.
fn host_network(spec: &Value, holder: Holder<'_>, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if !tree::flag(spec, "hostNetwork") {
        return errors;
    }
    for (index, container) in tree::list(spec, "containers").iter().enumerate() {
        let ports = path.child("containers").index(index).child("ports");
        for (number, port) in tree::list(container, "ports").iter().enumerate() {
            let (host, inner) = (tree::count(port, "hostPort"), tree::count(port, "containerPort"));
            if (holder != Holder::Template || host != 0) && host != inner {
                let detail = "must match `containerPort` when `hostNetwork` is true";
                errors.push(Error::invalid(&ports.index(number).child("hostPort"), host, detail));
            }
        }
    }
    errors
}

fn gates(spec: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (index, gate) in tree::list(spec, "readinessGates").iter().enumerate() {
        let path = path.child("readinessGates").index(index).child("conditionType");
        errors.extend(checks::qualified_name(tree::text(gate, "conditionType"), &path));
    }
    let gates = tree::list(spec, "schedulingGates");
    for (index, gate) in gates.iter().enumerate() {
        let path = path.child("schedulingGates").index(index);
        let name = tree::text(gate, "name");
        errors.extend(checks::qualified_name(name, &path));
        if gates[..index].iter().any(|other| tree::text(other, "name") == name) {
            errors.push(Error::duplicate(&path, name));
        }
    }
    errors
}

fn dns_config(spec: &Value, path: &Path) -> Vec<Error> {
    let config = tree::at(spec, "dnsConfig");
    let servers = config.map_or(Vec::new(), |config| tree::strings(config, "nameservers"));
    if tree::text(spec, "dnsPolicy") == "None" {
        if config.is_none() {
            let detail = "must provide `dnsConfig` when `dnsPolicy` is None";
            return vec![Error::required(path, detail)];
        }
        if servers.is_empty() {
            let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            return vec![Error::required(&path.child("nameservers"), detail)];
        }
    }
    let Some(config) = config else { return Vec::new() };
    let mut errors = Vec::new();
    let servers_path = path.child("nameservers");
    if servers.len() > 3 {
        let detail = "must not have more than 3 nameservers";
        errors.push(Error::invalid(&servers_path, servers.clone(), detail));
    }
    for (index, server) in servers.iter().enumerate() {
        errors.extend(validate::ip_for_legacy_field(&servers_path.index(index), server));
    }
    let searches = tree::strings(config, "searches");
    let searches_path = path.child("searches");
    if searches.len() > 32 {
        let detail = "must not have more than 32 search paths";
        errors.push(Error::invalid(&searches_path, searches.clone(), detail));
    }
    if searches.join(" ").len() > 2048 {
        let detail = "must not have more than 2048 characters (including spaces) in the search list";
        errors.push(Error::invalid(&searches_path, searches.clone(), detail));
    }
    for (index, search) in searches.iter().enumerate() {
        if *search == "." {
            continue;
        }
        let search = search.strip_suffix('.').unwrap_or(search);
        let messages = validate::dns1123_subdomain_with_underscore(search);
        errors.extend(checks::invalid_each(&searches_path.index(index), search, messages));
    }
    for (index, option) in tree::list(config, "options").iter().enumerate() {
        if tree::text(option, "name").is_empty() {
            let path = path.child("options").index(index);
            errors.push(Error::required(&path, "must not be empty"));
        }
    }
    errors
}

fn host_aliases(spec: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (index, alias) in tree::list(spec, "hostAliases").iter().enumerate() {
        let path = path.index(index);
        let ip = tree::text(alias, "ip");
        errors.extend(validate::ip_for_legacy_field(&path.child("ip"), ip));
        for (index, name) in tree::strings(alias, "hostnames").into_iter().enumerate() {
            errors.extend(checks::dns_subdomain(name, &path.child("hostnames").index(index)));
        }
    }
    errors
}

/// Variables out of files come from `emptyDir` volumes only.
fn env_file_volumes(spec: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (container, path) in containers::visit(spec, path) {
        for (index, variable) in tree::list(container, "env").iter().enumerate() {
            let Some(reference) = tree::at(variable, "valueFrom.fileKeyRef") else {
                continue;
            };
            let path = path.child("env").index(index).child("valueFrom").child("fileKeyRef");
            let (name, path) = (tree::text(reference, "volumeName"), path.child("volumeName"));
            let mut volumes = tree::list(spec, "volumes").iter();
            match volumes.find(|volume| tree::text(volume, "name") == name) {
                None => errors.push(Error::not_found(&path, name)),
                Some(volume) if tree::at(volume, "emptyDir").is_none() => {
                    let detail = "referenced volume must be of type emptyDir";
                    errors.push(Error::invalid(&path, name, detail));
                }
                Some(_) => {}
            }
        }
    }
    errors
}

/// A pod template (`ValidatePodTemplateSpec`).
pub fn template(template: &Value, path: &Path) -> Vec<Error> {
    let spec_value = tree::at(template, "spec").unwrap_or(&Value::Null);
    let mut errors = template_metadata(template, path);
    let spec_path = path.child("spec");
    errors.extend(spec(spec_value, Holder::Template, &spec_path));
    errors.extend(annotations::seccomp_matches(template, spec_value, &spec_path));
    errors.extend(annotations::app_armor_matches(template, spec_value, &spec_path));
    if !tree::list(template, "spec.ephemeralContainers").is_empty() {
        let path = spec_path.child("ephemeralContainers");
        let detail = "ephemeral containers not allowed in pod template";
        errors.push(Error::forbidden(&path, detail));
    }
    errors
}

/// The template of a workload whose pods run until they are deleted; its labels must be what the
/// workload selects (`ValidatePodTemplateSpecForReplicaSet`).
pub fn workload_template(object: &Value, selector: &api::labels::Selector, kind: &str, path: &Path) -> Vec<Error> {
    let Some(value) = tree::at(object, "spec.template") else {
        return vec![Error::required(path, "")];
    };
    let mut errors = Vec::new();
    if !selector.is_everything() {
        errors.extend(template_is_selected(value, selector, path));
    }
    errors.extend(template(value, path));
    errors.extend(template_runs_on(value, kind, path));
    errors
}

/// The labels of a template are what its workload selects.
pub fn template_is_selected(template: &Value, selector: &api::labels::Selector, path: &Path) -> Option<Error> {
    let labels = tree::at(template, "metadata.labels");
    (!selector.matches(&labels.cloned())).then(|| {
        let path = path.child("metadata").child("labels");
        let detail = "`selector` does not match template `labels`";
        Error::invalid(&path, labels.cloned().unwrap_or_default(), detail)
    })
}

/// A template's pods run until they are deleted.
pub fn template_runs_on(template: &Value, kind: &str, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let path = path.child("spec");
    let policy = tree::text(template, "spec.restartPolicy");
    if policy != "Always" {
        errors.push(Error::not_supported(&path.child("restartPolicy"), policy, &["Always"]));
    }
    if tree::at(template, "spec.activeDeadlineSeconds").is_some() {
        let detail = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.push(Error::forbidden(&path.child("activeDeadlineSeconds"), detail));
    }
    errors
}

/// What [`template`] checks of a template's metadata.
pub fn template_metadata(template: &Value, path: &Path) -> Vec<Error> {
    let mut errors = validate::labels(tree::at(template, "metadata.labels"), &path.child("labels"));
    let path = path.child("annotations");
    errors.extend(validate::annotations(tree::at(template, "metadata.annotations"), &path));
    let spec = tree::at(template, "spec").unwrap_or(&Value::Null);
    errors.extend(annotations::known(template, spec, &path));
    errors
}
