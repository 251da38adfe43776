//! `persistentvolumeclaims`.

use api::field::{Error, Path};
use api::{Value, meta, validate};
use apiserver::Kind;
use apiserver::kind::{Column, SelectableField, Subresource};
use serde_json::json;

use super::persistent_volume::{access_modes, class, class_annotation, modes_text};
use crate::pod_spec::{defaults, resources, warnings};
use crate::{cells, checks, tree};

pub(crate) fn kind() -> Kind {
    Kind::namespaced("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims")
        .short_names(&["pvc"])
        .returns_deleted_object()
        .default(defaults)
        .prepare_create(|_, claim| {
            drop_disabled(claim, None);
            mirror_data_source(claim);
            tree::set(claim, "status", json!({"phase": "Pending"}));
        })
        .prepare_update(|_, claim, old| {
            drop_disabled(claim, Some(old));
            mirror_data_source(claim);
        })
        .warnings(|new, _| {
            let mut all: Vec<String> = class_annotation(new).into_iter().collect();
            let spec = tree::at(new, "spec").unwrap_or(&Value::Null);
            all.extend(warnings::claim_spec(spec, &Path::new("spec")));
            all
        })
        .validate(|claim| spec(tree::at(claim, "spec").unwrap_or(&Value::Null), &Path::new("spec")))
        .validate_update(|new, old| {
            let mut errors = spec(tree::at(new, "spec").unwrap_or(&Value::Null), &Path::new("spec"));
            errors.extend(changes(new, old));
            errors
        })
        .subresource(Subresource::status().validate(|new, _| status(new)))
        .selectable(SelectableField::new("name", |claim| meta::name(claim).to_owned()))
        .table(
            vec![
                Column::name(),
                Column::string("Status", "Whether the claim has its volume."),
                Column::string("Volume", "The volume it is bound to."),
                Column::string("Capacity", "Size of the volume."),
                Column::string("Access Modes", "How the volume may be mounted."),
                Column::string("StorageClass", "The class it asks for."),
                Column::string("VolumeAttributesClass", "The attributes class it asks for."),
                Column::age(),
                Column::string("VolumeMode", "File system or block device.").wide(),
            ],
            |claim, now| {
                let deleting = meta::is_deleting(claim);
                let bound = !tree::text(claim, "spec.volumeName").is_empty();
                let capacity = tree::map(claim, "status.capacity").and_then(|list| list.get("storage"));
                let if_bound = |text: String| if bound { text } else { String::new() };
                vec![
                    cells::name(claim),
                    if deleting {
                        "Terminating".into()
                    } else {
                        tree::text(claim, "status.phase").into()
                    },
                    tree::text(claim, "spec.volumeName").into(),
                    if_bound(capacity.and_then(Value::as_str).unwrap_or("0").to_owned()).into(),
                    if_bound(modes_text(claim, "status.accessModes")).into(),
                    class(claim).into(),
                    cells::or(tree::text(claim, "spec.volumeAttributesClassName"), "<unset>"),
                    cells::age(claim, now),
                    cells::or(tree::text(claim, "spec.volumeMode"), "<unset>"),
                ]
            },
        )
}

/// Defaults of claims, and of claim templates in stateful sets.
pub fn defaults(claim: &mut Value) {
    tree::fill(tree::child(claim, "status"), "phase", "Pending");
    let spec = tree::child(claim, "spec");
    tree::fill_absent(spec, "volumeMode", "Filesystem");
    if let Some(resources) = tree::at_mut(spec, "resources") {
        defaults::round_up(resources, "limits");
        defaults::round_up(resources, "requests");
    }
}

/// `dataSource` and `dataSourceRef` say the same; each is filled from the other, except for a
/// source in another namespace.
fn mirror_data_source(claim: &mut Value) {
    let spec = tree::child(claim, "spec");
    let source = tree::at(spec, "dataSource").cloned();
    let reference = tree::at(spec, "dataSourceRef").cloned();
    match (source, reference) {
        (Some(source), None) => tree::set(spec, "dataSourceRef", source),
        (None, Some(reference)) if tree::text(&reference, "namespace").is_empty() => {
            tree::set(spec, "dataSource", reference);
        }
        _ => {}
    }
}

/// Fields that are off by default or that no claim has (`DropDisabledFields` and
/// `EnforceDataSourceBackwardsCompatibility`).
fn drop_disabled(claim: &mut Value, old: Option<&Value>) {
    let had = |field: &str| old.is_some_and(|old| tree::at(old, field).is_some());
    let had_reference = had("spec.dataSourceRef");
    let had_source = had("spec.dataSource") || had_reference;
    let spec = tree::child(claim, "spec");
    if !tree::text(spec, "dataSourceRef.namespace").is_empty() && !had_reference {
        tree::unset(spec, "dataSourceRef");
    }
    if let Some(resources) = tree::at_mut(spec, "resources") {
        tree::unset(resources, "claims");
    }
    let group_and_kind = (
        tree::text(spec, "dataSource.apiGroup"),
        tree::text(spec, "dataSource.kind"),
    );
    let known = matches!(
        group_and_kind,
        ("", "PersistentVolumeClaim") | ("snapshot.storage.k8s.io", "VolumeSnapshot")
    );
    if !had_source && tree::at(spec, "dataSourceRef").is_none() && !known {
        tree::unset(spec, "dataSource");
    }
}

