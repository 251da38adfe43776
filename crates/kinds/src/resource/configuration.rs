//! Opaque parameters for drivers, and raw data from them.

use api::field::{Error, Path};
use api::{Map, Value};

use super::names;
use crate::tree;

pub(super) const MAX_PARAMETER_BYTES: usize = 10 * 1024;

/// Whether an expression or configuration is already stored: what is stored may exceed limits that
/// came later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Age {
    New,
    Stored,
}

/// A configuration of a device: only opaque ones exist.
pub(super) fn configuration(config: &Value, age: Age, path: &Path) -> Vec<Error> {
    let path = path.child("opaque");
    let Some(opaque) = tree::at(config, "opaque") else {
        return vec![Error::required(&path, "")];
    };
    let mut errors = names::driver(tree::text(opaque, "driver"), &path.child("driver"));
    let parameters = opaque.get("parameters");
    errors.extend(raw(parameters, age, MAX_PARAMETER_BYTES, &path.child("parameters")));
    errors
}

/// A JSON object of limited size.
pub(super) fn raw(value: Option<&Value>, age: Age, most: usize, path: &Path) -> Vec<Error> {
    match value {
        None | Some(Value::Null) => vec![Error::required(path, "")],
        Some(value) if age == Age::New && value.to_string().len() > most => vec![Error::too_long(path, most)],
        Some(Value::Object(_)) => Vec::new(),
        Some(_) => vec![Error::invalid(path, "<value omitted>", "must be a valid JSON object")],
    }
}

/// Entries of a map, with the path of each; names that are too long are cut in the middle there.
pub(super) fn entries<'v>(
    map: Option<&'v Map<String, Value>>,
    longest: usize,
    path: &Path,
) -> Vec<(&'v str, &'v Value, Path)> {
    let map = map.into_iter().flatten();
    map.map(|(key, value)| (key.as_str(), value, path.key(&shortened(key, longest))))
        .collect()
}

fn shortened(text: &str, longest: usize) -> String {
    let longest = longest.max(16);
    if text.len() <= longest {
        return text.to_owned();
    }
    let left = longest - 3;
    let head = text.floor_char_boundary(left.div_ceil(2));
    let tail = text.ceil_char_boundary(text.len() - left / 2);
    format!("{}...{}", &text[..head], &text[tail..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn parameters_are_objects() {
        let path = Path::new("c");
        let good = json!({"opaque": {"driver": "a.io", "parameters": {"x": 1}}});
        assert_eq!(configuration(&good, Age::New, &path), []);
        for (parameters, age, faults) in [
            (json!(null), Age::New, 1),
            (json!("text"), Age::New, 1),
            (json!({"x": "y".repeat(11000)}), Age::New, 1),
            (json!({"x": "y".repeat(11000)}), Age::Stored, 0),
        ] {
            assert_eq!(raw(Some(&parameters), age, MAX_PARAMETER_BYTES, &path).len(), faults);
        }
        assert_eq!(shortened(&"a".repeat(40), 10), "aaaaaaa...aaaaaa");
    }
}
