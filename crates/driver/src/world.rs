//! The controllers' view of the cluster, over shared caches.

use std::sync::Arc;

use api::Gvr;
use client::{Cache, CacheOptions, Caches, Object, index};
use controllers::{
    BY_CLAIM, BY_NODE, BY_SERVICE, BY_VOLUME_CLAIM, BY_WISH, Contents, Key, LocalVolumes, Network, ORPHANS, Scaled,
    Trigger, Untyped, UntypedKind, View, World, claims_of_pod, for_each_kind, gvr_of,
};
use futures_util::future::{BoxFuture, FutureExt, join_all, select_all};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use tokio::sync::watch;

use crate::expectation::{Expectation, Sight};
use crate::heartbeat::Heartbeats;
use crate::metadata::Metadata;
use crate::queue::Queue;
use crate::scales::Scales;

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

fn orphans<K: Object>(object: &K) -> Vec<String> {
    let metadata = object.metadata();
    let mut owners = metadata.owner_references.iter().flatten();
    if owners.any(|owner| owner.controller == Some(true)) {
        return Vec::new();
    }
    metadata.namespace.clone().into_iter().collect()
}

macro_rules! cache_world {
    ($($view:ident: $($path:ident)::+ as $kind:ident,)+) => {
        /// The cluster.
        pub(crate) struct CacheWorld {
            $($view: Shown<k8s_openapi::api::$($path)::+>,)+
            root_ca_maps: Shown<ConfigMap>,
            /// By the numbers of their kinds.
            untyped: Vec<Shown<Untyped>>,
            heartbeats: Heartbeats,
            metadata: Metadata,
            root_ca: String,
            network: Network,
            local_volumes: Option<LocalVolumes>,
            scales: Scales,
        }

        impl CacheWorld {
            /// Starts what caches it needs.
            pub(crate) fn start(
                caches: &Caches,
                metadata: Metadata,
                root_ca: String,
                network: Network,
                local_volumes: Option<LocalVolumes>,
                scales: Scales,
            ) -> Self {
                let named = CacheOptions {
                    field_selector: "metadata.name=kube-root-ca.crt".to_owned(),
                    ..CacheOptions::default()
                };
                let world = Self {
                    $($view: Shown(caches.get()),)+
                    root_ca_maps: Shown(caches.selected(named)),
                    untyped: UntypedKind::ALL.iter().map(|kind| Shown(untyped(caches, *kind))).collect(),
                    heartbeats: Heartbeats::start(caches),
                    metadata,
                    root_ca,
                    network,
                    local_volumes,
                    scales,
                };
                world.add_indexes();
                world
            }

            /// Resolves when all caches have their first list.
            pub(crate) async fn synced(&self) {
                let mut views: Vec<BoxFuture<'_, ()>> = vec![self.root_ca_maps.0.synced().boxed()];
                $(views.push(self.$view.0.synced().boxed());)+
                views.extend(self.untyped.iter().map(|view| view.0.synced().boxed()));
                join_all(views).await;
            }

            /// Puts into `queue` whatever the trigger says, from now on and for all there is.
            pub(crate) fn attach(self: &Arc<Self>, trigger: Trigger, queue: &Arc<Queue<Key>>) {
                match trigger {
                    $(Trigger::$kind(keys) => self.on(&self.$view, keys, queue),)+
                    Trigger::RootCaMap(keys) => self.on(&self.root_ca_maps, keys, queue),
                    Trigger::Untyped(kind, keys) => self.on(&self.untyped[kind as usize], keys, queue),
                }
            }
        }

        impl World for CacheWorld {
            $(fn $view(&self) -> &dyn View<k8s_openapi::api::$($path)::+> {
                &self.$view
            })+
            fn root_ca_maps(&self) -> &dyn View<ConfigMap> {
                &self.root_ca_maps
            }
            fn untyped(&self, kind: UntypedKind) -> &dyn View<Untyped> {
                &self.untyped[kind as usize]
            }
            fn last_heartbeat(&self, node: &str) -> Timestamp {
                self.heartbeats.last(node)
            }
            fn contents(&self, namespace: &str) -> Contents {
                self.metadata.contents(namespace)
            }
            fn scale(&self, namespace: &str, api_version: &str, kind: &str, name: &str) -> Scaled {
                self.scales.of(namespace, api_version, kind, name)
            }
            fn network(&self) -> &Network {
                &self.network
            }
            fn watched(&self, group: &str, resource: &str) -> Option<(Gvr, u64)> {
                self.metadata.watched(group, resource)
            }
            fn root_ca(&self) -> &str {
                &self.root_ca
            }
            fn local_volumes(&self) -> Option<&LocalVolumes> {
                self.local_volumes.as_ref()
            }
        }

        impl Sight for Arc<CacheWorld> {
            async fn seen(&self, expectation: &Expectation) {
                let (Expectation::Seen { resource, .. } | Expectation::Going { resource, .. }) = expectation;
                // A selection of a resource may never see what another one sees: whichever is first.
                let mut views: Vec<BoxFuture<'_, ()>> = Vec::new();
                $(if *resource == gvr_of::<k8s_openapi::api::$($path)::+>() {
                    views.push(seen_by(&self.$view.0, expectation));
                })+
                if *resource == gvr_of::<ConfigMap>() {
                    views.push(seen_by(&self.root_ca_maps.0, expectation));
                }
                for (kind, view) in UntypedKind::ALL.iter().zip(&self.untyped) {
                    if *resource == kind.gvr() {
                        views.push(seen_by(&view.0, expectation));
                    }
                }
                if !views.is_empty() {
                    select_all(views).await;
                }
            }
        }
    };
}
for_each_kind!(cache_world);

