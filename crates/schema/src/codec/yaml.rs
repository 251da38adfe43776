//! YAML to tree and back: YAML becomes JSON first, as upstream's `sigs.k8s.io/yaml` does it.

mod emit;
mod plain;

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::options::DuplicateKeyPolicy;

use super::json::decode_value;
use super::{DecodeError, Decoded};
use crate::model::TypeRef;

pub use emit::to_string;

/// Deepest nesting that is read: the YAML reader takes over 20 KiB of stack a level in a debug
/// build, and a thread may have only 2 MiB. The deepest known custom resource definitions need 40.
const YAML_DEPTH: usize = 64;

/// Decodes one YAML document (or JSON, which is YAML) as `ty`.
///
/// # Errors
/// When the text is no YAML, nests or expands beyond reason, or as [`super::decode_json`].
pub fn decode_yaml(ty: TypeRef<'_>, bytes: &[u8]) -> Result<Decoded, DecodeError> {
    let tree = to_value(bytes)?;
    let mut decoded = decode_value(ty, &tree.value)?;
    decoded.strict.splice(0..0, tree.strict);
    Ok(decoded)
}

/// One YAML document as a tree, without any schema; `strict` names keys set twice.
///
/// # Errors
/// When the text is no YAML, or nests or expands beyond reason.
pub fn to_value(bytes: &[u8]) -> Result<Decoded, DecodeError> {
    let text = std::str::from_utf8(bytes).map_err(|_| DecodeError::Yaml("yaml: invalid UTF-8".to_owned()))?;
    match parse(text, DuplicateKeyPolicy::Error) {
        Ok(value) => Ok(Decoded {
            value,
            strict: Vec::new(),
        }),
        Err(error) => match duplicate(&error) {
            Some(strict) => {
                let value = parse(text, DuplicateKeyPolicy::LastWins).map_err(|e| yaml_error(&e))?;
                Ok(Decoded {
                    value,
                    strict: vec![strict],
                })
            }
            None => Err(yaml_error(&error)),
        },
    }
}

/// The documents of a stream, split at lines that begin with `---`; blank ones are left out.
pub fn documents(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let all = rest?;
        let (document, tail) = split_document(all);
        rest = tail;
        Some(document)
    })
    .filter(|document| {
        document.lines().any(|line| {
            let line = line.trim();
            !line.is_empty() && !line.starts_with('#')
        })
    })
}

fn split_document(text: &str) -> (&str, Option<&str>) {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let is_separator = line.strip_prefix("---").is_some_and(|rest| {
            rest.trim().is_empty() || rest.starts_with([' ', '\t']) && rest.trim().starts_with('#')
        });
        if is_separator {
            return (&text[..at], Some(&text[at + line.len()..]));
        }
        at += line.len();
    }
    (text, None)
}

fn parse(text: &str, duplicate_keys: DuplicateKeyPolicy) -> Result<Value, serde_saphyr::Error> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: YAML_DEPTH,
            max_documents: 1,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 100_000,
        },
        duplicate_keys: duplicate_keys,
        legacy_octal_numbers: true,
    };
    serde_saphyr::from_str_with_options::<Tree>(text, options).map(|tree| tree.0)
}

fn yaml_error(error: &serde_saphyr::Error) -> DecodeError {
    let text = error.without_snippet().to_string();
    let message = text.lines().next().unwrap_or_default();
    DecodeError::Yaml(match error.location() {
        Some(at) if !message.contains("line") => format!("yaml: line {}: {message}", at.line()),
        _ => format!("yaml: {message}"),
    })
}

fn duplicate(error: &serde_saphyr::Error) -> Option<String> {
    match error.without_snippet() {
        serde_saphyr::Error::DuplicateMappingKey { key, location } => {
            let key = key.as_deref().unwrap_or_default();
            Some(format!(
                "yaml: unmarshal errors:\n  line {}: key \"{key}\" already set in map",
                location.line()
            ))
        }
        _ => None,
    }
}

/// A tree read from whatever the YAML scalars turn out to be.
struct Tree(Value);

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor).map(Tree)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<Value, E> {
        if v.fract() == 0.0 && v.abs() < 9.0e15 {
            return Ok((v as i64).into());
        }
        Number::from_f64(v)
            .map(Value::Number)
            .ok_or_else(|| E::custom(format!("json: unsupported value: {v}")))
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_bytes<E>(self, v: &[u8]) -> Result<Value, E> {
        Ok(String::from_utf8_lossy(v).into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Tree(item)) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some((key, Tree(value))) = access.next_entry::<String, Tree>()? {
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}
