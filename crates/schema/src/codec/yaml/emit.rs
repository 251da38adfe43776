//! Tree to YAML, byte for byte as kubectl prints it (go-yaml v2's block style: keys in natural
//! order, sequences not indented under their key, long plain and quoted text folded at 80 columns).

use std::cmp::Ordering;

use serde_json::{Map, Number, Value};

use super::plain::{Scalar, resolves_to_string};

const WIDTH: usize = 80;
const SIMPLE_KEY_LIMIT: usize = 128;

/// Prints a tree as one YAML document, without `---`.
pub fn to_string(value: &Value) -> String {
    let mut emitter = Emitter {
        out: String::new(),
        column: 0,
    };
    emitter.node(value, 0, Place::Start);
    emitter.out.push('\n');
    emitter.out
}

/// What stands before a node on its line.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// Nothing: the document begins.
    Start,
    /// `key:`.
    Key,
    /// `-`, `?` or a `:` on a line of its own: a block may begin on the same line.
    Indicator,
}

#[derive(Clone, Copy, PartialEq)]
enum Context {
    Key,
    Value,
}

struct Emitter {
    out: String,
    column: usize,
}

impl Emitter {
    /// `indent` is the column of the block that the node would open.
    fn node(&mut self, value: &Value, indent: usize, place: Place) {
        match value {
            Value::Object(map) if !map.is_empty() => self.mapping(map, indent, place),
            Value::Array(items) if !items.is_empty() => self.sequence(items, indent, place),
            _ => {
                if place != Place::Start {
                    self.put(' ');
                }
                // What continues on the next line stands two columns right of the container.
                let hang = if place == Place::Start { 2 } else { indent };
                self.scalar(value, hang, Context::Value);
            }
        }
    }

    fn mapping(&mut self, map: &Map<String, Value>, indent: usize, place: Place) {
        let mut keys: Vec<&String> = map.keys().collect();
        keys.sort_by(|a, b| natural_order(a, b));
        for (i, key) in keys.into_iter().enumerate() {
            self.begin(indent, if i == 0 { place } else { Place::Key });
            let value = &map[key.as_str()];
            if key.len() <= SIMPLE_KEY_LIMIT && !key.contains(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']) {
                self.text(key, indent + 2, Context::Key);
                self.put(':');
                // A sequence under a key is not indented.
                let inner = if value.is_array() && !is_empty(value) {
                    indent
                } else {
                    indent + 2
                };
                self.node(value, inner, Place::Key);
            } else {
                self.put('?');
                self.put(' ');
                self.text(key, indent + 2, Context::Value);
                self.line(indent);
                self.put(':');
                self.node(value, indent + 2, Place::Indicator);
            }
        }
    }

    fn sequence(&mut self, items: &[Value], indent: usize, place: Place) {
        for (i, item) in items.iter().enumerate() {
            self.begin(indent, if i == 0 { place } else { Place::Key });
            self.put('-');
            self.node(item, indent + 2, Place::Indicator);
        }
    }

    /// Goes to where an entry of a block begins.
    fn begin(&mut self, indent: usize, place: Place) {
        match place {
            Place::Start => {}
            Place::Key => self.line(indent),
            Place::Indicator => {
                while self.column < indent {
                    self.put(' ');
                }
            }
        }
    }

    fn scalar(&mut self, value: &Value, hang: usize, context: Context) {
        match value {
            Value::String(text) => self.text(text, hang, context),
            Value::Null => self.puts("null"),
            Value::Bool(bit) => self.puts(if *bit { "true" } else { "false" }),
            Value::Number(number) => self.puts(&number_text(number)),
            Value::Array(_) => self.puts("[]"),
            Value::Object(_) => self.puts("{}"),
        }
    }

    fn text(&mut self, text: &str, hang: usize, context: Context) {
        let scalar = Scalar::of(text);
        let folds = context == Context::Value;
        if text.contains('\n') {
            if scalar.block_allowed && folds {
                self.literal(text, hang)
            } else {
                self.double_quoted(text, hang, folds)
            }
        } else if !resolves_to_string(text) {
            self.double_quoted(text, hang, folds);
        } else if scalar.plain_allowed {
            self.plain(text, hang, folds);
        } else if scalar.single_allowed {
            self.single_quoted(text, hang, folds);
        } else {
            self.double_quoted(text, hang, folds);
        }
    }

