//! Validation of one version of a definition: schema, subresources, columns, selectable fields.

use std::collections::BTreeSet;

use api::field::{Error, Path};
use schema::structural::{Node, check, check_defaults};
use serde_json::Value;

use super::spec::{Leniency, list};

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or_default()
}

pub(super) fn deprecation_errors(version: &Value, path: &Path) -> Vec<Error> {
    let Some(warning) = version["deprecationWarning"].as_str() else {
        return Vec::new();
    };
    let path = path.child("deprecationWarning");
    let bad = |detail: String| Error::invalid(&path, warning, detail);
    if version["deprecated"] != Value::Bool(true) {
        return vec![bad("can only be set for deprecated versions".to_owned())];
    }
    let mut errors = Vec::new();
    if warning.len() > 256 {
        errors.push(bad("must be <= 256 characters long".to_owned()));
    }
    if warning.is_empty() {
        errors.push(bad("must not be an empty string".to_owned()));
    }
    if let Some((at, _)) = warning.char_indices().find(|(_, c)| c.is_control()) {
        errors.push(bad(format!(
            "must only contain printable UTF-8 characters; non-printable character found at index {at}"
        )));
    }
    errors
}

/// Errors of `schema.openAPIV3Schema`; `path` is that of `schema`.
pub(super) fn schema_errors(version: &Value, path: &Path, lenient: &Leniency) -> Vec<Error> {
    let schema = &version["schema"]["openAPIV3Schema"];
    if !schema.is_object() {
        return Vec::new();
    }
    let path = path.child("openAPIV3Schema");
    let mut errors = Vec::new();
    if version["subresources"]["status"].is_object() {
        errors.extend(check::status_root_errors(schema, &path));
    }
    if schema["nullable"] == Value::Bool(true) {
        let at = Path::new(&format!("{path}.nullable"));
        errors.push(Error::forbidden(&at, "nullable cannot be true at the root"));
    }
    let unreadable = check::unreadable(schema);
    if !lenient.unstructured && unreadable.is_none() {
        let structural = check::structural_errors(schema, &path);
        if structural.is_empty() {
            errors.extend(check_defaults(&Node::parse(schema), &path));
        } else {
            errors.extend(structural);
        }
    }
    errors.extend(check::schema_errors(schema, &path));
    if errors.is_empty()
        && let Some(why) = unreadable
    {
        errors.push(Error::invalid(&path, "", why));
    }
    // What rules are about has to be sound before they are compiled.
    if errors.is_empty() {
        errors.extend(apiserver::rule_errors(schema, &path));
    }
    errors
}

/// A path in the dot notation.
fn simple_path(path: &str, at: &Path) -> Option<Error> {
    if path.is_empty() {
        return Some(Error::invalid(at, path, "must not be empty"));
    }
    (!path.starts_with('.')).then(|| Error::invalid(at, path, "must be a simple json path starting with ."))
}

pub(super) fn subresource_errors(subresources: &Value, path: &Path) -> Vec<Error> {
    let scale = &subresources["scale"];
    if !scale.is_object() {
        return Vec::new();
    }
    let mut errors = Vec::new();
    let fields = [
        ("specReplicasPath", ".spec.", "should be a json path under .spec"),
        ("statusReplicasPath", ".status.", "should be a json path under .status"),
    ];
    for (field, root, detail) in fields {
        let at = path.child("scale").child(field);
        let value = text(scale, field);
        if value.is_empty() {
            errors.push(Error::required(&at, ""));
        } else if let Some(error) = simple_path(value, &at) {
            errors.push(error);
        } else if !value.starts_with(root) {
            errors.push(Error::invalid(&at, value, detail));
        }
    }
    let selector = text(scale, "labelSelectorPath");
    if !selector.is_empty() {
        let at = path.child("scale").child("labelSelectorPath");
        if let Some(error) = simple_path(selector, &at) {
            errors.push(error);
        } else if !selector.starts_with(".spec.") && !selector.starts_with(".status.") {
            let detail = "should be a json path under either .spec or .status";
            errors.push(Error::invalid(&at, selector, detail));
        }
    }
    errors
}

const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: [&str; 8] = [
    "byte",
    "date",
    "date-time",
    "double",
    "float",
    "int32",
    "int64",
    "password",
];

pub(super) fn column_errors(column: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if text(column, "name").is_empty() {
        errors.push(Error::required(&path.child("name"), ""));
    }
    let (ty, format) = (text(column, "type"), text(column, "format"));
    let types = format!("must be one of {}", COLUMN_TYPES.join(","));
    if ty.is_empty() {
        errors.push(Error::required(&path.child("type"), types));
    } else if !COLUMN_TYPES.contains(&ty) {
        errors.push(Error::invalid(&path.child("type"), ty, types));
    }
    if !format.is_empty() && !COLUMN_FORMATS.contains(&format) {
        let detail = format!("must be one of {}", COLUMN_FORMATS.join(","));
        errors.push(Error::invalid(&path.child("format"), format, detail));
    }
    let at = path.child("JSONPath");
    match text(column, "jsonPath") {
        "" => errors.push(Error::required(&at, "")),
        value => errors.extend(simple_path(value, &at)),
    }
    errors
}

/// The most fields a version may be selected by.
const MOST_SELECTABLE: usize = 8;

pub(super) fn selectable_errors(version: &Value, path: &Path) -> Vec<Error> {
    let schema = &version["schema"]["openAPIV3Schema"];
    let mut seen = BTreeSet::new();
    let mut errors = Vec::new();
    for (i, field) in list(version, "selectableFields").iter().enumerate() {
        let at = path.index(i);
        let value = text(field, "jsonPath");
        if value.is_empty() {
            errors.push(Error::required(&at.child("jsonPath"), ""));
            continue;
        }
        if value.starts_with(".metadata") {
            errors.push(Error::invalid(&at, value, "must not point to fields in metadata"));
        }
        let found = check::resolve_field(schema, value);
        let Some(found) = found.filter(|_| !value.contains('[')) else {
            if !value.starts_with(".metadata") {
                let detail = "is an invalid path: does not refer to a valid field";
                errors.push(Error::invalid(&at.child("jsonPath"), value, detail));
            }
            continue;
        };
        if !matches!(text(found, "type"), "string" | "boolean" | "integer") {
            let detail = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
            errors.push(Error::invalid(&at, value, detail));
        }
        if !seen.insert(value) {
            errors.push(Error::duplicate(&at, value));
        }
    }
    if seen.len() > MOST_SELECTABLE {
        errors.push(Error::too_many(path, seen.len(), MOST_SELECTABLE));
    }
    errors
}
