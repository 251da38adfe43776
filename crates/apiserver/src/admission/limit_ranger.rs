//! Containers, pods and volume claims stay within a namespace's limit ranges, and get what they do
//! not ask for themselves (`plugin/pkg/admission/limitranger`).

use api::{Quantity, Status, Value, meta};
use async_trait::async_trait;
use quota::pod_resources::{self, Side};
use quota::{Amounts, amounts};

use super::{Attributes, Operation, Plugin, Step, lookup};
use crate::kind::value_at;
use crate::state::State;

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

pub(super) struct LimitRanger;

/// Whether limit ranges are about such a request at all. Containers of a pod that is there only change
/// by a resize.
fn concerns(attributes: &Attributes<'_>) -> bool {
    let kind = &attributes.resource.kind;
    if !kind.gvk.group.is_empty() || attributes.old.is_some_and(meta::is_deleting) {
        return false;
    }
    match (kind.plural.as_str(), attributes.subresource, attributes.operation) {
        ("pods", "", Operation::Create) | ("pods", "resize", Operation::Update) => true,
        ("persistentvolumeclaims", "", operation) => matches!(operation, Operation::Create | Operation::Update),
        _ => false,
    }
}

#[async_trait]
impl Plugin for LimitRanger {
    fn concerns(&self, step: Step, group: &str, plural: &str) -> bool {
        group.is_empty() && (plural == "pods" || step == Step::Validate && plural == "persistentvolumeclaims")
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn mutate(&self, state: &State, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        if concerns(attributes) && attributes.resource.kind.plural == "pods" {
            for range in lookup::list(state, "", "limitranges", Some(attributes.namespace)).await? {
                fill(&range, object);
            }
        }
        Ok(())
    }

    async fn validate(&self, state: &State, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
        let Some(object) = object.filter(|_| concerns(attributes)) else {
            return Ok(());
        };
        for range in lookup::list(state, "", "limitranges", Some(attributes.namespace)).await? {
            let mut found: Vec<String> = Vec::new();
            for item in items(&range) {
                let errors = match attributes.resource.kind.plural.as_str() {
                    "pods" => pod(item, object, attributes.old),
                    _ => claim(item, object, attributes.old),
                };
                for error in errors {
                    if !found.contains(&error) {
                        found.push(error);
                    }
                }
            }
            match found.as_slice() {
                [] => {}
                [one] => return Err(attributes.forbid(one)),
                many => return Err(attributes.forbid(format!("[{}]", many.join(", ")))),
            }
        }
        Ok(())
    }
}

fn items(range: &Value) -> impl Iterator<Item = &Value> {
    value_at(range, "spec.limits")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn type_of(item: &Value) -> &str {
    item.get("type").and_then(Value::as_str).unwrap_or("")
}

/// Gives containers what the range has as default, and says so in an annotation.
fn fill(range: &Value, pod: &mut Value) {
    let (mut requests, mut limits) = (Amounts::new(), Amounts::new());
    for item in items(range).filter(|item| type_of(item) == "Container") {
        requests.extend(amounts::read(item.get("defaultRequest")));
        limits.extend(amounts::read(item.get("default")));
    }
    let mut told = Vec::new();
    for (field, what) in [("containers", "container"), ("initContainers", "init container")] {
        let containers = pod.get_mut("spec").and_then(|spec| spec.get_mut(field)?.as_array_mut());
        for container in containers.into_iter().flatten() {
            let name = container.get("name").and_then(Value::as_str).unwrap_or("").to_owned();
            for (side, defaults, noun) in [("requests", &requests, "request"), ("limits", &limits, "limit")] {
                let set = fill_side(container, side, defaults);
                if !set.is_empty() {
                    told.push(format!("{} {noun} for {what} {name}", set.join(", ")));
                }
            }
        }
    }
    if !told.is_empty() {
        let text = format!("LimitRanger plugin set: {}", told.join("; "));
        meta::set_annotation(pod, ANNOTATION, &text);
    }
}

/// The names that were set, sorted.
fn fill_side(container: &mut Value, side: &str, defaults: &Amounts) -> Vec<String> {
    let missing: Vec<(&String, &Quantity)> = {
        let known = container
            .get("resources")
            .and_then(|resources| resources.get(side)?.as_object());
        defaults
            .iter()
            .filter(|(name, _)| known.is_none_or(|known| !known.contains_key(*name)))
            .collect()
    };
    for (name, amount) in &missing {
        container["resources"][side][name.as_str()] = amount.to_string().into();
    }
    missing.into_iter().map(|(name, _)| name.clone()).collect()
}

/// What one thing asks for, and what it asked for before an update.
struct Asked<'a> {
    of: &'a str,
    requests: Amounts,
    limits: Amounts,
    before: Option<(Amounts, Amounts)>,
}

impl Asked<'_> {
    /// What an update leaves as it was is not checked again.
    fn is_unchanged(&self, name: &str) -> bool {
        self.before.as_ref().is_some_and(|(requests, limits)| {
            requests.get(name) == self.requests.get(name) && limits.get(name) == self.limits.get(name)
        })
    }

