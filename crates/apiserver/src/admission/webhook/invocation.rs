//! Whether a webhook is called for a request (upstream `plugin/webhook/generic/webhook.go`,
//! `ShouldCallHook`).

use std::sync::Arc;

use api::{Status, Value};

use super::configuration::Hook;
use crate::admission::Attributes;
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
    let hook = hook.clone();
    Ok(Some(Invocation { hook, matched }))
}
