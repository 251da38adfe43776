//! Which resources a server has.

use api::Gvr;
use bytes::Bytes;
use http::header::{ACCEPT, HeaderValue};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{APIGroupList, APIResourceList};
use serde::Deserialize;

use crate::client::build;
use crate::{Client, ClientError};

/// A resource (not a subresource) of a server, at its group's preferred version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiResource {
    /// Group, version and plural name.
    pub gvr: Gvr,
    /// Kind.
    pub kind: String,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// Verbs.
    pub verbs: Vec<String>,
}

impl ApiResource {
    /// Whether all of these verbs are supported.
    pub fn supports(&self, verbs: &[&str]) -> bool {
        verbs.iter().all(|verb| self.verbs.iter().any(|v| v == verb))
    }
}

/// All resources at their preferred versions (each group-resource once), by aggregated discovery
/// with a fall back to the old form.
///
/// # Errors
/// The request failed. A group that alone cannot be read (its aggregated server is down) is left
/// out with a warning.
pub async fn discover(client: &Client) -> Result<Vec<ApiResource>, ClientError> {
    let mut found = Vec::new();
    for root in ["/api", "/apis"] {
        let mut request = build(http::Method::GET, root, None, Bytes::new())?;
        let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static(accept));
        let body = client.request_bytes(request).await?;
        let decode = |source| ClientError::Decode {
            what: format!("the discovery document {root}"),
            source,
        };
        let groups: Aggregated = serde_json::from_slice(&body).map_err(decode)?;
        if groups.kind == "APIGroupDiscoveryList" {
            groups.collect(&mut found);
        } else {
            legacy(client, root, &mut found).await?;
        }
    }
    Ok(found)
}

async fn legacy(client: &Client, root: &str, found: &mut Vec<ApiResource>) -> Result<(), ClientError> {
    let mut versions = Vec::new();
    if root == "/api" {
        versions.push((String::new(), "v1".to_owned(), "/api/v1".to_owned()));
    } else {
        for group in client.get_json::<APIGroupList>(root).await?.groups {
            let preferred = group.preferred_version.as_ref().map(|v| v.version.clone());
            let mut all: Vec<_> = group.versions.into_iter().map(|v| v.version).collect();
            all.sort_by_key(|v| Some(v) != preferred.as_ref());
            for version in all {
                let path = format!("/apis/{}/{version}", group.name);
                versions.push((group.name.clone(), version, path));
            }
        }
    }
    for (group, version, path) in versions {
        let list: APIResourceList = match client.get_json(&path).await {
            Ok(list) => list,
            Err(error) => {
                tracing::warn!(path, %error, "group version left out of discovery");
                continue;
            }
        };
        for resource in list.resources {
            let gvr = Gvr {
                group: group.clone(),
                version: version.clone(),
                resource: resource.name,
            };
            let entry = ApiResource {
                gvr,
                kind: resource.kind,
                namespaced: resource.namespaced,
                verbs: resource.verbs,
            };
            push(found, entry);
        }
    }
    Ok(())
}

fn push(found: &mut Vec<ApiResource>, entry: ApiResource) {
    let known = found
        .iter()
        .any(|f| f.gvr.group == entry.gvr.group && f.gvr.resource == entry.gvr.resource);
    if !known && !entry.gvr.resource.contains('/') {
        found.push(entry);
    }
}

#[derive(Deserialize)]
struct Aggregated {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    items: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    #[serde(default)]
    metadata: Name,
    #[serde(default)]
    versions: Vec<Version>,
}

#[derive(Default, Deserialize)]
struct Name {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct Version {
    version: String,
    #[serde(default)]
    resources: Vec<ResourceEntry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResourceEntry {
    resource: String,
    #[serde(default)]
    response_kind: ResponseKind,
    #[serde(default)]
    scope: String,
    #[serde(default)]
    verbs: Vec<String>,
}

#[derive(Default, Deserialize)]
struct ResponseKind {
    #[serde(default)]
    kind: String,
}

impl Aggregated {
    fn collect(self, found: &mut Vec<ApiResource>) {
        for group in self.items {
            for version in group.versions {
                for resource in version.resources {
                    let gvr = Gvr {
                        group: group.metadata.name.clone(),
                        version: version.version.clone(),
                        resource: resource.resource,
                    };
                    let namespaced = resource.scope == "Namespaced";
                    let kind = resource.response_kind.kind;
                    push(
                        found,
                        ApiResource {
                            gvr,
                            kind,
                            namespaced,
                            verbs: resource.verbs,
                        },
                    );
                }
            }
        }
    }
}
