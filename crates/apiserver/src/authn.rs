//! Authentication: who sends a request.
//!
//! A peer in this process and a client certificate identify a connection; otherwise a bearer
//! token identifies a request; otherwise nobody does, and it is anonymous.

mod bootstrap_token;
mod certificate;
mod impersonation;
mod legacy_token;
mod service_account;
pub(crate) mod token_keys;

use std::sync::Arc;

use api::Status;
use http::HeaderMap;
use http::header::AUTHORIZATION;

pub(crate) use certificate::user_of_certificate;
pub(crate) use impersonation::impersonate;
pub(crate) use service_account::authenticate_token;

use crate::aggregation::front_proxy;
use crate::call::Call;
use crate::server::Peer;
use crate::state::State;
use crate::user::UserInfo;

/// Finds out who sends the request.
///
/// # Errors
/// 401 if a token is not valid, or if there is none and the client's certificate is not good.
pub(crate) async fn authenticate(state: &Arc<State>, peer: &Peer, call: &Call) -> Result<UserInfo, Status> {
    let headers = &call.headers;
    if let Some(user) = &peer.user {
        return Ok(user.clone());
    }
    if peer.front_proxy.is_some()
        && let Some(user) = front_proxy::user(headers)
    {
        return Ok(user);
    }
    let Some(token) = bearer(headers) else {
        return match peer.bad_certificate {
            None => Ok(UserInfo::anonymous()),
            Some(_) => Err(Status::unauthorized("Unauthorized")),
        };
    };
    match authenticate_token(state, token, &[]).await {
        Ok((user, bound)) => {
            bound.warning.into_iter().for_each(|warning| call.warnings.add(warning));
            for (key, value) in &bound.annotations {
                call.annotations.add(key, value.clone());
            }
            Ok(user)
        }
        Err(reason) => {
            tracing::debug!(reason, "a bearer token was refused");
            Err(Status::unauthorized("Unauthorized"))
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let header = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = header.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}
