//! What one actor sees: each resource as it was at some revision.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use api::{GroupVersion, Gvr, meta};
use controllers::garbage::{Graph, Node, NodeKey};
use controllers::{
    BY_CLAIM, BY_NODE, BY_SERVICE, BY_VOLUME_CLAIM, BY_WISH, Contents, LocalVolumes, Network, ORPHANS, Object as Typed,
    Remaining, Scaled, Untyped, UntypedKind, View, World, claims_of_pod, for_each_kind, takers_of_volume,
    volume_claims_of_pod, wishes_of_claim,
};
use driver::Expectation;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use parking_lot::Mutex;

use crate::registry::{Resource, registry, resource_of, resource_of_untyped};
use crate::store::{Object, Store};
use crate::world::Cluster;

/// The sight of one actor.
pub struct Sight {
    cluster: Cluster,
    revisions: Vec<AtomicU64>,
    /// When its process began.
    pub begun: Mutex<Timestamp>,
}

impl Sight {
    /// Sees nothing yet.
    pub fn new(cluster: &Cluster) -> Arc<Self> {
        let begun = Mutex::new(cluster.lock().server.now);
        Arc::new(Self {
            cluster: cluster.clone(),
            revisions: registry().kinds.iter().map(|_| AtomicU64::new(0)).collect(),
            begun,
        })
    }

    /// Up to where it sees a resource.
    pub fn revision(&self, resource: Resource) -> u64 {
        self.revisions[resource].load(Ordering::Relaxed)
    }

    /// Sees a resource up to there.
    pub fn advance(&self, resource: Resource, revision: u64) {
        self.revisions[resource].store(revision, Ordering::Relaxed);
    }

    fn with<T>(&self, look: impl FnOnce(&Store) -> T) -> T {
        look(&self.cluster.lock().server.store)
    }

    /// Whether it has seen a write.
    pub fn seen(&self, expectation: &Expectation) -> bool {
        match expectation {
            Expectation::Seen { resource, revision } => registry()
                .find(resource)
                .is_none_or(|resource| self.revision(resource) >= *revision),
            Expectation::Going {
                resource,
                namespace,
                name,
                uid,
            } => {
                let Some(resource) = registry().find(resource) else {
                    return true;
                };
                self.with(|store| {
                    let known = store.get(resource, namespace, name, self.revision(resource));
                    known.is_none_or(|object| meta::uid(&object.value) != uid || meta::is_deleting(&object.value))
                })
            }
        }
    }
}

struct Shown<K> {
    sight: Arc<Sight>,
    resource: Resource,
    /// Only objects of this name, if one is given.
    name: Option<&'static str>,
    kind: PhantomData<fn() -> K>,
}

impl<K: Typed + Send + Sync + 'static> Shown<K> {
    fn new(sight: &Arc<Sight>, name: Option<&'static str>) -> Self {
        Self {
            sight: sight.clone(),
            resource: resource_of::<K>(),
            name,
            kind: PhantomData,
        }
    }

    fn shows(&self, object: &Object) -> bool {
        self.name.is_none_or(|name| meta::name(&object.value) == name)
    }

    fn typed(&self, all: Vec<Arc<Object>>) -> Vec<Arc<K>> {
        all.iter()
            .filter(|object| self.shows(object))
            .map(|object| object.typed::<K>())
            .collect()
    }
}

fn is_orphan(object: &Object) -> bool {
    meta::controller_of(&object.value).is_none()
}

fn service_of(object: &Object) -> String {
    let service = meta::label(&object.value, "kubernetes.io/service-name").unwrap_or("");
    format!("{}/{service}", meta::namespace(&object.value))
}

impl<K: Typed + Send + Sync + 'static> View<K> for Shown<K> {
    fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        let revision = self.sight.revision(self.resource);
        let found = self
            .sight
            .with(|store| store.get(self.resource, namespace, name, revision).cloned());
        found
            .filter(|object| self.shows(object))
            .map(|object| object.typed::<K>())
    }

    fn list(&self, namespace: &str) -> Vec<Arc<K>> {
        let revision = self.sight.revision(self.resource);
        self.typed(self.sight.with(|store| store.list(self.resource, namespace, revision)))
    }

    fn owned_by(&self, uid: &str) -> Vec<Arc<K>> {
        let revision = self.sight.revision(self.resource);
        let owned = self.sight.with(|store| store.owned(uid, |_| revision));
        let ours = owned.into_iter().filter(|(resource, _)| *resource == self.resource);
        self.typed(ours.map(|(_, object)| object).collect())
    }

    fn by_index(&self, index: &'static str, value: &str) -> Vec<Arc<K>> {
        let (resource, revision) = (self.resource, self.sight.revision(self.resource));
        let found = self.sight.with(|store| match index {
            BY_NODE => store.on_node(resource, value, revision),
            ORPHANS => {
                let mut all = store.list(resource, value, revision);
                all.retain(|object| is_orphan(object));
                all
            }
            BY_SERVICE => {
                let namespace = value.split('/').next().unwrap_or("");
                let mut all = store.list(resource, namespace, revision);
                all.retain(|object| service_of(object) == value);
                all
            }
            BY_CLAIM | BY_VOLUME_CLAIM | BY_WISH => {
                let mut all = store.list(resource, "", revision);
                all.retain(|object| values_of(index, resource, object).iter().any(|found| found == value));
                all
            }
            other => panic!("no index {other}"),
        });
        self.typed(found)
    }
}

