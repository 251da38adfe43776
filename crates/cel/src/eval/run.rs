//! The evaluator. Its functions recurse over the plan, whose depth the parser bounds; what is large in their frames is
//! kept in functions of its own.

use regex::Regex;

use crate::activation::Activation;
use crate::cost::call_cost;
use crate::error::EvalError;
use crate::function::{Body, Overload};
use crate::library::regex as patterns;
use crate::syntax::Position;
use crate::value::{Key, Map, Text, Value};

use super::plan::{Call, Plan, Set, Step, StepId};

pub(super) type Outcome = Result<Value, EvalError>;

/// The value of a variable of a comprehension.
#[derive(Clone)]
pub(super) enum Slot {
    Empty,
    Value(Outcome),
    /// Evaluated when it is first used (`cel.bind`).
    Pending(StepId),
}

pub(super) struct Run<'p> {
    pub plan: &'p Plan,
    pub activation: &'p Activation,
    pub slots: Vec<Slot>,
    cost: u64,
    limit: u64,
    /// The last pattern that was not a constant.
    pattern: Option<(Text, Regex)>,
}

/// Evaluates a plan, and says what it cost.
pub(crate) fn run(plan: &Plan, activation: &Activation, limit: u64) -> Result<(Value, u64), EvalError> {
    let mut run = Run {
        plan,
        activation,
        slots: vec![Slot::Empty; plan.slots],
        cost: 0,
        limit,
        pattern: None,
    };
    match run.eval(plan.root) {
        Ok(value) => Ok((value, run.cost)),
        Err(error) => Err(error.with_cost(run.cost)),
    }
}

