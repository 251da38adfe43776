//! Values against schemas, with kube-openapi's findings in its words
//! (`kube-openapi/pkg/validation/validate`, `apiextensions-apiserver/pkg/apiserver/validation`).
//!
//! What did not change is not judged (validation ratcheting, KEP-4008): where a value equals the old
//! one that it can be matched with, everything below passes.

use std::borrow::Cow;
use std::collections::BTreeSet;

use api::field::{Error, Path, go_quote};
use serde_json::Value;

use super::formats;
use super::numbers::go_float;
use super::{Additional, Node};

/// Validates values of one schema.
#[derive(Clone, Copy)]
pub struct Validator<'n> {
    node: &'n Node,
}

/// What was found, and how much was right, by which the best of several alternatives is chosen.
#[derive(Default)]
struct Findings {
    errors: Vec<Error>,
    matches: usize,
}

impl Findings {
    fn merge(&mut self, other: Findings) {
        self.errors.extend(other.errors);
        self.matches += other.matches;
    }
}

/// Where a value is: the path of errors, and the name that messages begin with.
#[derive(Clone)]
struct At<'p> {
    base: &'p Path,
    name: Cow<'p, str>,
}

impl At<'_> {
    fn path(&self) -> Path {
        let name = self.name.strip_prefix('.').unwrap_or(&self.name);
        if name.is_empty() {
            self.base.clone()
        } else {
            self.base.child(name)
        }
    }

    fn member(&self, name: &str) -> At<'_> {
        let name = if self.name.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.name)
        };
        At {
            base: self.base,
            name: name.into(),
        }
    }

    fn item(&self, index: usize) -> At<'_> {
        At {
            base: self.base,
            name: format!("{}[{index}]", self.name).into(),
        }
    }

    fn invalid(&self, value: impl Into<Value>, what: impl std::fmt::Display) -> Error {
        Error::invalid(&self.path(), value, format!("{} in body {what}", self.name))
    }

    fn of_type(&self, wanted: &str, found: &str) -> Error {
        let detail = format!("{} in body must be of type {wanted}: {}", self.name, go_quote(found));
        Error::type_invalid(&self.path(), found, detail)
    }

    /// Findings about alternatives have no place upstream.
    fn choice(&self, what: impl std::fmt::Display) -> Error {
        let path = if self.base.as_str().is_empty() {
            Path::new("<nil>")
        } else {
            self.base.clone()
        };
        Error::invalid(&path, "", format!("{} {what}", go_quote(&self.name)))
    }
}

/// Whether a value counts as unchanged.
pub fn matches_old(new: &Value, old: Option<&Value>) -> bool {
    old.is_some_and(|old| old == new)
}

impl<'n> Validator<'n> {
    /// A validator of a schema.
    pub fn new(node: &'n Node) -> Self {
        Validator { node }
    }

    /// Every error of a value below `base`.
    pub fn validate(self, base: &Path, value: &Value) -> Vec<Error> {
        self.validate_update(base, value, None)
    }

    /// Every error of a changed value that was not there before.
    pub fn validate_update(self, base: &Path, value: &Value, old: Option<&Value>) -> Vec<Error> {
        let at = At {
            base,
            name: Cow::Borrowed(""),
        };
        judge(self.node, &at, value, old).errors
    }
}

fn judge(node: &Node, at: &At<'_>, value: &Value, old: Option<&Value>) -> Findings {
    let mut found = Findings {
        matches: 1,
        ..Findings::default()
    };
    if matches_old(value, old) {
        return found;
    }
    found.errors.extend(wrong_type(node, at, value));
    if value.is_null() {
        found.errors.extend(not_in_enumeration(node, at, value));
        return found;
    }
    found.merge(alternatives(node, at, value, old));
    match value {
        Value::String(text) => string(node, at, text, &mut found.errors),
        Value::Number(number) => number_range(node, at, value, number.as_f64().unwrap_or(0.0), &mut found.errors),
        Value::Array(items) => found.merge(array(node, at, items, old)),
        _ => {}
    }
    found.errors.extend(not_in_enumeration(node, at, value));
    if let Value::Object(map) = value {
        found.merge(object(node, at, map, old));
    }
    if found.errors.is_empty() {
        found.matches += 1;
    }
    found
}

/// JSON schema's name of a value's type, and the format Go's type stands for.
fn type_of(value: &Value) -> (&'static str, &'static str) {
    match value {
        Value::Null => ("null", ""),
        Value::Bool(_) => ("boolean", ""),
        Value::Number(number) if number.is_f64() => ("number", "double"),
        Value::Number(_) => ("integer", "int64"),
        Value::String(_) => ("string", ""),
        Value::Array(_) => ("array", ""),
        Value::Object(_) => ("object", ""),
    }
}

