//! Label selectors and conditions inside objects (apimachinery `apis/meta/v1/validation`).

use serde_json::Value;

use crate::field::{Error, Path};

/// A label key at a path.
pub fn label_name(name: &str, path: &Path) -> Vec<Error> {
    super::qualified_name(name)
        .into_iter()
        .map(|text| Error::invalid(path, name, text))
        .collect()
}

/// A `metav1.LabelSelector`; null and missing are good.
pub fn label_selector(selector: &Value, path: &Path) -> Vec<Error> {
    let mut errors = super::labels(selector.get("matchLabels"), &path.child("matchLabels"));
    let expressions = selector.get("matchExpressions").and_then(Value::as_array);
    for (index, expression) in expressions.into_iter().flatten().enumerate() {
        let path = path.child("matchExpressions").index(index);
        errors.extend(requirement(expression, &path));
    }
    errors
}

fn requirement(expression: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let text = |name| expression.get(name).and_then(Value::as_str).unwrap_or("");
    let values = expression.get("values").and_then(Value::as_array);
    let values = values.map_or(&[][..], Vec::as_slice);
    match text("operator") {
        "In" | "NotIn" if values.is_empty() => errors.push(Error::required(
            &path.child("values"),
            "must be specified when `operator` is 'In' or 'NotIn'",
        )),
        "Exists" | "DoesNotExist" if !values.is_empty() => errors.push(Error::forbidden(
            &path.child("values"),
            "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
        )),
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => errors.push(Error::invalid(
            &path.child("operator"),
            other,
            "not a valid selector operator",
        )),
    }
    errors.extend(label_name(text("key"), &path.child("key")));
    for (index, value) in values.iter().enumerate() {
        let value = value.as_str().unwrap_or("");
        for message in super::label_value(value) {
            errors.push(Error::invalid(&path.child("values").index(index), value, message));
        }
    }
    errors
}

/// A list of `metav1.Condition`.
pub fn conditions(list: &[Value], path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for (index, condition) in list.iter().enumerate() {
        let path = path.index(index);
        let text = |name| condition.get(name).and_then(Value::as_str).unwrap_or("");
        if seen.contains(&text("type")) {
            errors.push(Error::duplicate(&path, text("type")));
        }
        seen.push(text("type"));
        errors.extend(condition_errors(condition, &path));
    }
    errors
}

fn condition_errors(condition: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let text = |name| condition.get(name).and_then(Value::as_str).unwrap_or("");
    match text("type") {
        "" => errors.push(Error::required(&path.child("type"), "is required")),
        name => errors.extend(label_name(name, &path.child("type"))),
    }
    match text("status") {
        "" => errors.push(Error::required(&path.child("status"), "")),
        "True" | "False" | "Unknown" => {}
        other => {
            let known = &["False", "True", "Unknown"];
            errors.push(Error::not_supported(&path.child("status"), other, known));
        }
    }
    let generation = condition.get("observedGeneration").and_then(Value::as_i64).unwrap_or(0);
    if generation < 0 {
        let detail = "must be greater than or equal to zero";
        errors.push(Error::invalid(&path.child("observedGeneration"), generation, detail));
    }
    if text("lastTransitionTime").is_empty() {
        errors.push(Error::required(&path.child("lastTransitionTime"), ""));
    }
    let reason = text("reason");
    if reason.is_empty() {
        errors.push(Error::required(&path.child("reason"), ""));
    } else {
        if !is_reason(reason) {
            let detail = super::regex_error(
                "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_'",
                "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?",
                &["my_name", "MY_NAME", "MyName", "ReasonA,ReasonB", "ReasonA:ReasonB"],
            );
            errors.push(Error::invalid(&path.child("reason"), reason, detail));
        }
        if reason.len() > 1024 {
            errors.push(Error::too_long(&path.child("reason"), 1024));
        }
    }
    if text("message").len() > 32 * 1024 {
        errors.push(Error::too_long(&path.child("message"), 32 * 1024));
    }
    errors
}

fn is_reason(reason: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    reason.starts_with(|c: char| c.is_ascii_alphabetic())
        && reason.bytes().last().is_some_and(word)
        && reason.bytes().all(|b| word(b) || matches!(b, b',' | b':'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors_are_checked_in_full() {
        let selector = json!({
            "matchLabels": {"a b": "c d"},
            "matchExpressions": [
                {"key": "k", "operator": "In"},
                {"key": "k", "operator": "Exists", "values": ["x"]},
                {"key": "", "operator": "Is", "values": []},
                {"key": "k", "operator": "NotIn", "values": ["ok", "-"]},
            ],
        });
        let errors = label_selector(&selector, &Path::new("selector"));
        let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "selector.matchLabels",
                "selector.matchLabels",
                "selector.matchExpressions[0].values",
                "selector.matchExpressions[1].values",
                "selector.matchExpressions[2].operator",
                "selector.matchExpressions[2].key",
                "selector.matchExpressions[2].key",
                "selector.matchExpressions[3].values[1]",
            ]
        );
    }

    #[test]
    fn conditions_need_their_parts() {
        let list = [
            json!({"type": "Ready", "status": "Yes", "reason": "1", "lastTransitionTime": "t"}),
            json!({"type": "Ready", "status": "True", "reason": "Ok", "lastTransitionTime": "t"}),
        ];
        let errors = conditions(&list, &Path::new("c"));
        let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, ["c[0].status", "c[0].reason", "c[1]"]);
    }
}
