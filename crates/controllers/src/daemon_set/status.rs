//! A set's status.

use jiff::SignedDuration;
use serde_json::json;

use super::{Sync, pods};
use crate::diff::merge_patch;
use crate::object::name;
use crate::plan::{Action, Plan};
use crate::pod::{available_in, is_ready};

impl Sync<'_> {
    /// Counts, patches the status if it differs, and looks again when a ready pod will count as available.
    pub(super) fn report(&self, plan: &mut Plan) {
        let (mut desired, mut scheduled, mut misscheduled, mut ready, mut updated, mut available) = (0, 0, 0, 0, 0, 0);
        let min_ready = self.set.spec.min_ready_seconds.unwrap_or(0);
        for node in &self.nodes {
            let oldest = self.by_node.get(name(&**node)).and_then(|pods| pods.first());
            if !pods::verdict(self.set, node).run {
                misscheduled += i32::from(oldest.is_some());
                continue;
            }
            desired += 1;
            let Some(pod) = oldest else { continue };
            scheduled += 1;
            ready += i32::from(is_ready(pod));
            updated += i32::from(self.is_updated(pod));
            match available_in(pod, min_ready, self.turn.now) {
                Some(SignedDuration::ZERO) => available += 1,
                Some(left) => plan.look_again(left),
                None => {}
            }
        }
        let nonzero = |count: i32| Some(count).filter(|count| *count != 0);
        let old = self.set.status.clone().unwrap_or_default();
        let mut new = old.clone();
        new.desired_number_scheduled = desired;
        new.current_number_scheduled = scheduled;
        new.number_misscheduled = misscheduled;
        new.number_ready = ready;
        new.updated_number_scheduled = nonzero(updated);
        new.number_available = nonzero(available);
        new.number_unavailable = nonzero(desired - available);
        new.observed_generation = self.set.metadata.generation;
        if let Some(status) = merge_patch(&old, &new) {
            plan.finally(Action::patch_status(self.set, json!({"status": status})));
        }
    }
}
