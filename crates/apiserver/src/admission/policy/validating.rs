//! The plugin `ValidatingAdmissionPolicy` (upstream `policy/validating/dispatcher.go`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use api::{Status, Value};
use async_trait::async_trait;
use serde_json::json;

use super::decision::{Annotation, Decision, Evaluated, evaluate};
use super::definition::{Binding, Policy};
use super::invocation::{self, Bound, Misconfigured, Source};
use crate::admission::expressions::{Checks, Inputs};
use crate::admission::matching::{Match, is_exempt};
use crate::admission::metrics::{PolicyCheck, PolicyKind};
use crate::admission::webhook::FailurePolicy;
use crate::admission::{Attributes, Plugin, Step};
use crate::state::State;

/// The longest value of an audit annotation.
const LONGEST_ANNOTATION_BYTES: usize = 10 * 1024;
const FAILURES: &str = "validation.policy.admission.k8s.io/validation_failure";

/// The plugin.
pub(in crate::admission) struct ValidatingPolicies(Source);

impl ValidatingPolicies {
    pub fn new() -> ValidatingPolicies {
        ValidatingPolicies(Source::new(
            "validatingadmissionpolicies",
            "validatingadmissionpolicybindings",
        ))
    }
}

/// A refusal.
struct Denied {
    message: String,
    reason: String,
}

#[async_trait]
impl Plugin for ValidatingPolicies {
    fn concerns(&self, step: Step, _group: &str, _plural: &str) -> bool {
        step == Step::Validate
    }

    async fn validate(&self, state: &State, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
        if is_exempt(attributes) {
            return Ok(());
        }
        let bound = self.0.bound(state).await?;
        if bound.is_empty() {
            return Ok(());
        }
        let checks = Arc::new(Checks::default());
        let mut denied = Vec::new();
        for bound in &bound {
            let request = Request {
                state,
                attributes,
                object,
                bound,
                checks: &checks,
            };
            request.judge(&mut denied).await?;
        }
        match denied.into_iter().next() {
            Some(first) => Err(refusal(attributes, first)),
            None => Ok(()),
        }
    }
}

/// One policy and the request.
struct Request<'a> {
    state: &'a State,
    attributes: &'a Attributes<'a>,
    object: Option<&'a Value>,
    bound: &'a Bound,
    checks: &'a Arc<Checks>,
}

