//! Maps of values, and objects of JSON.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::EvalError;
use crate::escape;
use crate::schema::{Decl, Shape};

use super::{Json, Text, Value};

/// The key of a map. Whole numbers are the same key whatever their type.
#[derive(Clone, Debug)]
pub enum Key {
    /// `bool`
    Bool(bool),
    /// `int`
    Int(i64),
    /// `uint`
    Uint(u64),
    /// `string`
    String(Text),
}

impl Key {
    /// The key that a value is, or none when it cannot be one.
    pub fn of(value: &Value) -> Option<Key> {
        Some(match value {
            Value::Bool(value) => Key::Bool(*value),
            Value::Int(value) => Key::Int(*value),
            Value::Uint(value) => Key::Uint(*value),
            Value::String(text) => Key::String(text.clone()),
            _ => return None,
        })
    }

    /// The key by which a value is looked up: a whole `double` finds a whole number.
    pub(crate) fn lookup(value: &Value) -> Option<Key> {
        match value {
            Value::Double(number) if number.fract() == 0.0 => {
                if *number >= -9_223_372_036_854_775_808.0 && *number < 9_223_372_036_854_775_808.0 {
                    Some(Key::Int(*number as i64))
                } else if *number >= 0.0 && *number < 18_446_744_073_709_551_616.0 {
                    Some(Key::Uint(*number as u64))
                } else {
                    None
                }
            }
            _ => Key::of(value),
        }
    }

    /// The key as a value.
    pub fn value(&self) -> Value {
        match self {
            Key::Bool(value) => Value::Bool(*value),
            Key::Int(value) => Value::Int(*value),
            Key::Uint(value) => Value::Uint(*value),
            Key::String(text) => Value::String(text.clone()),
        }
    }

    fn number(&self) -> i128 {
        match self {
            Key::Int(value) => i128::from(*value),
            Key::Uint(value) => i128::from(*value),
            _ => 0,
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Key::Bool(_) => 0,
            Key::Int(_) | Key::Uint(_) => 1,
            Key::String(_) => 2,
        }
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Key::Bool(one), Key::Bool(two)) => one.cmp(two),
            (Key::String(one), Key::String(two)) => (**one).cmp(&**two),
            _ => self
                .rank()
                .cmp(&other.rank())
                .then_with(|| self.number().cmp(&other.number())),
        }
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Key {}

/// A map, or an object of the API. Cheap to clone. Its keys come in their order, where cel-go's order is random.
#[derive(Clone, Debug)]
pub struct Map(Repr);

#[derive(Clone, Debug)]
enum Repr {
    Values(Arc<BTreeMap<Key, Value>>),
    Json { node: Json, decl: Option<Arc<Decl>> },
}

impl Map {
    pub(super) fn json(node: Json, decl: Option<Arc<Decl>>) -> Self {
        Self(Repr::Json { node, decl })
    }

    /// A map of some entries; of two with the same key the later one stays.
    pub fn from_entries(entries: impl IntoIterator<Item = (Key, Value)>) -> Self {
        Self(Repr::Values(Arc::new(entries.into_iter().collect())))
    }

    /// Entries; of an object also those that the schema hides.
    pub fn len(&self) -> usize {
        match &self.0 {
            Repr::Values(values) => values.len(),
            Repr::Json { node, .. } => node.value().as_object().map_or(0, serde_json::Map::len),
        }
    }

    /// Whether it has no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of a key. Of an object, names are as in expressions, and `null` is as if absent
    /// (pkg/cel/common/valuesunstructured.go).
    pub fn find(&self, key: &Key) -> Option<Result<Value, EvalError>> {
        let (node, decl) = match &self.0 {
            Repr::Values(values) => return values.get(key).cloned().map(Ok),
            Repr::Json { node, decl } => (node, decl),
        };
        let Key::String(key) = key else {
            return decl.as_ref().map(|_| Err(EvalError::no_such_overload()));
        };
        let Some(decl) = decl else {
            return node.field(key).map(Value::from_dynamic_json);
        };
        match &decl.shape {
            Shape::Object { fields, .. } => {
                let property = escape::unescape(key)?;
                let field = fields.get(&property)?;
                let child = node.field(&property).filter(|child| !child.value().is_null())?;
                Some(Value::from_json(child, field))
            }
            Shape::Map(value) => node.field(key).map(|child| Value::from_json(child, value)),
            _ => None,
        }
    }

    /// The keys in their order, as expressions see them.
    pub fn keys(&self) -> Vec<Key> {
        let (node, decl) = match &self.0 {
            Repr::Values(values) => return values.keys().cloned().collect(),
            Repr::Json { node, decl } => (node, decl),
        };
        let names = node.value().as_object().into_iter().flat_map(|object| object.keys());
        match decl.as_ref().map(|decl| &decl.shape) {
            Some(Shape::Object { fields, .. }) => names
                .filter(|name| fields.contains_key(*name))
                .filter_map(|name| escape::escape(name))
                .map(|name| Key::String(name.into()))
                .collect(),
            _ => names.map(|name| Key::String(name.as_str().into())).collect(),
        }
    }

    /// All entries that expressions see, or the first error.
    pub fn entries(&self) -> Result<Vec<(Key, Value)>, EvalError> {
        let mut entries = Vec::with_capacity(self.len());
        for key in self.keys() {
            if let Some(value) = self.find(&key) {
                entries.push((key, value?));
            }
        }
        Ok(entries)
    }

    /// Adds an entry in place when nobody else holds the map; false when the key is there already.
    pub(crate) fn insert(&mut self, key: Key, value: Value) -> Result<bool, EvalError> {
        if !matches!(self.0, Repr::Values(_)) {
            *self = Map::from_entries(self.entries()?);
        }
        let Repr::Values(values) = &mut self.0 else {
            return Ok(false);
        };
        if values.contains_key(&key) {
            return Ok(false);
        }
        Arc::make_mut(values).insert(key, value);
        Ok(true)
    }

    pub(super) fn as_json(&self) -> Option<(&serde_json::Value, Option<&Arc<Decl>>)> {
        match &self.0 {
            Repr::Json { node, decl } => Some((node.value(), decl.as_ref())),
            Repr::Values(_) => None,
        }
    }
}
