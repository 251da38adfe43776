//! The standard library (cel-go's common/stdlib/standard.go and common/types).

use jiff::tz::TimeZone;

use crate::error::EvalError;
use crate::function::{Body, Functions, Native};
use crate::limits::MAX_STRING_BYTES;
use crate::time::{self, Timestamp};
use crate::types::Type;
use crate::value::{Key, Map, Value};

use super::regex::is_match;

type Outcome = Result<Value, EvalError>;

fn no_overload<T>() -> Result<T, EvalError> {
    Err(EvalError::no_such_overload())
}

fn overflow(what: &str) -> EvalError {
    EvalError::new(format!("{what} overflow"))
}

fn checked<T>(value: Option<T>, make: fn(T) -> Value, what: &str) -> Outcome {
    value.map(make).ok_or_else(|| overflow(what))
}

const INTEGER: &str = "integer";
const UNSIGNED: &str = "unsigned integer";
const DURATION: &str = "duration";
const TIMESTAMP: &str = "timestamp";

/// `+`
pub(super) fn add(arguments: &[Value]) -> Outcome {
    match arguments {
        [Value::Int(one), Value::Int(two)] => checked(one.checked_add(*two), Value::Int, INTEGER),
        [Value::Uint(one), Value::Uint(two)] => checked(one.checked_add(*two), Value::Uint, UNSIGNED),
        [Value::Double(one), Value::Double(two)] => Ok(Value::Double(one + two)),
        [Value::String(one), Value::String(two)] => {
            if one.len() + two.len() > MAX_STRING_BYTES {
                return Err(EvalError::too_large("string"));
            }
            Ok(Value::string(format!("{one}{two}")))
        }
        [Value::Bytes(one), Value::Bytes(two)] => {
            if one.len() + two.len() > MAX_STRING_BYTES {
                return Err(EvalError::too_large("bytes"));
            }
            Ok(Value::Bytes([&**one, &**two].concat().into()))
        }
        [Value::List(one), Value::List(two)] => crate::value::add_lists(one, two).map(Value::List),
        [Value::Duration(one), Value::Duration(two)] => checked(one.checked_add(*two), Value::Duration, DURATION),
        [Value::Timestamp(moment), Value::Duration(span)] | [Value::Duration(span), Value::Timestamp(moment)] => {
            checked(moment.plus(*span), Value::Timestamp, TIMESTAMP)
        }
        _ => no_overload(),
    }
}

fn subtract(arguments: &[Value]) -> Outcome {
    match arguments {
        [Value::Int(one), Value::Int(two)] => checked(one.checked_sub(*two), Value::Int, INTEGER),
        [Value::Uint(one), Value::Uint(two)] => checked(one.checked_sub(*two), Value::Uint, UNSIGNED),
        [Value::Double(one), Value::Double(two)] => Ok(Value::Double(one - two)),
        [Value::Duration(one), Value::Duration(two)] => checked(one.checked_sub(*two), Value::Duration, DURATION),
        [Value::Timestamp(moment), Value::Duration(span)] => {
            let span = span.checked_neg().ok_or_else(|| overflow(TIMESTAMP))?;
            checked(moment.plus(span), Value::Timestamp, TIMESTAMP)
        }
        [Value::Timestamp(one), Value::Timestamp(two)] => checked(
            i64::try_from(one.nanoseconds() - two.nanoseconds()).ok(),
            Value::Duration,
            DURATION,
        ),
        _ => no_overload(),
    }
}

fn multiply(arguments: &[Value]) -> Outcome {
    match arguments {
        [Value::Int(one), Value::Int(two)] => checked(one.checked_mul(*two), Value::Int, INTEGER),
        [Value::Uint(one), Value::Uint(two)] => checked(one.checked_mul(*two), Value::Uint, UNSIGNED),
        [Value::Double(one), Value::Double(two)] => Ok(Value::Double(one * two)),
        _ => no_overload(),
    }
}

