//! JSON to tree in one pass by schema (`sigs.k8s.io/json` as apimachinery's serializer uses it).

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Number, Value};

use super::scan::{Duplicates, MAX_DEPTH, Scanner, Unheard};
use super::time::{Instant, Precision, format_duration, parse_duration};
use super::{DecodeError, Decoded};
use crate::model::{Struct, TypeDef, TypeRef, Width};

/// Upstream reports no more strict errors than this.
const STRICT_LIMIT: usize = 100;

/// `apiVersion` and `kind` of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TypeMeta {
    /// `v1`, `apps/v1`, …
    pub api_version: String,
    /// `Pod`, …
    pub kind: String,
}

/// Decodes JSON as `ty`.
///
/// # Errors
/// When the text is no JSON, a value has the wrong type, or a string does not parse.
pub fn decode_json(ty: TypeRef<'_>, bytes: &[u8]) -> Result<Decoded, DecodeError> {
    // Go replaces what is no UTF-8 while reading; nothing valid needs it.
    let text = String::from_utf8_lossy(bytes);
    let mut decoder = Decoder {
        scan: Scanner::new(&text),
        strict: Vec::new(),
        path: Vec::new(),
        at: None,
    };
    let value = decoder.value(ty, 0)?;
    decoder.scan.end()?;
    Ok(Decoded {
        value: value.unwrap_or_else(|| zero(ty)),
        strict: decoder.strict,
    })
}

/// What strict clients are told of fields that a JSON text has twice, whatever the text is about.
///
/// # Errors
/// When the text is no JSON.
pub fn repeated_fields(bytes: &[u8]) -> Result<Vec<String>, DecodeError> {
    let text = String::from_utf8_lossy(bytes);
    let (mut strict, mut path) = (Vec::new(), Vec::new());
    let mut scan = Scanner::new(&text);
    scan.any(
        0,
        &mut Free {
            strict: &mut strict,
            path: &mut path,
        },
    )?;
    Ok(strict)
}

/// Decodes a tree that something else (a patch, a conversion) made.
///
/// # Errors
/// As [`decode_json`].
pub fn decode_value(ty: TypeRef<'_>, value: &Value) -> Result<Decoded, DecodeError> {
    let text = serde_json::to_vec(value).expect("a tree has string keys and finite numbers");
    decode_json(ty, &text)
}

/// Reads only `apiVersion` and `kind`; either is empty when it is missing.
///
/// # Errors
/// When the text is no JSON object, or either is no string.
pub fn type_meta(bytes: &[u8]) -> Result<TypeMeta, DecodeError> {
    let text = String::from_utf8_lossy(bytes);
    let mut scan = Scanner::new(&text);
    let mut meta = TypeMeta::default();
    if scan.peek()? != b'{' {
        let found = scan.any(0, &mut Unheard)?;
        return Err(mismatch(
            found_name(&found),
            "value",
            "struct { APIVersion string; Kind string }",
        ));
    }
    scan.bump();
    let mut more = scan.first_member()?;
    while more {
        let key = scan.key()?;
        let target = match key.as_ref() {
            "apiVersion" => &mut meta.api_version,
            "kind" => &mut meta.kind,
            _ => {
                scan.skip(1)?;
                more = scan.more_members()?;
                continue;
            }
        };
        match scan.any(1, &mut Unheard)? {
            Value::String(text) => *target = text,
            Value::Null => {}
            other => return Err(mismatch(found_name(&other), &format!("struct field .{key}"), "string")),
        }
        more = scan.more_members()?;
    }
    scan.end()?;
    Ok(meta)
}

