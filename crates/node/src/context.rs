use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use client::{Cache, Client};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use parking_lot::Mutex;
use runtime::Runtime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::NodeConfig;
use crate::machine::Facts;
use crate::paths::PodDir;
use crate::recorder::Recorder;
use crate::sources::Sources;
use crate::volumes::Tokens;

/// What all parts of a node share.
pub(crate) struct Context {
    pub config: NodeConfig,
    pub clock: Clock,
    pub recorder: Recorder,
    pub services: Cache<Service>,
    pub sources: Sources,
    pub pods: Cache<Pod>,
    pub workers: Arc<Workers>,
    pub tokens: Tokens,
    pub facts: Facts,
    pub started_at: Timestamp,
    pub runtime_name: String,
    pub stop: CancellationToken,
}

impl Context {
    pub fn client(&self) -> &Client {
        &self.config.client
    }

    pub fn runtime(&self) -> &dyn Runtime {
        &*self.config.runtime
    }

    pub fn data_dir(&self) -> &Path {
        &self.config.data_dir
    }

    pub fn pod_dir(&self, pod: &Pod) -> PodDir {
        PodDir::of(&self.config.data_dir, pod)
    }

    pub fn pods_dir(&self) -> PathBuf {
        crate::paths::pods(&self.config.data_dir)
    }

    /// What the node can give to pods.
    pub fn allocatable(&self) -> BTreeMap<String, Quantity> {
        crate::node_status::capacity(self)
    }
}

/// What a pod's worker is told.
#[derive(Clone)]
pub(crate) struct Signal {
    /// The newest version of the pod.
    pub pod: Arc<Pod>,
    /// The API still has it.
    pub present: bool,
    /// Counts events of the runtime.
    pub pulse: u64,
    /// Counts changes of ConfigMaps and Secrets it refers to.
    pub sources: u64,
    /// It is to be evicted, and why.
    pub evict: Option<Arc<str>>,
}

/// The workers, by pod UID.
#[derive(Default)]
pub(crate) struct Workers {
    all: Mutex<HashMap<String, watch::Sender<Signal>>>,
    /// UIDs of pods that were taken since this agent started.
    admitted: Mutex<BTreeSet<String>>,
}

impl Workers {
    /// Tells the worker of the pod's UID; `None` if there is one, else what to start one with.
    pub fn tell(&self, pod: &Arc<Pod>, present: bool) -> Option<watch::Receiver<Signal>> {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let mut all = self.all.lock();
        if let Some(sender) = all.get(&uid) {
            sender.send_modify(|signal| {
                signal.pod = pod.clone();
                signal.present = present;
            });
            return None;
        }
        if !present {
            return None;
        }
        let (sender, receiver) = watch::channel(Signal {
            pod: pod.clone(),
            present,
            pulse: 0,
            sources: 0,
            evict: None,
        });
        all.insert(uid, sender);
        Some(receiver)
    }

    /// Something happened in the runtime; false if there is no such worker.
    pub fn pulse(&self, uid: &str) -> bool {
        let all = self.all.lock();
        all.get(uid)
            .map(|sender| sender.send_modify(|signal| signal.pulse += 1))
            .is_some()
    }

    /// Anything may have happened in the runtime.
    pub fn pulse_all(&self) {
        self.all
            .lock()
            .values()
            .for_each(|sender| sender.send_modify(|signal| signal.pulse += 1));
    }

    /// A ConfigMap or Secret that the pod refers to changed.
    pub fn sources_changed(&self, uid: &str) {
        if let Some(sender) = self.all.lock().get(uid) {
            sender.send_modify(|signal| signal.sources += 1);
        }
    }

    /// The pod has to go.
    pub fn evict(&self, uid: &str, message: &str) {
        if let Some(sender) = self.all.lock().get(uid) {
            sender.send_modify(|signal| signal.evict = Some(message.into()));
        }
    }

    pub fn remove(&self, uid: &str) {
        self.all.lock().remove(uid);
        self.admitted.lock().remove(uid);
    }

    /// Takes the pod, unless something speaks against it beside those that were taken; one pod at a time.
    pub fn admit<R>(&self, uid: &str, check: impl FnOnce(&BTreeSet<String>) -> Option<R>) -> Option<R> {
        let mut admitted = self.admitted.lock();
        let refusal = check(&admitted);
        if refusal.is_none() {
            admitted.insert(uid.to_owned());
        }
        refusal
    }

    pub fn has(&self, uid: &str) -> bool {
        self.all.lock().contains_key(uid)
    }
}
