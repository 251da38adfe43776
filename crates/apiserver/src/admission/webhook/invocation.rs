//! Whether a webhook is called for a request (upstream `plugin/webhook/generic/webhook.go`,
//! `ShouldCallHook`).

use std::sync::Arc;

use api::{Status, Value};

use super::configuration::Hook;
use super::review::{Phase, request_head};
use crate::admission::Attributes;
use crate::admission::expressions::{Checks, Inputs, Variables};
use crate::admission::matching::{self, Match};
use crate::state::State;

/// A webhook that is to be called.
pub(super) struct Invocation {
    pub hook: Arc<Hook>,
    pub matched: Match,
}

/// Decides; `None` means the webhook is not about this request.
///
/// # Errors
/// What keeps it from being decided, if the webhook's rules are about the request.
pub(super) async fn decide(
    state: &State,
    attributes: &Attributes<'_>,
    hook: &Arc<Hook>,
    object: Option<&Value>,
    phase: Phase,
) -> Result<Option<Invocation>, Status> {
    let namespace = hook.selectors.match_namespace(state, attributes, object).await;
    if matches!(namespace, Ok(false)) {
        return Ok(None);
    }
    let selected = hook.selectors.match_object(attributes, object);
    if matches!(selected, Ok(false)) {
        return Ok(None);
    }
    let Some(matched) = matching::find(state, attributes, &hook.rules, hook.match_policy) else {
        return Ok(None);
    };
    // A failed selector counts only where the rules match.
    namespace?;
    selected?;
    if !hook.conditions.is_empty() && !meets(state, attributes, (hook, &matched), object, phase).await? {
        return Ok(None);
    }
    let hook = hook.clone();
    Ok(Some(Invocation { hook, matched }))
}

/// Whether the request meets the webhook's conditions.
async fn meets(
    state: &State,
    attributes: &Attributes<'_>,
    (hook, matched): (&Hook, &Match),
    object: Option<&Value>,
    phase: Phase,
) -> Result<bool, Status> {
    let checks = Arc::new(Checks::default());
    let shown = matched.shown(attributes, object).await?;
    let old = matched.shown(attributes, attributes.old).await?;
    let objects = (shown.as_deref(), old.as_deref());
    let request = request_head(attributes, &matched.gvr, &matched.gvk);
    let inputs = Inputs::new(attributes, objects, request, None, &checks);
    let variables = Variables::default();
    let check = || hook.conditions.check(&variables, &inputs, hook.failure_policy);
    let met = checks.settled(state, &attributes.call.user, check).await;
    let step = match phase {
        Phase::Mutating => "admit",
        Phase::Validating => "validate",
    };
    let (metrics, operation) = (&state.metrics.admission, attributes.operation);
    match met {
        Ok(true) => Ok(true),
        Ok(false) => {
            metrics.condition_excluded(&hook.name, "webhook", step, operation);
            Ok(false)
        }
        Err(error) => {
            metrics.condition_failed(&hook.name, "webhook", step, operation);
            Err(attributes.forbid(error))
        }
    }
}