/// Go decodes a member that comes twice into what the first one left: structs and maps gain members, the items of
/// lists are decoded into those that are there.
fn decode_over(ty: TypeRef<'_>, before: &mut Value, value: Value) {
    match (ty.def(), before, value) {
        (TypeDef::Struct(..), Value::Object(before), Value::Object(value)) => {
            let structure = ty.as_struct().expect("the definition is a struct's");
            for (key, value) in value {
                match (structure.field(&key), before.get_mut(&key)) {
                    (Some(field), Some(before)) => decode_over(field.ty(), before, value),
                    _ => drop(before.insert(key, value)),
                }
            }
        }
        (TypeDef::Map { .. }, Value::Object(before), Value::Object(value)) => before.extend(value),
        (TypeDef::List { elem, .. }, Value::Array(before), Value::Array(value)) => {
            let elem = ty.schema().get(*elem);
            before.truncate(value.len());
            for (index, item) in value.into_iter().enumerate() {
                match before.get_mut(index) {
                    Some(before) => decode_over(elem, before, item),
                    None => before.push(item),
                }
            }
        }
        (_, before, value) => *before = value,
    }
}

fn mismatch(found: &str, place: &str, wanted: &str) -> DecodeError {
    DecodeError::Type {
        found: found.to_owned(),
        place: place.to_owned(),
        wanted: wanted.to_owned(),
    }
}

fn found_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// What Go holds where JSON said `null` inside a list or map.
pub(crate) fn zero(ty: TypeRef<'_>) -> Value {
    match ty.def() {
        TypeDef::Bool => Value::Bool(false),
        TypeDef::Integer(_) | TypeDef::Number | TypeDef::IntOrString => 0.into(),
        TypeDef::String(_) => "".into(),
        TypeDef::Quantity => "0".into(),
        TypeDef::Duration => "0s".into(),
        TypeDef::Struct(..) => Value::Object(Map::new()),
        _ => Value::Null,
    }
}

