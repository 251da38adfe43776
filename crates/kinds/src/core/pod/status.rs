//! The status of a pod, and what its changes may be (`ValidatePodStatusUpdate`).

use api::field::{Error, Path};
use api::{Value, meta, validate};
use apiserver::kind::Context;

use crate::{checks, tree};

/// Everything but the status stays; a status without a class keeps the old one.
pub(super) fn prepare(_: &Context<'_>, new: &mut Value, old: &Value) {
    tree::keep(new, old, "spec");
    if let Some(metadata) = meta::metadata_mut(new) {
        metadata.remove("deletionTimestamp");
        for field in ["deletionTimestamp", "ownerReferences"] {
            match meta::metadata(old).and_then(|old| old.get(field)) {
                Some(value) => drop(metadata.insert(field.to_owned(), value.clone())),
                None => drop(metadata.remove(field)),
            }
        }
    }
    let class = tree::text(old, "status.qosClass").to_owned();
    if !class.is_empty() {
        tree::fill(tree::child(new, "status"), "qosClass", class);
    }
}

pub(super) fn validate(new: &Value, old: &Value) -> Vec<Error> {
    let path = Path::new("status");
    let mut errors = conditions(new);
    let nominated = tree::text(new, "status.nominatedNodeName");
    if nominated != tree::text(old, "status.nominatedNodeName") && !nominated.is_empty() {
        errors.extend(checks::dns_subdomain(nominated, &path.child("nominatedNodeName")));
    }
    for (list, policy) in [
        ("containerStatuses", tree::text(old, "spec.restartPolicy")),
        ("initContainerStatuses", tree::text(old, "spec.restartPolicy")),
        ("ephemeralContainerStatuses", "Never"),
    ] {
        errors.extend(transitions(new, old, list, policy, &path));
    }
    errors.extend(addresses(new, "podIPs", &path));
    errors.extend(addresses(new, "hostIPs", &path));
    if let Some(first) = tree::list(new, "status.hostIPs").first()
        && tree::text(first, "ip") != tree::text(new, "status.hostIP")
    {
        let path = path.child("hostIPs").index(0).child("ip");
        errors.push(Error::invalid(
            &path,
            tree::text(first, "ip"),
            "must be equal to `hostIP`",
        ));
    }
    errors
}

fn conditions(pod: &Value) -> Vec<Error> {
    let mut errors = Vec::new();
    // Upstream reports them beneath metadata.
    let path = Path::new("metadata").child("conditions");
    for (index, condition) in tree::list(pod, "status.conditions").iter().enumerate() {
        let name = tree::text(condition, "type");
        if !matches!(name, "PodScheduled" | "Ready" | "Initialized") {
            errors.extend(checks::qualified_name(name, &path.index(index).child("Type")));
        }
    }
    errors
}

/// A container that has ended for good does not run again.
fn transitions(new: &Value, old: &Value, list: &str, policy: &str, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if policy == "Always" {
        return errors;
    }
    let at = format!("status.{list}");
    for (index, before) in tree::list(old, &at).iter().enumerate() {
        let name = tree::text(before, "name");
        let Some(end) = tree::at(before, "state.terminated") else {
            continue;
        };
        let may_restart = tree::count(end, "exitCode") != 0 && policy == "OnFailure";
        if may_restart || restarts_itself(old, list, name) {
            continue;
        }
        let lives = |after: &&Value| tree::text(after, "name") == name && tree::at(after, "state.terminated").is_none();
        if tree::list(new, &at).iter().any(|after| lives(&after)) {
            let path = path.child(list).index(index).child("state");
            errors.push(Error::forbidden(
                &path,
                "may not be transitioned to non-terminated state",
            ));
        }
    }
    errors
}

/// Sidecars and containers with a policy of their own may run again whatever the pod says.
fn restarts_itself(pod: &Value, list: &str, name: &str) -> bool {
    let specs = match list {
        "initContainerStatuses" => "spec.initContainers",
        "containerStatuses" => "spec.containers",
        _ => return false,
    };
    let mut containers = tree::list(pod, specs).iter();
    let container = containers.find(|container| tree::text(container, "name") == name);
    container.is_some_and(|container| {
        tree::text_opt(container, "restartPolicy").is_some() || !tree::list(container, "restartPolicyRules").is_empty()
    })
}

fn addresses(pod: &Value, list: &str, path: &Path) -> Vec<Error> {
    let path = path.child(list);
    let items = tree::list(pod, &format!("status.{list}"));
    let ips: Vec<&str> = items.iter().map(|item| tree::text(item, "ip")).collect();
    let mut errors = Vec::new();
    for (index, ip) in ips.iter().enumerate() {
        errors.extend(validate::ip_for_legacy_field(&path.index(index), ip));
        if ips[..index].contains(ip) {
            errors.push(Error::duplicate(&path.index(index), items[index].clone()));
        }
    }
    if ips.len() > 1 && (ips.len() > 2 || !checks::is_dual_stack(&ips)) {
        let detail = "may specify no more than one IP for each IP family";
        errors.push(Error::invalid(&path, items.to_vec(), detail));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ended_containers_stay_ended() {
        let pod = |policy: &str, state: Value| json!({"spec": {"restartPolicy": policy, "containers": [{"name": "c"}]}, "status": {"containerStatuses": [{"name": "c", "state": state}]}});
        let cases = [
            ("Never", 1, 1),
            ("Never", 0, 1),
            ("OnFailure", 0, 1),
            ("OnFailure", 1, 0),
            ("Always", 0, 0),
        ];
        for (policy, code, want) in cases {
            let old = pod(policy, json!({"terminated": {"exitCode": code}}));
            let new = pod(policy, json!({"running": {}}));
            assert_eq!(validate(&new, &old).len(), want, "{policy} {code}");
        }
    }

    #[test]
    fn addresses_and_conditions_are_checked() {
        let new = json!({"status": {"podIPs": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.1"}], "hostIPs": [{"ip": "10.0.0.2"}], "hostIP": "10.0.0.3",
            "conditions": [{"type": "Ready"}, {"type": "a b"}]}});
        let fields: Vec<String> = validate(&new, &json!({}))
            .into_iter()
            .map(|error| error.field)
            .collect();
        assert_eq!(
            fields,
            [
                "metadata.conditions[1].Type",
                "status.podIPs[1]",
                "status.podIPs",
                "status.hostIPs[0].ip"
            ]
        );
    }
}
