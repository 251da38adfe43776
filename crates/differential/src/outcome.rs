//! What of an answer counts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::request::Answer;

/// What two servers must agree on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// HTTP status.
    pub code: u16,
    /// Texts of the warning headers.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub warnings: BTreeSet<String>,
    /// Other headers that count, `name: value`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub headers: BTreeSet<String>,
    /// Leaves of the body by JSON pointer; of a body that is compared with another one, those that
    /// differ, and null for those that it lacks.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub leaves: BTreeMap<String, Value>,
    /// What a refusal says: reason, message, and `field: reason: message` of each cause.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub refusal: BTreeSet<String>,
    /// A body that is not JSON.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
}

/// Metadata that no two servers give alike.
const OWN: &[&str] = &[
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "managedFields",
    "selfLink",
];

impl Outcome {
    /// Of an answer by itself.
    pub fn whole(answer: &Answer) -> Self {
        Self::of(answer, OWN)
    }

    /// Of an answer with its managed fields.
    pub fn managed(answer: &Answer) -> Self {
        let own: Vec<&str> = OWN.iter().copied().filter(|name| *name != "managedFields").collect();
        Self::of(answer, &own)
    }

    fn of(answer: &Answer, own: &[&str]) -> Self {
        let mut outcome = Self::outer(answer);
        let mut body = answer.json();
        let entries = body.pointer_mut("/metadata/managedFields");
        if let Some(Value::Array(entries)) = entries {
            // They are sorted by time, and two servers are not equally fast.
            entries
                .sort_by_key(|entry| format!("{} {} {}", entry["manager"], entry["operation"], entry["subresource"]));
        }
        if body["kind"] == "Status" && body["status"] == "Failure" {
            outcome.refusal = refusal(&body);
        } else if body.is_null() {
            outcome.text = scrub(&String::from_utf8_lossy(&answer.body));
        } else {
            outcome.leaves = leaves(&body, own);
        }
        outcome
    }

    /// Of an answer beside that to the same request without an edit.
    pub fn beside(answer: &Answer, base: &Self) -> Self {
        let mut outcome = Self::whole(answer);
        if outcome.leaves.is_empty() || base.leaves.is_empty() {
            return outcome;
        }
        let all = std::mem::take(&mut outcome.leaves);
        for gone in base.leaves.keys().filter(|key| !all.contains_key(*key)) {
            outcome.leaves.insert(gone.clone(), Value::Null);
        }
        let changed = all
            .into_iter()
            .filter(|(key, value)| base.leaves.get(key) != Some(value));
        outcome.leaves.extend(changed);
        outcome
    }

    /// Without parts of the body.
    pub fn without(mut self, pointers: &[String]) -> Self {
        self.leaves
            .retain(|path, _| !pointers.iter().any(|pointer| path.starts_with(pointer.as_str())));
        self
    }

    /// What was recorded before a rule of scrubbing was made, as it would be recorded now.
    pub(crate) fn scrubbed_anew(mut self) -> Self {
        let anew = |part: String| if part.contains("Key: /") { scrub(&part) } else { part };
        self.refusal = std::mem::take(&mut self.refusal).into_iter().map(anew).collect();
        for (path, leaf) in &mut self.leaves {
            if path.contains("/cells/") && leaf.as_str().is_some_and(is_age) {
                *leaf = Value::from("<age>");
            }
        }
        self
    }

    fn outer(answer: &Answer) -> Self {
        let mut outcome = Self {
            code: answer.code,
            ..Self::default()
        };
        for (name, value) in &answer.headers {
            match name.as_str() {
                "warning" => {
                    outcome.warnings.insert(scrub(value));
                }
                "content-type" if value != "application/json" => {
                    outcome.headers.insert(format!("{name}: {value}"));
                }
                "retry-after" | "location" | "www-authenticate" | "allow" | "etag" => {
                    outcome.headers.insert(format!("{name}: {value}"));
                }
                _ => {}
            }
        }
        outcome
    }

