//! `configmaps`.

use api::field::{Error, Path};
use api::{Value, validate};
use apiserver::Kind;
use apiserver::kind::Column;

use crate::{cells, tree};

/// The limit of a ConfigMap's or Secret's values together.
pub(crate) const MAX_BYTES: usize = 1024 * 1024;

pub(crate) fn kind() -> Kind {
    Kind::namespaced("", "v1", "ConfigMap", "configmaps")
        .short_names(&["cm"])
        .validate(contents)
        .validate_update(|new, old| {
            let mut errors = immutable(new, old, &["data", "binaryData"]);
            errors.extend(contents(new));
            errors
        })
        .table(
            vec![
                Column::name(),
                Column::string("Data", "Number of entries."),
                Column::age(),
            ],
            |map, now| {
                let size = cells::size(tree::map(map, "data")) + cells::size(tree::map(map, "binaryData"));
                vec![cells::name(map), size.into(), cells::age(map, now)]
            },
        )
}

fn contents(object: &Value) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut size = 0;
    for (key, value) in tree::entries(object, "data") {
        let path = Path::new("data").key(key);
        errors.extend(
            validate::config_map_key(key)
                .into_iter()
                .map(|text| Error::invalid(&path, key, text)),
        );
        if tree::map(object, "binaryData").is_some_and(|map| map.contains_key(key)) {
            errors.push(Error::invalid(&path, key, "duplicate of key present in binaryData"));
        }
        size += value.as_str().map_or(0, str::len);
    }
    for (key, value) in tree::entries(object, "binaryData") {
        let path = Path::new("binaryData").key(key);
        errors.extend(
            validate::config_map_key(key)
                .into_iter()
                .map(|text| Error::invalid(&path, key, text)),
        );
        size += decoded_len(value.as_str().unwrap_or(""));
    }
    if size > MAX_BYTES {
        // Upstream reports it at the empty path.
        errors.push(Error::too_long(&Path::root(), MAX_BYTES));
    }
    errors
}

/// The bytes that a base64 text stands for.
pub(crate) fn decoded_len(base64: &str) -> usize {
    let padding = base64.bytes().rev().take_while(|byte| *byte == b'=').count();
    (base64.len() * 3 / 4).saturating_sub(padding)
}

/// What an immutable ConfigMap or Secret refuses to change.
pub(crate) fn immutable(new: &Value, old: &Value, fields: &[&str]) -> Vec<Error> {
    if !tree::flag(old, "immutable") {
        return Vec::new();
    }
    let detail = "field is immutable when `immutable` is set";
    let mut errors = Vec::new();
    if !tree::flag(new, "immutable") {
        errors.push(Error::forbidden(&Path::new("immutable"), detail));
    }
    for field in fields {
        if !tree::same(new.get(*field), old.get(*field)) {
            errors.push(Error::forbidden(&Path::new(field), detail));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn immutable_refuses_data_and_nothing_else() {
        let old = json!({"immutable": true, "data": {"a": "1"}});
        let cases = [
            (
                json!({"immutable": true, "data": {"a": "1"}, "metadata": {"labels": {"x": "y"}}}),
                vec![],
            ),
            (json!({"immutable": true, "data": {"a": "2"}}), vec!["data"]),
            (json!({"data": {"a": "1"}}), vec!["immutable"]),
            (
                json!({"immutable": true, "data": {"a": "1"}, "binaryData": {"b": "AA=="}}),
                vec!["binaryData"],
            ),
        ];
        for (new, want) in cases {
            let errors = immutable(&new, &old, &["data", "binaryData"]);
            assert_eq!(
                errors.iter().map(|e| e.field.as_str()).collect::<Vec<_>>(),
                want,
                "{new}"
            );
        }
    }

    #[test]
    fn keys_and_size_are_checked() {
        let errors = contents(&json!({"data": {"a/b": "", "same": ""}, "binaryData": {"same": "AA=="}}));
        assert_eq!(
            errors.iter().map(|e| e.field.as_str()).collect::<Vec<_>>(),
            ["data[a/b]", "data[same]"]
        );
        let errors = contents(&json!({"data": {"a": "x".repeat(MAX_BYTES + 1)}}));
        assert_eq!(errors.len(), 1);
        assert_eq!(
            (decoded_len("AA=="), decoded_len("AAA="), decoded_len("AAAA")),
            (1, 2, 3)
        );
    }
}
