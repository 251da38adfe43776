//! What may change in a pod (`ValidatePodUpdate` and its siblings).

use api::field::{Error, Path};
use api::{Value, meta, validate};

use super::own_errors;
use crate::pod_spec::annotations::{self, MIRROR};
use crate::pod_spec::{containers, scheduling};
use crate::tree;

const UPDATABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// An ordinary update: images, deadlines, more tolerations, fewer gates.
pub(super) fn pod(new: &Value, old: &Value) -> Vec<Error> {
    let path = Path::new("spec");
    let mut errors = own_errors(new);
    errors.extend(annotations::changes(
        new,
        old,
        &Path::new("metadata").child("annotations"),
    ));
    for list in ["containers", "initContainers"] {
        let at = format!("spec.{list}");
        let (after, path) = (tree::list(new, &at), path.child(list));
        if after.len() != tree::list(old, &at).len() {
            let detail = "pod updates may not add or remove containers";
            errors.push(Error::forbidden(&path, detail));
            return errors;
        }
        for (index, container) in after.iter().enumerate() {
            let path = path.index(index);
            if tree::text(container, "image").is_empty() {
                errors.push(Error::required(&path.child("image"), ""));
            }
            errors.extend(containers::image_without_padding(container, &path));
        }
    }
    let (stop, deadline) = deadline(new, old, &path.child("activeDeadlineSeconds"));
    errors.extend(deadline);
    if stop {
        return errors;
    }
    errors.extend(tolerations(new, old, &path.child("tolerations")));
    errors.extend(gates(new, old, &path.child("schedulingGates")));
    errors.extend(everything_else(new, old, &path));
    errors
}

/// The spec without what may change must be the old one.
fn everything_else(new: &Value, old: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut munged = tree::at(new, "spec").cloned().unwrap_or_default();
    let before = tree::at(old, "spec").cloned().unwrap_or_default();
    if tree::same(Some(&munged), Some(&before)) {
        return errors;
    }
    for list in ["containers", "initContainers"] {
        for (container, before) in tree::items_mut(&mut munged, list).zip(tree::list(&before, list)) {
            tree::keep(container, before, "image");
        }
    }
    for field in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        tree::keep(&mut munged, &before, field);
    }
    if tree::count(&before, "terminationGracePeriodSeconds") < 0
        && tree::int(&munged, "terminationGracePeriodSeconds") == Some(1)
    {
        tree::keep(&mut munged, &before, "terminationGracePeriodSeconds");
    }
    if !tree::list(&before, "schedulingGates").is_empty() {
        errors.extend(placement_of_gated(&mut munged, &before, path));
    }
    if !tree::same(Some(&munged), Some(&before)) {
        let changed = differing(&munged, &before).join(", ");
        errors.push(Error::forbidden(path, format!("{UPDATABLE}\nchanged: {changed}")));
    }
    errors
}

/// Names of the fields that differ, for people.
fn differing(a: &Value, b: &Value) -> Vec<String> {
    let keys = |value: &Value| {
        value
            .as_object()
            .map_or(Vec::new(), |map| map.keys().cloned().collect())
    };
    let mut names: Vec<String> = keys(a);
    names.extend(keys(b).into_iter().filter(|key| a.get(key).is_none()));
    names.retain(|name| !tree::same(a.get(name), b.get(name)));
    names.into_iter().map(|name| format!("spec.{name}")).collect()
}

/// A deadline may come or move nearer. Some faults end the validation.
fn deadline(new: &Value, old: &Value, path: &Path) -> (bool, Option<Error>) {
    let at = "spec.activeDeadlineSeconds";
    let max = i64::from(i32::MAX);
    match (tree::int(new, at), tree::int(old, at)) {
        (Some(after), _) if !(0..=max).contains(&after) => {
            let detail = validate::inclusive_range_error(0, max);
            (true, Some(Error::invalid(path, after, detail)))
        }
        (Some(after), Some(before)) if after > before => {
            let detail = "must be less than or equal to previous value";
            (true, Some(Error::invalid(path, after, detail)))
        }
        (None, Some(_)) => {
            let detail = "must not update from a positive integer to nil value";
            (false, Some(Error::invalid(path, Value::Null, detail)))
        }
        _ => (false, None),
    }
}

fn tolerations(new: &Value, old: &Value, path: &Path) -> Vec<Error> {
    let without_time = |toleration: &Value| {
        let mut toleration = toleration.clone();
        tree::unset(&mut toleration, "tolerationSeconds");
        toleration
    };
    let after: Vec<Value> = tree::list(new, "spec.tolerations").iter().map(without_time).collect();
    let lost = |before: &Value| !after.contains(&without_time(before));
    if tree::list(old, "spec.tolerations").iter().any(lost) {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        return vec![Error::forbidden(path, detail)];
    }
    scheduling::tolerations(tree::list(new, "spec.tolerations"), path)
}

fn gates(new: &Value, old: &Value, path: &Path) -> Vec<Error> {
    let before = tree::list(old, "spec.schedulingGates");
    let mut errors = Vec::new();
    for (index, gate) in tree::list(new, "spec.schedulingGates").iter().enumerate() {
        let name = tree::text(gate, "name");
        if !before.iter().any(|old| tree::text(old, "name") == name) {
            let detail = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            errors.push(Error::forbidden(&path.index(index).child("name"), detail));
        }
    }
    errors
}

