//! `format` of the `strings` extension, in the manner of its versions before 4 (cel-go's ext/formatting.go): `%f` groups
//! digits and `%e` shows a power of ten, as the locale en-US has it.

use crate::error::EvalError;
use crate::limits::MAX_STRING_BYTES;
use crate::types::Type;
use crate::value::{Key, List, Value};

const DEFAULT_PRECISION: usize = 6;
/// Digits after the point that are made; more are cut, since cel-go has no limit here.
const MAX_PRECISION: usize = 1_000;

/// One `%…` of a format.
enum Clause {
    Text,
    Decimal,
    Fixed(usize),
    Scientific(usize),
    Binary,
    Hex { upper: bool },
    Octal,
}

impl Clause {
    /// Why an argument of a type does not fit.
    fn mismatch(&self, ty: &str) -> String {
        let needs = match self {
            Clause::Text => {
                "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, \
                 durations, and timestamps"
            }
            Clause::Decimal => "decimal clause can only be used on integers",
            Clause::Fixed(_) => "fixed-point clause can only be used on doubles",
            Clause::Scientific(_) => "scientific clause can only be used on doubles",
            Clause::Binary => "only integers and bools can be formatted as binary",
            Clause::Hex { .. } => "only integers, byte buffers, and strings can be formatted as hex",
            Clause::Octal => "octal clause can only be used on integers",
        };
        format!("{needs}, was given {ty}")
    }

    fn takes(&self, ty: &Type) -> bool {
        let whole = matches!(ty, Type::Int | Type::Uint);
        match self {
            Clause::Text => !matches!(ty, Type::Object(_) | Type::Opaque(..)),
            Clause::Decimal | Clause::Octal => whole,
            Clause::Fixed(_) | Clause::Scientific(_) => matches!(ty, Type::Double | Type::String),
            Clause::Binary => whole || *ty == Type::Bool,
            Clause::Hex { .. } => whole || matches!(ty, Type::String | Type::Bytes),
        }
    }
}

/// A piece of a format.
enum Piece<'f> {
    Literal(&'f str),
    Clause(Clause),
}

/// Cuts a format into its pieces, of which each is given to `each` before the next is read.
fn pieces(format: &str, mut each: impl FnMut(Piece<'_>) -> Result<(), String>) -> Result<(), String> {
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        if at > 0 {
            each(Piece::Literal(&rest[..at]))?;
        }
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            each(Piece::Literal("%"))?;
            rest = after;
            continue;
        }
        if rest.is_empty() {
            return Err("unexpected end of string".to_owned());
        }
        let (clause, after) = clause(rest).map_err(|reason| format!("could not parse formatting clause: {reason}"))?;
        each(Piece::Clause(clause))?;
        rest = after;
    }
    if !rest.is_empty() {
        each(Piece::Literal(rest))?;
    }
    Ok(())
}

fn clause(text: &str) -> Result<(Clause, &str), String> {
    let mut precision = DEFAULT_PRECISION;
    let mut rest = text;
    if let Some(after) = text.strip_prefix('.') {
        let end = after
            .find(|c: char| !c.is_ascii_digit())
            .ok_or_else(|| "error while parsing precision: could not find end of precision specifier".to_owned())?;
        precision = after[..end].parse().map_err(|_| {
            format!(
                "error while parsing precision: error while converting precision to integer: strconv.Atoi: \
                 parsing {:?}: invalid syntax",
                &after[..end]
            )
        })?;
        rest = &after[end..];
    }
    let precision = precision.min(MAX_PRECISION);
    let kind = rest.chars().next().unwrap_or_default();
    let clause = match kind {
        's' => Clause::Text,
        'd' => Clause::Decimal,
        'f' => Clause::Fixed(precision),
        'e' => Clause::Scientific(precision),
        'b' => Clause::Binary,
        'x' | 'X' => Clause::Hex { upper: kind == 'X' },
        'o' => Clause::Octal,
        other => return Err(format!("unrecognized formatting clause \"{other}\"")),
    };
    Ok((clause, &rest[1..]))
}

