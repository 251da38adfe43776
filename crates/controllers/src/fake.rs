//! A cluster in memory: objects as JSON, typed views of them, and an executor of plans.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;

use api::{Gvr, Value};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::Resource;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::json;

use crate::object::{gvr_of, to_value};
use crate::world::{BY_NODE, BY_SERVICE, BY_VOLUME_CLAIM, BY_WISH, Contents, ORPHANS, Remaining};
use crate::{Action, Confirm, Key, Mint, Object, Plan, Step, Turn, Untyped, UntypedKind, Verb, View, World};

type Objects = BTreeMap<(Gvr, String, String), Value>;

/// The time at which tests begin.
pub fn start() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().expect("a time")
}

/// The cluster.
pub struct Fake {
    objects: Arc<RefCell<Objects>>,
    views: Views,
    counter: u64,
    pub now: Timestamp,
    /// Signs of life by node.
    pub heartbeats: BTreeMap<String, Timestamp>,
    /// Events told, as `reason: message`.
    pub events: Vec<String>,
    /// Scales of objects by kind and name: UID and replicas.
    pub scales: BTreeMap<(&'static str, &'static str), (&'static str, i32)>,
    /// What controllers are told of the network.
    pub network: crate::Network,
    /// Creations of this resource fail with this message.
    pub refuse: Option<(&'static str, &'static str)>,
    /// Subresources that reviews allow.
    pub may: Vec<&'static str>,
    /// Resources that are watched, with their revisions.
    pub watched: Vec<(Gvr, u64)>,
    /// Resources that were rewritten.
    pub rewritten: Vec<String>,
    /// Folders of volumes, by name and size.
    pub volumes: BTreeMap<String, u64>,
    /// The node that has them.
    pub local_volumes: Option<crate::LocalVolumes>,
}

/// A view of a kind without a type.
struct FakeUntyped {
    objects: Arc<RefCell<Objects>>,
    kind: UntypedKind,
}

impl FakeUntyped {
    fn selects(&self, object: &Value) -> bool {
        self.kind.selection().is_none_or(|selection| {
            let pointer = format!("/{}", selection.field.replace('.', "/"));
            let in_namespace =
                selection.namespace.is_empty() || object["metadata"]["namespace"] == *selection.namespace;
            in_namespace && object.pointer(&pointer).is_some_and(|value| *value == *selection.value)
        })
    }
}

impl View<Untyped> for FakeUntyped {
    fn get(&self, namespace: &str, name: &str) -> Option<Arc<Untyped>> {
        let key = (self.kind.gvr(), namespace.to_owned(), name.to_owned());
        self.objects
            .borrow()
            .get(&key)
            .filter(|object| self.selects(object))
            .map(typed)
    }

    fn list(&self, namespace: &str) -> Vec<Arc<Untyped>> {
        let (resource, objects) = (self.kind.gvr(), self.objects.borrow());
        let ours = objects.iter().filter(|((gvr, ns, _), object)| {
            *gvr == resource && (namespace.is_empty() || ns == namespace) && self.selects(object)
        });
        ours.map(|(_, object)| typed(object)).collect()
    }

    fn owned_by(&self, uid: &str) -> Vec<Arc<Untyped>> {
        let owns = |object: &Arc<Untyped>| {
            let mut owners = object.metadata.owner_references.iter().flatten();
            owners.any(|owner| owner.uid == uid)
        };
        self.list("").into_iter().filter(owns).collect()
    }

    fn by_index(&self, index: &'static str, _: &str) -> Vec<Arc<Untyped>> {
        panic!("no index {index}")
    }
}

pub struct FakeView<K> {
    objects: Arc<RefCell<Objects>>,
    kind: PhantomData<K>,
}

impl<K: Object> View<K> for FakeView<K> {
    fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        let key = (gvr_of::<K>(), namespace.to_owned(), name.to_owned());
        self.objects.borrow().get(&key).map(typed)
    }

