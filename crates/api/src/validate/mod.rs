//! The syntax of names, labels and such (apimachinery `util/validation` and
//! `api/validate/content`). Each check returns upstream's messages, none when the value is good.

mod ip;
mod object_meta;
mod selector;

pub use ip::{cidr_warning, ip_address, ip_for_legacy_field, ip_warning, legacy_cidr};
pub use object_meta::{
    NameRule, annotations, finalizers, generate_name, immutable, labels, nonnegative, object_meta, object_meta_update,
    owner_references,
};
pub use selector::{conditions, label_name, label_selector};

/// Upstream's message for a value that is too long in characters.
pub fn max_len_error(length: usize) -> String {
    format!("must be no more than {length} characters")
}

fn max_bytes_error(length: usize) -> String {
    format!("must be no more than {length} bytes")
}

/// Upstream's message for a value that does not match a pattern.
pub fn regex_error(message: &str, pattern: &str, examples: &[&str]) -> String {
    if examples.is_empty() {
        return format!("{message} (regex used for validation is '{pattern}')");
    }
    let examples: Vec<String> = examples.iter().map(|text| format!("'{text}', ")).collect();
    let examples = examples.join(" or ");
    format!("{message} (e.g. {examples}regex used for validation is '{pattern}')")
}

/// Upstream's message for a number outside its bounds.
pub fn inclusive_range_error(low: i64, high: i64) -> String {
    format!("must be between {low} and {high}, inclusive")
}

const DNS1123_LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const DNS1123_SUBDOMAIN: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const QUALIFIED_NAME: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";

fn lower_or_digit(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

fn is_dns1123_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    matches!((bytes.first(), bytes.last()), (Some(a), Some(b)) if lower_or_digit(*a) && lower_or_digit(*b))
        && bytes.iter().all(|b| lower_or_digit(*b) || *b == b'-')
}

fn is_dns1123_subdomain(text: &str) -> bool {
    text.split('.').all(is_dns1123_label)
}