fn wrong_type(node: &Node, at: &At<'_>, value: &Value) -> Option<Error> {
    let wanted: &[&str] = match (node.int_or_string, node.ty.as_str()) {
        (true, _) => &["integer", "string"],
        (false, "") => &[],
        (false, ty) => &[ty],
    };
    let joined = wanted.join(",");
    if value.is_null() {
        return (!wanted.is_empty() && !node.nullable).then(|| at.of_type(&joined, "null"));
    }
    if wanted.is_empty() && node.format.is_empty() {
        return None;
    }
    let (found, format) = type_of(value);
    let whole = || value.as_f64().is_some_and(|n| n.fract() == 0.0);
    let fits = wanted.contains(&found)
        || found == "number" && wanted.contains(&"integer") && whole()
        || found == "integer" && wanted.contains(&"number");
    let is_text = value.is_string() || value.is_array();
    let numeric = wanted.contains(&"number") || wanted.contains(&"integer");
    if !node.format.is_empty() {
        let same = format == node.format || node.format == "int64" && format == "int32";
        if !is_text && !fits && !same {
            return Some(at.of_type(&node.format, format));
        }
        if is_text && !numeric {
            return None;
        }
    }
    (!wanted.is_empty() && !fits).then(|| at.of_type(&joined, found))
}

fn not_in_enumeration(node: &Node, at: &At<'_>, value: &Value) -> Option<Error> {
    if node.enumeration.is_empty() || node.enumeration.iter().any(|one| equal(one, value)) {
        return None;
    }
    let names: Vec<String> = node
        .enumeration
        .iter()
        .map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    Some(Error::not_supported(&at.path(), value.clone(), &names))
}

/// Numbers are equal by value.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => x == y || x.as_f64() == y.as_f64(),
        _ => a == b,
    }
}

fn string(node: &Node, at: &At<'_>, text: &str, errors: &mut Vec<Error>) {
    let length = || i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    if let Some(most) = node.max_length
        && length() > most
    {
        errors.push(Error::too_long(&at.path(), usize::try_from(most).unwrap_or(0)));
        return;
    }
    if let Some(least) = node.min_length
        && length() < least
    {
        errors.push(at.invalid(text, format_args!("should be at least {least} chars long")));
        return;
    }
    if let Some(pattern) = &node.pattern
        && pattern.regex.as_ref().is_none_or(|regex| !regex.is_match(text))
    {
        errors.push(at.invalid(text, format_args!("should match '{}'", pattern.text)));
        return;
    }
    if !node.format.is_empty() && !formats::valid(&node.format, text) {
        let detail = format!(
            "{} in body must be of type {}: {}",
            at.name,
            node.format,
            go_quote(text)
        );
        errors.push(Error::type_invalid(&at.path(), text, detail));
    }
}

fn number_range(node: &Node, at: &At<'_>, value: &Value, number: f64, errors: &mut Vec<Error>) {
    if let Some(factor) = node.multiple_of {
        if factor <= 0.0 {
            let what = format!(
                "factor MultipleOf declared for {} must be positive: {}",
                at.name,
                go_float(factor)
            );
            errors.push(Error::invalid(&at.path(), value.clone(), what));
        } else {
            let quotient = number / factor;
            if quotient.fract().abs() > 1e-9 && (1.0 - quotient.fract().abs()) > 1e-9 {
                errors.push(at.invalid(
                    value.clone(),
                    format_args!("should be a multiple of {}", go_float(factor)),
                ));
            }
        }
    }
    if let Some(most) = node.maximum {
        let fits = if node.exclusive_maximum {
            number < most
        } else {
            number <= most
        };
        if !fits {
            let or_equal = if node.exclusive_maximum { "" } else { " or equal to" };
            errors.push(at.invalid(
                value.clone(),
                format_args!("should be less than{or_equal} {}", go_float(most)),
            ));
        }
    }
    if let Some(least) = node.minimum {
        let fits = if node.exclusive_minimum {
            number > least
        } else {
            number >= least
        };
        if !fits {
            let or_equal = if node.exclusive_minimum { "" } else { " or equal to" };
            errors.push(at.invalid(
                value.clone(),
                format_args!("should be greater than{or_equal} {}", go_float(least)),
            ));
        }
    }
}

/// The old item that an item is matched with: in a list of type map, the one with equal keys.
fn old_item<'v>(node: &Node, old: Option<&'v Value>, item: &Value) -> Option<&'v Value> {
    if node.list_type != "map" {
        return None;
    }
    old?.as_array()?
        .iter()
        .find(|candidate| node.list_map_keys.iter().all(|key| candidate.get(key) == item.get(key)))
}

