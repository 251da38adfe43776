//! The group `storagemigration.k8s.io`: `storageversionmigrations`.

use api::field::{Error, Path};
use api::{Value, validate};
use apiserver::Kind;
use apiserver::kind::{Column, Subresource};

use crate::{cells, checks, parts, tree};

pub(crate) fn kind() -> Kind {
    Kind::cluster(
        "storagemigration.k8s.io",
        "v1",
        "StorageVersionMigration",
        "storageversionmigrations",
    )
    .validate(migration)
    .validate_update(|new, old| {
        let mut errors = migration(new);
        errors.extend(checks::immutable(new, old, "spec", &Path::new("spec")));
        errors
    })
    .subresource(
        Subresource::status()
            .prepare(|_, new, old| parts::status_only(new, old))
            .validate(status),
    )
    .table(
        vec![
            Column {
                format: "",
                ..Column::name()
            },
            Column::string("Resource", "Fully qualified resource to migrate"),
        ],
        |migration, _| {
            let (resource, group) = (
                tree::text(migration, "spec.resource.resource"),
                tree::text(migration, "spec.resource.group"),
            );
            let resource = if group.is_empty() {
                resource.to_owned()
            } else {
                format!("{resource}.{group}")
            };
            vec![cells::name(migration), resource.into()]
        },
    )
}

fn migration(migration: &Value) -> Vec<Error> {
    let path = Path::new("spec").child("resource");
    let mut errors = Vec::new();
    let (resource, group) = (
        tree::text(migration, "spec.resource.resource"),
        tree::text(migration, "spec.resource.group"),
    );
    if resource.is_empty() {
        errors.push(Error::required(
            &path.child("resource"),
            "resource is required to be set",
        ));
    } else {
        let messages = validate::dns1035_label(resource);
        if !messages.is_empty() {
            errors.push(Error::invalid(&path.child("resource"), resource, messages.join(",")));
        }
    }
    if !group.is_empty() {
        let messages = validate::dns1123_subdomain(group);
        if !messages.is_empty() {
            errors.push(Error::invalid(&path.child("group"), group, messages.join(",")));
        }
    }
    errors
}

fn status(new: &Value, old: &Value) -> Vec<Error> {
    let path = Path::new("status");
    let version_path = path.child("resourceVersion");
    let (version, before) = (
        tree::text(new, "status.resourceVersion"),
        tree::text(old, "status.resourceVersion"),
    );
    let mut errors = Vec::new();
    let digits = !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit());
    if !digits || (version.len() > 1 && version.starts_with('0')) {
        let detail = format!("resource version is not well formed: {}", api::field::go_quote(version));
        errors.push(Error::invalid(&version_path, version, detail));
    }
    let conditions = tree::list(new, "status.conditions");
    let conditions_path = path.child("conditions");
    errors.extend(validate::conditions(conditions, &conditions_path));
    if !before.is_empty() && before != version {
        errors.push(Error::invalid(&version_path, version, "field is immutable"));
    }
    let is = |object: &Value, kind: &str| {
        let mut list = tree::list(object, "status.conditions").iter();
        list.any(|condition| tree::text(condition, "type") == kind && tree::text(condition, "status") == "True")
    };
    let (succeeded, failed, running) = (is(new, "Succeeded"), is(new, "Failed"), is(new, "Running"));
    let faults = [
        (
            succeeded && failed,
            "Both success and failed conditions cannot be true at the same time",
        ),
        (
            succeeded && running,
            "Running condition cannot be true when success condition is true",
        ),
        (
            failed && running,
            "Running condition cannot be true when failed condition is true",
        ),
        (
            is(old, "Succeeded") && !succeeded,
            "Success condition cannot be set to false once it is true",
        ),
        (
            is(old, "Failed") && !failed,
            "Failed condition cannot be set to false once it is true",
        ),
    ];
    for (_, detail) in faults.into_iter().filter(|(is_fault, _)| *is_fault) {
        errors.push(Error::invalid(&conditions_path, conditions.to_vec(), detail));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn migrations_end_once() {
        assert_eq!(migration(&json!({"spec": {"resource": {"resource": "pods"}}})), []);
        assert_eq!(migration(&json!({"spec": {"resource": {"group": "A"}}})).len(), 2);
        let done = |kind: &str| {
            json!({"status": {"resourceVersion": "5", "conditions": [
                {"type": kind, "status": "True", "reason": "R", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}})
        };
        assert_eq!(status(&done("Succeeded"), &json!({})), []);
        let fields: Vec<String> = status(&done("Failed"), &done("Succeeded"))
            .into_iter()
            .map(|e| e.field)
            .collect();
        assert_eq!(fields, ["status.conditions"]);
        let mut other = done("Running");
        other["status"]["resourceVersion"] = "6".into();
        let fields: Vec<String> = status(&other, &done("Running")).into_iter().map(|e| e.field).collect();
        assert_eq!(fields, ["status.resourceVersion"]);
    }
}
