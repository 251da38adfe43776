//! Tokens of an expression (cel-go's parser/gen/CEL.g4).

use super::ast::Position;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// An operator, bracket or other sign, and the word `in`.
    Sign(&'static str),
    Ident(String),
    /// A name in backticks.
    Escaped(String),
    Int(String),
    Uint(String),
    Double(String),
    /// A string or bytes as written, with its prefix and quotes.
    Text {
        raw: String,
        bytes: bool,
    },
    True,
    False,
    Null,
    End,
}

#[derive(Clone, Debug)]
pub(super) struct Lexeme {
    pub token: Token,
    pub position: Position,
    /// As written, for messages.
    pub text: String,
}

/// Longest first.
const SIGNS: &[&str] = &[
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "[", "]", "{", "}", "(", ")", ".", ",", "-", "!", "?", ":", "+", "*",
    "/", "%",
];

pub(super) struct Lexer {
    text: Vec<char>,
    at: usize,
    line: i32,
    column: i32,
}

/// A message and its place.
pub(super) type Failure = (Position, String);

impl Lexer {
    pub fn new(source: &str) -> Self {
        Self {
            text: source.chars().collect(),
            at: 0,
            line: 1,
            column: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.text.len()
    }

    /// All tokens, the last of which is the end.
    pub fn run(mut self) -> Result<Vec<Lexeme>, Failure> {
        let mut lexemes = Vec::new();
        loop {
            self.skip_blank();
            let position = (self.line, self.column);
            let start = self.at;
            let token = self.token(position)?;
            let text = if token == Token::End {
                "<EOF>".to_owned()
            } else {
                self.slice(start)
            };
            let end = token == Token::End;
            lexemes.push(Lexeme { token, position, text });
            if end {
                return Ok(lexemes);
            }
        }
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.text.get(self.at + ahead).copied()
    }

    fn slice(&self, start: usize) -> String {
        self.text[start..self.at].iter().collect()
    }

    fn advance(&mut self) {
        if let Some(character) = self.text.get(self.at) {
            if *character == '\n' {
                self.line += 1;
                self.column = 0;
            } else {
                self.column += 1;
            }
            self.at += 1;
        }
    }

    fn skip(&mut self, count: usize) {
        for _ in 0..count {
            self.advance();
        }
    }

    fn skip_blank(&mut self) {
        while let Some(character) = self.peek(0) {
            match character {
                '\t' | ' ' | '\r' | '\n' | '\u{c}' => self.advance(),
                '/' if self.peek(1) == Some('/') => {
                    while self.peek(0).is_some_and(|character| character != '\n') {
                        self.advance();
                    }
                }
                _ => return,
            }
        }
    }

    fn token(&mut self, position: Position) -> Result<Token, Failure> {
        let Some(character) = self.peek(0) else {
            return Ok(Token::End);
        };
        if let Some((prefix, bytes)) = self.text_prefix() {
            return self.text_token(prefix, bytes, position);
        }
        if character.is_ascii_alphabetic() || character == '_' {
            return Ok(self.word());
        }
        if character.is_ascii_digit() || (character == '.' && self.peek(1).is_some_and(|next| next.is_ascii_digit())) {
            return Ok(self.number());
        }
        if character == '`' {
            return self.escaped(position);
        }
        for sign in SIGNS {
            if sign
                .chars()
                .enumerate()
                .all(|(index, wanted)| self.peek(index) == Some(wanted))
            {
                self.skip(sign.len());
                return Ok(Token::Sign(sign));
            }
        }
        Err((position, format!("token recognition error at: '{character}'")))
    }

    fn word(&mut self) -> Token {
        let start = self.at;
        while self
            .peek(0)
            .is_some_and(|character| character.is_ascii_alphanumeric() || character == '_')
        {
            self.advance();
        }
        match self.slice(start).as_str() {
            "true" => Token::True,
            "false" => Token::False,
            "null" => Token::Null,
            "in" => Token::Sign("in"),
            word => Token::Ident(word.to_owned()),
        }
    }

    fn digits(&mut self, hexadecimal: bool) {
        while self.peek(0).is_some_and(|c| {
            if hexadecimal {
                c.is_ascii_hexdigit()
            } else {
                c.is_ascii_digit()
            }
        }) {
            self.advance();
        }
    }

    fn number(&mut self) -> Token {
        let start = self.at;
        if self.peek(0) == Some('0') && self.peek(1) == Some('x') && self.peek(2).is_some_and(|c| c.is_ascii_hexdigit())
        {
            self.skip(2);
            self.digits(true);
            return self.whole(start);
        }
        self.digits(false);
        let mut double = false;
        if self.peek(0) == Some('.') && self.peek(1).is_some_and(|next| next.is_ascii_digit()) {
            double = true;
            self.advance();
            self.digits(false);
        }
        let sign = usize::from(matches!(self.peek(1), Some('+' | '-')));
        if matches!(self.peek(0), Some('e' | 'E')) && self.peek(1 + sign).is_some_and(|next| next.is_ascii_digit()) {
            double = true;
            self.skip(1 + sign);
            self.digits(false);
        }
        if double {
            Token::Double(self.slice(start))
        } else {
            self.whole(start)
        }
    }

    fn whole(&mut self, start: usize) -> Token {
        let text = self.slice(start);
        if matches!(self.peek(0), Some('u' | 'U')) {
            self.advance();
            return Token::Uint(text);
        }
        Token::Int(text)
    }

    fn escaped(&mut self, position: Position) -> Result<Token, Failure> {
        let start = self.at;
        self.advance();
        while self
            .peek(0)
            .is_some_and(|c| c.is_ascii_alphanumeric() || "_.-/ ".contains(c))
        {
            self.advance();
        }
        if self.peek(0) != Some('`') || self.at == start + 1 {
            return Err((position, "token recognition error at: '`'".to_owned()));
        }
        self.advance();
        let name = self.slice(start);
        Ok(Token::Escaped(name[1..name.len() - 1].to_owned()))
    }

    /// The length of a text's prefix (`r`, `b`, `br`), when a quote follows.
    fn text_prefix(&self) -> Option<(usize, bool)> {
        let mut length = 0;
        let mut bytes = false;
        if matches!(self.peek(length), Some('b' | 'B')) {
            bytes = true;
            length += 1;
        }
        if matches!(self.peek(length), Some('r' | 'R')) {
            length += 1;
        }
        matches!(self.peek(length), Some('"' | '\'')).then_some((length, bytes))
    }

    fn text_token(&mut self, prefix: usize, bytes: bool, position: Position) -> Result<Token, Failure> {
        let start = self.at;
        let raw = (0..prefix).any(|index| matches!(self.peek(index), Some('r' | 'R')));
        self.skip(prefix);
        let quote = self.peek(0).unwrap_or('"');
        let triple = self.peek(1) == Some(quote) && self.peek(2) == Some(quote);
        self.skip(if triple { 3 } else { 1 });
        loop {
            match self.peek(0) {
                None => break,
                Some(character) if character == quote => {
                    if !triple {
                        self.advance();
                        return Ok(Token::Text {
                            raw: self.slice(start),
                            bytes,
                        });
                    }
                    if self.peek(1) == Some(quote) && self.peek(2) == Some(quote) {
                        self.skip(3);
                        return Ok(Token::Text {
                            raw: self.slice(start),
                            bytes,
                        });
                    }
                    self.advance();
                }
                Some('\n' | '\r') if !triple => break,
                Some('\\') if !raw => self.skip(2),
                Some(_) => self.advance(),
            }
        }
        let text = self.slice(start);
        Err((position, format!("token recognition error at: '{text}'")))
    }
}
