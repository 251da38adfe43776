//! Regular expressions: Go's RE2 syntax in terms of the `regex` crate, and Kubernetes' `find` and `findAll`
//! (k8s.io/apiserver/pkg/cel/library/regex.go).

use ::regex::{Regex, RegexBuilder};

use crate::error::EvalError;
use crate::function::{Body, Functions};
use crate::limits::MAX_REGEX_BYTES;
use crate::value::Value;

/// Compiles a pattern of Go's syntax.
pub(crate) fn compile(pattern: &str) -> Result<Regex, String> {
    let failed = |reason: &str| format!("error parsing regexp: {reason}: `{pattern}`");
    let translated = Translator::new(pattern).run().map_err(|reason| failed(&reason))?;
    RegexBuilder::new(&translated)
        .size_limit(MAX_REGEX_BYTES)
        .nest_limit(200)
        .build()
        .map_err(|error| {
            let text = error.to_string();
            failed(text.lines().last().unwrap_or_default().trim_start_matches("error: "))
        })
}

/// Rewrites what Go and the crate understand differently: classes of Perl are ASCII in Go, sets cannot be nested or
/// combined, `\Q…\E` quotes, any punctuation may be escaped, octal escapes exist, and the flags `x`, `u` and `R` do not.
struct Translator<'p> {
    rest: std::iter::Peekable<std::str::Chars<'p>>,
    out: String,
}

impl<'p> Translator<'p> {
    fn new(pattern: &'p str) -> Self {
        Self {
            rest: pattern.chars().peekable(),
            out: String::with_capacity(pattern.len() + 16),
        }
    }

    fn run(mut self) -> Result<String, String> {
        while let Some(character) = self.rest.next() {
            match character {
                '\\' => self.escape(false)?,
                '[' => self.class()?,
                '(' => self.group()?,
                '{' => self.repetition()?,
                _ => self.out.push(character),
            }
        }
        Ok(self.out)
    }

    fn escape(&mut self, in_class: bool) -> Result<(), String> {
        let Some(character) = self.rest.next() else {
            return Err("trailing backslash at end of expression".to_owned());
        };
        let text = match (character, in_class) {
            ('d', true) => "0-9",
            ('d', false) => "[0-9]",
            ('D', _) => "[^0-9]",
            ('w', true) => "0-9A-Za-z_",
            ('w', false) => "[0-9A-Za-z_]",
            ('W', _) => "[^0-9A-Za-z_]",
            ('s', true) => r"\t\n\x0C\r ",
            ('s', false) => r"[\t\n\x0C\r ]",
            ('S', _) => r"[^\t\n\x0C\r ]",
            ('b', false) => r"(?-u:\b)",
            ('B', false) => r"(?-u:\B)",
            ('C', _) => return Err(r"invalid escape sequence: `\C`".to_owned()),
            ('Q', false) => return self.quoted(),
            ('0'..='7', _) => return self.octal(character),
            ('a', _) => r"\x07",
            ('A' | 'z', false) | ('f' | 't' | 'n' | 'r' | 'v' | 'p' | 'P' | 'x', _) => {
                self.out.push('\\');
                self.out.push(character);
                return Ok(());
            }
            (c, _) if c.is_ascii_punctuation() => {
                self.literal(c);
                return Ok(());
            }
            (c, _) => return Err(format!(r"invalid escape sequence: `\{c}`")),
        };
        self.out.push_str(text);
        Ok(())
    }

    fn literal(&mut self, character: char) {
        let mut buffer = [0; 4];
        if character.is_ascii_punctuation() {
            // Braces keep `\<` from being the start of a word.
            self.out.push_str(&format!(r"\x{{{:X}}}", character as u32));
        } else {
            self.out.push_str(character.encode_utf8(&mut buffer));
        }
    }

    fn quoted(&mut self) -> Result<(), String> {
        loop {
            let Some(character) = self.rest.next() else {
                return Ok(());
            };
            if character == '\\' && self.rest.peek() == Some(&'E') {
                self.rest.next();
                return Ok(());
            }
            self.literal(character);
        }
    }

    /// `\123`; a single digit other than 0 would be a backreference.
    fn octal(&mut self, first: char) -> Result<(), String> {
        let mut value = first.to_digit(8).unwrap_or_default();
        let mut digits = 1;
        while digits < 3 {
            let Some(digit) = self.rest.peek().and_then(|next| next.to_digit(8)) else {
                break;
            };
            value = value * 8 + digit;
            digits += 1;
            self.rest.next();
        }
        if digits == 1 && first != '0' {
            return Err(format!(r"invalid escape sequence: `\{first}`"));
        }
        self.out.push_str(&format!(r"\x{{{value:X}}}"));
        Ok(())
    }

    fn class(&mut self) -> Result<(), String> {
        self.out.push('[');
        if self.rest.peek() == Some(&'^') {
            self.rest.next();
            self.out.push('^');
        }
        let mut first = true;
        loop {
            let Some(character) = self.rest.next() else {
                return Err("missing closing ]".to_owned());
            };
            match character {
                ']' if !first => break,
                '\\' => self.escape(true)?,
                '[' if self.rest.peek() == Some(&':') => self.posix(),
                '[' | ']' | '&' | '~' => self.literal(character),
                // A dash is a range only between two characters; elsewhere it stands for itself.
                '-' if first || matches!(self.rest.peek(), Some(']') | None) => self.literal('-'),
                '-' => {
                    self.out.push('-');
                    if self.rest.peek() == Some(&'-') {
                        self.rest.next();
                        self.literal('-');
                    }
                }
                _ => self.out.push(character),
            }
            first = false;
        }
        self.out.push(']');
        Ok(())
    }

