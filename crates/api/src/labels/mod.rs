//! Label selectors (apimachinery `labels` and `metav1.LabelSelectorAsSelector`).

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

use crate::field::{self, Path};
use crate::validate;

mod parse;

/// How a requirement relates a label to its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operator {
    /// `a=b`.
    Equals,
    /// `a==b`.
    DoubleEquals,
    /// `a!=b`; also true without the label.
    NotEquals,
    /// `a in (b,c)`.
    In,
    /// `a notin (b,c)`; also true without the label.
    NotIn,
    /// `a`.
    Exists,
    /// `!a`.
    DoesNotExist,
    /// `a>1`.
    GreaterThan,
    /// `a<1`.
    LessThan,
}

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requirement {
    key: String,
    operator: Operator,
    values: Vec<String>,
}

/// Why a selector is refused. The wording is upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub(crate) String);

/// Anything that has labels.
pub trait LabelSet {
    /// The value of a label.
    fn label(&self, key: &str) -> Option<&str>;
}

impl LabelSet for BTreeMap<String, String> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

impl LabelSet for Map<String, Value> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }
}

impl LabelSet for Value {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }
}

impl<T: LabelSet> LabelSet for Option<T> {
    fn label(&self, key: &str) -> Option<&str> {
        self.as_ref()?.label(key)
    }
}

