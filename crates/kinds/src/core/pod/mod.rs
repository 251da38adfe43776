//! `pods`.

mod changes;
mod row;
mod status;

use api::field::{Error, Path};
use api::{Map, Value, meta};
use apiserver::Kind;
use apiserver::kind::{Connect, Context, Deletion, SelectableField, Subresource};
use std::sync::Arc;

use crate::pod_spec::spec::{self, Holder};
use crate::pod_spec::{containers, defaults, qos};
use crate::{checks, tree};

pub(crate) fn kind() -> Kind {
    let deletion = Deletion {
        grace: Some(Arc::new(grace)),
        returns_object: true,
        ..Deletion::default()
    };
    Kind::namespaced("", "v1", "Pod", "pods")
        .short_names(&["po"])
        .categories(&["all"])
        .with_generation()
        .deletion(deletion)
        .default(defaults::pod)
        .prepare_create(prepare_create)
        .prepare_update(|_, new, _| defaults::alias_service_account(tree::child(new, "spec")))
        .validate(new_pod)
        .validate_update(changes::pod)
        .subresource(
            Subresource::status()
                .prepare(status::prepare)
                .validate(status::validate),
        )
        .subresource(
            Subresource::part("ephemeralcontainers", Default::default())
                .prepare(keep_all_but_ephemeral)
                .validate(changes::ephemeral_containers),
        )
        .subresource(
            Subresource::part("resize", Default::default())
                .prepare(keep_all_but_resources)
                .validate(changes::resize),
        )
        .subresource(Subresource::binding())
        .subresource(Subresource::eviction())
        .subresource(Subresource::connect(Connect::Log))
        .subresource(Subresource::connect(Connect::Exec))
        .subresource(Subresource::connect(Connect::Attach))
        .subresource(Subresource::connect(Connect::PortForward))
        .subresource(Subresource::connect(Connect::PodProxy))
        .selectable_paths(&[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "status.phase",
            "status.nominatedNodeName",
        ])
        .selectable(SelectableField::path_or("spec.hostNetwork", "false"))
        .selectable(SelectableField::new("status.podIP", |pod| {
            let first = tree::list(pod, "status.podIPs").first();
            first
                .map_or(tree::text(pod, "status.podIP"), |address| tree::text(address, "ip"))
                .to_owned()
        }))
        .table(row::columns(), row::row)
}

/// How long the pod may take to stop: what the client says, else the pod, but no time at all when
/// it runs nowhere or has ended.
fn grace(pod: &Value, asked: Option<i64>) -> Option<i64> {
    let spec = tree::int(pod, "spec.terminationGracePeriodSeconds");
    let seconds = asked.or(spec).unwrap_or(30);
    let ended = matches!(tree::text(pod, "status.phase"), "Failed" | "Succeeded");
    if tree::text(pod, "spec.nodeName").is_empty() || ended {
        return Some(0);
    }
    Some(if seconds < 0 { 1 } else { seconds })
}

fn prepare_create(_: &Context<'_>, pod: &mut Value) {
    defaults::alias_service_account(tree::child(pod, "spec"));
    merge_label_keys(pod);
    let spec = tree::at(pod, "spec").cloned().unwrap_or_default();
    let mut status = Map::new();
    status.insert("phase".to_owned(), "Pending".into());
    status.insert("qosClass".to_owned(), qos::class(&spec).into());
    if !tree::list(&spec, "schedulingGates").is_empty() {
        let condition = serde_json::json!({
            "type": "PodScheduled",
            "status": "False",
            "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
            "lastProbeTime": null,
            "lastTransitionTime": null,
        });
        status.insert("conditions".to_owned(), vec![condition].into());
    }
    tree::set(pod, "status", status);
}

/// `matchLabelKeys` and `mismatchLabelKeys` of affinity terms become expressions over the pod's
/// own labels (`applyMatchLabelKeysAndMismatchLabelKeys`).
fn merge_label_keys(pod: &mut Value) {
    let labels = meta::labels(pod);
    for kind in ["podAffinity", "podAntiAffinity"] {
        let lists = [
            format!("spec.affinity.{kind}.requiredDuringSchedulingIgnoredDuringExecution"),
            format!("spec.affinity.{kind}.preferredDuringSchedulingIgnoredDuringExecution"),
        ];
        for list in lists {
            for item in tree::items_mut(pod, &list) {
                let term = match item.get_mut("podAffinityTerm") {
                    Some(_) => tree::child(item, "podAffinityTerm"),
                    None => item,
                };
                if tree::at(term, "labelSelector").is_none() {
                    continue;
                }
                let mut added = Vec::new();
                for (field, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
                    for key in tree::strings(term, field) {
                        if let Some(value) = labels.get(key) {
                            added.push(serde_json::json!({"key": key, "operator": operator, "values": [value]}));
                        }
                    }
                }
                if !added.is_empty() {
                    let selector = tree::child(term, "labelSelector");
                    let mut expressions = tree::list(selector, "matchExpressions").to_vec();
                    expressions.retain(|expression| !added.contains(expression));
                    expressions.extend(added);
                    tree::set(selector, "matchExpressions", expressions);
                }
            }
        }
    }
}

fn keep_all_but_ephemeral(_: &Context<'_>, new: &mut Value, old: &Value) {
    let wanted = tree::at(new, "spec.ephemeralContainers").cloned();
    restore(new, old);
    let spec = tree::child(new, "spec");
    match wanted {
        Some(wanted) => tree::set(spec, "ephemeralContainers", wanted),
        None => tree::unset(spec, "ephemeralContainers"),
    }
    defaults::pod_spec(spec);
}

