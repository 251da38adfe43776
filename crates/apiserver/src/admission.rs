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

mod always;
mod always_pull_images;
mod anti_affinity;
mod attributes;
mod certificates;
mod config;
mod default_class;
mod default_toleration;
mod escalation;
mod event_rate_limit;
mod expressions;
mod extended_resource_toleration;
mod external_ips;
mod image_policy;
mod json_patch_words;
mod limit_ranger;
mod lookup;
mod matching;
mod metrics;
mod namespace_lifecycle;
mod namespaces;
mod node_restriction;
mod owner_references;
mod parsed;
mod plugins;
mod pod_node_selector;
mod pod_resize;
mod pod_security;
mod pod_toleration_restriction;
mod pod_topology_labels;
mod policy;
mod priority;
mod references;
mod resource_quota;
mod runtime_class;
mod service_account;
mod storage_objects;
mod taint_nodes;
mod tolerations;
mod trace;
mod webhook;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use api::{Status, Value};
use async_trait::async_trait;

use crate::state::State;

pub(crate) use attributes::{Attributes, Operation, Options};
pub use config::{Admission, AdmissionError};
pub(crate) use metrics::AdmissionMetrics;
use metrics::Durations;
pub use policy::expression_errors;
pub(crate) use policy::watch_status;
pub(crate) use trace::Trace;

/// One plugin.
#[async_trait]
pub(crate) trait Plugin: Send + Sync {
    /// Whether it has anything to do with such requests at all.
    fn handles(&self, _operation: Operation) -> bool {
        true
    }

    /// Whether it has anything to do in this step with objects of this resource. If not it is not asked, but counted.
    fn concerns(&self, _step: Step, _group: &str, _plural: &str) -> bool {
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

/// What plugins are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// To change the object.
    Mutate,
    /// To judge it.
    Validate,
}

/// A plugin with its numbers.
struct Enabled {
    name: &'static str,
    plugin: Box<dyn Plugin>,
    mutated: Durations,
    validated: Durations,
}

/// The plugins in their order.
pub(crate) struct Pipeline {
    plugins: Vec<Enabled>,
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
            made.push(Enabled {
                name: line.name,
                plugin,
                mutated: Durations::new("admit"),
                validated: Durations::new("validate"),
            });
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
        let started = Instant::now();
        let mut done = self.mutate_once(state, attributes, object).await;
        if done.is_ok() && attributes.trace.begin_reinvocation() {
            done = self.mutate_once(state, attributes, object).await;
        }
        let (operation, metrics) = (attributes.operation, &state.metrics.admission);
        metrics.step("admit", operation, done.is_err(), started.elapsed());
        done
    }

    async fn mutate_once(&self, state: &State, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        let mut clock = Instant::now();
        for (enabled, asked) in self.concerned(Step::Mutate, attributes) {
            let done = match asked {
                true => enabled.plugin.mutate(state, attributes, object).await,
                false => Ok(()),
            };
            enabled.finish(Step::Mutate, state, attributes, &mut clock, asked, &done);
            done?;
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
        let started = Instant::now();
        let mut done = Ok(());
        let mut clock = started;
        for (enabled, asked) in self.concerned(Step::Validate, attributes) {
            if asked {
                done = enabled.plugin.validate(state, attributes, object).await;
            }
            enabled.finish(Step::Validate, state, attributes, &mut clock, asked, &done);
            if done.is_err() {
                break;
            }
        }
        let (operation, metrics) = (attributes.operation, &state.metrics.admission);
        metrics.step("validate", operation, done.is_err(), started.elapsed());
        done
    }

    /// The plugins that handle such requests, and whether each is to be asked.
    fn concerned(&self, step: Step, attributes: &Attributes<'_>) -> impl Iterator<Item = (&Enabled, bool)> {
        let operation = attributes.operation;
        let kind = &attributes.resource.kind;
        self.plugins
            .iter()
            .filter(move |enabled| enabled.plugin.handles(operation))
            .map(move |enabled| (enabled, enabled.plugin.concerns(step, &kind.gvk.group, &kind.plural)))
    }
}

impl Enabled {
    /// Counts a plugin's decision.
    fn finish(
        &self,
        step: Step,
        state: &State,
        attributes: &Attributes<'_>,
        clock: &mut Instant,
        asked: bool,
        done: &Result<(), Status>,
    ) {
        let took = if asked {
            let now = Instant::now();
            now - std::mem::replace(clock, now)
        } else {
            Duration::ZERO
        };
        let durations = match step {
            Step::Mutate => &self.mutated,
            Step::Validate => &self.validated,
        };
        durations.observe(
            &state.metrics.admission,
            self.name,
            attributes.operation,
            done.is_err(),
            took,
        );
        if let Err(status) = done {
            tracing::debug!(
                plugin = self.name,
                ?step,
                code = status.code,
                message = status.message,
                "admission refused"
            );
        }
    }
}
