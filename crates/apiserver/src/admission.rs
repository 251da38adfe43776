//! Admission: what changes or refuses writes of any kind, in one order for all.
//!
//! ```text
//!   Pipeline::mutate   every plugin in turn; once more if a webhook or policy asks for it
//!     (the caller completes, prunes and validates the object)
//!   Pipeline::validate every plugin in turn
//! ```
//!
//! A plugin is one file and one line in [`plugins::PLUGINS`]. It holds no part of the server: all it
//! knows comes with [`State`] and [`Attributes`].
//!
//! # Invariants
//! - Every create, update, delete and connection of every kind and subresource passes both phases.
//!   What the server does on its own behalf (`Target::Inner`) passes neither, as upstream.
//! - A second round of mutation happens at most once a request.

mod attributes;
mod config;
mod default_toleration;
mod escalation;
mod limit_ranger;
mod lookup;
mod namespace_lifecycle;
mod node_restriction;
mod plugins;
mod pod_security;
mod priority;
mod resource_quota;
mod service_account;
mod taint_nodes;
mod trace;

use std::collections::BTreeMap;

use api::{Status, Value};
use async_trait::async_trait;

use crate::state::State;

pub(crate) use attributes::{Attributes, Operation, Options};
pub use config::{Admission, AdmissionError};
pub(crate) use trace::Trace;

/// One plugin.
#[async_trait]
pub(crate) trait Plugin: Send + Sync {
    /// Whether it has anything to do with such requests at all.
    fn handles(&self, _operation: Operation) -> bool {
        true
    }

    /// Changes the object, or refuses it. The object is null on delete, and the options of the
    /// connection (`PodExecOptions`) on connect.
    async fn mutate(&self, _state: &State, _attributes: &Attributes<'_>, _object: &mut Value) -> Result<(), Status> {
        Ok(())
    }

    /// Refuses the object; it is absent on delete.
    async fn validate(
        &self,
        _state: &State,
        _attributes: &Attributes<'_>,
        _object: Option<&Value>,
    ) -> Result<(), Status> {
        Ok(())
    }
}

/// The plugins in their order.
pub(crate) struct Pipeline {
    plugins: Vec<(&'static str, Box<dyn Plugin>)>,
    /// What upstream checks in its registry and not by a plugin: not to be switched off.
    always: Vec<Box<dyn Plugin>>,
}

impl Pipeline {
    /// The enabled plugins in upstream's order.
    ///
    /// # Errors
    /// If a name is unknown or a plugin's configuration is not usable.
    pub fn new(config: &Admission) -> Result<Pipeline, AdmissionError> {
        let enabled = config.enabled()?;
        let settings: BTreeMap<String, Value> = config.settings()?;
        let mut made = Vec::new();
        for line in plugins::PLUGINS.iter().filter(|line| enabled.contains(line.name)) {
            let plugin =
                (line.make)(settings.get(line.name)).map_err(|why| AdmissionError::Plugin { name: line.name, why })?;
            made.push((line.name, plugin));
        }
        Ok(Pipeline {
            plugins: made,
            always: vec![Box::new(escalation::Escalation)],
        })
    }

    /// Lets every plugin change the object.
    ///
    /// # Errors
    /// The first refusal.
    pub async fn mutate(&self, state: &State, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        self.mutate_once(state, attributes, object).await?;
        if attributes.trace.begin_reinvocation() {
            self.mutate_once(state, attributes, object).await?;
        }
        Ok(())
    }

    async fn mutate_once(&self, state: &State, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        for (name, plugin) in &self.plugins {
            if plugin.handles(attributes.operation) {
                let done = plugin.mutate(state, attributes, object).await;
                done.inspect_err(|status| refused(name, status))?;
            }
        }
        Ok(())
    }

    /// Asks every plugin.
    ///
    /// # Errors
    /// The first refusal.
    pub async fn validate(
        &self,
        state: &State,
        attributes: &Attributes<'_>,
        object: Option<&Value>,
    ) -> Result<(), Status> {
        for plugin in &self.always {
            plugin.validate(state, attributes, object).await?;
        }
        for (name, plugin) in &self.plugins {
            if plugin.handles(attributes.operation) {
                let done = plugin.validate(state, attributes, object).await;
                done.inspect_err(|status| refused(name, status))?;
            }
        }
        Ok(())
    }
}

fn refused(plugin: &str, status: &Status) {
    tracing::debug!(
        plugin,
        code = status.code,
        message = status.message,
        "admission refused"
    );
}
