//! The status of a pod, and what its changes may be (`ValidatePodStatusUpdate`).

use api::field::{Error, Path};
use api::{Value, meta, validate};
use apiserver::kind::Context;

use crate::pod_spec::annotations;
use crate::{checks, tree};

const NOT_NEGATIVE: &str = "must be a non-negative integer";

/// Everything but the status stays; what clients leave out of it is kept where they may not clear
/// it.
pub(super) fn prepare(_: &Context<'_>, new: &mut Value, old: &Value) {
    tree::keep(new, old, "spec");
    if let Some(metadata) = meta::metadata_mut(new) {
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
    sync_addresses(tree::child(new, "status"));
    keep_observed_generations(new, old);
}

/// `podIP` is the first of `podIPs`; of clients that know one of them only, that one counts.
fn sync_addresses(status: &mut Value) {
    let single = tree::text(status, "podIP").to_owned();
    let first = tree::list(status, "podIPs").first();
    let first = first.map(|item| tree::text(item, "ip").to_owned());
    match first {
        Some(first) if single.is_empty() => tree::set(status, "podIP", first),
        Some(first) if first == single => {}
        None if single.is_empty() => {}
        _ => tree::set(status, "podIPs", serde_json::json!([{"ip": single}])),
    }
}

/// Clients that do not know `observedGeneration` do not clear it.
fn keep_observed_generations(new: &mut Value, old: &Value) {
    let before = tree::count(old, "status.observedGeneration");
    if before != 0 {
        tree::fill_zero(tree::child(new, "status"), "observedGeneration", before);
    }
    let conditions = tree::list(old, "status.conditions");
    for condition in tree::items_mut(new, "status.conditions") {
        let kind = tree::text(condition, "type").to_owned();
        let mut same = conditions.iter().filter(|other| tree::text(other, "type") == kind);
        let before = same.next().map_or(0, |other| tree::count(other, "observedGeneration"));
        if before != 0 {
            tree::fill_zero(condition, "observedGeneration", before);
        }
    }
}

pub(super) fn validate(new: &Value, old: &Value) -> Vec<Error> {
    let path = Path::new("status");
    let annotations_path = Path::new("metadata").child("annotations");
    let mut errors = annotations::changes(new, old, &annotations_path);
    errors.extend(conditions(new, &path.child("conditions")));
    errors.extend(nomination(new, old, &path.child("nominatedNodeName")));
    let generation = tree::count(new, "status.observedGeneration");
    if generation < 0 {
        let path = path.child("observedGeneration");
        errors.push(Error::invalid(&path, generation, NOT_NEGATIVE));
    }
    let class = |pod| tree::text(pod, "status.qosClass");
    if class(new) != class(old) {
        let path = path.child("qosClass");
        errors.push(Error::invalid(&path, class(new), "field is immutable"));
    }
    for list in [
        "containerStatuses",
        "initContainerStatuses",
        "ephemeralContainerStatuses",
    ] {
        errors.extend(transitions(new, old, list, &path.child(list)));
    }
    errors.extend(claim_statuses(new, &path.child("resourceClaimStatuses")));
    errors.extend(extended_claim(new, &path.child("extendedResourceClaimStatus")));
    errors.extend(addresses(new, old, "podIP", "podIPs", &path.child("podIPs")));
    errors.extend(addresses(new, old, "hostIP", "hostIPs", &path.child("hostIPs")));
    for list in STATUS_LISTS {
        errors.extend(users(new, list, &path.child(list)));
    }
    for list in STATUS_LISTS {
        errors.extend(devices(new, list, &path.child(list)));
    }
    errors
}

const STATUS_LISTS: [&str; 3] = [
    "containerStatuses",
    "initContainerStatuses",
    "ephemeralContainerStatuses",
];

/// The containers that a list of statuses is about.
fn specs_of(list: &str) -> &'static str {
    match list {
        "containerStatuses" => "spec.containers",
        "initContainerStatuses" => "spec.initContainers",
        _ => "spec.ephemeralContainers",
    }
}

fn conditions(pod: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (index, condition) in tree::list(pod, "status.conditions").iter().enumerate() {
        let path = path.index(index);
        let generation = tree::count(condition, "observedGeneration");
        if generation < 0 {
            let path = path.child("observedGeneration");
            errors.push(Error::invalid(&path, generation, NOT_NEGATIVE));
        }
        let name = tree::text(condition, "type");
        if !matches!(name, "PodScheduled" | "Ready" | "Initialized") {
            errors.extend(checks::qualified_name(name, &path.child("Type")));
        }
    }
    errors
}

