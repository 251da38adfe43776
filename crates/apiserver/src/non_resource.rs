//! Paths that are not about resources.

use std::sync::Arc;

use api::{Status, Value};
use serde_json::json;

use crate::aggregation;
use crate::body;
use crate::call::Call;
use crate::codec;
use crate::discovery;
use crate::respond::{self, Answer};
use crate::route;
use crate::state::State;
use crate::user::UserInfo;

/// Answers an authorized request.
///
/// # Errors
/// What the client is told instead.
pub(crate) async fn answer(state: &Arc<State>, call: &Call) -> Result<Answer, Status> {
    let path = call.info.path.as_str();
    if !matches!(call.info.verb.as_str(), "get" | "head") {
        return Ok(respond::text(405, "Method Not Allowed\n"));
    }
    if let Some(answer) = state.health.answer(path, &call.query).await {
        return Ok(answer);
    }
    let registry = state.registry.load_full();
    if let Some(answer) = discovery::answer(&registry, &state.address, call) {
        return Ok(answer);
    }
    let document = path.strip_prefix("/openapi/v3/").map(|rest| format!("/{rest}"));
    if let Some(remote) = document.and_then(|path| registry.remote_of_path(&path)) {
        if remote.found().is_none_or(|found| found.openapi_url.is_none()) {
            return Ok(route::not_found());
        }
        let user = UserInfo::new("system:aggregator", &[]);
        return aggregation::forward_as(state, call, remote, &user, body::empty()).await;
    }
    if let Some(answer) = registry.openapi().answer(call, registry.remotes()).await {
        return answer;
    }
    if let Some(mounted) = state.mounted.get()
        && let Some(rest) = path.strip_prefix(mounted.prefix)
    {
        return Ok(match (mounted.answer)(rest.to_owned()).await {
            Some(value) => respond::bytes(200, "application/json", codec::to_pretty_json(&value)),
            None => route::not_found(),
        });
    }
    let json = |value: &Value| respond::bytes(200, "application/json", codec::to_json(value));
    Ok(match path.trim_end_matches('/') {
        "/version" => respond::bytes(
            200,
            "application/json",
            codec::to_pretty_json(&crate::version::document()),
        ),
        "/metrics" => {
            count_stored(state);
            let more = state.more_metrics.get().map(|text| text()).unwrap_or_default();
            respond::bytes(200, crate::metrics::MEDIA_TYPE, state.metrics.text() + &more)
        }
        "/debug/api_priority_and_fairness/dump_priority_levels" => respond::text(200, state.flow_control.dump_levels()),
        "/.well-known/openid-configuration" => match &state.tokens {
            Some(keys) => json(&keys.discovery()),
            None => route::not_found(),
        },
        "/openid/v1/jwks" => match &state.tokens {
            Some(keys) => respond::bytes(200, "application/jwk-set+json", codec::to_json(&keys.jwks())),
            None => route::not_found(),
        },
        "" => json(&index(state)),
        _ => route::not_found(),
    })
}

/// Objects are counted when somebody asks.
fn count_stored(state: &State) {
    state.metrics.storage_objects.clear();
    for resource in state.registry.load().all() {
        let group = &resource.kind.storage.group;
        let name = match group.as_str() {
            "" => resource.kind.storage.resource.clone(),
            _ => format!("{}.{group}", resource.kind.storage.resource),
        };
        let stored = i64::try_from(resource.cache.stored()).unwrap_or(i64::MAX);
        state.metrics.storage_objects.of(&[&name]).set(stored);
    }
}

/// What there is.
fn index(state: &State) -> Value {
    let registry = state.registry.load();
    let mut paths: Vec<String> = [
        "/api",
        "/apis",
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/openid/v1/jwks",
        "/readyz",
        "/version",
        "/.well-known/openid-configuration",
    ]
    .map(str::to_owned)
    .into();
    for kind in registry.kinds() {
        let gv = kind.gvk.group_version();
        if gv.group.is_empty() {
            paths.push(format!("/api/{}", gv.version));
        } else {
            paths.push(format!("/apis/{}", gv.group));
            paths.push(format!("/apis/{}/{}", gv.group, gv.version));
        }
    }
    for remote in registry.remotes() {
        paths.push(format!("/apis/{}", remote.group));
        paths.push(remote.root());
    }
    paths.sort();
    paths.dedup();
    json!({"paths": paths})
}