    fn check(&self, item: &Value) -> Vec<String> {
        let mut errors = Vec::new();
        for (bound, check) in [
            ("min", Self::least as fn(&Self, &str, &Quantity) -> Option<String>),
            ("max", Self::most),
            ("maxLimitRequestRatio", Self::ratio),
        ] {
            let bounds = amounts::read(item.get(bound));
            let moved = bounds.iter().filter(|(name, _)| !self.is_unchanged(name));
            errors.extend(moved.filter_map(|(name, amount)| check(self, name, amount)));
        }
        errors
    }

    fn least(&self, name: &str, least: &Quantity) -> Option<String> {
        let said = format!("minimum {name} usage per {} is {least}", self.of);
        let Some(request) = self.requests.get(name) else {
            return Some(format!("{said}.  No request is specified"));
        };
        if request < least {
            return Some(format!("{said}, but request is {request}"));
        }
        let limit = self.limits.get(name).filter(|limit| *limit < least)?;
        Some(format!("{said}, but limit is {limit}"))
    }

    fn most(&self, name: &str, most: &Quantity) -> Option<String> {
        let said = format!("maximum {name} usage per {} is {most}", self.of);
        let Some(limit) = self.limits.get(name) else {
            return Some(format!("{said}.  No limit is specified"));
        };
        if limit > most {
            return Some(format!("{said}, but limit is {limit}"));
        }
        let request = self.requests.get(name).filter(|request| *request > most)?;
        Some(format!("{said}, but request is {request}"))
    }

    fn ratio(&self, name: &str, most: &Quantity) -> Option<String> {
        let said = format!("{name} max limit to request ratio per {} is {most}", self.of);
        let set = |amounts: &Amounts| amounts.get(name).filter(|amount| !amount.is_zero()).cloned();
        let Some(request) = set(&self.requests) else {
            return Some(format!("{said}, but no request is specified or request is 0"));
        };
        let Some(limit) = set(&self.limits) else {
            return Some(format!("{said}, but no limit is specified or limit is 0"));
        };
        // The nearest float is exact enough for the ratio, and both parts are far from its limits.
        let ratio = limit.to_f64().abs() / request.to_f64().abs();
        (ratio > most.to_f64()).then(|| format!("{said}, but provided ratio is {ratio:.6}"))
    }
}

fn pod(item: &Value, pod: &Value, old: Option<&Value>) -> Vec<String> {
    match type_of(item) {
        "Container" => ["containers", "initContainers"]
            .into_iter()
            .flat_map(|field| containers(item, field, pod, old))
            .collect(),
        "Pod" => {
            let total = |pod: &Value| {
                let side = |side| pod_resources::total_of_spec(pod, side);
                (side(Side::Requests), side(Side::Limits))
            };
            let (requests, limits) = total(pod);
            let asked = Asked {
                of: "Pod",
                requests,
                limits,
                before: old.map(total),
            };
            asked.check(item)
        }
        _ => Vec::new(),
    }
}

fn containers(item: &Value, field: &str, pod: &Value, old: Option<&Value>) -> Vec<String> {
    let listed = |pod| {
        let list = value_at(pod, &format!("spec.{field}")).and_then(Value::as_array);
        list.map_or(&[][..], Vec::as_slice)
    };
    let both = |container: &Value| {
        let side = |side| pod_resources::resources(container, side);
        (side(Side::Requests), side(Side::Limits))
    };
    let mut errors = Vec::new();
    for container in listed(pod) {
        let before = old.and_then(|old| {
            listed(old)
                .iter()
                .find(|other| other.get("name") == container.get("name"))
        });
        let (requests, limits) = both(container);
        let asked = Asked {
            of: "Container",
            requests,
            limits,
            before: before.map(both),
        };
        errors.extend(asked.check(item));
    }
    errors
}

