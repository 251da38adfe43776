//! Admission: what changes or refuses writes of any kind, in one order for all.
//!
//! A plugin is one file and one line in [`Pipeline::built_in`]. Webhooks and policies will be
//! further steps of the same pipeline.

mod default_toleration;
mod escalation;
mod namespace_lifecycle;
mod node_restriction;
mod priority;
mod service_account;
mod taint_nodes;

use api::{Status, Value};
use async_trait::async_trait;

use crate::call::Call;
use crate::resource::Resource;
use crate::state::State;

/// What is done to the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

/// The request as admission sees it.
#[derive(Clone)]
pub(crate) struct Attributes<'a> {
    pub operation: Operation,
    pub resource: &'a Resource,
    pub subresource: &'a str,
    /// The namespace; of a Namespace its own name.
    pub namespace: &'a str,
    /// The name; empty while it is not generated yet.
    pub name: &'a str,
    pub call: &'a Call,
    /// The object before, in an update or delete.
    pub old: Option<&'a Value>,
}

impl Attributes<'_> {
    /// Whether it is about this resource itself, not a subresource.
    pub fn is(&self, group: &str, plural: &str) -> bool {
        let kind = &self.resource.kind;
        self.subresource.is_empty() && kind.gvk.group == group && kind.plural == plural
    }

    /// 403 for this request.
    pub fn forbid(&self, why: impl std::fmt::Display) -> Status {
        Status::forbidden(&self.resource.group_resource(), self.name, why)
    }
}

/// One plugin.
#[async_trait]
pub(crate) trait Plugin: Send + Sync {
    /// Changes the object, or refuses it.
    async fn mutate(&self, _state: &State, _attributes: &Attributes<'_>, _object: &mut Value) -> Result<(), Status> {
        Ok(())
    }

    /// Refuses the object; it is absent on delete and connect.
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
pub(crate) struct Pipeline(Vec<Box<dyn Plugin>>);

impl Pipeline {
    /// Upstream's default plugins, in upstream's order (`kubeapiserver/options/plugins.go`).
    pub fn built_in() -> Pipeline {
        Pipeline(vec![
            Box::new(namespace_lifecycle::NamespaceLifecycle),
            Box::new(service_account::ServiceAccount),
            Box::new(node_restriction::NodeRestriction),
            Box::new(taint_nodes::TaintNodesByCondition),
            Box::new(priority::Priority),
            Box::new(default_toleration::DefaultTolerationSeconds),
            Box::new(escalation::Escalation),
        ])
    }

    /// Lets every plugin change the object.
    ///
    /// # Errors
    /// The first refusal.
    pub async fn mutate(&self, state: &State, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        for plugin in &self.0 {
            plugin.mutate(state, attributes, object).await?;
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
        for plugin in &self.0 {
            plugin.validate(state, attributes, object).await?;
        }
        Ok(())
    }
}
