//! CustomResourceDefinition: descriptor and defaults; its conditions are the API server's.

use std::sync::Arc;

use apiserver::Kind;
use apiserver::kind::{Deletion, Subresource};
use serde_json::{Value, json};

use super::spec;

/// Instances are deleted before the definition is.
const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// The descriptor.
pub fn kind() -> Kind {
    Kind::cluster(
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
    )
    .short_names(&["crd", "crds"])
    .categories(&["api-extensions"])
    .subresource(
        Subresource::status()
            .prepare(|_, new, old| new["spec"] = old["spec"].clone())
            .validate(|new, _| spec::status_errors(new)),
    )
    .with_generation()
    .forbid_unconditional_update()
    .default(default)
    .prepare_create(|_, object| {
        object["status"] = json!({});
        store_version(object);
    })
    .prepare_update(|_, object, _| store_version(object))
    .deletion(Deletion {
        // Whatever is deleted is marked first, so that the finalizer gets its chance.
        held: Some(Arc::new(|object| !api::meta::is_deleting(object))),
        on_mark: Some(Arc::new(on_mark)),
        ..Deletion::default()
    })
    .validate(spec::validate)
    .validate_update(spec::validate_update)
}

fn storage_version(object: &Value) -> Option<String> {
    let versions = object["spec"]["versions"].as_array()?;
    let stored = versions.iter().find(|v| v["storage"] == Value::Bool(true))?;
    stored["name"].as_str().map(str::to_owned)
}

/// Remembers the version that objects are stored in from now on.
fn store_version(object: &mut Value) {
    let Some(version) = storage_version(object) else { return };
    let stored = &mut object["status"]["storedVersions"];
    if !stored.is_array() {
        *stored = json!([]);
    }
    if let Some(list) = stored.as_array_mut()
        && !list.iter().any(|v| *v == *version)
    {
        list.push(version.into());
    }
}

fn default(object: &mut Value) {
    if !object["spec"].is_object() {
        return;
    }
    let names = &mut object["spec"]["names"];
    if names.is_object() {
        let kind = names["kind"].as_str().unwrap_or_default().to_owned();
        if names["singular"].as_str().unwrap_or_default().is_empty() {
            names["singular"] = kind.to_lowercase().into();
        }
        if names["listKind"].as_str().unwrap_or_default().is_empty() && !kind.is_empty() {
            names["listKind"] = format!("{kind}List").into();
        }
    }
    let conversion = &mut object["spec"]["conversion"];
    if conversion.is_null() {
        *conversion = json!({"strategy": "None"});
    }
    let service = conversion.pointer_mut("/webhook/clientConfig/service");
    if let Some(service) = service.filter(|s| s.is_object())
        && service["port"].is_null()
    {
        service["port"] = 443.into();
    }
    let stored = object["status"]["storedVersions"].as_array();
    if stored.is_none_or(Vec::is_empty) {
        store_version(object);
    }
}

/// The first request to delete only marks (`registry/customresourcedefinition/etcd.go` Delete).
fn on_mark(object: &mut Value) {
    let mut finalizers: Vec<String> = api::meta::finalizers(object).into_iter().map(str::to_owned).collect();
    if !finalizers.iter().any(|f| f == FINALIZER) {
        finalizers.push(FINALIZER.to_owned());
    }
    api::meta::set_finalizers(object, &finalizers);
    let now = object["metadata"]["deletionTimestamp"].clone();
    let conditions = &mut object["status"]["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    if let Some(list) = conditions.as_array_mut() {
        list.retain(|c| c["type"] != "Terminating");
        list.push(json!({
            "type": "Terminating", "status": "True", "reason": "InstanceDeletionPending", "lastTransitionTime": now,
            "message": "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_conversion_have_defaults() {
        let mut object = json!({"spec": {"names": {"plural": "as", "kind": "MyA"}, "versions":
            [{"name": "v1", "storage": true}]}});
        default(&mut object);
        assert_eq!(object["spec"]["names"]["singular"], "mya");
        assert_eq!(object["spec"]["names"]["listKind"], "MyAList");
        assert_eq!(object["spec"]["conversion"], json!({"strategy": "None"}));
        assert_eq!(object["status"]["storedVersions"], json!(["v1"]));
        let once = object.clone();
        default(&mut object);
        assert_eq!(object, once);
    }

    #[test]
    fn a_deleted_definition_waits_for_its_instances() {
        let mut object = json!({"metadata": {"name": "a", "deletionTimestamp": "2024-01-01T00:00:00Z"}});
        on_mark(&mut object);
        assert_eq!(api::meta::finalizers(&object), [FINALIZER]);
        assert_eq!(object["status"]["conditions"][0]["reason"], "InstanceDeletionPending");
    }
}