/// While a pod is gated, its node selector and required node affinity may be narrowed.
fn placement_of_gated(munged: &mut Value, before: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let after = tree::map(munged, "nodeSelector").cloned().unwrap_or_default();
    let kept = tree::entries(before, "nodeSelector").all(|(key, value)| after.get(key) == Some(value));
    if !kept {
        let detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        errors.push(Error::invalid(&path.child("nodeSelector"), after, detail));
    }
    tree::keep(munged, before, "nodeSelector");
    const REQUIRED: &str = "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution";
    let terms = |spec: &Value| tree::list(spec, &format!("{REQUIRED}.nodeSelectorTerms")).to_vec();
    let (new_terms, old_terms) = (terms(munged), terms(before));
    let terms_path = path.child(REQUIRED).child("nodeSelectorTerms");
    if !old_terms.is_empty() {
        if old_terms.len() != new_terms.len() {
            let detail = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
            errors.push(Error::invalid(&terms_path, new_terms, detail));
        } else {
            for (index, (after, before)) in new_terms.iter().zip(&old_terms).enumerate() {
                if !only_adds(after, before) {
                    let detail = "only additions are allowed (no mutations or deletions)";
                    errors.push(Error::invalid(&terms_path.index(index), after.clone(), detail));
                }
            }
        }
    }
    let old_affinity = tree::at(before, "affinity.nodeAffinity").cloned();
    match old_affinity {
        Some(affinity) => tree::set(tree::child(munged, "affinity"), "nodeAffinity", affinity),
        None => {
            if let Some(affinity) = tree::at_mut(munged, "affinity") {
                tree::unset(affinity, "nodeAffinity");
            }
            if tree::at(before, "affinity").is_none() && !tree::is_set(munged.get("affinity")) {
                tree::unset(munged, "affinity");
            }
        }
    }
    errors
}

fn only_adds(after: &Value, before: &Value) -> bool {
    let lists = ["matchExpressions", "matchFields"];
    let was_empty = lists.iter().all(|list| tree::list(before, list).is_empty());
    if was_empty {
        return lists.iter().all(|list| tree::list(after, list).is_empty());
    }
    lists
        .iter()
        .all(|list| tree::list(after, list).starts_with(tree::list(before, list)))
}

/// Ephemeral containers may come, but never change or go.
pub(super) fn ephemeral_containers(new: &Value, old: &Value) -> Vec<Error> {
    if meta::annotation(old, MIRROR).is_some() {
        let detail = "static pods do not support ephemeral containers";
        return vec![Error::forbidden(&Path::root(), detail)];
    }
    let mut errors = own_errors(new);
    let annotations_path = Path::new("metadata").child("annotations");
    errors.extend(annotations::changes(new, old, &annotations_path));
    let path = Path::new("spec").child("ephemeralContainers");
    for before in tree::list(old, "spec.ephemeralContainers") {
        let name = tree::text(before, "name");
        let mut after = tree::list(new, "spec.ephemeralContainers").iter();
        match after.find(|container| tree::text(container, "name") == name) {
            None => {
                let detail = format!("existing ephemeral containers \"{name}\" may not be removed\n");
                errors.push(Error::forbidden(&path, detail));
            }
            Some(after) if !tree::same(Some(after), Some(before)) => {
                let detail = format!("existing ephemeral containers \"{name}\" may not be changed\n");
                errors.push(Error::forbidden(&path, detail));
            }
            Some(_) => {}
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod_spec::defaults;
    use serde_json::json;

    fn good() -> Value {
        let mut pod = json!({"metadata": {"name": "p"}, "spec": {
            "containers": [{"name": "c", "image": "a:1", "resources": {"requests": {"cpu": "1"}}}],
            "tolerations": [{"key": "k", "operator": "Exists"}],
        }});
        defaults::pod(&mut pod);
        pod
    }

    type Change = fn(&mut Value);

    #[test]
    fn only_some_fields_may_change() {
        let cases: &[(Change, &[&str])] = &[
            (|_| {}, &[]),
            (|spec| spec["containers"][0]["image"] = json!("b:2"), &[]),
            (|spec| spec["activeDeadlineSeconds"] = json!(5), &[]),
            (
                |spec| spec["tolerations"] = json!([{"key": "k", "operator": "Exists"}, {"key": "x"}]),
                &[],
            ),
            (|spec| spec["tolerations"] = json!([]), &["spec.tolerations"]),
            (|spec| spec["containers"][0]["command"] = json!(["x"]), &["spec"]),
            (
                |spec| spec["containers"][0]["resources"]["requests"]["cpu"] = json!("2"),
                &["spec"],
            ),
            (
                |spec| spec["containers"] = json!([]),
                &["spec.containers", "spec.containers"],
            ),
            (
                |spec| spec["schedulingGates"] = json!([{"name": "g"}]),
                &["spec.schedulingGates[0].name"],
            ),
            (|spec| spec["nodeName"] = json!("n"), &["spec"]),
        ];
        for (change, want) in cases {
            let mut new = good();
            change(&mut new["spec"]);
            let fields: Vec<String> = pod(&new, &good()).into_iter().map(|error| error.field).collect();
            assert_eq!(fields, *want, "{new}");
        }
    }

    #[test]
    fn gated_pods_may_be_narrowed() {
        let mut old = good();
        old["spec"]["schedulingGates"] = json!([{"name": "g"}]);
        old["spec"]["nodeSelector"] = json!({"a": "1"});
        let mut new = old.clone();
        new["spec"]["nodeSelector"] = json!({"a": "1", "b": "2"});
        new["spec"]["affinity"] = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "k", "operator": "Exists"}]}]}}});
        assert_eq!(pod(&new, &old), []);
        new["spec"]["nodeSelector"] = json!({"b": "2"});
        assert_eq!(pod(&new, &old)[0].field, "spec.nodeSelector");
    }
}