fn divide(arguments: &[Value]) -> Outcome {
    match arguments {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => Err(EvalError::new("division by zero")),
        [Value::Int(one), Value::Int(two)] => checked(one.checked_div(*two), Value::Int, INTEGER),
        [Value::Uint(one), Value::Uint(two)] => Ok(Value::Uint(one / two)),
        [Value::Double(one), Value::Double(two)] => Ok(Value::Double(one / two)),
        _ => no_overload(),
    }
}

fn modulo(arguments: &[Value]) -> Outcome {
    match arguments {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => Err(EvalError::new("modulus by zero")),
        [Value::Int(one), Value::Int(two)] => checked(one.checked_rem(*two), Value::Int, INTEGER),
        [Value::Uint(one), Value::Uint(two)] => Ok(Value::Uint(one % two)),
        _ => no_overload(),
    }
}

fn negate(arguments: &[Value]) -> Outcome {
    match arguments {
        [Value::Int(value)] => checked(value.checked_neg(), Value::Int, INTEGER),
        [Value::Double(value)] => Ok(Value::Double(-value)),
        _ => no_overload(),
    }
}

fn compare(arguments: &[Value], wanted: fn(std::cmp::Ordering) -> bool) -> Outcome {
    match arguments {
        [one, two] => Ok(Value::Bool(wanted(one.compare(two)?))),
        _ => no_overload(),
    }
}

