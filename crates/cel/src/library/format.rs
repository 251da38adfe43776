//! Named formats (k8s.io/apiserver/pkg/cel/library/format.go).

use base64::Engine as _;

use super::url::Url;
use crate::error::EvalError;
use crate::function::Functions;
use crate::time;
use crate::value::{Opaque, Value};

/// A format that strings can be checked against.
#[derive(Debug)]
pub struct NamedFormat {
    /// Its name.
    pub name: &'static str,
    function: &'static str,
    validate: fn(&str) -> Vec<String>,
    /// The size of its pattern, for the cost of a check.
    pub(crate) regex_size: u64,
}

/// Names that end in a dash are prefixes of generated names, whose end does not count (`maskTrailingDash`).
fn as_prefix(name: &str) -> String {
    match name.strip_suffix('-') {
        Some(stem) if name.len() > 1 => format!("{stem}a"),
        _ => name.to_owned(),
    }
}

/// Hexadecimal digits in the groups of a UUID, each dash of which may be left out.
fn uuid(text: &str) -> bool {
    let mut rest = text;
    for (index, length) in [8, 4, 4, 4, 12].into_iter().enumerate() {
        if index > 0 {
            rest = rest.strip_prefix('-').unwrap_or(rest);
        }
        match rest.get(..length) {
            Some(group) if group.bytes().all(|byte| byte.is_ascii_hexdigit()) => rest = &rest[length..],
            _ => return false,
        }
    }
    rest.is_empty()
}

/// `strfmt.IsDateTime`: a date, `t`, and a time with a zone, in either case.
fn date_time(text: &str) -> bool {
    let text = text.to_ascii_uppercase();
    text.contains('T')
        && (text.ends_with('Z') || text.contains(['+']) || text.matches('-').count() > 2)
        && time::parse_open_api_date_time(&text).is_some()
}

fn unless(valid: bool, message: &str) -> Vec<String> {
    if valid { Vec::new() } else { vec![message.to_owned()] }
}

const fn format(
    function: &'static str,
    name: &'static str,
    regex_size: u64,
    validate: fn(&str) -> Vec<String>,
) -> NamedFormat {
    NamedFormat {
        name,
        function,
        validate,
        regex_size,
    }
}

/// Go's `strfmt.UUIDPattern` and `DateTimePattern` have these lengths, on which costs depend.
const UUID_PATTERN: u64 = 70;
const DATE_TIME_PATTERN: u64 = 71;

static FORMATS: &[NamedFormat] = &[
    format("dns1123Label", "DNS1123Label", 30, api::validate::dns1123_label),
    format(
        "dns1123Subdomain",
        "DNS1123Subdomain",
        60,
        api::validate::dns1123_subdomain,
    ),
    format("dns1035Label", "DNS1035Label", 30, api::validate::dns1035_label),
    format("qualifiedName", "QualifiedName", 60, api::validate::qualified_name),
    format("dns1123LabelPrefix", "DNS1123LabelPrefix", 30, |text| {
        api::validate::dns1123_label(&as_prefix(text))
    }),
    format("dns1123SubdomainPrefix", "DNS1123SubdomainPrefix", 60, |text| {
        api::validate::dns1123_subdomain(&as_prefix(text))
    }),
    format("dns1035LabelPrefix", "DNS1035LabelPrefix", 30, |text| {
        api::validate::dns1035_label(&as_prefix(text))
    }),
    format("labelValue", "LabelValue", 40, api::validate::label_value),
    format("uri", "URI", 1103, |text| Url::parse(text).err().into_iter().collect()),
    format("uuid", "uuid", UUID_PATTERN, |text| {
        unless(uuid(text), "does not match the UUID format")
    }),
    format("byte", "byte", 84, |text| {
        unless(
            base64::engine::general_purpose::STANDARD.decode(text).is_ok(),
            "invalid base64",
        )
    }),
    format("date", "date", DATE_TIME_PATTERN, |text| {
        unless(time::parse_date(text).is_some(), "invalid date")
    }),
    format("datetime", "datetime", DATE_TIME_PATTERN, |text| {
        unless(date_time(text), "invalid datetime")
    }),
];

fn find(name: &str) -> Option<Value> {
    FORMATS
        .iter()
        .find(|format| format.function == name)
        .map(|format| Value::opaque(Opaque::Format(format)))
}

fn validate(arguments: &[Value]) -> Result<Value, EvalError> {
    let [Value::Opaque(format), Value::String(text)] = arguments else {
        return Err(EvalError::no_such_overload());
    };
    let Opaque::Format(format) = &**format else {
        return Err(EvalError::no_such_overload());
    };
    let messages = (format.validate)(text);
    if messages.is_empty() {
        return Ok(Value::none());
    }
    Ok(Value::some(Value::list(
        messages.into_iter().map(Value::from).collect(),
    )))
}

macro_rules! constants {
    ($functions:ident: $($name:literal),+) => {$(
        $functions.native(concat!("format.", $name), concat!("format.", $name), "():kubernetes.NamedFormat", |_| {
            Ok(find($name).expect("each declared format is in the list"))
        });
    )+};
}

/// Declares the formats and what they do.
pub(super) fn declare(functions: &mut Functions) {
    constants!(functions: "dns1123Label", "dns1123Subdomain", "dns1035Label", "qualifiedName", "dns1123LabelPrefix",
        "dns1123SubdomainPrefix", "dns1035LabelPrefix", "labelValue", "uri", "uuid", "byte", "date", "datetime");
    functions.native(
        "format.named",
        "format-named",
        "(string):optional(kubernetes.NamedFormat)",
        |a| match a {
            [Value::String(name)] => Ok(find(name).map_or_else(Value::none, Value::some)),
            _ => Err(EvalError::no_such_overload()),
        },
    );
    functions.native(
        "validate",
        "format-validate",
        ".(kubernetes.NamedFormat,string):optional(list(string))",
        validate,
    );
}
