//! Field selectors (apimachinery `fields`).

use std::collections::BTreeMap;
use std::fmt;

/// One condition on one field.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requirement {
    /// The field's path, such as `metadata.name`.
    pub field: String,
    /// Whether the field must have the value, or must not.
    pub equals: bool,
    /// The value.
    pub value: String,
}

/// A conjunction of conditions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Selector {
    requirements: Vec<Requirement>,
}

/// Why a selector is refused. The wording is upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// A term has no operator.
    #[error("invalid selector: '{selector}'; can't understand '{term}'")]
    Term {
        /// The whole selector.
        selector: String,
        /// The refused term.
        term: String,
    },
    /// A backslash escapes something else than backslash, comma and equals sign.
    #[error("invalid field selector: invalid escape sequence: {0}")]
    Escape(String),
    /// A comma or equals sign in a value is not escaped. Go prints the character's number.
    #[error("invalid field selector: unescaped character in value: {}", *.0 as u32)]
    Unescaped(char),
}

impl Selector {
    /// Selects every object.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Selects objects whose field has this value.
    pub fn equals(field: &str, value: &str) -> Self {
        let requirement = Requirement {
            field: field.to_owned(),
            equals: true,
            value: value.to_owned(),
        };
        Self {
            requirements: vec![requirement],
        }
    }

    /// Parses the string form, as in `?fieldSelector=`.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut terms = split_terms(text);
        terms.sort_unstable();
        let mut requirements = Vec::new();
        for term in terms.into_iter().filter(|term| !term.is_empty()) {
            let Some((field, equals, value)) = split_term(term) else {
                return Err(SelectorError::Term {
                    selector: text.to_owned(),
                    term: term.to_owned(),
                });
            };
            let value = unescape(value)?;
            // A term of nothing at all restricts nothing.
            if field.is_empty() && value.is_empty() {
                continue;
            }
            requirements.push(Requirement {
                field: field.to_owned(),
                equals,
                value,
            });
        }
        Ok(Self { requirements })
    }

    /// The conditions.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Whether it selects every object.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The value that a field must have, if one is required.
    pub fn exact(&self, field: &str) -> Option<&str> {
        let required = |r: &&Requirement| r.equals && r.field == field;
        self.requirements.iter().find(required).map(|r| r.value.as_str())
    }

    /// Whether these fields fulfil every condition; a missing field is the empty string.
    pub fn matches(&self, fields: &BTreeMap<String, String>) -> bool {
        self.matches_by(|field| fields.get(field).map_or("", String::as_str))
    }

    /// Whether the fields that `get` finds fulfil every condition.
    pub fn matches_by<'a>(&self, get: impl Fn(&str) -> &'a str) -> bool {
        self.requirements.iter().all(|r| (get(&r.field) == r.value) == r.equals)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, r) in self.requirements.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let operator = if r.equals { "=" } else { "!=" };
            write!(f, "{comma}{}{operator}{}", r.field, escape(&r.value))?;
        }
        Ok(())
    }
}

/// Escapes a value for use in a selector.
pub fn escape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        if matches!(c, '\\' | ',' | '=') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

fn unescape(value: &str) -> Result<String, SelectorError> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                Some(c) => return Err(SelectorError::Escape(format!("\\{c}"))),
                None => return Err(SelectorError::Escape("\\".to_owned())),
            },
            ',' | '=' => return Err(SelectorError::Unescaped(c)),
            c => out.push(c),
        }
    }
    Ok(out)
}

fn split_terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (index, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    let at = term.char_indices().find(|(index, _)| {
        let rest = &term[*index..];
        rest.starts_with("!=") || rest.starts_with('=')
    })?;
    let (field, rest) = term.split_at(at.0);
    match rest.strip_prefix("!=") {
        Some(value) => Some((field, false, value)),
        None => Some((field, true, rest.strip_prefix("==").unwrap_or(&rest[1..]))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn selectors_parse_as_upstream() {
        let cases = [
            ("", ""),
            ("a=b", "a=b"),
            ("b!=1,a==2", "a=2,b!=1"),
            (
                "metadata.name=x,status.phase!=Running",
                "metadata.name=x,status.phase!=Running",
            ),
            (r"a=b\,c\=d\\", r"a=b\,c\=d\\"),
            ("a=,", "a="),
        ];
        for (text, want) in cases {
            assert_eq!(Selector::parse(text).unwrap().to_string(), want, "{text}");
        }
        for (text, want) in [
            ("a", "invalid selector: 'a'; can't understand 'a'"),
            ("a=b=c", "invalid field selector: unescaped character in value: 61"),
            (r"a=\x", r"invalid field selector: invalid escape sequence: \x"),
        ] {
            assert_eq!(Selector::parse(text).unwrap_err().to_string(), want);
        }
    }

    #[test]
    fn selectors_match() {
        let fields = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        for (text, want) in [
            ("a=1", true),
            ("a!=1", false),
            ("b=", true),
            ("b!=x", true),
            ("a=1,b=x", false),
        ] {
            assert_eq!(Selector::parse(text).unwrap().matches(&fields), want, "{text}");
        }
        assert_eq!(Selector::parse("a=1,b!=2").unwrap().exact("a"), Some("1"));
        assert_eq!(Selector::parse("a!=1").unwrap().exact("a"), None);
    }

    proptest! {
        #[test]
        fn every_value_survives_escaping(value in ".{0,20}") {
            let selector = Selector::equals("f", &value);
            prop_assert_eq!(Selector::parse(&selector.to_string()).unwrap(), selector);
        }
    }
}