fn is_in(arguments: &[Value]) -> Outcome {
    match arguments {
        [value, Value::List(list)] => {
            let mut fuel = crate::value::Fuel::new();
            for element in list.iter() {
                if element?.equals_within(value, &mut fuel)? {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        }
        [value, Value::Map(map)] => match Key::lookup(value) {
            Some(key) => Ok(Value::Bool(map.find(&key).transpose()?.is_some())),
            None => Ok(Value::Bool(false)),
        },
        _ => no_overload(),
    }
}

fn size(arguments: &[Value]) -> Outcome {
    match arguments {
        [value @ (Value::String(_) | Value::Bytes(_) | Value::List(_) | Value::Map(_))] => {
            Ok(Value::Int(value.sized().unwrap_or_default() as i64))
        }
        _ => Err(EvalError::no_such_overload_of("size", arguments)),
    }
}

fn not_convertible(value: &Value, to: &str) -> EvalError {
    EvalError::new(format!(
        "type conversion error from '{}' to '{to}'",
        value.type_of().runtime_name()
    ))
}

/// `type(x)`: values of JSON are of the type that they are looked at as.
fn type_of(arguments: &[Value]) -> Outcome {
    match arguments {
        [value] => Ok(Value::Type(value.type_of())),
        _ => no_overload(),
    }
}

fn to_bool(arguments: &[Value]) -> Outcome {
    match arguments {
        [value @ Value::Bool(_)] => Ok(value.clone()),
        [value @ Value::String(text)] => match &**text {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(Value::Bool(false)),
            _ => Err(not_convertible(value, "bool")),
        },
        _ => no_overload(),
    }
}

fn to_bytes(arguments: &[Value]) -> Outcome {
    match arguments {
        [value @ Value::Bytes(_)] => Ok(value.clone()),
        [Value::String(text)] => Ok(Value::Bytes(text.as_bytes().into())),
        _ => no_overload(),
    }
}

/// Go's `strconv.ParseFloat`.
fn parse_double(text: &str) -> Option<f64> {
    let unsigned = text.trim_start_matches(['+', '-']);
    if unsigned.eq_ignore_ascii_case("infinity")
        || unsigned.eq_ignore_ascii_case("inf")
        || unsigned.eq_ignore_ascii_case("nan")
    {
        return text.parse().ok();
    }
    let value: f64 = text.parse().ok()?;
    value.is_finite().then_some(value)
}

fn to_double(arguments: &[Value]) -> Outcome {
    match arguments {
        [value @ Value::Double(_)] => Ok(value.clone()),
        [Value::Int(value)] => Ok(Value::Double(*value as f64)),
        [Value::Uint(value)] => Ok(Value::Double(*value as f64)),
        [value @ Value::String(text)] => parse_double(text)
            .map(Value::Double)
            .ok_or_else(|| not_convertible(value, "double")),
        _ => no_overload(),
    }
}

fn to_duration(arguments: &[Value]) -> Outcome {
    match arguments {
        [value @ Value::Duration(_)] => Ok(value.clone()),
        [value @ Value::String(text)] => time::parse_duration(text)
            .map(Value::Duration)
            .ok_or_else(|| not_convertible(value, "google.protobuf.Duration")),
        _ => no_overload(),
    }
}

const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;

fn to_int(arguments: &[Value]) -> Outcome {
    match arguments {
        [value @ Value::Int(_)] => Ok(value.clone()),
        [Value::Uint(value)] => checked(i64::try_from(*value).ok(), Value::Int, INTEGER),
        [Value::Double(value)] if *value > -TWO_TO_63 && *value < TWO_TO_63 => Ok(Value::Int(*value as i64)),
        [Value::Double(_)] => Err(overflow(INTEGER)),
        [Value::Duration(nanos)] => Ok(Value::Int(*nanos)),
        [Value::Timestamp(moment)] => Ok(Value::Int(moment.seconds())),
        [value @ Value::String(text)] => go_digits(text, true)
            .and_then(|text| text.parse().ok())
            .map(Value::Int)
            .ok_or_else(|| not_convertible(value, "int")),
        _ => no_overload(),
    }
}

/// A number as Go's `strconv.ParseInt` takes it: no spaces, one sign at most.
fn go_digits(text: &str, signed: bool) -> Option<&str> {
    let digits = if signed {
        text.strip_prefix(['-', '+']).unwrap_or(text)
    } else {
        text
    };
    (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())).then_some(text)
}

fn to_uint(arguments: &[Value]) -> Outcome {
    match arguments {
        [value @ Value::Uint(_)] => Ok(value.clone()),
        [Value::Int(value)] => checked(u64::try_from(*value).ok(), Value::Uint, UNSIGNED),
        [Value::Double(value)] if *value >= 0.0 && *value < 2.0 * TWO_TO_63 => Ok(Value::Uint(*value as u64)),
        [Value::Double(_)] => Err(overflow(UNSIGNED)),
        [value @ Value::String(text)] => go_digits(text, false)
            .and_then(|text| text.parse().ok())
            .map(Value::Uint)
            .ok_or_else(|| not_convertible(value, "uint")),
        _ => no_overload(),
    }
}

/// `string(x)`
pub(super) fn to_string(arguments: &[Value]) -> Outcome {
    match arguments {
        [value @ Value::String(_)] => Ok(value.clone()),
        [
            value @ (Value::Bool(_)
            | Value::Int(_)
            | Value::Uint(_)
            | Value::Double(_)
            | Value::Timestamp(_)
            | Value::Duration(_)),
        ] => Ok(Value::string(value.to_string())),
        [Value::Bytes(bytes)] => match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Value::string(text)),
            Err(_) => Err(EvalError::new("invalid UTF-8 in bytes, cannot convert to string")),
        },
        _ => no_overload(),
    }
}

fn to_timestamp(arguments: &[Value]) -> Outcome {
    match arguments {
        [value @ Value::Timestamp(_)] => Ok(value.clone()),
        [Value::Int(seconds)] => checked(Timestamp::new(*seconds, 0), Value::Timestamp, TIMESTAMP),
        [value @ Value::String(text)] => match time::parse_rfc3339(text) {
            Some((seconds, nanos, offset)) => {
                checked(Timestamp::new(seconds, nanos), Value::Timestamp, TIMESTAMP).map(|value| match value {
                    Value::Timestamp(at) => Value::Timestamp(at.with_offset(offset)),
                    other => other,
                })
            }
            None => Err(not_convertible(value, "google.protobuf.Timestamp")),
        },
        _ => no_overload(),
    }
}

fn on_texts(arguments: &[Value], test: fn(&str, &str) -> bool) -> Outcome {
    match arguments {
        [Value::String(one), Value::String(two)] => Ok(Value::Bool(test(one, two))),
        _ => no_overload(),
    }
}