/// What an index of claims and volumes has an object under.
fn values_of(index: &str, resource: Resource, object: &Object) -> Vec<String> {
    match index {
        BY_CLAIM => claims_of_pod(&object.typed()),
        BY_WISH => wishes_of_claim(&object.typed()),
        _ if resource == resource_of::<Pod>() => volume_claims_of_pod(&object.typed()),
        _ => takers_of_volume(&object.typed()),
    }
}

/// Whether an object is one of a kind that is seen without a type.
pub fn is_of(kind: UntypedKind, object: &Object) -> bool {
    kind.selection().is_none_or(|selection| {
        let fields = selection.field.split('.');
        let found = fields.fold(&object.value, |value, field| &value[field]);
        let here = selection.namespace.is_empty() || object.key().0 == selection.namespace;
        here && *found == *selection.value
    })
}

/// A kind that is seen without a type.
struct ShownUntyped {
    sight: Arc<Sight>,
    resource: Resource,
    kind: UntypedKind,
}

impl ShownUntyped {
    fn new(sight: &Arc<Sight>, kind: UntypedKind) -> Self {
        Self {
            sight: sight.clone(),
            resource: resource_of_untyped(kind),
            kind,
        }
    }

    fn of(&self, all: Vec<Arc<Object>>) -> Vec<Arc<Untyped>> {
        let ours = all.iter().filter(|object| is_of(self.kind, object));
        ours.map(|object| object.untyped()).collect()
    }
}

impl View<Untyped> for ShownUntyped {
    fn get(&self, namespace: &str, name: &str) -> Option<Arc<Untyped>> {
        let revision = self.sight.revision(self.resource);
        let found = self
            .sight
            .with(|store| store.get(self.resource, namespace, name, revision).cloned());
        found
            .filter(|object| is_of(self.kind, object))
            .map(|object| object.untyped())
    }

    fn list(&self, namespace: &str) -> Vec<Arc<Untyped>> {
        let revision = self.sight.revision(self.resource);
        self.of(self.sight.with(|store| store.list(self.resource, namespace, revision)))
    }

    fn owned_by(&self, uid: &str) -> Vec<Arc<Untyped>> {
        let revision = self.sight.revision(self.resource);
        let owned = self.sight.with(|store| store.owned(uid, |_| revision));
        let ours = owned.into_iter().filter(|(resource, _)| *resource == self.resource);
        self.of(ours.map(|(_, object)| object).collect())
    }

    fn by_index(&self, index: &'static str, _: &str) -> Vec<Arc<Untyped>> {
        panic!("no index {index}")
    }
}

macro_rules! sim_world {
    ($($view:ident: $($path:ident)::+ as $kind:ident,)+) => {
        /// The controllers' view.
        pub struct SimWorld {
            $($view: Shown<k8s_openapi::api::$($path)::+>,)+
            root_ca_maps: Shown<ConfigMap>,
            /// By the numbers of their kinds.
            untyped: Vec<ShownUntyped>,
            sight: Arc<Sight>,
            network: Network,
        }

        impl SimWorld {
            /// The view of a sight.
            pub fn new(sight: &Arc<Sight>) -> Self {
                Self {
                    $($view: Shown::new(sight, None),)+
                    root_ca_maps: Shown::new(sight, Some("kube-root-ca.crt")),
                    untyped: UntypedKind::ALL.iter().map(|kind| ShownUntyped::new(sight, *kind)).collect(),
                    sight: sight.clone(),
                    network: Network::default(),
                }
            }
        }

        impl World for SimWorld {
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
                self.sight.last_heartbeat(node)
            }
            fn contents(&self, namespace: &str) -> Contents {
                self.sight.contents(namespace)
            }
            fn network(&self) -> &Network {
                &self.network
            }
            fn scale(&self, namespace: &str, api_version: &str, kind: &str, name: &str) -> Scaled {
                self.sight.scale(namespace, api_version, kind, name)
            }
            fn watched(&self, group: &str, resource: &str) -> Option<(Gvr, u64)> {
                self.sight.watched(group, resource)
            }
            /// No process makes volumes.
            fn local_volumes(&self) -> Option<&LocalVolumes> {
                None
            }
            fn root_ca(&self) -> &str {
                "PEM"
            }
        }
    };
}
for_each_kind!(sim_world);

