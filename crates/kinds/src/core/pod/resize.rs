//! `pods/resize`: CPU and memory of running pods (`ValidatePodResize`).

use api::field::{Error, Path};
use api::{Value, meta};
use apiserver::kind::Context;

use super::{own_errors, restore};
use crate::pod_spec::annotations::MIRROR;
use crate::pod_spec::{defaults, qos};
use crate::tree;

const LISTS: [&str; 2] = ["initContainers", "containers"];

/// Takes resources and resize policies from the new pod, everything else from the old one.
pub(super) fn prepare(_: &Context<'_>, new: &mut Value, old: &Value) {
    let asked = new.clone();
    restore(new, old);
    let spec = tree::child(new, "spec");
    for list in LISTS {
        let wanted = tree::list(&asked, &format!("spec.{list}"));
        for container in tree::items_mut(spec, list) {
            let name = tree::text(container, "name").to_owned();
            let same = |other: &&Value| tree::text(other, "name") == name;
            let Some(wanted) = wanted.iter().find(same) else {
                continue;
            };
            for field in ["resources", "resizePolicy"] {
                tree::keep(container, wanted, field);
            }
        }
    }
    let asked = tree::at(&asked, "spec").cloned().unwrap_or_default();
    tree::keep(spec, &asked, "resources");
    defaults::pod(new);
}

pub(super) fn validate(new: &Value, old: &Value) -> Vec<Error> {
    let path = Path::new("spec");
    let mut errors = own_errors(new);
    let refuse = |detail: &str| vec![Error::forbidden(&Path::root(), detail)];
    if meta::annotation(old, MIRROR).is_some() {
        return refuse("static pods cannot be resized");
    }
    if tree::text(old, "spec.os.name") == "windows" {
        return refuse("windows pods cannot be resized");
    }
    let class = |pod: &Value| tree::at(pod, "spec").map_or("BestEffort", qos::class);
    let before = match tree::text(old, "status.qosClass") {
        "" => class(old),
        known => known,
    };
    if class(new) != before {
        let detail = "Pod QOS Class may not change as a result of resizing";
        errors.push(Error::invalid(&path, before, detail));
    }
    let mut statuses = tree::list(old, "status.containerStatuses").iter();
    let running = statuses.find(|status| tree::at(status, "state.running").is_some());
    if running.is_some_and(|status| tree::at(status, "resources").is_none()) {
        let detail = "Pod running on node without support for resize";
        errors.push(Error::forbidden(&path, detail));
    }
    let (spec, old_spec) = (at_spec(new), at_spec(old));
    errors.extend(of_the_pod(spec, old_spec, &path));
    for list in LISTS {
        let pairs = tree::list(spec, list).iter().zip(tree::list(old_spec, list));
        for (index, (after, before)) in pairs.enumerate() {
            let path = path.child(list).index(index).child("resources");
            errors.extend(amounts(after, before, &path));
        }
    }
    for list in ["containers", "initContainers"] {
        let pairs = tree::list(spec, list).iter().zip(tree::list(old_spec, list));
        for (index, (after, before)) in pairs.enumerate() {
            errors.extend(only_compute(list, after, before, &path, index));
        }
    }
    errors
}

fn at_spec(pod: &Value) -> &Value {
    tree::at(pod, "spec").unwrap_or(&Value::Null)
}

/// Whether some resource has none of its amounts any more.
fn removed(after: Option<&Value>, before: Option<&Value>, list: &str) -> bool {
    let after = after.and_then(|after| tree::map(after, list));
    let before = before.and_then(|before| tree::map(before, list));
    before.is_some_and(|before| {
        before
            .keys()
            .any(|name| after.is_none_or(|after| !after.contains_key(name)))
    })
}