impl Run<'_> {
    /// Adds to the cost, and stops the evaluation at the limit.
    pub fn spend(&mut self, cost: u64) -> Result<(), EvalError> {
        self.cost = self.cost.saturating_add(cost);
        if self.cost > self.limit {
            Err(EvalError::cost_limit())
        } else {
            Ok(())
        }
    }

    pub fn eval(&mut self, id: StepId) -> Outcome {
        let (step, position) = self.plan.get(id);
        match step {
            Step::Const(value) => Ok(value.clone()),
            Step::Attribute(attribute) => self.attribute(attribute, *position),
            Step::Test(attribute) => self.test(attribute, *position),
            Step::And(one, two) => self.logical(*one, *two, false, *position),
            Step::Or(one, two) => self.logical(*one, *two, true, *position),
            Step::Equal { one, two, negated } => self.equal(*one, *two, *negated),
            Step::NotStrictlyFalse(value) => self.not_strictly_false(*value),
            Step::Call(call) => self.call(call, *position),
            Step::InSet { value, set } => self.in_set(*value, set),
            Step::List { elements } => self.list(elements, *position),
            Step::Map { entries } => self.map(entries, *position),
            Step::Struct { .. } => self.structure(step, *position),
            Step::Fold(fold) => self.fold(fold, *position),
            Step::Bind { slot, init, result } => {
                self.slots[*slot] = Slot::Pending(*init);
                self.eval(*result)
            }
            Step::OptionalOr { optional, other, value } => self.optional_or(*optional, *other, *value, *position),
        }
    }

    fn not_strictly_false(&mut self, value: StepId) -> Outcome {
        let value = self.eval(value);
        self.spend(1)?;
        match value {
            Ok(value @ Value::Bool(_)) => Ok(value),
            Err(error) if error.is_stop() => Err(error),
            _ => Ok(Value::Bool(true)),
        }
    }

    fn in_set(&mut self, value: StepId, set: &Set) -> Outcome {
        Ok(Value::Bool(set.contains(&self.eval(value)?)))
    }

    /// `&&` and `||`: what decides wins over errors on either side.
    fn logical(&mut self, one: StepId, two: StepId, decides: bool, position: Position) -> Outcome {
        let mut failure = None;
        for term in [one, two] {
            match self.eval(term) {
                Ok(Value::Bool(value)) if value == decides => return Ok(Value::Bool(decides)),
                Ok(Value::Bool(_)) => {}
                Err(error) if error.is_stop() => return Err(error),
                Err(error) => failure = failure.or(Some(error)),
                Ok(_) => failure = failure.or_else(|| Some(EvalError::no_such_overload().at(position))),
            }
        }
        failure.map_or(Ok(Value::Bool(!decides)), Err)
    }

    fn equal(&mut self, one: StepId, two: StepId, negated: bool) -> Outcome {
        let function = if negated { "_!=_" } else { "_==_" };
        let overload = if negated { "not_equals" } else { "equals" };
        let args = self.both(one, two);
        let (values, failure) = args?;
        self.spend(call_cost(function, overload, &values, None))?;
        match failure {
            Some(error) => Err(error),
            None => Ok(Value::Bool(values[0].equals(&values[1])? != negated)),
        }
    }

    /// Evaluates both operands, even when the first fails; for one that fails `null` stands in, and its error beside.
    fn both(&mut self, one: StepId, two: StepId) -> Result<([Value; 2], Option<EvalError>), EvalError> {
        let mut failure = None;
        let mut values = [Value::Null, Value::Null];
        for (value, step) in values.iter_mut().zip([one, two]) {
            match self.eval(step) {
                Ok(found) => *value = found,
                Err(error) if error.is_stop() => return Err(error),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        Ok((values, failure))
    }

    fn call(&mut self, call: &Call, position: Position) -> Outcome {
        let overload = call.overload.map(|index| &call.function.overloads[index]);
        let id = overload.map_or("", |overload| &overload.id);
        let (values, failure) = match *call.args {
            [] => (Vec::new(), None),
            [one] => match self.eval(one) {
                Ok(value) => (vec![value], None),
                Err(error) if error.is_stop() => return Err(error),
                Err(error) => (vec![Value::Null], Some(error)),
            },
            [one, two] => {
                let (values, failure) = self.both(one, two)?;
                (values.into(), failure)
            }
            _ => {
                let mut values = Vec::with_capacity(call.args.len());
                for arg in &call.args {
                    values.push(self.eval(*arg)?);
                }
                (values, None)
            }
        };
        if let Some(error) = failure {
            self.spend(call_cost(call.function.name, id, &values, None))?;
            return Err(error);
        }
        let result = self.invoke(call, overload, &values).map_err(|error| error.at(position));
        self.spend(call_cost(call.function.name, id, &values, result.as_ref().ok()))?;
        result
    }

    fn invoke(&mut self, call: &Call, overload: Option<&Overload>, values: &[Value]) -> Outcome {
        let name = call.function.name;
        let operator = name.starts_with(['_', '-', '!', '@']);
        let chosen = match overload {
            Some(overload) if operator || overload.accepts(values) => Some(overload),
            Some(_) => None,
            None if operator => call.function.overloads.first(),
            None => call
                .function
                .overloads
                .iter()
                .find(|overload| overload.member == call.member && overload.accepts(values)),
        };
        let Some(chosen) = chosen else {
            return Err(EvalError::no_such_overload_of(name, values));
        };
        match chosen.body {
            Body::Native(native) => native(values),
            Body::Regex(native) => match (&call.regex, values.get(1)) {
                (Some(regex), _) => native(values, regex),
                (None, Some(Value::String(pattern))) => {
                    let regex = self.pattern(name, pattern)?;
                    native(values, &regex)
                }
                _ => Err(EvalError::no_such_overload()),
            },
            Body::Special => Err(EvalError::no_such_overload_of(name, values)),
        }
    }

    fn pattern(&mut self, function: &str, pattern: &Text) -> Result<Regex, EvalError> {
        if let Some((known, regex)) = &self.pattern
            && **known == **pattern
        {
            return Ok(regex.clone());
        }
        let regex = patterns::compile(pattern).map_err(|message| {
            EvalError::new(if function == "matches" {
                message
            } else {
                format!("Illegal regex: {message}")
            })
        })?;
        self.pattern = Some((pattern.clone(), regex.clone()));
        Ok(regex)
    }

    /// The value of an element that may be optional; none when it is not there.
    fn element(value: Value, optional: bool, what: impl Fn(&Value) -> String) -> Result<Option<Value>, EvalError> {
        match value {
            value if !optional => Ok(Some(value)),
            Value::Optional(value) => Ok(value.map(|value| (*value).clone())),
            other => Err(EvalError::new(what(&other))),
        }
    }

    fn list(&mut self, elements: &[(StepId, bool)], position: Position) -> Outcome {
        let mut values = Vec::with_capacity(elements.len());
        let mut failure = None;
        for (element, optional) in elements {
            let element = self.eval(*element).and_then(|value| {
                let what =
                    |value: &Value| format!("cannot initialize optional list element from non-optional value {value}");
                Self::element(value, *optional, what).map_err(|error| error.at(position))
            });
            match element {
                Ok(value) => values.extend(value),
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        self.construct(10, failure)?;
        Ok(Value::list(values))
    }

    /// Counts the cost of making a value, also of one that could not be made.
    fn construct(&mut self, cost: u64, failure: Option<EvalError>) -> Result<(), EvalError> {
        match failure {
            Some(error) if error.is_stop() => Err(error),
            Some(error) => {
                self.spend(cost)?;
                Err(error)
            }
            None => self.spend(cost),
        }
    }

    fn map(&mut self, entries: &[(StepId, StepId, bool)], position: Position) -> Outcome {
        let mut values: Vec<(Key, Value)> = Vec::with_capacity(entries.len());
        let mut failure = None;
        for entry in entries {
            match self.entry(*entry, position) {
                Ok((key, Some(value))) => values.push((key, value)),
                Ok((key, None)) => values.retain(|(other, _)| *other != key),
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        self.construct(30, failure)?;
        Ok(Value::Map(Map::from_entries(values)))
    }

    fn entry(
        &mut self,
        (key, value, optional): (StepId, StepId, bool),
        position: Position,
    ) -> Result<(Key, Option<Value>), EvalError> {
        let key = self.eval(key)?;
        let value = self.eval(value)?;
        let what = |value: &Value| format!("cannot initialize optional entry '{key}' from non-optional value {value}");
        let value = Self::element(value, optional, what).map_err(|error| error.at(position))?;
        match Key::of(&key) {
            Some(key) => Ok((key, value)),
            None => Err(EvalError::new(format!("unsupported key type: {}", key.type_of().runtime_name())).at(position)),
        }
    }

    fn structure(&mut self, step: &Step, position: Position) -> Outcome {
        let Step::Struct { name, fields, provider } = step else {
            return Err(EvalError::no_such_overload());
        };
        let mut values: Vec<(Text, Value)> = Vec::with_capacity(fields.len());
        let mut failure = None;
        for (field, value, optional) in fields {
            let value = self.eval(*value).and_then(|value| {
                let what = |value: &Value| {
                    format!("cannot initialize optional entry '{field}' from non-optional value {value}")
                };
                Self::element(value, *optional, what).map_err(|error| error.at(position))
            });
            match value {
                Ok(value) => values.extend(value.map(|value| (field.clone(), value))),
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        self.construct(40, failure)?;
        match provider {
            Some(provider) => provider.construct(name, values).map_err(|error| error.at(position)),
            None => Err(EvalError::new(format!("unknown type '{name}'")).at(position)),
        }
    }

    fn optional_or(&mut self, optional: StepId, other: StepId, value: bool, position: Position) -> Outcome {
        match self.eval(optional)? {
            Value::Optional(Some(found)) if value => Ok((*found).clone()),
            found @ Value::Optional(Some(_)) => Ok(found),
            Value::Optional(None) => self.eval(other),
            _ => Err(EvalError::no_such_overload().at(position)),
        }
    }
}