impl Sight {
    fn last_heartbeat(&self, node: &str) -> Timestamp {
        let shared = self.cluster.lock();
        let heard = shared.silent.get(node).copied().unwrap_or(shared.server.now);
        heard.max(*self.begun.lock())
    }

    /// Scales are seen with their objects: nothing has to be asked for.
    fn scale(&self, namespace: &str, api_version: &str, kind: &str, name: &str) -> Scaled {
        let found = GroupVersion::parse(api_version)
            .ok()
            .and_then(|version| registry().of_kind(&version.group, kind));
        let Some((resource, _)) = found else {
            return Scaled::Refused(format!("no matches for kind {kind:?} in version {api_version:?}"));
        };
        let known = self.with(|store| store.get(resource, namespace, name, self.revision(resource)).cloned());
        let Some(object) = known else {
            return Scaled::Absent;
        };
        match object.value["spec"]["replicas"].as_i64() {
            Some(replicas) => Scaled::Known {
                uid: meta::uid(&object.value).to_owned(),
                replicas: i32::try_from(replicas).unwrap_or(i32::MAX),
            },
            None => Scaled::Refused(format!("{kind} does not implement the scale subresource")),
        }
    }

    fn watched(&self, group: &str, resource: &str) -> Option<(Gvr, u64)> {
        let mut all = registry().resources.iter().enumerate();
        let (found, gvr) = all.find(|(_, gvr)| gvr.group == group && gvr.resource == resource)?;
        let revision = self.revision(found);
        (revision > 0).then(|| (gvr.clone(), revision))
    }

    fn contents(&self, namespace: &str) -> Contents {
        let mut contents = Contents::default();
        let registry = registry();
        for (resource, kind) in registry
            .kinds
            .iter()
            .enumerate()
            .filter(|(_, kind)| kind.is_namespaced())
        {
            contents.resources.push(registry.resources[resource].clone());
            debug_assert!(kind.is_namespaced());
            let objects = self.with(|store| store.list(resource, namespace, self.revision(resource)));
            if objects.is_empty() {
                continue;
            }
            let mut finalizers = BTreeMap::new();
            for finalizer in objects.iter().flat_map(|object| meta::finalizers(&object.value)) {
                *finalizers.entry(finalizer.to_owned()).or_default() += 1;
            }
            contents.remaining.push(Remaining {
                resource: registry.resources[resource].clone(),
                count: objects.len(),
                untouched: objects
                    .iter()
                    .filter(|object| !meta::is_deleting(&object.value))
                    .count(),
                finalizers,
            });
        }
        contents
    }
}

/// An object as the garbage collector knows it.
pub fn node_of(resource: Resource, object: &Object) -> Node {
    let (registry, value) = (registry(), &object.value);
    let owners = value["metadata"]["ownerReferences"].clone();
    Node {
        resource: registry.resources[resource].clone(),
        kind: registry.kinds[resource].gvk.kind.clone(),
        namespace: meta::namespace(value).to_owned(),
        name: meta::name(value).to_owned(),
        uid: meta::uid(value).to_owned(),
        resource_version: meta::resource_version(value).to_owned(),
        owners: serde_json::from_value(owners).unwrap_or_default(),
        finalizers: meta::finalizers(value).into_iter().map(str::to_owned).collect(),
        deleting: meta::is_deleting(value),
    }
}

impl Graph for Sight {
    fn get(&self, key: &NodeKey) -> Option<Node> {
        let resource = registry().find(&key.resource)?;
        let revision = self.revision(resource);
        let found = self.with(|store| store.get(resource, &key.namespace, &key.name, revision).cloned())?;
        Some(node_of(resource, &found))
    }

    fn by_uid(&self, uid: &str) -> Option<Node> {
        let at = |resource| self.revision(resource);
        let found = self.with(|store| {
            store
                .by_uid(uid, at)
                .map(|(resource, object)| (resource, object.clone()))
        });
        found.map(|(resource, object)| node_of(resource, &object))
    }

    fn dependents(&self, uid: &str) -> Vec<Node> {
        let owned = self.with(|store| store.owned(uid, |resource| self.revision(resource)));
        owned
            .iter()
            .map(|(resource, object)| node_of(*resource, object))
            .collect()
    }

    fn resource_of(&self, api_version: &str, kind: &str) -> Option<(Gvr, bool)> {
        let group = GroupVersion::parse(api_version).ok()?.group;
        let (resource, namespaced) = registry().of_kind(&group, kind)?;
        Some((registry().resources[resource].clone(), namespaced))
    }
}