    fn list(&self, namespace: &str) -> Vec<Arc<K>> {
        let (resource, objects) = (gvr_of::<K>(), self.objects.borrow());
        let ours = objects
            .iter()
            .filter(|((gvr, ns, _), _)| *gvr == resource && (namespace.is_empty() || ns == namespace));
        ours.map(|(_, object)| typed(object)).collect()
    }

    fn owned_by(&self, uid: &str) -> Vec<Arc<K>> {
        let owns = |object: &Arc<K>| {
            object
                .metadata()
                .owner_references
                .iter()
                .flatten()
                .any(|owner| owner.uid == uid)
        };
        self.list("").into_iter().filter(owns).collect()
    }

    fn by_index(&self, index: &'static str, value: &str) -> Vec<Arc<K>> {
        let holds = |object: &Arc<K>| {
            let json = to_value(&**object);
            match index {
                BY_NODE => json["spec"]["nodeName"] == value,
                BY_VOLUME_CLAIM if K::KIND == "Pod" => {
                    crate::volume_claims_of_pod(&typed(&json)).contains(&value.to_owned())
                }
                BY_VOLUME_CLAIM => crate::takers_of_volume(&typed(&json)).contains(&value.to_owned()),
                BY_WISH => crate::wishes_of_claim(&typed(&json)).contains(&value.to_owned()),
                ORPHANS => json["metadata"]["namespace"] == value && crate::object::controller_of(&**object).is_none(),
                BY_SERVICE => {
                    let service = json["metadata"]["labels"]["kubernetes.io/service-name"]
                        .as_str()
                        .unwrap_or("");
                    format!("{}/{service}", json["metadata"]["namespace"].as_str().unwrap_or("")) == value
                }
                crate::BY_CLAIM => {
                    let pod = serde_json::from_value(json).expect("a pod");
                    crate::claims_of_pod(&pod).iter().any(|claim| claim == value)
                }
                other => panic!("no index {other}"),
            }
        };
        self.list("").into_iter().filter(holds).collect()
    }
}

