//! `secrets`.

use api::field::{Error, Path};
use api::{Value, meta, validate};
use apiserver::Kind;
use apiserver::kind::{Column, SelectableField};

use super::config_map::{MAX_BYTES, decoded_len, immutable};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::{cells, checks, tree};

/// The type of a secret that holds a service account's token.
pub const SERVICE_ACCOUNT_TOKEN: &str = "kubernetes.io/service-account-token";
const SERVICE_ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";

pub(crate) fn kind() -> Kind {
    Kind::namespaced("", "v1", "Secret", "secrets")
        .default(|secret| {
            tree::fill(secret, "type", "Opaque");
            merge_string_data(secret);
        })
        .prepare_update(|_, new, old| {
            // The type never changes; clients that do not send one mean the old.
            if tree::is_unset(new, "type") {
                tree::keep(new, old, "type");
            }
        })
        .validate(contents)
        .validate_update(|new, old| {
            let mut errors = checks::immutable(new, old, "type", &Path::new("type"));
            errors.extend(immutable(new, old, &["data"]));
            errors.extend(contents(new));
            errors
        })
        .warnings(|new, _| key_pair_warning(new).into_iter().collect())
        .selectable(SelectableField::path("type"))
        .table(
            vec![
                Column::name(),
                Column::string("Type", "What the secret is for."),
                Column::string("Data", "Number of entries."),
                Column::age(),
            ],
            |secret, now| {
                let size = cells::size(tree::map(secret, "data"));
                vec![
                    cells::name(secret),
                    tree::text(secret, "type").into(),
                    size.into(),
                    cells::age(secret, now),
                ]
            },
        )
}

/// `stringData` is for writing only: it is encoded into `data` and never stored.
fn merge_string_data(secret: &mut Value) {
    let Some(strings) = tree::map(secret, "stringData").cloned() else {
        tree::unset(secret, "stringData");
        return;
    };
    tree::unset(secret, "stringData");
    let data = tree::object(tree::child(secret, "data"));
    for (key, value) in strings {
        data.insert(key, STANDARD.encode(value.as_str().unwrap_or("")).into());
    }
}

/// A TLS secret without certificate or key in PEM form, in Go's words. Whether a key belongs to its
/// certificate is not looked at.
fn key_pair_warning(secret: &Value) -> Option<String> {
    if tree::text(secret, "type") != "kubernetes.io/tls" {
        return None;
    }
    let has_pem = |key: &str| {
        let encoded = tree::map(secret, "data")
            .and_then(|data| data.get(key)?.as_str())
            .unwrap_or("");
        let text = STANDARD.decode(encoded).unwrap_or_default();
        String::from_utf8_lossy(&text).contains("-----BEGIN ")
    };
    let missing = ["certificate", "key"]
        .into_iter()
        .zip(["tls.crt", "tls.key"])
        .find(|(_, key)| !has_pem(key));
    missing.map(|(what, _)| format!("tls: failed to find any PEM data in {what} input"))
}

fn contents(secret: &Value) -> Vec<Error> {
    let path = Path::new("data");
    let mut errors = Vec::new();
    let mut size = 0;
    for (key, value) in tree::entries(secret, "data") {
        errors.extend(checks::invalid_each(&path.key(key), key, validate::config_map_key(key)));
        size += decoded_len(value.as_str().unwrap_or(""));
    }
    if size > MAX_BYTES {
        errors.push(Error::too_long(&path, MAX_BYTES));
    }
    errors.extend(contents_of_type(secret, &path));
    errors
}

