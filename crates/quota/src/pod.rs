//! What pods use (upstream `pkg/quota/v1/evaluator/core/pods.go`).

use std::collections::{BTreeMap, BTreeSet};

use api::{Value, meta, validate};
use jiff::{SignedDuration, Timestamp};

use crate::amounts::{self, Amounts};
use crate::pod_resources::{Side, has_pod_level, resources, total};
use crate::{Requirement, at, list, text};

const COUNT: &str = "count/pods";
const RESOURCES: [&str; 11] = [
    COUNT,
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
];
/// Resources that every container has to name once a quota is about them. Upstream calls that a
/// mistake it cannot take back.
const REQUIRED: [&str; 6] = [
    "cpu",
    "memory",
    "requests.cpu",
    "requests.memory",
    "limits.cpu",
    "limits.memory",
];

/// `*kubernetes.io/` names, and those without a domain.
fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && validate::qualified_name(&format!("requests.{name}")).is_empty()
}

pub(crate) fn matches_resource(name: &str) -> bool {
    RESOURCES.contains(&name)
        || name.starts_with("hugepages-")
        || name.starts_with("requests.hugepages-")
        || (!is_native(name) && name.starts_with("requests."))
}

/// Whether a pod has ended, or its time to end is over: it uses nothing but its place in storage.
pub fn is_terminal_or_gone(pod: &Value, now: Timestamp) -> bool {
    if matches!(text(pod, "status.phase"), "Failed" | "Succeeded") {
        return true;
    }
    match (meta::deletion_timestamp(pod), meta::deletion_grace_period_seconds(pod)) {
        (Some(at), Some(grace)) => at
            .checked_add(SignedDuration::from_secs(grace))
            .is_ok_and(|end| now > end),
        _ => false,
    }
}

pub(crate) fn usage(pod: &Value, now: Timestamp) -> Amounts {
    let mut usage = Amounts::from([(COUNT.to_owned(), amounts::one())]);
    if !is_terminal_or_gone(pod, now) {
        amounts::add(
            &mut usage,
            &compute(&total(pod, Side::Requests), &total(pod, Side::Limits)),
        );
    }
    usage
}

/// Requests and limits by the names that quotas have for them.
fn compute(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut usage = Amounts::from([("pods".to_owned(), amounts::one())]);
    for (name, amount) in requests {
        let plain = matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
        if plain {
            usage.insert(name.clone(), amount.clone());
        }
        if plain || is_extended(name) {
            usage.insert(format!("requests.{name}"), amount.clone());
        }
    }
    for name in ["cpu", "memory", "ephemeral-storage"] {
        if let Some(amount) = limits.get(name) {
            usage.insert(format!("limits.{name}"), amount.clone());
        }
    }
    usage
}

