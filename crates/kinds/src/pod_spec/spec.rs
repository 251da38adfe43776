//! Validation of a whole pod spec and of pod templates (`ValidatePodSpec`).

use api::field::{Error, Path};
use api::{Value, meta, validate};

use super::{containers, resources, scheduling, security, volumes};
use crate::{checks, tree};

/// What the spec belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Holder<'a> {
    /// A pod of this name.
    Pod(&'a str),
    /// A template of a workload.
    Template,
}

/// Every error of a pod spec.
pub fn spec(spec: &Value, holder: Holder<'_>, path: &Path) -> Vec<Error> {
    let name = match holder {
        Holder::Pod(name) => name,
        Holder::Template => "",
    };
    let mut errors = volumes::volumes(spec, name, &path.child("volumes"));
    errors.extend(resource_claims(spec, name, &path.child("resourceClaims")));
    errors.extend(containers::containers(spec, path));
    errors.extend(resources::pod_level(spec, path));
    errors.extend(host_network(spec, holder, path));
    let known = &["Always", "OnFailure", "Never"];
    errors.extend(checks::one_of(
        tree::text(spec, "restartPolicy"),
        known,
        &path.child("restartPolicy"),
    ));
    let known = &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    errors.extend(checks::one_of(
        tree::text(spec, "dnsPolicy"),
        known,
        &path.child("dnsPolicy"),
    ));
    errors.extend(validate::labels(
        tree::at(spec, "nodeSelector"),
        &path.child("nodeSelector"),
    ));
    errors.extend(security::pod(spec, path));
    errors.extend(scheduling::affinity(spec, path));
    errors.extend(dns_config(spec, &path.child("dnsConfig")));
    errors.extend(gates(spec, path));
    errors.extend(scheduling::spread_constraints(spec, path));
    errors.extend(security::host_users(spec, path));
    errors.extend(names(spec, path));
    if let Some(seconds) = tree::int(spec, "activeDeadlineSeconds") {
        let messages = validate::in_range(seconds, 1, i64::from(i32::MAX));
        let path = path.child("activeDeadlineSeconds");
        errors.extend(messages.into_iter().map(|text| Error::invalid(&path, seconds, text)));
    }
    let grace = tree::count(spec, "terminationGracePeriodSeconds");
    if grace < 0 {
        let detail = "must be greater than or equal to 0";
        errors.push(Error::invalid(
            &path.child("terminationGracePeriodSeconds"),
            grace,
            detail,
        ));
    }
    errors.extend(scheduling::tolerations(
        tree::list(spec, "tolerations"),
        &path.child("tolerations"),
    ));
    errors.extend(host_aliases(spec, &path.child("hostAliases")));
    let policy = tree::text_opt(spec, "preemptionPolicy");
    let known = &["PreemptLowerPriority", "Never"];
    errors.extend(checks::optional_one_of(policy, known, &path.child("preemptionPolicy")));
    if let Some(overhead) = tree::at(spec, "overhead") {
        let amounts = serde_json::json!({"limits": overhead});
        errors.extend(resources::requirements(&amounts, &[], &path.child("overhead")));
    }
    errors.extend(security::operating_system(spec, path));
    errors
}

fn names(spec: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for field in [
        "serviceAccountName",
        "nodeName",
        "priorityClassName",
        "runtimeClassName",
    ] {
        let name = tree::text(spec, field);
        if !name.is_empty() {
            errors.extend(checks::dns_subdomain(name, &path.child(field)));
        }
    }
    for field in ["hostname", "subdomain"] {
        let name = tree::text(spec, field);
        if !name.is_empty() {
            errors.extend(checks::dns_label(name, &path.child(field)));
        }
    }
    if let Some(name) = tree::text_opt(spec, "hostnameOverride") {
        let path = path.child("hostnameOverride");
        if name.len() > 64 {
            errors.push(Error::too_long_characters(&path, 64));
        }
        errors.extend(checks::dns_subdomain(name, &path));
        if tree::flag(spec, "hostNetwork") {
            errors.push(Error::forbidden(&path, "may not be set when hostNetwork is enabled"));
        }
    }
    errors
}

