//! Metadata of all objects of all kinds: the ownership graph and the content of namespaces.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::{GroupVersion, Gvr};
use client::{ApiResource, Cache, Caches, Change, PartialObject, discover};
use controllers::garbage::{Graph, Node, NodeKey};
use controllers::{Contents, Remaining};
use parking_lot::RwLock;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

const BY_UID: &str = "uid";
/// Events come and go by themselves, and are many.
const IGNORED: [(&str, &str); 2] = [("", "events"), ("events.k8s.io", "events")];
/// Kinds whose objects make new kinds.
const KIND_MAKERS: [(&str, &str); 2] = [
    ("apiextensions.k8s.io", "customresourcedefinitions"),
    ("apiregistration.k8s.io", "apiservices"),
];

/// How long new kinds are waited for, as upstream's garbage collector waits.
const SYNC_LIMIT: Duration = Duration::from_secs(30);

type Listener = Box<dyn Fn(&ApiResource, &Change<PartialObject>) + Send + Sync>;

/// The metadata of everything. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Metadata {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Metadata {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metadata")
    }
}

struct Inner {
    caches: Caches,
    kinds: RwLock<Kinds>,
    listeners: RwLock<Vec<Listener>>,
    kinds_changed: Notify,
    synced: watch::Sender<bool>,
}

#[derive(Default)]
struct Kinds {
    /// All that the server has, and that can be listed and deleted.
    all: Vec<ApiResource>,
    watched: Vec<Watched>,
    failure: Option<String>,
}

#[derive(Clone)]
struct Watched {
    resource: ApiResource,
    cache: Cache<PartialObject>,
}

impl Metadata {
    /// Watches all kinds, and new ones as they come, until `stop`.
    pub(crate) fn start(caches: Caches, stop: CancellationToken) -> Self {
        let inner = Inner {
            caches,
            kinds: RwLock::default(),
            listeners: RwLock::default(),
            kinds_changed: Notify::new(),
            synced: watch::Sender::new(false),
        };
        let metadata = Self { inner: Arc::new(inner) };
        let task = metadata.clone();
        tokio::spawn(async move { stop.run_until_cancelled(task.follow_kinds()).await });
        metadata
    }

    /// Calls `listener` for each change of each object from now on.
    pub(crate) fn listen(&self, listener: impl Fn(&ApiResource, &Change<PartialObject>) + Send + Sync + 'static) {
        self.inner.listeners.write().push(Box::new(listener));
    }

    /// Resolves when the first look at everything is complete.
    pub(crate) async fn synced(&self) {
        let mut synced = self.inner.synced.subscribe();
        let _ = synced.wait_for(|synced| *synced).await;
    }

    /// All objects there are.
    pub(crate) fn all_keys(&self) -> Vec<NodeKey> {
        let watched = self.inner.kinds.read().watched.clone();
        let keys = watched
            .iter()
            .flat_map(|kind| kind.cache.list().into_iter().map(|object| node(kind, &object).key()));
        keys.collect()
    }

    /// Resolves when the set of kinds has changed since the last call.
    pub(crate) fn kinds_cache(&self, resource: &Gvr) -> Option<Cache<PartialObject>> {
        let kinds = self.inner.kinds.read();
        kinds
            .watched
            .iter()
            .find(|kind| kind.resource.gvr == *resource)
            .map(|kind| kind.cache.clone())
    }

    /// A watched resource with its version, and the newest revision that was seen of it.
    pub(crate) fn watched(&self, group: &str, resource: &str) -> Option<(Gvr, u64)> {
        let kinds = self.inner.kinds.read();
        let mut all = kinds.watched.iter();
        let found = all.find(|kind| kind.resource.gvr.group == group && kind.resource.gvr.resource == resource)?;
        let revision = found.cache.revision();
        (revision > 0).then(|| (found.resource.gvr.clone(), revision))
    }