    /// What is different, a line each; empty when nothing is. Where only one of two refuses, the object that the
    /// other answers says no more.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.code != other.code {
            lines.push(format!("code {} / {}", self.code, other.code));
        }
        // Nobody is warned of what is refused.
        if self.refusal.is_empty() == other.refusal.is_empty() {
            sets("warning", &self.warnings, &other.warnings, &mut lines);
        }
        sets("header", &self.headers, &other.headers, &mut lines);
        let (mut missing, mut more) = printed_alike(&self.refusal, &other.refusal);
        if self.refusal.is_empty() != other.refusal.is_empty() {
            causes_first(&mut missing);
            causes_first(&mut more);
        }
        lines.extend(missing.iter().map(|text| format!("refusal - {text}")));
        lines.extend(more.iter().map(|text| format!("refusal + {text}")));
        if self.refusal.is_empty() == other.refusal.is_empty() {
            self.leaf_differences(other, &mut lines);
        }
        if self.text != other.text {
            lines.push(format!("text {:?} / {:?}", self.text, other.text));
        }
        lines.iter().map(|line| line.replace('\n', "\\n")).collect()
    }

    fn leaf_differences(&self, other: &Self, lines: &mut Vec<String>) {
        let mut keys: BTreeSet<&String> = self.leaves.keys().collect();
        keys.extend(other.leaves.keys());
        for key in keys {
            let (mine, theirs) = (self.leaves.get(key), other.leaves.get(key));
            if mine != theirs {
                lines.push(format!("{key}: {} / {}", shown(mine), shown(theirs)));
            }
        }
    }
}

/// A value that a cause prints, when it is no scalar.
const VALUE: &str = "value: <value>";

/// The parts that only one of two refusals has. Go's structs print in many ways: a value that either prints as
/// [`VALUE`] is the other's.
fn printed_alike<'a>(mine: &'a BTreeSet<String>, theirs: &'a BTreeSet<String>) -> (Vec<&'a String>, Vec<&'a String>) {
    (only_in(mine, theirs), only_in(theirs, mine))
}

fn only_in<'a>(some: &'a BTreeSet<String>, others: &'a BTreeSet<String>) -> Vec<&'a String> {
    let alike = |part: &str| {
        let mut others = others.iter();
        others.any(|other| same_but_value(other, part) || same_but_value(part, other))
    };
    some.difference(others).filter(|part| !alike(part)).collect()
}

/// The code says that one refuses, the causes why.
fn causes_first(parts: &mut Vec<&String>) {
    let is_cause = |part: &&String| part.contains(": FieldValue");
    if parts.iter().any(is_cause) {
        parts.retain(is_cause);
    }
}

fn same_but_value(pattern: &str, part: &str) -> bool {
    let Some((before, after)) = pattern.split_once(VALUE) else {
        return false;
    };
    let rest = part.strip_prefix(before).and_then(|rest| rest.strip_prefix("value: "));
    rest.is_some_and(|rest| rest.ends_with(after))
}

fn shown(value: Option<&Value>) -> String {
    value.map_or_else(|| "as before".to_owned(), Value::to_string)
}

fn sets(what: &str, mine: &BTreeSet<String>, theirs: &BTreeSet<String>, lines: &mut Vec<String>) {
    lines.extend(mine.difference(theirs).map(|text| format!("{what} - {text}")));
    lines.extend(theirs.difference(mine).map(|text| format!("{what} + {text}")));
}

/// The parts of a failure. The message of one with causes says the causes again, in their order.
fn refusal(status: &Value) -> BTreeSet<String> {
    let text = |value: &Value| scrub(value.as_str().unwrap_or_default());
    let causes = status["details"]["causes"].as_array().cloned().unwrap_or_default();
    let message = text(&status["message"]);
    let head = if causes.is_empty() || status["reason"] != "Invalid" {
        message.as_str()
    } else {
        message.split(": ").next().unwrap_or_default()
    };
    let mut parts = BTreeSet::from([format!("{}: {head}", text(&status["reason"]))]);
    for cause in &causes {
        let (field, reason, message) = (&cause["field"], &cause["reason"], &cause["message"]);
        let message = text(message);
        parts.insert(format!("{}: {}: {}", text(field), text(reason), plain(&message)));
    }
    let details = &status["details"];
    for key in ["name", "group", "kind", "retryAfterSeconds"] {
        if !details[key].is_null() {
            parts.insert(format!("{key} {}", details[key]));
        }
    }
    parts
}

