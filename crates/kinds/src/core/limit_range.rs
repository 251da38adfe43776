//! `limitranges`. Upstream has no columns of its own for them.

use api::field::{Error, Path};
use api::{Map, Value};
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
        errors.extend(checks::qualified_name(kind, &path.child("type")));
        if !kind.contains('/') && !matches!(kind, "Pod" | "Container" | "PersistentVolumeClaim") {
            let detail = "must be a standard limit type or fully qualified";
            errors.push(Error::invalid(&path.child("type"), kind, detail));
        }
        if items[..index].iter().any(|other| tree::text(other, "type") == kind) {
            errors.push(Error::duplicate(&path.child("type"), kind));
        }
        for list in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
            for (name, _) in tree::entries(item, list) {
                let path = path.child(list).key(name);
                errors.extend(match kind {
                    "Container" | "Pod" => resources::container_resource_name(name, &path),
                    _ => resources::resource_name(name, &path),
                });
                if kind == "Pod" && list.starts_with("default") {
                    let detail = "may not be specified when `type` is 'Pod'";
                    errors.push(Error::forbidden(&path, detail));
                }
            }
        }
        errors.extend(order(item, &path));
    }
    errors
}

/// min ≤ defaultRequest ≤ default ≤ max, as far as they are given.
fn order(item: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let amount = |list: &str, name: &str| tree::quantity(tree::map(item, list)?.get(name)?);
    let pairs = [
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
    for (low, high, shown, low_name, high_name) in pairs {
        for (name, _) in tree::entries(item, low) {
            if let (Some(a), Some(b)) = (amount(low, name), amount(high, name))
                && a > b
            {
                let path = path.child(shown).key(name);
                let detail = format!("{low_name} value {a} is greater than {high_name} value {b}");
                errors.push(Error::invalid(&path, a.to_string(), detail));
            }
        }
    }
    errors
}
