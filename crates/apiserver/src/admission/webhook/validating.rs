//! Validating webhooks: all at once (upstream `plugin/webhook/validating/dispatcher.go`).

use std::sync::Arc;
use std::time::Instant;

use api::{Status, Value};
use futures_util::future::join_all;

use super::client::Clients;
use super::configuration::Hook;
use super::invocation::{self, Invocation};
use super::outcome;
use super::review::Phase;
use crate::admission::Attributes;
use crate::state::State;

const FAILED_OPEN: &str = "failed-open.validating.webhook.admission.k8s.io/";

/// Calls every webhook that wants the request.
///
/// # Errors
/// The first refusal, or failure of a webhook that must not fail, in the webhooks' order.
pub(super) async fn dispatch(
    clients: &Clients,
    state: &State,
    attributes: &Attributes<'_>,
    hooks: &[Arc<Hook>],
    object: Option<&Value>,
) -> Result<(), Status> {
    let mut invocations = Vec::new();
    for hook in hooks {
        invocations.extend(invocation::decide(state, attributes, hook, object, Phase::Validating).await?);
    }
    let calls = invocations
        .iter()
        .enumerate()
        .map(|(index, invocation)| one(clients, state, attributes, invocation, index, object));
    join_all(calls).await.into_iter().collect()
}

async fn one(
    clients: &Clients,
    state: &State,
    attributes: &Attributes<'_>,
    invocation: &Invocation,
    index: usize,
    object: Option<&Value>,
) -> Result<(), Status> {
    let started = Instant::now();
    let matched = &invocation.matched;
    let shown = matched.shown(attributes, object).await?;
    let old = matched.shown(attributes, attributes.old).await?;
    let objects = (shown.as_deref(), old.as_deref());
    let asked = outcome::ask(clients, state, attributes, invocation, Phase::Validating, objects).await;
    let failed_open = format!("{FAILED_OPEN}round_0_index_{index}");
    let ended = (started, asked.err());
    outcome::settle(state, attributes, invocation, Phase::Validating, ended, &failed_open)
}