fn array(node: &Node, at: &At<'_>, items: &[Value], old: Option<&Value>) -> Findings {
    let mut found = Findings::default();
    if let Some(schema) = &node.items {
        for (index, item) in items.iter().enumerate() {
            found.merge(judge(schema, &at.item(index), item, old_item(node, old, item)));
        }
    }
    let size = i64::try_from(items.len()).unwrap_or(i64::MAX);
    if let Some(least) = node.min_items
        && size < least
    {
        found
            .errors
            .push(at.invalid(size, format_args!("should have at least {least} items")));
    }
    if let Some(most) = node.max_items
        && size > most
    {
        let most = usize::try_from(most).unwrap_or(0);
        found.errors.push(Error::too_many(&at.path(), items.len(), most));
    }
    if node.unique_items {
        let distinct: BTreeSet<String> = items.iter().map(Value::to_string).collect();
        if distinct.len() < items.len() {
            found.errors.push(at.invalid("", "shouldn't contain duplicates"));
        }
    }
    found
}

fn object(node: &Node, at: &At<'_>, map: &api::Map<String, Value>, old: Option<&Value>) -> Findings {
    let mut found = Findings::default();
    let size = i64::try_from(map.len()).unwrap_or(i64::MAX);
    if let Some(least) = node.min_properties
        && size < least
    {
        found
            .errors
            .push(at.invalid(size, format_args!("should have at least {least} properties")));
        return found;
    }
    if let Some(most) = node.max_properties
        && size > most
    {
        let most = usize::try_from(most).unwrap_or(0);
        found.errors.push(Error::too_many(&at.path(), map.len(), most));
        return found;
    }
    for (name, value) in map {
        let old = old.and_then(|old| old.get(name));
        let schema = match (node.properties.get(name), &node.additional) {
            (Some(schema), _) => schema,
            (None, Additional::Schema(schema)) => schema,
            // Names of every resource are known even where the schema forbids others.
            (None, Additional::Forbidden) if !(node.embedded && super::is_meta(name)) => {
                let member = at.member(name);
                found.errors.push(Error::invalid(
                    &at.path(),
                    name.as_str(),
                    format!("{} in body is a forbidden property", member.name),
                ));
                continue;
            }
            _ => continue,
        };
        found.merge(judge(schema, &at.member(name), value, old));
    }
    for name in &node.required {
        if !map.contains_key(name) {
            found.errors.push(Error::required(&at.member(name).path(), ""));
        }
    }
    found
}

/// `anyOf`, `oneOf`, `allOf` and `not`.
fn alternatives(node: &Node, at: &At<'_>, value: &Value, old: Option<&Value>) -> Findings {
    let mut found = Findings::default();
    if !node.any_of.is_empty() && !is_int_or_string(node) {
        let mut best: Option<Findings> = None;
        let mut fits = false;
        for schema in &node.any_of {
            let one = judge(schema, at, value, old);
            if one.errors.is_empty() {
                fits = true;
                found.matches += one.matches;
                break;
            }
            if best.as_ref().is_none_or(|b| one.matches > b.matches) {
                best = Some(one);
            }
        }
        if !fits {
            found
                .errors
                .push(at.choice("must validate at least one schema (anyOf)"));
            best.into_iter().for_each(|best| found.merge(best));
        }
    }
    if !node.one_of.is_empty() {
        one_of(node, at, value, old, &mut found);
    }
    if !node.all_of.is_empty() {
        let mut fitting = 0;
        for schema in &node.all_of {
            let one = judge(schema, at, value, old);
            fitting += usize::from(one.errors.is_empty());
            found.merge(one);
        }
        if fitting == 0 {
            found
                .errors
                .push(at.choice("must validate all the schemas (allOf). None validated"));
        } else if fitting < node.all_of.len() {
            found.errors.push(at.choice("must validate all the schemas (allOf)"));
        }
    }
    if let Some(schema) = &node.not
        && judge(schema, at, value, old).errors.is_empty()
    {
        found.errors.push(at.choice("must not validate the schema (not)"));
    }
    found
}

fn one_of(node: &Node, at: &At<'_>, value: &Value, old: Option<&Value>, found: &mut Findings) {
    let mut best: Option<Findings> = None;
    let mut fitting = 0;
    for schema in &node.one_of {
        let one = judge(schema, at, value, old);
        if one.errors.is_empty() {
            fitting += 1;
            found.matches += one.matches;
        } else if fitting == 0 && best.as_ref().is_none_or(|b| one.matches > b.matches) {
            best = Some(one);
        }
    }
    if fitting != 1 {
        let count = if fitting == 0 {
            "Found none valid".to_owned()
        } else {
            format!("Found {fitting} valid alternatives")
        };
        found
            .errors
            .push(at.choice(format_args!("must validate one and only one schema (oneOf). {count}")));
        if fitting == 0 {
            best.into_iter().for_each(|best| found.merge(best));
        }
    }
}

/// The pair of alternatives that says what `x-kubernetes-int-or-string` does.
fn is_int_or_string(node: &Node) -> bool {
    node.int_or_string && node.any_of.len() == 2 && node.any_of[0].ty == "integer" && node.any_of[1].ty == "string"
}
