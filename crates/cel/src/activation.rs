//! The variables of one evaluation.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::EvalError;
use crate::value::Value;

/// A variable that is evaluated when it is used.
pub trait LazyValue: Send + Sync {
    /// The value; asked for each time the variable is used.
    fn get(&self) -> Result<Value, EvalError>;
}

/// Variables by name. Cheap to clone once it is complete; a child sees its parent's variables.
#[derive(Clone, Default)]
pub struct Activation {
    values: HashMap<Arc<str>, Binding>,
    parent: Option<Arc<Activation>>,
}

#[derive(Clone)]
enum Binding {
    Value(Value),
    Lazy(Arc<dyn LazyValue>),
}

impl Activation {
    /// No variables.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sees the variables of another, unless it has its own of the same name.
    pub fn child_of(parent: Arc<Activation>) -> Self {
        Self {
            values: HashMap::new(),
            parent: Some(parent),
        }
    }

    /// Adds a variable.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.values.insert(name.into(), Binding::Value(value.into()));
        self
    }

    /// Adds a variable that is evaluated when it is used.
    pub fn with_lazy(mut self, name: &str, value: Arc<dyn LazyValue>) -> Self {
        self.values.insert(name.into(), Binding::Lazy(value));
        self
    }

    pub(crate) fn find(&self, name: &str) -> Option<Result<Value, EvalError>> {
        match self.values.get(name) {
            Some(Binding::Value(value)) => Some(Ok(value.clone())),
            Some(Binding::Lazy(value)) => Some(value.get()),
            None => self.parent.as_ref()?.find(name),
        }
    }
}