impl CacheWorld {
    /// Resolves when pods have their first list.
    pub(crate) async fn pods_synced(&self) {
        self.pods.0.synced().await;
    }

    fn add_indexes(&self) {
        self.pods.0.add_index(BY_NODE, index::pod_node);
        self.pods.0.add_index(ORPHANS, orphans);
        self.pods.0.add_index(BY_CLAIM, claims_of_pod);
        self.replica_sets.0.add_index(ORPHANS, orphans);
        self.controller_revisions.0.add_index(ORPHANS, orphans);
        self.endpoint_slices.0.add_index(BY_SERVICE, index::slice_service);
        self.pods
            .0
            .add_index(BY_VOLUME_CLAIM, controllers::volume_claims_of_pod);
        self.persistent_volumes
            .0
            .add_index(BY_VOLUME_CLAIM, controllers::takers_of_volume);
        self.persistent_volume_claims
            .0
            .add_index(BY_WISH, controllers::wishes_of_claim);
        self.volume_attachments
            .0
            .add_index(BY_NODE, |attachment| vec![attachment.spec.node_name.clone()]);
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

/// The cache of a kind that has no type.
fn untyped(caches: &Caches, kind: UntypedKind) -> Cache<Untyped> {
    let mut options = CacheOptions::default();
    if let Some(selection) = kind.selection() {
        options.namespace = selection.namespace.to_owned();
        options.field_selector = format!("{}={}", selection.field, selection.value);
    }
    caches.untyped(&kind.gvr(), options)
}

/// Resolves when a cache has seen a write.
pub(crate) fn seen_by<'a, K: Object>(cache: &'a Cache<K>, expectation: &'a Expectation) -> BoxFuture<'a, ()> {
    match expectation {
        Expectation::Seen { revision, .. } => cache.wait_for(*revision).boxed(),
        Expectation::Going {
            namespace, name, uid, ..
        } => {
            let stays = move || {
                cache.get(namespace, name).is_some_and(|object| {
                    let metadata = object.metadata();
                    metadata.uid.as_deref() == Some(uid) && metadata.deletion_timestamp.is_none()
                })
            };
            gone(cache.revisions(), Box::new(stays)).boxed()
        }
    }
}

/// Resolves when an object does not stay any more.
async fn gone(mut revisions: watch::Receiver<u64>, stays: Box<dyn Fn() -> bool + Send + '_>) {
    loop {
        revisions.mark_unchanged();
        if !stays() || revisions.changed().await.is_err() {
            return;
        }
    }
}
