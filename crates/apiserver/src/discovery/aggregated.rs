//! APIGroupDiscoveryList: everything of `/api` or `/apis` in one document (KEP-3352).

use api::Gvk;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::groups::{Group, Version};
use super::{legacy, tagged};
use crate::codec;
use crate::kind::{Kind, Subresource, Verb};
use crate::negotiate::{self, Encoding};
use crate::respond::Answer;

const NAME: &str = "io.k8s.api.apidiscovery.v2.APIGroupDiscoveryList";

/// The document of `v2` as JSON. The same in `v2beta1`, which upstream no longer serves but older clients
/// ask for, and in protobuf is made when somebody asks.
pub(super) struct Aggregated(Bytes);

fn gvk(version: &str) -> Gvk {
    Gvk::new("apidiscovery.k8s.io", version, "APIGroupDiscoveryList")
}

impl Aggregated {
    pub fn new(groups: &[Group]) -> Aggregated {
        let items: Vec<Value> = groups.iter().map(group).collect();
        let mut document = json!({"metadata": {}, "items": items});
        gvk("v2").stamp(&mut document);
        Aggregated(codec::to_object_json(&document))
    }

    /// The document, if the client asks for it first.
    pub fn answer(&self, headers: &HeaderMap) -> Option<Answer> {
        let (media, content) = match negotiate::aggregated_discovery(headers)? {
            (Encoding::Protobuf, "v2") => (
                "application/vnd.kubernetes.protobuf;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
                self.protobuf()?,
            ),
            (Encoding::Json, "v2") => (
                "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
                self.0.clone(),
            ),
            (Encoding::Json, _) => (
                "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
                self.beta()?,
            ),
            _ => return None,
        };
        let mut answer = tagged(headers, media, &content);
        answer
            .headers_mut()
            .insert(http::header::CACHE_CONTROL, HeaderValue::from_static("public"));
        Some(answer)
    }

    fn beta(&self) -> Option<Bytes> {
        let rest = self.0.strip_prefix(&*codec::type_head(&gvk("v2")))?;
        Some([&*codec::type_head(&gvk("v2beta1")), rest].concat().into())
    }

    fn protobuf(&self) -> Option<Bytes> {
        let document: Value = serde_json::from_slice(&self.0).ok()?;
        let schema = schema::builtin();
        codec::to_protobuf(schema.get(schema.by_name(NAME)?), &gvk("v2"), &document).ok()
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
        "verbs": legacy::verbs_of(kind),
    });
    if !kind.short_names.is_empty() {
        resource["shortNames"] = kind.short_names.clone().into();
    }
    if !kind.categories.is_empty() {
        resource["categories"] = kind.categories.clone().into();
    }
    let mut subs: Vec<&Subresource> = kind.subresources.iter().collect();
    if kind.custom.is_none() {
        subs.sort_by_key(|s| s.name);
    }
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
