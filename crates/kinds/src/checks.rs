//! Checks that several kinds share, with upstream's wording.

use std::net::IpAddr;

use api::field::{Error, Path};
use api::{IntOrString, Quantity, Value, validate};

use crate::tree;

/// Port protocols, in upstream's order.
pub const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];

/// Turns messages into errors about one value.
pub fn invalid_each(path: &Path, value: &str, messages: Vec<String>) -> Vec<Error> {
    messages
        .into_iter()
        .map(|message| Error::invalid(path, value, message))
        .collect()
}

/// What is wrong with the whole of something that is not printed.
pub fn invalid_whole(path: &Path, detail: &str) -> Error {
    Error {
        value: None,
        ..Error::invalid(path, Value::Null, detail)
    }
}

/// A DNS label.
pub fn dns_label(value: &str, path: &Path) -> Vec<Error> {
    invalid_each(path, value, validate::dns1123_label(value))
}

/// A DNS subdomain, which most names are.
pub fn dns_subdomain(value: &str, path: &Path) -> Vec<Error> {
    invalid_each(path, value, validate::dns1123_subdomain(value))
}

/// A qualified name, as label keys are.
pub fn qualified_name(value: &str, path: &Path) -> Vec<Error> {
    invalid_each(path, value, validate::qualified_name(value))
}

/// A value of an enumeration that must be set.
pub fn one_of(value: &str, known: &[&str], path: &Path) -> Vec<Error> {
    match value {
        "" => vec![Error::required(path, "")],
        value if known.contains(&value) => Vec::new(),
        value => vec![Error::not_supported(path, value, known)],
    }
}

/// A value of an enumeration that may be absent, but not empty.
pub fn optional_one_of(value: Option<&str>, known: &[&str], path: &Path) -> Vec<Error> {
    match value {
        None => Vec::new(),
        Some(value) if known.contains(&value) => Vec::new(),
        Some(value) => vec![Error::not_supported(path, value, known)],
    }
}

/// A whole number that may not be negative.
pub fn nonnegative(object: &Value, field: &str, path: &Path) -> Vec<Error> {
    validate::nonnegative(tree::count(object, field), &path.child(field))
}

/// Whole numbers that may not be negative.
pub fn all_nonnegative(object: &Value, fields: &[&str], path: &Path) -> Vec<Error> {
    fields
        .iter()
        .flat_map(|field| nonnegative(object, field, path))
        .collect()
}

/// A port: a number in range or a well-formed name.
pub fn port_number_or_name(port: Option<&Value>, path: &Path) -> Vec<Error> {
    match port.and_then(IntOrString::from_json).unwrap_or(IntOrString::Int(0)) {
        IntOrString::Int(number) => port_number(i64::from(number), path),
        IntOrString::String(name) => invalid_each(path, &name, validate::port_name(&name)),
    }
}

/// A port number.
pub fn port_number(port: i64, path: &Path) -> Vec<Error> {
    validate::port_number(port)
        .into_iter()
        .map(|text| Error::invalid(path, port, text))
        .collect()
}

/// An address that endpoints may have: not unspecified, loopback or link-local.
pub fn non_special_ip(value: &str, path: &Path) -> Vec<Error> {
    let Ok(address) = value.parse::<IpAddr>() else {
        return vec![Error::invalid(path, value, "must be a valid IP address")];
    };
    let (link_local, link_multicast) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), v6.segments()[0] & 0xff0f == 0xff02),
    };
    let mut errors = Vec::new();
    if address.is_unspecified() {
        errors.push(Error::invalid(path, value, format!("may not be unspecified ({value})")));
    }
    if address.is_loopback() {
        let detail = "may not be in the loopback range (127.0.0.0/8, ::1/128)";
        errors.push(Error::invalid(path, value, detail));
    }
    if link_local {
        let detail = "may not be in the link-local range (169.254.0.0/16, fe80::/10)";
        errors.push(Error::invalid(path, value, detail));
    }
    if link_multicast {
        let detail = "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)";
        errors.push(Error::invalid(path, value, detail));
    }
    errors
}

