//! Field paths and the errors of validation (apimachinery `util/validation/field`).

use std::fmt;

use serde_json::Value;

/// Where in an object an error is: `spec.containers[0].name`, `data[key]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Path(String);

impl Path {
    /// A path of one field.
    pub fn new(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The empty path: its children have no leading dot.
    pub fn root() -> Self {
        Self::default()
    }

    /// The path of a field of this value.
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() {
            return Self(name.to_owned());
        }
        let mut path = String::with_capacity(self.0.len() + name.len() + 1);
        path.push_str(&self.0);
        path.push('.');
        path.push_str(name);
        Self(path)
    }

    /// The path of an item of this list.
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// The path of an entry of this map.
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }

    /// The printed form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for Path {
    fn from(path: &str) -> Self {
        Self::new(path)
    }
}

/// Why a field is refused. The wire names are `CauseType`s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorType {
    /// A referenced value does not exist.
    NotFound,
    /// A value is missing.
    Required,
    /// A value that must be unique is not.
    Duplicate,
    /// A value is malformed.
    Invalid,
    /// A value is none of those that are allowed.
    NotSupported,
    /// A well-formed value is not permitted here.
    Forbidden,
    /// A value has too many bytes or characters.
    TooLong,
    /// A value has too few characters.
    TooShort,
    /// A list has too many items.
    TooMany,
    /// A list has too few items.
    TooFew,
    /// A fault that is not the user's.
    Internal,
    /// A value is not of the schema's type.
    TypeInvalid,
}

impl ErrorType {
    /// The reason on the wire, `FieldValueInvalid` and so on.
    pub fn cause(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooShort => "FieldValueTooShort",
            Self::TooMany => "FieldValueTooMany",
            Self::TooFew => "FieldValueTooFew",
            Self::Internal => "InternalError",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }
}

impl fmt::Display for ErrorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooShort => "Too short",
            Self::TooMany => "Too many",
            Self::TooFew => "Too few",
            Self::Internal => "Internal error",
        })
    }
}

/// One refused field.
#[derive(Clone, Debug, PartialEq)]
pub struct Error {
    /// Why.
    pub kind: ErrorType,
    /// Where.
    pub field: String,
    /// The refused value; `None` is never shown.
    pub value: Option<Value>,
    /// What would be right; may be empty.
    pub detail: String,
    /// How the value prints where its JSON would not do: upstream prints structs of its internal
    /// types, with Go's names and order.
    pub shown: Option<String>,
}

impl Error {
    fn new(kind: ErrorType, path: &Path, value: Option<Value>, detail: impl Into<String>) -> Self {
        Self {
            kind,
            field: path.0.clone(),
            value,
            detail: detail.into(),
            shown: None,
        }
    }

    /// Prints the value as this text.
    pub fn showing(mut self, text: String) -> Self {
        self.shown = Some(text);
        self
    }

