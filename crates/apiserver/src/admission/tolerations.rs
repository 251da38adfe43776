//! Lists of tolerations (`pkg/util/tolerations`).

use api::Value;

/// A toleration's fields.
#[derive(PartialEq)]
struct Toleration<'v> {
    key: &'v str,
    operator: &'v str,
    value: &'v str,
    effect: &'v str,
    seconds: Option<i64>,
}

impl<'v> Toleration<'v> {
    fn of(value: &'v Value) -> Toleration<'v> {
        let text = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or("");
        Toleration {
            key: text("key"),
            operator: text("operator"),
            value: text("value"),
            effect: text("effect"),
            seconds: value.get("tolerationSeconds").and_then(Value::as_i64),
        }
    }

    /// Whether it tolerates all that the other does.
    fn covers(&self, other: &Toleration<'_>) -> bool {
        if self == other {
            return true;
        }
        let any_key = self.key.is_empty() && self.operator == "Exists";
        if other.key != self.key && !any_key {
            return false;
        }
        if other.effect != self.effect && !self.effect.is_empty() {
            return false;
        }
        if self.effect == "NoExecute"
            && let Some(most) = self.seconds
            && other.seconds.is_none_or(|seconds| seconds > most)
        {
            return false;
        }
        match self.operator {
            "" | "Equal" => other.operator == "Equal" && other.value == self.value,
            operator => operator == "Exists",
        }
    }
}

/// One list of both, without what another covers.
pub(super) fn merge(first: &[Value], second: &[Value]) -> Vec<Value> {
    let all: Vec<&Value> = first.iter().chain(second).collect();
    let mut merged: Vec<Value> = Vec::new();
    for (at, value) in all.iter().enumerate() {
        let toleration = Toleration::of(value);
        let before = merged.iter().any(|kept| Toleration::of(kept).covers(&toleration));
        // Of equal ones the first stays.
        let after = all[at + 1..].iter().any(|later| {
            let later = Toleration::of(later);
            later != toleration && later.covers(&toleration)
        });
        if !before && !after {
            merged.push((*value).clone());
        }
    }
    merged
}

/// Whether each is covered by one of those that are allowed; no list of those allows all.
pub(super) fn are_allowed(tolerations: &[Value], allowed: &[Value]) -> bool {
    allowed.is_empty()
        || tolerations.iter().all(|toleration| {
            let toleration = Toleration::of(toleration);
            allowed
                .iter()
                .any(|allowed| Toleration::of(allowed).covers(&toleration))
        })
}

/// A pod's tolerations.
pub(super) fn of_pod(pod: &Value) -> &[Value] {
    let list = crate::kind::value_at(pod, "spec.tolerations").and_then(Value::as_array);
    list.map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn list(value: Value) -> Vec<Value> {
        value.as_array().unwrap().clone()
    }

    /// Of upstream's `tolerations_test.go`.
    #[test]
    fn the_wider_one_stays() {
        let all = json!({"operator": "Exists"});
        let exists = json!({"key": "a", "operator": "Exists", "effect": "NoExecute"});
        let brief =
            json!({"key": "a", "operator": "Equal", "value": "b", "effect": "NoExecute", "tolerationSeconds": 5});
        let other = json!({"key": "c", "operator": "Equal", "value": "d"});
        assert_eq!(
            merge(&list(json!([brief])), &list(json!([exists, other]))),
            [exists.clone(), other.clone()]
        );
        assert_eq!(
            merge(&list(json!([exists, brief])), &list(json!([all]))),
            std::slice::from_ref(&all)
        );
        assert_eq!(
            merge(&list(json!([other])), &list(json!([other]))),
            std::slice::from_ref(&other)
        );
        let one = std::slice::from_ref;
        assert!(are_allowed(one(&brief), one(&exists)));
        assert!(!are_allowed(one(&exists), one(&brief)));
        assert!(are_allowed(one(&exists), &[]));
        assert!(!are_allowed(one(&all), one(&other)));
    }
}
