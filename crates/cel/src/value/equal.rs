//! Equality and order (cel-go's common/types), with a bound on the work: values share their parts, so that a small
//! expression can make one that is exponentially large when it is walked.

use std::cmp::Ordering;

use serde_json::Value as Tree;

use crate::error::EvalError;
use crate::limits::MAX_EQUALITY_STEPS;
use crate::schema::{ListKind, Shape};

use super::{Key, List, Map, Opaque, Value};

/// How many steps are left.
pub(crate) struct Fuel(u64);

impl Fuel {
    pub(crate) fn new() -> Self {
        Self(MAX_EQUALITY_STEPS)
    }

    pub(crate) fn burn(&mut self) -> Result<(), EvalError> {
        self.0 = self.0.checked_sub(1).ok_or_else(EvalError::cost_limit)?;
        Ok(())
    }
}

impl Value {
    /// Whether two values are equal; values of different types are not, but numbers are compared by their value.
    pub fn equals(&self, other: &Value) -> Result<bool, EvalError> {
        self.equals_within(other, &mut Fuel::new())
    }

    pub(crate) fn equals_within(&self, other: &Value, fuel: &mut Fuel) -> Result<bool, EvalError> {
        fuel.burn()?;
        Ok(match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(one), Value::Bool(two)) => one == two,
            (Value::String(one), Value::String(two)) => **one == **two,
            (Value::Bytes(one), Value::Bytes(two)) => one == two,
            (Value::Timestamp(one), Value::Timestamp(two)) => one == two,
            (Value::Duration(one), Value::Duration(two)) => one == two,
            (Value::List(one), Value::List(two)) => lists_equal(one, two, fuel)?,
            (Value::Map(one), Value::Map(two)) => maps_equal(one, two, fuel)?,
            (Value::Struct(one), Value::Struct(two)) => {
                if one.name != two.name || one.fields.len() != two.fields.len() {
                    return Ok(false);
                }
                for (name, value) in &one.fields {
                    let Some(other) = two.field(name) else { return Ok(false) };
                    if !value.equals_within(other, fuel)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Value::Type(one), Value::Type(two)) => one.runtime_name() == two.runtime_name(),
            (Value::Optional(one), Value::Optional(two)) => match (one, two) {
                (Some(one), Some(two)) => one.equals_within(two, fuel)?,
                (None, None) => true,
                _ => false,
            },
            (Value::Opaque(one), Value::Opaque(two)) => opaque_equal(one, two),
            (Value::Host(one), Value::Host(two)) => std::sync::Arc::ptr_eq(one, two),
            _ => numeric_order(self, other) == Some(Ordering::Equal),
        })
    }

    /// The order of two values of types that have one.
    pub fn compare(&self, other: &Value) -> Result<Ordering, EvalError> {
        Ok(match (self, other) {
            (Value::Bool(one), Value::Bool(two)) => one.cmp(two),
            (Value::String(one), Value::String(two)) => (**one).cmp(&**two),
            (Value::Bytes(one), Value::Bytes(two)) => one.cmp(two),
            (Value::Timestamp(one), Value::Timestamp(two)) => one.cmp(two),
            (Value::Duration(one), Value::Duration(two)) => one.cmp(two),
            (Value::Double(one), _) if one.is_nan() => return Err(EvalError::new("NaN values cannot be ordered")),
            (_, Value::Double(two)) if two.is_nan() => return Err(EvalError::new("NaN values cannot be ordered")),
            _ => numeric_order(self, other).ok_or_else(EvalError::no_such_overload)?,
        })
    }
}

fn numeric_order(one: &Value, two: &Value) -> Option<Ordering> {
    match (one, two) {
        (Value::Double(one), Value::Double(two)) => one.partial_cmp(two),
        (Value::Double(one), _) => Some(order_with_double(whole(two)?, *one)?.reverse()),
        (_, Value::Double(two)) => order_with_double(whole(one)?, *two),
        _ => Some(whole(one)?.cmp(&whole(two)?)),
    }
}

fn whole(value: &Value) -> Option<i128> {
    match value {
        Value::Int(value) => Some(i128::from(*value)),
        Value::Uint(value) => Some(i128::from(*value)),
        _ => None,
    }
}

/// Compares as doubles, as cel-go does: the largest `int` equals 2^63.
fn order_with_double(whole: i128, double: f64) -> Option<Ordering> {
    (whole as f64).partial_cmp(&double)
}

