//! The JSONPath of printer columns (`client-go/util/jsonpath`): members, indexes, slices, wildcards,
//! descent, unions and filters.

use api::Value;

/// A parsed path.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct JsonPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Member(String),
    Index(i64),
    Slice(Option<i64>, Option<i64>, i64),
    All,
    Descend,
    Union(Vec<Step>),
    Filter(Operand, Option<(Operator, Operand)>),
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Path(JsonPath),
    Literal(Value),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Two characters first, so that the longer one is found.
const OPERATORS: [(&str, Operator); 6] = [
    ("==", Operator::Equal),
    ("!=", Operator::NotEqual),
    ("<=", Operator::LessOrEqual),
    (">=", Operator::GreaterOrEqual),
    ("<", Operator::Less),
    (">", Operator::Greater),
];

impl JsonPath {
    /// Parses a path such as `.spec.list[0].name`; `None` if it is none.
    pub fn parse(text: &str) -> Option<JsonPath> {
        let mut steps = Vec::new();
        let mut rest = text.trim().trim_start_matches('$');
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix("..") {
                steps.push(Step::Descend);
                rest = after;
                if !rest.starts_with('[') {
                    rest = member(rest, &mut steps)?;
                }
            } else if let Some(after) = rest.strip_prefix('[') {
                let end = closing(after)?;
                steps.push(bracket(after[..end].trim())?);
                rest = &after[end + 1..];
            } else {
                let after = rest.strip_prefix('.').unwrap_or(rest);
                if after.is_empty() {
                    break;
                }
                rest = if after.starts_with('[') {
                    after
                } else {
                    member(after, &mut steps)?
                };
            }
        }
        Some(JsonPath(steps))
    }

    /// Every value the path leads to.
    pub fn find<'v>(&self, root: &'v Value) -> Vec<&'v Value> {
        let mut found = vec![root];
        for step in &self.0 {
            found = found.into_iter().flat_map(|value| step.from(value)).collect();
        }
        found
    }
}

/// Reads a member's name; a backslash takes the next character as it is.
fn member<'t>(text: &'t str, steps: &mut Vec<Step>) -> Option<&'t str> {
    let mut name = String::new();
    let mut chars = text.char_indices();
    let mut end = text.len();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => name.push(chars.next()?.1),
            '.' | '[' => {
                end = at;
                break;
            }
            c => name.push(c),
        }
    }
    steps.push(match name.as_str() {
        "" => return None,
        "*" => Step::All,
        _ => Step::Member(name),
    });
    Some(&text[end..])
}

/// Where the bracket that is open is closed, quotes and brackets within considered.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0, None);
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Some(at),
            (None, ']') => depth -= 1,
            _ => {}
        }
    }
    None
}

fn quoted(text: &str) -> Option<String> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    let mut out = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        out.push(if c == '\\' { chars.next()? } else { c });
    }
    Some(out)
}

fn bracket(text: &str) -> Option<Step> {
    if let Some(filter) = text.strip_prefix("?(") {
        return self::filter(filter.strip_suffix(')')?);
    }
    if let Some(name) = quoted(text) {
        return Some(Step::Member(name));
    }
    if text == "*" {
        return Some(Step::All);
    }
    if text.contains(',') {
        let parts = text.split(',').map(|part| bracket(part.trim()));
        return Some(Step::Union(parts.collect::<Option<_>>()?));
    }
    if text.contains(':') {
        let mut parts = text.split(':').map(str::trim);
        let mut number = || match parts.next() {
            None | Some("") => Some(None),
            Some(text) => text.parse::<i64>().ok().map(Some),
        };
        let (start, end, step) = (number()?, number()?, number()?);
        return Some(Step::Slice(start, end, step.unwrap_or(1)));
    }
    match text.parse() {
        Ok(index) => Some(Step::Index(index)),
        Err(_) => Some(Step::Member(text.to_owned())),
    }
}

fn filter(text: &str) -> Option<Step> {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            _ => {
                if let Some((sign, operator)) = OPERATORS.iter().find(|(sign, _)| text[at..].starts_with(sign)) {
                    let (left, right) = (operand(&text[..at])?, operand(&text[at + sign.len()..])?);
                    return Some(Step::Filter(left, Some((*operator, right))));
                }
            }
        }
    }
    Some(Step::Filter(operand(text)?, None))
}

