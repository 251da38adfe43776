//! APIGroup and APIResourceList, the documents of every client since the first.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::groups::{Group, Version};
use crate::kind::{Kind, Subresource, Verb};

/// The APIGroup without kind and apiVersion.
pub(super) fn group(group: &Group) -> Value {
    let version = |version: &Version| {
        json!({
            "groupVersion": format!("{}/{}", group.name, version.name),
            "version": version.name,
        })
    };
    let versions: Vec<Value> = group.versions.iter().map(version).collect();
    json!({"name": group.name, "preferredVersion": versions.first(), "versions": versions})
}

/// The APIResourceList of a version.
pub(super) fn resource_list(group: &str, version: &Version) -> Value {
    let group_version = if group.is_empty() {
        version.name.clone()
    } else {
        format!("{group}/{}", version.name)
    };
    let mut resources: Vec<Value> = Vec::new();
    for kind in &version.kinds {
        resources.push(resource(kind));
        let mut subs: Vec<&Subresource> = kind.subresources.iter().collect();
        if kind.custom.is_none() {
            subs.sort_by_key(|s| s.name);
        }
        resources.extend(subs.into_iter().map(|sub| subresource(kind, sub)));
    }
    let mut list = json!({
        "kind": "APIResourceList",
        "groupVersion": group_version,
        "resources": resources,
    });
    // Upstream leaves it out for the core group.
    if !group.is_empty() {
        list["apiVersion"] = "v1".into();
    }
    list
}

fn verbs(verbs: &[Verb]) -> Vec<&'static str> {
    let mut verbs: Vec<&str> = verbs.iter().map(|v| v.as_str()).collect();
    verbs.sort_unstable();
    verbs
}

/// Those of custom resources have an order of their own (`customresource_discovery_controller.go`).
pub(super) fn verbs_of(kind: &Kind) -> Vec<&'static str> {
    const CUSTOM: [Verb; 8] = [
        Verb::Delete,
        Verb::DeleteCollection,
        Verb::Get,
        Verb::List,
        Verb::Patch,
        Verb::Create,
        Verb::Update,
        Verb::Watch,
    ];
    if kind.custom.is_none() {
        return verbs(&kind.verbs);
    }
    let served = CUSTOM.iter().filter(|verb| kind.verbs.contains(verb));
    served.map(|verb| verb.as_str()).collect()
}

fn resource(kind: &Kind) -> Value {
    let mut resource = json!({
        "name": kind.plural,
        "singularName": kind.singular,
        "namespaced": kind.is_namespaced(),
        "kind": kind.gvk.kind,
        "verbs": verbs_of(kind),
    });
    if !kind.short_names.is_empty() {
        resource["shortNames"] = kind.short_names.clone().into();
    }
    if !kind.categories.is_empty() {
        resource["categories"] = kind.categories.clone().into();
    }
    if kind.verbs.contains(&Verb::Get) {
        resource["storageVersionHash"] = storage_version_hash(kind).into();
    }
    resource
}

fn subresource(kind: &Kind, sub: &Subresource) -> Value {
    let gvk = sub.gvk.as_ref().unwrap_or(&kind.gvk);
    let mut resource = json!({
        "name": format!("{}/{}", kind.plural, sub.name),
        "singularName": "",
        "namespaced": kind.is_namespaced(),
        "kind": gvk.kind,
        "verbs": verbs(&sub.verbs),
    });
    if gvk.group_version() != kind.gvk.group_version() {
        resource["group"] = gvk.group.clone().into();
        resource["version"] = gvk.version.clone().into();
    }
    resource
}

/// Upstream's `discovery.StorageVersionHash`.
fn storage_version_hash(kind: &Kind) -> String {
    let gvk = &kind.storage.gvk;
    let digest = Sha256::digest(format!("{}/{}/{}", gvk.group, gvk.version, gvk.kind));
    STANDARD.encode(&digest[..8])
}
