//! The variables of one evaluation, and those that a policy defines itself.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use api::{Map, Value};
use cel::{EvalError, HostObject};
use parking_lot::Mutex;

use super::checks::{self, Checks};
use super::{Expression, VARIABLES_TYPE};
use crate::admission::Attributes;

/// What expressions see of a request.
#[derive(Clone)]
pub(in crate::admission) struct Inputs {
    pub(super) object: cel::Value,
    pub(super) old: cel::Value,
    pub(super) request: cel::Value,
    pub(super) params: cel::Value,
    pub(super) namespace: cel::Value,
    /// `authorizer` and `authorizer.requestResource`.
    pub(super) authorizer: Option<(cel::Value, cel::Value)>,
}

fn value(tree: Option<&Value>) -> cel::Value {
    let dynamic = tree.map(|tree| cel::Value::from_dynamic_json(tree.clone()));
    dynamic.and_then(Result::ok).unwrap_or(cel::Value::Null)
}

impl Inputs {
    /// The inputs without parameters; objects as the matched version shows them.
    pub fn new(
        attributes: &Attributes<'_>,
        (object, old): (Option<&Value>, Option<&Value>),
        request: Map<String, Value>,
        namespace: Option<&Value>,
        checks: &Arc<Checks>,
    ) -> Inputs {
        Inputs {
            object: value(object),
            old: value(old),
            request: value(Some(&request.into())),
            params: cel::Value::Null,
            namespace: value(namespace),
            authorizer: Some(checks::values(checks, checks::request_resource(attributes))),
        }
    }

    /// Sets the parameters.
    pub fn set_params(&mut self, params: Option<&Value>) {
        self.params = value(params);
    }

    /// The same for expressions that may not ask the authorizer.
    pub fn without_authorizer(&self) -> Inputs {
        Inputs {
            authorizer: None,
            ..self.clone()
        }
    }
}

/// The object `variables` of one evaluation: each is evaluated when it is asked for, once.
pub(super) struct Lazy {
    this: Weak<Lazy>,
    variables: Arc<Vec<(String, Expression)>>,
    inputs: Inputs,
    known: Mutex<HashMap<String, Result<cel::Value, EvalError>>>,
    cost: AtomicU64,
}

impl std::fmt::Debug for Lazy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(VARIABLES_TYPE)
    }
}

impl Lazy {
    pub fn new(variables: &Arc<Vec<(String, Expression)>>, inputs: &Inputs) -> Arc<Lazy> {
        Arc::new_cyclic(|this| Lazy {
            this: this.clone(),
            variables: variables.clone(),
            inputs: inputs.clone(),
            known: Mutex::default(),
            cost: AtomicU64::new(0),
        })
    }

    /// What variables have cost since the last call.
    pub fn take_cost(&self) -> u64 {
        self.cost.swap(0, Ordering::Relaxed)
    }

    fn evaluate(&self, name: &str, expression: &Expression) -> Result<cel::Value, EvalError> {
        let program = expression.program.as_ref().map_err(|error| {
            EvalError::new(format!(
                "composited variable {} fails to compile: {error}",
                api::field::go_quote(name)
            ))
        })?;
        let this = self
            .this
            .upgrade()
            .ok_or_else(|| EvalError::new("no such attribute(s): variables"))?;
        let (result, cost) = super::run(program, &self.inputs, &this);
        self.cost.fetch_add(cost, Ordering::Relaxed);
        result.map_err(|error| {
            EvalError::new(format!(
                "composited variable {} fails to evaluate: {error}",
                api::field::go_quote(name)
            ))
        })
    }
}

impl HostObject for Lazy {
    fn type_name(&self) -> &str {
        VARIABLES_TYPE
    }

    fn field(&self, name: &str) -> Option<Result<cel::Value, EvalError>> {
        let (_, expression) = self.variables.iter().find(|(known, _)| known == name)?;
        if let Some(known) = self.known.lock().get(name) {
            return Some(known.clone());
        }
        // Not under the lock: a variable may ask for others.
        let result = self.evaluate(name, expression);
        self.known.lock().insert(name.to_owned(), result.clone());
        Some(result)
    }

    fn has_field(&self, name: &str) -> bool {
        self.variables.iter().any(|(known, _)| known == name)
    }
}