/// A part of a moment in a zone, UTC when none is given.
fn civil(arguments: &[Value], part: fn(jiff::civil::DateTime) -> i64) -> Outcome {
    let (moment, zone) = match arguments {
        [Value::Timestamp(moment)] => (moment, TimeZone::UTC),
        [Value::Timestamp(moment), Value::String(zone)] => (moment, time::zone(zone).map_err(EvalError::new)?),
        _ => return no_overload(),
    };
    Ok(Value::Int(part(moment.civil(&zone))))
}

/// A part of a moment, or a duration in units of so many nanoseconds.
fn clock(arguments: &[Value], part: fn(jiff::civil::DateTime) -> i64, unit: i64) -> Outcome {
    match arguments {
        [Value::Duration(nanos)] => Ok(Value::Int(nanos / unit)),
        _ => civil(arguments, part),
    }
}

fn map_insert(arguments: &[Value]) -> Outcome {
    let (mut map, entries): (Map, Vec<(Key, Value)>) = match arguments {
        [Value::Map(map), key, value] => {
            let key = Key::of(key).ok_or_else(|| EvalError::new("unsupported key type"))?;
            (map.clone(), vec![(key, value.clone())])
        }
        [Value::Map(map), Value::Map(update)] => (map.clone(), update.entries()?),
        _ => return no_overload(),
    };
    for (key, value) in entries {
        let shown = key.value();
        if !map.insert(key, value)? {
            return Err(EvalError::new(format!("insert failed: key {shown} already exists")));
        }
    }
    Ok(Value::Map(map))
}

/// Declares what comprehensions over two variables make maps with.
pub(super) fn declare_map_insert(functions: &mut Functions) {
    functions.native(
        "cel.@mapInsert",
        "@mapInsert_map_key_value",
        "(map(K,V),K,V):map(K,V)",
        map_insert,
    );
    functions.native(
        "cel.@mapInsert",
        "@mapInsert_map_map",
        "(map(K,V),map(K,V)):map(K,V)",
        map_insert,
    );
}

/// Overloads of one operator: identifier, types of the operands, type of the result.
type Operators = &'static [(&'static str, Native, &'static [(&'static str, &'static str)])];

const ARITHMETIC: Operators = &[
    (
        "_+_",
        add,
        &[
            ("add_bytes", "(bytes,bytes):bytes"),
            ("add_double", "(double,double):double"),
            ("add_duration_duration", "(duration,duration):duration"),
            ("add_duration_timestamp", "(duration,timestamp):timestamp"),
            ("add_timestamp_duration", "(timestamp,duration):timestamp"),
            ("add_int64", "(int,int):int"),
            ("add_list", "(list(A),list(A)):list(A)"),
            ("add_string", "(string,string):string"),
            ("add_uint64", "(uint,uint):uint"),
        ],
    ),
    (
        "_/_",
        divide,
        &[
            ("divide_double", "(double,double):double"),
            ("divide_int64", "(int,int):int"),
            ("divide_uint64", "(uint,uint):uint"),
        ],
    ),
    (
        "_%_",
        modulo,
        &[("modulo_int64", "(int,int):int"), ("modulo_uint64", "(uint,uint):uint")],
    ),
    (
        "_*_",
        multiply,
        &[
            ("multiply_double", "(double,double):double"),
            ("multiply_int64", "(int,int):int"),
            ("multiply_uint64", "(uint,uint):uint"),
        ],
    ),
    (
        "-_",
        negate,
        &[("negate_double", "(double):double"), ("negate_int64", "(int):int")],
    ),
    (
        "_-_",
        subtract,
        &[
            ("subtract_double", "(double,double):double"),
            ("subtract_duration_duration", "(duration,duration):duration"),
            ("subtract_int64", "(int,int):int"),
            ("subtract_timestamp_duration", "(timestamp,duration):timestamp"),
            ("subtract_timestamp_timestamp", "(timestamp,timestamp):duration"),
            ("subtract_uint64", "(uint,uint):uint"),
        ],
    ),
    (
        "@in",
        is_in,
        &[("in_list", "(A,list(A)):bool"), ("in_map", "(A,map(A,B)):bool")],
    ),
];

