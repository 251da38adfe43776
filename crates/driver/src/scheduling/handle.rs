//! The scheduler, shared by the one task that runs it and by who looks at it.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use scheduler::config::{Configuration, Invalid};
use scheduler::queue::Patience;
use scheduler::{Profile, Scheduler, plugins};
use serde_json::Value;

/// A scheduler. Cheap to clone. The lock is held for single steps, never across an await.
#[derive(Clone)]
pub struct SchedulerHandle(Arc<Mutex<Scheduler>>);

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
        let scheduler = Scheduler::new(profiles, patience, rand::random());
        SchedulerHandle(Arc::new(Mutex::new(scheduler)))
    }

    /// The scheduler that a KubeSchedulerConfiguration describes.
    ///
    /// # Errors
    /// Everything that is wrong with the file. Extenders are refused: their webhooks are not called.
    pub fn configured(file: &Value) -> Result<SchedulerHandle, Invalid> {
        let read = Configuration::read(file)?;
        if !read.extenders.is_empty() {
            let why = "extenders: Forbidden: webhooks of extenders are not called by this scheduler";
            return Err(Invalid(vec![why.to_owned()]));
        }
        Ok(SchedulerHandle::new(read.profiles, read.patience))
    }

    /// Does something with the scheduler. It must be quick: nothing is scheduled meanwhile.
    pub fn with<R>(&self, act: impl FnOnce(&mut Scheduler) -> R) -> R {
        act(&mut self.0.lock())
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
