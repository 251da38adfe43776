//! The group `rbac.authorization.k8s.io`. Names are anything that can be a path segment; who may
//! grant what (escalation) is the API server's business, since it needs the other roles.

pub mod cluster_role;
pub mod cluster_role_binding;
pub mod role;
pub mod role_binding;

use api::field::{Error, Path};
use api::{Value, validate};
use apiserver::kind::Column;
use jiff::Timestamp;

use crate::{cells, checks, tree};

/// The group's name, which references repeat.
pub const GROUP: &str = "rbac.authorization.k8s.io";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    Namespaced,
    Cluster,
}

fn rules(role: &Value, scope: Scope) -> Vec<Error> {
    let mut errors = Vec::new();
    for (index, rule) in tree::list(role, "rules").iter().enumerate() {
        errors.extend(self::rule(rule, scope, &Path::new("rules").index(index)));
    }
    errors
}

fn rule(rule: &Value, scope: Scope, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let has = |field| !tree::list(rule, field).is_empty();
    if !has("verbs") {
        errors.push(Error::required(
            &path.child("verbs"),
            "verbs must contain at least one value",
        ));
    }
    let urls = tree::strings(rule, "nonResourceURLs");
    if !urls.is_empty() {
        let path = path.child("nonResourceURLs");
        if scope == Scope::Namespaced {
            let detail = "namespaced rules cannot apply to non-resource URLs";
            errors.push(Error::invalid(&path, urls.clone(), detail));
        }
        if has("apiGroups") || has("resources") || has("resourceNames") {
            let detail = "rules cannot apply to both regular resources and non-resource URLs";
            errors.push(Error::invalid(&path, urls, detail));
        }
        return errors;
    }
    if !has("apiGroups") {
        let detail = "resource rules must supply at least one api group";
        errors.push(Error::required(&path.child("apiGroups"), detail));
    }
    if !has("resources") {
        let detail = "resource rules must supply at least one resource";
        errors.push(Error::required(&path.child("resources"), detail));
    }
    errors
}

/// Defaults of a binding: the group of its role and of its users and groups.
fn default_binding(binding: &mut Value) {
    tree::fill(tree::child(binding, "roleRef"), "apiGroup", GROUP);
    for subject in tree::items_mut(binding, "subjects") {
        if matches!(tree::text(subject, "kind"), "User" | "Group") {
            tree::fill(subject, "apiGroup", GROUP);
        }
    }
}

fn binding(binding: &Value, scope: Scope) -> Vec<Error> {
    let path = Path::new("roleRef");
    let mut errors = Vec::new();
    let group = tree::text(binding, "roleRef.apiGroup");
    if group != GROUP {
        errors.push(Error::not_supported(&path.child("apiGroup"), group, &[GROUP]));
    }
    let known: &[&str] = match scope {
        Scope::Namespaced => &["Role", "ClusterRole"],
        Scope::Cluster => &["ClusterRole"],
    };
    let kind = tree::text(binding, "roleRef.kind");
    if !known.contains(&kind) {
        errors.push(Error::not_supported(&path.child("kind"), kind, known));
    }
    match tree::text(binding, "roleRef.name") {
        "" => errors.push(Error::required(&path.child("name"), "")),
        name => errors.extend(checks::invalid_each(
            &path.child("name"),
            name,
            validate::path_segment_name(name),
        )),
    }
    for (index, item) in tree::list(binding, "subjects").iter().enumerate() {
        errors.extend(subject(item, scope, &Path::new("subjects").index(index)));
    }
    errors
}

fn subject(subject: &Value, scope: Scope, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let text = |field| tree::text(subject, field);
    let (name, group) = (text("name"), text("apiGroup"));
    if name.is_empty() {
        errors.push(Error::required(&path.child("name"), ""));
    }
    match text("kind") {
        "ServiceAccount" => {
            if !name.is_empty() {
                errors.extend(checks::dns_subdomain(name, &path.child("name")));
            }
            if !group.is_empty() {
                errors.push(Error::not_supported(&path.child("apiGroup"), group, &[""]));
            }
            if scope == Scope::Cluster && text("namespace").is_empty() {
                errors.push(Error::required(&path.child("namespace"), ""));
            }
        }
        "User" | "Group" => {
            if group != GROUP {
                errors.push(Error::not_supported(&path.child("apiGroup"), group, &[GROUP]));
            }
        }
        other => {
            let known = &["ServiceAccount", "User", "Group"];
            errors.push(Error::not_supported(&path.child("kind"), other, known));
        }
    }
    errors
}

