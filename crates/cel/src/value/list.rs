//! Lists: of values, of JSON, or of two lists one after the other.

use std::sync::Arc;

use crate::error::EvalError;
use crate::schema::{Decl, ListKind, Shape};

use super::{Json, Value};

/// A list. Cheap to clone.
#[derive(Clone, Debug)]
pub struct List(Repr);

#[derive(Clone, Debug)]
enum Repr {
    Values(Arc<Vec<Value>>),
    /// Made by adding to a list that is compared as a set or a map.
    Kept(Arc<(Vec<Value>, ListKind)>),
    Json {
        node: Json,
        decl: Option<Arc<Decl>>,
    },
    /// Adding lists copies nothing: its cost does not depend on their sizes.
    Concat(Arc<(List, List, usize)>),
}

/// Lists up to this length are copied when they are added.
const SMALL: usize = 16;

impl List {
    pub(super) fn json(node: Json, decl: Option<Arc<Decl>>) -> Self {
        Self(Repr::Json { node, decl })
    }

    /// Elements.
    pub fn len(&self) -> usize {
        match &self.0 {
            Repr::Values(values) => values.len(),
            Repr::Kept(kept) => kept.0.len(),
            Repr::Json { node, .. } => node.value().as_array().map_or(0, Vec::len),
            Repr::Concat(parts) => parts.2,
        }
    }

    /// Whether it has no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An element. An error when the data do not fit their schema.
    pub fn get(&self, index: usize) -> Option<Result<Value, EvalError>> {
        let mut list = self;
        let mut index = index;
        loop {
            match &list.0 {
                Repr::Values(values) => return values.get(index).cloned().map(Ok),
                Repr::Kept(kept) => return kept.0.get(index).cloned().map(Ok),
                Repr::Json { node, decl } => {
                    return Some(match element_decl(decl) {
                        Some(element) => Value::from_json(node.index(index)?, element),
                        None => Value::from_dynamic_json(node.index(index)?),
                    });
                }
                Repr::Concat(parts) => {
                    let first = parts.0.len();
                    if index < first {
                        list = &parts.0;
                    } else {
                        list = &parts.1;
                        index -= first;
                    }
                }
            }
        }
    }

    /// The elements in their order.
    pub fn iter(&self) -> impl Iterator<Item = Result<Value, EvalError>> + '_ {
        // A stack of what is still to come, so that added lists are walked without searching each index.
        let mut rest = vec![(self, 0)];
        std::iter::from_fn(move || {
            loop {
                let (list, index) = rest.pop()?;
                if let Repr::Concat(parts) = &list.0 {
                    rest.push((&parts.1, 0));
                    rest.push((&parts.0, 0));
                } else if let Some(value) = list.get(index) {
                    rest.push((list, index + 1));
                    return Some(value);
                }
            }
        })
    }

    /// All elements, or the first error.
    pub fn values(&self) -> Result<Vec<Value>, EvalError> {
        self.iter().collect()
    }

    /// How it is compared and added, when the schema says other than by position.
    pub(super) fn kind(&self) -> &ListKind {
        match &self.0 {
            Repr::Kept(kept) => &kept.1,
            Repr::Json { decl: Some(decl), .. } => match &decl.shape {
                Shape::List { kind, .. } => kind,
                _ => &ListKind::Atomic,
            },
            _ => &ListKind::Atomic,
        }
    }

    pub(super) fn of_kind(values: Vec<Value>, kind: ListKind) -> Self {
        Self(Repr::Kept(Arc::new((values, kind))))
    }

    pub(super) fn as_json(&self) -> Option<&serde_json::Value> {
        match &self.0 {
            Repr::Json { node, .. } => Some(node.value()),
            _ => None,
        }
    }

    /// Adds an element in place when nobody else holds the list.
    pub(crate) fn push(&mut self, value: Value) -> Result<(), EvalError> {
        if !matches!(self.0, Repr::Values(_)) {
            *self = List::from(self.values()?);
        }
        if let Repr::Values(values) = &mut self.0 {
            Arc::make_mut(values).push(value);
        }
        Ok(())
    }

    /// One list after the other.
    pub(crate) fn concat(self, other: List) -> Result<List, EvalError> {
        let length = self.len().saturating_add(other.len());
        if other.is_empty() {
            return Ok(self);
        }
        if length <= SMALL {
            let mut values = self.values()?;
            for value in other.iter() {
                values.push(value?);
            }
            return Ok(List::from(values));
        }
        Ok(Self(Repr::Concat(Arc::new((self, other, length)))))
    }
}

fn element_decl(decl: &Option<Arc<Decl>>) -> Option<&Arc<Decl>> {
    match &decl.as_ref()?.shape {
        Shape::List { element, .. } => Some(element),
        _ => None,
    }
}

impl From<Vec<Value>> for List {
    fn from(values: Vec<Value>) -> Self {
        Self(Repr::Values(Arc::new(values)))
    }
}
