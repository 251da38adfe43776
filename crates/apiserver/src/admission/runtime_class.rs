//! Pods get the overhead and the nodes of their runtime class (`plugin/pkg/admission/runtimeclass`).

use api::{Status, Value};
use async_trait::async_trait;
use quota::amounts;

use super::{Attributes, Operation, Plugin, Step, lookup, tolerations};
use crate::kind::value_at;
use crate::state::State;

pub(super) struct RuntimeClass;

/// The pod's class, if it names one.
async fn class(state: &State, attributes: &Attributes<'_>, pod: &Value) -> Result<Option<Value>, Status> {
    let Some(name) = value_at(pod, "spec.runtimeClassName").and_then(Value::as_str) else {
        return Ok(None);
    };
    if state.any_version("node.k8s.io", "runtimeclasses").is_none() {
        return Ok(None);
    }
    // The client that upstream asks with refuses before it asks.
    if name.is_empty() {
        return Err(Status::failure(500, "", "resource name may not be empty"));
    }
    let found = lookup::get(state, "node.k8s.io", "runtimeclasses", "", name).await?;
    found.map(Some).ok_or_else(|| {
        let name = api::field::go_quote(name);
        attributes.forbid(format!("pod rejected: RuntimeClass {name} not found"))
    })
}

/// What the class adds to a pod's resources.
fn overhead(class: Option<&Value>) -> Option<&Value> {
    let overhead = class?.get("overhead").filter(|overhead| !overhead.is_null())?;
    Some(overhead.get("podFixed").unwrap_or(&Value::Null))
}

fn of_pod(pod: &Value) -> Option<&Value> {
    value_at(pod, "spec.overhead").filter(|overhead| !overhead.is_null())
}

fn is_same(a: &Value, b: Option<&Value>) -> bool {
    amounts::read(Some(a)) == amounts::read(b)
}

const DIFFERS: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";

#[async_trait]
impl Plugin for RuntimeClass {
    fn concerns(&self, _step: Step, group: &str, plural: &str) -> bool {
        (group, plural) == ("", "pods")
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    async fn mutate(&self, state: &State, attributes: &Attributes<'_>, pod: &mut Value) -> Result<(), Status> {
        if !attributes.is("", "pods") {
            return Ok(());
        }
        let Some(class) = class(state, attributes, pod).await? else {
            return Ok(());
        };
        if let Some(fixed) = overhead(Some(&class)) {
            if of_pod(pod).is_some_and(|own| !is_same(fixed, Some(own))) {
                return Err(attributes.forbid(DIFFERS));
            }
            if fixed.is_object() {
                pod["spec"]["overhead"] = fixed.clone();
            }
        }
        match class.get("scheduling").filter(|scheduling| scheduling.is_object()) {
            Some(scheduling) => schedule(attributes, scheduling, pod),
            None => Ok(()),
        }
    }

    async fn validate(&self, state: &State, attributes: &Attributes<'_>, pod: Option<&Value>) -> Result<(), Status> {
        let Some(pod) = pod.filter(|_| attributes.is("", "pods")) else {
            return Ok(());
        };
        let class = class(state, attributes, pod).await?;
        match overhead(class.as_ref()) {
            Some(fixed) if is_same(fixed, of_pod(pod)) => Ok(()),
            Some(_) => Err(attributes.forbid(DIFFERS)),
            None if of_pod(pod).is_none() => Ok(()),
            None => {
                Err(attributes
                    .forbid("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"))
            }
        }
    }
}

fn schedule(attributes: &Attributes<'_>, scheduling: &Value, pod: &mut Value) -> Result<(), Status> {
    let selector = scheduling.get("nodeSelector").and_then(Value::as_object);
    for (key, value) in selector.into_iter().flatten() {
        let own = value_at(pod, "spec.nodeSelector").and_then(|own| own.get(key));
        if let Some(own) = own.filter(|own| *own != value) {
            let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
            return Err(attributes.forbid(format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                text(value),
                text(own)
            )));
        }
    }
    for (key, value) in selector.into_iter().flatten() {
        pod["spec"]["nodeSelector"][key.as_str()] = value.clone();
    }
    let extra = scheduling.get("tolerations").and_then(Value::as_array);
    if let Some(extra) = extra.filter(|extra| !extra.is_empty()) {
        let merged = tolerations::merge(tolerations::of_pod(pod), extra);
        pod["spec"]["tolerations"] = merged.into();
    }
    Ok(())
}
