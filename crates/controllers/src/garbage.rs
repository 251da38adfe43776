//! The garbage collector: objects go when their owners have gone, and owners wait for dependents
//! that block them (upstream `pkg/controller/garbagecollector`).
//!
//! Its view is the ownership graph of all objects of all kinds, as caches of metadata show it. An
//! owner that the caches do not show is not taken for gone: the plan has its absence confirmed by a
//! live read before anything is deleted.

use api::{Gvr, Value};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::json;

use crate::object::to_value;
use crate::plan::{Action, Confirm, Plan, Propagation, Reference, Step, Target, Verb};

/// Deletion waits for blocking dependents.
pub const FOREGROUND: &str = "foregroundDeletion";
/// Deletion leaves dependents without this owner.
pub const ORPHAN: &str = "orphan";

/// An object of any kind, as far as ownership is concerned.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    /// Its resource.
    pub resource: Gvr,
    /// Its kind.
    pub kind: String,
    /// Its namespace; empty if it is cluster-scoped.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its resourceVersion.
    pub resource_version: String,
    /// Its owners.
    pub owners: Vec<OwnerReference>,
    /// Its finalizers.
    pub finalizers: Vec<String>,
    /// Whether its deletion has begun.
    pub deleting: bool,
}

/// What an object is called everywhere.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeKey {
    /// Resource.
    pub resource: Gvr,
    /// Namespace; empty if it is cluster-scoped.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// The ownership graph.
pub trait Graph {
    /// One object.
    fn get(&self, key: &NodeKey) -> Option<Node>;
    /// The object with this UID.
    fn by_uid(&self, uid: &str) -> Option<Node>;
    /// The objects that name this UID as an owner.
    fn dependents(&self, uid: &str) -> Vec<Node>;
    /// The resource of a kind, and whether its objects live in namespaces; `None` if the server has
    /// no such kind.
    fn resource_of(&self, api_version: &str, kind: &str) -> Option<(Gvr, bool)>;
}

impl Node {
    /// Its key.
    pub fn key(&self) -> NodeKey {
        NodeKey {
            resource: self.resource.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        }
    }

    fn has(&self, finalizer: &str) -> bool {
        self.finalizers.iter().any(|known| known == finalizer)
    }

    fn waits_for_dependents(&self) -> bool {
        self.deleting && self.has(FOREGROUND)
    }

    fn target(&self) -> Target {
        Target {
            resource: self.resource.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            uid: Some(self.uid.clone()),
            resource_version: None,
        }
    }

    fn patch(&self, metadata: Value) -> Action {
        let target = Target {
            resource_version: Some(self.resource_version.clone()),
            ..self.target()
        };
        Action::new(Verb::Patch {
            target,
            subresource: "",
            body: json!({"metadata": metadata}),
        })
    }

    fn with_owners(&self, owners: &[OwnerReference]) -> Action {
        let owners = if owners.is_empty() {
            Value::Null
        } else {
            to_value(&owners)
        };
        self.patch(json!({"ownerReferences": owners}))
    }

    fn without_finalizer(&self, finalizer: &str) -> Action {
        let left: Vec<&String> = self.finalizers.iter().filter(|known| *known != finalizer).collect();
        let left = if left.is_empty() { Value::Null } else { json!(left) };
        self.patch(json!({"finalizers": left}))
    }

    fn delete(&self, policy: Propagation) -> Action {
        let propagation = Some(policy);
        Action::new(Verb::Delete {
            target: self.target(),
            grace_period_seconds: None,
            propagation,
        })
    }
}

/// The objects to look at after one changed from `old` to `new`.
pub fn concerned(graph: &dyn Graph, old: Option<&Node>, new: Option<&Node>) -> Vec<NodeKey> {
    let ownership = |node: &Node| {
        (
            node.uid.clone(),
            node.owners.clone(),
            node.finalizers.clone(),
            node.deleting,
        )
    };
    if old.map(ownership) == new.map(ownership) {
        return Vec::new();
    }
    let mut keys = Vec::new();
    if let Some(node) = new.filter(|node| !node.owners.is_empty() || node.deleting) {
        keys.push(node.key());
    }
    // Dependents look at an owner that is gone, or that waits for them.
    let gone = new.is_none() || old.zip(new).is_some_and(|(old, new)| old.uid != new.uid);
    if let Some(gone) = old.filter(|_| gone) {
        keys.extend(graph.dependents(&gone.uid).iter().map(Node::key));
    }
    let waits = new.filter(|new| new.waits_for_dependents());
    if let Some(owner) = waits.filter(|_| !old.is_some_and(Node::waits_for_dependents)) {
        keys.extend(graph.dependents(&owner.uid).iter().map(Node::key));
    }
    // Owners look at a dependent that is gone, or no longer theirs, or no longer blocks.
    let kept = new.map(|node| node.owners.as_slice()).unwrap_or_default();
    for owner in old
        .iter()
        .flat_map(|node| &node.owners)
        .filter(|owner| gone || !kept.contains(owner))
    {
        let waiting = graph.by_uid(&owner.uid).filter(|owner| owner.deleting);
        keys.extend(waiting.map(|owner| owner.key()));
    }
    keys
}

