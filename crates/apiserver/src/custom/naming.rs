//! Who gets which names, and the conditions of a definition (`controller/{status,establish,
//! nonstructuralschema,apiapproval}`). Pure: definitions in, status out.

use std::collections::BTreeSet;

use api::field::{Path, aggregate, go_quote};
use api::{Value, meta};
use schema::structural::check;
use serde_json::json;

use super::definition::versions;

/// What makes an upstream group of its own need approval.
const APPROVED: &str = "api-approved.kubernetes.io";

/// A condition of a definition.
pub(super) fn condition<'v>(definition: &'v Value, ty: &str) -> Option<&'v Value> {
    let conditions = definition["status"]["conditions"].as_array()?;
    conditions.iter().find(|c| c["type"] == ty)
}

/// Whether a condition is true.
pub(super) fn is_true(definition: &Value, ty: &str) -> bool {
    condition(definition, ty).is_some_and(|c| c["status"] == "True")
}

/// Sets a condition; the time moves only with its status.
pub(super) fn set_condition(definition: &mut Value, ty: &str, status: &str, reason: &str, message: &str, now: &str) {
    let mut new = json!({"type": ty, "status": status, "lastTransitionTime": now, "reason": reason,
        "message": message});
    let generation = meta::generation(definition);
    if generation > 0 {
        new["observedGeneration"] = generation.into();
    }
    let conditions = &mut definition["status"]["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Some(list) = conditions.as_array_mut() else { return };
    match list.iter_mut().find(|c| c["type"] == ty) {
        Some(old) => {
            if old["status"] == status {
                new["lastTransitionTime"] = old["lastTransitionTime"].clone();
            }
            let same = |field: &str| old[field] == new[field];
            if !(same("status") && same("reason") && same("message")) {
                *old = new;
            }
        }
        None => list.push(new),
    }
}

/// Names that the other definitions of a group have.
#[derive(Default)]
pub(super) struct Taken {
    resources: BTreeSet<String>,
    kinds: BTreeSet<String>,
}

impl Taken {
    /// Adds the accepted names of a definition.
    pub fn add(&mut self, names: &Value) {
        let text = |field: &str| names[field].as_str().map(str::to_owned);
        self.resources
            .extend([text("plural"), text("singular")].into_iter().flatten());
        let short = names["shortNames"].as_array().into_iter().flatten();
        self.resources
            .extend(short.filter_map(|v| v.as_str().map(str::to_owned)));
        self.kinds
            .extend([text("kind"), text("listKind")].into_iter().flatten());
    }
}

/// The definition with the status that it should have, all but what its deletion says.
pub(super) fn settle(definition: &Value, taken: &Taken, now: &str) -> Value {
    let mut new = definition.clone();
    names(&mut new, taken, now);
    structural(&mut new, now);
    approval(&mut new, now);
    new
}

fn names(definition: &mut Value, taken: &Taken, now: &str) {
    let wanted = definition["spec"]["names"].clone();
    let accepted = definition["status"]["acceptedNames"].clone();
    let mut granted = if accepted.is_object() {
        accepted.clone()
    } else {
        json!({})
    };
    let mut conflict: Option<(&str, String)> = None;
    let fields = [
        ("plural", "PluralConflict", &taken.resources),
        ("singular", "SingularConflict", &taken.resources),
        ("shortNames", "ShortNamesConflict", &taken.resources),
        ("kind", "KindConflict", &taken.kinds),
        ("listKind", "ListKindConflict", &taken.kinds),
    ];
    for (field, reason, used) in fields {
        let free = |name: &str, mine: bool| mine || !used.contains(name);
        let problem = match &wanted[field] {
            Value::String(name) => {
                let ok = free(name, accepted[field] == **name);
                (!ok).then(|| format!("{} is already in use", go_quote(name)))
            }
            Value::Array(names) => {
                let mine = accepted[field].as_array();
                let clashes: Vec<String> = names
                    .iter()
                    .filter_map(Value::as_str)
                    .filter(|name| !free(name, mine.is_some_and(|m| m.iter().any(|v| v == name))))
                    .map(|name| format!("{} is already in use", go_quote(name)))
                    .collect();
                match clashes.as_slice() {
                    [] => None,
                    [one] => Some(one.clone()),
                    many => Some(format!("[{}]", many.join(", "))),
                }
            }
            _ => None,
        };
        match problem {
            Some(message) => conflict = Some((reason, message)),
            None => copy(&mut granted, &wanted, field),
        }
    }
    copy(&mut granted, &wanted, "categories");
    definition["status"]["acceptedNames"] = granted;
    match &conflict {
        Some((reason, message)) => set_condition(definition, "NamesAccepted", "False", reason, message, now),
        None => {
            let message = "no conflicts found";
            set_condition(definition, "NamesAccepted", "True", "NoConflicts", message, now);
        }
    }
    if is_true(definition, "Established") {
        return;
    }
    if conflict.is_none() {
        let message = "the initial names have been accepted";
        set_condition(definition, "Established", "True", "InitialNamesAccepted", message, now);
    } else if condition(definition, "Established").is_none() {
        let message = "not all names are accepted";
        set_condition(definition, "Established", "False", "NotAccepted", message, now);
    }
}

fn copy(to: &mut Value, from: &Value, field: &str) {
    let Some(map) = to.as_object_mut() else { return };
    match from.get(field) {
        Some(value) => drop(map.insert(field.to_owned(), value.clone())),
        None => drop(map.remove(field)),
    }
}

fn remove_condition(definition: &mut Value, ty: &str) {
    if let Some(list) = definition["status"]["conditions"].as_array_mut() {
        list.retain(|c| c["type"] != ty);
    }
}

/// Schemas from before structural ones were demanded.
fn structural(definition: &mut Value, now: &str) {
    let mut errors = Vec::new();
    let spec = Path::new("spec");
    if definition["spec"]["preserveUnknownFields"] == Value::Bool(true) {
        let path = spec.child("preserveUnknownFields");
        errors.push(api::field::Error::invalid(&path, true, "must be false"));
    }
    for (i, version) in versions(definition).enumerate() {
        let schema = &version["schema"]["openAPIV3Schema"];
        if schema.is_object() {
            let path = spec.child("versions").index(i).child("schema").child("openAPIV3Schema");
            errors.extend(check::structural_errors(schema, &path));
        }
    }
    if errors.is_empty() {
        return remove_condition(definition, "NonStructuralSchema");
    }
    let message = aggregate(&errors);
    set_condition(definition, "NonStructuralSchema", "True", "Violations", &message, now);
}

/// What the approval annotation of a definition says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Approval {
    Missing,
    Bypassed,
    Given,
    Invalid,
}