enum Step<'a, 's> {
    Field(&'s str),
    Key(Cow<'a, str>),
    Free(String),
    Index(usize),
}

struct Decoder<'a, 's> {
    scan: Scanner<'a>,
    strict: Vec<String>,
    path: Vec<Step<'a, 's>>,
    /// The struct whose member is being read.
    at: Option<Struct<'s>>,
}

impl<'a, 's> Decoder<'a, 's> {
    /// `None` is `null`.
    fn value(&mut self, ty: TypeRef<'s>, depth: usize) -> Result<Option<Value>, DecodeError> {
        if depth > MAX_DEPTH {
            return Err(DecodeError::TooDeep);
        }
        let token = self.scan.peek()?;
        if token == b'n' {
            self.scan.literal("null")?;
            return Ok(None);
        }
        let value = match (ty.def(), token) {
            (TypeDef::Struct(..), b'{') => self.structure(ty, depth)?,
            (TypeDef::List { elem, .. }, b'[') => self.list(ty.schema().get(*elem), depth)?,
            (TypeDef::Map { value, .. }, b'{') => self.map(ty.schema().get(*value), depth)?,
            (TypeDef::RawExtension | TypeDef::FieldsV1, _) => self.scan.any(depth, &mut Unheard)?,
            (TypeDef::Any, _) => {
                let mut heard = Free {
                    strict: &mut self.strict,
                    path: &mut self.path,
                };
                self.scan.any(depth, &mut heard)?
            }
            // It reads its own text, whatever that is.
            (TypeDef::Quantity, b'{' | b'[') => quantity("{}")?,
            (_, b'{') => return self.type_error("object", ty),
            (_, b'[') => return self.type_error("array", ty),
            (_, b'"') => {
                let text = self.scan.string()?;
                return self.text(ty, text);
            }
            (_, b't') => self.boolean("true", ty)?,
            (_, b'f') => self.boolean("false", ty)?,
            (_, b'-' | b'0'..=b'9') => {
                let text = self.scan.number()?;
                return self.number(ty, text).map(Some);
            }
            _ => return self.scan.no_value(),
        };
        Ok(Some(value))
    }

    fn boolean(&mut self, word: &str, ty: TypeRef<'s>) -> Result<Value, DecodeError> {
        self.scan.literal(word)?;
        match ty.def() {
            TypeDef::Bool => Ok(Value::Bool(word == "true")),
            TypeDef::Quantity => quantity(word),
            _ => self.type_error("bool", ty),
        }
    }

    fn number(&mut self, ty: TypeRef<'s>, text: &str) -> Result<Value, DecodeError> {
        let whole = |width: Width| {
            let n = text.parse::<i64>().ok()?;
            (width == Width::I64 || i32::try_from(n).is_ok()).then_some(Value::from(n))
        };
        let width = match ty.def() {
            TypeDef::Integer(width) => *width,
            TypeDef::IntOrString => Width::I32,
            TypeDef::Number => {
                let number = text.parse::<f64>().ok().and_then(whole_or_float);
                return number.map_or_else(|| self.type_error(&format!("number {text}"), ty), Ok);
            }
            TypeDef::Quantity => return quantity(text),
            _ => return self.type_error("number", ty),
        };
        whole(width).map_or_else(|| self.type_error(&format!("number {text}"), ty), Ok)
    }

    fn text(&mut self, ty: TypeRef<'s>, text: Cow<'a, str>) -> Result<Option<Value>, DecodeError> {
        let time = |precision| {
            let time = Instant::parse(&text, precision).map_err(DecodeError::Format)?;
            Ok((!time.is_zero()).then(|| Value::String(time.format(precision))))
        };
        Ok(Some(match ty.def() {
            TypeDef::String(_) | TypeDef::IntOrString => Value::String(text.into_owned()),
            TypeDef::Quantity => quantity(&text)?,
            TypeDef::Bytes => bytes(text)?,
            TypeDef::Time => return time(Precision::Seconds),
            TypeDef::MicroTime => return time(Precision::Micros),
            TypeDef::Duration => format_duration(parse_duration(&text).map_err(DecodeError::Format)?).into(),
            _ => return self.type_error("string", ty),
        }))
    }

    fn list(&mut self, elem: TypeRef<'s>, depth: usize) -> Result<Value, DecodeError> {
        self.scan.bump();
        let mut items = Vec::new();
        let mut more = self.scan.first_item()?;
        while more {
            self.path.push(Step::Index(items.len()));
            let item = self.value(elem, depth + 1)?;
            self.path.pop();
            items.push(item.unwrap_or_else(|| zero(elem)));
            more = self.scan.more_items()?;
        }
        Ok(Value::Array(items))
    }

    fn map(&mut self, elem: TypeRef<'s>, depth: usize) -> Result<Value, DecodeError> {
        self.scan.bump();
        let mut map = Map::new();
        let mut more = self.scan.first_member()?;
        while more {
            let key = self.scan.key()?;
            let seen = map.contains_key(key.as_ref());
            if seen {
                self.complain("duplicate", &key);
            }
            self.path.push(Step::Key(key.clone()));
            let value = self.value(elem, depth + 1)?;
            self.path.pop();
            map.insert(key.into_owned(), value.unwrap_or_else(|| zero(elem)));
            more = self.scan.more_members()?;
        }
        Ok(Value::Object(map))
    }

    fn structure(&mut self, ty: TypeRef<'s>, depth: usize) -> Result<Value, DecodeError> {
        let structure = ty.as_struct().expect("the caller matched a struct");
        self.scan.bump();
        let mut map = Map::new();
        // Members that were null are not in the map, but count as seen.
        let mut nulls: Vec<&'s str> = Vec::new();
        let mut more = self.scan.first_member()?;
        while more {
            let key = self.scan.key()?;
            if let Some(field) = structure.field(&key) {
                let name = field.name();
                if map.contains_key(name) || nulls.contains(&name) {
                    self.complain("duplicate", name);
                }
                let outer = self.at.replace(structure);
                self.path.push(Step::Field(name));
                let value = self.value(field.ty(), depth + 1)?;
                self.path.pop();
                self.at = outer;
                match (value, map.get_mut(name)) {
                    (Some(value), Some(before)) => decode_over(field.ty(), before, value),
                    (Some(value), None) => drop(map.insert(name.to_owned(), value)),
                    (None, _) if field.nullable() => drop(map.insert(name.to_owned(), Value::Null)),
                    (None, Some(_)) if !field.null_unsets() => {}
                    (None, _) => {
                        map.remove(name);
                        nulls.push(name);
                    }
                }
            } else if structure.preserves_unknown() {
                if map.contains_key(key.as_ref()) {
                    self.complain("duplicate", &key);
                }
                self.path.push(Step::Free(key.clone().into_owned()));
                let mut heard = Free {
                    strict: &mut self.strict,
                    path: &mut self.path,
                };
                let value = self.scan.any(depth + 1, &mut heard)?;
                self.path.pop();
                map.insert(key.into_owned(), value);
            } else {
                self.complain("unknown", &key);
                self.scan.skip(depth + 1)?;
            }
            more = self.scan.more_members()?;
        }
        Ok(Value::Object(map))
    }

    fn type_error<T>(&self, found: &str, ty: TypeRef<'s>) -> Result<T, DecodeError> {
        let wanted = match ty.def() {
            TypeDef::Time | TypeDef::MicroTime | TypeDef::Duration => "string",
            TypeDef::IntOrString => "int32",
            _ => ty.go_name(),
        };
        let Some(structure) = self.at else {
            return Err(mismatch(found, "value", wanted));
        };
        let fields: Vec<&str> = self
            .path
            .iter()
            .filter_map(|step| match step {
                Step::Field(name) => Some(*name),
                _ => None,
            })
            .collect();
        let place = format!("struct field {}.{}", structure.short_name(), fields.join("."));
        Err(mismatch(found, &place, wanted))
    }

    fn complain(&mut self, what: &str, name: &str) {
        complain(&mut self.strict, &self.path, what, name);
    }
}

fn complain(strict: &mut Vec<String>, path: &[Step<'_, '_>], what: &str, name: &str) {
    if strict.len() >= STRICT_LIMIT {
        return;
    }
    let mut out = format!("{what} field \"");
    let mut push = |text: &str, first: bool| {
        if !first {
            out.push('.');
        }
        out.push_str(text);
    };
    for (i, step) in path.iter().enumerate() {
        match step {
            Step::Field(name) => push(name, i == 0),
            Step::Key(key) => push(key, i == 0),
            Step::Free(key) => push(key, i == 0),
            Step::Index(index) => {
                push(&format!("[{index}]"), true);
            }
        }
    }
    push(name, path.is_empty());
    out.push('"');
    if !strict.contains(&out) {
        strict.push(out);
    }
}

/// Duplicate keys within free-form JSON are reported like any other.
struct Free<'d, 'a, 's> {
    strict: &'d mut Vec<String>,
    path: &'d mut Vec<Step<'a, 's>>,
}

impl Duplicates for Free<'_, '_, '_> {
    fn enter_key(&mut self, key: &str) {
        self.path.push(Step::Free(key.to_owned()));
    }