fn nomination(new: &Value, old: &Value, path: &Path) -> Vec<Error> {
    let nominated = tree::text(new, "status.nominatedNodeName");
    if nominated.is_empty() || nominated == tree::text(old, "status.nominatedNodeName") {
        return Vec::new();
    }
    let mut errors = checks::dns_subdomain(nominated, path);
    if !tree::text(old, "spec.nodeName").is_empty() {
        let detail = "may not be set on pods that are already bound to a node";
        errors.push(Error::forbidden(path, detail));
    }
    errors
}

/// A container that has ended for good does not run again.
fn transitions(new: &Value, old: &Value, list: &str, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let is_ephemeral = list == "ephemeralContainerStatuses";
    if !is_ephemeral && all_restart(old) {
        return errors;
    }
    let at = format!("status.{list}");
    for (index, before) in tree::list(old, &at).iter().enumerate() {
        let name = tree::text(before, "name");
        let Some(end) = tree::at(before, "state.terminated") else {
            continue;
        };
        let mut after = tree::list(new, &at).iter();
        let lives =
            after.any(|after| tree::text(after, "name") == name && tree::at(after, "state.terminated").is_none());
        let allowed = !is_ephemeral && may_restart(old, specs_of(list), name, tree::count(end, "exitCode"));
        if lives && !allowed {
            let detail = "may not be transitioned to non-terminated state";
            errors.push(Error::forbidden(&path.index(index).child("state"), detail));
        }
    }
    errors
}

/// Whether a container may, by its rules, restart all of them.
fn all_restart(pod: &Value) -> bool {
    ["spec.containers", "spec.initContainers"]
        .iter()
        .flat_map(|list| tree::list(pod, list))
        .flat_map(|container| tree::list(container, "restartPolicyRules"))
        .any(|rule| tree::text(rule, "action") == "RestartAllContainers")
}

/// What the rules, else the policies of container and pod say about an exit
/// (`ContainerShouldRestart`).
fn may_restart(pod: &Value, list: &str, name: &str, code: i64) -> bool {
    let mut containers = tree::list(pod, list).iter();
    let Some(container) = containers.find(|container| tree::text(container, "name") == name) else {
        return false;
    };
    let matches = |rule: &Value| {
        let listed = tree::list(rule, "exitCodes.values").contains(&Value::from(code));
        match tree::text(rule, "exitCodes.operator") {
            "In" => listed,
            "NotIn" => !listed,
            _ => false,
        }
    };
    let own = tree::text_opt(container, "restartPolicy");
    if own.is_some() && tree::list(container, "restartPolicyRules").iter().any(matches) {
        return true;
    }
    match own.unwrap_or_else(|| tree::text(pod, "spec.restartPolicy")) {
        "Always" => true,
        "OnFailure" => code != 0,
        _ => false,
    }
}

fn claim_statuses(pod: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let claims = tree::list(pod, "spec.resourceClaims");
    let statuses = tree::list(pod, "status.resourceClaimStatuses");
    for (index, status) in statuses.iter().enumerate() {
        let path = path.index(index);
        let name = tree::text(status, "name");
        let named = |other: &Value| tree::text(other, "name") == name;
        if !claims.iter().any(named) {
            let detail = "must match the name of an entry in `spec.resourceClaims`";
            errors.push(Error::invalid(&path.child("name"), name, detail));
        }
        if statuses[..index].iter().any(named) {
            errors.push(Error::duplicate(&path.child("name"), name));
        }
        if let Some(claim) = tree::text_opt(status, "resourceClaimName") {
            errors.extend(checks::dns_subdomain(claim, &path.child("resourceClaimName")));
        }
    }
    errors
}

fn extended_claim(pod: &Value, path: &Path) -> Vec<Error> {
    let Some(status) = tree::at(pod, "status.extendedResourceClaimStatus") else {
        return Vec::new();
    };
    let mut errors = Vec::new();
    let mappings = tree::list(status, "requestMappings");
    let mappings_path = path.child("requestMappings");
    if mappings.is_empty() {
        let detail = "at least one request mapping is required";
        errors.push(Error::required(&mappings_path, detail));
    }
    let containers = || {
        let lists = ["spec.initContainers", "spec.containers"].into_iter();
        lists.flat_map(|list| tree::list(pod, list))
    };
    const FIELDS: [&str; 3] = ["containerName", "resourceName", "requestName"];
    for (index, mapping) in mappings.iter().enumerate() {
        let item = mappings_path.index(index);
        let text = |field| tree::text(mapping, field);
        match containers().find(|container| tree::text(container, "name") == text("containerName")) {
            None => {
                let detail = "must match the name of an entry in spec.initContainers.name or spec.containers.name";
                let path = item.child("containerName");
                errors.push(Error::invalid(&path, text("containerName"), detail));
            }
            Some(container) => {
                let requests = tree::map(container, "resources.requests");
                if requests.is_none_or(|requests| !requests.contains_key(text("resourceName"))) {
                    let detail = "must match the extended resource name of an entry in spec.initContainers.resources.requests or spec.containers.resources.requests";
                    let path = item.child("resourceName");
                    errors.push(Error::invalid(&path, text("resourceName"), detail));
                }
            }
        }
        errors.extend(checks::dns_label(text("requestName"), &path.child("requestName")));
        let same = |other: &Value| FIELDS.iter().all(|field| tree::text(other, field) == text(field));
        if mappings[..index].iter().any(same) {
            for field in FIELDS {
                errors.push(Error::duplicate(&item.child(field), text(field)));
            }
        }
    }
    let claim_path = path.child("resourceClaimName");
    match tree::text(status, "resourceClaimName") {
        "" => errors.push(Error::required(&claim_path, "")),
        name => errors.extend(checks::dns_subdomain(name, &claim_path)),
    }
    errors
}

