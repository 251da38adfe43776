//! Pods may keep others off their node, but not off their zone
//! (`plugin/pkg/admission/antiaffinity`). Off by default.

use api::{Status, Value};
use async_trait::async_trait;

use super::{Attributes, Operation, Plugin};
use crate::kind::value_at;
use crate::state::State;

const HOSTNAME: &str = "kubernetes.io/hostname";

pub(super) struct LimitPodHardAntiAffinityTopology;

#[async_trait]
impl Plugin for LimitPodHardAntiAffinityTopology {
    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn validate(&self, _state: &State, attributes: &Attributes<'_>, pod: Option<&Value>) -> Result<(), Status> {
        let Some(pod) = pod.filter(|_| attributes.is("", "pods")) else {
            return Ok(());
        };
        let path = "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution";
        let terms = value_at(pod, path).and_then(Value::as_array);
        for term in terms.into_iter().flatten() {
            let key = term.get("topologyKey").and_then(Value::as_str).unwrap_or("");
            if key != HOSTNAME {
                return Err(attributes.forbid(format!(
                    "affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey {key} but only key {HOSTNAME} is allowed"
                )));
            }
        }
        Ok(())
    }
}
