//! One cache a kind a process.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::Arc;

use api::Gvr;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::{Cache, CacheOptions, PartialObject, Trim};
use crate::{Client, Object};

/// The caches that all components of a process share. Cheap to clone.
///
/// Its client needs list and watch on whatever is asked for. A cache starts with the first request
/// for it and lives as long as the registry.
#[derive(Clone)]
pub struct Caches {
    client: Client,
    stop: CancellationToken,
    typed: Arc<Mutex<HashMap<TypeId, Box<dyn Any + Send + Sync>>>>,
    metadata: Arc<Mutex<HashMap<Gvr, Cache<PartialObject>>>>,
}

impl std::fmt::Debug for Caches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Caches")
    }
}

impl Caches {
    /// An empty registry; all its caches end with `stop`.
    pub fn new(client: Client, stop: CancellationToken) -> Self {
        Self {
            client,
            stop,
            typed: Arc::default(),
            metadata: Arc::default(),
        }
    }

    /// The client that feeds the caches.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The cache of all objects of a kind (without managedFields).
    pub fn get<K: Object>(&self) -> Cache<K> {
        let mut typed = self.typed.lock();
        let cache = typed.entry(TypeId::of::<K>()).or_insert_with(|| {
            Box::new(Cache::<K>::start(
                self.client.of::<K>(),
                CacheOptions::default(),
                &self.stop,
            ))
        });
        cache
            .downcast_ref::<Cache<K>>()
            .expect("the entry is keyed by its type")
            .clone()
    }

    /// A cache of a selection; it is the caller's own.
    pub fn selected<K: Object>(&self, options: CacheOptions<K>) -> Cache<K> {
        Cache::start(self.client.of::<K>(), options, &self.stop)
    }

    /// A cache of a selection of any resource, decoded as `K`; it is the caller's own.
    pub fn untyped<K: Object>(&self, resource: &Gvr, options: CacheOptions<K>) -> Cache<K> {
        let handle = crate::Handle::new(self.client.clone(), resource.clone());
        Cache::start(handle, options, &self.stop)
    }

    /// The cache of names, UIDs, owners and finalizers of all objects of any resource.
    pub fn metadata(&self, resource: &Gvr) -> Cache<PartialObject> {
        let mut metadata = self.metadata.lock();
        let cache = metadata.entry(resource.clone()).or_insert_with(|| {
            let handle = crate::Handle::new(self.client.clone(), resource.clone()).metadata_only();
            let trim = Trim::With(PartialObject::trim_to_ownership);
            Cache::start(
                handle,
                CacheOptions {
                    trim,
                    ..CacheOptions::default()
                },
                &self.stop,
            )
        });
        cache.clone()
    }

    /// Ends the metadata cache of a resource that is no more.
    pub fn forget_metadata(&self, resource: &Gvr) {
        self.metadata.lock().remove(resource);
    }
}
