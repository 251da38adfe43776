//! Which policies a request meets, and with what.

use std::sync::Arc;

use api::{Status, Value};

use super::definition::{Binding, Policy};
use super::params;
use crate::admission::Attributes;
use crate::admission::expressions::{Checks, Inputs};
use crate::admission::matching::{self, Match};
use crate::admission::parsed::Parsed;
use crate::admission::webhook::request_head;
use crate::state::State;

/// The policies of one kind and their bindings.
pub(super) struct Source {
    policies: Parsed<Policy>,
    bindings: Parsed<Binding>,
}

/// A policy with the bindings that name it.
pub(super) struct Bound {
    pub policy: Arc<Policy>,
    pub bindings: Vec<Arc<Binding>>,
}

impl Source {
    pub fn new(policies: &'static str, bindings: &'static str) -> Source {
        Source {
            policies: Parsed::new(policies, Policy::read),
            bindings: Parsed::new(bindings, Binding::read),
        }
    }

    /// Every policy that is bound, by name.
    ///
    /// # Errors
    /// If the caches cannot be read.
    pub async fn bound(&self, state: &State) -> Result<Vec<Bound>, Status> {
        let bindings = self.bindings.all(state).await?;
        if bindings.is_empty() {
            return Ok(Vec::new());
        }
        let policies = self.policies.all(state).await?;
        let bound = policies.into_iter().filter_map(|policy| {
            let bindings = bindings.iter().filter(|binding| binding.policy == policy.name);
            let bindings: Vec<_> = bindings.cloned().collect();
            (!bindings.is_empty()).then_some(Bound { policy, bindings })
        });
        Ok(bound.collect())
    }
}

/// A policy or binding that cannot be obeyed.
#[derive(Debug)]
pub(super) enum Misconfigured {
    Policy(String),
    Binding(String),
}

impl Misconfigured {
    /// As clients are told.
    pub fn message(&self) -> String {
        match self {
            Misconfigured::Policy(why) => format!("failed to configure policy: {why}"),
            Misconfigured::Binding(why) => format!("failed to configure binding: {why}"),
        }
    }
}

/// How a request matches a policy; `None` if it does not.
///
/// # Errors
/// If the policy is misconfigured.
pub(super) async fn of_policy(
    state: &State,
    attributes: &Attributes<'_>,
    policy: &Policy,
    object: Option<&Value>,
) -> Result<Option<Match>, Misconfigured> {
    let Some(constraints) = &policy.constraints else {
        let why = "policy contained no match constraints, a required field";
        return Err(Misconfigured::Policy(why.to_owned()));
    };
    let found = constraints.find(state, attributes, object).await;
    let found = found.map_err(|status| Misconfigured::Policy(status.message))?;
    if found.is_some()
        && let Some(kind) = &policy.param_kind
    {
        params::resource(state, kind).map_err(Misconfigured::Policy)?;
    }
    Ok(found)
}

/// The parameters with which a binding lets its policy decide on a request that matched the policy;
/// nothing if the binding is not about it.
///
/// # Errors
/// If the binding is misconfigured.
pub(super) async fn of_binding(
    state: &State,
    attributes: &Attributes<'_>,
    (policy, binding): (&Policy, &Binding),
    object: Option<&Value>,
) -> Result<Vec<Option<Value>>, Misconfigured> {
    if let Some(constraints) = &binding.constraints {
        let found = constraints.find(state, attributes, object).await;
        if found
            .map_err(|status| Misconfigured::Binding(status.message))?
            .is_none()
        {
            return Ok(Vec::new());
        }
    }
    let resource = match &policy.param_kind {
        Some(kind) => Some(params::resource(state, kind).map_err(Misconfigured::Policy)?),
        None => None,
    };
    let found = params::collect(resource.as_deref(), binding.param_ref.as_ref(), attributes.namespace).await;
    found.map_err(Misconfigured::Binding)
}

/// The namespace of the request as expressions see it; a Namespace has none.
///
/// # Errors
/// 404 if it does not exist.
pub(super) async fn namespace_object(state: &State, attributes: &Attributes<'_>) -> Result<Option<Value>, Status> {
    let gvk = attributes.gvk;
    let is_namespace = gvk.group.is_empty() && gvk.version == "v1" && gvk.kind == "Namespace";
    if attributes.namespace.is_empty() || is_namespace {
        return Ok(None);
    }
    let mut namespace = matching::namespace(state, attributes.namespace).await?;
    for hidden in ["managedFields", "ownerReferences", "selfLink"] {
        api::meta::remove(&mut namespace, hidden);
    }
    if let Some(map) = namespace.as_object_mut() {
        map.remove("apiVersion");
        map.remove("kind");
    }
    Ok(Some(namespace))
}

/// What expressions see of a request, but for parameters.
///
/// # Errors
/// If the objects cannot be converted.
pub(super) async fn inputs(
    attributes: &Attributes<'_>,
    matched: &Match,
    object: Option<&Value>,
    namespace: Option<&Value>,
    checks: &Arc<Checks>,
) -> Result<Inputs, Status> {
    let shown = matched.shown(attributes, object).await?;
    let old = matched.shown(attributes, attributes.old).await?;
    let objects = (shown.as_deref(), old.as_deref());
    let request = request_head(attributes, &matched.gvr, &matched.gvk);
    Ok(Inputs::new(attributes, objects, request, namespace, checks))
}