/// Addresses that were there before are not looked at again.
fn addresses(new: &Value, old: &Value, single: &str, list: &str, path: &Path) -> Vec<Error> {
    let ips = |pod| -> Vec<&str> {
        let items = tree::list(pod, &format!("status.{list}")).iter();
        items.map(|item| tree::text(item, "ip")).collect()
    };
    let (after, before) = (ips(new), ips(old));
    let alone = tree::text(new, &format!("status.{single}"));
    let items = tree::list(new, &format!("status.{list}")).to_vec();
    let mut errors = Vec::new();
    let unequal = || {
        let first = after.first().copied().unwrap_or("");
        let path = path.index(0).child("ip");
        Error::invalid(&path, first, format!("must be equal to `{single}`"))
    };
    let is_host = single == "hostIP";
    if is_host && after.is_empty() {
        return errors;
    }
    if is_host && after.first() != Some(&alone) {
        errors.push(unequal());
    }
    for (index, ip) in after.iter().enumerate().filter(|(_, ip)| !before.contains(ip)) {
        errors.extend(validate::ip_for_legacy_field(&path.index(index), ip));
    }
    let go_list = || {
        let items: Vec<String> = items.iter().map(|item| checks::go_struct(item, &["IP=ip"])).collect();
        format!("[{}]", items.join(","))
    };
    for (index, ip) in after
        .iter()
        .enumerate()
        .filter(|(index, ip)| after[..*index].contains(ip))
    {
        errors.push(Error::duplicate(&path.index(index), serde_json::json!({"ip": *ip})));
    }
    if after.len() > 1 && (after.len() > 2 || !checks::is_dual_stack(&after)) {
        let detail = "may specify no more than one IP for each IP family";
        errors.push(Error::invalid(path, items.clone(), detail).showing(go_list()));
    }
    if is_host {
        return errors;
    }
    if after.is_empty() != alone.is_empty() {
        let detail = "podIP and podIPs must either both be set or both be unset";
        errors.push(Error::invalid(path, items.clone(), detail).showing(go_list()));
    } else if after.first().is_some_and(|first| *first != alone) {
        errors.push(unequal());
    }
    errors
}

/// Users of containers: numbers in range, and only of the pod's system.
fn users(pod: &Value, list: &str, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let windows = tree::text(pod, "spec.os.name") == "windows";
    for (index, status) in tree::list(pod, &format!("status.{list}")).iter().enumerate() {
        let Some(user) = tree::at(status, "user.linux") else {
            continue;
        };
        let path = path.index(index).child("user").child("linux");
        if windows {
            errors.push(Error::forbidden(&path, "cannot be set for a windows pod"));
            continue;
        }
        let mut check = |id: i64, path: &Path| {
            let messages = validate::user_or_group_id(id).into_iter();
            errors.extend(messages.map(|text| Error::invalid(path, id, text)));
        };
        for field in ["uid", "gid"] {
            check(tree::count(user, field), &path.child(field));
        }
        for (index, group) in tree::list(user, "supplementalGroups").iter().enumerate() {
            let path = path.child("supplementalGroups").index(index);
            check(group.as_i64().unwrap_or(-1), &path);
        }
    }
    errors
}

