//! `pods`.

mod changes;
pub(crate) mod disabled;
mod resize;
mod row;
mod status;

use api::field::{Error, Path};
use api::{Map, Value, meta};
use apiserver::Kind;
use apiserver::kind::{Connect, Context, Deletion, SelectableField, Subresource};
use std::sync::Arc;

use crate::pod_spec::annotations::{self, MIRROR};
use crate::pod_spec::spec::{self, Holder};
use crate::pod_spec::{containers, defaults, qos, warnings};
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
        .prepare_update(|_, new, old| {
            let spec = tree::child(new, "spec");
            defaults::alias_service_account(spec);
            disabled::pod_spec(spec, tree::at(old, "spec"));
        })
        .warnings(|new, old| match old {
            // Of updates, which controllers make mostly, upstream says nothing.
            Some(_) => Vec::new(),
            None => {
                let mut all: Vec<String> = warnings::host_name(meta::name(new), "the Pod's hostname")
                    .into_iter()
                    .collect();
                all.extend(warnings::pod(new, &Path::root()));
                all
            }
        })
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
                .prepare(resize::prepare)
                .validate(resize::validate),
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
    let spec = tree::child(pod, "spec");
    defaults::alias_service_account(spec);
    disabled::pod_spec(spec, None);
    merge_label_keys(pod);
    let spec = tree::at(pod, "spec").unwrap_or(&Value::Null);
    let mut status = Map::new();
    status.insert("phase".to_owned(), "Pending".into());
    status.insert("qosClass".to_owned(), qos::class(spec).into());
    if !tree::list(spec, "schedulingGates").is_empty() {
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

/// `matchLabelKeys` and `mismatchLabelKeys` of affinity terms and spread constraints become
/// expressions over the pod's own labels (`applyMatchLabelKeysAndMismatchLabelKeys`).
fn merge_label_keys(pod: &mut Value) {
    if tree::at(pod, "spec.affinity").is_none() && tree::list(pod, "spec.topologySpreadConstraints").is_empty() {
        return;
    }
    let labels = meta::labels(pod);
    let mut merge = |holder: &mut Value| {
        if tree::at(holder, "labelSelector").is_none() {
            return;
        }
        let mut added = Vec::new();
        for (field, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
            for key in tree::strings(holder, field) {
                if let Some(value) = labels.get(key) {
                    added.push(serde_json::json!({"key": key, "operator": operator, "values": [value]}));
                }
            }
        }
        if !added.is_empty() {
            let selector = tree::child(holder, "labelSelector");
            let mut expressions = tree::list(selector, "matchExpressions").to_vec();
            expressions.extend(added);
            tree::set(selector, "matchExpressions", expressions);
        }
    };
    for kind in ["podAffinity", "podAntiAffinity"] {
        let list = format!("spec.affinity.{kind}.requiredDuringSchedulingIgnoredDuringExecution");
        tree::items_mut(pod, &list).for_each(&mut merge);
        let list = format!("spec.affinity.{kind}.preferredDuringSchedulingIgnoredDuringExecution");
        for item in tree::items_mut(pod, &list) {
            merge(tree::child(item, "podAffinityTerm"));
        }
    }
    tree::items_mut(pod, "spec.topologySpreadConstraints").for_each(merge);
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
    let mut errors = annotations::known(pod, spec_value, &Path::new("metadata").child("annotations"));
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
    if meta::annotation(pod, MIRROR).is_some() && !tree::list(spec_value, "resourceClaims").is_empty() {
        let detail = "static pods do not support resource claims";
        errors.push(Error::forbidden(&Path::root(), detail));
    }
    for list in ["containers", "initContainers"] {
        for (index, container) in tree::list(spec_value, list).iter().enumerate() {
            let path = path.child(list).index(index);
            errors.extend(containers::image_without_padding(container, &path));
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
    let spec_value = tree::at(pod, "spec").unwrap_or(&Value::Null);
    errors.extend(annotations::seccomp_matches(pod, spec_value, &path));
    errors.extend(annotations::app_armor_matches(pod, spec_value, &path));
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
        name if matches!(kind, "" | "Node") => errors.extend(checks::dns_subdomain(name, &path.child("name"))),
        _ => {}
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
    fn label_keys_become_expressions() {
        let term = json!({"topologyKey": "k", "labelSelector": {}, "matchLabelKeys": ["a", "missing"], "mismatchLabelKeys": ["t"]});
        let mut pod = json!({"metadata": {"labels": {"a": "1", "t": "2"}}, "spec": {"affinity": {"podAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [term]}}}});
        merge_label_keys(&mut pod);
        assert_eq!(
            pod["spec"]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0]["labelSelector"],
            json!({"matchExpressions": [
                {"key": "a", "operator": "In", "values": ["1"]}, {"key": "t", "operator": "NotIn", "values": ["2"]}]})
        );
    }
}
