//! Discovery: what is served, derived from the descriptors. Legacy documents a group version
//! (`endpoints/discovery`), and the aggregated ones of `apidiscovery.k8s.io`.

mod aggregated;
mod groups;
mod legacy;
mod ordered;

use std::sync::Arc;

use http::header::{ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::aggregation::Remote;
use crate::body;
use crate::call::Call;
use crate::codec;
use crate::kind::Kind;
use crate::negotiate::{Encoding, Output};
use crate::resource::Registry;
use crate::respond::{self, Answer};
use crate::route;

use aggregated::Aggregated;
use groups::Group;

/// Everything discovery says of a registry; made once.
pub(crate) struct Documents {
    core: Vec<(String, Value)>,
    groups: Vec<Group>,
    core_list: Value,
    aggregated_core: Aggregated,
    aggregated_groups: Aggregated,
}

impl Documents {
    /// Derives the documents; `address` is what clients reach the server at.
    pub fn new<'k>(kinds: impl Iterator<Item = &'k Kind>, remotes: &'k [Arc<Remote>], address: &str) -> Documents {
        let mut all = groups::collect(kinds, remotes);
        let core = all.iter().position(|g| g.name.is_empty()).map(|at| all.remove(at));
        let versions: Vec<&str> = core
            .iter()
            .flat_map(|g| g.versions.iter().map(|v| v.name.as_str()))
            .collect();
        let core_list = json!({
            "kind": "APIVersions",
            "versions": versions,
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
        });
        let core_versions = core
            .iter()
            .flat_map(|g| g.versions.iter())
            .map(|v| (v.name.clone(), legacy::resource_list("", v)))
            .collect();
        Documents {
            core: core_versions,
            core_list,
            aggregated_core: Aggregated::new(core.as_slice()),
            aggregated_groups: Aggregated::new(&all),
            groups: all,
        }
    }
}

/// Answers `/api`, `/apis`, and what is below without a resource; `None` for other paths.
pub(crate) fn answer(registry: &Registry, address: &str, call: &Call) -> Option<Answer> {
    let path = call.info.path.trim_matches('/');
    let segments: Vec<&str> = path.split('/').collect();
    let documents = registry.discovery(address);
    let document = match segments.as_slice() {
        ["api"] => {
            if let Some(answer) = documents.aggregated_core.answer(&call.headers) {
                return Some(answer);
            }
            documents.core_list.clone()
        }
        ["apis"] => {
            if let Some(answer) = documents.aggregated_groups.answer(&call.headers) {
                return Some(answer);
            }
            let groups: Vec<Value> = documents.groups.iter().map(legacy::group).collect();
            json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
        }
        ["api", version] => match documents.core.iter().find(|(name, _)| name == version) {
            Some((_, list)) => list.clone(),
            None => return Some(route::not_found()),
        },
        ["apis", group] => match documents.groups.iter().find(|g| g.name == *group) {
            Some(found) => {
                let mut group = legacy::group(found);
                group["kind"] = "APIGroup".into();
                group["apiVersion"] = "v1".into();
                group
            }
            None => return Some(route::not_found()),
        },
        ["apis", group, version] => {
            let found = documents.groups.iter().find(|g| g.name == *group);
            match found.and_then(|g| g.versions.iter().find(|v| v.name == *version)) {
                Some(version) => legacy::resource_list(group, version),
                None => return Some(route::not_found()),
            }
        }
        _ => return None,
    };
    Some(plain(call, &document))
}

/// A document of the core group's own kinds (APIVersions, APIGroupList, …).
fn plain(call: &Call, document: &Value) -> Answer {
    let output = match call.plain_output() {
        Ok(output) => output,
        Err(status) => return respond::status(&status, Output::JSON),
    };
    let kind = document["kind"].as_str().unwrap_or_default();
    let name = format!("io.k8s.apimachinery.pkg.apis.meta.v1.{kind}");
    let gvk = api::Gvk::new("", "v1", kind);
    let schema = schema::builtin();
    match (output.encoding, schema.by_name(&name)) {
        (Encoding::Protobuf, Some(id)) => {
            let encoded = codec::to_protobuf(schema.get(id), &gvk, document);
            let media = output.encoding.media_type();
            encoded.map_or_else(|s| respond::status(&s, output), |b| respond::bytes(200, media, b))
        }
        (Encoding::Yaml, _) => codec::to_yaml(document).map_or_else(
            |s| respond::status(&s, output),
            |b| respond::bytes(200, "application/yaml", b),
        ),
        _ => respond::bytes(200, "application/json", ordered::json(document, output.pretty)),
    }
}

/// Bytes with an ETag; 304 if the client has them.
pub(crate) fn tagged(headers: &HeaderMap, media: &'static str, content: &bytes::Bytes) -> Answer {
    let digest: String = Sha256::digest(content).iter().map(|b| format!("{b:02X}")).collect();
    tagged_as(headers, media, content, &digest)
}

/// The same with a tag that is known without looking at the bytes.
pub(crate) fn tagged_as(headers: &HeaderMap, media: &'static str, content: &bytes::Bytes, tag: &str) -> Answer {
    let tag = format!("\"{tag}\"");
    let known = headers.get(IF_NONE_MATCH).and_then(|v| v.to_str().ok());
    let fresh = known.is_some_and(|known| known.split(',').any(|k| k.trim() == tag));
    let mut answer = if fresh {
        let mut answer = Response::new(body::empty());
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
        answer
    } else {
        respond::bytes(200, media, content.clone())
    };
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        answer.headers_mut().insert(ETAG, tag);
    }
    answer
        .headers_mut()
        .insert(http::header::VARY, HeaderValue::from_static("Accept"));
    answer
}
