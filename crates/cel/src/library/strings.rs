//! The `strings` extension in version 2 (cel-go's ext/strings.go). Positions count characters.

use crate::error::EvalError;
use crate::function::Functions;
use crate::limits::MAX_STRING_BYTES;
use crate::value::Value;

use super::strings_format::format;

type Outcome = Result<Value, EvalError>;

fn no_overload<T>() -> Result<T, EvalError> {
    Err(EvalError::no_such_overload())
}

fn out_of_range(index: i64) -> EvalError {
    EvalError::new(format!("index out of range: {index}"))
}

/// The byte at which a character begins; the text's end for one past its last character.
fn byte_at(text: &str, index: i64) -> Option<usize> {
    let index = usize::try_from(index).ok()?;
    text.char_indices().map(|(at, _)| at).chain([text.len()]).nth(index)
}

fn char_at(arguments: &[Value]) -> Outcome {
    let [Value::String(text), Value::Int(index)] = arguments else {
        return no_overload();
    };
    let at = byte_at(text, *index).ok_or_else(|| out_of_range(*index))?;
    Ok(text[at..]
        .chars()
        .next()
        .map_or_else(|| Value::from(""), |c| Value::string(c.to_string())))
}

fn index_of(arguments: &[Value]) -> Outcome {
    let (text, part, offset) = match arguments {
        [Value::String(text), Value::String(part)] => (text, part, 0),
        [Value::String(text), Value::String(part), Value::Int(offset)] => (text, part, *offset),
        // The function is Kubernetes' lists' too.
        _ => return no_overload(),
    };
    if offset < 0 {
        return Err(out_of_range(offset));
    }
    let Some(start) = byte_at(text, offset) else {
        let length = text.chars().count() as i64;
        return Ok(Value::Int(if part.is_empty() { length } else { -1 }));
    };
    Ok(Value::Int(text[start..].find(&**part).map_or(-1, |at| {
        offset + text[start..start + at].chars().count() as i64
    })))
}

fn last_index_of(arguments: &[Value]) -> Outcome {
    let (text, part, offset) = match arguments {
        [Value::String(text), Value::String(part)] => (text, part, None),
        [Value::String(text), Value::String(part), Value::Int(offset)] => (text, part, Some(*offset)),
        _ => return no_overload(),
    };
    let length = text.chars().count() as i64;
    if let Some(offset) = offset.filter(|offset| *offset < 0) {
        return Err(out_of_range(offset));
    }
    if part.is_empty() {
        return Ok(Value::Int(offset.map_or(length, |offset| offset.min(length))));
    }
    let offset = offset.unwrap_or(length - 1);
    if offset >= length {
        return Ok(Value::Int(-1));
    }
    // A match may start at the offset at the latest.
    let start = byte_at(text, offset.max(0)).unwrap_or(text.len());
    let end = (start + part.len()).min(text.len());
    let mut end = end;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let found = text[..end].rfind(&**part).filter(|at| *at <= start);
    Ok(Value::Int(found.map_or(-1, |at| text[..at].chars().count() as i64)))
}

fn on_text(arguments: &[Value], make: fn(&str) -> String) -> Outcome {
    match arguments {
        [Value::String(text)] => Ok(Value::string(make(text))),
        _ => no_overload(),
    }
}

