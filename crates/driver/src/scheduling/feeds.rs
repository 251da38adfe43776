//! What plugins see of kinds other than pods and nodes. A kind is watched from when the first pod needs
//! it. **A new kind is one line in [`Feeds::start`].**

use std::collections::HashSet;
use std::sync::Arc;

use api::{Gvr, Value};
use client::{Cache, CacheOptions, Caches, Object};
use controllers::Untyped;
use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Namespace, PersistentVolume, PersistentVolumeClaim, ReplicationController, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::{CSIDriver, StorageClass, VolumeAttachment};
use scheduler::framework::{Resource, Shared};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const STORAGE: &str = "storage.k8s.io";
const DEVICES: &str = "resource.k8s.io";

/// What a feed says.
pub(super) enum Told {
    /// An object came, changed or went.
    Change(Resource, Option<Shared>, Option<Shared>),
    /// All objects that there were have been told.
    Complete(Resource),
}

pub(super) struct Feeds {
    caches: Caches,
    tell: mpsc::Sender<Told>,
    stop: CancellationToken,
    started: HashSet<Resource>,
    complete: HashSet<Resource>,
}

impl Feeds {
    pub(super) fn new(caches: Caches, tell: mpsc::Sender<Told>, stop: CancellationToken) -> Feeds {
        Feeds {
            caches,
            tell,
            stop,
            started: HashSet::new(),
            complete: HashSet::new(),
        }
    }

    /// Starts what was not started of these kinds; whether all of them are complete.
    pub(super) fn complete(&mut self, needs: &[Resource]) -> bool {
        for resource in needs {
            if self.started.insert(*resource) {
                self.start(*resource);
            }
        }
        needs.iter().all(|resource| self.complete.contains(resource))
    }

    pub(super) fn is_complete(&mut self, resource: Resource) {
        self.complete.insert(resource);
    }

    fn start(&mut self, resource: Resource) {
        match resource {
            Resource::Namespace => self.follow::<Namespace>(resource),
            Resource::Service => self.follow::<Service>(resource),
            Resource::ReplicationController => self.follow::<ReplicationController>(resource),
            Resource::ReplicaSet => self.follow::<ReplicaSet>(resource),
            Resource::StatefulSet => self.follow::<StatefulSet>(resource),
            Resource::PodDisruptionBudget => self.follow::<PodDisruptionBudget>(resource),
            Resource::PersistentVolume => self.follow::<PersistentVolume>(resource),
            Resource::PersistentVolumeClaim => self.follow::<PersistentVolumeClaim>(resource),
            Resource::StorageClass => self.follow::<StorageClass>(resource),
            Resource::CsiDriver => self.follow::<CSIDriver>(resource),
            Resource::VolumeAttachment => self.follow::<VolumeAttachment>(resource),
            Resource::CsiNode => self.follow_values(resource, STORAGE, "csinodes"),
            Resource::CsiStorageCapacity => self.follow_values(resource, STORAGE, "csistoragecapacities"),
            Resource::ResourceClaim => self.follow_values(resource, DEVICES, "resourceclaims"),
            Resource::ResourceSlice => self.follow_values(resource, DEVICES, "resourceslices"),
            Resource::DeviceClass => self.follow_values(resource, DEVICES, "deviceclasses"),
            Resource::DeviceTaintRule => self.follow_values(resource, DEVICES, "devicetaintrules"),
            // Told by other means, or by nobody: nothing to wait for.
            _ => {
                self.complete.insert(resource);
            }
        }
    }

    fn follow<K: Object>(&self, resource: Resource) {
        self.follow_cache(resource, self.caches.get::<K>(), |object| object);
    }

    /// A kind that is seen as JSON.
    fn follow_values(&self, resource: Resource, group: &str, plural: &str) {
        let gvr = Gvr::new(group, "v1", plural);
        let cache = self.caches.untyped::<Untyped>(&gvr, CacheOptions::default());
        self.follow_cache(resource, cache, |object| {
            let value: Value = controllers::to_value(&*object);
            Arc::new(value)
        });
    }

    fn follow_cache<K: Object>(&self, resource: Resource, cache: Cache<K>, share: fn(Arc<K>) -> Shared) {
        let (tell, stop) = (self.tell.clone(), self.stop.clone());
        tokio::spawn(async move {
            let body = async {
                cache.synced().await;
                let mut changes = cache.subscribe();
                let mut complete = false;
                loop {
                    let change = match changes.try_next() {
                        Some(change) => change,
                        None if !complete => {
                            complete = true;
                            if tell.send(Told::Complete(resource)).await.is_err() {
                                return;
                            }
                            continue;
                        }
                        None => changes.next().await,
                    };
                    let told = Told::Change(resource, change.old.map(share), change.new.map(share));
                    if tell.send(told).await.is_err() {
                        return;
                    }
                }
            };
            stop.run_until_cancelled(body).await;
        });
    }
}