fn resource_claims(spec: &Value, pod_name: &str, path: &Path) -> Vec<Error> {
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
        let (direct, template) = (
            tree::text_opt(claim, "resourceClaimName"),
            tree::text_opt(claim, "resourceClaimTemplateName"),
        );
        match (direct, template) {
            (Some(_), Some(_)) => {
                let detail = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified";
                errors.push(Error::invalid(&path, claim.clone(), detail));
            }
            (None, None) => {
                let detail = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
                errors.push(Error::invalid(&path, claim.clone(), detail));
            }
            (Some(target), None) => {
                errors.extend(checks::dns_subdomain(target, &path.child("resourceClaimName")));
            }
            (None, Some(target)) => {
                errors.extend(checks::dns_subdomain(target, &path.child("resourceClaimTemplateName")));
                let made = format!("{pod_name}-{name}");
                if !pod_name.is_empty() && !validate::dns1123_subdomain(&made).is_empty() {
                    let detail = "final ResourceClaim name: must be a DNS subdomain";
                    errors.push(Error::invalid(&path.child("name"), made, detail));
                }
            }
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
        for (number, port) in tree::list(container, "ports").iter().enumerate() {
            let (host, inner) = (tree::count(port, "hostPort"), tree::count(port, "containerPort"));
            if (holder != Holder::Template || host != 0) && host != inner {
                let path = path
                    .child("containers")
                    .index(index)
                    .child("ports")
                    .index(number)
                    .child("hostPort");
                let detail = "must match `containerPort` when `hostNetwork` is true";
                errors.push(Error::invalid(&path, host, detail));
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
            return vec![Error::required(
                path,
                "must provide `dnsConfig` when `dnsPolicy` is None",
            )];
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
        errors.push(Error::invalid(
            &servers_path,
            servers.clone(),
            "must not have more than 3 nameservers",
        ));
    }
    for (index, server) in servers.iter().enumerate() {
        errors.extend(validate::ip_for_legacy_field(&servers_path.index(index), server));
    }
    let searches = tree::strings(config, "searches");
    let searches_path = path.child("searches");
    if searches.len() > 32 {
        errors.push(Error::invalid(
            &searches_path,
            searches.clone(),
            "must not have more than 32 search paths",
        ));
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
            errors.push(Error::required(
                &path.child("options").index(index),
                "must not be empty",
            ));
        }
    }
    errors
}

fn host_aliases(spec: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (index, alias) in tree::list(spec, "hostAliases").iter().enumerate() {
        let path = path.index(index);
        errors.extend(validate::ip_for_legacy_field(
            &path.child("ip"),
            tree::text(alias, "ip"),
        ));
        for (index, name) in tree::strings(alias, "hostnames").into_iter().enumerate() {
            errors.extend(checks::dns_subdomain(name, &path.child("hostnames").index(index)));
        }
    }
    errors
}

/// Annotations that mean something to pods (`ValidatePodSpecificAnnotations`).
pub fn annotations(object: &Value, spec: &Value, path: &Path) -> Vec<Error> {
    const MIRROR: &str = "kubernetes.io/config.mirror";
    const COST: &str = "controller.kubernetes.io/pod-deletion-cost";
    let mut errors = Vec::new();
    if let Some(value) = meta::annotation(object, MIRROR)
        && tree::text(spec, "nodeName").is_empty()
    {
        let detail = "must set spec.nodeName if mirror pod annotation is set";
        errors.push(Error::invalid(&path.key(MIRROR), value, detail));
    }
    if let Some(value) = meta::annotation(object, COST)
        && !is_plain_i32(value)
    {
        errors.push(Error::invalid(&path.key(COST), value, "must be a 32bit integer"));
    }
    errors
}

/// A number without sign `+` or leading zeros.
fn is_plain_i32(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    text.parse::<i32>().is_ok() && !text.starts_with('+') && (digits == "0" || !digits.starts_with('0'))
}

/// A pod template (`ValidatePodTemplateSpec`).
pub fn template(template: &Value, path: &Path) -> Vec<Error> {
    let spec_value = tree::at(template, "spec").unwrap_or(&Value::Null);
    let mut errors = validate::labels(tree::at(template, "metadata.labels"), &path.child("labels"));
    let annotations_path = path.child("annotations");
    errors.extend(validate::annotations(
        tree::at(template, "metadata.annotations"),
        &annotations_path,
    ));
    errors.extend(annotations(template, spec_value, &annotations_path));
    errors.extend(spec(spec_value, Holder::Template, &path.child("spec")));
    if !tree::list(template, "spec.ephemeralContainers").is_empty() {
        let path = path.child("spec").child("ephemeralContainers");
        errors.push(Error::forbidden(
            &path,
            "ephemeral containers not allowed in pod template",
        ));
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
    let labels = tree::at(value, "metadata.labels");
    if !selector.is_everything() && !selector.matches(&labels.cloned()) {
        let path = path.child("metadata").child("labels");
        let detail = "`selector` does not match template `labels`";
        errors.push(Error::invalid(&path, labels.cloned().unwrap_or_default(), detail));
    }
    errors.extend(template(value, path));
    let path = path.child("spec");
    let policy = tree::text(value, "spec.restartPolicy");
    if policy != "Always" {
        errors.push(Error::not_supported(&path.child("restartPolicy"), policy, &["Always"]));
    }
    if tree::at(value, "spec.activeDeadlineSeconds").is_some() {
        let detail = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.push(Error::forbidden(&path.child("activeDeadlineSeconds"), detail));
    }
    errors
}
