//! `limitranges`. Upstream has no columns of its own for them.

use std::collections::BTreeSet;

use api::field::{Error, Path};
use api::{Map, Quantity, Value};
use apiserver::Kind;

use crate::pod_spec::{defaults, resources};
use crate::{checks, tree};

pub(crate) fn kind() -> Kind {
    Kind::namespaced("", "v1", "LimitRange", "limitranges")
        .short_names(&["limits"])
        .allow_create_on_update()
        .default(|range| {
            for item in tree::items_mut(range, "spec.limits") {
                for list in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
                    defaults::round_up(item, list);
                }
                if tree::text(item, "type") == "Container" {
                    default_amounts(item);
                }
            }
        })
        .validate(limits)
}

/// The default limit is the maximum, the default request the default limit, then the minimum.
fn default_amounts(item: &mut Value) {
    let list = |item: &Value, name: &str| tree::map(item, name).cloned().unwrap_or_default();
    let mut limit = list(item, "default");
    let mut request = list(item, "defaultRequest");
    fill(&mut limit, list(item, "max"));
    fill(&mut request, limit.clone());
    fill(&mut request, list(item, "min"));
    for (name, amounts) in [("default", limit), ("defaultRequest", request)] {
        if !amounts.is_empty() {
            tree::set(item, name, amounts);
        }
    }
}

fn fill(into: &mut Map<String, Value>, from: Map<String, Value>) {
    for (name, value) in from {
        into.entry(name).or_insert(value);
    }
}

fn limits(range: &Value) -> Vec<Error> {
    let path = Path::new("spec").child("limits");
    let mut errors = Vec::new();
    let items = tree::list(range, "spec.limits");
    for (index, item) in items.iter().enumerate() {
        let path = path.index(index);
        let kind = tree::text(item, "type");
        let bad = checks::qualified_name(kind, &path.child("type"));
        let is_name = bad.is_empty();
        errors.extend(bad);
        if is_name && !kind.contains('/') && !matches!(kind, "Pod" | "Container" | "PersistentVolumeClaim") {
            let detail = "must be a standard limit type or fully qualified";
            errors.push(Error::invalid(&path.child("type"), kind, detail));
        }
        if items[..index].iter().any(|other| tree::text(other, "type") == kind) {
            errors.push(Error::duplicate(&path.child("type"), kind));
        }
        errors.extend(names(item, kind, &path));
        errors.extend(order(item, kind, &path));
    }
    errors
}

/// Which resources the lists may name.
fn names(item: &Value, kind: &str, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let has = |list: &str| tree::map(item, list).is_some_and(|map| !map.is_empty());
    for list in ["max", "min", "default", "defaultRequest", "", "maxLimitRequestRatio"] {
        let has_size = |list: &str| tree::map(item, list).is_some_and(|map| map.contains_key("storage"));
        if list.is_empty() {
            if kind == "PersistentVolumeClaim" && !has_size("min") && !has_size("max") {
                let detail = "either minimum or maximum storage value is required, but neither was provided";
                errors.push(Error::required(&path.child("limits"), detail));
            }
            continue;
        }
        let path = path.child(list);
        if kind == "Pod" && list.starts_with("default") {
            if has(list) {
                let detail = "may not be specified when `type` is 'Pod'";
                errors.push(Error::forbidden(&path, detail));
            }
            continue;
        }
        for (name, _) in tree::entries(item, list) {
            errors.extend(match kind {
                "Container" | "Pod" => resources::container_resource_name(name, &path.key(name)),
                _ => resources::resource_name(name, &path.key(name)),
            });
        }
    }
    errors
}

/// min ≤ defaultRequest ≤ default ≤ max, and the ratio, as far as they are given.
fn order(item: &Value, kind: &str, path: &Path) -> Vec<Error> {
    let lists: &[&str] = match kind {
        "Pod" => &["max", "min", "maxLimitRequestRatio"],
        _ => &["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"],
    };
    let keys = lists
        .iter()
        .flat_map(|list| tree::entries(item, list).map(|(name, _)| name));
    let keys: BTreeSet<&str> = keys.collect();
    let errors = keys.into_iter().flat_map(|name| order_of(item, lists, name, path));
    errors.collect()
}

