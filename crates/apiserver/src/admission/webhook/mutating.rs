//! Mutating webhooks: one after the other, each on what those before it made
//! (upstream `plugin/webhook/mutating/dispatcher.go`).

use std::sync::Arc;
use std::time::Instant;

use api::{Status, Value};
use serde_json::json;

use super::client::Clients;
use super::configuration::Hook;
use super::invocation::{self, Invocation};
use super::outcome::{self, Failure};
use super::review::{Phase, Verdict};
use crate::admission::Attributes;
use crate::admission::json_patch_words::words;
use crate::state::State;

const PLUGIN: &str = "MutatingAdmissionWebhook";
const ANNOTATION: &str = "mutation.webhook.admission.k8s.io/";

/// Calls every webhook that wants the request.
///
/// # Errors
/// The first refusal, or failure of a webhook that must not fail.
pub(super) async fn dispatch(
    clients: &Clients,
    state: &State,
    attributes: &Attributes<'_>,
    hooks: &[Arc<Hook>],
    object: &mut Value,
) -> Result<(), Status> {
    let trace = attributes.trace;
    trace.enter(PLUGIN, object);
    let mut done = Ok(());
    for (index, hook) in hooks.iter().enumerate() {
        done = one(clients, state, attributes, hook, index, object).await;
        if done.is_err() {
            break;
        }
    }
    trace.leave(PLUGIN, object);
    done
}

async fn one(
    clients: &Clients,
    state: &State,
    attributes: &Attributes<'_>,
    hook: &Arc<Hook>,
    index: usize,
    object: &mut Value,
) -> Result<(), Status> {
    let trace = attributes.trace;
    let present = (!object.is_null()).then_some(&*object);
    let Some(invocation) = invocation::decide(state, attributes, hook, present, Phase::Mutating).await? else {
        return Ok(());
    };
    // The second round calls nobody for the first time.
    let again = trace.is_reinvocation();
    if again && !trace.calls_again(PLUGIN, &hook.id) {
        return Ok(());
    }
    let started = Instant::now();
    let round = u8::from(again);
    let called = call(clients, state, attributes, &invocation, object).await;
    let changed = matches!(called, Ok(true));
    let annotation = json!({"configuration": hook.configuration, "webhook": hook.name, "mutated": changed});
    attributes.annotate(
        &format!("{ANNOTATION}round_{round}_index_{index}"),
        annotation.to_string(),
    );
    if changed {
        trace.changed(PLUGIN);
    }
    if hook.reinvoked {
        trace.called(PLUGIN, &hook.id);
    }
    let failed_open = format!("failed-open.{ANNOTATION}round_{round}_index_{index}");
    let ended = (started, called.err());
    outcome::settle(state, attributes, &invocation, Phase::Mutating, ended, &failed_open)
}

/// Calls the webhook and applies its patch; says whether that changed the object.
async fn call(
    clients: &Clients,
    state: &State,
    attributes: &Attributes<'_>,
    invocation: &Invocation,
    object: &mut Value,
) -> Result<bool, Failure> {
    let matched = &invocation.matched;
    let present = (!object.is_null()).then_some(&*object);
    let shown = matched.shown(attributes, present).await.map_err(Failure::Unusable)?;
    let old = matched
        .shown(attributes, attributes.old)
        .await
        .map_err(Failure::Unusable)?;
    let objects = (shown.as_deref(), old.as_deref());
    let verdict = outcome::ask(clients, state, attributes, invocation, Phase::Mutating, objects).await?;
    let Some(patched) = apply(&verdict, invocation, shown.as_deref())? else {
        return Ok(false);
    };
    let patched = matched.complete(attributes, &patched);
    let patched = patched.map_err(|error| Failure::Unusable(Status::internal(error)))?;
    let changed = shown.as_deref() != Some(&patched);
    if changed {
        *object = matched
            .taken_back(attributes, patched)
            .await
            .map_err(Failure::Unusable)?;
    }
    Ok(changed)
}

/// The object after the patch; `None` if there is nothing to do.
fn apply(verdict: &Verdict, invocation: &Invocation, object: Option<&Value>) -> Result<Option<Value>, Failure> {
    if verdict.patch.is_empty() {
        return Ok(None);
    }
    let unusable = |error: &dyn std::fmt::Display| Failure::Unusable(Status::internal(error));
    let patch: json_patch::Patch = serde_json::from_slice(&verdict.patch).map_err(|error| unusable(&error))?;
    if patch.is_empty() {
        return Ok(None);
    }
    let name = api::field::go_quote(&invocation.hook.name);
    let Some(object) = object else {
        return Err(unusable(&format!(
            "admission webhook {name} attempted to modify the object, which is not supported for this operation"
        )));
    };
    if verdict.patch_type != "JSONPatch" {
        let kind = api::field::go_quote(&verdict.patch_type);
        return Err(Failure::call(format!("unsupported patch type {kind}"), 400));
    }
    let mut patched = object.clone();
    json_patch::patch(&mut patched, &patch).map_err(|error| unusable(&words(&error, &patch, object)))?;
    Ok(Some(patched))
}