fn typed<K: Object>(object: &Value) -> Arc<K> {
    Arc::new(K::from_tree(object).expect("an object of its kind"))
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let target = target.as_object_mut().expect("made one");
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

impl Fake {
    pub fn new() -> Self {
        let objects: Arc<RefCell<Objects>> = Arc::default();
        let views = Views::over(&objects);
        let (heartbeats, events) = (BTreeMap::new(), Vec::new());
        Self {
            objects,
            views,
            counter: 0,
            now: start(),
            heartbeats,
            events,
            refuse: None,
            scales: BTreeMap::new(),
            network: crate::Network::default(),
            may: Vec::new(),
            watched: Vec::new(),
            rewritten: Vec::new(),
            volumes: BTreeMap::new(),
            local_volumes: None,
        }
    }

    /// Puts an object of a resource, completed as a server would.
    pub fn put(&mut self, resource: &str, mut object: Value) -> &mut Self {
        let (group, version) = match object["apiVersion"].as_str().expect("an apiVersion").split_once('/') {
            Some((group, version)) => (group.to_owned(), version.to_owned()),
            None => (
                String::new(),
                object["apiVersion"].as_str().expect("checked").to_owned(),
            ),
        };
        self.counter += 1;
        let metadata = &mut object["metadata"];
        if metadata["name"].is_null() {
            metadata["name"] = json!(format!(
                "{}{}",
                metadata["generateName"].as_str().unwrap_or(""),
                self.counter
            ));
        }
        if metadata["uid"].is_null() {
            metadata["uid"] = json!(format!("uid-{}", metadata["name"].as_str().expect("named")));
        }
        if metadata["creationTimestamp"].is_null() {
            metadata["creationTimestamp"] = json!(api::time::format(self.now));
        }
        metadata["resourceVersion"] = json!(self.counter.to_string());
        let name = metadata["name"].as_str().expect("named").to_owned();
        let namespace = metadata["namespace"].as_str().unwrap_or("").to_owned();
        self.objects
            .borrow_mut()
            .insert((Gvr::new(group, version, resource), namespace, name), object);
        self
    }

    /// Changes an object by a merge patch.
    pub fn change<K: Resource>(&mut self, namespace: &str, name: &str, patch: Value) {
        let key = (gvr_of::<K>(), namespace.to_owned(), name.to_owned());
        let mut objects = self.objects.borrow_mut();
        let object = objects.get_mut(&key).unwrap_or_else(|| panic!("no {key:?}"));
        merge(object, &patch);
        self.counter += 1;
        object["metadata"]["resourceVersion"] = json!(self.counter.to_string());
    }

    pub fn remove<K: Resource>(&mut self, namespace: &str, name: &str) {
        self.objects
            .borrow_mut()
            .remove(&(gvr_of::<K>(), namespace.to_owned(), name.to_owned()));
    }

    /// The JSON of an object.
    pub fn json<K: Resource>(&self, namespace: &str, name: &str) -> Value {
        let key = (gvr_of::<K>(), namespace.to_owned(), name.to_owned());
        self.objects
            .borrow()
            .get(&key)
            .cloned()
            .unwrap_or_else(|| panic!("no {key:?}"))
    }

    /// The JSON of all objects of a kind.
    pub fn all<K: Resource>(&self) -> Vec<Value> {
        let resource = gvr_of::<K>();
        self.objects
            .borrow()
            .iter()
            .filter(|((gvr, ..), _)| *gvr == resource)
            .map(|(_, object)| object.clone())
            .collect()
    }

    pub fn sleep(&mut self, seconds: i64) {
        self.now = self
            .now
            .checked_add(SignedDuration::from_secs(seconds))
            .expect("in range");
    }

    pub fn turn(&self) -> Turn {
        Turn::at(self.now)
    }

    /// Executes a plan; answers with the first failure.
    pub fn execute(&mut self, plan: &Plan) -> Option<crate::Failure> {
        let mut failure = None;
        'steps: for step in &plan.steps {
            let actions: Vec<&Action> = match step {
                Step::One(action) => vec![action],
                Step::All(actions) | Step::SlowStart(actions) => actions.iter().collect(),
            };
            for action in actions {
                if let Err(error) = self.act(action) {
                    failure = Some(error);
                    break 'steps;
                }
            }
        }
        for action in &plan.last {
            if let Err(error) = self.act(action) {
                failure.get_or_insert(error);
            }
        }
        failure
    }

    fn exists(&self, target: &crate::Target) -> Option<Value> {
        let key = (target.resource.clone(), target.namespace.clone(), target.name.clone());
        let object = self.objects.borrow().get(&key).cloned()?;
        target
            .uid
            .as_ref()
            .is_none_or(|uid| object["metadata"]["uid"] == **uid)
            .then_some(object)
    }

    fn act(&mut self, action: &Action) -> Result<(), crate::Failure> {
        for confirm in &action.confirm {
            let holds = match confirm {
                Confirm::Absent(target) => self.exists(target).is_none(),
                Confirm::Alive(target) => self
                    .exists(target)
                    .is_some_and(|o| o["metadata"]["deletionTimestamp"].is_null()),
                Confirm::Review { spec, allowed } => {
                    let what = spec["resourceAttributes"]["subresource"].as_str().unwrap_or("");
                    self.may.contains(&what) == *allowed
                }
            };
            if !holds {
                return Ok(());
            }
        }
        let name = match &action.verb {
            Verb::Create { resource, object, .. } => {
                if let Some((refused, message)) = self.refuse.filter(|(refused, _)| *refused == resource.resource) {
                    let text = action.told.as_ref().and_then(|told| told.failure.as_ref());
                    self.events
                        .extend(text.map(|t| format!("{}: {}", t.reason, t.message.replace("{error}", message))));
                    return Err(crate::Failure {
                        resource: refused.to_owned(),
                        message: message.to_owned(),
                    });
                }
                self.put(&resource.resource.clone(), object.clone());
                let generated = object["metadata"]["generateName"]
                    .as_str()
                    .map(|prefix| format!("{prefix}{}", self.counter));
                generated
                    .or(object["metadata"]["name"].as_str().map(str::to_owned))
                    .unwrap_or_default()
            }
            Verb::Patch { target, body, .. } => {
                let found = self
                    .exists(target)
                    .unwrap_or_else(|| panic!("patches what is not there: {target:?}"));
                if let Some(version) = &target.resource_version {
                    assert_eq!(
                        found["metadata"]["resourceVersion"], **version,
                        "a stale patch of {target:?}"
                    );
                }
                let key = (target.resource.clone(), target.namespace.clone(), target.name.clone());
                self.counter += 1;
                let mut objects = self.objects.borrow_mut();
                let object = objects.get_mut(&key).expect("found");
                merge(object, body);
                object["metadata"]["resourceVersion"] = json!(self.counter.to_string());
                target.name.clone()
            }
            Verb::Replace { target, object, .. } => {
                let found = self.exists(target).expect("replaces what is there");
                assert_eq!(
                    found["metadata"]["resourceVersion"],
                    object["metadata"]["resourceVersion"]
                );
                self.put(&target.resource.resource.clone(), object.clone());
                target.name.clone()
            }
            Verb::Mint {
                target,
                object,
                pointer,
                mint,
                ..
            } => {
                let found = self.exists(target).expect("mints for what is there");
                assert_eq!(
                    found["metadata"]["resourceVersion"],
                    object["metadata"]["resourceVersion"]
                );
                let (mut object, (parent, field)) = (object.clone(), pointer.rsplit_once('/').expect("a pointer"));
                object.pointer_mut(parent).expect("a parent")[field] = match mint {
                    Mint::Certificate { usages, lifetime, .. } => json!(format!("{usages:?} {lifetime}")),
                    Mint::Token { claims } => json!(claims.to_string()),
                };
                self.put(&target.resource.resource.clone(), object);
                target.name.clone()
            }
            Verb::Delete { target, .. } => {
                let key = (target.resource.clone(), target.namespace.clone(), target.name.clone());
                self.objects.borrow_mut().remove(&key);
                target.name.clone()
            }
            Verb::DeleteAll { resource, namespace } => {
                self.objects
                    .borrow_mut()
                    .retain(|(gvr, ns, _), _| gvr != resource || ns != namespace);
                String::new()
            }
            Verb::FinalizeNamespace { target, .. } => {
                self.objects
                    .borrow_mut()
                    .remove(&(target.resource.clone(), String::new(), target.name.clone()));
                target.name.clone()
            }
            Verb::Rewrite { resource } => {
                self.rewritten.push(resource.resource.clone());
                String::new()
            }
            Verb::MakeVolume { name, bytes } => {
                self.volumes.insert(name.clone(), *bytes);
                name.clone()
            }
            Verb::RemoveVolume { name } => {
                self.volumes.remove(name);
                name.clone()
            }
            Verb::Tell => String::new(),
        };
        let text = action.told.as_ref().and_then(|told| told.success.as_ref());
        self.events
            .extend(text.map(|text| format!("{}: {}", text.reason, text.message.replace("{name}", &name))));
        Ok(())
    }

    /// Reconciles and executes until nothing is left to do; then checks that another run does
    /// nothing.
    pub fn settle(&mut self, reconcile: fn(&dyn World, &Key, &Turn) -> Plan, key: &Key) {
        let mut turn = self.turn();
        for _ in 0..20 {
            let plan = reconcile(self, key, &turn);
            turn.memo = plan.memo;
            turn.notes = plan.notes.clone();
            self.execute(&plan);
            if plan.is_empty() {
                return;
            }
        }
        panic!("{key} does not settle");
    }
}