/// The health of devices: of resources that the container has, each device once.
fn devices(pod: &Value, list: &str, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (index, status) in tree::list(pod, &format!("status.{list}")).iter().enumerate() {
        let allocated = tree::list(status, "allocatedResourcesStatus");
        let path = path.index(index).child("allocatedResourcesStatus");
        if list == "ephemeralContainerStatuses" {
            if !allocated.is_empty() {
                errors.push(Error::forbidden(&path, "must not be specified in container status"));
            }
            continue;
        }
        let name = tree::text(status, "name");
        let mut containers = tree::list(pod, specs_of(list)).iter();
        let container = containers.find(|container| tree::text(container, "name") == name);
        for (index, resource) in allocated.iter().enumerate() {
            let path = path.index(index);
            let name = tree::text(resource, "name");
            if !container.is_some_and(|container| has_resource(container, name)) {
                let detail = "must match one of the container's resource requirements";
                errors.push(Error::invalid(&path.child("name"), name, detail));
            }
            let devices = tree::list(resource, "resources");
            for (index, device) in devices.iter().enumerate() {
                let path = path.child("resources").index(index);
                let id = tree::text(device, "resourceID");
                let same = |other: &Value| tree::text(other, "resourceID") == id;
                if devices[..index].iter().any(same) {
                    errors.push(Error::duplicate(&path.child("resourceID"), id));
                }
                let health = tree::text_opt(device, "health").filter(|health| !health.is_empty());
                let known = &["Healthy", "Unhealthy", "Unknown"];
                errors.extend(checks::optional_one_of(health, known, &path.child("health")));
            }
        }
    }
    errors
}

fn has_resource(container: &Value, name: &str) -> bool {
    let listed = |list: &str| tree::map(container, list).is_some_and(|list| list.contains_key(name));
    if listed("resources.requests") || listed("resources.limits") {
        return true;
    }
    let Some(claim) = name.strip_prefix("claim:") else {
        return false;
    };
    let (claim, request) = claim.split_once('/').unwrap_or((claim, ""));
    let claims = tree::list(container, "resources.claims");
    claims.iter().any(|item| {
        let own = tree::text(item, "request");
        tree::text(item, "name") == claim && (own.is_empty() || request.is_empty() || own == request)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ended_containers_stay_ended() {
        let pod = |policy: &str, container: Value, state: Value| json!({"spec": {"restartPolicy": policy, "containers": [container]}, "status": {"containerStatuses": [{"name": "c", "state": state}]}});
        let plain = json!({"name": "c"});
        let ruled = json!({"name": "c", "restartPolicy": "Never", "restartPolicyRules": [
            {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]});
        let cases = [
            ("Never", &plain, 1, 1),
            ("Never", &plain, 0, 1),
            ("OnFailure", &plain, 0, 1),
            ("OnFailure", &plain, 1, 0),
            ("Always", &plain, 0, 0),
            ("Always", &ruled, 1, 1),
            ("Never", &ruled, 42, 0),
        ];
        for (policy, container, code, want) in cases {
            let old = pod(policy, container.clone(), json!({"terminated": {"exitCode": code}}));
            let new = pod(policy, container.clone(), json!({"running": {}}));
            assert_eq!(validate(&new, &old).len(), want, "{policy} {code}");
        }
    }

    #[test]
    fn faults_of_a_status() {
        let check = |new: Value, old: Value, want: &[&str]| {
            let errors = validate(
                &json!({"spec": {}, "status": new}),
                &json!({"spec": {"nodeName": "n"}, "status": old}),
            );
            let got: Vec<String> = errors.iter().map(ToString::to_string).collect();
            assert_eq!(got, want);
        };
        check(
            json!({"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}], "hostIPs": [{"ip": "10.0.0.2"}], "hostIP": "10.0.0.3",
                "conditions": [{"type": "Ready", "observedGeneration": -1}, {"type": ""}], "nominatedNodeName": "m"}),
            json!({}),
            &[
                "status.conditions[0].observedGeneration: Invalid value: -1: must be a non-negative integer",
                "status.conditions[1].Type: Invalid value: \"\": name part must be non-empty",
                "status.conditions[1].Type: Invalid value: \"\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
                "status.nominatedNodeName: Forbidden: may not be set on pods that are already bound to a node",
                "status.podIPs: Invalid value: [{\"IP\":\"10.0.0.1\"},{\"IP\":\"10.0.0.2\"}]: may specify no more than one IP for each IP family",
                "status.hostIPs[0].ip: Invalid value: \"10.0.0.2\": must be equal to `hostIP`",
            ],
        );
        check(
            json!({"qosClass": "Burstable", "resourceClaimStatuses": [{"name": "x"}]}),
            json!({"qosClass": "BestEffort"}),
            &[
                "status.qosClass: Invalid value: \"Burstable\": field is immutable",
                "status.resourceClaimStatuses[0].name: Invalid value: \"x\": must match the name of an entry in `spec.resourceClaims`",
            ],
        );
    }

    #[test]
    fn addresses_are_one_list() {
        let mut status = json!({"podIP": "10.0.0.1"});
        sync_addresses(&mut status);
        assert_eq!(status["podIPs"], json!([{"ip": "10.0.0.1"}]));
        let mut status = json!({"podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]});
        sync_addresses(&mut status);
        assert_eq!(status["podIP"], "10.0.0.1");
    }
}
