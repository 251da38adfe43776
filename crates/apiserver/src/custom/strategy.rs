//! What is checked when a custom resource is written
//! (`registry/customresource/{strategy,status_strategy,validator}.go`).

use std::sync::Arc;

use api::Value;
use api::field::{Error, ErrorType, Path};
use schema::structural::{Validator, embedded_errors, list_errors};

use super::Custom;
use crate::kind::{ScalePaths, value_at};

/// The checks of one version.
pub(super) struct Checks {
    custom: Arc<Custom>,
    scale: Option<ScalePaths>,
}

/// Anything but metadata moves the generation; the status is put back where it is a part of its own.
pub(super) fn spec_changed(new: &Value, old: &Value) -> bool {
    let rest = |object: &Value| {
        let mut map = object.as_object().cloned().unwrap_or_default();
        map.remove("metadata");
        map
    };
    rest(new) != rest(old)
}

/// A status write changes the status and who manages it, nothing else.
pub(super) fn keep_but_status(new: &mut Value, old: &Value) {
    let status = new.get("status").cloned();
    let managed = new["metadata"].get("managedFields").cloned();
    let version = api::meta::resource_version(new).to_owned();
    *new = old.clone();
    let put = |map: Option<&mut api::Map<String, Value>>, field: &str, value: Option<Value>| {
        if let Some(map) = map {
            match value {
                Some(value) => drop(map.insert(field.to_owned(), value)),
                None => drop(map.remove(field)),
            }
        }
    };
    put(api::meta::metadata_mut(new), "managedFields", managed);
    api::meta::set_resource_version(new, &version);
    put(new.as_object_mut(), "status", status);
}

impl Checks {
    pub fn new(custom: Arc<Custom>, scale: Option<ScalePaths>) -> Checks {
        Checks { custom, scale }
    }

    /// Errors of a new object.
    pub fn validate(&self, object: &Value) -> Vec<Error> {
        let node = &self.custom.node;
        let mut errors = Validator::new(node).validate(&Path::root(), object);
        errors.extend(self.scale_spec(object));
        errors.extend(self.scale_status(object));
        errors.extend(embedded_errors(node, object, &Path::root()));
        errors.extend(list_errors(node, object, &Path::root()));
        self.expressions(object, None, &mut errors);
        errors
    }

    /// Errors of a changed object; what did not change is not judged.
    pub fn validate_update(&self, new: &Value, old: &Value) -> Vec<Error> {
        let node = &self.custom.node;
        let mut errors = Validator::new(node).validate_update(&Path::root(), new, Some(old));
        errors.extend(self.scale_spec(new));
        errors.extend(self.scale_status(new));
        errors.extend(embedded_errors(node, new, &Path::root()));
        errors.extend(self.new_list_errors(new, old));
        self.expressions(new, Some(old), &mut errors);
        errors
    }

    /// Errors of a changed status.
    pub fn validate_status(&self, new: &Value, old: &Value) -> Vec<Error> {
        let mut errors = Vec::new();
        if let (Some(node), Some(status)) = (self.custom.node.properties.get("status"), new.get("status")) {
            let judge = Validator::new(node);
            errors.extend(judge.validate_update(&Path::new("status"), status, old.get("status")));
        }
        errors.extend(self.scale_status(new));
        errors.extend(self.new_list_errors(new, old));
        self.expressions(new, Some(old), &mut errors);
        errors
    }

    /// Repeated items count only if there were none before.
    fn new_list_errors(&self, new: &Value, old: &Value) -> Vec<Error> {
        let node = &self.custom.node;
        let errors = list_errors(node, new, &Path::root());
        if errors.is_empty() || list_errors(node, old, &Path::root()).is_empty() {
            errors
        } else {
            Vec::new()
        }
    }

    fn scale_spec(&self, object: &Value) -> Vec<Error> {
        self.scale
            .as_ref()
            .map(|scale| count_errors(object, &scale.spec_replicas))
            .unwrap_or_default()
    }

    fn scale_status(&self, object: &Value) -> Vec<Error> {
        let Some(scale) = &self.scale else {
            return Vec::new();
        };
        let mut errors = count_errors(object, &scale.status_replicas);
        if let Some(path) = &scale.selector
            && let Some(value) = value_at(object, path).filter(|v| !v.is_string())
        {
            let detail = format!(
                ".{path} accessor error: {value} is of the type {}, expected string",
                go_type(value)
            );
            errors.push(Error::invalid(&Path::new(&format!(".{path}")), "", detail));
        }
        errors
    }

    /// The rules of `x-kubernetes-validations`, unless the object is too wrong for them.
    fn expressions(&self, new: &Value, old: Option<&Value>, errors: &mut Vec<Error>) {
        let Some(rules) = &self.custom.rules else { return };
        if errors.iter().any(blocks_rules) {
            let why = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
            errors.push(Error::invalid(&Path::new("<nil>"), Value::Null, why));
            return;
        }
        errors.extend(rules.errors(new, old));
    }
}

/// Errors after which rules are not evaluated.
fn blocks_rules(error: &Error) -> bool {
    matches!(
        error.kind,
        ErrorType::Required | ErrorType::TooLong | ErrorType::TooMany | ErrorType::TypeInvalid
    )
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

fn count_errors(object: &Value, path: &str) -> Vec<Error> {
    let Some(value) = value_at(object, path) else {
        return Vec::new();
    };
    let at = Path::new(&format!(".{path}"));
    let Some(count) = value.as_i64() else {
        let detail = format!(
            ".{path} accessor error: {value} is of the type {}, expected int64",
            go_type(value)
        );
        return vec![Error::invalid(&at, 0, detail)];
    };
    if count < 0 {
        return vec![Error::invalid(&at, count, "should be a non-negative integer")];
    }
    if count > i64::from(i32::MAX) {
        let detail = format!("should be less than or equal to {}", i32::MAX);
        return vec![Error::invalid(&at, count, detail)];
    }
    Vec::new()
}
