//! Comprehensions.

use std::sync::Arc;

use crate::cost::call_cost;
use crate::error::EvalError;
use crate::function::{Body, Function};
use crate::limits::MAX_LIST_LENGTH;
use crate::syntax::Position;
use crate::value::{List, Map, Value};

use super::plan::{Each, Fold, StepId};
use super::run::{Outcome, Run, Slot};

impl Run<'_> {
    pub fn fold(&mut self, fold: &Fold, position: Position) -> Outcome {
        let range = self.eval(fold.range)?;
        self.slots[fold.accu] = Slot::Value(self.eval(fold.init));
        match &range {
            Value::List(list) => self.fold_list(fold, list)?,
            Value::Map(map) => self.fold_map(fold, map)?,
            other => {
                let name = other.type_of();
                let message = format!("got '{}', expected iterable type", name.runtime_name());
                return Err(EvalError::new(message).at(position));
            }
        }
        let result = self.eval(fold.result);
        self.slots[fold.accu] = Slot::Empty;
        self.slots[fold.var] = Slot::Empty;
        if let Some(var2) = fold.var2 {
            self.slots[var2] = Slot::Empty;
        }
        result
    }

    fn fold_list(&mut self, fold: &Fold, list: &List) -> Result<(), EvalError> {
        for (index, value) in list.iter().enumerate() {
            match fold.var2 {
                Some(second) => {
                    self.slots[fold.var] = Slot::Value(Ok(Value::Int(index as i64)));
                    self.slots[second] = Slot::Value(value);
                }
                None => self.slots[fold.var] = Slot::Value(value),
            }
            if !self.round(fold)? {
                break;
            }
        }
        Ok(())
    }

    fn fold_map(&mut self, fold: &Fold, map: &Map) -> Result<(), EvalError> {
        for key in map.keys() {
            if let Some(second) = fold.var2 {
                let Some(value) = map.find(&key) else { continue };
                self.slots[second] = Slot::Value(value);
            }
            self.slots[fold.var] = Slot::Value(Ok(key.value()));
            if !self.round(fold)? {
                break;
            }
        }
        Ok(())
    }

    /// One round of a loop; false ends it.
    fn round(&mut self, fold: &Fold) -> Result<bool, EvalError> {
        match self.eval(fold.condition) {
            Ok(Value::Bool(false)) => return Ok(false),
            Err(error) if error.is_stop() => return Err(error),
            _ => {}
        }
        let outcome = match &fold.each {
            Each::Eval { step, absorbs } => {
                let value = self.eval(*step);
                if value.as_ref().is_err_and(EvalError::is_stop) {
                    return value.map(|_| false);
                }
                let go_on = value.is_ok() || *absorbs;
                self.slots[fold.accu] = Slot::Value(value);
                return Ok(go_on);
            }
            Each::Append { filter, element, cost } => self.append(fold.accu, *filter, *element, *cost),
            Each::Insert { filter, args, function } => self.insert(fold.accu, *filter, args, function),
        };
        match outcome {
            Ok(()) => Ok(true),
            Err(error) if error.is_stop() => Err(error),
            Err(error) => {
                self.slots[fold.accu] = Slot::Value(Err(error));
                Ok(false)
            }
        }
    }

    /// Whether a filter lets the round's element through.
    fn passes(&mut self, filter: Option<StepId>) -> Result<bool, EvalError> {
        let Some(filter) = filter else { return Ok(true) };
        match self.eval(filter)? {
            Value::Bool(value) => Ok(value),
            _ => Err(EvalError::no_such_overload()),
        }
    }

    fn append(&mut self, accu: usize, filter: Option<StepId>, element: StepId, cost: u64) -> Result<(), EvalError> {
        if !self.passes(filter)? {
            return Ok(());
        }
        let element = self.eval(element);
        if !element.as_ref().is_err_and(EvalError::is_stop) {
            self.spend(cost)?;
        }
        let element = element?;
        match &mut self.slots[accu] {
            Slot::Value(Ok(Value::List(list))) if list.len() >= MAX_LIST_LENGTH => Err(EvalError::too_large("list")),
            Slot::Value(Ok(Value::List(list))) => list.push(element),
            _ => Err(EvalError::no_such_overload()),
        }
    }

    fn insert(
        &mut self,
        accu: usize,
        filter: Option<StepId>,
        args: &[StepId],
        function: &Arc<Function>,
    ) -> Result<(), EvalError> {
        if !self.passes(filter)? {
            return Ok(());
        }
        self.spend(1)?;
        let mut values = vec![Value::Null];
        for arg in args {
            values.push(self.eval(*arg)?);
        }
        self.spend(call_cost(function.name, "", &values, None))?;
        // The map leaves its slot for the call, so that it is not copied.
        match std::mem::replace(&mut self.slots[accu], Slot::Empty) {
            Slot::Value(Ok(map)) => values[0] = map,
            _ => return Err(EvalError::no_such_overload()),
        }
        let chosen = function.overloads.iter().find(|overload| overload.accepts(&values));
        let Some(Body::Native(native)) = chosen.map(|overload| overload.body) else {
            return Err(EvalError::no_such_overload_of(function.name, &values));
        };
        let map = native(&values)?;
        self.slots[accu] = Slot::Value(Ok(map));
        Ok(())
    }
}
