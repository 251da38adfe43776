//! Keeping a running pod's volumes up to date.

use jiff::Timestamp;
use podlife::Lifecycle;

use super::{Done, Retry, Worker};
use crate::recorder::Type;
use crate::volumes;

/// Where the pod's volumes are.
#[derive(Default)]
pub(super) struct Volumes {
    /// They are there, as far as this worker knows.
    pub made: bool,
    /// Something they are made from changed.
    pub dirty: bool,
    /// They are being brought up to date.
    pub busy: bool,
    due: Option<Timestamp>,
    retry: Retry,
}

impl Volumes {
    pub fn wake_at(&self) -> Option<Timestamp> {
        if self.busy {
            None
        } else {
            self.due.into_iter().chain(self.retry.not_before).min()
        }
    }
}

impl Worker {
    /// Brings them up to date if it is time. Volumes of a pod that was found running are looked at once.
    pub(super) fn care_for_volumes(&mut self, lifecycle: Lifecycle, now: Timestamp) {
        let adopted = !self.volumes.made && self.runtime.active_sandbox().is_some();
        let due = self.volumes.dirty || adopted || self.volumes.due.is_some_and(|due| due <= now);
        let possible = (self.volumes.made || adopted)
            && !self.volumes.busy
            && !self.memory.sandbox_busy
            && lifecycle == Lifecycle::Syncing
            && !self.volumes.retry.waits(now);
        if !due || !possible {
            return;
        }
        self.volumes.busy = true;
        self.volumes.dirty = false;
        let (ctx, pod) = (self.ctx.clone(), self.pod.clone());
        self.spawn(async move {
            let result = volumes::ensure(&ctx, &pod).await;
            if let Err(error) = &result {
                ctx.recorder.pod(&pod, Type::Warning, "FailedMount", error.to_string());
            }
            Done::Volumes(result.map_err(|error| error.to_string()))
        });
    }

    pub(super) fn volumes_done(&mut self, result: Result<Option<Timestamp>, String>, now: Timestamp) {
        self.volumes.busy = false;
        match result {
            Ok(due) => {
                self.volumes.made = true;
                self.volumes.due = due;
                self.volumes.retry = Retry::default();
            }
            Err(error) => {
                tracing::warn!(
                    error,
                    uid = self.uid,
                    "the pod's volumes are not up to date; will retry"
                );
                self.volumes.dirty = true;
                self.volumes.retry.failed(now);
            }
        }
    }
}
