//! What another server says it serves.

use api::Value;
use bytes::Bytes;
use http::HeaderValue;
use http::header::{ACCEPT, ETAG, IF_NONE_MATCH};
use serde_json::json;

use super::exchange::{self, Verify};
use super::{Found, Remote};
use crate::codec;
use crate::state::State;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";

/// Asks for discovery and OpenAPI.
///
/// # Errors
/// Why there is no discovery; a server without OpenAPI v3 is fine.
pub(super) async fn discover(state: &State, remote: &Remote) -> Result<Found, String> {
    let discovery = match aggregated(state, remote).await? {
        Some(version) => version,
        None => legacy(state, remote).await?,
    };
    let index = exchange::get(state, remote, Verify::Certificate, "/openapi/v3", "application/json").await;
    let openapi_url = index.ok().filter(|answer| answer.code == 200).and_then(|answer| {
        let index: Value = serde_json::from_slice(&answer.body).ok()?;
        let path = remote.root();
        let entry = &index["paths"][path.trim_start_matches('/')];
        entry["serverRelativeURL"].as_str().map(str::to_owned)
    });
    let (swagger, swagger_tag) = swagger(state, remote).await;
    Ok(Found {
        discovery,
        openapi_url,
        swagger,
        swagger_tag,
    })
}

/// The version's part of the server's OpenAPI v2 document and the document's tag; what is known already if
/// that is still true. A server without one is fine.
async fn swagger(state: &State, remote: &Remote) -> (Option<Bytes>, Option<String>) {
    let known = remote.found();
    let tag = known.as_ref().and_then(|found| found.swagger_tag.clone());
    let mut headers = vec![(ACCEPT, HeaderValue::from_static("application/json"))];
    let value = tag.as_deref().and_then(|tag| HeaderValue::from_str(tag).ok());
    headers.extend(value.map(|value| (IF_NONE_MATCH, value)));
    let answer = exchange::get_with(state, remote, Verify::Certificate, "/openapi/v2", &headers).await;
    match answer {
        Ok(answer) if answer.code == 304 => (known.and_then(|found| found.swagger.clone()), tag),
        Ok(answer) if answer.code == 200 => {
            let tag = answer.headers.get(ETAG).and_then(|v| v.to_str().ok());
            let tag = tag.map(str::to_owned);
            let document: Result<Value, _> = serde_json::from_slice(&answer.body);
            match document {
                Ok(document) => {
                    let part = schema::openapi::merge::below(document, &format!("{}/", remote.root()));
                    (Some(codec::to_json(&part)), tag)
                }
                Err(error) => {
                    tracing::warn!(apiservice = remote.name, %error, "an API server's OpenAPI document is none");
                    (None, None)
                }
            }
        }
        _ => (None, None),
    }
}

async fn aggregated(state: &State, remote: &Remote) -> Result<Option<Value>, String> {
    let answer = exchange::get(state, remote, Verify::Certificate, "/apis", AGGREGATED).await?;
    let media = answer.headers.get(http::header::CONTENT_TYPE);
    let media = media.and_then(|v| v.to_str().ok()).unwrap_or_default();
    if answer.code != 200 || !media.contains("as=APIGroupDiscoveryList") {
        return Ok(None);
    }
    let list: Value = serde_json::from_slice(&answer.body).map_err(|e| e.to_string())?;
    let groups = list["items"].as_array().into_iter().flatten();
    let mut groups = groups.filter(|group| group["metadata"]["name"].as_str().unwrap_or_default() == remote.group);
    Ok(groups.find_map(|group| {
        let mut versions = group["versions"].as_array()?.iter();
        let mut version = versions.find(|v| v["version"] == *remote.version)?.clone();
        version.as_object_mut()?.remove("freshness");
        Some(version)
    }))
}

async fn legacy(state: &State, remote: &Remote) -> Result<Value, String> {
    let path = remote.root();
    let answer = exchange::get(state, remote, Verify::Certificate, &path, "application/json").await?;
    if answer.code != 200 {
        return Err(format!("{path} answers {}", answer.code));
    }
    let list: Value = serde_json::from_slice(&answer.body).map_err(|e| e.to_string())?;
    Ok(version_of(&list, &remote.version))
}

/// An APIResourceList as an APIVersionDiscovery.
fn version_of(list: &Value, version: &str) -> Value {
    let mut resources: Vec<Value> = Vec::new();
    for entry in list["resources"].as_array().into_iter().flatten() {
        let text = |field: &str| entry[field].as_str().unwrap_or_default();
        let kind = json!({"group": text("group"), "version": text("version"), "kind": text("kind")});
        match text("name").split_once('/') {
            None => {
                let mut resource = json!({
                    "resource": text("name"),
                    "responseKind": kind,
                    "scope": if entry["namespaced"] == Value::Bool(true) { "Namespaced" } else { "Cluster" },
                    "singularResource": text("singularName"),
                    "verbs": entry["verbs"],
                });
                for field in ["shortNames", "categories"] {
                    if entry[field].is_array() {
                        resource[field] = entry[field].clone();
                    }
                }
                resources.push(resource);
            }
            Some((parent, subresource)) => {
                let parent = resources.iter_mut().find(|r| r["resource"] == parent);
                let Some(parent) = parent else { continue };
                let entry = json!({"subresource": subresource, "responseKind": kind, "verbs": entry["verbs"]});
                match parent["subresources"].as_array_mut() {
                    Some(list) => list.push(entry),
                    None => parent["subresources"] = json!([entry]),
                }
            }
        }
    }
    json!({"version": version, "resources": resources})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_become_versions() {
        let list = json!({"resources": [
            {"name": "things", "singularName": "thing", "namespaced": true, "kind": "Thing", "verbs": ["get"]},
            {"name": "things/status", "kind": "Thing", "verbs": ["update"]},
        ]});
        let version = version_of(&list, "v1");
        assert_eq!(version["resources"][0]["scope"], "Namespaced");
        assert_eq!(version["resources"][0]["subresources"][0]["subresource"], "status");
    }
}