pub(crate) fn constraints(required: &[String], pod: &Value) -> Result<(), String> {
    if has_pod_level(pod) {
        return Ok(());
    }
    let required: BTreeSet<&str> = required
        .iter()
        .map(String::as_str)
        .filter(|name| REQUIRED.contains(name))
        .collect();
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let all = list(pod, "spec.containers")
        .iter()
        .chain(list(pod, "spec.initContainers"));
    for container in all {
        let named = compute(
            &resources(container, Side::Requests),
            &resources(container, Side::Limits),
        );
        for name in required.iter().filter(|name| !named.contains_key(**name)) {
            missing.entry(name).or_default().insert(text(container, "name"));
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let parts: Vec<String> = missing
        .into_iter()
        .map(|(name, containers)| format!("{name} for: {}", containers.into_iter().collect::<Vec<_>>().join(",")))
        .collect();
    Err(format!("must specify {}", parts.join("; ")))
}

pub(crate) fn matches_scope(requirement: &Requirement, pod: &Value) -> bool {
    match requirement.scope.as_str() {
        "Terminating" => is_terminating(pod),
        "NotTerminating" => !is_terminating(pod),
        "BestEffort" => is_best_effort(pod),
        "NotBestEffort" => !is_best_effort(pod),
        "PriorityClass" => {
            let class = text(pod, "spec.priorityClassName");
            requirement.selects(Some(class).filter(|class| !class.is_empty()))
        }
        "CrossNamespacePodAffinity" => crosses_namespaces(pod),
        _ => false,
    }
}

fn is_terminating(pod: &Value) -> bool {
    at(pod, "spec.activeDeadlineSeconds")
        .and_then(Value::as_i64)
        .is_some_and(|seconds| seconds >= 0)
}

/// Whether nothing is requested or limited of what decides the quality of service.
fn is_best_effort(pod: &Value) -> bool {
    match text(pod, "status.qosClass") {
        "" => {}
        class => return class == "BestEffort",
    }
    let says_nothing = |container: &Value| {
        [Side::Requests, Side::Limits].into_iter().all(|side| {
            let amounts = resources(container, side);
            ["cpu", "memory"]
                .into_iter()
                .all(|name| amounts.get(name).is_none_or(api::Quantity::is_zero))
        })
    };
    let own = pod.get("spec").is_none_or(says_nothing);
    let mut all = list(pod, "spec.containers")
        .iter()
        .chain(list(pod, "spec.initContainers"));
    own && all.all(says_nothing)
}

fn crosses_namespaces(pod: &Value) -> bool {
    let crosses = |term: &Value| {
        !list(term, "namespaces").is_empty() || term.get("namespaceSelector").is_some_and(|s| !s.is_null())
    };
    ["podAffinity", "podAntiAffinity"].into_iter().any(|kind| {
        let terms = |when: &str| {
            list(
                pod,
                &format!("spec.affinity.{kind}.{when}DuringSchedulingIgnoredDuringExecution"),
            )
        };
        terms("required").iter().any(crosses)
            || terms("preferred")
                .iter()
                .any(|weighted| weighted.get("podAffinityTerm").is_some_and(crosses))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn now() -> Timestamp {
        "2024-01-01T00:01:00Z".parse().unwrap()
    }

    fn pod(resources: Value) -> Value {
        json!({"spec": {"containers": [{"name": "c", "resources": resources}]}})
    }

    #[test]
    fn usage_by_the_names_of_quotas() {
        let pod = pod(json!({
            "requests": {"cpu": "1m", "memory": "2Mi", "ephemeral-storage": "3", "hugepages-2Mi": "4",
                "example.com/gpu": "5", "storage": "6"},
            "limits": {"cpu": "7m", "memory": "8Mi", "ephemeral-storage": "9"}}));
        assert_eq!(
            amounts::pretty(&usage(&pod, now())),
            "count/pods=1,cpu=1m,ephemeral-storage=3,hugepages-2Mi=4,limits.cpu=7m,limits.ephemeral-storage=9,\
             limits.memory=8Mi,memory=2Mi,pods=1,requests.cpu=1m,requests.ephemeral-storage=3,\
             requests.example.com/gpu=5,requests.hugepages-2Mi=4,requests.memory=2Mi"
        );
        assert!(matches_resource("requests.example.com/gpu") && matches_resource("hugepages-1Gi"));
        assert!(!matches_resource("limits.example.com/gpu") && !matches_resource("requests.storage"));
    }

    #[test]
    fn what_has_ended_is_only_counted() {
        for (change, counted) in [
            (json!({"status": {"phase": "Succeeded"}}), false),
            (json!({"status": {"phase": "Failed"}}), false),
            (json!({"status": {"phase": "Running"}}), true),
            (
                json!({"metadata": {"deletionTimestamp": "2024-01-01T00:00:20Z", "deletionGracePeriodSeconds": 30}}),
                false,
            ),
            (
                json!({"metadata": {"deletionTimestamp": "2024-01-01T00:00:40Z", "deletionGracePeriodSeconds": 30}}),
                true,
            ),
        ] {
            let mut pod = pod(json!({"requests": {"cpu": "1"}}));
            pod.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            let usage = usage(&pod, now());
            assert_eq!(usage.contains_key("pods"), counted, "{change}");
            assert!(usage.contains_key("count/pods"));
        }
    }

    #[test]
    fn containers_must_say_what_quotas_are_about() {
        let required: Vec<String> = ["limits.cpu", "requests.memory", "pods", "requests.ephemeral-storage"]
            .map(str::to_owned)
            .into();
        let mut pod = json!({"spec": {
            "initContainers": [{"name": "i", "resources": {"requests": {"memory": "1"}}}],
            "containers": [{"name": "b", "resources": {"limits": {"cpu": "1"}}}, {"name": "a"}]}});
        assert_eq!(
            constraints(&required, &pod).unwrap_err(),
            "must specify limits.cpu for: a,i; requests.memory for: a,b"
        );
        pod["spec"]["resources"] = json!({"limits": {"cpu": "1"}});
        assert_eq!(constraints(&required, &pod), Ok(()));
    }

    #[test]
    fn scopes() {
        let burstable = pod(json!({"requests": {"cpu": "1"}}));
        let plain = pod(json!({"requests": {"example.com/x": "1"}}));
        let mut doomed = plain.clone();
        doomed["spec"]["activeDeadlineSeconds"] = json!(0);
        let mut important = plain.clone();
        important["spec"]["priorityClassName"] = json!("high");
        let mut afar = plain.clone();
        afar["spec"]["affinity"] = json!({"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution":
            [{"weight": 1, "podAffinityTerm": {"namespaceSelector": {}}}]}});
        let one = |scope: &str, operator: &str, values: &[&str]| Requirement {
            scope: scope.into(),
            operator: operator.into(),
            values: values.iter().map(|v| (*v).to_owned()).collect(),
        };
        let cases = [
            (Requirement::exists("BestEffort"), &plain, true),
            (Requirement::exists("BestEffort"), &burstable, false),
            (Requirement::exists("NotBestEffort"), &burstable, true),
            (Requirement::exists("Terminating"), &doomed, true),
            (Requirement::exists("NotTerminating"), &doomed, false),
            (Requirement::exists("PriorityClass"), &important, true),
            (Requirement::exists("PriorityClass"), &plain, false),
            (one("PriorityClass", "In", &["low", "high"]), &important, true),
            (one("PriorityClass", "NotIn", &["high"]), &important, false),
            (one("PriorityClass", "NotIn", &["high"]), &plain, true),
            (one("PriorityClass", "DoesNotExist", &[]), &plain, true),
            (Requirement::exists("CrossNamespacePodAffinity"), &afar, true),
            (Requirement::exists("CrossNamespacePodAffinity"), &plain, false),
            (Requirement::exists("VolumeAttributesClass"), &plain, false),
        ];
        for (requirement, pod, want) in cases {
            assert_eq!(matches_scope(&requirement, pod), want, "{requirement} {pod}");
        }
    }
}
