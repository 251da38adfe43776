//! What actors decide: controllers by their table, the garbage collector by its graph.

use std::hash::Hash;
use std::sync::Arc;

use controllers::garbage::{self, NodeKey};
use controllers::{Controller, Key, Plan, Trigger, Turn, World, for_each_kind};
use k8s_openapi::api::core::v1::ConfigMap;

use crate::registry::{Resource, registry, resource_of, resource_of_untyped};
use crate::store::Object;
use crate::view::{Sight, SimWorld, is_of, node_of};

/// An actor's mind.
pub trait Mind {
    /// What it reconciles.
    type Key: Clone + Eq + Hash + Ord + std::fmt::Debug + Send;
    /// Its name.
    fn name(&self) -> &'static str;
    /// Whether changes of a resource concern it.
    fn hears(&self, resource: Resource) -> bool;
    /// The keys to reconcile after a change.
    fn keys(&self, resource: Resource, old: Option<&Object>, new: Option<&Object>) -> Vec<Self::Key>;
    /// Decides.
    fn reconcile(&self, key: &Self::Key, turn: &Turn) -> Plan;
}

type Notify = Box<dyn Fn(&dyn World, Option<&Object>, Option<&Object>) -> Vec<Key>>;

macro_rules! notifier {
    ($($view:ident: $($path:ident)::+ as $kind:ident,)+) => {
        fn notifier(trigger: Trigger) -> (Resource, Notify) {
            match trigger {
                $(Trigger::$kind(keys) => {
                    type K = k8s_openapi::api::$($path)::+;
                    let notify: Notify = Box::new(move |world, old, new| {
                        let (old, new) = (old.map(Object::typed::<K>), new.map(Object::typed::<K>));
                        keys(world, old.as_deref(), new.as_deref())
                    });
                    (resource_of::<K>(), notify)
                })+
                Trigger::RootCaMap(keys) => {
                    let notify: Notify = Box::new(move |world, old, new| {
                        let ours = |object: &&Object| object.key().1 == "kube-root-ca.crt";
                        let (old, new) = (old.filter(ours), new.filter(ours));
                        if old.is_none() && new.is_none() {
                            return Vec::new();
                        }
                        let (old, new) = (old.map(Object::typed::<ConfigMap>), new.map(Object::typed::<ConfigMap>));
                        keys(world, old.as_deref(), new.as_deref())
                    });
                    (resource_of::<ConfigMap>(), notify)
                }
                Trigger::Untyped(kind, keys) => {
                    let notify: Notify = Box::new(move |world, old, new| {
                        let ours = |object: &&Object| is_of(kind, object);
                        let (old, new) = (old.filter(ours), new.filter(ours));
                        if old.is_none() && new.is_none() {
                            return Vec::new();
                        }
                        let (old, new) = (old.map(Object::untyped), new.map(Object::untyped));
                        keys(world, old.as_deref(), new.as_deref())
                    });
                    (resource_of_untyped(kind), notify)
                }
            }
        }
    };
}
for_each_kind!(notifier);

/// A controller of the table.
pub struct ControllerMind {
    controller: &'static Controller,
    world: SimWorld,
    notifiers: Vec<(Resource, Notify)>,
    whole_namespaces: bool,
}

impl ControllerMind {
    /// With what it sees.
    pub fn new(controller: &'static Controller, sight: &Arc<Sight>) -> Self {
        Self {
            controller,
            world: SimWorld::new(sight),
            notifiers: controller.triggers.iter().map(|trigger| notifier(*trigger)).collect(),
            whole_namespaces: driver::looks_at_contents(controller.name),
        }
    }
}

impl Mind for ControllerMind {
    type Key = Key;

    fn name(&self) -> &'static str {
        self.controller.name
    }

    fn hears(&self, resource: Resource) -> bool {
        self.whole_namespaces || self.notifiers.iter().any(|(heard, _)| *heard == resource)
    }

    fn keys(&self, resource: Resource, old: Option<&Object>, new: Option<&Object>) -> Vec<Key> {
        let mut keys = Vec::new();
        for (_, notify) in self.notifiers.iter().filter(|(heard, _)| *heard == resource) {
            keys.extend(notify(&self.world, old, new));
        }
        if self.whole_namespaces && registry().kinds[resource].is_namespaced() {
            let namespace = new.or(old).map_or("", |object| object.key().0);
            let moved = old.is_none() || new.is_none();
            keys.extend(driver::keys_of_contents(
                self.controller.name,
                &self.world,
                namespace,
                moved,
            ));
        }
        keys
    }

    fn reconcile(&self, key: &Key, turn: &Turn) -> Plan {
        (self.controller.reconcile)(&self.world, key, turn)
    }
}

/// The garbage collector.
pub struct GarbageMind(pub Arc<Sight>);

impl Mind for GarbageMind {
    type Key = NodeKey;

    fn name(&self) -> &'static str {
        "garbage-collector"
    }

    fn hears(&self, _: Resource) -> bool {
        true
    }

    fn keys(&self, resource: Resource, old: Option<&Object>, new: Option<&Object>) -> Vec<NodeKey> {
        let (old, new) = (
            old.map(|object| node_of(resource, object)),
            new.map(|object| node_of(resource, object)),
        );
        let mut keys = garbage::concerned(&*self.0, old.as_ref(), new.as_ref());
        // At the start all there is is looked at.
        keys.extend(new.filter(|_| old.is_none()).map(|node| node.key()));
        keys
    }

    fn reconcile(&self, key: &NodeKey, _: &Turn) -> Plan {
        garbage::reconcile(&*self.0, key)
    }
}
