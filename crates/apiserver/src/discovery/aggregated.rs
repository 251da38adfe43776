//! APIGroupDiscoveryList: everything of `/api` or `/apis` in one document (KEP-3352).

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::groups::{Group, Version};
use super::{accept, tagged};
use crate::codec;
use crate::kind::{Kind, Subresource, Verb};
use crate::respond::Answer;

const MEDIA_V2: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const MEDIA_V2BETA1: &str = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";

/// The document in both versions.
pub(super) struct Aggregated {
    v2: Bytes,
    v2beta1: Bytes,
}

impl Aggregated {
    pub fn new(groups: &[Group]) -> Aggregated {
        let items: Vec<Value> = groups.iter().map(group).collect();
        let document = |version: &str| {
            codec::to_json(&json!({
                "kind": "APIGroupDiscoveryList",
                "apiVersion": format!("apidiscovery.k8s.io/{version}"),
                "metadata": {},
                "items": items,
            }))
        };
        Aggregated {
            v2: document("v2"),
            v2beta1: document("v2beta1"),
        }
    }

    /// The document, if the client asks for it first.
    pub fn answer(&self, headers: &HeaderMap) -> Option<Answer> {
        let (media, content) = accept(headers).split(',').find_map(|clause| {
            let mut parts = clause.split(';').map(str::trim);
            let media = parts.next()?;
            let params: Vec<&str> = parts.collect();
            if !matches!(media, "application/json" | "*/*" | "application/*") {
                return None;
            }
            // A plain clause that comes first means the legacy document.
            if !params.contains(&"as=APIGroupDiscoveryList") {
                return Some(None);
            }
            if !params.contains(&"g=apidiscovery.k8s.io") {
                return None;
            }
            if params.contains(&"v=v2") {
                return Some(Some((MEDIA_V2, &self.v2)));
            }
            params
                .contains(&"v=v2beta1")
                .then_some(Some((MEDIA_V2BETA1, &self.v2beta1)))
        })??;
        let mut answer = tagged(headers, media, content);
        answer
            .headers_mut()
            .insert(http::header::CACHE_CONTROL, HeaderValue::from_static("public"));
        Some(answer)
    }
}

fn group(group: &Group) -> Value {
    let mut metadata = json!({});
    if !group.name.is_empty() {
        metadata["name"] = group.name.clone().into();
    }
    let versions: Vec<Value> = group.versions.iter().map(version).collect();
    json!({"metadata": metadata, "versions": versions})
}

fn version(version: &Version) -> Value {
    if let Some(remote) = &version.remote {
        let found = remote.found().map(|found| found.discovery.clone());
        let mut entry = found.unwrap_or_else(|| json!({"version": version.name, "resources": []}));
        let fresh = remote.is_available() && remote.found().is_some();
        entry["freshness"] = if fresh { "Current" } else { "Stale" }.into();
        return entry;
    }
    let resources: Vec<Value> = version.kinds.iter().map(resource).collect();
    json!({"version": version.name, "resources": resources, "freshness": "Current"})
}

fn verbs(verbs: &[Verb]) -> Vec<&'static str> {
    let mut verbs: Vec<&str> = verbs.iter().map(|v| v.as_str()).collect();
    verbs.sort_unstable();
    verbs
}

fn resource(kind: &Kind) -> Value {
    let mut resource = json!({
        "resource": kind.plural,
        "responseKind": {"group": "", "version": "", "kind": kind.gvk.kind},
        "scope": if kind.is_namespaced() { "Namespaced" } else { "Cluster" },
        "singularResource": kind.singular,
        "verbs": verbs(&kind.verbs),
    });
    if !kind.short_names.is_empty() {
        resource["shortNames"] = kind.short_names.clone().into();
    }
    if !kind.categories.is_empty() {
        resource["categories"] = kind.categories.clone().into();
    }
    let mut subs: Vec<&Subresource> = kind.subresources.iter().collect();
    subs.sort_by_key(|s| s.name);
    if !subs.is_empty() {
        let subs: Vec<Value> = subs.into_iter().map(|sub| subresource(kind, sub)).collect();
        resource["subresources"] = subs.into();
    }
    resource
}

fn subresource(kind: &Kind, sub: &Subresource) -> Value {
    let gvk = sub.gvk.as_ref().unwrap_or(&kind.gvk);
    let same = gvk.group_version() == kind.gvk.group_version();
    let (group, version) = if same { ("", "") } else { (&*gvk.group, &*gvk.version) };
    json!({
        "subresource": sub.name,
        "responseKind": {"group": group, "version": version, "kind": gvk.kind},
        "verbs": verbs(&sub.verbs),
    })
}