fn order_of(item: &Value, lists: &[&str], name: &str, path: &Path) -> Vec<Error> {
    // The smaller and the larger list, where it is reported, and what they are called.
    const PAIRS: &[(&str, &str, &str, &str, &str)] = &[
        ("min", "max", "min", "min", "max"),
        ("min", "defaultRequest", "defaultRequest", "min", "default request"),
        ("defaultRequest", "max", "defaultRequest", "default request", "max"),
        (
            "defaultRequest",
            "default",
            "defaultRequest",
            "default request",
            "default limit",
        ),
        ("min", "default", "default", "min", "default"),
        ("default", "max", "default", "default", "max"),
    ];
    let amount = |list: &str| {
        let listed = lists.contains(&list).then(|| tree::map(item, list)).flatten();
        listed.and_then(|map| tree::quantity(map.get(name)?))
    };
    let mut errors = Vec::new();
    for (low, high, shown, low_name, high_name) in PAIRS {
        if let (Some(a), Some(b)) = (amount(low), amount(high))
            && a > b
        {
            let second = matches!((*low, *high), ("min", "defaultRequest") | ("default", "max"));
            let value = if second { &b } else { &a };
            let detail = format!("{low_name} value {a} is greater than {high_name} value {b}");
            errors.push(Error::invalid(&path.child(shown).key(name), value.to_string(), detail));
        }
    }
    let ratio_path = path.child("maxLimitRequestRatio").key(name);
    let Some(ratio) = amount("maxLimitRequestRatio") else {
        if amount("default").is_some() && amount("defaultRequest").is_some() {
            errors.extend(not_equal(name, amount("default"), amount("defaultRequest"), path));
        }
        return errors;
    };
    if ratio < Quantity::from_value(1, ratio.format()) {
        let detail = format!("ratio {ratio} is less than 1");
        errors.push(Error::invalid(&ratio_path, ratio.to_string(), detail));
    }
    if let (Some(min), Some(max)) = (amount("min"), amount("max"))
        && min.signum() != 0
    {
        let limit = max.to_f64() / min.to_f64();
        if ratio.to_f64() > limit {
            let detail = format!("ratio {ratio} is greater than max/min = {limit:.6}");
            errors.push(Error::invalid(&ratio_path, ratio.to_string(), detail));
        }
    }
    if amount("default").is_some() && amount("defaultRequest").is_some() {
        errors.extend(not_equal(name, amount("default"), amount("defaultRequest"), path));
    }
    errors
}

/// What cannot be overcommitted has one amount.
fn not_equal(name: &str, limit: Option<Quantity>, request: Option<Quantity>, path: &Path) -> Option<Error> {
    let (limit, request) = (limit?, request?);
    if resources::may_overcommit(name) || limit == request {
        return None;
    }
    let detail = format!("default value {limit} must equal to defaultRequest value {request} in {name}");
    let path = path.child("defaultRequest").key(name);
    Some(Error::invalid(&path, request.to_string(), detail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn faults_of_limits() {
        let check = |item: Value, want: &[&str]| {
            let errors = limits(&json!({"spec": {"limits": [item]}}));
            let got: Vec<String> = errors.iter().map(ToString::to_string).collect();
            assert_eq!(got, want);
        };
        check(
            json!({"type": "Container", "max": {"cpu": "2"}, "min": {"cpu": "1"}, "default": {"cpu": "2"}, "defaultRequest": {"cpu": "1"}}),
            &[],
        );
        check(
            json!({"type": "Container", "max": {"cpu": "1"}, "min": {"cpu": "2"}, "default": {"cpu": "3"}, "maxLimitRequestRatio": {"cpu": "500m"}}),
            &[
                "spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1",
                "spec.limits[0].default[cpu]: Invalid value: \"1\": default value 3 is greater than max value 1",
                "spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"500m\": ratio 500m is less than 1",
            ],
        );
        check(
            json!({"type": "Pod", "default": {"cpu": "1"}}),
            &["spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'"],
        );
        check(
            json!({"type": "PersistentVolumeClaim"}),
            &[
                "spec.limits[0].limits: Required value: either minimum or maximum storage value is required, but neither was provided",
            ],
        );
        check(
            json!({"type": "Odd"}),
            &["spec.limits[0].type: Invalid value: \"Odd\": must be a standard limit type or fully qualified"],
        );
    }
}