impl Requirement {
    /// A requirement, refused when its key, its values or their number are wrong.
    pub fn new(key: &str, operator: Operator, values: Vec<String>) -> Result<Self, SelectorError> {
        let mut errors = Vec::new();
        let messages = validate::qualified_name(key);
        if !messages.is_empty() {
            errors.push(field::Error::invalid(&Path::new("key"), key, messages.join("; ")));
        }
        let path = Path::new("values");
        let wrong_number = match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                Some("for 'in', 'notin' operators, values set can't be empty")
            }
            Operator::Equals | Operator::DoubleEquals | Operator::NotEquals if values.len() != 1 => {
                Some("exact-match compatibility requires one single value")
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                Some("values set must be empty for exists and does not exist")
            }
            Operator::GreaterThan | Operator::LessThan if values.len() != 1 => {
                Some("for 'Gt', 'Lt' operators, exactly one value is required")
            }
            _ => None,
        };
        if let Some(detail) = wrong_number {
            errors.push(field::Error::invalid(&path, values.clone(), detail));
        }
        for (index, value) in values.iter().enumerate() {
            let path = path.index(index);
            let ordered = matches!(operator, Operator::GreaterThan | Operator::LessThan);
            if ordered && value.parse::<i64>().is_err() {
                let detail = "for 'Gt', 'Lt' operators, the value must be an integer";
                errors.push(field::Error::invalid(&path, value.as_str(), detail));
            }
            let messages = validate::label_value(value);
            if !messages.is_empty() {
                let detail = messages.join("; ");
                errors.push(field::Error::invalid(&path.key(key), value.as_str(), detail));
            }
        }
        if errors.is_empty() {
            Ok(Self {
                key: key.to_owned(),
                operator,
                values,
            })
        } else {
            Err(SelectorError(field::aggregate(&errors)))
        }
    }

    /// The label.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The relation.
    pub fn operator(&self) -> Operator {
        self.operator
    }

    /// The values.
    pub fn values(&self) -> &[String] {
        &self.values
    }

    /// Whether these labels fulfil it.
    pub fn matches<L: LabelSet + ?Sized>(&self, labels: &L) -> bool {
        let value = labels.label(&self.key);
        let listed = |value: &str| self.values.iter().any(|candidate| candidate == value);
        match self.operator {
            Operator::Equals | Operator::DoubleEquals | Operator::In => value.is_some_and(listed),
            Operator::NotEquals | Operator::NotIn => !value.is_some_and(listed),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => self.compare(value).is_some_and(|(have, want)| have > want),
            Operator::LessThan => self.compare(value).is_some_and(|(have, want)| have < want),
        }
    }

    fn compare(&self, value: Option<&str>) -> Option<(i64, i64)> {
        Some((value?.parse().ok()?, self.values.first()?.parse().ok()?))
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut values = self.values.clone();
        values.sort_unstable();
        let (key, values) = (&self.key, values.join(","));
        match self.operator {
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::DoubleEquals => write!(f, "{key}=={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

/// A conjunction of requirements, in the order of their keys; or the selector of nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Selector {
    requirements: Vec<Requirement>,
    selects_nothing: bool,
}

impl Selector {
    /// Selects every object.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Selects no object, which is what a missing `LabelSelector` means.
    pub fn nothing() -> Self {
        Self {
            requirements: Vec::new(),
            selects_nothing: true,
        }
    }

    /// A selector of these requirements.
    pub fn new(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Self {
            requirements,
            selects_nothing: false,
        }
    }

    /// Parses the string form, as in `?labelSelector=`.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        parse::requirements(text).map(Self::new)
    }

    /// Selects objects that have all these labels. The map is not checked: it comes from a
    /// stored, validated object (`SelectorFromSet`).
    pub fn from_map<'a, I>(map: I) -> Self
    where
        I: IntoIterator<Item = (&'a String, &'a String)>,
    {
        let equals = |(key, value): (&String, &String)| Requirement {
            key: key.clone(),
            operator: Operator::Equals,
            values: vec![value.clone()],
        };
        Self::new(map.into_iter().map(equals).collect())
    }

    /// From a JSON map of labels, such as `spec.selector` of a Service.
    pub fn from_json_map(map: &Map<String, Value>) -> Self {
        let map: BTreeMap<String, String> = map
            .iter()
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect();
        Self::from_map(&map)
    }

    /// From a `metav1.LabelSelector`: missing or null selects nothing, an empty one everything.
    pub fn from_label_selector(selector: Option<&Value>) -> Result<Self, SelectorError> {
        let Some(selector) = selector.filter(|value| !value.is_null()) else {
            return Ok(Self::nothing());
        };
        let labels = crate::meta::string_map(selector.get("matchLabels"));
        let expressions = selector.get("matchExpressions").and_then(Value::as_array);
        let expressions = expressions.map_or(&[][..], Vec::as_slice).iter().map(|expression| {
            let text = |name| expression.get(name).and_then(Value::as_str).unwrap_or("");
            let values = expression.get("values").and_then(Value::as_array);
            let values = values.map_or(&[][..], Vec::as_slice).iter();
            let values = values.filter_map(|value| Some(value.as_str()?.to_owned())).collect();
            (text("key"), text("operator"), values)
        });
        Self::from_parts(&labels, expressions)
    }

    /// From the parts of a `LabelSelector`: labels, and (key, operator, values) expressions with
    /// the operators `In`, `NotIn`, `Exists` and `DoesNotExist`.
    pub fn from_parts<'a>(
        labels: &BTreeMap<String, String>,
        expressions: impl IntoIterator<Item = (&'a str, &'a str, Vec<String>)>,
    ) -> Result<Self, SelectorError> {
        let mut requirements = Vec::new();
        for (key, value) in labels {
            requirements.push(Requirement::new(key, Operator::Equals, vec![value.clone()])?);
        }
        for (key, operator, values) in expressions {
            let operator = match operator {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => {
                    let quoted = field::go_quote(other);
                    return Err(SelectorError(format!(
                        "{quoted} is not a valid label selector operator"
                    )));
                }
            };
            requirements.push(Requirement::new(key, operator, values)?);
        }
        Ok(Self::new(requirements))
    }

    /// Whether these labels fulfil every requirement.
    pub fn matches<L: LabelSet + ?Sized>(&self, labels: &L) -> bool {
        !self.selects_nothing && self.requirements.iter().all(|r| r.matches(labels))
    }

    /// Whether it selects every object.
    pub fn is_everything(&self) -> bool {
        !self.selects_nothing && self.requirements.is_empty()
    }

    /// Whether it can select no object.
    pub fn is_nothing(&self) -> bool {
        self.selects_nothing
    }

    /// The requirements.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// The only value that a label may have, if that is required.
    pub fn exact(&self, key: &str) -> Option<&str> {
        let requirement = self.requirements.iter().find(|r| r.key == key)?;
        let exact = matches!(
            requirement.operator,
            Operator::Equals | Operator::DoubleEquals | Operator::In
        );
        match requirement.values.as_slice() {
            [value] if exact => Some(value),
            _ => None,
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{requirement}")?;
        }
        Ok(())
    }
}

/// A `LabelSelector` as tables show it: `<none>` when it selects everything or nothing,
/// `<error>` when it is malformed (`metav1.FormatLabelSelector`).
pub fn format_label_selector(selector: Option<&Value>) -> String {
    match Selector::from_label_selector(selector) {
        Err(_) => "<error>".to_owned(),
        Ok(selector) => {
            let text = selector.to_string();
            if text.is_empty() { "<none>".to_owned() } else { text }
        }
    }
}

