//! Access to variables, fields and elements (cel-go's interpreter/attributes.go).

use std::sync::Arc;

use crate::error::EvalError;
use crate::syntax::Position;
use crate::value::{Key, Value};

use super::plan::{Attribute, Base, Index, Qualifier};
use super::run::{Outcome, Run, Slot};

impl Run<'_> {
    /// An attribute as a node of its own: the variable costs one, what a condition chooses costs nothing more.
    pub fn attribute(&mut self, attribute: &Attribute, position: Position) -> Outcome {
        let value = self.resolve(attribute).map_err(|error| error.at(position));
        if value.as_ref().is_err_and(EvalError::is_stop) {
            return value;
        }
        if !matches!(attribute.base, Base::Conditional(..)) {
            self.spend(1)?;
        }
        value
    }

    /// `has(…)`, which costs what the way to the last field costs.
    pub fn test(&mut self, attribute: &Attribute, position: Position) -> Outcome {
        match self.resolve(attribute).map_err(|error| error.at(position))? {
            Value::Optional(value) => Ok(Value::Bool(value.is_some())),
            value => Ok(value),
        }
    }

    fn resolve(&mut self, attribute: &Attribute) -> Outcome {
        let value = match &attribute.base {
            Base::Conditional(condition, one, two) => {
                return match self.eval(*condition)? {
                    Value::Bool(true) => self.resolve(one),
                    Value::Bool(false) => self.resolve(two),
                    _ => Err(EvalError::no_such_overload()),
                };
            }
            Base::Variable(name) => self.variable(name)?,
            Base::Local(slot) => self.local(*slot)?,
            Base::Of(step) => self.eval(*step)?,
        };
        if attribute.qualifiers.is_empty() {
            Ok(value)
        } else {
            self.qualify(value, &attribute.qualifiers)
        }
    }

    fn variable(&mut self, name: &Arc<str>) -> Outcome {
        self.activation
            .find(name)
            .unwrap_or_else(|| Err(EvalError::new(format!("no such attribute(s): {name}"))))
    }

    fn local(&mut self, slot: usize) -> Outcome {
        match &self.slots[slot] {
            Slot::Value(value) => value.clone(),
            Slot::Empty => Err(EvalError::new("no such attribute(s): variable of a comprehension")),
            Slot::Pending(step) => {
                let value = self.eval(*step);
                self.slots[slot] = Slot::Value(value.clone());
                value
            }
        }
    }

    fn qualify(&mut self, value: Value, qualifiers: &[Qualifier]) -> Outcome {
        let mut optional = false;
        let mut value = match value {
            Value::Optional(None) => return Ok(Value::none()),
            Value::Optional(Some(inside)) => {
                optional = true;
                (*inside).clone()
            }
            value => value,
        };
        for qualifier in qualifiers {
            optional |= qualifier.optional;
            let index = self.index(&qualifier.index)?;
            let found = access(&value, &index, optional || qualifier.test);
            let present = matches!(found, Ok(Some(_)));
            if present || qualifier.test || !optional {
                self.spend(1)?;
            }
            match found.map_err(|error| error.at(qualifier.position))? {
                Some(_) if qualifier.test => value = Value::Bool(true),
                Some(found) => value = found,
                None if qualifier.test && !optional => value = Value::Bool(false),
                None if optional => return Ok(Value::none()),
                None => return Err(missing(&value, &index).at(qualifier.position)),
            }
        }
        Ok(if optional { Value::some(value) } else { value })
    }

    fn index(&mut self, index: &Index) -> Outcome {
        match index {
            Index::Const(value) => Ok(value.clone()),
            Index::Attribute(attribute) => self.resolve(attribute),
            Index::Of(step) => self.eval(*step),
        }
    }
}

fn missing(value: &Value, index: &Value) -> EvalError {
    match value {
        Value::List(_) => EvalError::new(format!("index out of bounds: {index}")),
        _ => EvalError::no_such_key(index),
    }
}

/// What lies at a field, key or position; none when there is nothing. `lenient` asks only whether it is there, of
/// values that have nothing inside as well.
fn access(value: &Value, index: &Value, lenient: bool) -> Result<Option<Value>, EvalError> {
    match value {
        Value::Map(map) => match Key::lookup(index) {
            Some(key) => map.find(&key).transpose(),
            None => Ok(None),
        },
        Value::List(list) => {
            let position = list_index(index)?;
            usize::try_from(position)
                .ok()
                .and_then(|position| list.get(position))
                .transpose()
        }
        Value::Struct(it) => Ok(index.as_str().and_then(|name| it.field(name)).cloned()),
        Value::Host(host) => match index.as_str() {
            Some(name) if lenient && !host.has_field(name) => Ok(None),
            Some(name) => host.field(name).transpose(),
            None => Ok(None),
        },
        _ => Ok(None),
    }
}

/// A position in a list: whole numbers of any type.
fn list_index(index: &Value) -> Result<i64, EvalError> {
    match index {
        Value::Int(position) => Ok(*position),
        Value::Uint(position) => {
            i64::try_from(*position).map_err(|_| EvalError::new(format!("unsupported index value {position} in list")))
        }
        Value::Double(position) if position.fract() == 0.0 && position.abs() < 9e18 => Ok(*position as i64),
        Value::Double(_) => Err(EvalError::new(format!("unsupported index value {index} in list"))),
        _ => Err(EvalError::new(format!(
            "unsupported index type '{}' in list",
            index.type_of().runtime_name()
        ))),
    }
}
