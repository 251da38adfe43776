//! Service-account tokens: claims against the objects they name
//! (`pkg/serviceaccount/{jwt,claims}.go`).

use api::{Value, meta};
use jiff::SignedDuration;

use super::token_keys::{Claims, Reference};
use crate::state::State;
use crate::user::UserInfo;

/// Clocks may differ by this, and deleted objects count as long.
const LEEWAY_SECONDS: i64 = 60;

/// What a token is good for, beside its user.
pub(crate) struct Bound {
    /// The audiences that token and request share.
    pub audiences: Vec<String>,
}

/// Who a token stands for. Without wanted audiences it has to be for this server.
///
/// # Errors
/// The reason why it stands for nobody.
pub(crate) async fn authenticate_token(
    state: &State,
    token: &str,
    wanted: &[String],
) -> Result<(UserInfo, Bound), String> {
    let Some(keys) = &state.tokens else {
        return Err("no token keys are configured".into());
    };
    let claims = keys.verify(token)?;
    let accepted = if wanted.is_empty() {
        &keys.config.audiences
    } else {
        wanted
    };
    let audiences: Vec<String> = claims.aud.iter().filter(|a| accepted.contains(a)).cloned().collect();
    if audiences.is_empty() {
        return Err(format!(
            "token audiences {:?} is invalid for the target audiences {accepted:?}",
            claims.aud
        ));
    }
    check_times(&claims)?;
    check_objects(state, &claims).await?;
    let private = &claims.private;
    let mut user = UserInfo::service_account(&private.namespace, &private.serviceaccount.name);
    user.uid.clone_from(&private.serviceaccount.uid);
    let mut extra = |key: &str, value: &str| {
        let key = format!("authentication.kubernetes.io/{key}");
        user.extra.insert(key, vec![value.to_owned()]);
    };
    if !claims.jti.is_empty() {
        extra("credential-id", &format!("JTI={}", claims.jti));
    }
    for (what, reference) in [("pod", &private.pod), ("node", &private.node)] {
        if let Some(reference) = reference {
            extra(&format!("{what}-name"), &reference.name);
            extra(&format!("{what}-uid"), &reference.uid);
        }
    }
    Ok((user, Bound { audiences }))
}

fn check_times(claims: &Claims) -> Result<(), String> {
    let now = jiff::Timestamp::now().as_second();
    if now > claims.exp + LEEWAY_SECONDS {
        return Err("service account token has expired".into());
    }
    if now + LEEWAY_SECONDS < claims.nbf {
        return Err("service account token is not valid yet".into());
    }
    if now + LEEWAY_SECONDS < claims.iat {
        return Err("service account token is issued in the future".into());
    }
    Ok(())
}

/// The account, and what the token is bound to, must still be the same objects.
async fn check_objects(state: &State, claims: &Claims) -> Result<(), String> {
    let private = &claims.private;
    let namespace = private.namespace.as_str();
    let account = &private.serviceaccount;
    if claims.sub != format!("system:serviceaccount:{namespace}:{}", account.name) {
        return Err("the token's subject is not its service account".into());
    }
    let find = |plural: &'static str, name: String| async move {
        let resource = state.resource("", "v1", plural)?;
        let home = if plural == "nodes" { "" } else { namespace };
        let entry = resource.latest(home, &name).await.ok()??;
        Some(resource.value(&entry)).filter(is_alive)
    };
    let Some(found) = find("serviceaccounts", account.name.clone()).await else {
        return Err(format!("service account {namespace}/{} has been deleted", account.name));
    };
    if meta::uid(&found) != account.uid {
        return Err(format!(
            "service account UID ({}) does not match claim ({})",
            meta::uid(&found),
            account.uid
        ));
    }
    // A pod's token names the pod's node for information; only a token bound to a node itself
    // depends on it.
    let node = if private.pod.is_none() { &private.node } else { &None };
    let bound: [(&'static str, &Option<Reference>); 3] =
        [("pods", &private.pod), ("secrets", &private.secret), ("nodes", node)];
    for (plural, reference) in bound {
        let Some(reference) = reference else { continue };
        let found = find(plural, reference.name.clone()).await;
        if found.is_none_or(|object| meta::uid(&object) != reference.uid) {
            return Err("service account token has been invalidated".into());
        }
    }
    Ok(())
}

/// Whether it is not deleted, or only just.
fn is_alive(object: &Value) -> bool {
    let leeway = SignedDuration::from_secs(LEEWAY_SECONDS);
    meta::deletion_timestamp(object).is_none_or(|at| jiff::Timestamp::now() - leeway <= at)
}
