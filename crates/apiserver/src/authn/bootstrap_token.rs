//! Bootstrap tokens, with which machines join (`plugin/pkg/auth/authenticator/token/bootstrap`).

use api::{Value, meta};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::state::State;
use crate::user::UserInfo;

const NAMESPACE: &str = "kube-system";
const TYPE: &str = "bootstrap.kubernetes.io/token";
const DEFAULT_GROUP: &str = "system:bootstrappers";

/// Id and secret, if the token has the shape of a bootstrap token.
pub(super) fn parse(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let well_formed = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    (id.len() == 6 && secret.len() == 16 && well_formed(id) && well_formed(secret)).then_some((id, secret))
}

/// Who a token stands for.
///
/// # Errors
/// Why it stands for nobody.
pub(super) async fn user(state: &State, id: &str, secret: &str) -> Result<UserInfo, String> {
    let name = format!("bootstrap-token-{id}");
    let missing = || format!("no secret of name {name} to match bootstrap bearer token");
    let secrets = state.resource("", "v1", "secrets").ok_or_else(missing)?;
    let entry = secrets
        .latest(NAMESPACE, &name)
        .await
        .map_err(|error| error.to_string())?;
    let entry = entry.ok_or_else(missing)?;
    let found = secrets.value(&entry);
    user_of(&found, id, secret, jiff::Timestamp::now())
        .map_err(|why| format!("bootstrap secret {NAMESPACE}/{name} matching bearer token {why}"))
}

fn user_of(found: &Value, id: &str, secret: &str, now: jiff::Timestamp) -> Result<UserInfo, String> {
    let data = |key: &str| -> String {
        let encoded = found["data"][key].as_str().unwrap_or("");
        String::from_utf8(STANDARD.decode(encoded).unwrap_or_default()).unwrap_or_default()
    };
    if meta::is_deleting(found) {
        return Err("is deleted and awaiting removal".to_owned());
    }
    if found["type"] != TYPE {
        return Err(format!("has invalid type, expected {TYPE}"));
    }
    for (key, expected) in [("token-secret", secret), ("token-id", id)] {
        if !same(data(key).as_bytes(), expected.as_bytes()) {
            return Err(format!("has invalid value for key {key}"));
        }
    }
    let expiration = data("expiration");
    if !expiration.is_empty() && !expiration.parse::<jiff::Timestamp>().is_ok_and(|end| end > now) {
        return Err("has expired".to_owned());
    }
    const USAGE: &str = "usage-bootstrap-authentication";
    if data(USAGE) != "true" {
        return Err(format!("not marked {USAGE}=true"));
    }
    let extra = data("auth-extra-groups");
    let mut groups = vec![DEFAULT_GROUP];
    for group in extra.split(',').filter(|_| !extra.is_empty()) {
        if !may_be_given(group) {
            let group = api::field::go_quote(group);
            return Err(format!(
                "has invalid value for key auth-extra-groups: bootstrap group {group} is invalid"
            ));
        }
        groups.push(group);
    }
    groups.sort_unstable();
    groups.dedup();
    Ok(UserInfo::new(format!("system:bootstrap:{id}"), &groups))
}

/// `\Asystem:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]\z`
fn may_be_given(group: &str) -> bool {
    let Some(rest) = group.strip_prefix("system:bootstrappers:") else {
        return false;
    };
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let within = rest.bytes().all(|byte| plain(byte) || byte == b':' || byte == b'-');
    within && rest.len() <= 256 && rest.bytes().last().is_some_and(plain)
}

/// Whether two texts are the same, found out in a time that does not tell where they differ.
pub(super) fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const SECRET: &str = "0123456789abcdef";

    fn secret(more: &[(&str, &str)]) -> Value {
        let mut data = json!({});
        let fields = [
            ("token-id", "abcdef"),
            ("token-secret", SECRET),
            ("usage-bootstrap-authentication", "true"),
        ];
        for (name, value) in fields.iter().chain(more) {
            data[name] = STANDARD.encode(value).into();
        }
        json!({"metadata": {"name": "bootstrap-token-abcdef"}, "type": TYPE, "data": data})
    }

    fn groups(secret: &Value) -> Result<Vec<String>, String> {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        user_of(secret, "abcdef", SECRET, now).map(|user| user.groups)
    }

    #[test]
    fn tokens_have_a_shape() {
        assert_eq!(parse("abcdef.0123456789abcdef"), Some(("abcdef", SECRET)));
        for text in [
            "abcdef",
            "abcdef.0123",
            "ABCDEF.0123456789abcdef",
            "abcdef.0123456789abcde.",
            "a.b.c",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_good_token_is_a_bootstrapper() {
        let all = ["system:bootstrappers", "system:authenticated"]
            .map(str::to_owned)
            .to_vec();
        assert_eq!(groups(&secret(&[])), Ok(all.clone()));
        assert_eq!(groups(&secret(&[("expiration", "2026-01-01T00:00:01Z")])), Ok(all));
        let more = secret(&[("auth-extra-groups", "system:bootstrappers:b,system:bootstrappers:a:x")]);
        assert_eq!(
            groups(&more).unwrap()[..3],
            [
                "system:bootstrappers",
                "system:bootstrappers:a:x",
                "system:bootstrappers:b"
            ]
        );
    }

    #[test]
    fn others_are_refused() {
        let mut of_another_type = secret(&[]);
        of_another_type["type"] = json!("Opaque");
        let mut going = secret(&[]);
        going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        let table = [
            (of_another_type, "type"),
            (going, "awaiting removal"),
            (secret(&[("token-secret", "0123456789abcdeX")]), "key token-secret"),
            (secret(&[("token-id", "fedcba")]), "key token-id"),
            (secret(&[("expiration", "2026-01-01T00:00:00Z")]), "expired"),
            (secret(&[("expiration", "soon")]), "expired"),
            (secret(&[("usage-bootstrap-authentication", "false")]), "not marked"),
            (secret(&[("auth-extra-groups", "system:masters")]), "system:masters"),
            (
                secret(&[("auth-extra-groups", "system:bootstrappers:x-")]),
                "is invalid",
            ),
        ];
        for (secret, why) in table {
            let error = groups(&secret).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
