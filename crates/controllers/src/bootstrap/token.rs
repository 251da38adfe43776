//! What a Secret of a bootstrap token says (cluster-bootstrap `util/secrets`).

use jiff::{SignedDuration, Timestamp};

use crate::Untyped;
use crate::object::name;

/// How much longer a token is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Endless,
    Left(SignedDuration),
    Over,
}

/// One that cannot be read counts as over.
pub(super) fn life(secret: &Untyped, now: Timestamp) -> Life {
    let text = secret.secret_text("expiration");
    if text.is_empty() {
        return Life::Endless;
    }
    match text.parse::<Timestamp>().map(|end| end.duration_since(now)) {
        Ok(left) if left.is_positive() => Life::Left(left),
        _ => Life::Over,
    }
}

/// Id and secret of a token that may sign.
pub(super) fn for_signing(secret: &Untyped, now: Timestamp) -> Option<(String, String)> {
    let named = name(secret).strip_prefix("bootstrap-token-")?;
    let id = secret.secret_text("token-id");
    let well_formed = id.len() == 6
        && id
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let text = secret.secret_text("token-secret");
    let may = secret.secret_text("usage-bootstrap-signing") == "true";
    (well_formed && named == id && !text.is_empty() && may && life(secret, now) != Life::Over).then_some((id, text))
}
