//! The plugin `MutatingAdmissionPolicy` (upstream `policy/mutating/dispatcher.go`).

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use api::{Status, Value, meta};
use async_trait::async_trait;

use super::definition::{Binding, Policy};
use super::invocation::{self, Misconfigured, Source};
use super::patch::{self, PatchError};
use crate::admission::expressions::{Checks, Inputs};
use crate::admission::matching::{Match, is_exempt};
use crate::admission::metrics::{PolicyCheck, PolicyKind};
use crate::admission::webhook::FailurePolicy;
use crate::admission::{Attributes, Operation, Plugin, Step};
use crate::state::State;

const PLUGIN: &str = "MutatingAdmissionPolicy";

/// The plugin.
pub(in crate::admission) struct MutatingPolicies(Source);

impl MutatingPolicies {
    pub fn new() -> MutatingPolicies {
        MutatingPolicies(Source::new(
            "mutatingadmissionpolicies",
            "mutatingadmissionpolicybindings",
        ))
    }
}

/// A policy that is to change the request's object.
struct Invocation {
    policy: Arc<Policy>,
    binding: Arc<Binding>,
    matched: Match,
    param: Option<Value>,
}

impl Invocation {
    /// What tells it from others in both rounds.
    fn id(&self) -> String {
        let param = self.param.as_ref();
        let (namespace, name) = param.map_or(("", ""), |param| (meta::namespace(param), meta::name(param)));
        format!("{}/{}/{namespace}/{name}", self.policy.name, self.binding.name)
    }
}

/// Why a policy could not do its work; the failure policy decides.
struct Failed {
    message: String,
    reason: &'static str,
}

#[async_trait]
impl Plugin for MutatingPolicies {
    fn concerns(&self, step: Step, _group: &str, _plural: &str) -> bool {
        step == Step::Mutate
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update | Operation::Connect)
    }

    async fn mutate(&self, state: &State, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        if is_exempt(attributes) {
            return Ok(());
        }
        let mut failed = Vec::new();
        let invocations = self.invocations(state, attributes, object, &mut failed).await?;
        if !invocations.is_empty() {
            attributes.trace.enter(PLUGIN, object);
            let done = run(state, attributes, &invocations, object, &mut failed).await;
            attributes.trace.leave(PLUGIN, object);
            done?;
        }
        if failed.is_empty() {
            return Ok(());
        }
        Err(refusal(attributes, &failed))
    }
}

impl MutatingPolicies {
    /// What the request meets, before anything is changed.
    async fn invocations(
        &self,
        state: &State,
        attributes: &Attributes<'_>,
        object: &Value,
        failed: &mut Vec<Failed>,
    ) -> Result<Vec<Invocation>, Status> {
        let mut invocations = Vec::new();
        for bound in self.0.bound(state).await? {
            let policy = &bound.policy;
            let matched = match invocation::of_policy(state, attributes, policy, Some(object)).await {
                Ok(None) => continue,
                Ok(Some(matched)) => matched,
                Err(wrong) => {
                    failed.extend(misconfigured(policy, None, &wrong));
                    continue;
                }
            };
            for binding in &bound.bindings {
                match invocation::of_binding(state, attributes, (policy, binding), Some(object)).await {
                    Ok(params) => invocations.extend(params.into_iter().map(|param| Invocation {
                        policy: policy.clone(),
                        binding: binding.clone(),
                        matched: matched.clone(),
                        param,
                    })),
                    Err(wrong) => {
                        let binding = matches!(wrong, Misconfigured::Binding(_)).then_some(&**binding);
                        failed.extend(misconfigured(policy, binding, &wrong));
                    }
                }
            }
        }
        Ok(invocations)
    }
}

async fn run(
    state: &State,
    attributes: &Attributes<'_>,
    invocations: &[Invocation],
    object: &mut Value,
    failed: &mut Vec<Failed>,
) -> Result<(), Status> {
    let trace = attributes.trace;
    let namespace = invocation::namespace_object(state, attributes).await?;
    let checks = Arc::new(Checks::default());
    for invocation in invocations {
        let mutation = Mutation {
            state,
            attributes,
            invocation,
            namespace: namespace.as_ref(),
            checks: &checks,
        };
        match mutation.wanted(object).await? {
            Ok(true) => {}
            Ok(false) => continue,
            Err(error) => {
                failed.extend(of_invocation(invocation, error, "Invalid"));
                continue;
            }
        }
        let id = invocation.id();
        if trace.is_reinvocation() && !trace.calls_again(PLUGIN, &id) {
            continue;
        }
        let before = object.clone();
        mutation.apply(object, failed).await?;
        if before != *object {
            trace.changed(PLUGIN);
        }
        if invocation.policy.reinvoked {
            trace.called(PLUGIN, &id);
        }
    }
    Ok(())
}

