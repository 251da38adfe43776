//! Taking a pod that is new here, or refusing it (`canAdmitPod`, pkg/kubelet/kubelet.go).

use k8s_openapi::api::core::v1::Pod;
use podlife::admission::refuse;
use podlife::{Cause, Ending};

use super::Worker;
use crate::recorder::Type;

impl Worker {
    /// A pod that does not fit beside those that were taken before fails. One that had begun was taken already.
    pub(super) fn admit(&mut self) {
        let is_new = !has_begun(&self.pod) && !has_ended(&self.pod);
        let (Some(spec), None, true) = (&self.pod.spec, &self.pod.metadata.deletion_timestamp, is_new) else {
            return;
        };
        let allocatable = self.ctx.allocatable();
        let all = self.ctx.pods.list();
        let refusal = self.ctx.workers.admit(&self.uid, |admitted| {
            let beside = |pod: &Pod| {
                let uid = pod.metadata.uid.as_deref().unwrap_or_default();
                uid != self.uid && !has_ended(pod) && (has_begun(pod) || admitted.contains(uid))
            };
            let others = all.iter().filter(|pod| beside(pod));
            refuse(spec, others.filter_map(|pod| pod.spec.as_ref()), &allocatable)
        });
        let Some(refusal) = refusal else { return };
        tracing::info!(
            pod = podlife::spec::display(&self.pod),
            reason = refusal.reason,
            message = refusal.message,
            "a pod does not fit on this node"
        );
        self.ctx
            .recorder
            .pod(&self.pod, Type::Warning, &refusal.reason, refusal.message.clone());
        self.memory.ending = Some(Ending {
            deadline: self.now(),
            cause: Cause::Failed {
                reason: refusal.reason,
                message: format!("Pod was rejected: {}", refusal.message),
            },
        });
    }
}

fn has_begun(pod: &Pod) -> bool {
    pod.status.as_ref().is_some_and(|status| status.start_time.is_some())
}

fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}
