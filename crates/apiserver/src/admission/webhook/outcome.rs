//! One call of a webhook, and what it means for the request.

use std::time::Instant;

use api::{Status, Value};

use super::client::Clients;
use super::configuration::{FailurePolicy, SideEffects};
use super::invocation::Invocation;
use super::review::{self, Failed, Phase, Review, Verdict};
use crate::admission::Attributes;
use crate::admission::metrics::WebhookCall;
use crate::state::State;

/// Why a webhook did not let the request pass.
#[derive(Debug)]
pub(super) enum Failure {
    /// It could not be asked; the failure policy decides.
    Call { reason: String, code: u16 },
    /// It said no.
    Rejected(Status),
    /// What it said cannot be done.
    Unusable(Status),
}

impl Failure {
    /// The call did not come about.
    pub fn call(reason: impl Into<String>, code: u16) -> Failure {
        Failure::Call {
            reason: reason.into(),
            code,
        }
    }
}

/// Asks the webhook about the request; `object` and `old` are as the matched version shows them.
pub(super) async fn ask(
    clients: &Clients,
    state: &State,
    attributes: &Attributes<'_>,
    invocation: &Invocation,
    phase: Phase,
    (object, old): (Option<&Value>, Option<&Value>),
) -> Result<Verdict, Failure> {
    let hook = &invocation.hook;
    if attributes.dry_run() {
        match hook.side_effects {
            SideEffects::NoneOnDryRun => {}
            SideEffects::Unset => return Err(Failure::call("Webhook SideEffects is nil", 400)),
            SideEffects::Some => {
                return Err(Failure::Unusable(Status::bad_request(format!(
                    "admission webhook {} does not support dry run",
                    api::field::go_quote(&hook.name)
                ))));
            }
        }
    }
    let review = Review::new(attributes, invocation, object, old)
        .map_err(|why| Failure::call(format!("could not create admission objects: {why}"), 400))?;
    let answer = clients.post(state, hook, review.body.clone()).await;
    let answer = answer.map_err(|error| Failure::call(error.message, error.code))?;
    let verdict = review.verify(phase, &answer).map_err(|failed| match failed {
        Failed::Unreadable(why) => Failure::call(format!("failed to call webhook: {why}"), 400),
        Failed::Invalid(why) => Failure::call(format!("received invalid webhook response: {why}"), 503),
    })?;
    for (key, value) in &verdict.annotations {
        let key = format!("{}/{key}", hook.name);
        let bad = api::validate::qualified_name(&key);
        if bad.is_empty() {
            attributes.annotate(&key, value);
        } else {
            tracing::warn!(
                key,
                webhook = hook.name,
                "an audit annotation of a webhook has a bad key"
            );
        }
    }
    attributes.call.warnings.extend(verdict.warnings.iter().cloned());
    if !verdict.allowed {
        return Err(Failure::Rejected(review::denied(&hook.name, verdict.status)));
    }
    Ok(verdict)
}

/// Counts a call, and decides by the failure policy.
///
/// # Errors
/// What the client is told.
pub(super) fn settle(
    state: &State,
    attributes: &Attributes<'_>,
    invocation: &Invocation,
    phase: Phase,
    (started, failure): (Instant, Option<Failure>),
    failed_open_key: &str,
) -> Result<(), Status> {
    let hook = &invocation.hook;
    let metrics = &state.metrics.admission;
    let call = WebhookCall {
        name: &hook.name,
        step: match phase {
            Phase::Mutating => "admit",
            Phase::Validating => "validating",
        },
        operation: attributes.operation.as_str(),
        took: started.elapsed(),
    };
    let ignored = hook.failure_policy == FailurePolicy::Ignore;
    match failure {
        None => {
            metrics.webhook_called(&call, 200, None);
            Ok(())
        }
        Some(Failure::Rejected(status)) => {
            metrics.webhook_called(&call, status.code, Some("no_error"));
            Err(status)
        }
        Some(Failure::Unusable(status)) => {
            metrics.webhook_called(&call, 0, Some("apiserver_internal_error"));
            Err(status)
        }
        Some(Failure::Call { reason, code }) => {
            let message = format!("failed calling webhook {}: {reason}", api::field::go_quote(&hook.name));
            if ignored {
                metrics.webhook_called(&call, code, None);
                metrics.webhook_failed_open(&call);
                tracing::warn!(
                    webhook = hook.name,
                    error = message,
                    "a webhook failed; the request goes on"
                );
                attributes.annotate(failed_open_key, &hook.name);
                return Ok(());
            }
            metrics.webhook_called(&call, code, Some("calling_webhook_error"));
            tracing::warn!(
                webhook = hook.name,
                error = message,
                "a webhook failed, and the request with it"
            );
            Err(Status::internal(message))
        }
    }
}