impl Request<'_> {
    async fn judge(&self, denied: &mut Vec<Denied>) -> Result<(), Status> {
        let policy = &self.bound.policy;
        let matched = match invocation::of_policy(self.state, self.attributes, policy, self.object).await {
            Ok(None) => return Ok(()),
            Ok(Some(matched)) => matched,
            Err(wrong) => {
                denied.extend(misconfigured(policy, None, &wrong));
                return Ok(());
            }
        };
        let mut collected = Collected::default();
        let mut inputs: Option<Inputs> = None;
        for binding in &self.bound.bindings {
            let found = invocation::of_binding(self.state, self.attributes, (policy, binding), self.object).await;
            let params = match found {
                Ok(params) => params,
                Err(wrong) => {
                    let binding = matches!(wrong, Misconfigured::Binding(_)).then_some(&**binding);
                    denied.extend(misconfigured(policy, binding, &wrong));
                    continue;
                }
            };
            for param in params {
                let inputs = match &mut inputs {
                    Some(inputs) => inputs,
                    none => none.insert(self.inputs(&matched).await?),
                };
                inputs.set_params(param.as_ref());
                let started = Instant::now();
                let checked = self
                    .checks
                    .settled(self.state, &self.attributes.call.user, || evaluate(policy, inputs));
                let evaluated = checked.await;
                self.act(binding, evaluated, started, denied, &mut collected);
            }
        }
        collected.publish(&policy.name, self.attributes);
        Ok(())
    }

    async fn inputs(&self, matched: &Match) -> Result<Inputs, Status> {
        let namespace = invocation::namespace_object(self.state, self.attributes).await?;
        let (attributes, checks) = (self.attributes, self.checks);
        invocation::inputs(attributes, matched, self.object, namespace.as_ref(), checks).await
    }

    /// Does what the binding says about what the policy decided.
    fn act(
        &self,
        binding: &Binding,
        evaluated: Evaluated,
        started: Instant,
        denied: &mut Vec<Denied>,
        collected: &mut Collected,
    ) {
        let policy = &self.bound.policy.name;
        let by = format!("ValidatingAdmissionPolicy '{policy}' with binding '{}'", binding.name);
        let metrics = &self.state.metrics.admission;
        let observe = |action: &'static str, failed: bool| {
            metrics.policy_checked(&PolicyCheck {
                kind: PolicyKind::Validating,
                policy,
                binding: &binding.name,
                error: if failed { "invalid_error" } else { "no_error" },
                action,
                took: started.elapsed(),
            });
        };
        for (index, decision) in evaluated.decisions.into_iter().enumerate() {
            if !decision.denied {
                if decision.failed {
                    observe("allow", true);
                }
                continue;
            }
            for action in &binding.actions {
                match action.as_str() {
                    "Deny" => {
                        denied.push(Denied {
                            message: format!("{by} denied request: {}", decision.message),
                            reason: decision.reason.clone(),
                        });
                        observe("deny", decision.failed);
                    }
                    "Audit" => {
                        self.audit(binding, index, &decision);
                        observe("audit", decision.failed);
                    }
                    "Warn" => {
                        let text = format!("Validation failed for {by}: {}", decision.message);
                        self.attributes.call.warnings.add(text);
                        observe("warn", decision.failed);
                    }
                    _ => {}
                }
            }
        }
        for annotation in evaluated.annotations {
            match annotation {
                Annotation::Publish { key, value } => collected.add(key, &value),
                Annotation::Exclude => {}
                Annotation::Error(error) => {
                    denied.push(Denied {
                        message: format!("{by} denied request: {error}"),
                        reason: String::new(),
                    });
                    observe("deny", true);
                }
            }
        }
    }

    fn audit(&self, binding: &Binding, index: usize, decision: &Decision) {
        let value = json!([{
            "message": decision.message, "policy": binding.policy, "binding": binding.name,
            "expressionIndex": index, "validationActions": binding.actions,
        }]);
        self.attributes.annotate(FAILURES, value.to_string());
    }
}

fn misconfigured(policy: &Policy, binding: Option<&Binding>, wrong: &Misconfigured) -> Option<Denied> {
    if policy.failure == FailurePolicy::Ignore {
        return None;
    }
    let (name, why) = (&policy.name, wrong.message());
    Some(Denied {
        message: match binding {
            Some(binding) => {
                let binding = &binding.name;
                format!("ValidatingAdmissionPolicy '{name}' with binding '{binding}' denied request: {why}")
            }
            None => format!("ValidatingAdmissionPolicy '{name}' denied request: {why}"),
        },
        reason: String::new(),
    })
}

fn refusal(attributes: &Attributes<'_>, denied: Denied) -> Status {
    let mut status = attributes.forbid(&denied.message).with_cause("", &denied.message, "");
    let reason = if denied.reason.is_empty() {
        "Invalid"
    } else {
        &denied.reason
    };
    status.code = match reason {
        "Forbidden" => 403,
        "Unauthorized" => 401,
        "RequestEntityTooLarge" => 413,
        _ => 422,
    };
    status.reason = reason.to_owned();
    status
}

/// Values of audit annotations, of all bindings of a policy.
#[derive(Default)]
struct Collected(BTreeMap<String, Vec<String>>);

impl Collected {
    fn add(&mut self, key: String, value: &str) {
        let end = value.floor_char_boundary(LONGEST_ANNOTATION_BYTES);
        let value = &value[..end];
        let values = self.0.entry(key).or_default();
        if !values.iter().any(|other| other == value) {
            values.push(value.to_owned());
        }
    }

    fn publish(self, policy: &str, attributes: &Attributes<'_>) {
        for (key, values) in self.0 {
            attributes.annotate(&format!("{policy}/{key}"), values.join(", "));
        }
    }
}