fn of_the_pod(spec: &Value, old_spec: &Value, path: &Path) -> Vec<Error> {
    let (after, before) = (tree::at(spec, "resources"), tree::at(old_spec, "resources"));
    let own = path.child("resources");
    let mut errors = Vec::new();
    if before.is_some() && after.is_none() {
        let detail = "pod-level resources cannot be removed";
        return vec![Error::forbidden(&own, detail)];
    }
    for list in ["requests", "limits"] {
        if removed(after, before, list) {
            let detail = format!("pod-level resource {list} cannot be removed");
            errors.push(Error::forbidden(&own.child(list), detail));
        }
    }
    if !tree::same(Some(&without_compute(after)), Some(&without_compute(before))) {
        let detail = "only cpu and memory resources are mutable at pod-level";
        errors.push(Error::forbidden(path, detail));
    }
    errors
}

/// Nothing is taken away, and memory shrinks only with a restart (`validateContainerResize`).
fn amounts(container: &Value, old: &Value, path: &Path) -> Vec<Error> {
    let (after, before) = (tree::at(container, "resources"), tree::at(old, "resources"));
    let mut errors = Vec::new();
    for list in ["requests", "limits"] {
        if removed(after, before, list) {
            let detail = format!("resource {list} cannot be removed");
            errors.push(Error::forbidden(&path.child(list), detail));
        }
    }
    errors
}

/// A container without what a resize may change.
fn without_compute(resources: Option<&Value>) -> Value {
    let mut rest = resources.cloned().unwrap_or_default();
    for list in ["limits", "requests"] {
        if let Some(amounts) = rest.get_mut(list) {
            tree::unset(amounts, "cpu");
            tree::unset(amounts, "memory");
            if amounts.as_object().is_some_and(|amounts| amounts.is_empty()) {
                tree::unset(&mut rest, list);
            }
        }
    }
    match rest.as_object() {
        Some(map) if map.is_empty() => Value::Null,
        _ => rest,
    }
}

fn only_compute(list: &str, after: &Value, before: &Value, path: &Path, index: usize) -> Vec<Error> {
    let rest = |container: &Value| {
        let mut rest = container.clone();
        tree::set(&mut rest, "resources", without_compute(container.get("resources")));
        rest
    };
    let mut errors = Vec::new();
    let item = path.child(list).index(index);
    if !tree::same(Some(&rest(after)), Some(&rest(before))) {
        errors.push(match list {
            "containers" => Error::forbidden(path, "only cpu and memory resources are mutable"),
            _ => {
                let detail = "only cpu and memory resources for init or sidecar containers are mutable";
                Error::forbidden(&item, detail)
            }
        });
    }
    let is_sidecar = tree::text(after, "restartPolicy") == "Always";
    if list == "initContainers" && !is_sidecar && !tree::same(Some(after), Some(before)) {
        let policies = tree::list(after, "resizePolicy").iter();
        for _ in policies.filter(|policy| tree::text(policy, "restartPolicy") == "RestartContainer") {
            let detail = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
            errors.push(Error::forbidden(&item, detail));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(resources: Value) -> Value {
        let mut pod = json!({"metadata": {"name": "p"}, "spec": {
            "containers": [{"name": "c", "image": "a:1", "resources": resources}],
        }});
        defaults::pod(&mut pod);
        pod
    }

    fn check(new: Value, old: Value, want: &[&str]) {
        let errors = validate(&pod(new), &pod(old));
        let got: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(got, want);
    }

    #[test]
    fn compute_may_change_and_nothing_may_go() {
        let one = json!({"requests": {"cpu": "1"}});
        check(json!({"requests": {"cpu": "2"}}), one.clone(), &[]);
        check(
            json!({}),
            one.clone(),
            &[
                "spec: Invalid value: \"Burstable\": Pod QOS Class may not change as a result of resizing",
                "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed",
            ],
        );
        check(
            json!({"requests": {"cpu": "1", "ephemeral-storage": "1Gi"}}),
            one,
            &["spec: Forbidden: only cpu and memory resources are mutable"],
        );
    }

    #[test]
    fn static_pods_stay() {
        let mut old = pod(json!({}));
        meta::set_annotation(&mut old, MIRROR, "x");
        let errors = validate(&old, &old);
        assert_eq!(errors[0].to_string(), ": Forbidden: static pods cannot be resized");
    }
}
