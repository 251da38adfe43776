//! Property names as CEL identifiers (k8s.io/apiserver/pkg/cel/escaping.go).

/// Words that are no identifiers in CEL.
pub const RESERVED: &[&str] = &[
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// The identifier by which a property is reached, or none when its name cannot be one.
pub fn escape(name: &str) -> Option<String> {
    let first = *name.as_bytes().first()?;
    if first.is_ascii_digit() {
        return None;
    }
    if RESERVED.contains(&name) {
        return Some(format!("__{name}__"));
    }
    let mut escaped = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("__") {
            escaped.push_str("__underscores__");
            rest = after;
            continue;
        }
        match c {
            '.' => escaped.push_str("__dot__"),
            '-' => escaped.push_str("__dash__"),
            '/' => escaped.push_str("__slash__"),
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' => escaped.push(c),
            _ => return None,
        }
        rest = &rest[c.len_utf8()..];
    }
    Some(escaped)
}

/// The property's name behind an identifier, or none when it has an unknown escape.
pub fn unescape(identifier: &str) -> Option<String> {
    if !identifier.contains("__") {
        return Some(identifier.to_owned());
    }
    let mut name = String::with_capacity(identifier.len());
    let mut rest = identifier;
    while let Some(start) = rest.find("__") {
        let inner = &rest[start + 2..];
        let length = inner.find('_').unwrap_or(inner.len());
        if length == 0 || !inner[length..].starts_with("__") {
            // No escape begins at these underscores; one may begin one character later.
            name.push_str(&rest[..start + 1]);
            rest = &rest[start + 1..];
            continue;
        }
        name.push_str(&rest[..start]);
        let word = &inner[..length];
        match word {
            "underscores" => name.push_str("__"),
            "dot" => name.push('.'),
            "dash" => name.push('-'),
            "slash" => name.push('/'),
            _ if RESERVED.contains(&word) && length + 4 == identifier.len() => name.push_str(word),
            _ => return None,
        }
        rest = &inner[length + 2..];
    }
    name.push_str(rest);
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Upstream's own table (escaping_test.go).
    #[test]
    fn names_are_escaped_as_upstream_does() {
        for (name, escaped) in [
            ("", None),
            ("/", Some("__slash__")),
            ("namespace", Some("__namespace__")),
            ("_true", Some("_true")),
            ("__true__", Some("__underscores__true__underscores__")),
            ("___", Some("__underscores___")),
            ("has__underscores", Some("has__underscores__underscores")),
            ("1startsWithDigit", None),
            ("a.dot", Some("a__dot__dot")),
            ("x-dash", Some("x__dash__dash")),
            ("a/b", Some("a__slash__b")),
            ("has space", None),
            ("ä", None),
            ("if", Some("__if__")),
        ] {
            assert_eq!(escape(name).as_deref(), escaped, "{name}");
            if let Some(escaped) = escaped {
                assert_eq!(unescape(escaped).as_deref(), Some(name), "{escaped}");
            }
        }
        assert_eq!(unescape("__illegal__"), None);
        assert_eq!(unescape("__illegal__namespace__"), None);
        assert_eq!(unescape("__dot____dot__").as_deref(), Some(".."));
        assert_eq!(unescape("__").as_deref(), Some("__"));
        assert_eq!(unescape("a__b").as_deref(), Some("a__b"));
    }
}
