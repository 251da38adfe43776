//! The controllers' view of the cluster, over shared caches.

use std::sync::Arc;

use client::{Cache, CacheOptions, Caches, Object, index};
use controllers::{BY_NODE, BY_SERVICE, Contents, Key, ORPHANS, Trigger, View, World, gvr_of};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Endpoints, Namespace, Node, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::expectation::{Expectation, Sight};
use crate::heartbeat::Heartbeats;
use crate::metadata::Metadata;
use crate::queue::Queue;

/// A cache as a view.
struct Shown<K>(Cache<K>);

impl<K: Object> View<K> for Shown<K> {
    fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.0.get(namespace, name)
    }

    fn list(&self, namespace: &str) -> Vec<Arc<K>> {
        if namespace.is_empty() {
            self.0.list()
        } else {
            self.0.list_in(namespace)
        }
    }

    fn owned_by(&self, uid: &str) -> Vec<Arc<K>> {
        self.0.owned_by(uid)
    }

    fn by_index(&self, index: &'static str, value: &str) -> Vec<Arc<K>> {
        self.0.by_index(index, value)
    }
}

/// The cluster.
pub(crate) struct CacheWorld {
    pods: Shown<Pod>,
    nodes: Shown<Node>,
    namespaces: Shown<Namespace>,
    services: Shown<Service>,
    endpoints: Shown<Endpoints>,
    endpoint_slices: Shown<EndpointSlice>,
    service_accounts: Shown<ServiceAccount>,
    root_ca_maps: Shown<ConfigMap>,
    deployments: Shown<Deployment>,
    replica_sets: Shown<ReplicaSet>,
    heartbeats: Heartbeats,
    metadata: Metadata,
    root_ca: String,
}

fn orphans<K: Object>(object: &K) -> Vec<String> {
    let metadata = object.metadata();
    let mut owners = metadata.owner_references.iter().flatten();
    if owners.any(|owner| owner.controller == Some(true)) {
        return Vec::new();
    }
    metadata.namespace.clone().into_iter().collect()
}

impl CacheWorld {
    /// Starts what caches it needs.
    pub(crate) fn start(caches: &Caches, metadata: Metadata, root_ca: String) -> Self {
        let pods = caches.get::<Pod>();
        pods.add_index(BY_NODE, index::pod_node);
        pods.add_index(ORPHANS, orphans);
        let replica_sets = caches.get::<ReplicaSet>();
        replica_sets.add_index(ORPHANS, orphans);
        let endpoint_slices = caches.get::<EndpointSlice>();
        endpoint_slices.add_index(BY_SERVICE, index::slice_service);
        let named = CacheOptions {
            field_selector: "metadata.name=kube-root-ca.crt".to_owned(),
            ..CacheOptions::default()
        };
        Self {
            pods: Shown(pods),
            nodes: Shown(caches.get()),
            namespaces: Shown(caches.get()),
            services: Shown(caches.get()),
            endpoints: Shown(caches.get()),
            endpoint_slices: Shown(endpoint_slices),
            service_accounts: Shown(caches.get()),
            root_ca_maps: Shown(caches.selected(named)),
            deployments: Shown(caches.get()),
            replica_sets: Shown(replica_sets),
            heartbeats: Heartbeats::start(caches),
            metadata,
            root_ca,
        }
    }

    /// Resolves when all caches have their first list.
    pub(crate) async fn synced(&self) {
        self.pods.0.synced().await;
        self.nodes.0.synced().await;
        self.namespaces.0.synced().await;
        self.services.0.synced().await;
        self.endpoints.0.synced().await;
        self.endpoint_slices.0.synced().await;
        self.service_accounts.0.synced().await;
        self.root_ca_maps.0.synced().await;
        self.deployments.0.synced().await;
        self.replica_sets.0.synced().await;
    }

