//! Rules evaluated on objects (`schema/cel/validation.go`), within a cost budget for all of them.

use api::Value;
use api::field::{Error, Path};
use cel::{Activation, ErrorKind, EvalError, Json, Program, limits};
use schema::structural::Rule;

use super::{Compiled, Rules};

/// Nothing further is evaluated: the errors so far are all there are.
struct Exhausted;

/// A value and what it was before, if it can be matched with anything.
struct Place<'v> {
    new: &'v Json,
    old: Option<&'v Json>,
}

struct Run {
    budget: u64,
    errors: Vec<Error>,
}

impl Rules {
    /// Every rule that does not hold.
    pub fn errors(&self, object: &Value, old: Option<&Value>) -> Vec<Error> {
        let share = |tree: &Value| Json::new(std::sync::Arc::new(tree.clone()));
        let (new, old) = (share(object), old.map(share));
        let mut run = Run {
            budget: limits::RUNTIME_COST_BUDGET,
            errors: Vec::new(),
        };
        let place = Place {
            new: &new,
            old: old.as_ref(),
        };
        // Whether the budget sufficed is in the errors.
        let _ = self.walk(&place, &Path::root(), &mut run);
        run.errors
    }

    fn walk(&self, place: &Place<'_>, path: &Path, run: &mut Run) -> Result<(), Exhausted> {
        let tree = place.new.value();
        if tree.is_null() {
            return Ok(());
        }
        self.own(place, path, run)?;
        match tree {
            Value::Array(items) => {
                let Some(rules) = &self.items else { return Ok(()) };
                for index in 0..items.len() {
                    let Some(new) = place.new.index(index) else { continue };
                    let old = self.old_item(new.value(), place.old);
                    let below = Place {
                        new: &new,
                        old: old.as_ref(),
                    };
                    rules.walk(&below, &path.index(index), run)?;
                }
            }
            Value::Object(map) => {
                for name in map.keys() {
                    let (rules, path) = match (self.properties.get(name), &self.additional) {
                        (Some(rules), _) => (rules, path.child(name)),
                        (None, Some(rules)) => (&**rules, path.key(name)),
                        (None, None) => continue,
                    };
                    let Some(new) = place.new.field(name) else { continue };
                    let old = place.old.and_then(|old| old.field(name));
                    let below = Place {
                        new: &new,
                        old: old.as_ref(),
                    };
                    rules.walk(&below, &path, run)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// In a list of type map, the old item with the same keys.
    fn old_item(&self, item: &Value, old: Option<&Json>) -> Option<Json> {
        let (keys, old) = (self.map_keys.as_ref()?, old?);
        let items = old.value().as_array()?;
        let at = items
            .iter()
            .position(|candidate| keys.iter().all(|key| candidate.get(key) == item.get(key)))?;
        old.index(at)
    }

    /// The rules of this value itself.
    fn own(&self, place: &Place<'_>, path: &Path, run: &mut Run) -> Result<(), Exhausted> {
        let Some(decl) = self.decl.as_ref().filter(|_| !self.rules.is_empty()) else {
            return Ok(());
        };
        let unchanged = place.old.is_some_and(|old| old.value() == place.new.value());
        let shown = |path: &Path| {
            if path.as_str().is_empty() {
                Path::new("<nil>")
            } else {
                path.clone()
            }
        };
        let invalid = |why: String| Error::invalid(&shown(path), self.ty.as_str(), why);
        let new = cel::Value::from_json(place.new.clone(), decl);
        let old = place.old.filter(|old| !old.value().is_null());
        let old = old.map(|old| cel::Value::from_json(old.clone(), decl)).transpose();
        let (new, old) = match (new, old) {
            (Ok(new), Ok(old)) => (new, old),
            (Err(error), _) | (_, Err(error)) => {
                run.errors.push(invalid(error.to_string()));
                return Ok(());
            }
        };
        for compiled in &self.rules {
            let program = match &compiled.program {
                Ok(program) => program,
                Err(why) => {
                    run.errors.push(invalid(format!("rule compile error: {why}")));
                    continue;
                }
            };
            // What did not change is not judged, except by how it changes.
            if unchanged && !compiled.transition {
                continue;
            }
            let mut activation = Activation::new().with("self", new.clone());
            if compiled.rule.optional_old_self {
                let old = old.clone().map_or_else(cel::Value::none, cel::Value::some);
                activation = activation.with("oldSelf", old);
            } else if let Some(old) = &old {
                activation = activation.with("oldSelf", old.clone());
            } else if compiled.transition {
                continue;
            }
            if run.budget == 0 {
                run.errors.push(invalid(OUT_OF_BUDGET.to_owned()));
                return Err(Exhausted);
            }
            match run.evaluate(program, &activation) {
                Ok(Ok(value)) if value.as_bool() == Some(true) => {}
                Ok(Ok(_)) => {
                    let message = match run.message(compiled, &activation) {
                        Ok(message) => message,
                        Err(why) => {
                            run.errors.push(invalid(why));
                            return Err(Exhausted);
                        }
                    };
                    let at = compiled.at.as_ref().map_or_else(|| shown(path), |at| below(path, at));
                    run.errors.push(error(&compiled.rule, &at, &self.ty, message));
                }
                Ok(Err(error)) => match explain(&error, &compiled.rule) {
                    (why, ErrorKind::Failed) => run.errors.push(invalid(why)),
                    (why, ErrorKind::CostLimit) => {
                        run.errors.push(invalid(why));
                        return Err(Exhausted);
                    }
                },
                Err(Exhausted) => {
                    run.errors.push(invalid(OUT_OF_BUDGET.to_owned()));
                    return Err(Exhausted);
                }
            }
        }
        Ok(())
    }
}

const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

fn below(path: &Path, at: &str) -> Path {
    if at.starts_with('[') {
        return Path::new(&format!("{path}{at}"));
    }
    path.child(at)
}

/// The rule as it is named in messages.
fn named(rule: &Rule) -> &str {
    if rule.message.is_empty() {
        rule.rule.trim()
    } else {
        rule.message.trim()
    }
}

fn explain(error: &EvalError, rule: &Rule) -> (String, ErrorKind) {
    let (text, named) = (error.message(), named(rule));
    if error.kind() == ErrorKind::CostLimit {
        let why = format!(
            "'{text}': no further validation rules will be run due to call cost exceeds limit for rule: {named}"
        );
        return (why, ErrorKind::CostLimit);
    }
    let why = if text.starts_with("no such overload") {
        format!(
            "'{text}': call arguments did not match a supported operator, function or macro signature for rule: {named}"
        )
    } else {
        format!("{text} evaluating rule: {named}")
    };
    (why, ErrorKind::Failed)
}

fn error(rule: &Rule, path: &Path, ty: &str, message: String) -> Error {
    match rule.reason.as_str() {
        "FieldValueForbidden" => Error::forbidden(path, message),
        "FieldValueRequired" => Error::required(path, message),
        "FieldValueDuplicate" => Error::duplicate(path, ty),
        _ => Error::invalid(path, ty, message),
    }
}

impl Run {
    /// Evaluates within what is left of the budget.
    fn evaluate(
        &mut self,
        program: &Program,
        activation: &Activation,
    ) -> Result<Result<cel::Value, EvalError>, Exhausted> {
        let (result, cost) = match program.evaluate(activation, limits::PER_CALL_LIMIT) {
            Ok((value, cost)) => (Ok(value), cost),
            Err(error) => {
                let cost = error.cost();
                (Err(error), cost)
            }
        };
        if cost > self.budget {
            self.budget = 0;
            return Err(Exhausted);
        }
        self.budget -= cost;
        Ok(result)
    }

    /// What a person is told of a rule that does not hold.
    ///
    /// # Errors
    /// Why nothing further can be evaluated.
    fn message(&mut self, compiled: &Compiled, activation: &Activation) -> Result<String, String> {
        let rule = &compiled.rule;
        let plain = || {
            if rule.message.is_empty() {
                format!("failed rule: {}", rule.rule.trim())
            } else {
                rule.message.trim().to_owned()
            }
        };
        let Some(Ok(program)) = &compiled.message else {
            return Ok(plain());
        };
        let value = match self.evaluate(program, activation) {
            Err(Exhausted) => {
                return Err("messageExpression evaluation failed due to running out of cost budget, no further validation rules will be run".to_owned());
            }
            Ok(Err(error)) if error.kind() == ErrorKind::CostLimit => {
                return Err(format!(
                    "no further validation rules will be run due to call cost exceeds limit for messageExpression: {}",
                    api::field::go_quote(&rule.message_expression)
                ));
            }
            Ok(Err(_)) => return Ok(plain()),
            Ok(Ok(value)) => value,
        };
        let text = value.as_str().unwrap_or_default().trim();
        let fits = !text.is_empty() && text.len() <= limits::MAX_MESSAGE_EXPRESSION_BYTES && !text.contains('\n');
        Ok(if fits { text.to_owned() } else { plain() })
    }
}