const ORDERED: &[(&str, &str)] = &[
    ("bool", "(bool,bool):bool"),
    ("int64", "(int,int):bool"),
    ("int64_double", "(int,double):bool"),
    ("int64_uint64", "(int,uint):bool"),
    ("uint64", "(uint,uint):bool"),
    ("uint64_double", "(uint,double):bool"),
    ("uint64_int64", "(uint,int):bool"),
    ("double", "(double,double):bool"),
    ("double_int64", "(double,int):bool"),
    ("double_uint64", "(double,uint):bool"),
    ("string", "(string,string):bool"),
    ("bytes", "(bytes,bytes):bool"),
    ("timestamp", "(timestamp,timestamp):bool"),
    ("duration", "(duration,duration):bool"),
];

const CONVERSIONS: Operators = &[
    ("type", type_of, &[("type", "(A):type(A)")]),
    (
        "bool",
        to_bool,
        &[("bool_to_bool", "(bool):bool"), ("string_to_bool", "(string):bool")],
    ),
    (
        "bytes",
        to_bytes,
        &[
            ("bytes_to_bytes", "(bytes):bytes"),
            ("string_to_bytes", "(string):bytes"),
        ],
    ),
    (
        "double",
        to_double,
        &[
            ("double_to_double", "(double):double"),
            ("int64_to_double", "(int):double"),
            ("string_to_double", "(string):double"),
            ("uint64_to_double", "(uint):double"),
        ],
    ),
    (
        "duration",
        to_duration,
        &[
            ("duration_to_duration", "(duration):duration"),
            ("string_to_duration", "(string):duration"),
        ],
    ),
    (
        "int",
        to_int,
        &[
            ("int64_to_int64", "(int):int"),
            ("double_to_int64", "(double):int"),
            ("duration_to_int64", "(duration):int"),
            ("string_to_int64", "(string):int"),
            ("timestamp_to_int64", "(timestamp):int"),
            ("uint64_to_int64", "(uint):int"),
        ],
    ),
    (
        "string",
        to_string,
        &[
            ("string_to_string", "(string):string"),
            ("bool_to_string", "(bool):string"),
            ("bytes_to_string", "(bytes):string"),
            ("double_to_string", "(double):string"),
            ("duration_to_string", "(duration):string"),
            ("int64_to_string", "(int):string"),
            ("timestamp_to_string", "(timestamp):string"),
            ("uint64_to_string", "(uint):string"),
        ],
    ),
    (
        "timestamp",
        to_timestamp,
        &[
            ("timestamp_to_timestamp", "(timestamp):timestamp"),
            ("int64_to_timestamp", "(int):timestamp"),
            ("string_to_timestamp", "(string):timestamp"),
        ],
    ),
    (
        "uint",
        to_uint,
        &[
            ("uint64_to_uint64", "(uint):uint"),
            ("double_to_uint64", "(double):uint"),
            ("int64_to_uint64", "(int):uint"),
            ("string_to_uint64", "(string):uint"),
        ],
    ),
    (
        "size",
        size,
        &[
            ("size_bytes", "(bytes):int"),
            ("bytes_size", ".(bytes):int"),
            ("size_list", "(list(A)):int"),
            ("list_size", ".(list(A)):int"),
            ("size_map", "(map(A,B)):int"),
            ("map_size", ".(map(A,B)):int"),
            ("size_string", "(string):int"),
            ("string_size", ".(string):int"),
        ],
    ),
];

