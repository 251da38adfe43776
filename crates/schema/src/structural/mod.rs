//! Structural schemas of custom resources (`apiextensions-apiserver/pkg/apiserver/schema`).
//!
//! A [`Node`] is one schema of `openAPIV3Schema`, parsed once; pruning, defaulting, coercion of
//! embedded metadata and validation are functions of a node and a tree. [`model`] turns a node into
//! the arena that the rest of the crate works on (field ownership), so that custom resources merge
//! through the same code as built-in kinds. [`check`] judges a schema itself.
//!
//! What it does not know: names and versions of definitions, and CEL (rules are kept as text).

pub mod check;
mod coerce;
mod default_check;
mod defaulting;
mod formats;
mod list_types;
mod model;
mod numbers;
mod prune;
pub mod publish;
mod validate;

use std::collections::BTreeMap;
use std::sync::Arc;

use regex::Regex;
use serde_json::Value;

pub use coerce::{Malformed, coerce, coerce_object, embedded_errors, object_meta};
pub use default_check::check_defaults;
pub use defaulting::{apply_defaults, drop_nulls, prune_defaults};
pub use list_types::list_errors;
pub use model::{any_resource, build};
pub use prune::{prune, prune_nested};
pub use validate::{Validator, matches_old};

/// What a schema says of members that it does not name.
#[derive(Clone, Debug, Default)]
pub enum Additional {
    /// Nothing.
    #[default]
    Unset,
    /// `additionalProperties: true`.
    Any,
    /// `additionalProperties: false`.
    Forbidden,
    /// They follow a schema.
    Schema(Box<Node>),
}

/// A rule of `x-kubernetes-validations`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// The expression.
    pub rule: String,
    /// What a person is told when it does not hold.
    pub message: String,
    /// An expression for that.
    pub message_expression: String,
    /// `FieldValueInvalid` and so on; empty is Invalid.
    pub reason: String,
    /// Where the error is said to be, below the rule's place.
    pub field_path: String,
    /// Whether the rule also runs where there is no old value.
    pub optional_old_self: bool,
}

/// One schema.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the members are JSON schema's keywords")]
pub struct Node {
    pub ty: String,
    pub format: String,
    pub nullable: bool,
    pub default: Option<Value>,
    pub maximum: Option<f64>,
    pub exclusive_maximum: bool,
    pub minimum: Option<f64>,
    pub exclusive_minimum: bool,
    pub multiple_of: Option<f64>,
    pub max_length: Option<i64>,
    pub min_length: Option<i64>,
    pub pattern: Option<Pattern>,
    pub max_items: Option<i64>,
    pub min_items: Option<i64>,
    pub unique_items: bool,
    pub max_properties: Option<i64>,
    pub min_properties: Option<i64>,
    pub required: Vec<String>,
    pub enumeration: Vec<Value>,
    pub items: Option<Box<Node>>,
    pub properties: BTreeMap<String, Node>,
    pub additional: Additional,
    pub all_of: Vec<Node>,
    pub any_of: Vec<Node>,
    pub one_of: Vec<Node>,
    pub not: Option<Box<Node>>,
    pub preserve_unknown: bool,
    pub embedded: bool,
    pub int_or_string: bool,
    pub list_type: String,
    pub list_map_keys: Vec<String>,
    pub map_type: String,
    pub validations: Vec<Rule>,
}

/// A pattern, compiled.
#[derive(Clone, Debug)]
pub struct Pattern {
    /// As the schema has it.
    pub text: String,
    /// `None` if it is no regular expression, which definitions are checked for.
    pub regex: Option<Arc<Regex>>,
}

impl Pattern {
    fn new(text: &str) -> Pattern {
        Pattern {
            text: text.to_owned(),
            regex: Regex::new(text).ok().map(Arc::new),
        }
    }
}

