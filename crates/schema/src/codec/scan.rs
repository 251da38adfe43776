//! Reading JSON text token by token, with the error texts of Go's `encoding/json`.

use std::borrow::Cow;

use serde_json::{Map, Number, Value};

use super::DecodeError;

/// Deepest nesting that is read; serde_json's own readers stop at 128.
pub(crate) const MAX_DEPTH: usize = 120;

/// Position in a JSON text.
pub(crate) struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

/// Hears of keys that occur twice in one object of free-form JSON.
pub(crate) trait Duplicates {
    /// The walk goes into a member.
    fn enter_key(&mut self, key: &str);
    /// The walk goes into an item.
    fn enter_index(&mut self, index: usize);
    /// The walk comes back.
    fn leave(&mut self);
    /// `key` was seen before in this object.
    fn duplicate(&mut self, key: &str);
}

/// Nobody listens.
pub(crate) struct Unheard;

impl Duplicates for Unheard {
    fn enter_key(&mut self, _: &str) {}
    fn enter_index(&mut self, _: usize) {}
    fn leave(&mut self) {}
    fn duplicate(&mut self, _: &str) {}
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    fn bytes(&self) -> &'a [u8] {
        self.text.as_bytes()
    }

    /// The next byte after white space, not consumed.
    pub(crate) fn peek(&mut self) -> Result<u8, DecodeError> {
        let bytes = self.bytes();
        while let Some(&byte) = bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
                return Ok(byte);
            }
            self.at += 1;
        }
        Err(DecodeError::Syntax("unexpected end of JSON input".to_owned()))
    }

    /// Consumes what [`Scanner::peek`] showed.
    pub(crate) fn bump(&mut self) {
        self.at += 1;
    }

    fn invalid<T>(&self, context: &str) -> Result<T, DecodeError> {
        let Some(found) = self.text.get(self.at..).and_then(|rest| rest.chars().next()) else {
            return Err(DecodeError::Syntax("unexpected end of JSON input".to_owned()));
        };
        let shown = match found {
            '\'' => r"'\''".to_owned(),
            '"' => "'\"'".to_owned(),
            _ => {
                let quoted = format!("{:?}", found.to_string());
                format!("'{}'", &quoted[1..quoted.len() - 1])
            }
        };
        Err(DecodeError::Syntax(format!("invalid character {shown} {context}")))
    }

    /// Expects the end of the text.
    pub(crate) fn end(&mut self) -> Result<(), DecodeError> {
        match self.peek() {
            Ok(_) => self.invalid("after top-level value"),
            Err(_) => Ok(()),
        }
    }

    /// After a value in an object: true when another member follows.
    pub(crate) fn more_members(&mut self) -> Result<bool, DecodeError> {
        match self.peek()? {
            b',' => {
                self.bump();
                if self.peek()? == b'"' {
                    Ok(true)
                } else {
                    self.invalid("looking for beginning of object key string")
                }
            }
            b'}' => {
                self.bump();
                Ok(false)
            }
            _ => self.invalid("after object key:value pair"),
        }
    }

    /// After `{`: true when there is a member.
    pub(crate) fn first_member(&mut self) -> Result<bool, DecodeError> {
        match self.peek()? {
            b'"' => Ok(true),
            b'}' => {
                self.bump();
                Ok(false)
            }
            _ => self.invalid("looking for beginning of object key string"),
        }
    }

    /// A key and its colon.
    pub(crate) fn key(&mut self) -> Result<Cow<'a, str>, DecodeError> {
        let key = self.string()?;
        if self.peek()? != b':' {
            return self.invalid("after object key");
        }
        self.bump();
        Ok(key)
    }

    /// After `[`: true when there is an item.
    pub(crate) fn first_item(&mut self) -> Result<bool, DecodeError> {
        if self.peek()? == b']' {
            self.bump();
            return Ok(false);
        }
        Ok(true)
    }

    /// After an item: true when another follows.
    pub(crate) fn more_items(&mut self) -> Result<bool, DecodeError> {
        match self.peek()? {
            b',' => {
                self.bump();
                Ok(true)
            }
            b']' => {
                self.bump();
                Ok(false)
            }
            _ => self.invalid("after array element"),
        }
    }

    /// `true`, `false` or `null`.
    pub(crate) fn literal(&mut self, word: &str) -> Result<(), DecodeError> {
        for wanted in word.bytes() {
            if self.bytes().get(self.at) != Some(&wanted) {
                return self.invalid(&format!("in literal {word} (expecting '{}')", wanted as char));
            }
            self.at += 1;
        }
        Ok(())
    }

    /// A number's text.
    pub(crate) fn number(&mut self) -> Result<&'a str, DecodeError> {
        let start = self.at;
        if self.bytes()[self.at] == b'-' {
            self.at += 1;
        }
        match self.bytes().get(self.at) {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return self.invalid("in numeric literal"),
        }
        if self.bytes().get(self.at) == Some(&b'.') {
            self.at += 1;
            if !self.bytes().get(self.at).is_some_and(u8::is_ascii_digit) {
                return self.invalid("after decimal point in numeric literal");
            }
            self.digits();
        }
        if let Some(b'e' | b'E') = self.bytes().get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = self.bytes().get(self.at) {
                self.at += 1;
            }
            if !self.bytes().get(self.at).is_some_and(u8::is_ascii_digit) {
                return self.invalid("in exponent of numeric literal");
            }
            self.digits();
        }
        Ok(&self.text[start..self.at])
    }

    fn digits(&mut self) {
        while self.bytes().get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
    }

    /// A string, borrowed when it has no escapes.
    pub(crate) fn string(&mut self) -> Result<Cow<'a, str>, DecodeError> {
        self.bump();
        let start = self.at;
        let bytes = self.bytes();
        while let Some(&byte) = bytes.get(self.at) {
            match byte {
                b'"' => {
                    let text = &self.text[start..self.at];
                    self.at += 1;
                    return Ok(Cow::Borrowed(text));
                }
                b'\\' => return self.escaped(start).map(Cow::Owned),
                0..0x20 => return self.invalid("in string literal"),
                _ => self.at += 1,
            }
        }
        Err(DecodeError::Syntax("unexpected end of JSON input".to_owned()))
    }

    fn escaped(&mut self, start: usize) -> Result<String, DecodeError> {
        let mut out = String::from(&self.text[start..self.at]);
        loop {
            let run = self.at;
            while self
                .bytes()
                .get(self.at)
                .is_some_and(|b| !matches!(b, b'"' | b'\\' | 0..0x20))
            {
                self.at += 1;
            }
            out.push_str(&self.text[run..self.at]);
            match self.bytes().get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => {
                    self.at += 1;
                    out.push(self.escape()?);
                }
                _ => return self.invalid("in string literal"),
            }
        }
    }

    fn escape(&mut self) -> Result<char, DecodeError> {
        let decoded = match self.bytes().get(self.at) {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                return self.unicode();
            }
            _ => return self.invalid("in string escape code"),
        };
        self.at += 1;
        Ok(decoded)
    }

    /// Lone surrogates become U+FFFD, as in Go.
    fn unicode(&mut self) -> Result<char, DecodeError> {
        let first = self.hex()?;
        if (0xd800..0xdc00).contains(&first) && self.bytes().get(self.at..self.at + 2) == Some(b"\\u") {
            let before = self.at;
            self.at += 2;
            let second = self.hex()?;
            if (0xdc00..0xe000).contains(&second) {
                let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = before;
        }
        Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex(&mut self) -> Result<u32, DecodeError> {
        let mut code = 0;
        for _ in 0..4 {
            match self.bytes().get(self.at).and_then(|b| (*b as char).to_digit(16)) {
                Some(digit) => code = code << 4 | digit,
                None => return self.invalid("in \\u hexadecimal character escape"),
            }
            self.at += 1;
        }
        Ok(code)
    }

    /// Goes over a value and forgets it.
    pub(crate) fn skip(&mut self, depth: usize) -> Result<(), DecodeError> {
        if depth > MAX_DEPTH {
            return Err(DecodeError::TooDeep);
        }
        match self.peek()? {
            b'{' => {
                self.bump();
                let mut more = self.first_member()?;
                while more {
                    self.key()?;
                    self.skip(depth + 1)?;
                    more = self.more_members()?;
                }
                Ok(())
            }
            b'[' => {
                self.bump();
                let mut more = self.first_item()?;
                while more {
                    self.skip(depth + 1)?;
                    more = self.more_items()?;
                }
                Ok(())
            }
            b'"' => self.string().map(drop),
            _ => self.scalar().map(drop),
        }
    }

    /// Any value; whole numbers stay exact.
    pub(crate) fn any(&mut self, depth: usize, heard: &mut impl Duplicates) -> Result<Value, DecodeError> {
        if depth > MAX_DEPTH {
            return Err(DecodeError::TooDeep);
        }
        match self.peek()? {
            b'{' => {
                self.bump();
                let mut map = Map::new();
                let mut more = self.first_member()?;
                while more {
                    let key = self.key()?;
                    heard.enter_key(&key);
                    let value = self.any(depth + 1, heard)?;
                    heard.leave();
                    if map.contains_key(key.as_ref()) {
                        heard.duplicate(&key);
                    }
                    map.insert(key.into_owned(), value);
                    more = self.more_members()?;
                }
                Ok(Value::Object(map))
            }
            b'[' => {
                self.bump();
                let mut items = Vec::new();
                let mut more = self.first_item()?;
                while more {
                    heard.enter_index(items.len());
                    items.push(self.any(depth + 1, heard)?);
                    heard.leave();
                    more = self.more_items()?;
                }
                Ok(Value::Array(items))
            }
            b'"' => Ok(Value::String(self.string()?.into_owned())),
            _ => self.scalar(),
        }
    }

    fn scalar(&mut self) -> Result<Value, DecodeError> {
        match self.peek()? {
            b't' => self.literal("true").map(|()| Value::Bool(true)),
            b'f' => self.literal("false").map(|()| Value::Bool(false)),
            b'n' => self.literal("null").map(|()| Value::Null),
            b'-' | b'0'..=b'9' => self.number().map(free_number),
            _ => self.invalid("looking for beginning of value"),
        }
    }

    /// Whatever is there is no value at all.
    pub(crate) fn no_value<T>(&self) -> Result<T, DecodeError> {
        self.invalid("looking for beginning of value")
    }
}

/// A number outside any schema: whole when it is written so and fits, else floating.
pub(crate) fn free_number(text: &str) -> Value {
    if let Ok(whole) = text.parse::<i64>() {
        return whole.into();
    }
    if let Ok(whole) = text.parse::<u64>() {
        return whole.into();
    }
    text.parse::<f64>()
        .ok()
        .and_then(Number::from_f64)
        .map_or(Value::Null, Value::Number)
}