/// What the expansion of a claim says (`ValidatePersistentVolumeClaimStatusUpdate`).
fn status(claim: &Value) -> Vec<Error> {
    let path = Path::new("status");
    let mut errors = Vec::new();
    if tree::list(claim, "spec.accessModes").is_empty() {
        errors.push(Error::required(&Path::new("Spec").child("accessModes"), ""));
    }
    let basic = |value: &Value, path: &Path| match tree::quantity(value) {
        Some(amount) if amount.signum() < 0 => {
            let detail = "must be a valid resource quantity";
            vec![Error::invalid(path, amount.to_string(), detail)]
        }
        _ => Vec::new(),
    };
    for (name, value) in tree::entries(claim, "status.capacity") {
        errors.extend(basic(value, &path.child("capacity").key(name)));
    }
    const STATES: &[&str] = &[
        "ControllerResizeInProgress",
        "ControllerResizeInfeasible",
        "NodeResizeInProgress",
        "NodeResizeInfeasible",
        "NodeResizePending",
    ];
    let own = path.child("allocatedResourceStatuses");
    for (name, state) in tree::entries(claim, "status.allocatedResourceStatuses") {
        errors.extend(resource_key(name, &own));
        if !state.as_str().is_some_and(|state| STATES.contains(&state)) {
            errors.push(Error::not_supported(&own, name, STATES));
        }
    }
    let own = path.child("allocatedResources");
    for (name, value) in tree::entries(claim, "status.allocatedResources") {
        let bad = resource_key(name, &own);
        if bad.is_empty() {
            errors.extend(basic(value, &own.key(name)));
        }
        errors.extend(bad);
    }
    errors
}

/// Of Kubernetes' own resources a claim has storage only.
fn resource_key(name: &str, path: &Path) -> Vec<Error> {
    let errors = checks::qualified_name(name, path);
    if errors.is_empty() && resources::is_native(name) && name != "storage" {
        return vec![Error::not_supported(path, name, &["storage"])];
    }
    errors
}

/// A claim's spec (`ValidatePersistentVolumeClaimSpec`).
pub fn spec(spec: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let modes_path = path.child("accessModes");
    if tree::list(spec, "accessModes").is_empty() {
        errors.push(Error::required(&modes_path, "at least 1 access mode is required"));
    }
    if let Some(selector) = tree::at(spec, "selector") {
        errors.extend(validate::label_selector(selector, &path.child("selector")));
    }
    errors.extend(access_modes(spec, &modes_path));
    let size_path = path.child("resources").key("storage");
    let size = tree::map(spec, "resources.requests")
        .and_then(|list| list.get("storage"))
        .and_then(tree::quantity);
    match size {
        None => errors.push(Error::required(&size_path, "")),
        Some(size) => errors.extend(checks::positive_quantity(&size, &size_path)),
    }
    let class = tree::text(spec, "storageClassName");
    if !class.is_empty() {
        errors.extend(checks::dns_subdomain(class, &path.child("storageClassName")));
    }
    let mode = tree::text_opt(spec, "volumeMode");
    errors.extend(checks::optional_one_of(
        mode,
        &["Block", "Filesystem"],
        &path.child("volumeMode"),
    ));
    for field in ["dataSource", "dataSourceRef"] {
        if let Some(source) = tree::at(spec, field) {
            errors.extend(data_source(source, &path.child(field)));
        }
    }
    if let (Some(source), Some(reference)) = (tree::at(spec, "dataSource"), tree::at(spec, "dataSourceRef")) {
        let same = |field: &str| tree::text(source, field) == tree::text(reference, field);
        let detail = if !tree::text(reference, "namespace").is_empty() {
            Some("may not be specified when dataSourceRef.namespace is specified")
        } else if !["apiGroup", "kind", "name"].into_iter().all(same) {
            Some("must match dataSourceRef")
        } else {
            None
        };
        // Upstream prints a path here, whose fields are private.
        let shown = |detail| Error::invalid(path, "", detail).showing("{}".to_owned());
        errors.extend(detail.map(shown));
    }
    let class = tree::text(spec, "volumeAttributesClassName");
    if !class.is_empty() {
        errors.extend(checks::dns_subdomain(class, &path.child("volumeAttributesClassName")));
    }
    errors
}