/// A claim has requests only, so the maximum is about those.
fn claim(item: &Value, claim: &Value, old: Option<&Value>) -> Vec<String> {
    if type_of(item) != "PersistentVolumeClaim" {
        return Vec::new();
    }
    let requests = |claim| amounts::read(value_at(claim, "spec.resources.requests"));
    let before = old.map(requests);
    let asked = Asked {
        of: "PersistentVolumeClaim",
        requests: requests(claim),
        limits: Amounts::new(),
        before: None,
    };
    let is_unchanged = |name: &String| {
        let was = before.as_ref().and_then(|before| before.get(name));
        was.is_some() && was == asked.requests.get(name)
    };
    let mut errors = Vec::new();
    for (name, least) in amounts::read(item.get("min"))
        .iter()
        .filter(|(name, _)| !is_unchanged(name))
    {
        errors.extend(asked.least(name, least));
    }
    for (name, most) in amounts::read(item.get("max"))
        .iter()
        .filter(|(name, _)| !is_unchanged(name))
    {
        let said = format!("maximum {name} usage per PersistentVolumeClaim is {most}");
        match asked.requests.get(name) {
            None => errors.push(format!("{said}.  No request is specified")),
            Some(request) if request > most => errors.push(format!("{said}, but request is {request}")),
            Some(_) => {}
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn defaults_are_filled_in_and_told() {
        let range = json!({"spec": {"limits": [{"type": "Container",
            "default": {"cpu": "75m", "memory": "10Mi"}, "defaultRequest": {"cpu": "50m", "memory": "5Mi"}}]}});
        let mut pod = json!({"metadata": {"name": "p"}, "spec": {
            "containers": [{"name": "a"}, {"name": "b", "resources": {"limits": {"cpu": "1"}, "requests": {"memory": "1Mi"}}}],
            "initContainers": [{"name": "i", "resources": {"requests": {"cpu": "1", "memory": "1"}, "limits": {"cpu": "1", "memory": "1"}}}]}});
        fill(&range, &mut pod);
        assert_eq!(
            pod["spec"]["containers"][1]["resources"],
            json!({"limits": {"cpu": "1", "memory": "10Mi"}, "requests": {"cpu": "50m", "memory": "1Mi"}})
        );
        assert_eq!(
            meta::annotation(&pod, ANNOTATION),
            Some(
                "LimitRanger plugin set: cpu, memory request for container a; cpu, memory limit for container a; \
                 cpu request for container b; memory limit for container b"
            )
        );
        let before = pod.clone();
        fill(&range, &mut pod);
        assert_eq!(pod, before);
    }

    fn told(bounds: Value, resources: Value) -> Vec<String> {
        let mut item = bounds;
        item["type"] = json!("Container");
        pod(
            &item,
            &json!({"spec": {"containers": [{"name": "c", "resources": resources}]}}),
            None,
        )
    }

    /// Of upstream's `limitranger/admission_test.go`.
    #[test]
    fn bounds_of_containers() {
        let ask = |request: &str, limit: &str| json!({"requests": {"cpu": request}, "limits": {"cpu": limit}});
        let cases = [
            (json!({"min": {"cpu": "50m"}}), ask("50m", "100m"), ""),
            (
                json!({"min": {"cpu": "50m"}}),
                ask("40m", "100m"),
                "minimum cpu usage per Container is 50m, but request is 40m",
            ),
            (
                json!({"min": {"cpu": "50m"}}),
                json!({}),
                "minimum cpu usage per Container is 50m.  No request is specified",
            ),
            (
                json!({"min": {"cpu": "9.00001m"}}),
                ask("9m", "100m"),
                "minimum cpu usage per Container is 9000010n, but request is 9m",
            ),
            (json!({"max": {"cpu": "1"}}), ask("1", "1"), ""),
            (
                json!({"max": {"cpu": "1"}}),
                ask("1", "2"),
                "maximum cpu usage per Container is 1, but limit is 2",
            ),
            (
                json!({"max": {"cpu": "1"}}),
                json!({"requests": {"cpu": "1"}}),
                "maximum cpu usage per Container is 1.  No limit is specified",
            ),
            (json!({"maxLimitRequestRatio": {"cpu": "1500m"}}), ask("1", "1500m"), ""),
            (
                json!({"maxLimitRequestRatio": {"cpu": "1"}}),
                ask("1", "3"),
                "cpu max limit to request ratio per Container is 1, but provided ratio is 3.000000",
            ),
            (
                json!({"maxLimitRequestRatio": {"cpu": "1"}}),
                ask("0", "3"),
                "cpu max limit to request ratio per Container is 1, but no request is specified or request is 0",
            ),
        ];
        for (bounds, resources, want) in cases {
            let errors = told(bounds, resources);
            assert_eq!(errors.join(";"), want);
        }
    }

    #[test]
    fn bounds_of_pods_and_claims() {
        let container =
            json!({"name": "c", "resources": {"requests": {"memory": "60Mi"}, "limits": {"memory": "60Mi"}}});
        let whole = json!({"spec": {"containers": [container, container], "initContainers": [container]}});
        let item = json!({"type": "Pod", "max": {"memory": "100Mi"}});
        assert_eq!(
            pod(&item, &whole, None),
            ["maximum memory usage per Pod is 100Mi, but limit is 120Mi"]
        );
        assert_eq!(pod(&item, &whole, Some(&whole)), Vec::<String>::new());
        let volume = |size: &str| json!({"spec": {"resources": {"requests": {"storage": size}}}});
        let item = json!({"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "5Gi"}});
        assert_eq!(claim(&item, &volume("2Gi"), None), Vec::<String>::new());
        assert_eq!(
            claim(&item, &volume("500Mi"), None),
            ["minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 500Mi"]
        );
        assert_eq!(
            claim(&item, &volume("6Gi"), None),
            ["maximum storage usage per PersistentVolumeClaim is 5Gi, but request is 6Gi"]
        );
        assert_eq!(claim(&item, &volume("6Gi"), Some(&volume("6Gi"))), Vec::<String>::new());
    }
}