fn lists_equal(one: &List, two: &List, fuel: &mut Fuel) -> Result<bool, EvalError> {
    if one.len() != two.len() {
        return Ok(false);
    }
    match one.kind() {
        ListKind::Atomic => {
            for (one, two) in one.iter().zip(two.iter()) {
                if !one?.equals_within(&two?, fuel)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        ListKind::Set => Ok(unique_keys(one, fuel)? == unique_keys(two, fuel)?),
        ListKind::Map(names) => {
            let one = keyed(one, names, fuel)?;
            let two = keyed(two, names, fuel)?;
            if one.len() != two.len() {
                return Ok(false);
            }
            for (key, value) in &one {
                let Some(other) = two.get(key) else { return Ok(false) };
                if !value.equals_within(other, fuel)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
    }
}

/// The elements of a set, which are scalars.
fn unique_keys(list: &List, fuel: &mut Fuel) -> Result<std::collections::BTreeSet<String>, EvalError> {
    let mut keys = std::collections::BTreeSet::new();
    for value in list.iter() {
        fuel.burn()?;
        keys.insert(scalar_key(&value?));
    }
    Ok(keys)
}

/// A text that is the same for equal scalars only.
fn scalar_key(value: &Value) -> String {
    format!("{}:{value}", value.type_of().runtime_name())
}

type Keyed = std::collections::BTreeMap<Vec<String>, Value>;

/// The elements of a list by their key properties.
fn keyed(list: &List, names: &[String], fuel: &mut Fuel) -> Result<Keyed, EvalError> {
    let mut keyed = Keyed::new();
    for value in list.iter() {
        fuel.burn()?;
        let value = value?;
        keyed.insert(map_key(&value, names)?, value);
    }
    Ok(keyed)
}

fn map_key(value: &Value, names: &[String]) -> Result<Vec<String>, EvalError> {
    let Value::Map(map) = value else {
        return Err(EvalError::new(
            "unexpected data format for element of array with x-kubernetes-list-type=map",
        ));
    };
    names
        .iter()
        .map(|name| {
            let escaped = crate::escape::escape(name).unwrap_or_else(|| name.clone());
            Ok(map
                .find(&Key::String(escaped.into()))
                .transpose()?
                .map_or_else(String::new, |key| scalar_key(&key)))
        })
        .collect()
}

/// Adds two lists: by position, or a set's new elements, or replaces the elements with the same keys.
pub(crate) fn add_lists(one: &List, two: &List) -> Result<List, EvalError> {
    let mut fuel = Fuel::new();
    match one.kind() {
        ListKind::Atomic => one.clone().concat(two.clone()),
        ListKind::Set => {
            let mut seen = unique_keys(one, &mut fuel)?;
            let mut values = one.values()?;
            for value in two.iter() {
                let value = value?;
                if seen.insert(scalar_key(&value)) {
                    values.push(value);
                }
            }
            Ok(List::of_kind(values, ListKind::Set))
        }
        ListKind::Map(names) => {
            let mut values = one.values()?;
            let mut places = std::collections::BTreeMap::new();
            for (index, value) in values.iter().enumerate() {
                places.insert(map_key(value, names)?, index);
            }
            for value in two.iter() {
                let value = value?;
                let key = map_key(&value, names)?;
                match places.get(&key) {
                    Some(index) => values[*index] = value,
                    None => {
                        places.insert(key, values.len());
                        values.push(value);
                    }
                }
            }
            Ok(List::of_kind(values, ListKind::Map(names.clone())))
        }
    }
}

fn maps_equal(one: &Map, two: &Map, fuel: &mut Fuel) -> Result<bool, EvalError> {
    if one.len() != two.len() {
        return Ok(false);
    }
    if !hidden_equal(one, two) {
        return Ok(false);
    }
    for key in one.keys() {
        fuel.burn()?;
        match (one.find(&key), two.find(&key)) {
            (Some(one), Some(two)) => {
                if !one?.equals_within(&two?, fuel)? {
                    return Ok(false);
                }
            }
            (None, None) => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// Compares the properties of two objects that their schema hides from expressions.
fn hidden_equal(one: &Map, two: &Map) -> bool {
    let (Some((one, Some(decl))), Some((two, _))) = (one.as_json(), two.as_json()) else {
        return true;
    };
    let (Shape::Object { fields, .. }, Tree::Object(one), Tree::Object(two)) = (&decl.shape, one, two) else {
        return true;
    };
    one.iter()
        .filter(|(name, _)| !fields.contains_key(*name))
        .all(|(name, value)| two.get(name).is_none_or(|other| other == value))
}

fn opaque_equal(one: &Opaque, two: &Opaque) -> bool {
    match (one, two) {
        (Opaque::Quantity(one), Opaque::Quantity(two)) => one == two,
        (Opaque::Ip(one), Opaque::Ip(two)) => one == two,
        (Opaque::Cidr(one), Opaque::Cidr(two)) => one == two,
        (Opaque::Url(one), Opaque::Url(two)) => one == two,
        (Opaque::Semver(one), Opaque::Semver(two)) => one.order(two).is_eq(),
        (Opaque::Format(one), Opaque::Format(two)) => one.name == two.name,
        (Opaque::Authorizer(one), Opaque::Authorizer(two)) => one == two,
        _ => false,
    }
}
