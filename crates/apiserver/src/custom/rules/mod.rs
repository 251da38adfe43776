//! `x-kubernetes-validations`: rules in CEL over the parts of an object
//! (`apiextensions-apiserver/pkg/apiserver/schema/cel`).
//!
//! Rules are compiled once for a version of a definition; [`definition_errors`] judges them when a
//! definition is written.

mod definition;
mod evaluate;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::Value;
use cel::{Decl, DeclSizes, DeclTypes, Env, Program, Type, limits};
use schema::structural::{Rule, check};

pub use definition::definition_errors;

/// The rules of a schema and of those below it.
pub(crate) struct Rules {
    /// As error messages show the value.
    ty: String,
    decl: Option<Arc<Decl>>,
    rules: Vec<Compiled>,
    items: Option<Box<Rules>>,
    additional: Option<Box<Rules>>,
    properties: BTreeMap<String, Rules>,
    /// By which items of a list are matched with those of the old one.
    map_keys: Option<Vec<String>>,
}

/// A rule, ready to be evaluated.
struct Compiled {
    rule: Rule,
    program: Result<Program, String>,
    message: Option<Result<Program, String>>,
    /// Whether it compares with the old value.
    transition: bool,
    /// Where the error is said to be, below the rule's place.
    at: Option<String>,
}

/// The environment of a schema's rules.
struct Scope {
    env: Env,
    decl: Arc<Decl>,
    /// The same where the old value may be absent; only if a rule wants that.
    optional_env: Option<Env>,
}

impl Scope {
    fn of(schema: &Value, is_resource: bool, rules: &[Rule]) -> Option<Scope> {
        let decl = Decl::from_schema(schema, "selfType", is_resource)?;
        let env = |old: Type| {
            Env::kubernetes()
                .types(Arc::new(DeclTypes::new([&decl])))
                .variable("self", decl.ty())
                .variable("oldSelf", old)
                .build()
        };
        Some(Scope {
            env: env(decl.ty()),
            optional_env: rules
                .iter()
                .any(|rule| rule.optional_old_self)
                .then(|| env(Type::optional(decl.ty()))),
            decl: decl.clone(),
        })
    }

    fn sizes(&self) -> DeclSizes {
        DeclSizes::new()
            .with("self", self.decl.clone())
            .with("oldSelf", self.decl.clone())
    }

    fn compile(&self, rule: &Rule, schema: &Value) -> Compiled {
        let optional = self.optional_env.as_ref().filter(|_| rule.optional_old_self);
        let env = optional.unwrap_or(&self.env);
        let program = env
            .compile(&rule.rule)
            .map_err(|issues| format!("compilation failed: {issues}"))
            .and_then(|program| match program.output_type() {
                Type::Bool => Ok(program),
                _ => Err("cel expression must evaluate to a bool".to_owned()),
            });
        let message = (!rule.message_expression.is_empty()).then(|| {
            env.compile(&rule.message_expression)
                .map_err(|issues| format!("messageExpression compilation failed: {issues}"))
                .and_then(|program| match program.output_type() {
                    Type::String => Ok(program),
                    _ => Err("messageExpression must evaluate to a string".to_owned()),
                })
        });
        Compiled {
            transition: program.as_ref().is_ok_and(|p| p.uses("oldSelf")),
            at: normal_path(schema, &rule.field_path),
            rule: rule.clone(),
            program,
            message,
        }
    }
}

/// A `fieldPath` as a field path: `.spec.a['b']` is `spec.a[b]` where `a` is a map.
fn normal_path(schema: &Value, path: &str) -> Option<String> {
    let mut out = String::new();
    let mut at = schema;
    for step in check::field_steps(path)? {
        if let Some(below) = at["properties"].get(&step) {
            if !out.is_empty() {
                out.push('.');
            }
            out.push_str(&step);
            at = below;
        } else {
            out.push_str(&format!("[{step}]"));
            at = &at["additionalProperties"];
        }
    }
    Some(out)
}

impl Rules {
    /// Compiles the rules of a resource's schema; `None` if there are none.
    pub fn compile(schema: &Value) -> Option<Rules> {
        compile(schema, true)
    }
}

fn compile(schema: &Value, is_resource: bool) -> Option<Rules> {
    if !schema.is_object() {
        return None;
    }
    let embedded = |below: &Value| below["x-kubernetes-embedded-resource"] == Value::Bool(true);
    let below = |below: &Value| compile(below, embedded(below)).map(Box::new);
    let properties: BTreeMap<String, Rules> = schema["properties"]
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(name, property)| Some((name.clone(), compile(property, embedded(property))?)))
        .collect();
    let (items, additional) = (below(&schema["items"]), below(&schema["additionalProperties"]));
    let own = rules_of(schema);
    if own.is_empty() && items.is_none() && additional.is_none() && properties.is_empty() {
        return None;
    }
    let scope = if own.is_empty() {
        None
    } else {
        Scope::of(schema, is_resource, &own)
    };
    let rules = match &scope {
        Some(scope) => own.iter().map(|rule| scope.compile(rule, schema)).collect(),
        None => Vec::new(),
    };
    let is_map = schema["x-kubernetes-list-type"] == "map";
    Some(Rules {
        ty: schema["type"].as_str().unwrap_or_default().to_owned(),
        decl: scope.map(|scope| scope.decl),
        rules,
        items,
        additional,
        properties,
        map_keys: is_map.then(|| {
            let keys = schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
            keys.filter_map(|key| key.as_str().map(str::to_owned)).collect()
        }),
    })
}

fn rules_of(schema: &Value) -> Vec<Rule> {
    let rules = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
    rules
        .map(Rule::parse)
        .filter(|rule| !rule.rule.trim().is_empty())
        .collect()
}

/// How often a value of that size can be in an object at most.
fn most_occurrences(decl: &Decl) -> u64 {
    limits::MAX_REQUEST_SIZE_BYTES / (decl.min_serialized_size + 1)
}

#[cfg(test)]
mod tests;