fn is_name_part(text: &str) -> bool {
    let bytes = text.as_bytes();
    matches!((bytes.first(), bytes.last()), (Some(a), Some(b)) if a.is_ascii_alphanumeric() && b.is_ascii_alphanumeric())
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// A DNS label by RFC 1123, at most 63 characters.
pub fn dns1123_label(value: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if value.len() > 63 {
        messages.push(max_len_error(63));
    }
    if !is_dns1123_label(value) {
        messages.push(if is_dns1123_subdomain(value) {
            "must not contain dots".to_owned()
        } else {
            regex_error(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character",
                DNS1123_LABEL,
                &["my-name", "123-abc"],
            )
        });
    }
    messages
}

/// A DNS subdomain by RFC 1123, at most 253 characters.
pub fn dns1123_subdomain(value: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if value.len() > 253 {
        messages.push(max_len_error(253));
    }
    if !is_dns1123_subdomain(value) {
        messages.push(regex_error(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character",
            DNS1123_SUBDOMAIN,
            &["example.com"],
        ));
    }
    messages
}

/// A DNS subdomain with underscores, as search paths of pods may have.
pub fn dns1123_subdomain_with_underscore(value: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if value.len() > 253 {
        messages.push(max_len_error(253));
    }
    let is_label = |label: &str| {
        let label = label.strip_prefix('_').unwrap_or(label);
        let bytes = label.as_bytes();
        matches!((bytes.first(), bytes.last()), (Some(a), Some(b)) if lower_or_digit(*a) && lower_or_digit(*b))
            && bytes.iter().all(|b| lower_or_digit(*b) || matches!(b, b'-' | b'_'))
    };
    if !value.split('.').all(is_label) {
        messages.push(regex_error(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character",
            r"_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*",
            &["example.com"],
        ));
    }
    messages
}

/// A DNS label by RFC 1035: starts with a letter.
pub fn dns1035_label(value: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if value.len() > 63 {
        messages.push(max_len_error(63));
    }
    if !(is_dns1123_label(value) && value.starts_with(|c: char| c.is_ascii_lowercase())) {
        messages.push(regex_error(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character",
            "[a-z]([-a-z0-9]*[a-z0-9])?",
            &["my-name", "abc-123"],
        ));
    }
    messages
}

/// `*.` and a DNS subdomain.
pub fn wildcard_dns1123_subdomain(value: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if value.len() > 253 {
        messages.push(max_len_error(253));
    }
    if !value.strip_prefix("*.").is_some_and(is_dns1123_subdomain) {
        messages.push(regex_error(
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character",
            &format!(r"\*\.{DNS1123_SUBDOMAIN}"),
            &["*.example.com"],
        ));
    }
    messages
}

/// A label key: a name of at most 63 characters with an optional DNS prefix and `/`.
pub fn qualified_name(value: &str) -> Vec<String> {
    const MESSAGE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
    const EXAMPLES: &[&str] = &["MyName", "my.name", "123-abc"];
    let mut messages = Vec::new();
    let parts: Vec<&str> = value.split('/').collect();
    let name = match parts.as_slice() {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                messages.push("prefix part must be non-empty".to_owned());
            } else {
                let mut inner = dns1123_subdomain(prefix);
                if prefix.len() > 253 {
                    inner[0] = max_bytes_error(253);
                }
                messages.extend(inner.into_iter().map(|text| format!("prefix part {text}")));
            }
            name
        }
        _ => {
            let pattern = regex_error(MESSAGE, QUALIFIED_NAME, EXAMPLES);
            return vec![format!(
                "a valid label key {pattern} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        messages.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        messages.push(format!("name part {}", max_bytes_error(63)));
    }
    if !is_name_part(name) {
        messages.push(format!("name part {}", regex_error(MESSAGE, QUALIFIED_NAME, EXAMPLES)));
    }
    messages
}

/// A label value: empty, or a name of at most 63 characters.
pub fn label_value(value: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if value.len() > 63 {
        messages.push(max_bytes_error(63));
    }
    if !value.is_empty() && !is_name_part(value) {
        messages.push(regex_error(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
            "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?",
            &["MyValue", "my_value", "12345"],
        ));
    }
    messages
}

/// A name that is safe as one segment of a path: not `.` or `..`, no `/` or `%`.
pub fn path_segment_name(name: &str) -> Vec<String> {
    if name == "." || name == ".." {
        return vec![format!("may not be '{name}'")];
    }
    path_segment_prefix(name)
}

/// The start of a generated name that is safe as one segment of a path.
pub fn path_segment_prefix(name: &str) -> Vec<String> {
    ["/", "%"]
        .into_iter()
        .filter(|text| name.contains(text))
        .map(|text| format!("may not contain '{text}'"))
        .collect()
}

/// An identifier of the C language.
pub fn c_identifier(value: &str) -> Vec<String> {
    let mut bytes = value.bytes();
    let good = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if good {
        return Vec::new();
    }
    vec![regex_error(
        "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_'",
        "[A-Za-z_][A-Za-z0-9_]*",
        &["my_name", "MY_NAME", "MyName"],
    )]
}

/// A port number: 1 to 65535.
pub fn port_number(port: i64) -> Vec<String> {
    in_range(port, 1, 65535)
}

/// A number within bounds.
pub fn in_range(value: i64, low: i64, high: i64) -> Vec<String> {
    if (low..=high).contains(&value) {
        Vec::new()
    } else {
        vec![inclusive_range_error(low, high)]
    }
}

/// A user or group ID: 0 to 2^31-1.
pub fn user_or_group_id(id: i64) -> Vec<String> {
    in_range(id, 0, i64::from(i32::MAX))
}

/// An IANA service name for a port: at most 15 of `[-a-z0-9]`, at least one letter.
pub fn port_name(port: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if port.len() > 15 {
        messages.push(max_len_error(15));
    }
    if port.is_empty() || !port.bytes().all(|b| lower_or_digit(b) || b == b'-') {
        messages.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !port.bytes().any(|b| b.is_ascii_lowercase()) {
        messages.push("must contain at least one letter (a-z)".to_owned());
    }
    if port.contains("--") {
        messages.push("must not contain consecutive hyphens".to_owned());
    }
    if port.starts_with('-') || port.ends_with('-') {
        messages.push("must not begin or end with a hyphen".to_owned());
    }
    messages
}

/// Digits and a percent sign.
pub fn percent(value: &str) -> Vec<String> {
    let digits = value.strip_suffix('%').unwrap_or("");
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        return Vec::new();
    }
    vec![regex_error(
        "a valid percent string must be a numeric string followed by an ending '%'",
        "[0-9]+%",
        &["1%", "93%"],
    )]
}

/// The name of an HTTP header.
pub fn http_header_name(value: &str) -> Vec<String> {
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Vec::new();
    }
    vec![regex_error(
        "a valid HTTP header must consist of alphanumeric characters or '-'",
        "[-A-Za-z0-9]+",
        &["X-Header-Name"],
    )]
}

/// The name of an environment variable: printable ASCII without `=`. This is the relaxed rule
/// that is always on since v1.34.
pub fn env_var_name(value: &str) -> Vec<String> {
    if value.is_empty() {
        return vec!["environment variable name must be non-empty".to_owned()];
    }
    if value.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=') {
        return Vec::new();
    }
    vec!["a valid environment variable name must consist only of printable ASCII characters other than '='".to_owned()]
}

