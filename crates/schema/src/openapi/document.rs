//! Whole documents.

use api::{GroupVersion, Map};
use serde_json::{Value, json};

use super::definitions::Definitions;
use super::{Custom, Dialect, Endpoint};
use crate::docs::Docs;
use crate::model::Schema;

/// The OpenAPI v3 document of a group version; endpoints of other group versions are left out.
///
/// `version` is the server's, such as `v1.37.0`; `custom` has the types that are in no arena.
pub fn v3(
    (schema, docs): (&Schema, &Docs),
    version: &str,
    group_version: &GroupVersion,
    endpoints: &[Endpoint],
    custom: &[Custom],
) -> Value {
    let mut definitions = Definitions::new(schema, docs, Dialect::V3, custom);
    let mut paths = Map::new();
    paths.insert(discovery_path(group_version), definitions.discovery(group_version));
    for endpoint in endpoints
        .iter()
        .filter(|endpoint| endpoint.group_version == *group_version)
    {
        add(&mut paths, &endpoint.path, definitions.path_item(endpoint));
    }
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": version},
        "paths": paths,
        "components": {
            "schemas": definitions.finish(),
            "securitySchemes": {"BearerToken": {
                "type": "apiKey",
                "description": "Bearer Token authentication",
                "name": "authorization",
                "in": "header",
            }},
        },
    })
}

/// The OpenAPI v2 (Swagger) document of all endpoints.
pub fn v2((schema, docs): (&Schema, &Docs), version: &str, endpoints: &[Endpoint], custom: &[Custom]) -> Value {
    let mut definitions = Definitions::new(schema, docs, Dialect::V2, custom);
    let mut paths = Map::new();
    for endpoint in endpoints {
        let path = discovery_path(&endpoint.group_version);
        if !paths.contains_key(&path) {
            paths.insert(path, definitions.discovery(&endpoint.group_version));
        }
        add(&mut paths, &endpoint.path, definitions.path_item(endpoint));
    }
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": version},
        "paths": paths,
        "definitions": definitions.finish(),
        "securityDefinitions": {"BearerToken": {
            "type": "apiKey",
            "description": "Bearer Token authentication",
            "name": "authorization",
            "in": "header",
        }},
        "security": [{"BearerToken": []}],
    })
}

/// Two endpoints may share a path, each with its own verbs.
fn add(paths: &mut Map<String, Value>, path: &str, item: Map<String, Value>) {
    match paths.get_mut(path) {
        Some(Value::Object(known)) => known.extend(item),
        _ => {
            paths.insert(path.to_owned(), Value::Object(item));
        }
    }
}

fn discovery_path(group_version: &GroupVersion) -> String {
    if group_version.group.is_empty() {
        return format!("/api/{}/", group_version.version);
    }
    format!("/apis/{}/{}/", group_version.group, group_version.version)
}
