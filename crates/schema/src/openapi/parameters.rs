//! Query and path parameters, described by upstream's option types.

use api::Map;
use serde_json::{Value, json};

use super::Dialect;
use super::definitions::Definitions;
use crate::model::TypeDef;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";

impl<'a> Definitions<'a> {
    /// The members of an option struct as query parameters, sorted by name.
    pub(super) fn options(&self, name: &str, without: &[&str]) -> Vec<Value> {
        let Some(options) = self.schema.by_name(name).and_then(|id| self.schema.get(id).as_struct()) else {
            return Vec::new();
        };
        options
            .fields()
            .filter(|field| !["apiVersion", "kind"].contains(&field.name()) && !without.contains(&field.name()))
            .filter_map(|field| {
                // A list of strings is given by repeating the parameter.
                let scalar = match field.ty().def() {
                    TypeDef::List { elem, .. } => self.schema.get(*elem),
                    _ => field.ty(),
                };
                let word = match scalar.def() {
                    TypeDef::Bool => "boolean",
                    TypeDef::Integer(_) => "integer",
                    TypeDef::String(_) | TypeDef::Time => "string",
                    _ => return None,
                };
                Some(self.parameter("query", field.name(), self.docs.of_field(field), word))
            })
            .collect()
    }

    /// The same for one of metav1's option structs.
    pub(super) fn meta_options(&self, name: &str, without: &[&str]) -> Vec<Value> {
        self.options(&format!("{META}{name}"), without)
    }

    /// `{name}` and the like, and `pretty`.
    pub(super) fn path_parameters(&self, path: &str, kind: &str) -> Vec<Value> {
        let mut out = Vec::new();
        let known = [
            ("{name}", "name", format!("name of the {kind}")),
            (
                "{namespace}",
                "namespace",
                "object name and auth scope, such as for teams and projects".to_owned(),
            ),
            ("{path}", "path", "path to the resource".to_owned()),
        ];
        for (placeholder, name, text) in known {
            if path.contains(placeholder) {
                out.push(self.parameter("path", name, &text, "string"));
            }
        }
        let pretty = "If 'true', then the output is pretty printed. Defaults to 'false' unless the user-agent \
                      indicates a browser or command-line HTTP tool (curl and wget).";
        out.push(self.parameter("query", "pretty", pretty, "string"));
        out
    }

    fn parameter(&self, place: &str, name: &str, text: &str, ty: &str) -> Value {
        let mut out = Map::new();
        out.insert("name".to_owned(), name.into());
        out.insert("in".to_owned(), place.into());
        if !text.is_empty() {
            out.insert("description".to_owned(), text.into());
        }
        if place == "path" {
            out.insert("required".to_owned(), true.into());
        }
        match self.dialect {
            Dialect::V2 => {
                out.insert("type".to_owned(), ty.into());
                out.insert("uniqueItems".to_owned(), true.into());
            }
            Dialect::V3 => {
                out.insert("schema".to_owned(), json!({"type": ty, "uniqueItems": true}));
            }
        }
        Value::Object(out)
    }
}

/// Appends parameters that are not there yet, and sorts by name.
pub(super) fn merged(mut parameters: Vec<Value>, more: Vec<Value>) -> Vec<Value> {
    for parameter in more {
        if !parameters.iter().any(|known| known["name"] == parameter["name"]) {
            parameters.push(parameter);
        }
    }
    parameters.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
    parameters
}
