//! Taints of devices, and tolerations of them.

use api::field::{Error, Path};
use api::{Value, validate};

use crate::{checks, tree};

const EFFECTS: &[&str] = &["NoExecute", "NoSchedule", "None"];

/// A taint; `old` is the stored one, whose effect is not looked at again.
pub(super) fn taint(taint: &Value, old: Option<&Value>, path: &Path) -> Vec<Error> {
    let mut errors = validate::label_name(tree::text(taint, "key"), &path.child("key"));
    errors.extend(value(taint, path));
    let effect = tree::text(taint, "effect");
    if old.is_none_or(|old| tree::text(old, "effect") != effect) {
        errors.extend(checks::one_of(effect, EFFECTS, &path.child("effect")));
    }
    errors
}

fn value(holder: &Value, path: &Path) -> Vec<Error> {
    let value = tree::text(holder, "value");
    checks::invalid_each(&path.child("value"), value, validate::label_value(value))
}

/// A toleration of taints.
pub(super) fn toleration(toleration: &Value, path: &Path) -> Vec<Error> {
    let key = tree::text(toleration, "key");
    let mut errors = Vec::new();
    if !key.is_empty() {
        errors.extend(validate::label_name(key, &path.child("key")));
    }
    match tree::text(toleration, "operator") {
        "Exists" => {
            let value = tree::text(toleration, "value");
            if !value.is_empty() {
                let detail = "must be empty for operator `Exists`";
                errors.push(Error::invalid(&path.child("value"), value, detail));
            }
        }
        "Equal" => errors.extend(value(toleration, path)),
        operator => errors.extend(checks::one_of(operator, &["Equal", "Exists"], &path.child("operator"))),
    }
    let effect = tree::text(toleration, "effect");
    if !effect.is_empty() && !EFFECTS.contains(&effect) {
        errors.push(Error::not_supported(&path.child("effect"), effect, EFFECTS));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn taints_and_tolerations() {
        let path = Path::new("t");
        assert_eq!(taint(&json!({"key": "a", "effect": "NoSchedule"}), None, &path), []);
        assert_eq!(taint(&json!({"value": "a b", "effect": "Odd"}), None, &path).len(), 4);
        let odd = json!({"key": "a", "effect": "Odd"});
        assert_eq!(taint(&odd, Some(&odd), &path), []);
        assert_eq!(toleration(&json!({"operator": "Exists"}), &path), []);
        let bad = json!({"key": "a b", "operator": "Exists", "value": "x", "effect": "Odd"});
        assert_eq!(toleration(&bad, &path).len(), 3);
    }
}