fn approval_of(definition: &Value) -> Option<(Approval, String)> {
    let group = definition["spec"]["group"].as_str().unwrap_or_default();
    let guarded = |suffix: &str| group == suffix || group.ends_with(&format!(".{suffix}"));
    if !guarded("k8s.io") && !guarded("kubernetes.io") {
        return None;
    }
    let see = "see https://github.com/kubernetes/enhancements/pull/1111";
    let quoted = go_quote(APPROVED);
    Some(match meta::annotation(definition, APPROVED) {
        None | Some("") => (
            Approval::Missing,
            format!("protected groups must have approval annotation {quoted}, {see}"),
        ),
        Some(text) if text.starts_with("unapproved") => {
            (Approval::Bypassed, format!("not approved: {}", go_quote(text)))
        }
        Some(text)
            if text
                .parse::<http::Uri>()
                .is_ok_and(|u| u.scheme().is_some() && u.host().is_some()) =>
        {
            (Approval::Given, format!("approved in {text}"))
        }
        Some(_) => (
            Approval::Invalid,
            format!(
                "protected groups must have approval annotation {quoted} with either a URL or a reason starting with \"unapproved\", {see}"
            ),
        ),
    })
}

fn approval(definition: &mut Value, now: &str) {
    let Some((approval, message)) = approval_of(definition) else {
        return;
    };
    let (status, reason) = match approval {
        Approval::Invalid => ("False", "InvalidAnnotation"),
        Approval::Missing => ("False", "MissingAnnotation"),
        Approval::Given => ("True", "ApprovedAnnotation"),
        Approval::Bypassed => ("False", "UnapprovedAnnotation"),
    };
    let ty = "KubernetesAPIApprovalPolicyConformant";
    set_condition(definition, ty, status, reason, &message, now);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(plural: &str, kind: &str) -> Value {
        json!({"metadata": {"name": format!("{plural}.g.io")}, "spec": {"group": "g.io", "names":
            {"plural": plural, "singular": kind.to_lowercase(), "kind": kind, "listKind": format!("{kind}List"),
             "shortNames": ["x"], "categories": ["all"]}, "versions": []}})
    }

    #[test]
    fn free_names_are_granted_and_the_second_run_changes_nothing() {
        let new = settle(&definition("as", "A"), &Taken::default(), "t");
        assert!(is_true(&new, "NamesAccepted") && is_true(&new, "Established"));
        assert_eq!(new["status"]["acceptedNames"], new["spec"]["names"]);
        assert_eq!(settle(&new, &Taken::default(), "later"), new);
    }

    #[test]
    fn taken_names_are_not() {
        let mut taken = Taken::default();
        taken.add(&json!({"plural": "bs", "singular": "a", "kind": "B", "listKind": "BList"}));
        let new = settle(&definition("as", "A"), &taken, "t");
        let names = condition(&new, "NamesAccepted").unwrap();
        assert_eq!(
            (&names["reason"], &names["message"]),
            (&json!("SingularConflict"), &json!("\"a\" is already in use"))
        );
        assert_eq!(condition(&new, "Established").unwrap()["reason"], "NotAccepted");
        assert!(new["status"]["acceptedNames"].get("singular").is_none());
        assert_eq!(new["status"]["acceptedNames"]["plural"], "as");
    }

    #[test]
    fn groups_of_the_project_need_approval() {
        let mut definition = definition("as", "A");
        definition["spec"]["group"] = "x.k8s.io".into();
        let new = settle(&definition, &Taken::default(), "t");
        let found = condition(&new, "KubernetesAPIApprovalPolicyConformant").unwrap();
        assert_eq!(found["reason"], "MissingAnnotation");
        definition["metadata"]["annotations"] = json!({APPROVED: "https://github.com/x"});
        let new = settle(&definition, &Taken::default(), "t");
        assert!(is_true(&new, "KubernetesAPIApprovalPolicyConformant"));
    }
}