    /// Puts into `queue` whatever the trigger says, from now on and for all there is.
    pub(crate) fn attach(self: &Arc<Self>, trigger: Trigger, queue: &Arc<Queue<Key>>) {
        match trigger {
            Trigger::Pod(keys) => self.on(&self.pods, keys, queue),
            Trigger::Node(keys) => self.on(&self.nodes, keys, queue),
            Trigger::Namespace(keys) => self.on(&self.namespaces, keys, queue),
            Trigger::Service(keys) => self.on(&self.services, keys, queue),
            Trigger::Endpoints(keys) => self.on(&self.endpoints, keys, queue),
            Trigger::EndpointSlice(keys) => self.on(&self.endpoint_slices, keys, queue),
            Trigger::ServiceAccount(keys) => self.on(&self.service_accounts, keys, queue),
            Trigger::RootCaMap(keys) => self.on(&self.root_ca_maps, keys, queue),
            Trigger::Deployment(keys) => self.on(&self.deployments, keys, queue),
            Trigger::ReplicaSet(keys) => self.on(&self.replica_sets, keys, queue),
        }
    }

    fn on<K: Object>(self: &Arc<Self>, view: &Shown<K>, keys: controllers::Keys<K>, queue: &Arc<Queue<Key>>) {
        let (world, queue) = (Arc::downgrade(self), queue.clone());
        view.0.on_change(move |change| {
            let Some(world) = world.upgrade() else { return };
            for key in keys(&*world, change.old.as_deref(), change.new.as_deref()) {
                queue.add(key);
            }
        });
    }
}

impl World for CacheWorld {
    fn pods(&self) -> &dyn View<Pod> {
        &self.pods
    }
    fn nodes(&self) -> &dyn View<Node> {
        &self.nodes
    }
    fn namespaces(&self) -> &dyn View<Namespace> {
        &self.namespaces
    }
    fn services(&self) -> &dyn View<Service> {
        &self.services
    }
    fn endpoints(&self) -> &dyn View<Endpoints> {
        &self.endpoints
    }
    fn endpoint_slices(&self) -> &dyn View<EndpointSlice> {
        &self.endpoint_slices
    }
    fn service_accounts(&self) -> &dyn View<ServiceAccount> {
        &self.service_accounts
    }
    fn root_ca_maps(&self) -> &dyn View<ConfigMap> {
        &self.root_ca_maps
    }
    fn deployments(&self) -> &dyn View<Deployment> {
        &self.deployments
    }
    fn replica_sets(&self) -> &dyn View<ReplicaSet> {
        &self.replica_sets
    }
    fn last_heartbeat(&self, node: &str) -> Timestamp {
        self.heartbeats.last(node)
    }
    fn contents(&self, namespace: &str) -> Contents {
        self.metadata.contents(namespace)
    }
    fn root_ca(&self) -> &str {
        &self.root_ca
    }
}

impl Sight for Arc<CacheWorld> {
    async fn seen(&self, expectation: &Expectation) {
        by_kind(&self.pods, expectation).await;
        by_kind(&self.nodes, expectation).await;
        by_kind(&self.namespaces, expectation).await;
        by_kind(&self.endpoints, expectation).await;
        by_kind(&self.endpoint_slices, expectation).await;
        by_kind(&self.service_accounts, expectation).await;
        by_kind(&self.root_ca_maps, expectation).await;
        by_kind(&self.deployments, expectation).await;
        by_kind(&self.replica_sets, expectation).await;
    }
}

async fn by_kind<K: Object>(view: &Shown<K>, expectation: &Expectation) {
    let (Expectation::Seen { resource, .. } | Expectation::Going { resource, .. }) = expectation;
    if *resource == gvr_of::<K>() {
        seen_by(&view.0, expectation).await;
    }
}

/// Resolves when a cache has seen a write.
pub(crate) async fn seen_by<K: Object>(cache: &Cache<K>, expectation: &Expectation) {
    match expectation {
        Expectation::Seen { revision, .. } => cache.wait_for(*revision).await,
        Expectation::Going {
            namespace, name, uid, ..
        } => {
            let mut revisions = cache.revisions();
            loop {
                revisions.mark_unchanged();
                let known = cache.get(namespace, name);
                let stays = known.is_some_and(|object| {
                    let metadata = object.metadata();
                    metadata.uid.as_deref() == Some(uid) && metadata.deletion_timestamp.is_none()
                });
                if !stays || revisions.changed().await.is_err() {
                    return;
                }
            }
        }
    }
}
