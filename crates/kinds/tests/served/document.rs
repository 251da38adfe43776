//! The served resources as lines, and the page of the documentation that lists them.

use serde_json::Value;

use crate::harness::{Server, server};

pub const ALL_VERBS: &str = "create,delete,deletecollection,get,list,patch,update,watch";

/// The page, from the top of the repository.
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/api.md");

const HEAD: &str = "\
# What the API server serves

Every group, version and kind that is built in, with what clients learn of them by discovery: as
upstream v1.37 serves them by default. `*` stands for the verbs create, delete, deletecollection,
get, list, patch, update and watch. Groups and versions come in the order of preference.

This page is made from the server's own discovery documents. A test compares it with them; with
`SKIFF_UPDATE=1` set, `cargo test -p kinds --test served` writes it anew.
";

/// A resource as discovery describes it.
pub struct Resource {
    pub version: String,
    pub name: String,
    pub kind: String,
    pub scope: String,
    pub singular: String,
    pub verbs: String,
    pub short_names: String,
    pub categories: String,
    pub subresources: Vec<Subresource>,
}

pub struct Subresource {
    pub name: String,
    pub kind: String,
    pub verbs: String,
}

impl Resource {
    /// The lines of the corpus that is compared with upstream's.
    pub fn lines(&self) -> Vec<String> {
        let Resource {
            version,
            name,
            kind,
            scope,
            singular,
            verbs,
            short_names,
            categories,
            ..
        } = self;
        let dash = |text: &str| {
            if text.is_empty() {
                "-".to_owned()
            } else {
                text.to_owned()
            }
        };
        let (short_names, categories) = (dash(short_names), dash(categories));
        let mut lines = vec![format!(
            "{version} {name} {kind} {scope} {singular} {verbs} {short_names} {categories}"
        )];
        for Subresource { name: sub, kind, verbs } in &self.subresources {
            lines.push(format!("{version} {name}/{sub} {kind} {verbs}"));
        }
        lines
    }

    pub fn names_and_verbs(&self) -> Vec<String> {
        let Resource {
            version, name, verbs, ..
        } = self;
        let mut lines = vec![format!("{version} {name} {verbs}")];
        for sub in &self.subresources {
            lines.push(format!("{version} {name}/{} {}", sub.name, sub.verbs));
        }
        lines
    }

    /// Where all of them are.
    pub fn path(&self) -> String {
        match self.version.strip_prefix("core/") {
            Some(version) => format!("/api/{version}/{}", self.name),
            None => format!("/apis/{}/{}", self.version, self.name),
        }
    }
}

/// Everything that is served, in the order of discovery.
pub async fn resources(server: &Server) -> Vec<Resource> {
    let accept = [(
        "accept",
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
    )];
    let mut found = Vec::new();
    for root in ["/api", "/apis"] {
        let document = server.call("GET", root, None, &accept).await.expect(200);
        for group in document["items"].as_array().unwrap() {
            let name = group["metadata"]["name"].as_str().unwrap_or("core");
            for version in group["versions"].as_array().unwrap() {
                let version_name = format!("{name}/{}", version["version"].as_str().unwrap());
                let resources = version["resources"].as_array().unwrap();
                found.extend(resources.iter().map(|item| resource(&version_name, item)));
            }
        }
    }
    found
}

fn resource(version: &str, item: &Value) -> Resource {
    let text = |key: &str| item[key].as_str().unwrap().to_owned();
    let no_subresources = Vec::new();
    let subresources = item["subresources"].as_array().unwrap_or(&no_subresources);
    Resource {
        version: version.to_owned(),
        name: text("resource"),
        kind: item["responseKind"]["kind"].as_str().unwrap().to_owned(),
        scope: text("scope"),
        singular: text("singularResource"),
        verbs: verbs(item),
        short_names: joined(&item["shortNames"]),
        categories: joined(&item["categories"]),
        subresources: subresources.iter().map(subresource).collect(),
    }
}

fn subresource(item: &Value) -> Subresource {
    let of = &item["responseKind"];
    let part = |key: &str| of[key].as_str().unwrap();
    let kind = match part("group") {
        "" => part("kind").to_owned(),
        group => format!("{group}/{}/{}", part("version"), part("kind")),
    };
    Subresource {
        name: item["subresource"].as_str().unwrap().to_owned(),
        kind,
        verbs: verbs(item),
    }
}

fn verbs(item: &Value) -> String {
    let verbs = joined(&item["verbs"]);
    if verbs == ALL_VERBS { "*".to_owned() } else { verbs }
}

fn joined(list: &Value) -> String {
    let words = list.as_array().into_iter().flatten().map(|word| word.as_str().unwrap());
    words.collect::<Vec<_>>().join(",")
}

fn page(resources: &[Resource]) -> String {
    let mut page = HEAD.to_owned();
    let mut version = "";
    for resource in resources {
        if resource.version != version {
            version = &resource.version;
            let title = version.strip_prefix("core/").unwrap_or(version);
            page.push_str(&format!(
                "\n## {title}\n\n| Resource | Kind | Scope | Verbs | Short | Categories |\n|---|---|---|---|---|---|\n"
            ));
        }
        let verbs = spaced(&resource.verbs);
        let (short, categories) = (spaced(&resource.short_names), spaced(&resource.categories));
        let Resource { name, kind, scope, .. } = resource;
        page.push_str(&format!(
            "| {name} | {kind} | {scope} | {verbs} | {short} | {categories} |\n"
        ));
        for sub in &resource.subresources {
            let Subresource { name: sub, kind, verbs } = sub;
            page.push_str(&format!("| {name}/{sub} | {kind} | | {} | | |\n", spaced(verbs)));
        }
    }
    page
}

fn spaced(list: &str) -> String {
    list.replace(',', ", ").replace('*', "\\*")
}

#[tokio::test]
async fn the_page_is_current() {
    let page = page(&resources(&server().await).await);
    if std::env::var_os("SKIFF_UPDATE").is_some() {
        std::fs::write(PAGE, &page).unwrap();
    }
    let kept = std::fs::read_to_string(PAGE).unwrap_or_default();
    assert!(
        kept == page,
        "docs/api.md is out of date: SKIFF_UPDATE=1 cargo test -p kinds --test served"
    );
}