/// A key of a ConfigMap or Secret.
pub fn config_map_key(value: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if value.len() > 253 {
        messages.push(max_len_error(253));
    }
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if value.is_empty() || !value.bytes().all(good) {
        messages.push(regex_error(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    match value {
        "." => messages.push("must not be '.'".to_owned()),
        ".." => messages.push("must not be '..'".to_owned()),
        value if value.starts_with("..") => {
            messages.push("must not start with '..'".to_owned());
        }
        _ => {}
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    type Check = fn(&str) -> Vec<String>;

    #[test]
    fn the_good_pass_and_the_bad_fail() {
        let long = "a".repeat(64);
        let longer = "a".repeat(254);
        let cases: &[(&str, Check, &[&str], &[&str])] = &[
            (
                "label",
                dns1123_label,
                &["a", "0", "a-b", "1-2"],
                &["", "-a", "a-", "A", "a.b", "a_b", &long],
            ),
            (
                "subdomain",
                dns1123_subdomain,
                &["a.b", "1.2.3", "a-b.c"],
                &["", ".", "a..b", "a.", "A.b", &longer],
            ),
            ("1035", dns1035_label, &["a", "a1"], &["1", "1a", "a.", "", &long]),
            (
                "wildcard",
                wildcard_dns1123_subdomain,
                &["*.a", "*.a.b"],
                &["*", "a", "*.*.a", "*a"],
            ),
            (
                "qualified",
                qualified_name,
                &["a", "a/b", "x.y/Z_1.2", "1"],
                &["", "/a", "a/", "a/b/c", "A.b/c", "-a", &long],
            ),
            ("value", label_value, &["", "a", "A_b.c-1"], &["-", "a/", "a b", &long]),
            (
                "segment",
                path_segment_name,
                &["a", "a:b", "..."],
                &[".", "..", "a/b", "a%b"],
            ),
            ("c", c_identifier, &["a", "_1"], &["", "1", "a-b"]),
            (
                "port name",
                port_name,
                &["http", "a-1"],
                &["", "1", "a--b", "-a", "aaaaaaaaaaaaaaaa", "A"],
            ),
            ("percent", percent, &["1%", "100%"], &["", "%", "1", "-1%"]),
            ("env", env_var_name, &["A", "1a", "a.b", "a b"], &["", "a=b", "ä"]),
            (
                "key",
                config_map_key,
                &["a", ".a", "A_b-c.d"],
                &["", ".", "..", "..a", "a/b"],
            ),
        ];
        for (name, check, good, bad) in cases {
            for value in *good {
                assert!(check(value).is_empty(), "{name} {value:?}: {:?}", check(value));
            }
            for value in *bad {
                assert!(!check(value).is_empty(), "{name} {value:?}");
            }
        }
    }

    #[test]
    fn messages_are_upstreams() {
        assert_eq!(
            dns1123_subdomain("A"),
            [
                r"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
            ]
        );
        assert_eq!(
            dns1123_label("A"),
            [
                r"a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
            ]
        );
        assert_eq!(dns1123_label("a.b"), ["must not contain dots"]);
    }
}