/// `text.format(list)`
pub(super) fn format(text: &str, list: &List) -> Result<Value, EvalError> {
    let mut out = String::new();
    let mut next = 0;
    let mut failed = None;
    let result = pieces(text, |piece| {
        match piece {
            Piece::Literal(text) => out.push_str(text),
            Piece::Clause(clause) => {
                let value = match list.get(next) {
                    Some(Ok(value)) => value,
                    Some(Err(error)) => {
                        failed = Some(error);
                        return Err(String::new());
                    }
                    None => return Err(format!("index {next} out of range")),
                };
                next += 1;
                apply(&clause, &value, &mut out).map_err(|reason| format!("error during formatting: {reason}"))?;
            }
        }
        if out.len() > MAX_STRING_BYTES {
            failed = Some(EvalError::too_large("string"));
            return Err(String::new());
        }
        Ok(())
    });
    match (failed, result) {
        (Some(error), _) => Err(error),
        (None, Err(reason)) => Err(EvalError::new(reason)),
        (None, Ok(())) => Ok(Value::string(out)),
    }
}

/// Checks a constant format against the types of its arguments, where they are written as a list: the message, and the
/// argument that it is about, if one is.
pub(crate) fn check(text: &str, arguments: &[Type]) -> Result<(), (String, Option<usize>)> {
    let mut next = 0;
    let mut about = None;
    pieces(text, |piece| {
        let Piece::Clause(clause) = piece else { return Ok(()) };
        let Some(ty) = arguments.get(next) else {
            return Err(format!("index {next} out of range"));
        };
        if !ty.is_dyn() && !ty.is_error() && !clause.takes(ty) {
            about = Some(next);
            return Err(format!(
                "error during formatting: {}",
                clause.mismatch(ty.runtime_name())
            ));
        }
        next += 1;
        Ok(())
    })
    .map_err(|message| (message, about))?;
    if arguments.len() > next {
        let message = format!(
            "too many arguments supplied to string.format (expected {next}, got {})",
            arguments.len()
        );
        return Err((message, None));
    }
    Ok(())
}

fn apply(clause: &Clause, value: &Value, out: &mut String) -> Result<(), String> {
    let mismatch = || clause.mismatch(value.type_of().runtime_name());
    let text = match (clause, value) {
        (Clause::Text, _) => return show(value, out),
        (Clause::Decimal, Value::Int(_) | Value::Uint(_)) => value.to_string(),
        (Clause::Fixed(precision), _) => fixed(double(value).ok_or_else(mismatch)?, *precision),
        (Clause::Scientific(precision), _) => scientific(double(value).ok_or_else(mismatch)?, *precision),
        (Clause::Binary, Value::Int(value)) => radix(*value, |value| format!("{value:b}")),
        (Clause::Binary, Value::Uint(value)) => format!("{value:b}"),
        (Clause::Binary, Value::Bool(value)) => u8::from(*value).to_string(),
        (Clause::Octal, Value::Int(value)) => radix(*value, |value| format!("{value:o}")),
        (Clause::Octal, Value::Uint(value)) => format!("{value:o}"),
        (Clause::Hex { upper }, _) => {
            let text = match value {
                Value::Int(value) => radix(*value, |value| format!("{value:x}")),
                Value::Uint(value) => format!("{value:x}"),
                Value::String(text) => hex(text.as_bytes()),
                Value::Bytes(bytes) => hex(bytes),
                _ => return Err(mismatch()),
            };
            if *upper { text.to_uppercase() } else { text }
        }
        _ => return Err(mismatch()),
    };
    out.push_str(&text);
    Ok(())
}

