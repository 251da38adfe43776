//! What the server serves, found by any of its names.

use anyhow::{Result, bail};
use api::Gvr;
use bytes::Bytes;
use http::header::ACCEPT;
use serde_json::Value;

use crate::Session;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";

/// One resource at one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resource {
    pub gvr: Gvr,
    pub kind: String,
    pub singular: String,
    pub short_names: Vec<String>,
    pub categories: Vec<String>,
    pub namespaced: bool,
}

impl Resource {
    /// `deployments.apps`, or `pods` for the core group: how kubectl names it in messages.
    pub fn qualified(&self, name: &str) -> String {
        if self.gvr.group.is_empty() {
            name.to_owned()
        } else {
            format!("{name}.{}", self.gvr.group)
        }
    }

    /// `deployment.apps/hello`.
    pub fn title(&self, name: &str) -> String {
        format!("{}/{name}", self.qualified(&self.kind.to_lowercase()))
    }
}

/// Everything that the server serves, preferred versions first.
#[derive(Debug)]
pub(crate) struct Resources(Vec<Resource>);

impl Resources {
    pub async fn discover(session: &Session) -> Result<Resources> {
        let mut found = Vec::new();
        for root in ["/api", "/apis"] {
            let request = http::Request::get(root).header(ACCEPT, AGGREGATED).body(Bytes::new())?;
            let list: Value = session.client.request_json(request).await?;
            for group in list["items"].as_array().into_iter().flatten() {
                let name = group["metadata"]["name"].as_str().unwrap_or_default();
                for version in group["versions"].as_array().into_iter().flatten() {
                    let version_name = version["version"].as_str().unwrap_or_default();
                    for resource in version["resources"].as_array().into_iter().flatten() {
                        found.push(read(name, version_name, resource));
                    }
                }
            }
        }
        if found.is_empty() {
            bail!("the server does not answer aggregated discovery (Kubernetes 1.27 or newer is needed)");
        }
        Ok(Resources(found))
    }

    /// By plural, singular, short name or kind, with `.group` or `.version.group` behind it.
    pub fn find(&self, name: &str) -> Result<&Resource> {
        let name = name.to_lowercase();
        let (plain, suffix) = name.split_once('.').unwrap_or((&name, ""));
        let fits_group = |resource: &Resource| {
            suffix.is_empty()
                || suffix == resource.gvr.group
                || suffix == format!("{}.{}", resource.gvr.version, resource.gvr.group)
        };
        let by = |test: &dyn Fn(&Resource) -> bool| self.0.iter().find(|r| fits_group(r) && test(r));
        by(&|r| r.gvr.resource == plain)
            .or_else(|| by(&|r| r.singular == plain || r.kind.to_lowercase() == plain))
            .or_else(|| by(&|r| r.short_names.iter().any(|short| short == plain)))
            .ok_or_else(|| anyhow::anyhow!("the server doesn't have a resource type \"{name}\""))
    }

    /// The resource of a manifest.
    pub fn of_kind(&self, api_version: &str, kind: &str) -> Result<&Resource> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        self.0
            .iter()
            .find(|r| r.gvr.group == group && r.gvr.version == version && r.kind == kind)
            .ok_or_else(|| anyhow::anyhow!("no matches for kind \"{kind}\" in version \"{api_version}\""))
    }

    /// All of one category, each group-resource once.
    pub fn category(&self, category: &str) -> Vec<&Resource> {
        let mut found: Vec<&Resource> = Vec::new();
        for resource in self.0.iter().filter(|r| r.categories.iter().any(|c| c == category)) {
            let same = |other: &&Resource| {
                other.gvr.resource == resource.gvr.resource && other.gvr.group == resource.gvr.group
            };
            if !found.iter().any(same) {
                found.push(resource);
            }
        }
        found
    }
}

fn read(group: &str, version: &str, resource: &Value) -> Resource {
    let text = |field: &str| resource[field].as_str().unwrap_or_default().to_owned();
    let texts = |field: &str| -> Vec<String> {
        let items = resource[field].as_array().into_iter().flatten();
        items.filter_map(|item| item.as_str()).map(String::from).collect()
    };
    Resource {
        gvr: Gvr {
            group: group.into(),
            version: version.into(),
            resource: text("resource"),
        },
        kind: resource["responseKind"]["kind"].as_str().unwrap_or_default().to_owned(),
        singular: text("singularResource"),
        short_names: texts("shortNames"),
        categories: texts("categories"),
        namespaced: text("scope") == "Namespaced",
    }
}

/// What the words of a command name: one type with names, or several `type/name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub resource: Resource,
    /// `None`: all of the type.
    pub name: Option<String>,
}

/// Reads `pods`, `pods,svc`, `pod a b`, `pod/a svc/b`, `all`.
pub(crate) fn targets(resources: &Resources, words: &[String]) -> Result<Vec<Target>> {
    let Some(first) = words.first() else {
        bail!("You must specify the type of resource to get.");
    };
    let named = |resource: &Resource, name: &str| Target {
        resource: resource.clone(),
        name: Some(name.to_owned()),
    };
    if first.contains('/') {
        return words
            .iter()
            .map(|word| {
                let (kind, name) = word.split_once('/').ok_or_else(|| {
                    anyhow::anyhow!("there is no need to specify a resource type as a separate argument when passing arguments in resource/name form")
                })?;
                Ok(named(resources.find(kind)?, name))
            })
            .collect();
    }
    let mut types: Vec<Resource> = Vec::new();
    for name in first.split(',') {
        if name == "all" {
            types.extend(resources.category("all").into_iter().cloned());
        } else {
            types.push(resources.find(name)?.clone());
        }
    }
    if words.len() == 1 {
        return Ok(types
            .into_iter()
            .map(|resource| Target { resource, name: None })
            .collect());
    }
    Ok(types
        .iter()
        .flat_map(|resource| words[1..].iter().map(|name| named(resource, name)))
        .collect())
}
