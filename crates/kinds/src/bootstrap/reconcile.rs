//! What to change in a role or binding of the default policy that is already there
//! (`pkg/registry/rbac/reconciliation`).
//!
//! Only what is missing is added. An object whose annotation says so is left alone.

use api::{Value, meta};

use crate::tree;

const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// The role with the rules, labels and annotations that it lacks; `None` if it lacks nothing or
/// is not to be changed. Rules of aggregated roles are their controller's.
pub fn reconcile_role(existing: &Value, expected: &Value) -> Option<Value> {
    let mut role = existing.clone();
    let mut changed = add_metadata(&mut role, expected)?;
    if tree::at(expected, "aggregationRule").is_some() {
        if tree::at(existing, "aggregationRule").is_none() {
            tree::set(&mut role, "aggregationRule", expected["aggregationRule"].clone());
            changed = true;
        }
    } else {
        changed |= add_missing(&mut role, expected, "rules");
    }
    changed.then_some(role)
}

/// The binding with the subjects, labels and annotations that it lacks; `None` if it lacks nothing
/// or is not to be changed. A binding to another role is left alone: it cannot be changed.
pub fn reconcile_binding(existing: &Value, expected: &Value) -> Option<Value> {
    if existing.get("roleRef") != expected.get("roleRef") {
        return None;
    }
    let mut binding = existing.clone();
    let mut changed = add_metadata(&mut binding, expected)?;
    changed |= add_missing(&mut binding, expected, "subjects");
    changed.then_some(binding)
}

fn add_metadata(object: &mut Value, expected: &Value) -> Option<bool> {
    if meta::annotation(object, AUTOUPDATE) == Some("false") {
        return None;
    }
    let mut changed = false;
    for (key, value) in meta::labels(expected) {
        if meta::label(object, &key) != Some(value.as_str()) {
            meta::set_label(object, &key, &value);
            changed = true;
        }
    }
    for (key, value) in meta::annotations(expected) {
        if meta::annotation(object, &key).is_none() {
            meta::set_annotation(object, &key, &value);
            changed = true;
        }
    }
    Some(changed)
}

fn add_missing(object: &mut Value, expected: &Value, field: &str) -> bool {
    let mut items = tree::list(object, field).to_vec();
    let missing: Vec<Value> = tree::list(expected, field)
        .iter()
        .filter(|item| !items.contains(item))
        .cloned()
        .collect();
    if missing.is_empty() {
        return false;
    }
    items.extend(missing);
    tree::set(object, field, items);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap;
    use serde_json::json;

    #[test]
    fn what_is_missing_comes_back_and_nothing_else_changes() {
        let expected = bootstrap::cluster_roles().swap_remove(0);
        assert_eq!(reconcile_role(&expected, &expected), None);
        let mut existing = expected.clone();
        let own = json!({"verbs": ["get"], "apiGroups": ["x"], "resources": ["y"]});
        existing["rules"] = json!([own]);
        let fixed = reconcile_role(&existing, &expected).unwrap();
        let rules = fixed["rules"].as_array().unwrap();
        assert_eq!(rules[0], own);
        assert_eq!(rules.len(), expected["rules"].as_array().unwrap().len() + 1);
        assert_eq!(reconcile_role(&fixed, &expected), None);
        existing["metadata"]["annotations"][AUTOUPDATE] = "false".into();
        assert_eq!(reconcile_role(&existing, &expected), None);
    }

    #[test]
    fn bindings_keep_their_role() {
        let expected = bootstrap::cluster_role_bindings().swap_remove(0);
        let mut existing = expected.clone();
        existing["subjects"] = json!([]);
        assert_eq!(
            reconcile_binding(&existing, &expected).unwrap()["subjects"],
            expected["subjects"]
        );
        existing["roleRef"]["name"] = "other".into();
        assert_eq!(reconcile_binding(&existing, &expected), None);
    }
}