fn radix(value: i64, show: fn(u64) -> String) -> String {
    format!("{}{}", if value < 0 { "-" } else { "" }, show(value.unsigned_abs()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The number of a clause for doubles, which also takes three texts.
fn double(value: &Value) -> Option<f64> {
    match value {
        Value::Double(value) => Some(*value),
        Value::String(text) => match &**text {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
}

fn not_finite(value: f64) -> Option<&'static str> {
    if value.is_nan() {
        Some("NaN")
    } else if value.is_infinite() {
        Some(if value > 0.0 { "∞" } else { "-∞" })
    } else {
        None
    }
}

/// With groups of three digits, as golang.org/x/text prints numbers in English.
fn fixed(value: f64, precision: usize) -> String {
    if let Some(text) = not_finite(value) {
        return text.to_owned();
    }
    let plain = format!("{:.precision$}", value.abs());
    let (whole, fraction) = plain
        .split_once('.')
        .map_or((&*plain, ""), |(whole, fraction)| (whole, fraction));
    let mut out = String::new();
    if value.is_sign_negative() && value != 0.0 {
        out.push('-');
    }
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    if !fraction.is_empty() {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

/// `1.052033 × 10⁰³`, with narrow spaces that do not break.
fn scientific(value: f64, precision: usize) -> String {
    if let Some(text) = not_finite(value) {
        return text.to_owned();
    }
    let plain = format!("{value:.precision$e}");
    let (digits, exponent) = plain.split_once('e').unwrap_or((&plain, "0"));
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(exponent) => ("\u{207b}", exponent),
        None => ("", exponent),
    };
    let raised: String = format!("{exponent:0>2}")
        .chars()
        .map(|digit| match digit {
            '1' => '\u{b9}',
            '2' => '\u{b2}',
            '3' => '\u{b3}',
            other => char::from_u32(0x2070 + other.to_digit(10).unwrap_or_default()).unwrap_or(other),
        })
        .collect();
    format!("{digits}\u{202f}\u{d7}\u{202f}10{sign}{raised}")
}

/// What `%s` shows.
fn show(value: &Value, out: &mut String) -> Result<(), String> {
    match value {
        Value::List(_) | Value::Map(_) => nested(value, out),
        Value::Bytes(bytes) => {
            let text = std::str::from_utf8(bytes);
            out.push_str(text.map_err(|_| "could not convert argument to string".to_owned())?);
            Ok(())
        }
        Value::Null
        | Value::Bool(_)
        | Value::Int(_)
        | Value::Uint(_)
        | Value::Double(_)
        | Value::String(_)
        | Value::Timestamp(_)
        | Value::Duration(_)
        | Value::Type(_) => {
            out.push_str(&value.to_string());
            Ok(())
        }
        _ => Err(Clause::Text.mismatch(value.type_of().runtime_name())),
    }
}

/// A value inside of a list or map, in which texts are quoted.
fn nested(value: &Value, out: &mut String) -> Result<(), String> {
    if out.len() > MAX_STRING_BYTES {
        return Err("string too large".to_owned());
    }
    match value {
        Value::List(list) => {
            out.push('[');
            for (index, value) in list.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                nested(&value.map_err(|error| error.to_string())?, out)?;
            }
            out.push(']');
        }
        Value::Map(map) => {
            let mut entries = Vec::new();
            for (key, value) in map.entries().map_err(|error| error.to_string())? {
                let key = match &key {
                    Key::String(text) => format!("{:?}", &**text),
                    other => other.value().to_string(),
                };
                let mut shown = String::new();
                nested(&value, &mut shown)?;
                entries.push((key, shown));
            }
            entries.sort();
            out.push('{');
            for (index, (key, value)) in entries.into_iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                out.push_str(&format!("{key}:{value}"));
            }
            out.push('}');
        }
        Value::String(text) => out.push_str(&format!("{:?}", &**text)),
        Value::Bytes(bytes) => out.push_str(&format!("b{:?}", String::from_utf8_lossy(bytes))),
        Value::Double(number) => match not_finite(*number) {
            Some(text) => out.push_str(&format!("{text:?}")),
            None => out.push_str(&format!("{number:.DEFAULT_PRECISION$}")),
        },
        Value::Timestamp(_) => out.push_str(&format!("timestamp(\"{value}\")")),
        Value::Duration(_) => out.push_str(&format!("duration(\"{value}\")")),
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Type(_) => show(value, out)?,
        _ => return Err(format!("no formatting function for {}", value.type_of().runtime_name())),
    }
    Ok(())
}