/// A cause without the value that it prints, when that is a struct, a list or a map, and without the
/// lines that follow the first: versions print them differently.
fn plain(message: &str) -> String {
    static VALUE: LazyLock<Regex> = LazyLock::new(|| {
        let rule = r#"^(Invalid|Unsupported|Duplicate) value: (?:null|[^"0-9tf-].*(?:[})\]]|null|nil\)|nil))(: .*|)$"#;
        Regex::new(rule).expect("the rule is a constant")
    });
    static PATCHED: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r#"^Invalid value: "\{.*\}": "#).expect("the rule is a constant"));
    let first = message.lines().next().unwrap_or_default();
    let first = PATCHED.replace(first, "Invalid value: <value>: ");
    VALUE.replace(&first, "$1 value: <value>$2").into_owned()
}

fn leaves(body: &Value, own: &[&str]) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    descend(body, own, &mut String::new(), &mut found);
    found
}

fn descend(value: &Value, own: &[&str], path: &mut String, found: &mut BTreeMap<String, Value>) {
    let length = path.len();
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (key, member) in members {
                if path.ends_with("/metadata") && own.contains(&key.as_str()) {
                    continue;
                }
                path.push('/');
                path.push_str(&key.replace('~', "~0").replace('/', "~1"));
                match (key.as_str(), member.as_u64()) {
                    ("nodePort" | "healthCheckNodePort", Some(port)) if port != 30123 && port != 30124 => {
                        found.insert(path.clone(), Value::from("<port>"));
                    }
                    _ => descend(member, own, path, found),
                }
                path.truncate(length);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                path.push_str(&format!("/{index}"));
                descend(item, own, path, found);
                path.truncate(length);
            }
        }
        Value::String(text) if path.contains("/cells/") && is_age(text) => {
            found.insert(path.clone(), Value::from("<age>"));
        }
        // Every server has words of its own for its columns.
        Value::String(_) if path.starts_with("/columnDefinitions/") && path.ends_with("/description") => {}
        Value::String(_) if path.ends_with("/metadata/continue") => {
            found.insert(path.clone(), Value::from("<continue>"));
        }
        Value::String(text) => {
            found.insert(path.clone(), Value::from(scrub(text)));
        }
        leaf => {
            found.insert(path.clone(), leaf.clone());
        }
    }
}

/// A duration, as tables show ages.
fn is_age(text: &str) -> bool {
    static AGE: LazyLock<Regex> =
        LazyLock::new(|| Regex::new("^([0-9]+[smhdy]){1,2}$").expect("the rule is a constant"));
    AGE.is_match(text)
}

/// Takes out of a text what no two servers say alike.
fn scrub(text: &str) -> String {
    static RULES: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
        let rules = [
            (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "<uid>"),
            (r"kube-api-access-[a-z0-9]{5}", "kube-api-access-<suffix>"),
            (r"20(2[5-9]|3\d)-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "<time>"),
            (
                r"ResourceVersion in record \(\d+\)",
                "ResourceVersion in record (<version>)",
            ),
            (r"Gen_[a-z0-9]{5}", "Gen_<suffix>"),
            (r"\b10\.96\.\d+\.\d+\b", "<address>"),
            (r"Key: /[^, ]+,", "Key: <key>,"),
        ];
        rules
            .into_iter()
            .map(|(rule, text)| (Regex::new(rule).expect("the rules are constants"), text))
            .collect()
    });
    let mut text = text.to_owned();
    for (rule, stand_in) in RULES.iter() {
        text = rule.replace_all(&text, *stand_in).into_owned();
    }
    text
}