    fn posix(&mut self) {
        let name: String = self.rest.clone().take_while(|c| *c != ']').collect();
        let closed = name.len() > 2
            && name.ends_with(':')
            && name[1..name.len() - 1]
                .bytes()
                .all(|b| b.is_ascii_alphabetic() || b == b'^');
        if closed {
            self.out.push('[');
            for _ in 0..=name.chars().count() {
                self.out.extend(self.rest.next());
            }
        } else {
            self.literal('[');
        }
    }

    fn group(&mut self) -> Result<(), String> {
        self.out.push('(');
        if self.rest.peek() != Some(&'?') {
            return Ok(());
        }
        self.rest.next();
        self.out.push('?');
        if matches!(self.rest.peek(), Some('P' | '<')) {
            return Ok(());
        }
        for character in self.rest.by_ref() {
            self.out.push(character);
            match character {
                'i' | 'm' | 's' | 'U' | '-' => {}
                ':' | ')' => return Ok(()),
                _ => return Err("invalid or unsupported Perl syntax".to_owned()),
            }
        }
        Err("missing argument to repetition operator".to_owned())
    }

    /// Go takes a brace that is no repetition as itself, and allows at most 1,000 repetitions.
    fn repetition(&mut self) -> Result<(), String> {
        let inside: String = self.rest.clone().take_while(|c| *c != '}').take(16).collect();
        let (low, high) = inside.split_once(',').unwrap_or((&inside, ""));
        let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let closed = self.rest.clone().nth(inside.chars().count()) == Some('}');
        if !closed || !number(low) || !(high.is_empty() || number(high)) {
            self.literal('{');
            return Ok(());
        }
        if [low, high]
            .iter()
            .any(|text| text.parse::<u32>().is_ok_and(|count| count > 1_000) || text.len() > 9)
        {
            return Err("invalid repeat count".to_owned());
        }
        self.out.push('{');
        Ok(())
    }
}

/// `matches`
pub(super) fn is_match(arguments: &[Value], regex: &Regex) -> Result<Value, EvalError> {
    match arguments {
        [Value::String(text), _] => Ok(Value::Bool(regex.is_match(text))),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn find(arguments: &[Value], regex: &Regex) -> Result<Value, EvalError> {
    match arguments {
        [Value::String(text), _] => Ok(Value::string(regex.find(text).map_or("", |found| found.as_str()))),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn find_all(arguments: &[Value], regex: &Regex) -> Result<Value, EvalError> {
    let (text, limit) = match arguments {
        [Value::String(text), _] => (text, -1),
        [Value::String(text), _, Value::Int(limit)] => (text, *limit),
        _ => return Err(EvalError::no_such_overload()),
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    Ok(Value::list(
        regex
            .find_iter(text)
            .take(limit)
            .map(|found| Value::from(found.as_str()))
            .collect(),
    ))
}

/// Declares `find` and `findAll`.
pub(super) fn declare(functions: &mut Functions) {
    functions.add(
        "find",
        "string_find_string",
        ".(string,string):string",
        Body::Regex(find),
    );
    functions.add(
        "findAll",
        "string_find_all_string",
        ".(string,string):list(string)",
        Body::Regex(find_all),
    );
    let signature = ".(string,string,int):list(string)";
    functions.add(
        "findAll",
        "string_find_all_string_int",
        signature,
        Body::Regex(find_all),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_they_mean_in_go() {
        for (pattern, text, matches) in [
            (r"^\d+$", "123", true),
            (r"^\d+$", "١٢٣", false),
            (r"^\w+$", "é", false),
            (r"^\W+$", "é", true),
            (r"^[\w-]+$", "a-b_9", true),
            (r"^[[:alpha:]]+$", "abc", true),
            (r"^[a&&b]+$", "&ab", true),
            (r"^[[]$", "[", true),
            (r"^\<a\>$", "<a>", true),
            (r"^\Qa.b\E$", "a.b", true),
            (r"^\Qa.b\E$", "axb", false),
            (r"^\101$", "A", true),
            (r"a{,2}", "a{,2}", true),
            (r"\bfoo\b", "a foo b", true),
            (r"(?i)ABC", "abc", true),
            (
                r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
                "a.b-c",
                true,
            ),
            (r"^.$", "é", true),
            (r"^[^\s]+$", "ab", true),
            (r"^[\S]+$", "a b", false),
        ] {
            assert_eq!(
                compile(pattern).expect(pattern).is_match(text),
                matches,
                "{pattern} on {text}"
            );
        }
        for pattern in [r"(?x)a", r"(?=a)", r"\1", "a{1001}", "[a", "(", r"\Z", r"\", "*"] {
            assert!(compile(pattern).is_err(), "{pattern}");
        }
    }
}