fn keep_all_but_resources(_: &Context<'_>, new: &mut Value, old: &Value) {
    let asked = new.clone();
    restore(new, old);
    let spec = tree::child(new, "spec");
    for list in ["containers", "initContainers"] {
        for container in tree::items_mut(spec, list) {
            let name = tree::text(container, "name").to_owned();
            let path = format!("spec.{list}");
            let wanted = tree::list(&asked, &path)
                .iter()
                .find(|other| tree::text(other, "name") == name);
            for field in ["resources", "resizePolicy"] {
                match wanted.and_then(|wanted| wanted.get(field)) {
                    Some(value) => tree::set(container, field, value.clone()),
                    None => tree::unset(container, field),
                }
            }
        }
    }
    if let Some(resources) = tree::at(&asked, "spec.resources") {
        tree::set(spec, "resources", resources.clone());
    }
}

/// The old object, with the new one's revision and managed fields.
fn restore(new: &mut Value, old: &Value) {
    let revision = meta::resource_version(new).to_owned();
    let managed = tree::at(new, "metadata.managedFields").cloned();
    *new = old.clone();
    meta::set_resource_version(new, &revision);
    if let (Some(managed), Some(metadata)) = (managed, meta::metadata_mut(new)) {
        metadata.insert("managedFields".to_owned(), managed);
    }
}

/// What pods alone must be, beyond their spec (`validatePodMetadataAndSpec`).
fn own_errors(pod: &Value) -> Vec<Error> {
    let path = Path::new("spec");
    let spec_value = tree::at(pod, "spec").unwrap_or(&Value::Null);
    let mut errors = spec::annotations(pod, spec_value, &Path::new("metadata").child("annotations"));
    errors.extend(spec::spec(spec_value, Holder::Pod(meta::name(pod)), &path));
    if tree::text(spec_value, "serviceAccountName").is_empty() {
        for (index, volume) in tree::list(spec_value, "volumes").iter().enumerate() {
            for (number, source) in tree::list(volume, "projected.sources").iter().enumerate() {
                if tree::at(source, "serviceAccountToken").is_some() {
                    let path = path.child("volumes").index(index).child("projected");
                    let path = path.child("sources").index(number).child("serviceAccountToken");
                    let detail = "must not be specified when serviceAccountName is not set";
                    errors.push(Error::forbidden(&path, detail));
                }
            }
        }
    }
    for list in ["containers", "initContainers"] {
        for (index, container) in tree::list(spec_value, list).iter().enumerate() {
            errors.extend(containers::image_without_padding(
                container,
                &path.child(list).index(index),
            ));
        }
    }
    errors
}

fn new_pod(pod: &Value) -> Vec<Error> {
    let path = Path::new("spec");
    let mut errors = own_errors(pod);
    if !tree::list(pod, "spec.ephemeralContainers").is_empty() {
        errors.push(Error::forbidden(
            &path.child("ephemeralContainers"),
            "cannot be set on create",
        ));
    }
    if !tree::text(pod, "spec.nodeName").is_empty() && !tree::list(pod, "spec.schedulingGates").is_empty() {
        let detail = "cannot be set until all schedulingGates have been cleared";
        errors.push(Error::forbidden(&path.child("nodeName"), detail));
    }
    errors
}

/// A Binding: where the scheduler wants a pod to run (`ValidatePodBinding`).
pub fn validate_binding(binding: &Value) -> Vec<Error> {
    let mut errors = Vec::new();
    let path = Path::new("target");
    let kind = tree::text(binding, "target.kind");
    if !matches!(kind, "" | "Node") {
        errors.push(Error::not_supported(&path.child("kind"), kind, &["Node", "<empty>"]));
    }
    match tree::text(binding, "target.name") {
        "" => errors.push(Error::required(&path.child("name"), "")),
        name => errors.extend(checks::dns_subdomain(name, &path.child("name"))),
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn grace_depends_on_where_the_pod_is() {
        let pod = |node: &str, phase: &str| json!({"spec": {"nodeName": node, "terminationGracePeriodSeconds": 30}, "status": {"phase": phase}});
        let cases = [
            (pod("n", "Running"), None, 30),
            (pod("n", "Running"), Some(5), 5),
            (pod("n", "Running"), Some(-3), 1),
            (pod("", "Pending"), Some(5), 0),
            (pod("n", "Succeeded"), None, 0),
        ];
        for (pod, asked, want) in cases {
            assert_eq!(grace(&pod, asked), Some(want), "{pod}");
        }
    }

    #[test]
    fn label_keys_become_expressions_once() {
        let term = json!({"topologyKey": "k", "labelSelector": {}, "matchLabelKeys": ["a", "missing"], "mismatchLabelKeys": ["t"]});
        let mut pod = json!({"metadata": {"labels": {"a": "1", "t": "2"}}, "spec": {"affinity": {"podAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [term]}}}});
        merge_label_keys(&mut pod);
        merge_label_keys(&mut pod);
        assert_eq!(
            pod["spec"]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0]["labelSelector"],
            json!({"matchExpressions": [
                {"key": "a", "operator": "In", "values": ["1"]}, {"key": "t", "operator": "NotIn", "values": ["2"]}]})
        );
    }
}
