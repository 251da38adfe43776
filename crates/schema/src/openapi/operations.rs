//! Operations: what can be done at a path, in upstream's names.

use api::Map;
use serde_json::{Value, json};

use super::definitions::Definitions;
use super::parameters::merged;
use super::{Answer, Dialect, Endpoint, Verb};

const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const PATCHES: &[&str] = &[
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];
/// Custom resources have no strategic merge.
const CUSTOM_PATCHES: &[&str] = &[
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
];
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";

/// Everything that differs between verbs.
struct Shape {
    method: &'static str,
    /// First word of the operation id.
    word: &'static str,
    action: &'static str,
    description: String,
    parameters: Vec<Value>,
    body: Option<(Value, &'static [&'static str])>,
    codes: &'static [(u16, &'static str)],
    answer: Option<Value>,
    streams: bool,
}

const OK: &[(u16, &str)] = &[(200, "OK")];
const OK_CREATED: &[(u16, &str)] = &[(200, "OK"), (201, "Created")];
const OK_CREATED_ACCEPTED: &[(u16, &str)] = &[(200, "OK"), (201, "Created"), (202, "Accepted")];
const OK_ACCEPTED: &[(u16, &str)] = &[(200, "OK"), (202, "Accepted")];

impl Definitions<'_> {
    /// The path item of an endpoint.
    pub(super) fn path_item(&mut self, endpoint: &Endpoint) -> Map<String, Value> {
        let mut item = Map::new();
        let parameters = self.path_parameters(&endpoint.path, &endpoint.object.kind);
        item.insert("parameters".to_owned(), parameters.into());
        for &verb in &endpoint.verbs {
            for shape in self.shapes(endpoint, verb) {
                let method = shape.method.to_owned();
                let operation = self.operation(endpoint, verb, shape);
                item.insert(method, operation);
            }
        }
        item
    }

    /// `GET /apis/<group>/<version>/`.
    pub(super) fn discovery(&mut self, group_version: &api::GroupVersion) -> Value {
        let answer = self.meta_reference("APIResourceList");
        let mut out = Map::new();
        out.insert("tags".to_owned(), json!([tag(group_version)]));
        out.insert("description".to_owned(), "get available resources".into());
        out.insert(
            "operationId".to_owned(),
            format!("get{}APIResources", camel(group_version)).into(),
        );
        out.insert(
            "responses".to_owned(),
            self.responses(OK, Some(answer), Answer::Object, false),
        );
        if self.dialect == Dialect::V2 {
            out.insert("consumes".to_owned(), json!([JSON, YAML, PROTOBUF]));
            out.insert("produces".to_owned(), json!([JSON, YAML, PROTOBUF]));
            out.insert("schemes".to_owned(), json!(["https"]));
        }
        json!({"get": out})
    }

    fn meta_reference(&mut self, kind: &str) -> Value {
        match self
            .schema
            .by_name(&format!("{META}{kind}"))
            .and_then(|id| self.schema.get(id).as_struct())
        {
            Some(structure) => self.reference(self.schema.str(structure.def().name)),
            None => json!({"type": "object"}),
        }
    }

    fn shapes(&mut self, endpoint: &Endpoint, verb: Verb) -> Vec<Shape> {
        let gvk = &endpoint.object;
        let kind = endpoint.kind.as_str();
        let sub = endpoint.subresource.as_deref();
        let object = self.kind(&gvk.group, &gvk.version, &gvk.kind);
        let of_the = |verb: &str| match sub {
            Some(sub) => format!("{verb} {sub} of the specified {kind}"),
            None => format!("{verb} the specified {kind}"),
        };
        let base = Shape {
            method: "get",
            word: "read",
            action: "get",
            description: of_the("read"),
            parameters: Vec::new(),
            body: None,
            codes: OK,
            answer: object.clone(),
            streams: false,
        };
        let options = endpoint
            .options
            .as_ref()
            .and_then(|o| self.schema.kind(&o.group, &o.version, &o.kind));
        let options = options
            .and_then(|ty| ty.as_struct())
            .map(|s| self.options(s.name(), &[]))
            .unwrap_or_default();
        let body = |value: &Option<Value>| value.clone().map(|schema| (schema, ["*/*"].as_slice()));
        let is_custom = self.schema.kind(&gvk.group, &gvk.version, &gvk.kind).is_none();
        let patches = if is_custom { CUSTOM_PATCHES } else { PATCHES };
        let shape = match verb {
            Verb::Get => Shape {
                parameters: options,
                ..base
            },
            Verb::List => Shape {
                word: "list",
                action: "list",
                description: format!("list or watch objects of kind {kind}"),
                parameters: self.meta_options("ListOptions", &[]),
                answer: self.kind(&gvk.group, &gvk.version, &format!("{}List", gvk.kind)),
                streams: true,
                ..base
            },
            Verb::Create => Shape {
                method: "post",
                word: "create",
                action: "post",
                description: sub.map_or_else(|| format!("create a {kind}"), |sub| format!("create {sub} of a {kind}")),
                parameters: self.meta_options("CreateOptions", &[]),
                body: body(&object),
                codes: OK_CREATED_ACCEPTED,
                ..base
            },
            Verb::Update => Shape {
                method: "put",
                word: "replace",
                action: "put",
                description: of_the("replace"),
                parameters: self.meta_options("UpdateOptions", &[]),
                body: body(&object),
                codes: OK_CREATED,
                ..base
            },
            Verb::Patch => Shape {
                method: "patch",
                word: "patch",
                action: "patch",
                description: of_the("partially update"),
                parameters: self.meta_options("PatchOptions", &[]),
                body: Some((self.meta_reference("Patch"), patches)),
                codes: OK_CREATED,
                ..base
            },
            Verb::Delete | Verb::DeleteCollection => {
                let one = verb == Verb::Delete;
                let options = self.meta_options("DeleteOptions", &["preconditions"]);
                let list = ["watch", "allowWatchBookmarks"];
                Shape {
                    method: "delete",
                    word: "delete",
                    action: if one { "delete" } else { "deletecollection" },
                    description: format!("delete {} {kind}", if one { "a" } else { "collection of" }),
                    parameters: if one {
                        options
                    } else {
                        merged(options, self.meta_options("ListOptions", &list))
                    },
                    body: Some((self.meta_reference("DeleteOptions"), &["*/*"])),
                    codes: if one { OK_ACCEPTED } else { OK },
                    answer: Some(self.meta_reference("Status")),
                    ..base
                }
            }
            Verb::Connect => {
                let connect = |method, word, name: &str, parameters| Shape {
                    method,
                    word,
                    action: "connect",
                    description: format!("connect {name} requests to {} of {kind}", sub.unwrap_or("proxy")),
                    parameters,
                    body: None,
                    codes: OK,
                    answer: None,
                    streams: false,
                };
                return vec![
                    connect("get", "connectGet", "GET", options.clone()),
                    connect("post", "connectPost", "POST", options),
                ];
            }
        };
        vec![shape]
    }

    fn operation(&self, endpoint: &Endpoint, verb: Verb, shape: Shape) -> Value {
        let mut out = Map::new();
        let gvk = &endpoint.object;
        let mut parameters = shape.parameters;
        out.insert("tags".to_owned(), json!([tag(&endpoint.group_version)]));
        out.insert("description".to_owned(), shape.description.into());
        out.insert(
            "operationId".to_owned(),
            operation_id(endpoint, verb, shape.word).into(),
        );
        out.insert("x-kubernetes-action".to_owned(), shape.action.into());
        let kind = json!({"group": gvk.group, "kind": gvk.kind, "version": gvk.version});
        out.insert("x-kubernetes-group-version-kind".to_owned(), kind);
        match (self.dialect, shape.body) {
            (Dialect::V2, body) => {
                out.insert("schemes".to_owned(), json!(["https"]));
                out.insert(
                    "consumes".to_owned(),
                    json!(body.as_ref().map_or(&["*/*"] as &[_], |(_, media)| *media)),
                );
                let media = media(
                    verb != Verb::Connect && endpoint.answer == Answer::Object,
                    shape.streams,
                );
                out.insert("produces".to_owned(), media.into());
                if let Some((schema, _)) = body {
                    let required = !matches!(verb, Verb::Delete | Verb::DeleteCollection);
                    let mut parameter = json!({"name": "body", "in": "body", "schema": schema});
                    if required {
                        parameter["required"] = true.into();
                    }
                    parameters.insert(0, parameter);
                }
            }
            (Dialect::V3, Some((schema, media))) => {
                let content: Map<_, _> = media
                    .iter()
                    .map(|m| ((*m).to_owned(), json!({"schema": schema})))
                    .collect();
                out.insert("requestBody".to_owned(), json!({"content": content}));
            }
            (Dialect::V3, None) => {}
        }
        if !parameters.is_empty() {
            out.insert("parameters".to_owned(), parameters.into());
        }
        let answer = if verb == Verb::Connect {
            Answer::Text
        } else {
            endpoint.answer
        };
        out.insert(
            "responses".to_owned(),
            self.responses(shape.codes, shape.answer, answer, shape.streams),
        );
        Value::Object(out)
    }

    fn responses(&self, codes: &[(u16, &str)], schema: Option<Value>, answer: Answer, streams: bool) -> Value {
        let mut out = Map::new();
        let schema = match answer {
            Answer::Object => schema.unwrap_or_else(|| json!({"type": "object"})),
            Answer::Text => json!({"type": "string"}),
        };
        for (code, description) in codes {
            let response = match self.dialect {
                Dialect::V2 => json!({"description": description, "schema": schema}),
                Dialect::V3 => {
                    let content: Map<_, _> = media(answer == Answer::Object, streams)
                        .into_iter()
                        .map(|media| (media.to_owned(), json!({"schema": schema})))
                        .collect();
                    json!({"description": description, "content": content})
                }
            };
            out.insert(code.to_string(), response);
        }
        out.insert("401".to_owned(), json!({"description": "Unauthorized"}));
        Value::Object(out)
    }
}

