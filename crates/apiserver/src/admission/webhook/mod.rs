//! Admission webhooks: calls to what `MutatingWebhookConfiguration` and
//! `ValidatingWebhookConfiguration` name (upstream `admission/plugin/webhook`).
//!
//! ```text
//!   configuration ─ the objects, parsed once a revision
//!   invocation    ─ does this webhook want this request, and as which version
//!   review        ─ AdmissionReview v1 and v1beta1, request and response
//!   client        ─ the HTTPS call
//!   mutating      ─ one after the other, patches applied in between
//!   validating    ─ all at once, the first refusal in their order counts
//! ```

mod client;
mod configuration;
mod credentials;
mod destination;
mod invocation;
mod mutating;
mod outcome;
mod review;
mod validating;

use api::{Status, Value};
use async_trait::async_trait;

use super::matching::is_exempt;
use super::{Attributes, Plugin};
use crate::state::State;
use client::Clients;
use configuration::Source;

/// The plugin `MutatingAdmissionWebhook`.
pub(super) struct MutatingWebhooks {
    source: Source,
    clients: Clients,
}

/// The plugin `ValidatingAdmissionWebhook`.
pub(super) struct ValidatingWebhooks {
    source: Source,
    clients: Clients,
}

impl MutatingWebhooks {
    /// # Errors
    /// If the settings or the kubeconfig they name cannot be used.
    pub fn new(settings: Option<&Value>) -> Result<MutatingWebhooks, String> {
        Ok(MutatingWebhooks {
            source: Source::new("mutatingwebhookconfigurations"),
            clients: Clients::new(settings)?,
        })
    }
}

impl ValidatingWebhooks {
    /// # Errors
    /// If the settings or the kubeconfig they name cannot be used.
    pub fn new(settings: Option<&Value>) -> Result<ValidatingWebhooks, String> {
        Ok(ValidatingWebhooks {
            source: Source::new("validatingwebhookconfigurations"),
            clients: Clients::new(settings)?,
        })
    }
}

#[async_trait]
impl Plugin for MutatingWebhooks {
    async fn mutate(&self, state: &State, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        if is_exempt(attributes) {
            return Ok(());
        }
        let hooks = self.source.hooks(state).await?;
        if hooks.is_empty() {
            return Ok(());
        }
        mutating::dispatch(&self.clients, state, attributes, &hooks, object).await
    }
}

#[async_trait]
impl Plugin for ValidatingWebhooks {
    async fn validate(&self, state: &State, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
        if is_exempt(attributes) {
            return Ok(());
        }
        let hooks = self.source.hooks(state).await?;
        if hooks.is_empty() {
            return Ok(());
        }
        validating::dispatch(&self.clients, state, attributes, &hooks, object).await
    }
}