/// Whether one address of each family is listed, and no family twice.
pub fn is_dual_stack(addresses: &[&str]) -> bool {
    let count = |v6: bool| addresses.iter().filter(|text| text.contains(':') == v6).count();
    count(false) >= 1 && count(true) >= 1
}

/// A quantity that may not be negative, shown as text.
pub fn nonnegative_quantity(value: &Quantity, path: &Path) -> Vec<Error> {
    if value.signum() >= 0 {
        return Vec::new();
    }
    vec![Error::invalid(
        path,
        value.to_string(),
        "must be greater than or equal to 0",
    )]
}

/// A quantity above zero, shown as text.
pub fn positive_quantity(value: &Quantity, path: &Path) -> Vec<Error> {
    if value.signum() > 0 {
        return Vec::new();
    }
    vec![Error::invalid(path, value.to_string(), "must be greater than zero")]
}

/// A whole number, or digits and `%`.
pub fn int_or_percent(value: Option<&Value>, path: &Path) -> Vec<Error> {
    match value.and_then(IntOrString::from_json) {
        Some(IntOrString::String(text)) => invalid_each(path, &text, validate::percent(&text)),
        Some(IntOrString::Int(number)) => validate::nonnegative(i64::from(number), path),
        None => Vec::new(),
    }
}

/// The number, or the number before `%`.
pub fn int_or_percent_value(value: Option<&Value>) -> i64 {
    match value.and_then(IntOrString::from_json) {
        Some(IntOrString::Int(number)) => i64::from(number),
        Some(percent) => percent.percent().unwrap_or(0),
        None => 0,
    }
}

/// A percentage of at most 100.
pub fn at_most_100_percent(value: Option<&Value>, path: &Path) -> Vec<Error> {
    let Some(text) = value.and_then(Value::as_str) else {
        return Vec::new();
    };
    if validate::percent(text).is_empty() && int_or_percent_value(value) > 100 {
        return vec![Error::invalid(path, text, "must not be greater than 100%")];
    }
    Vec::new()
}

/// A counter in `status` that may only grow.
pub fn not_decremented(new: &Value, old: &Value, field: &str, path: &Path) -> Vec<Error> {
    let (before, after) = (tree::int(old, field), tree::count(new, field));
    if before.is_some_and(|before| after < before) {
        return vec![Error::invalid(&path.child(field), after, "cannot be decremented")];
    }
    Vec::new()
}

/// Prints a label selector as Go does: labels before expressions.
pub fn selector_text(selector: &Value) -> String {
    let parts = ["matchLabels", "matchExpressions"].into_iter().filter_map(|field| {
        let value = tree::at(selector, field)?;
        Some(format!("\"{field}\":{value}"))
    });
    format!("{{{}}}", parts.collect::<Vec<_>>().join(","))
}

/// A field that may not change.
pub fn immutable(new: &Value, old: &Value, field: &str, path: &Path) -> Vec<Error> {
    let (after, before) = (tree::at(new, field), tree::at(old, field));
    if tree::same(after, before) {
        return Vec::new();
    }
    vec![Error::invalid(
        path,
        after.cloned().unwrap_or_default(),
        "field is immutable",
    )]
}

/// Prints a value as Go prints a struct of an internal type: with these fields, in this order.
/// `Name=key` is a string, `Name?key` a pointer, a list or a map (null when it is not set), and
/// `Name#key` a number.
pub fn go_struct(value: &Value, fields: &[&str]) -> String {
    let parts = fields.iter().map(|field| {
        let at = field.find(['=', '?', '#']).expect("the field says its type");
        let (name, key) = (&field[..at], &field[at + 1..]);
        let shown = match (tree::at(value, key), field.as_bytes()[at]) {
            (Some(value), _) => value.to_string(),
            (None, b'=') => "\"\"".to_owned(),
            (None, b'#') => "0".to_owned(),
            (None, _) => "null".to_owned(),
        };
        format!("\"{name}\":{shown}")
    });
    format!("{{{}}}", parts.collect::<Vec<_>>().join(","))
}