fn contents_of_type(secret: &Value, path: &Path) -> Vec<Error> {
    let data = tree::map(secret, "data");
    let has = |key: &str| data.is_some_and(|data| data.contains_key(key));
    let missing = |keys: &[&str]| -> Vec<Error> {
        let keys = keys.iter().filter(|key| !has(key));
        keys.map(|key| Error::required(&path.key(key), "")).collect()
    };
    match tree::text(secret, "type") {
        SERVICE_ACCOUNT_TOKEN if meta::annotation(secret, SERVICE_ACCOUNT_NAME).unwrap_or("").is_empty() => {
            let path = Path::new("metadata").child("annotations").key(SERVICE_ACCOUNT_NAME);
            vec![Error::required(&path, "")]
        }
        "kubernetes.io/dockercfg" => json_map(data, ".dockercfg", path),
        "kubernetes.io/dockerconfigjson" => json_map(data, ".dockerconfigjson", path),
        "kubernetes.io/basic-auth" if !has("username") && !has("password") => missing(&["username", "password"]),
        "kubernetes.io/ssh-auth" => {
            let key = data.and_then(|data| data.get("ssh-privatekey")).and_then(Value::as_str);
            if key.is_none_or(str::is_empty) {
                return vec![Error::required(&path.key("ssh-privatekey"), "")];
            }
            Vec::new()
        }
        "kubernetes.io/tls" => missing(&["tls.crt", "tls.key"]),
        _ => Vec::new(),
    }
}

/// What Go says of a text that is no JSON.
fn not_json(text: &[u8]) -> Option<String> {
    let error = schema::codec::repeated_fields(text).err()?;
    Some(error.to_string())
}

fn json_map(data: Option<&api::Map<String, Value>>, key: &str, path: &Path) -> Vec<Error> {
    let Some(encoded) = data.and_then(|data| data.get(key)) else {
        return vec![Error::required(&path.key(key), "")];
    };
    let decoded = STANDARD.decode(encoded.as_str().unwrap_or("")).unwrap_or_default();
    match serde_json::from_slice::<api::Map<String, Value>>(&decoded) {
        Ok(_) => Vec::new(),
        Err(error) => {
            vec![Error::invalid(
                &path.key(key),
                "<secret contents redacted>",
                not_json(&decoded).unwrap_or_else(|| error.to_string()),
            )]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(errors: Vec<Error>) -> Vec<String> {
        errors.into_iter().map(|error| error.field).collect()
    }

    #[test]
    fn string_data_becomes_data_and_wins() {
        let mut secret = json!({"data": {"a": "AA==", "b": "AA=="}, "stringData": {"a": "hello"}});
        merge_string_data(&mut secret);
        assert_eq!(secret, json!({"data": {"a": "aGVsbG8=", "b": "AA=="}}));
    }

    #[test]
    fn types_require_their_keys() {
        let cases = [
            (json!({"type": "Opaque"}), vec![]),
            (
                json!({"type": "kubernetes.io/tls"}),
                vec!["data[tls.crt]", "data[tls.key]"],
            ),
            (
                json!({"type": "kubernetes.io/tls", "data": {"tls.crt": "", "tls.key": ""}}),
                vec![],
            ),
            (
                json!({"type": "kubernetes.io/basic-auth"}),
                vec!["data[username]", "data[password]"],
            ),
            (
                json!({"type": "kubernetes.io/basic-auth", "data": {"password": ""}}),
                vec![],
            ),
            (
                json!({"type": "kubernetes.io/ssh-auth", "data": {"ssh-privatekey": ""}}),
                vec!["data[ssh-privatekey]"],
            ),
            (
                json!({"type": "kubernetes.io/dockerconfigjson"}),
                vec!["data[.dockerconfigjson]"],
            ),
            (
                json!({"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": "e30="}}),
                vec![],
            ),
            (
                json!({"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": "W10="}}),
                vec!["data[.dockerconfigjson]"],
            ),
            (
                json!({"type": SERVICE_ACCOUNT_TOKEN}),
                vec!["metadata.annotations[kubernetes.io/service-account.name]"],
            ),
            (json!({"data": {"a b": ""}}), vec!["data[a b]"]),
        ];
        for (secret, want) in cases {
            assert_eq!(fields(contents(&secret)), want, "{secret}");
        }
    }
}
