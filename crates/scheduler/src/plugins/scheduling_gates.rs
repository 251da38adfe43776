//! A pod with scheduling gates is not tried (KEP-3521).

use crate::framework::Plugin;
use crate::pod::PodInfo;
use crate::queue::ClusterEvent;

pub(super) struct SchedulingGates;

impl Plugin for SchedulingGates {
    fn name(&self) -> &'static str {
        "SchedulingGates"
    }

    fn pre_enqueue(&self, pod: &PodInfo) -> Result<(), String> {
        let gates = pod.spec().scheduling_gates.as_deref().unwrap_or_default();
        if gates.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = gates.iter().map(|gate| gate.name.as_str()).collect();
        Err(format!("waiting for scheduling gates: [{}]", names.join(" ")))
    }

    fn wakes_on(&self, _event: ClusterEvent) -> bool {
        false
    }
}
