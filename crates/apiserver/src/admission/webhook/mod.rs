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
mod remote;
mod review;
mod validating;

use std::sync::Arc;

use api::{Status, Value};
use async_trait::async_trait;

use super::matching::is_exempt;
use super::parsed::Parsed;
use super::{Attributes, Plugin, Step};
use crate::state::State;
use client::Clients;
pub(super) use configuration::FailurePolicy;
use configuration::{Hook, Hooks};
pub(super) use remote::Remote;
pub(super) use review::request_head;

/// The plugin `MutatingAdmissionWebhook`.
pub(super) struct MutatingWebhooks {
    configurations: Parsed<Hooks>,
    clients: Clients,
}

/// The plugin `ValidatingAdmissionWebhook`.
pub(super) struct ValidatingWebhooks {
    configurations: Parsed<Hooks>,
    clients: Clients,
}

impl MutatingWebhooks {
    /// # Errors
    /// If the settings or the kubeconfig they name cannot be used.
    pub fn new(settings: Option<&Value>) -> Result<MutatingWebhooks, String> {
        Ok(MutatingWebhooks {
            configurations: Parsed::new("mutatingwebhookconfigurations", configuration::parse),
            clients: Clients::new(settings)?,
        })
    }
}

impl ValidatingWebhooks {
    /// # Errors
    /// If the settings or the kubeconfig they name cannot be used.
    pub fn new(settings: Option<&Value>) -> Result<ValidatingWebhooks, String> {
        Ok(ValidatingWebhooks {
            configurations: Parsed::new("validatingwebhookconfigurations", configuration::parse),
            clients: Clients::new(settings)?,
        })
    }
}

/// Every webhook, by the names of their configurations and their order in them.
async fn hooks(configurations: &Parsed<Hooks>, state: &State) -> Result<Vec<Arc<Hook>>, Status> {
    let all = configurations.all(state).await?;
    Ok(all.iter().flat_map(|hooks| hooks.iter().cloned()).collect())
}

#[async_trait]
impl Plugin for MutatingWebhooks {
    fn concerns(&self, step: Step, _group: &str, _plural: &str) -> bool {
        step == Step::Mutate
    }

    async fn mutate(&self, state: &State, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        if is_exempt(attributes) {
            return Ok(());
        }
        let hooks = hooks(&self.configurations, state).await?;
        if hooks.is_empty() {
            return Ok(());
        }
        mutating::dispatch(&self.clients, state, attributes, &hooks, object).await
    }
}

#[async_trait]
impl Plugin for ValidatingWebhooks {
    fn concerns(&self, step: Step, _group: &str, _plural: &str) -> bool {
        step == Step::Validate
    }

    async fn validate(&self, state: &State, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
        if is_exempt(attributes) {
            return Ok(());
        }
        let hooks = hooks(&self.configurations, state).await?;
        if hooks.is_empty() {
            return Ok(());
        }
        validating::dispatch(&self.clients, state, attributes, &hooks, object).await
    }
}