    fn plain(&mut self, text: &str, hang: usize, folds: bool) {
        let mut chars = text.chars().peekable();
        let mut spaces = false;
        while let Some(c) = chars.next() {
            if c == ' ' && folds && !spaces && self.column > WIDTH && chars.peek() != Some(&' ') {
                self.line(hang);
            } else {
                self.put(c);
            }
            spaces = c == ' ';
        }
    }

    fn single_quoted(&mut self, text: &str, hang: usize, folds: bool) {
        self.put('\'');
        let mut chars = text.chars().enumerate().peekable();
        let (mut spaces, last) = (false, text.chars().count().saturating_sub(1));
        while let Some((i, c)) = chars.next() {
            let inside = i > 0 && i < last;
            if c == ' '
                && folds
                && !spaces
                && self.column > WIDTH
                && inside
                && chars.peek().is_none_or(|(_, c)| *c != ' ')
            {
                self.line(hang);
            } else {
                if c == '\'' {
                    self.put('\'');
                }
                self.put(c);
            }
            spaces = c == ' ';
        }
        self.put('\'');
    }

    fn double_quoted(&mut self, text: &str, hang: usize, folds: bool) {
        self.put('"');
        let mut chars = text.chars().enumerate().peekable();
        let (mut spaces, last) = (false, text.chars().count().saturating_sub(1));
        while let Some((i, c)) = chars.next() {
            if c == ' ' {
                if folds && !spaces && self.column > WIDTH && i > 0 && i < last {
                    self.line(hang);
                    if chars.peek().is_some_and(|(_, c)| *c == ' ') {
                        self.put('\\');
                    }
                } else {
                    self.put(c);
                }
            } else {
                match escape(c) {
                    Some(escaped) => self.puts(&escaped),
                    None => self.put(c),
                }
            }
            spaces = c == ' ';
        }
        self.put('"');
    }

    fn literal(&mut self, text: &str, hang: usize) {
        self.put('|');
        if text.starts_with([' ', '\n']) {
            self.put('2');
        }
        if !text.ends_with('\n') {
            self.put('-');
        } else if text == "\n" || text.ends_with("\n\n") {
            self.put('+');
        }
        let body = text.strip_suffix('\n').unwrap_or(text);
        for line in body.split('\n') {
            if line.is_empty() {
                self.out.push('\n');
                self.column = 0;
            } else {
                self.line(hang);
                self.puts(line);
            }
        }
    }

    fn line(&mut self, indent: usize) {
        self.out.push('\n');
        self.out.extend(std::iter::repeat_n(' ', indent));
        self.column = indent;
    }

    fn put(&mut self, c: char) {
        self.out.push(c);
        self.column += 1;
    }

    fn puts(&mut self, text: &str) {
        self.out.push_str(text);
        self.column += text.chars().count();
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty)
}

fn escape(c: char) -> Option<String> {
    let short = match c {
        '\0' => '0',
        '\u{7}' => 'a',
        '\u{8}' => 'b',
        '\t' => 't',
        '\n' => 'n',
        '\u{b}' => 'v',
        '\u{c}' => 'f',
        '\r' => 'r',
        '\u{1b}' => 'e',
        '"' => '"',
        '\\' => '\\',
        '\u{85}' => 'N',
        '\u{a0}' => return None,
        '\u{2028}' => 'L',
        '\u{2029}' => 'P',
        _ if super::plain::is_printable(c) => return None,
        _ => {
            let code = c as u32;
            return Some(match code {
                0..=0xff => format!("\\x{code:02X}"),
                0x100..=0xffff => format!("\\u{code:04X}"),
                _ => format!("\\U{code:08X}"),
            });
        }
    };
    Some(format!("\\{short}"))
}