    async fn follow_kinds(self) {
        let mut wait = Duration::from_millis(100);
        loop {
            match discover(self.inner.caches.client()).await {
                Ok(found) => {
                    wait = Duration::from_millis(100);
                    self.watch(found).await;
                    self.inner.synced.send_replace(true);
                    self.inner.kinds_changed.notified().await;
                    // Kinds often come in groups.
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                Err(error) => {
                    tracing::warn!(error = error.report(), retry_in = ?wait, "the server's kinds cannot be told");
                    self.inner.kinds.write().failure = Some(error.report());
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(Duration::from_secs(30));
                }
            }
        }
    }

    async fn watch(&self, found: Vec<ApiResource>) {
        let found: Vec<ApiResource> = found
            .into_iter()
            .filter(|kind| kind.supports(&["list", "delete"]))
            .collect();
        let watched = |kind: &&ApiResource| {
            let name = (kind.gvr.group.as_str(), kind.gvr.resource.as_str());
            kind.supports(&["watch"]) && !IGNORED.contains(&name)
        };
        let mut added = Vec::new();
        {
            let mut kinds = self.inner.kinds.write();
            kinds.watched.retain(|known| {
                let stays = found.iter().any(|kind| kind.gvr == known.resource.gvr);
                if !stays {
                    self.inner.caches.forget_metadata(&known.resource.gvr);
                }
                stays
            });
            for resource in found.iter().filter(watched) {
                if !kinds.watched.iter().any(|known| known.resource.gvr == resource.gvr) {
                    let cache = self.inner.caches.metadata(&resource.gvr);
                    cache.add_index(BY_UID, |object| object.metadata.uid.clone().into_iter().collect());
                    let kind = Watched {
                        resource: resource.clone(),
                        cache,
                    };
                    kinds.watched.push(kind.clone());
                    added.push(kind);
                }
            }
            kinds.all = found;
            kinds.failure = None;
        }
        for kind in &added {
            self.hand_on(kind);
        }
        // One kind that cannot be read (its conversion webhook is away) must not hide those to come.
        let all = async {
            for kind in added {
                kind.cache.synced().await;
            }
        };
        if tokio::time::timeout(SYNC_LIMIT, all).await.is_err() {
            tracing::warn!("some kinds cannot be read yet; going on without them");
        }
    }

    fn hand_on(&self, kind: &Watched) {
        let name = (kind.resource.gvr.group.as_str(), kind.resource.gvr.resource.as_str());
        let makes_kinds = KIND_MAKERS.contains(&name);
        let (inner, resource) = (Arc::downgrade(&self.inner), kind.resource.clone());
        kind.cache.on_change(move |change| {
            let Some(inner) = inner.upgrade() else { return };
            if makes_kinds {
                inner.kinds_changed.notify_one();
            }
            for listener in inner.listeners.read().iter() {
                listener(&resource, change);
            }
        });
    }

    /// What is in a namespace.
    pub(crate) fn contents(&self, namespace: &str) -> Contents {
        let kinds = self.inner.kinds.read();
        let mut contents = Contents {
            discovery_failure: kinds.failure.clone(),
            ..Contents::default()
        };
        for kind in kinds.all.iter().filter(|kind| kind.namespaced) {
            contents.resources.push(kind.gvr.clone());
            let Some(watched) = kinds.watched.iter().find(|known| known.resource.gvr == kind.gvr) else {
                contents.unwatched.push(kind.gvr.clone());
                continue;
            };
            let objects = watched.cache.list_in(namespace);
            if objects.is_empty() {
                continue;
            }
            let mut finalizers = BTreeMap::new();
            for finalizer in objects
                .iter()
                .flat_map(|object| object.metadata.finalizers.iter().flatten())
            {
                *finalizers.entry(finalizer.clone()).or_default() += 1;
            }
            contents.remaining.push(Remaining {
                resource: kind.gvr.clone(),
                count: objects.len(),
                untouched: objects
                    .iter()
                    .filter(|object| object.metadata.deletion_timestamp.is_none())
                    .count(),
                finalizers,
            });
        }
        contents
    }
}

/// An object as the garbage collector knows it.
pub(crate) fn node_of(resource: &ApiResource, object: &PartialObject) -> Node {
    let metadata = &object.metadata;
    Node {
        resource: resource.gvr.clone(),
        kind: resource.kind.clone(),
        namespace: metadata.namespace.clone().unwrap_or_default(),
        name: metadata.name.clone().unwrap_or_default(),
        uid: metadata.uid.clone().unwrap_or_default(),
        resource_version: metadata.resource_version.clone().unwrap_or_default(),
        owners: metadata.owner_references.clone().unwrap_or_default(),
        finalizers: metadata.finalizers.clone().unwrap_or_default(),
        deleting: metadata.deletion_timestamp.is_some(),
    }
}

fn node(kind: &Watched, object: &PartialObject) -> Node {
    node_of(&kind.resource, object)
}

impl Graph for Metadata {
    fn get(&self, key: &NodeKey) -> Option<Node> {
        let kinds = self.inner.kinds.read();
        let kind = kinds.watched.iter().find(|kind| kind.resource.gvr == key.resource)?;
        kind.cache
            .get(&key.namespace, &key.name)
            .map(|object| node(kind, &object))
    }

    fn by_uid(&self, uid: &str) -> Option<Node> {
        let kinds = self.inner.kinds.read();
        let mut found = kinds.watched.iter().flat_map(|kind| {
            kind.cache
                .by_index(BY_UID, uid)
                .into_iter()
                .map(move |object| node(kind, &object))
        });
        found.next()
    }

    fn dependents(&self, uid: &str) -> Vec<Node> {
        let kinds = self.inner.kinds.read();
        let of_kind = |kind: &Watched| {
            kind.cache
                .owned_by(uid)
                .iter()
                .map(|object| node(kind, object))
                .collect::<Vec<_>>()
        };
        kinds.watched.iter().flat_map(of_kind).collect()
    }

    fn resource_of(&self, api_version: &str, kind: &str) -> Option<(Gvr, bool)> {
        let wanted = GroupVersion::parse(api_version).ok()?;
        let kinds = self.inner.kinds.read();
        let mut same = kinds
            .all
            .iter()
            .filter(|known| known.kind == kind && known.gvr.group == wanted.group);
        same.next().map(|known| (known.gvr.clone(), known.namespaced))
    }
}
