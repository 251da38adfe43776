//! The scheduler, shared by the one task that runs it and by who looks at it.

use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use parking_lot::Mutex;
use scheduler::config::{Configuration, Invalid};
use scheduler::queue::Patience;
use scheduler::{Profile, Scheduler, plugins};
use serde_json::Value;

use super::webhooks::Webhooks;

/// A scheduler. Cheap to clone. The lock is held for single steps, never across an await; with extenders, a step takes
/// as long as they do.
#[derive(Clone)]
pub struct SchedulerHandle {
    scheduler: Arc<Mutex<Scheduler>>,
    webhooks: Webhooks,
}

impl fmt::Debug for SchedulerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SchedulerHandle")
    }
}

impl Default for SchedulerHandle {
    fn default() -> Self {
        SchedulerHandle::new(vec![plugins::default_profile()], Patience::default())
    }
}

impl SchedulerHandle {
    /// A scheduler with these profiles, at least one.
    pub fn new(profiles: Vec<Profile>, patience: Patience) -> SchedulerHandle {
        let mut scheduler = Scheduler::new(profiles, patience, rand::random());
        scheduler.clock = Some(seconds);
        SchedulerHandle {
            scheduler: Arc::new(Mutex::new(scheduler)),
            webhooks: Webhooks::default(),
        }
    }

    /// The scheduler that a KubeSchedulerConfiguration describes.
    ///
    /// # Errors
    /// Everything that is wrong with the file.
    pub fn configured(file: &Value) -> Result<SchedulerHandle, Invalid> {
        let read = Configuration::read(file)?;
        let webhooks = Webhooks::new(read.extenders).map_err(Invalid)?;
        Ok(SchedulerHandle {
            webhooks,
            ..SchedulerHandle::new(read.profiles, read.patience)
        })
    }

    /// Does something with the scheduler. It must be quick: nothing is scheduled meanwhile.
    pub fn with<R>(&self, act: impl FnOnce(&mut Scheduler) -> R) -> R {
        act(&mut self.scheduler.lock())
    }

    pub(super) fn webhooks(&self) -> &Webhooks {
        &self.webhooks
    }

    /// What is at a path below the one where verdicts are served (see `scheduler::verdicts`).
    pub fn verdicts(&self, path: &str) -> Option<Value> {
        self.with(|scheduler| scheduler::verdicts::at(scheduler, path))
    }

    /// Its numbers in Prometheus' text form.
    pub fn metrics(&self) -> String {
        self.with(|scheduler| {
            let cluster = &scheduler.cluster;
            scheduler
                .metrics
                .render(scheduler.queue(), cluster.node_count(), cluster.pod_count())
        })
    }
}

/// Seconds since the first time that it was asked.
fn seconds() -> f64 {
    static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);
    BEGUN.elapsed().as_secs_f64()
}
