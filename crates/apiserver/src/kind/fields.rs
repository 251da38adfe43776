//! Fields that `fieldSelector` may name.

use std::borrow::Cow;
use std::sync::Arc;

use api::Value;

/// Reads a field's value for selection.
pub type ExtractFn = Arc<dyn Fn(&Value) -> String + Send + Sync>;

/// A selectable field beside `metadata.name` and `metadata.namespace`, which every kind has.
#[derive(Clone)]
pub struct SelectableField {
    /// As clients write it, e.g. `spec.nodeName`.
    pub name: Cow<'static, str>,
    /// Its value; an absent field is the empty string.
    pub extract: ExtractFn,
}

impl SelectableField {
    /// The scalar at the dotted path that is also its name: strings as they are, numbers and
    /// booleans as printed, absent as the empty string.
    pub fn path(name: impl Into<Cow<'static, str>>) -> Self {
        let name = name.into();
        SelectableField::new(name.clone(), move |object| scalar_at(object, &name))
    }

    /// As [`SelectableField::path`], with a value for absence (`"false"` for booleans, `"0"` for
    /// numbers, as Go's zero values print).
    pub fn path_or(name: &'static str, absent: &'static str) -> Self {
        SelectableField::new(name, move |object| {
            let value = scalar_at(object, name);
            if value.is_empty() { absent.to_owned() } else { value }
        })
    }

    /// A field with its own extractor.
    pub fn new(name: impl Into<Cow<'static, str>>, f: impl Fn(&Value) -> String + Send + Sync + 'static) -> Self {
        SelectableField {
            name: name.into(),
            extract: Arc::new(f),
        }
    }
}

/// The value at a dotted path, if every step is there.
pub fn value_at<'v>(object: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.').try_fold(object, |value, step| value.get(step))
}

fn scalar_at(object: &Value, path: &str) -> String {
    match value_at(object, path) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(flag)) => flag.to_string(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    }
}