/// What to do about one object.
pub fn reconcile(graph: &dyn Graph, key: &NodeKey) -> Plan {
    let mut plan = Plan::nothing();
    let Some(node) = graph.get(key) else {
        return plan;
    };
    if node.deleting && node.has(ORPHAN) {
        orphan_dependents(graph, &node, &mut plan);
    } else if node.waits_for_dependents() {
        let mut dependents = graph.dependents(&node.uid).into_iter();
        if !dependents.any(|dependent| blocks(&dependent, &node)) {
            plan.act(node.without_finalizer(FOREGROUND));
        }
    } else if !node.deleting && !node.owners.is_empty() {
        judge(graph, &node, &mut plan);
    }
    plan
}

fn blocks(dependent: &Node, owner: &Node) -> bool {
    dependent
        .owners
        .iter()
        .any(|reference| reference.uid == owner.uid && reference.block_owner_deletion == Some(true))
}

fn orphan_dependents(graph: &dyn Graph, owner: &Node, plan: &mut Plan) {
    let release = |dependent: Node| {
        let owners: Vec<_> = dependent
            .owners
            .iter()
            .filter(|known| known.uid != owner.uid)
            .cloned()
            .collect();
        dependent.with_owners(&owners)
    };
    let released: Vec<Action> = graph.dependents(&owner.uid).into_iter().map(release).collect();
    if !released.is_empty() {
        plan.steps.push(Step::All(released));
    }
    plan.act(owner.without_finalizer(ORPHAN));
}

/// A node's owners by what is known of them.
#[derive(Default)]
struct Owners {
    solid: Vec<OwnerReference>,
    waiting: Vec<OwnerReference>,
    missing: Vec<(OwnerReference, Target)>,
}

fn judge(graph: &dyn Graph, node: &Node, plan: &mut Plan) {
    let Some(owners) = classify(graph, node, plan) else {
        return;
    };
    let confirmed = |mut action: Action| {
        action
            .confirm
            .extend(owners.missing.iter().map(|(_, target)| Confirm::Absent(target.clone())));
        action
    };
    if !owners.solid.is_empty() {
        if !owners.waiting.is_empty() || !owners.missing.is_empty() {
            plan.act(confirmed(node.with_owners(&owners.solid)));
        }
        return;
    }
    let dependents = graph.dependents(&node.uid);
    if !owners.waiting.is_empty() && !dependents.is_empty() {
        if dependents.iter().any(Node::waits_for_dependents) {
            // A circle: owner waits for this, this for its dependents, and one of those for the owner.
            plan.act(node.with_owners(&unblocked(node)));
        }
        plan.act(confirmed(node.delete(Propagation::Foreground)));
        return;
    }
    let policy = if node.has(ORPHAN) {
        Propagation::Orphan
    } else if node.has(FOREGROUND) {
        Propagation::Foreground
    } else {
        Propagation::Background
    };
    plan.act(confirmed(node.delete(policy)));
}

fn unblocked(node: &Node) -> Vec<OwnerReference> {
    let unblock = |owner: &OwnerReference| OwnerReference {
        block_owner_deletion: Some(false),
        ..owner.clone()
    };
    node.owners.iter().map(unblock).collect()
}

/// `None` if an owner's kind is not known: then nothing can be said.
fn classify(graph: &dyn Graph, node: &Node, plan: &mut Plan) -> Option<Owners> {
    let mut owners = Owners::default();
    for reference in &node.owners {
        let known = graph.by_uid(&reference.uid);
        if let Some(owner) = known
            .as_ref()
            .filter(|owner| owner.namespace.is_empty() || owner.namespace == node.namespace)
        {
            let list = if owner.waits_for_dependents() {
                &mut owners.waiting
            } else {
                &mut owners.solid
            };
            list.push(reference.clone());
            continue;
        }
        let (resource, namespaced) = graph.resource_of(&reference.api_version, &reference.kind)?;
        let strange = known.is_some();
        if strange {
            let message = format!(
                "ownerRef [{}/{}, namespace: {}, name: {}, uid: {}] does not exist in namespace \"{}\"",
                reference.api_version, reference.kind, node.namespace, reference.name, reference.uid, node.namespace
            );
            plan.act(Action::event(about(node), "OwnerRefInvalidNamespace", message).warning());
        }
        if namespaced && node.namespace.is_empty() {
            // A cluster-scoped object cannot have an owner in a namespace: nobody can tell which.
            return None;
        }
        let namespace = if namespaced {
            node.namespace.clone()
        } else {
            String::new()
        };
        let target = Target {
            resource,
            namespace,
            name: reference.name.clone(),
            uid: Some(reference.uid.clone()),
            resource_version: None,
        };
        owners.missing.push((reference.clone(), target));
    }
    Some(owners)
}

fn about(node: &Node) -> Reference {
    Reference {
        api_version: node.resource.api_version(),
        kind: node.kind.clone(),
        namespace: node.namespace.clone(),
        name: node.name.clone(),
        uid: node.uid.clone(),
        resource_version: node.resource_version.clone(),
    }
}

#[cfg(test)]
mod tests;