fn media(object: bool, streams: bool) -> Vec<&'static str> {
    let mut out = if object {
        vec![JSON, YAML, PROTOBUF]
    } else {
        vec!["*/*"]
    };
    if streams {
        out.extend([
            "application/json;stream=watch",
            "application/vnd.kubernetes.protobuf;stream=watch",
        ]);
    }
    out
}

fn operation_id(endpoint: &Endpoint, verb: Verb, word: &str) -> String {
    // `connectGet` puts its method after the group version: connectCoreV1GetNamespacedPodExec.
    let (word, method) = match word.strip_prefix("connect") {
        Some(method) => ("connect", method),
        None => (word, ""),
    };
    let collection = if verb == Verb::DeleteCollection {
        "Collection"
    } else {
        ""
    };
    let across = endpoint.namespaced && !endpoint.path.contains("{namespace}");
    let namespaced = if endpoint.namespaced && !across {
        "Namespaced"
    } else {
        ""
    };
    let sub: String = endpoint
        .subresource
        .iter()
        .flat_map(|sub| sub.split('/'))
        .map(title)
        .collect();
    let with_path = if endpoint.path.ends_with("{path}") {
        "WithPath"
    } else {
        ""
    };
    let tail = if across { "ForAllNamespaces" } else { "" };
    let group_version = camel(&endpoint.group_version);
    format!(
        "{word}{group_version}{method}{collection}{namespaced}{}{sub}{with_path}{tail}",
        endpoint.kind
    )
}

/// `RbacAuthorizationV1`.
fn camel(group_version: &api::GroupVersion) -> String {
    format!("{}{}", title(&group_name(group_version)), title(&group_version.version))
}

/// `rbacAuthorization_v1`.
fn tag(group_version: &api::GroupVersion) -> String {
    format!("{}_{}", group_name(group_version), group_version.version)
}

fn group_name(group_version: &api::GroupVersion) -> String {
    if group_version.group.is_empty() {
        return "core".to_owned();
    }
    let group = group_version
        .group
        .strip_suffix(".k8s.io")
        .unwrap_or(&group_version.group);
    let mut parts = group.split('.');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |name, part| name + &title(part))
}

fn title(word: &str) -> String {
    let mut chars = word.chars();
    chars
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
