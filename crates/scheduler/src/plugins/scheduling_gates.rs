//! A pod with scheduling gates is not tried (KEP-3521).

use crate::framework::{Action, Context, Plugin, Point, Registration, Resource};
use crate::pod::PodInfo;

pub(super) struct SchedulingGates;

impl Plugin for SchedulingGates {
    fn name(&self) -> &'static str {
        "SchedulingGates"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreEnqueue]
    }

    fn pre_enqueue(&self, _context: &Context, pod: &PodInfo) -> Result<(), String> {
        let gates = &pod.shape.gates;
        if gates.is_empty() {
            return Ok(());
        }
        Err(format!("waiting for scheduling gates: [{}]", gates.join(" ")))
    }

    fn events(&self) -> Vec<Registration> {
        vec![(Resource::UnscheduledPod, Action::UPDATE_POD_GATES_ELIMINATED)]
    }
}