/// A binding keeps its role; whoever wants another makes another binding.
fn role_is_kept(new: &Value, old: &Value) -> Vec<Error> {
    if new.get("roleRef") == old.get("roleRef") {
        return Vec::new();
    }
    let role = new.get("roleRef").cloned().unwrap_or_default();
    let shown = checks::go_struct(&role, &["APIGroup=apiGroup", "Kind=kind", "Name=name"]);
    vec![Error::invalid(&Path::new("roleRef"), role, "cannot change roleRef").showing(shown)]
}

fn binding_columns() -> Vec<Column> {
    vec![
        Column::name(),
        Column::string("Role", "The role that is granted."),
        Column::age(),
        Column::string("Users", "Users who have it.").wide(),
        Column::string("Groups", "Groups that have it.").wide(),
        Column::string("ServiceAccounts", "Service accounts that have it.").wide(),
    ]
}

fn binding_row(binding: &Value, now: Timestamp) -> Vec<Value> {
    let role = format!(
        "{}/{}",
        tree::text(binding, "roleRef.kind"),
        tree::text(binding, "roleRef.name")
    );
    let names = |kind: &str| {
        let subjects = tree::list(binding, "subjects")
            .iter()
            .filter(|subject| tree::text(subject, "kind") == kind);
        let names = subjects.map(|subject| match (kind, tree::text(subject, "namespace")) {
            ("ServiceAccount", namespace) if !namespace.is_empty() => {
                format!("{namespace}/{}", tree::text(subject, "name"))
            }
            ("ServiceAccount", _) => format!("/{}", tree::text(subject, "name")),
            _ => tree::text(subject, "name").to_owned(),
        });
        Value::from(names.collect::<Vec<_>>().join(", "))
    };
    vec![
        cells::name(binding),
        role.into(),
        cells::age(binding, now),
        names("User"),
        names("Group"),
        names("ServiceAccount"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(errors: Vec<Error>) -> Vec<String> {
        errors.into_iter().map(|error| error.field).collect()
    }

    #[test]
    fn rules_are_about_resources_or_urls() {
        let role = json!({"rules": [
            {},
            {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]},
            {"verbs": ["get"], "nonResourceURLs": ["/x"]},
            {"verbs": ["get"], "nonResourceURLs": ["/x"], "resources": ["pods"]},
        ]});
        assert_eq!(
            fields(rules(&role, Scope::Cluster)),
            [
                "rules[0].verbs",
                "rules[0].apiGroups",
                "rules[0].resources",
                "rules[3].nonResourceURLs"
            ]
        );
        assert_eq!(fields(rules(&role, Scope::Namespaced)).len(), 6);
    }

    #[test]
    fn bindings_name_roles_and_subjects() {
        let mut object = json!({"roleRef": {"kind": "Role", "name": "a/b"}, "subjects": [
            {"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "S"}, {"kind": "Robot"}]});
        default_binding(&mut object);
        assert_eq!(object["subjects"][0]["apiGroup"], GROUP);
        assert_eq!(
            fields(binding(&object, Scope::Cluster)),
            [
                "roleRef.kind",
                "roleRef.name",
                "subjects[1].name",
                "subjects[1].namespace",
                "subjects[2].name",
                "subjects[2].kind"
            ]
        );
        let row = binding_row(&object, Timestamp::UNIX_EPOCH);
        assert_eq!(
            (&row[1], &row[3], &row[5]),
            (&json!("Role/a/b"), &json!("u"), &json!("/S"))
        );
        let mut other = object.clone();
        other["roleRef"]["name"] = json!("x");
        let texts: Vec<String> = role_is_kept(&other, &object).iter().map(Error::to_string).collect();
        let want = r#"roleRef: Invalid value: {"APIGroup":"rbac.authorization.k8s.io","Kind":"Role","Name":"x"}: cannot change roleRef"#;
        assert_eq!(texts, [want]);
    }
}