fn operand(text: &str) -> Option<Operand> {
    let text = text.trim();
    if let Some(path) = text.strip_prefix('@') {
        return JsonPath::parse(path).map(Operand::Path);
    }
    let literal = match quoted(text) {
        Some(text) => Value::String(text),
        None => serde_json::from_str(text).ok()?,
    };
    Some(Operand::Literal(literal))
}

impl Operand {
    fn value<'v>(&'v self, current: &'v Value) -> Option<&'v Value> {
        match self {
            Operand::Path(path) => path.find(current).into_iter().next(),
            Operand::Literal(value) => Some(value),
        }
    }
}

fn holds(current: &Value, left: &Operand, comparison: Option<&(Operator, Operand)>) -> bool {
    let Some((operator, right)) = comparison else {
        return left.value(current).is_some();
    };
    let (Some(left), Some(right)) = (left.value(current), right.value(current)) else {
        return false;
    };
    let order = match (left, right) {
        (Value::Number(a), Value::Number(b)) => a.as_f64().partial_cmp(&b.as_f64()),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        _ => None,
    };
    match operator {
        Operator::Equal => order.is_some_and(std::cmp::Ordering::is_eq),
        Operator::NotEqual => order.is_none_or(std::cmp::Ordering::is_ne),
        Operator::Less => order.is_some_and(std::cmp::Ordering::is_lt),
        Operator::LessOrEqual => order.is_some_and(std::cmp::Ordering::is_le),
        Operator::Greater => order.is_some_and(std::cmp::Ordering::is_gt),
        Operator::GreaterOrEqual => order.is_some_and(std::cmp::Ordering::is_ge),
    }
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(map) => map.values().collect(),
        _ => Vec::new(),
    }
}

impl Step {
    fn from<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        match self {
            Step::Member(name) => value.get(name).into_iter().collect(),
            Step::Index(index) => {
                let items = value.as_array().map_or(&[][..], Vec::as_slice);
                at(items, *index).into_iter().collect()
            }
            Step::Slice(start, end, step) => {
                let items = value.as_array().map_or(&[][..], Vec::as_slice);
                let length = items.len() as i64;
                let place = |bound: i64| (if bound < 0 { bound + length } else { bound }).clamp(0, length) as usize;
                let (start, end) = (place(start.unwrap_or(0)), place(end.unwrap_or(length)));
                let step = usize::try_from(*step).unwrap_or(1).max(1);
                items.get(start..end).unwrap_or(&[]).iter().step_by(step).collect()
            }
            Step::All => children(value),
            Step::Descend => {
                let mut all = vec![value];
                let mut at = 0;
                while at < all.len() {
                    all.extend(children(all[at]));
                    at += 1;
                }
                all
            }
            Step::Union(steps) => steps.iter().flat_map(|step| step.from(value)).collect(),
            Step::Filter(left, comparison) => {
                let items = value.as_array().into_iter().flatten();
                items.filter(|item| holds(item, left, comparison.as_ref())).collect()
            }
        }
    }
}

fn at(items: &[Value], index: i64) -> Option<&Value> {
    let place = if index < 0 { index + items.len() as i64 } else { index };
    items.get(usize::try_from(place).ok()?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths() {
        let object = json!({"a": {"b.c": 1, "list": [{"n": "x", "v": 1}, {"n": "y", "v": 2}]}});
        let find = |path: &str| -> Vec<Value> {
            let path = JsonPath::parse(path).unwrap_or_else(|| panic!("{path}"));
            path.find(&object).into_iter().cloned().collect()
        };
        assert_eq!(find(".a['b.c']"), [json!(1)]);
        assert_eq!(find(".a.b\\.c"), [json!(1)]);
        assert_eq!(find(".a.list[*].n"), [json!("x"), json!("y")]);
        assert_eq!(find(".a.list[-1].v"), [json!(2)]);
        assert_eq!(find(".a.list[0:1].v"), [json!(1)]);
        assert_eq!(find(".a.list[?(@.n==\"y\")].v"), [json!(2)]);
        assert_eq!(find(".a.list[?(@.v > 1)].n"), [json!("y")]);
        assert_eq!(find("..v"), [json!(1), json!(2)]);
        assert_eq!(find(".a.none"), Vec::<Value>::new());
        assert_eq!(JsonPath::parse(".a["), None);
    }
}