    fn enter_index(&mut self, index: usize) {
        self.path.push(Step::Index(index));
    }

    fn leave(&mut self) {
        self.path.pop();
    }

    fn duplicate(&mut self, key: &str) {
        complain(self.strict, self.path, "duplicate", key);
    }
}

/// A float as Go prints it: without a fraction if it has none.
pub(crate) fn whole_or_float(number: f64) -> Option<Value> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() < EXACT {
        #[expect(clippy::cast_possible_truncation, reason = "it was just compared")]
        return Some((number as i64).into());
    }
    Number::from_f64(number).map(Value::Number)
}

fn quantity(text: &str) -> Result<Value, DecodeError> {
    let parsed = text
        .trim()
        .parse::<api::Quantity>()
        .map_err(|e| DecodeError::Format(e.to_string()))?;
    Ok(Value::String(parsed.to_string()))
}

/// Go ignores line breaks in base64 and prints none.
fn bytes(text: Cow<'_, str>) -> Result<Value, DecodeError> {
    let clean = if text.contains(['\r', '\n']) {
        Cow::Owned(text.replace(['\r', '\n'], ""))
    } else {
        text
    };
    match STANDARD.decode(clean.as_bytes()) {
        Ok(_) => Ok(Value::String(clean.into_owned())),
        Err(e) => {
            let at = match e {
                base64::DecodeError::InvalidByte(at, _) => at,
                _ => clean.len(),
            };
            Err(DecodeError::Format(format!("illegal base64 data at input byte {at}")))
        }
    }
}