/// Declares the standard library.
pub(crate) fn declare(functions: &mut Functions) {
    for (name, native, overloads) in ARITHMETIC.iter().chain(CONVERSIONS) {
        for (id, signature) in *overloads {
            functions.native(name, *id, signature, *native);
        }
    }
    let orders: [(&'static str, &str, Native); 4] = [
        ("_<_", "less", |a| compare(a, std::cmp::Ordering::is_lt)),
        ("_<=_", "less_equals", |a| compare(a, std::cmp::Ordering::is_le)),
        ("_>_", "greater", |a| compare(a, std::cmp::Ordering::is_gt)),
        ("_>=_", "greater_equals", |a| compare(a, std::cmp::Ordering::is_ge)),
    ];
    for (name, prefix, native) in orders {
        for (id, signature) in ORDERED {
            functions.native(name, format!("{prefix}_{id}"), signature, native);
        }
    }
    functions.native("dyn", "to_dyn", "(A):dyn", |a| {
        a.first().cloned().ok_or_else(EvalError::no_such_overload)
    });
    functions.native("!_", "logical_not", "(bool):bool", |a| match a {
        [Value::Bool(value)] => Ok(Value::Bool(!value)),
        _ => no_overload(),
    });
    for (name, id, signature) in [
        ("_?_:_", "conditional", "(bool,A,A):A"),
        ("_&&_", "logical_and", "(bool,bool):bool"),
        ("_||_", "logical_or", "(bool,bool):bool"),
        ("@not_strictly_false", "not_strictly_false", "(bool):bool"),
        ("_==_", "equals", "(A,A):bool"),
        ("_!=_", "not_equals", "(A,A):bool"),
        ("_[_]", "index_list", "(list(A),int):A"),
        ("_[_]", "index_map", "(map(A,B),A):B"),
    ] {
        functions.add(name, id, signature, Body::Special);
    }
    let texts = ".(string,string):bool";
    functions.native("contains", "contains_string", texts, |a| {
        on_texts(a, |one, two| one.contains(two))
    });
    functions.native("startsWith", "starts_with_string", texts, |a| {
        on_texts(a, |one, two| one.starts_with(two))
    });
    functions.native("endsWith", "ends_with_string", texts, |a| {
        on_texts(a, |one, two| one.ends_with(two))
    });
    functions.add("matches", "matches", "(string,string):bool", Body::Regex(is_match));
    functions.add("matches", "matches_string", texts, Body::Regex(is_match));
    declare_time(functions);
}

fn declare_time(functions: &mut Functions) {
    let parts: [(&'static str, &str, Native); 10] = [
        ("getFullYear", "year", |a| civil(a, |at| at.year().into())),
        ("getMonth", "month", |a| civil(a, |at| i64::from(at.month()) - 1)),
        ("getDayOfYear", "day_of_year", |a| {
            civil(a, |at| i64::from(at.day_of_year()) - 1)
        }),
        ("getDayOfMonth", "day_of_month", |a| {
            civil(a, |at| i64::from(at.day()) - 1)
        }),
        ("getDate", "day_of_month_1_based", |a| civil(a, |at| at.day().into())),
        ("getDayOfWeek", "day_of_week", |a| {
            civil(a, |at| at.weekday().to_sunday_zero_offset().into())
        }),
        ("getHours", "hours", |a| {
            clock(a, |at| at.hour().into(), 3_600_000_000_000)
        }),
        ("getMinutes", "minutes", |a| {
            clock(a, |at| at.minute().into(), 60_000_000_000)
        }),
        ("getSeconds", "seconds", |a| {
            clock(a, |at| at.second().into(), 1_000_000_000)
        }),
        ("getMilliseconds", "milliseconds", |a| {
            clock(a, |at| i64::from(at.subsec_nanosecond()) / 1_000_000, 1_000_000)
        }),
    ];
    for (name, id, native) in parts {
        functions.native(name, format!("timestamp_to_{id}"), ".(timestamp):int", native);
        functions.native(
            name,
            format!("timestamp_to_{id}_with_tz"),
            ".(timestamp,string):int",
            native,
        );
        if matches!(id, "hours" | "minutes" | "seconds" | "milliseconds") {
            functions.native(name, format!("duration_to_{id}"), ".(duration):int", native);
        }
    }
}

/// Types that have a name in expressions.
pub(crate) fn named_type(name: &str) -> Option<Type> {
    Some(match name {
        "bool" => Type::Bool,
        "bytes" => Type::Bytes,
        "double" => Type::Double,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "string" => Type::String,
        "null_type" => Type::Null,
        "google.protobuf.Timestamp" => Type::Timestamp,
        "google.protobuf.Duration" => Type::Duration,
        "list" => Type::list(Type::param("A")),
        "map" => Type::map(Type::param("A"), Type::param("B")),
        "type" => Type::Type(None),
        _ => return None,
    })
}
