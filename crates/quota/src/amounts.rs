//! Lists of quantities by resource name (upstream `apiserver/pkg/quota/v1/resources.go`).

use std::collections::BTreeMap;

use api::quantity::Format;
use api::{Map, Quantity, Value};

/// Quantities by resource name (`core/v1.ResourceList`).
pub type Amounts = BTreeMap<String, Quantity>;

/// Reads a resource list; what is no quantity is left out.
pub fn read(value: Option<&Value>) -> Amounts {
    let map = value.and_then(Value::as_object).into_iter().flatten();
    map.filter_map(|(name, value)| Some((name.clone(), Quantity::from_json(value).ok()?)))
        .collect()
}

/// The JSON of a resource list.
pub fn write(amounts: &Amounts) -> Value {
    let map: Map<String, Value> = amounts
        .iter()
        .map(|(name, amount)| (name.clone(), amount.to_string().into()))
        .collect();
    Value::Object(map)
}

/// One of something.
pub fn one() -> Quantity {
    number(1)
}

/// So many of something.
pub fn number(count: i64) -> Quantity {
    Quantity::from_value(count, Format::DecimalSi)
}

/// Adds each of `more` to `sum`.
pub fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        match sum.get_mut(name) {
            Some(known) => *known = known.add(amount),
            None => drop(sum.insert(name.clone(), amount.clone())),
        }
    }
}

/// Raises each of `most` to what `other` has, if that is more.
pub fn raise(most: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        if most.get(name).is_none_or(|known| amount > known) {
            most.insert(name.clone(), amount.clone());
        }
    }
}

/// `a - b`, but never below nothing; names of both.
pub fn subtract_floor(a: &Amounts, b: &Amounts) -> Amounts {
    let mut rest = Amounts::new();
    for (name, amount) in a {
        let left = b.get(name).map_or_else(|| amount.clone(), |other| amount.sub(other));
        let left = if left.signum() > 0 { left } else { number(0) };
        rest.insert(name.clone(), left);
    }
    for name in b.keys() {
        rest.entry(name.clone()).or_insert_with(|| number(0));
    }
    rest
}

/// Only the amounts of these names.
pub fn mask<'n>(amounts: &Amounts, names: impl IntoIterator<Item = &'n String>) -> Amounts {
    names
        .into_iter()
        .filter_map(|name| Some((name.clone(), amounts.get(name)?.clone())))
        .collect()
}

/// The names in `a` whose amount is more than what `b` has under that name.
pub fn exceeding(a: &Amounts, b: &Amounts) -> Vec<String> {
    b.iter()
        .filter(|(name, limit)| a.get(*name).is_some_and(|amount| amount > *limit))
        .map(|(name, _)| name.clone())
        .collect()
}

/// What is not nothing.
pub fn without_zeros(mut amounts: Amounts) -> Amounts {
    amounts.retain(|_, amount| !amount.is_zero());
    amounts
}

/// `cpu=1,memory=1Gi`, as messages show it.
pub fn pretty(amounts: &Amounts) -> String {
    let parts: Vec<String> = amounts
        .iter()
        .map(|(name, amount)| format!("{name}={amount}"))
        .collect();
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn amounts(value: Value) -> Amounts {
        read(Some(&value))
    }

    #[test]
    fn arithmetic() {
        let mut sum = amounts(json!({"cpu": "100m"}));
        add(&mut sum, &amounts(json!({"cpu": "1", "memory": "1Gi"})));
        assert_eq!(pretty(&sum), "cpu=1100m,memory=1Gi");
        let rest = subtract_floor(&sum, &amounts(json!({"cpu": "2", "pods": "1", "memory": "24Mi"})));
        assert_eq!(pretty(&rest), "cpu=0,memory=1000Mi,pods=0");
        assert_eq!(pretty(&without_zeros(rest)), "memory=1000Mi");
        assert_eq!(
            exceeding(&sum, &amounts(json!({"cpu": "1", "memory": "1Gi", "pods": "0"}))),
            ["cpu"]
        );
        raise(&mut sum, &amounts(json!({"cpu": "1", "x": "2"})));
        assert_eq!(pretty(&sum), "cpu=1100m,memory=1Gi,x=2");
        assert_eq!(pretty(&mask(&sum, &["x".to_owned(), "y".to_owned()])), "x=2");
        assert_eq!(write(&mask(&sum, &["cpu".to_owned()])), json!({"cpu": "1100m"}));
    }
}