/// Whole numbers as digits, others as Go's shortest `%g`.
fn number_text(number: &Number) -> String {
    let Some(float) = number.as_f64().filter(|_| number.is_f64()) else {
        return number.to_string();
    };
    let scientific = format!("{float:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..6).contains(&exponent) {
        return float.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

/// go-yaml's order of keys: runs of digits compare as numbers, letters come after other characters.
fn natural_order(a: &str, b: &str) -> Ordering {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut digits = false;
    for i in 0..a.len().min(b.len()) {
        if a[i] == b[i] {
            digits = a[i].is_numeric();
            continue;
        }
        let (al, bl) = (a[i].is_alphabetic(), b[i].is_alphabetic());
        if al && bl {
            return a[i].cmp(&b[i]);
        }
        if al || bl {
            let a_first = if digits { al } else { bl };
            return if a_first { Ordering::Less } else { Ordering::Greater };
        }
        let zero = a[i] == '0' || b[i] == '0';
        let longer_number = zero
            && a[..i]
                .iter()
                .rev()
                .take_while(|c| c.is_ascii_digit())
                .any(|c| *c != '0');
        let (an, a_end) = number_at(&a, i, longer_number);
        let (bn, b_end) = number_at(&b, i, longer_number);
        return an.cmp(&bn).then(a_end.cmp(&b_end)).then(a[i].cmp(&b[i]));
    }
    a.len().cmp(&b.len())
}

fn number_at(chars: &[char], from: usize, longer: bool) -> (u64, usize) {
    let mut end = from;
    let mut value = u64::from(longer);
    while let Some(digit) = chars.get(end).and_then(|c| c.to_digit(10)) {
        value = value.wrapping_mul(10).wrapping_add(digit.into());
        end += 1;
    }
    (value, end)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(value: Value, printed: &str) {
        assert_eq!(to_string(&value), printed);
        let back = super::super::to_value(printed.as_bytes()).expect("prints YAML").value;
        assert_eq!(back, value, "{printed}");
    }

    #[test]
    fn blocks_are_kubectls() {
        check(
            json!({"b": {"c": [1, {"d": [[true, null], "x"], "e": {}}], "f": []}, "a10": 1.5, "a9": ""}),
            "a9: \"\"\na10: 1.5\nb:\n  c:\n  - 1\n  - d:\n    - - true\n      - null\n    - x\n    e: {}\n  f: []\n",
        );
        check(json!([0.25, 1234567.5, 1.5e-7]), "- 0.25\n- 1.2345675e+06\n- 1.5e-07\n");
        check(json!("x"), "x\n");
        check(json!([]), "[]\n");
    }

    #[test]
    fn strings_are_quoted_only_when_they_must() {
        for (text, printed) in [
            ("plain text", "plain text"),
            ("yes", "\"yes\""),
            ("null", "\"null\""),
            ("012", "\"012\""),
            ("0x1f", "\"0x1f\""),
            ("1e3", "\"1e3\""),
            ("10:30", "\"10:30\""),
            ("1.2.3", "1.2.3"),
            ("1Gi", "1Gi"),
            ("2024-05-06", "\"2024-05-06\""),
            ("2024-05-06T07:08:09Z", "\"2024-05-06T07:08:09Z\""),
            ("a: b", "'a: b'"),
            ("a:b", "a:b"),
            ("- a", "'- a'"),
            ("-", "'-'"),
            ("it's", "it's"),
            ("'it", "'''it'"),
            ("*", "'*'"),
            (" a", "' a'"),
            ("a #b", "'a #b'"),
            ("{}", "'{}'"),
            ("a\tb", "\"a\\tb\""),
            ("é", "é"),
            ("😀", "\"\\U0001F600\""),
            ("", "\"\""),
        ] {
            check(json!({"k": text}), &format!("k: {printed}\n"));
        }
        check(json!({"true": 1, "1": 2}), "\"1\": 2\n\"true\": 1\n");
    }

    #[test]
    fn lines_are_kept_in_literals() {
        check(json!({"k": "a\nb\n"}), "k: |\n  a\n  b\n");
        check(json!({"k": "a\n\nb"}), "k: |-\n  a\n\n  b\n");
        check(json!({"k": ["a\n\n"]}), "k:\n- |+\n  a\n\n");
        check(json!({"k": " a\nb\n", "l": 1}), "k: |2\n   a\n  b\nl: 1\n");
        check(json!({"k": "a \nb"}), "k: \"a \\nb\"\n");
    }

    #[test]
    fn long_text_is_folded() {
        let words = "word ".repeat(20);
        let text = words.trim();
        let folded = format!("k: {}\n  {}\n", &text[..79], &text[80..]);
        check(json!({"k": text}), &folded);
        let text = format!("a: {text}");
        check(
            json!({"k": text}),
            &format!("k: '{}\n  {}'\n", &text[..77], &text[78..]),
        );
        let key = "k".repeat(200);
        check(json!({&key: {"a": 1}}), &format!("? {key}\n: a: 1\n"));
    }
}