fn replace(arguments: &[Value]) -> Outcome {
    let (text, old, new, limit) = match arguments {
        [Value::String(text), Value::String(old), Value::String(new)] => (text, old, new, -1),
        [
            Value::String(text),
            Value::String(old),
            Value::String(new),
            Value::Int(limit),
        ] => (text, old, new, *limit),
        _ => return no_overload(),
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let count = text.matches(&**old).take(limit).count();
    if text.len().saturating_add(count.saturating_mul(new.len())) > MAX_STRING_BYTES {
        return Err(EvalError::too_large("string"));
    }
    Ok(Value::string(text.replacen(&**old, new, limit)))
}

fn split(arguments: &[Value]) -> Outcome {
    let (text, separator, limit) = match arguments {
        [Value::String(text), Value::String(separator)] => (text, separator, -1),
        [Value::String(text), Value::String(separator), Value::Int(limit)] => (text, separator, *limit),
        _ => return no_overload(),
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let parts: Vec<Value> = if limit == 0 {
        Vec::new()
    } else if separator.is_empty() {
        let mut parts: Vec<Value> = Vec::new();
        let mut rest: &str = text;
        while let Some(character) = rest.chars().next() {
            if parts.len() + 1 == limit {
                parts.push(rest.into());
                break;
            }
            let (one, after) = rest.split_at(character.len_utf8());
            parts.push(one.into());
            rest = after;
        }
        parts
    } else {
        text.splitn(limit, &**separator).map(Value::from).collect()
    };
    Ok(Value::list(parts))
}

fn substring(arguments: &[Value]) -> Outcome {
    match arguments {
        [Value::String(text), Value::Int(start)] => {
            let start = byte_at(text, *start).ok_or_else(|| out_of_range(*start))?;
            Ok(text[start..].into())
        }
        [Value::String(text), Value::Int(start), Value::Int(end)] => {
            if start > end {
                return Err(EvalError::new(format!(
                    "invalid substring range. start: {start}, end: {end}"
                )));
            }
            let from = byte_at(text, *start).ok_or_else(|| out_of_range(*start))?;
            let to = byte_at(text, *end).ok_or_else(|| out_of_range(*end))?;
            Ok(text[from..to].into())
        }
        _ => no_overload(),
    }
}

fn join(arguments: &[Value]) -> Outcome {
    let (list, separator) = match arguments {
        [Value::List(list)] => (list, ""),
        [Value::List(list), Value::String(separator)] => (list, &**separator),
        _ => return no_overload(),
    };
    let mut joined = String::new();
    for (index, value) in list.iter().enumerate() {
        if index > 0 {
            joined.push_str(separator);
        }
        match value? {
            Value::String(text) => joined.push_str(&text),
            other => return Err(EvalError::new(format!("join: invalid input: {other}"))),
        }
        if joined.len() > MAX_STRING_BYTES {
            return Err(EvalError::too_large("string"));
        }
    }
    Ok(Value::string(joined))
}

fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '\x07' => quoted.push_str("\\a"),
            '\x08' => quoted.push_str("\\b"),
            '\x0c' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\x0b' => quoted.push_str("\\v"),
            '\\' => quoted.push_str("\\\\"),
            '"' => quoted.push_str("\\\""),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

/// Declares the extension.
pub(super) fn declare(functions: &mut Functions) {
    functions.native("charAt", "string_char_at_int", ".(string,int):string", char_at);
    functions.native("indexOf", "string_index_of_string", ".(string,string):int", index_of);
    functions.native(
        "indexOf",
        "string_index_of_string_int",
        ".(string,string,int):int",
        index_of,
    );
    functions.native(
        "lastIndexOf",
        "string_last_index_of_string",
        ".(string,string):int",
        last_index_of,
    );
    functions.native(
        "lastIndexOf",
        "string_last_index_of_string_int",
        ".(string,string,int):int",
        last_index_of,
    );
    functions.native("lowerAscii", "string_lower_ascii", ".(string):string", |a| {
        on_text(a, str::to_ascii_lowercase)
    });
    functions.native("upperAscii", "string_upper_ascii", ".(string):string", |a| {
        on_text(a, str::to_ascii_uppercase)
    });
    functions.native("trim", "string_trim", ".(string):string", |a| {
        on_text(a, |text| text.trim().to_owned())
    });
    functions.native(
        "replace",
        "string_replace_string_string",
        ".(string,string,string):string",
        replace,
    );
    functions.native(
        "replace",
        "string_replace_string_string_int",
        ".(string,string,string,int):string",
        replace,
    );
    functions.native("split", "string_split_string", ".(string,string):list(string)", split);
    functions.native(
        "split",
        "string_split_string_int",
        ".(string,string,int):list(string)",
        split,
    );
    functions.native("substring", "string_substring_int", ".(string,int):string", substring);
    functions.native(
        "substring",
        "string_substring_int_int",
        ".(string,int,int):string",
        substring,
    );
    functions.native("join", "list_join", ".(list(string)):string", join);
    functions.native("join", "list_join_string", ".(list(string),string):string", join);
    functions.native("strings.quote", "strings_quote", "(string):string", |a| {
        on_text(a, quote)
    });
    functions.native("format", "string_format", ".(string,list(dyn)):string", |a| match a {
        [Value::String(text), Value::List(list)] => format(text, list),
        _ => no_overload(),
    });
}

/// Declares the escaping of keys in the paths of JSON patches (k8s.io/apiserver/pkg/cel/library/jsonpatch.go).
pub(super) fn declare_json_patch(functions: &mut Functions) {
    functions.native(
        "jsonpatch.escapeKey",
        "string_jsonpatch_escapeKey_string",
        "(string):string",
        |a| on_text(a, |text| text.replace('~', "~0").replace('/', "~1")),
    );
}
