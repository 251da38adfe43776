//! The string form of label selectors.

use super::{Operator, Requirement, SelectorError};
use crate::field::{Error, Path};
use crate::validate;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Error,
    End,
    Close,
    Comma,
    Not,
    DoubleEquals,
    Equals,
    Greater,
    Identifier,
    In,
    Less,
    NotEquals,
    NotIn,
    Open,
}

struct Token {
    kind: Kind,
    text: String,
}

fn fail<T>(message: String) -> Result<T, SelectorError> {
    Err(SelectorError(message))
}

fn keyword(text: &str) -> Option<Kind> {
    Some(match text {
        ")" => Kind::Close,
        "," => Kind::Comma,
        "!" => Kind::Not,
        "==" => Kind::DoubleEquals,
        "=" => Kind::Equals,
        ">" => Kind::Greater,
        "in" => Kind::In,
        "<" => Kind::Less,
        "!=" => Kind::NotEquals,
        "notin" => Kind::NotIn,
        "(" => Kind::Open,
        _ => return None,
    })
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_symbol(c: char) -> bool {
    matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<')
}

fn scan(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start_matches(is_space);
    while !rest.is_empty() && !rest.starts_with('\0') {
        let length = if rest.starts_with(is_symbol) {
            let run = rest.find(|c| !is_symbol(c)).unwrap_or(rest.len());
            // The longest prefix of the run that is a token; a run that starts with none is one
            // erroneous token.
            (1..=run.min(2))
                .rev()
                .find(|n| keyword(&rest[..*n]).is_some())
                .unwrap_or(run)
        } else {
            rest.find(|c| is_symbol(c) || is_space(c) || c == '\0')
                .unwrap_or(rest.len())
        };
        let (word, tail) = rest.split_at(length);
        let kind = match keyword(word) {
            Some(kind) => kind,
            None if word.starts_with(is_symbol) => Kind::Error,
            None => Kind::Identifier,
        };
        tokens.push(Token {
            kind,
            text: word.to_owned(),
        });
        rest = tail.trim_start_matches(is_space);
    }
    tokens.push(Token {
        kind: Kind::End,
        text: String::new(),
    });
    tokens
}

/// Parses the comma-separated requirements.
pub(super) fn requirements(text: &str) -> Result<Vec<Requirement>, SelectorError> {
    let mut parser = Parser {
        tokens: scan(text),
        position: 0,
    };
    let mut requirements = Vec::new();
    loop {
        match parser.peek().0 {
            Kind::Identifier | Kind::Not => {}
            Kind::End => return Ok(requirements),
            _ => {
                let found = parser.peek().1;
                return fail(format!("found '{found}', expected: !, identifier, or 'end of string'"));
            }
        }
        let requirement = parser.requirement();
        let requirement =
            requirement.map_err(|error| SelectorError(format!("unable to parse requirement: {error}")))?;
        requirements.push(requirement);
        let (kind, found) = parser.next();
        match kind {
            Kind::End => return Ok(requirements),
            Kind::Comma => {
                let (kind, found) = parser.peek();
                if !matches!(kind, Kind::Identifier | Kind::Not) {
                    return fail(format!("found '{found}', expected: identifier after ','"));
                }
            }
            _ => return fail(format!("found '{found}', expected: ',' or 'end of string'")),
        }
    }
}

struct Parser {
    tokens: Vec<Token>,
    position: usize,
}

impl Parser {
    /// The next token, where `in` and `notin` are words like any other.
    fn peek(&self) -> (Kind, String) {
        let token = &self.tokens[self.position.min(self.tokens.len() - 1)];
        let kind = match token.kind {
            Kind::In | Kind::NotIn => Kind::Identifier,
            kind => kind,
        };
        (kind, token.text.clone())
    }

    fn next(&mut self) -> (Kind, String) {
        let token = self.peek();
        self.position += 1;
        token
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let (mut kind, mut key) = self.next();
        let negated = kind == Kind::Not;
        if negated {
            (kind, key) = self.next();
        }
        if kind != Kind::Identifier {
            return fail(format!("found '{key}', expected: identifier"));
        }
        let messages = validate::qualified_name(&key);
        if !messages.is_empty() {
            // Upstream prints its missing path so.
            let path = Path::new("<nil>");
            return fail(Error::invalid(&path, key, messages.join("; ")).to_string());
        }
        if negated {
            return Requirement::new(&key, Operator::DoesNotExist, Vec::new());
        }
        if matches!(self.peek().0, Kind::End | Kind::Comma) {
            return Requirement::new(&key, Operator::Exists, Vec::new());
        }
        let operator = self.operator()?;
        let mut values = match operator {
            Operator::In | Operator::NotIn => self.values()?,
            _ => vec![self.exact_value()?],
        };
        values.sort_unstable();
        values.dedup();
        Requirement::new(&key, operator, values)
    }

    fn operator(&mut self) -> Result<Operator, SelectorError> {
        let token = &self.tokens[self.position.min(self.tokens.len() - 1)];
        self.position += 1;
        Ok(match token.kind {
            Kind::In => Operator::In,
            Kind::NotIn => Operator::NotIn,
            Kind::Equals => Operator::Equals,
            Kind::DoubleEquals => Operator::DoubleEquals,
            Kind::NotEquals => Operator::NotEquals,
            Kind::Greater => Operator::GreaterThan,
            Kind::Less => Operator::LessThan,
            _ => {
                let found = &token.text;
                return fail(format!("found '{found}', expected: in, notin, =, ==, !=, gt, lt"));
            }
        })
    }

    fn values(&mut self) -> Result<Vec<String>, SelectorError> {
        let (kind, found) = self.next();
        if kind != Kind::Open {
            return fail(format!("found '{found}' expected: '('"));
        }
        let mut values = Vec::new();
        // Two commas, or a comma at either end, mean an empty value.
        let mut pending = true;
        loop {
            let (kind, found) = self.next();
            match kind {
                Kind::Identifier if pending => {
                    values.push(found);
                    pending = false;
                }
                Kind::Comma => {
                    if pending {
                        values.push(String::new());
                    }
                    pending = true;
                }
                Kind::Close => {
                    if pending {
                        values.push(String::new());
                    }
                    return Ok(values);
                }
                _ if pending => {
                    return fail(format!("found '{found}', expected: ',', ')' or identifier"));
                }
                _ => return fail(format!("found '{found}', expected: ',' or ')'")),
            }
        }
    }

    fn exact_value(&mut self) -> Result<String, SelectorError> {
        if matches!(self.peek().0, Kind::End | Kind::Comma) {
            return Ok(String::new());
        }
        let (kind, found) = self.next();
        if kind == Kind::Identifier {
            Ok(found)
        } else {
            fail(format!("found '{found}', expected: identifier"))
        }
    }
}
