//! All objects with all their versions, so that anybody can see them as they were.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};

use api::{Value, meta};
use controllers::Untyped;

use crate::registry::{Resource, registry};

/// A version of an object.
pub struct Object {
    /// Its JSON.
    pub value: Value,
    resource: Resource,
    typed: OnceLock<Option<Box<dyn Any + Send + Sync>>>,
    untyped: OnceLock<Arc<Untyped>>,
}

impl Object {
    /// The typed shape.
    pub fn typed<K: Send + Sync + 'static>(&self) -> Arc<K> {
        let typed = self.typed.get_or_init(|| registry().typed(self.resource, &self.value));
        let typed = typed.as_ref().expect("the kind has a typed shape");
        typed
            .downcast_ref::<Arc<K>>()
            .expect("asked for by its resource")
            .clone()
    }

    /// The shape without a type.
    pub fn untyped(&self) -> Arc<Untyped> {
        let read = || Arc::new(serde_json::from_value(self.value.clone()).expect("an object has metadata"));
        self.untyped.get_or_init(read).clone()
    }

    /// Namespace and name.
    pub fn key(&self) -> (&str, &str) {
        (meta::namespace(&self.value), meta::name(&self.value))
    }
}

/// A change of an object.
#[derive(Clone)]
pub struct Event {
    /// The revision it made.
    pub revision: u64,
    /// What it was before.
    pub old: Option<Arc<Object>>,
    /// What it is now.
    pub new: Option<Arc<Object>>,
}

impl Event {
    /// The object as it was last.
    pub fn object(&self) -> &Arc<Object> {
        self.new.as_ref().or(self.old.as_ref()).expect("an event has an object")
    }
}

type Name = (String, String);
type Versions = Vec<(u64, Option<Arc<Object>>)>;

/// The store.
#[derive(Default)]
pub struct Store {
    revision: u64,
    objects: Vec<BTreeMap<Name, Versions>>,
    log: Vec<Vec<Event>>,
    /// Which resource each revision changed, the first first.
    order: Vec<Resource>,
    /// Where the object of a UID is or was.
    by_uid: HashMap<String, (Resource, Name)>,
    /// What named a UID as its owner at any time.
    owned: HashMap<String, BTreeSet<(Resource, Name)>>,
    /// Pods that were at any time on a node.
    on_node: HashMap<String, BTreeSet<Name>>,
}

fn at(versions: &Versions, revision: u64) -> Option<&Arc<Object>> {
    let index = versions.partition_point(|(made, _)| *made <= revision);
    versions[..index].last()?.1.as_ref()
}

impl Store {
    /// An empty store.
    pub fn new() -> Self {
        let count = registry().kinds.len();
        Self {
            objects: (0..count).map(|_| BTreeMap::new()).collect(),
            log: (0..count).map(|_| Vec::new()).collect(),
            ..Self::default()
        }
    }

    /// The newest revision.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Changes of a resource after a revision, in order.
    pub fn since(&self, resource: Resource, revision: u64) -> &[Event] {
        let log = &self.log[resource];
        &log[log.partition_point(|event| event.revision <= revision)..]
    }

    /// The resources that changed after a revision, in no order.
    pub fn changed(&self, revision: u64) -> Vec<Resource> {
        let seen = usize::try_from(revision).unwrap_or(usize::MAX).min(self.order.len());
        let mut changed = self.order[seen..].to_vec();
        changed.sort_unstable();
        changed.dedup();
        changed
    }

    /// An object as it was at a revision.
    pub fn get(&self, resource: Resource, namespace: &str, name: &str, revision: u64) -> Option<&Arc<Object>> {
        let versions = self.objects[resource].get(&(namespace.to_owned(), name.to_owned()))?;
        at(versions, revision)
    }

    /// An object as it is.
    pub fn live(&self, resource: Resource, namespace: &str, name: &str) -> Option<&Arc<Object>> {
        self.get(resource, namespace, name, u64::MAX)
    }

    /// All objects of a resource (in a namespace, unless that is empty) as they were at a revision, by their names.
    pub fn list(&self, resource: Resource, namespace: &str, revision: u64) -> Vec<Arc<Object>> {
        let all = self.objects[resource].range((namespace.to_owned(), String::new())..);
        let here = all.take_while(|((ns, _), _)| namespace.is_empty() || ns == namespace);
        here.filter_map(|(_, versions)| at(versions, revision).cloned())
            .collect()
    }

    /// The object of a UID, as it was at each resource's revision.
    pub fn by_uid(&self, uid: &str, revisions: impl Fn(Resource) -> u64) -> Option<(Resource, &Arc<Object>)> {
        let (resource, (namespace, name)) = self.by_uid.get(uid)?;
        let found = self.get(*resource, namespace, name, revisions(*resource))?;
        (meta::uid(&found.value) == uid).then_some((*resource, found))
    }

    /// The objects that name a UID as an owner, as they were at each resource's revision.
    pub fn owned(&self, uid: &str, revisions: impl Fn(Resource) -> u64) -> Vec<(Resource, Arc<Object>)> {
        let known = self.owned.get(uid).into_iter().flatten();
        let shown = known.filter_map(|(resource, (namespace, name))| {
            let object = self.get(*resource, namespace, name, revisions(*resource))?;
            let owners = meta::owner_references(&object.value);
            owners
                .iter()
                .any(|owner| owner.uid == uid)
                .then(|| (*resource, object.clone()))
        });
        shown.collect()
    }

    /// The pods on a node, as they were at a revision.
    pub fn on_node(&self, pods: Resource, node: &str, revision: u64) -> Vec<Arc<Object>> {
        let known = self.on_node.get(node).into_iter().flatten();
        let shown = known.filter_map(|(namespace, name)| self.get(pods, namespace, name, revision));
        shown
            .filter(|pod| pod.value["spec"]["nodeName"] == node)
            .cloned()
            .collect()
    }

    /// Writes (or removes) an object; answers its revision.
    pub fn put(&mut self, resource: Resource, namespace: &str, name: &str, value: Option<Value>) -> Event {
        self.revision += 1;
        self.order.push(resource);
        let revision = self.revision;
        let key = (namespace.to_owned(), name.to_owned());
        let new = value.map(|mut value| {
            meta::set_resource_version(&mut value, &revision.to_string());
            self.by_uid
                .insert(meta::uid(&value).to_owned(), (resource, key.clone()));
            for owner in meta::owner_references(&value) {
                self.owned
                    .entry(owner.uid.to_owned())
                    .or_default()
                    .insert((resource, key.clone()));
            }
            if let Some(node) = value["spec"]["nodeName"].as_str() {
                self.on_node.entry(node.to_owned()).or_default().insert(key.clone());
            }
            Arc::new(Object {
                value,
                resource,
                typed: OnceLock::new(),
                untyped: OnceLock::new(),
            })
        });
        let versions = self.objects[resource].entry(key).or_default();
        let old = versions.last().and_then(|(_, object)| object.clone());
        versions.push((revision, new.clone()));
        let event = Event { revision, old, new };
        self.log[resource].push(event.clone());
        event
    }
}