/// One policy at work.
struct Mutation<'a> {
    state: &'a State,
    attributes: &'a Attributes<'a>,
    invocation: &'a Invocation,
    namespace: Option<&'a Value>,
    checks: &'a Arc<Checks>,
}

impl Mutation<'_> {
    async fn inputs(&self, object: &Value) -> Result<Inputs, Status> {
        let matched = &self.invocation.matched;
        let inputs = invocation::inputs(self.attributes, matched, Some(object), self.namespace, self.checks);
        let mut inputs = inputs.await?;
        inputs.set_params(self.invocation.param.as_ref());
        Ok(inputs)
    }

    /// Whether the policy's conditions are met.
    async fn wanted(&self, object: &Value) -> Result<Result<bool, String>, Status> {
        let policy = &self.invocation.policy;
        if policy.conditions.is_empty() {
            return Ok(Ok(true));
        }
        let inputs = self.inputs(object).await?;
        let check = || policy.conditions.check(&policy.variables, &inputs, policy.failure);
        Ok(self.checks.settled(self.state, &self.attributes.call.user, check).await)
    }

    /// Applies the policy's mutations in their order, each on what those before it made.
    async fn apply(&self, object: &mut Value, failed: &mut Vec<Failed>) -> Result<(), Status> {
        let (invocation, attributes) = (self.invocation, self.attributes);
        for (kind, expression) in &invocation.policy.mutations {
            let started = Instant::now();
            let inputs = self.inputs(object).await?;
            let make = || patch::make(*kind, expression, &invocation.policy.variables, &inputs);
            let patch = self.checks.settled(self.state, &attributes.call.user, make).await;
            let shown = invocation.matched.shown(attributes, Some(&*object)).await?;
            let shown = shown.map(Cow::into_owned).unwrap_or_default();
            let patched = patch.and_then(|patch| patch::apply(attributes, &invocation.matched, &shown, patch));
            let error = match &patched {
                Ok(_) => "no_error",
                Err(_) => "invalid_error",
            };
            self.state.metrics.admission.policy_checked(&PolicyCheck {
                kind: PolicyKind::Mutating,
                policy: &invocation.policy.name,
                binding: &invocation.binding.name,
                error,
                action: if patched.is_ok() { "allow" } else { "deny" },
                took: started.elapsed(),
            });
            match patched {
                Ok(patched) if patched == shown => {}
                Ok(patched) => *object = invocation.matched.taken_back(attributes, patched).await?,
                Err(PatchError::Status(status)) => return Err(status),
                Err(PatchError::Message(message)) => failed.extend(of_invocation(invocation, message, "Invalid")),
            }
        }
        Ok(())
    }
}

fn of_invocation(invocation: &Invocation, message: String, reason: &'static str) -> Option<Failed> {
    let (policy, binding) = (&invocation.policy, &invocation.binding.name);
    (policy.failure == FailurePolicy::Fail).then(|| Failed {
        message: format!(
            "policy '{}' with binding '{binding}' denied request: {message}",
            policy.name
        ),
        reason,
    })
}

fn misconfigured(policy: &Policy, binding: Option<&Binding>, wrong: &Misconfigured) -> Option<Failed> {
    let (name, why) = (&policy.name, wrong.message());
    (policy.failure == FailurePolicy::Fail).then(|| Failed {
        message: match binding {
            Some(binding) => format!("policy '{name}' with binding '{}' denied request: {why}", binding.name),
            None => format!("policy {} denied request: {why}", api::field::go_quote(name)),
        },
        reason: "",
    })
}

/// 403 with every failure as a cause; the first is the message.
fn refusal(attributes: &Attributes<'_>, failed: &[Failed]) -> Status {
    let mut status = attributes.forbid("");
    for one in failed {
        status = status.with_cause("", &one.message, "");
    }
    if let Some(first) = failed.first() {
        first.message.clone_into(&mut status.message);
        if !first.reason.is_empty() {
            first.reason.clone_into(&mut status.reason);
        }
    }
    status
}
