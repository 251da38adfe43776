//! Rules of a definition: they compile, and do not cost too much
//! (`apis/apiextensions/validation/{validation,cel_validation}.go`).

use api::Value;
use api::field::{Error, Path};
use cel::limits;

use super::{Scope, most_occurrences, rules_of};

/// The most expensive rules that are named.
const NAMED: usize = 4;

/// Every fault of the rules in a resource's schema, which is otherwise valid.
pub fn definition_errors(schema: &Value, path: &Path) -> Vec<Error> {
    let mut check = Check::default();
    check.walk(
        schema,
        path,
        &Context {
            occurrences: Some(1),
            uncorrelatable: None,
            is_resource: true,
        },
    );
    if check.total > limits::STATIC_ESTIMATED_CRD_COST_LIMIT {
        check.expensive.sort_by_key(|(_, cost)| std::cmp::Reverse(*cost));
        for (path, _) in check.expensive.iter().take(NAMED) {
            let why = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
            check.errors.push(Error::forbidden(path, why));
        }
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        let why = too_much(what, check.total, limits::STATIC_ESTIMATED_CRD_COST_LIMIT);
        check.errors.push(Error::forbidden(path, why));
    }
    check.errors
}

/// What stands above a schema.
struct Context {
    /// How often values of the schema can be in an object; `None` if nothing bounds it.
    occurrences: Option<u64>,
    /// The part of the schema whose values cannot be matched with old ones.
    uncorrelatable: Option<Path>,
    is_resource: bool,
}

#[derive(Default)]
struct Check {
    total: u64,
    expensive: Vec<(Path, u64)>,
    errors: Vec<Error>,
}

impl Check {
    fn walk(&mut self, schema: &Value, path: &Path, context: &Context) {
        if !schema.is_object() {
            return;
        }
        let embedded = |below: &Value| below["x-kubernetes-embedded-resource"] == Value::Bool(true);
        let occurrences = match (context.occurrences, most_children(schema)) {
            (Some(above), Some(each)) => Some(above.saturating_mul(each)),
            _ => None,
        };
        let below = |schema: &Value, uncorrelatable: Option<Path>| Context {
            occurrences,
            uncorrelatable: context.uncorrelatable.clone().or(uncorrelatable),
            is_resource: embedded(schema),
        };
        let additional = &schema["additionalProperties"];
        self.walk(
            additional,
            &path.child("additionalProperties"),
            &below(additional, None),
        );
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            self.walk(property, &path.child("properties").key(name), &below(property, None));
        }
        let items = &schema["items"];
        let lost = (schema["x-kubernetes-list-type"] != "map").then(|| path.clone());
        self.walk(items, &path.child("items"), &below(items, lost));
        self.rules(schema, path, context);
    }

    fn rules(&mut self, schema: &Value, path: &Path, context: &Context) {
        let rules = rules_of(schema);
        if rules.is_empty() {
            return;
        }
        let at = path.child("x-kubernetes-validations");
        let Some(scope) = Scope::of(schema, context.is_resource, &rules) else {
            let why = "internal error: failed to retrieve type information for x-kubernetes-validations";
            self.errors.push(Error::internal(&at, why));
            return;
        };
        let times = context.occurrences.unwrap_or_else(|| most_occurrences(&scope.decl));
        let sizes = scope.sizes();
        for (i, rule) in rules.iter().enumerate() {
            let compiled = scope.compile(rule, schema);
            let at = at.index(i);
            let shown = || schema["x-kubernetes-validations"][i].clone();
            match &compiled.program {
                Ok(program) => {
                    let cost = program.cost_estimate(&sizes).max.saturating_mul(times);
                    self.observe(&at.child("rule"), cost, "estimated rule cost");
                }
                Err(why) => self
                    .errors
                    .push(Error::invalid(&at.child("rule"), shown(), why.as_str())),
            }
            match &compiled.message {
                Some(Ok(program)) => {
                    let cost = program.cost_estimate(&sizes).max;
                    let at = at.child("messageExpression");
                    self.observe(&at, cost, "estimated messageExpression cost");
                }
                Some(Err(why)) => {
                    let at = at.child("messageExpression");
                    self.errors.push(Error::invalid(&at, shown(), why.as_str()));
                }
                None => {}
            }
            if let (true, Some(lost)) = (compiled.transition, &context.uncorrelatable) {
                let why = format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {lost}");
                self.errors
                    .push(Error::invalid(&at.child("rule"), rule.rule.as_str(), why));
            }
            if rule.optional_old_self && compiled.program.is_ok() && !compiled.transition {
                let why = "may not be set if oldSelf is not used in rule";
                self.errors
                    .push(Error::invalid(&at.child("optionalOldSelf"), true, why));
            }
        }
    }

    fn observe(&mut self, path: &Path, cost: u64, what: &str) {
        if cost > limits::STATIC_ESTIMATED_COST_LIMIT {
            let why = too_much(what, cost, limits::STATIC_ESTIMATED_COST_LIMIT);
            self.errors.push(Error::forbidden(path, why));
        }
        self.total = self.total.saturating_add(cost);
        if cost >= limits::STATIC_ESTIMATED_CRD_COST_LIMIT / 100 {
            self.expensive.push((path.clone(), cost));
        }
    }
}

/// How many values a schema's value can hold of each schema below it.
fn most_children(schema: &Value) -> Option<u64> {
    let bound = |field: &str| schema[field].as_i64().map(|n| u64::try_from(n).unwrap_or(0));
    match schema["type"].as_str() {
        Some("object") if !schema["additionalProperties"].is_null() => bound("maxProperties"),
        Some("array") => bound("maxItems"),
        _ => Some(1),
    }
}

fn too_much(what: &str, cost: u64, limit: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a factor for people")]
    let factor = cost as f64 / limit as f64;
    let factor = if factor > 100.0 {
        "more than 100x".to_owned()
    } else if factor < 1.5 {
        format!("{factor:.6}x")
    } else {
        format!("{factor:.1}x")
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    )
}