macro_rules! fake_world {
    ($($view:ident: $($path:ident)::+ as $kind:ident,)+) => {
        struct Views {
            $($view: FakeView<k8s_openapi::api::$($path)::+>,)+
            root_ca_maps: FakeView<ConfigMap>,
            untyped: Vec<FakeUntyped>,
        }

        impl Views {
            fn over(objects: &Arc<RefCell<Objects>>) -> Self {
                Self {
                    $($view: FakeView { objects: objects.clone(), kind: PhantomData },)+
                    root_ca_maps: FakeView { objects: objects.clone(), kind: PhantomData },
                    untyped: UntypedKind::ALL
                        .iter()
                        .map(|kind| FakeUntyped { objects: objects.clone(), kind: *kind })
                        .collect(),
                }
            }
        }

        impl World for Fake {
            $(fn $view(&self) -> &dyn View<k8s_openapi::api::$($path)::+> {
                &self.views.$view
            })+
            fn root_ca_maps(&self) -> &dyn View<ConfigMap> {
                &self.views.root_ca_maps
            }
            fn untyped(&self, kind: UntypedKind) -> &dyn View<Untyped> {
                &self.views.untyped[kind as usize]
            }
            fn last_heartbeat(&self, node: &str) -> Timestamp {
                self.heartbeats.get(node).copied().unwrap_or_else(start)
            }
            fn contents(&self, namespace: &str) -> Contents {
                self.contents_of(namespace)
            }
            fn scale(&self, _: &str, _: &str, kind: &str, name: &str) -> crate::Scaled {
                match self.scales.iter().find(|((k, n), _)| (*k, *n) == (kind, name)) {
                    Some((_, ("", _))) => crate::Scaled::Refused("no scale".to_owned()),
                    Some((_, (uid, replicas))) => crate::Scaled::Known { uid: (*uid).to_owned(), replicas: *replicas },
                    None => crate::Scaled::Absent,
                }
            }
            fn network(&self) -> &crate::Network {
                &self.network
            }
            fn watched(&self, group: &str, resource: &str) -> Option<(Gvr, u64)> {
                let mut all = self.watched.iter();
                all.find(|(gvr, _)| gvr.group == group && gvr.resource == resource).cloned()
            }
            fn root_ca(&self) -> &str {
                "PEM"
            }
            fn local_volumes(&self) -> Option<&crate::LocalVolumes> {
                self.local_volumes.as_ref()
            }
        }
    };
}
crate::for_each_kind!(fake_world);

