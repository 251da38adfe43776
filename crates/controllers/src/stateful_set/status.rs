//! A set's status.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::{Sync, revision_of};
use crate::diff::merge_patch;
use crate::object::is_deleting;
use crate::plan::{Action, Plan};
use crate::pod::{is_ready, phase};

impl Sync<'_> {
    /// Counts, and patches the status if it differs.
    pub(super) fn report(&self, pods: &[Arc<Pod>], plan: &mut Plan) {
        let count = |counts: &dyn Fn(&Pod) -> bool| {
            i32::try_from(pods.iter().filter(|pod| counts(pod)).count()).unwrap_or(i32::MAX)
        };
        let nonzero = |count: i32| Some(count).filter(|count| *count != 0);
        let running_ready = |pod: &Pod| phase(pod) == "Running" && is_ready(pod);
        let of = |pod: &Pod, revision: &str| !is_deleting(pod) && revision_of(pod) == Some(revision);
        let replicas = count(&|_| true);
        let ready = count(&running_ready);
        let available = count(&|pod| running_ready(pod) && self.is_available(pod));
        let updated = count(&|pod| of(pod, &self.update.name));
        let mut current = count(&|pod| of(pod, &self.current.name));
        let mut current_revision = &self.current.name;
        let wanted = self.wanted();
        if self.is_rolling() && updated == wanted && replicas == wanted && ready == wanted {
            (current, current_revision) = (updated, &self.update.name);
        }
        let old = self.set.status.clone().unwrap_or_default();
        let mut new = old.clone();
        new.observed_generation = self.set.metadata.generation;
        new.replicas = replicas;
        new.ready_replicas = nonzero(ready);
        new.available_replicas = Some(available);
        new.updated_replicas = nonzero(updated);
        new.current_replicas = nonzero(current);
        new.current_revision = Some(current_revision.clone());
        new.update_revision = Some(self.update.name.clone());
        new.collision_count = Some(old.collision_count.unwrap_or(0));
        if let Some(status) = merge_patch(&old, &new) {
            plan.finally(Action::patch_status(self.set, json!({"status": status})));
        }
    }
}