    /// A malformed value.
    pub fn invalid(path: &Path, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::Invalid, path, Some(value.into()), detail)
    }

    /// A value of the wrong type.
    pub fn type_invalid(path: &Path, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::TypeInvalid, path, Some(value.into()), detail)
    }

    /// A missing value.
    pub fn required(path: &Path, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::Required, path, None, detail)
    }

    /// A repeated value.
    pub fn duplicate(path: &Path, value: impl Into<Value>) -> Self {
        Self::new(ErrorType::Duplicate, path, Some(value.into()), "")
    }

    /// A reference to nothing.
    pub fn not_found(path: &Path, value: impl Into<Value>) -> Self {
        Self::new(ErrorType::NotFound, path, Some(value.into()), "")
    }

    /// A value outside an enumeration, which is printed in the order given.
    pub fn not_supported(path: &Path, value: impl Into<Value>, supported: &[&str]) -> Self {
        let quoted: Vec<String> = supported.iter().map(|text| go_quote(text)).collect();
        let detail = if quoted.is_empty() {
            String::new()
        } else {
            format!("supported values: {}", quoted.join(", "))
        };
        Self::new(ErrorType::NotSupported, path, Some(value.into()), detail)
    }

    /// A value that may not be set here.
    pub fn forbidden(path: &Path, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::Forbidden, path, None, detail)
    }

    /// A value of too many bytes.
    pub fn too_long(path: &Path, max_bytes: usize) -> Self {
        let unit = if max_bytes == 1 { "byte" } else { "bytes" };
        let detail = format!("may not be more than {max_bytes} {unit}");
        Self::new(ErrorType::TooLong, path, None, detail)
    }

    /// A value of too many characters.
    pub fn too_long_characters(path: &Path, max: usize) -> Self {
        let unit = if max == 1 { "character" } else { "characters" };
        Self::new(
            ErrorType::TooLong,
            path,
            None,
            format!("may not be more than {max} {unit}"),
        )
    }

    /// A value of too few characters.
    pub fn too_short(path: &Path, min: usize) -> Self {
        let unit = if min == 1 { "character" } else { "characters" };
        Self::new(
            ErrorType::TooShort,
            path,
            None,
            format!("must be at least {min} {unit}"),
        )
    }

    /// A list of too many items.
    pub fn too_many(path: &Path, actual: usize, max: usize) -> Self {
        let unit = if max == 1 { "item" } else { "items" };
        let detail = format!("must have at most {max} {unit}");
        Self::new(ErrorType::TooMany, path, Some(Value::from(actual)), detail)
    }

    /// A fault that is not the user's.
    pub fn internal(path: &Path, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::Internal, path, None, detail)
    }

    /// The message without the field's path (upstream's `ErrorBody`).
    pub fn body(&self) -> String {
        let mut text = self.kind.to_string();
        let shows_value = !matches!(
            self.kind,
            ErrorType::Required | ErrorType::Forbidden | ErrorType::TooLong | ErrorType::TooShort | ErrorType::Internal
        );
        if let (true, Some(value)) = (shows_value, &self.value) {
            text.push_str(": ");
            match (&self.shown, value) {
                (Some(shown), _) => text.push_str(shown),
                (None, Value::String(value)) => text.push_str(&go_quote(value)),
                (None, value) => text.push_str(&value.to_string()),
            }
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

impl std::error::Error for Error {}

/// Quotes a string as Go's `%q` does.
pub fn go_quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => {
                out.push_str(&format!("\\x{:02x}", c as u32));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Joins errors as upstream's aggregate prints them: alone without brackets, several as a list,
/// repeated messages once.
pub fn aggregate(errors: &[Error]) -> String {
    let mut messages: Vec<String> = Vec::with_capacity(errors.len());
    for error in errors {
        let message = error.to_string();
        if !messages.contains(&message) {
            messages.push(message);
        }
    }
    match messages.len() {
        1 => messages.remove(0),
        _ => format!("[{}]", messages.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_print_as_upstream() {
        let path = Path::new("spec").child("containers").index(2).child("env").key("a.b/c");
        assert_eq!(path.as_str(), "spec.containers[2].env[a.b/c]");
        assert_eq!(Path::root().child("spec").as_str(), "spec");
    }

    #[test]
    fn errors_print_as_upstream() {
        let path = Path::new("spec").child("x");
        let cases = [
            (Error::required(&path, ""), "spec.x: Required value"),
            (Error::required(&path, "why"), "spec.x: Required value: why"),
            (
                Error::invalid(&path, "a\"b\n", "no"),
                r#"spec.x: Invalid value: "a\"b\n": no"#,
            ),
            (Error::invalid(&path, -1, "no"), "spec.x: Invalid value: -1: no"),
            (
                Error::invalid(&path, json!({"a": 1}), "no"),
                r#"spec.x: Invalid value: {"a":1}: no"#,
            ),
            (Error::duplicate(&path, "a"), r#"spec.x: Duplicate value: "a""#),
            (Error::not_found(&path, "a"), r#"spec.x: Not found: "a""#),
            (
                Error::not_supported(&path, "c", &["A", "B"]),
                r#"spec.x: Unsupported value: "c": supported values: "A", "B""#,
            ),
            (Error::forbidden(&path, "no"), "spec.x: Forbidden: no"),
            (
                Error::too_long(&path, 63),
                "spec.x: Too long: may not be more than 63 bytes",
            ),
            (
                Error::too_many(&path, 3, 1),
                "spec.x: Too many: 3: must have at most 1 item",
            ),
            (Error::internal(&path, "bad"), "spec.x: Internal error: bad"),
        ];
        for (error, want) in cases {
            assert_eq!(error.to_string(), want);
        }
    }

    #[test]
    fn aggregates_drop_repeats() {
        let a = Error::required(&Path::new("a"), "");
        let b = Error::required(&Path::new("b"), "");
        assert_eq!(aggregate(&[a.clone(), a.clone()]), "a: Required value");
        assert_eq!(aggregate(&[a, b]), "[a: Required value, b: Required value]");
    }
}