impl Fake {
    fn contents_of(&self, namespace: &str) -> Contents {
        let mut contents = Contents::default();
        let objects = self.objects.borrow();
        for ((resource, ns, _), object) in objects.iter() {
            if ns != namespace {
                continue;
            }
            if contents.remaining.last().is_none_or(|last| last.resource != *resource) {
                let resource = resource.clone();
                contents.remaining.push(Remaining {
                    resource,
                    count: 0,
                    untouched: 0,
                    finalizers: BTreeMap::new(),
                });
            }
            let remaining = contents.remaining.last_mut().expect("pushed");
            remaining.count += 1;
            remaining.untouched += usize::from(object["metadata"]["deletionTimestamp"].is_null());
            for finalizer in object["metadata"]["finalizers"].as_array().into_iter().flatten() {
                *remaining
                    .finalizers
                    .entry(finalizer.as_str().unwrap_or("").to_owned())
                    .or_default() += 1;
            }
        }
        contents
    }
}

/// A pod of the ReplicaSet `owner` (or of nobody, if that is empty).
pub fn pod(name: &str, app: &str, owner: &str) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "ns", "name": name, "labels": {"app": app}},
        "spec": {"containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}]},
        "status": {"phase": "Pending"},
    });
    if !owner.is_empty() {
        pod["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": format!("uid-{owner}"),
            "controller": true, "blockOwnerDeletion": true,
        }]);
    }
    pod
}

/// The same pod, running and ready on a node.
pub fn ready(mut pod: Value, node: &str, ip: &str) -> Value {
    pod["spec"]["nodeName"] = json!(node);
    pod["status"] = json!({
        "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": api::time::format(start())}],
    });
    pod
}

/// A node that is ready since the start.
pub fn node(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {},
        "status": {"conditions": [{
            "type": "Ready", "status": "True", "lastTransitionTime": api::time::format(start()),
        }]},
    })
}

/// A namespace.
pub fn namespace(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name},
        "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"},
    })
}