impl Node {
    /// Reads a schema. What makes no sense is read as absent: definitions are checked when they are
    /// written.
    pub fn parse(schema: &Value) -> Node {
        let text = |field: &str| schema[field].as_str().unwrap_or_default().to_owned();
        let flag = |field: &str| schema[field].as_bool().unwrap_or(false);
        let nodes = |field: &str| {
            schema[field]
                .as_array()
                .into_iter()
                .flatten()
                .map(Node::parse)
                .collect()
        };
        let texts = |field: &str| -> Vec<String> {
            let items = schema[field].as_array().into_iter().flatten();
            items.filter_map(|v| v.as_str().map(str::to_owned)).collect()
        };
        let one = |field: &str| schema[field].is_object().then(|| Box::new(Node::parse(&schema[field])));
        Node {
            ty: text("type"),
            format: text("format"),
            nullable: flag("nullable"),
            default: schema.get("default").filter(|v| !v.is_null()).cloned(),
            maximum: schema["maximum"].as_f64(),
            exclusive_maximum: flag("exclusiveMaximum"),
            minimum: schema["minimum"].as_f64(),
            exclusive_minimum: flag("exclusiveMinimum"),
            multiple_of: schema["multipleOf"].as_f64(),
            max_length: schema["maxLength"].as_i64(),
            min_length: schema["minLength"].as_i64(),
            pattern: schema["pattern"].as_str().filter(|p| !p.is_empty()).map(Pattern::new),
            max_items: schema["maxItems"].as_i64(),
            min_items: schema["minItems"].as_i64(),
            unique_items: flag("uniqueItems"),
            max_properties: schema["maxProperties"].as_i64(),
            min_properties: schema["minProperties"].as_i64(),
            required: texts("required"),
            enumeration: schema["enum"].as_array().cloned().unwrap_or_default(),
            items: one("items"),
            properties: members(&schema["properties"]),
            additional: match &schema["additionalProperties"] {
                Value::Bool(true) => Additional::Any,
                Value::Bool(false) => Additional::Forbidden,
                below @ Value::Object(_) => Additional::Schema(Box::new(Node::parse(below))),
                _ => Additional::Unset,
            },
            all_of: nodes("allOf"),
            any_of: nodes("anyOf"),
            one_of: nodes("oneOf"),
            not: one("not"),
            preserve_unknown: flag("x-kubernetes-preserve-unknown-fields"),
            embedded: flag("x-kubernetes-embedded-resource"),
            int_or_string: flag("x-kubernetes-int-or-string"),
            list_type: text("x-kubernetes-list-type"),
            list_map_keys: texts("x-kubernetes-list-map-keys"),
            map_type: text("x-kubernetes-map-type"),
            validations: schema["x-kubernetes-validations"]
                .as_array()
                .into_iter()
                .flatten()
                .map(Rule::parse)
                .collect(),
        }
    }

    /// The schema of a member, by name or by `additionalProperties`.
    pub fn member(&self, name: &str) -> Option<&Node> {
        match (self.properties.get(name), &self.additional) {
            (Some(node), _) => Some(node),
            (None, Additional::Schema(node)) => Some(node),
            _ => None,
        }
    }

    /// Whether the rules of this schema or of one below it have to be evaluated.
    pub fn has_rules(&self) -> bool {
        !self.validations.is_empty()
            || self.properties.values().any(Node::has_rules)
            || self.items.as_ref().is_some_and(|node| node.has_rules())
            || matches!(&self.additional, Additional::Schema(node) if node.has_rules())
            || self.all_of.iter().any(Node::has_rules)
    }

    /// A resource's root: `apiVersion`, `kind` and `metadata` are known without being named.
    fn as_resource(&self) -> std::borrow::Cow<'_, Node> {
        if self.embedded {
            return std::borrow::Cow::Borrowed(self);
        }
        let mut node = self.clone();
        node.embedded = true;
        std::borrow::Cow::Owned(node)
    }

    /// This schema as that of a whole resource.
    #[must_use]
    pub fn into_resource(mut self) -> Node {
        self.embedded = true;
        self
    }
}

fn members(properties: &Value) -> BTreeMap<String, Node> {
    let properties = properties.as_object().into_iter().flatten();
    properties
        .map(|(name, schema)| (name.clone(), Node::parse(schema)))
        .collect()
}

impl Rule {
    /// Reads a rule.
    pub fn parse(rule: &Value) -> Rule {
        let text = |field: &str| rule[field].as_str().unwrap_or_default().to_owned();
        Rule {
            rule: text("rule"),
            message: text("message"),
            message_expression: text("messageExpression"),
            reason: text("reason"),
            field_path: text("fieldPath"),
            optional_old_self: rule["optionalOldSelf"].as_bool().unwrap_or(false),
        }
    }
}

/// The members that every resource has without naming them.
fn is_meta(name: &str) -> bool {
    matches!(name, "apiVersion" | "kind" | "metadata")
}

/// A place in an object, as unknown fields are reported: `spec.items[0].x`.
#[derive(Default)]
struct Place(String);

impl Place {
    fn within<R>(&mut self, step: &str, f: impl FnOnce(&mut Self) -> R) -> R {
        let length = self.0.len();
        if !self.0.is_empty() {
            self.0.push('.');
        }
        self.0.push_str(step);
        let result = f(self);
        self.0.truncate(length);
        result
    }

    fn at<R>(&mut self, index: usize, f: impl FnOnce(&mut Self) -> R) -> R {
        let length = self.0.len();
        self.0.push_str(&format!("[{index}]"));
        let result = f(self);
        self.0.truncate(length);
        result
    }

    fn of(&self, name: &str) -> String {
        if self.0.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.0)
        }
    }
}

#[cfg(test)]
mod tests;