/// A label map as tables show it: `a=b,c=d`, or `<none>` (`labels.FormatLabels`).
pub fn format_labels(labels: &BTreeMap<String, String>) -> String {
    if labels.is_empty() {
        return "<none>".to_owned();
    }
    labels
        .iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect::<Vec<_>>()
        .join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn set(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn selectors_match_as_upstream() {
        let labels = set(&[("x", "a"), ("y", "b"), ("n", "7")]);
        let cases = [
            ("", true),
            ("x=a", true),
            ("x==a", true),
            ("x=b", false),
            ("x!=b", true),
            ("z!=b", true),
            ("x=a,y=b", true),
            ("x=a,y=c", false),
            ("x", true),
            ("z", false),
            ("!z", true),
            ("!x", false),
            ("x in (a,b)", true),
            ("x in (c)", false),
            ("x notin (a)", false),
            ("z notin (a)", true),
            ("n>6", true),
            ("n<6", false),
            ("x>1", false),
            ("x in (a), y notin (c)", true),
            ("z in ()", false),
            ("x=", false),
            ("in=a", false),
            ("x in (in,a)", true),
        ];
        for (text, want) in cases {
            assert_eq!(Selector::parse(text).unwrap().matches(&labels), want, "{text}");
        }
    }

    #[test]
    fn malformed_selectors_say_why() {
        let cases = [
            (
                "x=a||y=b",
                "unable to parse requirement: values[0][x]: Invalid value: \"a||y\"",
            ),
            (
                "x a",
                "unable to parse requirement: found 'a', expected: in, notin, =, ==, !=, gt, lt",
            ),
            ("x=a,", "found '', expected: identifier after ','"),
            ("=a", "found '=', expected: !, identifier, or 'end of string'"),
            ("x in a", "unable to parse requirement: found 'a' expected: '('"),
            (
                "x>a",
                "unable to parse requirement: values[0]: Invalid value: \"a\": for 'Gt', 'Lt'",
            ),
            (
                "a$=b",
                "unable to parse requirement: <nil>: Invalid value: \"a$\": name part must consist",
            ),
        ];
        for (text, want) in cases {
            let message = Selector::parse(text).map(|s| s.to_string()).unwrap_err().to_string();
            assert!(message.starts_with(want), "{text}: {message}");
        }
    }

    #[test]
    fn label_selectors_convert() {
        let cases = [
            (json!(null), "", false),
            (json!({}), "", true),
            (json!({"matchLabels": {"b": "1", "a": "2"}}), "a=2,b=1", false),
            (
                json!({"matchExpressions": [{"key": "k", "operator": "In", "values": ["y", "x"]},
                    {"key": "a", "operator": "DoesNotExist"}]}),
                "!a,k in (x,y)",
                false,
            ),
        ];
        for (value, text, everything) in cases {
            let selector = Selector::from_label_selector(Some(&value)).unwrap();
            assert_eq!(
                (selector.to_string().as_str(), selector.is_everything()),
                (text, everything)
            );
        }
        let bad = json!({"matchExpressions": [{"key": "k", "operator": "Is"}]});
        assert!(Selector::from_label_selector(Some(&bad)).is_err());
        assert_eq!(format_label_selector(Some(&bad)), "<error>");
        assert_eq!(format_label_selector(None), "<none>");
    }

    proptest! {
        #[test]
        fn printing_and_parsing_agree(
            terms in prop::collection::vec(("[a-m]", 0..7_u8, prop::collection::btree_set("[a-z]{1,3}", 1..3)), 0..4),
            labels in prop::collection::btree_map("[a-m]", "[a-z]{1,3}", 0..5),
        ) {
            let requirements = terms.into_iter().map(|(key, operator, values)| {
                let values: Vec<String> = values.into_iter().collect();
                let first = vec![values[0].clone()];
                let (operator, values) = match operator {
                    0 => (Operator::Equals, first),
                    1 => (Operator::DoubleEquals, first),
                    2 => (Operator::NotEquals, first),
                    3 => (Operator::In, values),
                    4 => (Operator::NotIn, values),
                    5 => (Operator::Exists, vec![]),
                    _ => (Operator::DoesNotExist, vec![]),
                };
                Requirement::new(&key, operator, values).unwrap()
            });
            let selector = Selector::new(requirements.collect());
            let again = Selector::parse(&selector.to_string()).unwrap();
            prop_assert_eq!(again.to_string(), selector.to_string());
            prop_assert_eq!(again.matches(&labels), selector.matches(&labels));
        }

        #[test]
        fn no_string_panics(text in ".{0,40}", shaped in "[a-c!=<>(), in]{0,20}") {
            let _ = Selector::parse(&text);
            let _ = Selector::parse(&shaped);
        }
    }
}