fn data_source(source: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for field in ["name", "kind"] {
        if tree::text(source, field).is_empty() {
            errors.push(Error::required(&path.child(field), ""));
        }
    }
    let kind = tree::text(source, "kind");
    if tree::text(source, "apiGroup").is_empty() && kind != "PersistentVolumeClaim" {
        let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
        errors.push(Error::invalid(path, kind, detail));
    }
    let group = tree::text(source, "apiGroup");
    if !group.is_empty() {
        errors.extend(checks::dns_subdomain(group, &path.child("apiGroup")));
    }
    let namespace = tree::text(source, "namespace");
    if !namespace.is_empty() {
        errors.extend(checks::dns_label(namespace, &path.child("namespace")));
    }
    errors
}

/// A claim keeps its spec, but for its volume, which comes once, and its size, which grows
/// (`ValidatePersistentVolumeClaimUpdate`).
fn changes(new: &Value, old: &Value) -> Vec<Error> {
    const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
    let path = Path::new("spec");
    let mut errors = Vec::new();
    let mut after = tree::at(new, "spec").cloned().unwrap_or_default();
    let mut before = tree::at(old, "spec").cloned().unwrap_or_default();
    if tree::is_unset(&before, "volumeName") {
        tree::keep(&mut before, &after, "volumeName");
    }
    let annotation = |claim| meta::annotation(claim, OLD_CLASS);
    let class = |spec: &Value| tree::text_opt(spec, "storageClassName").map(str::to_owned);
    let (wanted, had) = (class(&after), class(&before));
    let as_annotated = |class: &str| annotation(old).is_none_or(|old| old == class);
    let named_now = had.is_none() && wanted.as_deref().is_some_and(as_annotated);
    let moved =
        named_now && annotation(old).is_some() && annotation(new).is_none_or(|new| Some(new) == annotation(old));
    if !moved && annotation(new) != annotation(old) {
        let path = Path::new("metadata").child("annotations").child(OLD_CLASS);
        errors.push(Error::invalid(
            &path,
            annotation(new).unwrap_or(""),
            "field is immutable",
        ));
    }
    if named_now {
        tree::keep(&mut after, &before, "storageClassName");
    }
    if tree::text(new, "status.phase") == "Bound" {
        tree::keep(&mut after, &before, "volumeAttributesClassName");
        let size = tree::at(&before, "resources.requests.storage").cloned();
        if let (Some(requests), Some(size)) = (tree::at_mut(&mut after, "resources.requests"), size) {
            tree::set(requests, "storage", size);
        }
    }
    if !tree::same(Some(&after), Some(&before)) {
        let detail =
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        errors.push(Error::forbidden(&path, detail));
    }
    let size = |claim: &Value, path: &str| {
        let list = tree::map(claim, path);
        list.and_then(|list| tree::quantity(list.get("storage")?))
            .unwrap_or_default()
    };
    let wanted = size(new, "spec.resources.requests");
    if wanted < size(old, "spec.resources.requests") && wanted <= size(old, "status.capacity") {
        let path = path.child("resources").child("requests").child("storage");
        errors.push(Error::forbidden(&path, "field can not be less than status.capacity"));
    }
    errors.extend(checks::immutable(new, old, "spec.volumeMode", &Path::new("volumeMode")));
    errors.extend(attributes_class(new, old, &path.child("volumeAttributesClassName")));
    errors
}

/// A class that has been applied does not go away again.
fn attributes_class(new: &Value, old: &Value, path: &Path) -> Option<Error> {
    let class = |claim| tree::text_opt(claim, "spec.volumeAttributesClassName");
    if class(new) == class(old) || tree::at(old, "status.currentVolumeAttributesClassName").is_none() {
        return None;
    }
    let to = match class(new) {
        None => "nil",
        Some("") => "empty string",
        Some(_) => return None,
    };
    let detail = format!("update to {to} is forbidden when status.currentVolumeAttributesClassName is not nil");
    Some(Error::forbidden(path, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(size: &str) -> Value {
        json!({"spec": {"accessModes": ["ReadWriteOnce"], "volumeMode": "Filesystem", "resources": {"requests": {"storage": size}}},
            "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}})
    }

    #[test]
    fn claims_are_checked_and_only_grow() {
        let fields = |errors: Vec<Error>| errors.into_iter().map(|e| e.field).collect::<Vec<_>>();
        let path = Path::new("spec");
        assert_eq!(
            fields(spec(&json!({}), &path)),
            ["spec.accessModes", "spec.resources[storage]"]
        );
        assert_eq!(fields(spec(&claim("1Gi")["spec"], &path)), Vec::<String>::new());
        assert_eq!(fields(changes(&claim("2Gi"), &claim("1Gi"))), Vec::<String>::new());
        assert_eq!(
            fields(changes(&claim("1Gi"), &claim("2Gi"))),
            ["spec.resources.requests.storage"]
        );
        let mut new = claim("1Gi");
        new["spec"]["volumeName"] = json!("v");
        assert_eq!(fields(changes(&new, &claim("1Gi"))), Vec::<String>::new());
        assert_eq!(fields(changes(&claim("1Gi"), &new)), ["spec"]);
    }
}