/// `metav1.Condition`s (`apimachinery/pkg/apis/meta/v1/validation.ValidateConditions`).
pub fn conditions(conditions: &[Value], path: &Path) -> Vec<Error> {
    const REASON: &str = "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?";
    const MOST_REASON_BYTES: usize = 1024;
    const MOST_MESSAGE_BYTES: usize = 32 * 1024;
    let mut errors = Vec::new();
    for (index, condition) in conditions.iter().enumerate() {
        let path = path.index(index);
        let kind = tree::text(condition, "type");
        if conditions[..index]
            .iter()
            .any(|earlier| tree::text(earlier, "type") == kind)
        {
            errors.push(Error::duplicate(&path.child("type"), kind));
        }
        errors.extend(validate::label_name(kind, &path.child("type")));
        let (status, known) = (tree::text(condition, "status"), &["False", "True", "Unknown"]);
        if !known.contains(&status) {
            errors.push(Error::not_supported(&path.child("status"), status, known));
        }
        let generation = tree::count(condition, "observedGeneration");
        if generation < 0 {
            let detail = "must be greater than or equal to zero";
            errors.push(Error::invalid(&path.child("observedGeneration"), generation, detail));
        }
        if tree::text(condition, "lastTransitionTime").is_empty() {
            errors.push(Error::required(&path.child("lastTransitionTime"), "must be set"));
        }
        let (reason, path_of_reason) = (tree::text(condition, "reason"), path.child("reason"));
        if reason.is_empty() {
            errors.push(Error::required(&path_of_reason, "must be set"));
        } else if !is_reason(reason) {
            let said = "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_'";
            let examples = &["my_name", "MY_NAME", "MyName", "ReasonA,ReasonB", "ReasonA:ReasonB"];
            let detail = validate::regex_error(said, REASON, examples);
            errors.push(Error::invalid(&path_of_reason, reason, detail));
        }
        if reason.len() > MOST_REASON_BYTES {
            errors.push(Error::too_long(&path_of_reason, MOST_REASON_BYTES));
        }
        if tree::text(condition, "message").len() > MOST_MESSAGE_BYTES {
            errors.push(Error::too_long(&path.child("message"), MOST_MESSAGE_BYTES));
        }
    }
    errors
}

fn is_reason(reason: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b',' | b':');
    let bytes = reason.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphabetic)
        && bytes.iter().all(|byte| inner(*byte))
        && bytes
            .last()
            .is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn special_addresses_are_refused() {
        for (value, good) in [
            ("10.0.0.1", true),
            ("fd00::1", true),
            ("0.0.0.0", false),
            ("127.0.0.1", false),
            ("169.254.1.1", false),
            ("224.0.0.5", false),
            ("::", false),
            ("::1", false),
            ("fe80::1", false),
            ("ff02::1", false),
            ("x", false),
        ] {
            assert_eq!(non_special_ip(value, &Path::new("ip")).is_empty(), good, "{value}");
        }
        assert!(is_dual_stack(&["10.0.0.1", "fd00::1"]) && !is_dual_stack(&["10.0.0.1", "10.0.0.2"]));
    }

    #[test]
    fn ports_and_percentages() {
        let path = Path::new("p");
        for (value, good) in [
            (json!(80), true),
            (json!(0), false),
            (json!("http"), true),
            (json!("80"), false),
            (json!("a_b"), false),
        ] {
            assert_eq!(port_number_or_name(Some(&value), &path).is_empty(), good, "{value}");
        }
        for (value, good) in [
            (json!(0), true),
            (json!(-1), false),
            (json!("25%"), true),
            (json!("25"), false),
        ] {
            assert_eq!(int_or_percent(Some(&value), &path).is_empty(), good, "{value}");
        }
        assert_eq!(at_most_100_percent(Some(&json!("101%")), &path).len(), 1);
    }
}
