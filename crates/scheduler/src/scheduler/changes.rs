//! Changes of the cluster (upstream pkg/scheduler/eventhandlers.go).

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Node};

use super::{ProfileHints, Scheduler};
use crate::framework::{Action, Context, Event, Resource, Shared};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::resources::Resources;

impl Scheduler {
    /// Tells plugins and waiting pods of an event.
    pub fn tell(&mut self, event: Event, now: Timestamp) {
        if event.action.is_none() {
            return;
        }
        let wanted = self
            .wanted
            .iter()
            .filter(|wanted| event.is_wanted_by(&wanted.registration));
        let mut plugins: Vec<&'static str> = wanted.map(|wanted| wanted.plugin).collect();
        if event.resource == Resource::Node {
            plugins.push(crate::queue::NO_NODES);
        }
        plugins.push(crate::queue::EXTENDER);
        plugins.sort_unstable();
        plugins.dedup();
        let hints = ProfileHints {
            profiles: &self.profiles,
            context: Context {
                cluster: &self.cluster,
                now,
            },
        };
        self.queue.wake(&event, &plugins, &hints, now);
    }

    /// A node came or changed.
    pub fn set_node(&mut self, node: &Arc<Node>, now: Timestamp) {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let old = self.cluster.node(name).and_then(|known| known.node.clone());
        self.cluster.set_node(node.clone());
        let action = match &old {
            None => Action::ADD,
            Some(old) => node_changes(old, node),
        };
        let share = |node: Arc<Node>| -> Shared { node };
        let event = Event {
            resource: Resource::Node,
            action,
            old: old.map(share),
            new: Some(share(node.clone())),
        };
        self.tell(event, now);
    }

    /// A node went.
    pub fn remove_node(&mut self, name: &str, now: Timestamp) {
        let old = self.cluster.node(name).and_then(|known: &NodeInfo| known.node.clone());
        self.cluster.remove_node(name);
        let event = Event {
            resource: Resource::Node,
            action: Action::DELETE,
            old: old.map(|node| -> Shared { node }),
            new: None,
        };
        self.tell(event, now);
    }

    /// A namespace came or changed its labels.
    pub fn set_namespace(&mut self, name: &str, labels: std::collections::BTreeMap<String, String>) {
        self.cluster.set_namespace(name, labels);
    }

    /// A namespace went.
    pub fn remove_namespace(&mut self, name: &str) {
        self.cluster.remove_namespace(name);
    }

    /// An object that plugins watch came, changed or went.
    pub fn observe(&mut self, resource: Resource, old: Option<&Shared>, new: Option<&Shared>, now: Timestamp) {
        for plugin in self.profiles.iter().flat_map(|profile| profile.plugins()) {
            if plugin.watches().contains(&resource) {
                plugin.observe(resource, old, new);
            }
        }
        match resource {
            Resource::Namespace => self.observe_namespace(old, new),
            _ if resource.is_storage() => self.cluster.observe_storage(resource, old, new),
            _ => {}
        }
        let action = match (old, new) {
            (None, _) => Action::ADD,
            (_, None) => Action::DELETE,
            _ => Action::UPDATE,
        };
        let event = Event {
            resource,
            action,
            old: old.cloned(),
            new: new.cloned(),
        };
        self.tell(event, now);
        self.ask_gates(now);
    }

    fn observe_namespace(&mut self, old: Option<&Shared>, new: Option<&Shared>) {
        let Some(namespace) = new.or(old).and_then(|object| object.downcast_ref::<Namespace>()) else {
            return;
        };
        let name = namespace.metadata.name.as_deref().unwrap_or_default();
        match new {
            Some(_) => self.set_namespace(name, namespace.metadata.labels.clone().unwrap_or_default()),
            None => self.remove_namespace(name),
        }
    }

    /// Whether a plugin must see kinds that it does not see yet before this pod is queued.
    #[must_use]
    pub fn needs(&self, pod: &PodInfo) -> Vec<Resource> {
        let plugins = self.profile_of(pod).into_iter().flat_map(|profile| profile.plugins());
        let concerned = plugins.filter(|plugin| !plugin.watches().is_empty() && plugin.concerns(pod));
        let mut needs: Vec<Resource> = concerned.flat_map(|plugin| plugin.watches()).copied().collect();
        needs.sort_unstable();
        needs.dedup();
        needs
    }

    fn ask_gates(&mut self, now: Timestamp) {
        for pod in self.queue.gated() {
            self.enqueue(pod, now);
        }
    }

    fn enqueue(&mut self, pod: Arc<PodInfo>, now: Timestamp) {
        let context = Context {
            cluster: &self.cluster,
            now,
        };
        let gated = self
            .profile_of(&pod)
            .is_some_and(|profile| profile.gate(&context, &pod).is_some());
        self.queue.set(pod, gated, now);
    }

    /// A pod came or changed.
    pub fn set_pod(&mut self, pod: Arc<PodInfo>, now: Timestamp) {
        if pod.node_name.is_some() || pod.finished {
            self.set_placed(pod, now);
        } else if pod.terminating && !self.cluster.holds(&pod.key) {
            // It is not worth a node any more.
            self.drop_pending(&pod);
        } else if self.profile_of(&pod).is_some() && !self.cluster.holds(&pod.key) {
            self.set_pending(pod, now);
        }
    }

    fn drop_pending(&mut self, pod: &Arc<PodInfo>) {
        self.permits.preempted(&pod.key);
        self.queue.remove(&pod.key);
        self.cluster.nominate(pod, None);
    }

    fn set_placed(&mut self, pod: Arc<PodInfo>, now: Timestamp) {
        self.drop_pending(&pod);
        let assumed = self.cluster.is_assumed(&pod.key);
        let old = self.cluster.placed(&pod.key).map(|(_, old)| old.clone());
        self.cluster.set_pod(pod.clone());
        let action = match (&old, pod.finished) {
            (None, true) => return,
            (Some(_), true) => Action::DELETE,
            (None, false) => Action::ADD,
            (Some(_), false) if assumed => Action::ADD,
            (Some(old), false) => pod_changes(old, &pod),
        };
        let share = |pod: Arc<PodInfo>| -> Shared { pod };
        let came = action == Action::ADD;
        let event = Event {
            resource: Resource::AssignedPod,
            action,
            old: old.filter(|_| !came).map(share),
            new: Some(pod).filter(|pod| !pod.finished).map(share),
        };
        self.tell(event, now);
    }

    fn set_pending(&mut self, pod: Arc<PodInfo>, now: Timestamp) {
        let nominated = pod.nominated.clone();
        if nominated.is_some() {
            self.cluster.nominate(&pod, nominated.as_deref());
        }
        let old = self.queue.pod(&pod.key).cloned();
        let key = pod.key.clone();
        self.enqueue(pod.clone(), now);
        let Some(old) = old else { return };
        let action = pod_changes(&old, &pod);
        if action.is_none() {
            return;
        }
        let share = |pod: Arc<PodInfo>| -> Shared { pod };
        let event = Event {
            resource: Resource::UnscheduledPod,
            action,
            old: Some(share(old)),
            new: Some(share(pod.clone())),
        };
        let plugins = self
            .queue
            .verdict(&key)
            .map(|verdict| verdict.plugins())
            .unwrap_or_default();
        let hints = ProfileHints {
            profiles: &self.profiles,
            context: Context {
                cluster: &self.cluster,
                now,
            },
        };
        if plugins
            .iter()
            .copied()
            .any(|plugin| crate::queue::Hints::may_help(&hints, plugin, &pod, &event))
        {
            self.queue.reconsider(&key, now);
        }
    }

    /// A pod went.
    pub fn remove_pod(&mut self, pod: &Arc<PodInfo>, now: Timestamp) {
        self.drop_pending(pod);
        if let Some(placed) = self.permits.unpark(&pod.key) {
            self.unplace(&placed, now);
        }
        let Some(old) = self.cluster.placed(&pod.key).map(|(_, old)| old.clone()) else {
            return;
        };
        self.cluster.remove_pod(&pod.key);
        let event = Event {
            resource: Resource::AssignedPod,
            action: Action::DELETE,
            old: Some(old),
            new: None,
        };
        self.tell(event, now);
    }
}

/// Upstream `NodeSchedulingPropertiesChange`.
fn node_changes(old: &Node, new: &Node) -> Action {
    let spec = |node: &Node| {
        node.spec
            .as_ref()
            .map(|spec| (spec.taints.clone(), spec.unschedulable.unwrap_or(false)))
    };
    let allocatable = |node: &Node| node.status.as_ref().and_then(|status| status.allocatable.clone());
    let conditions = |node: &Node| {
        let all = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
        all.map(|condition| (condition.type_.clone(), condition.status.clone()))
            .collect::<Vec<_>>()
    };
    Action::UPDATE_NODE_LABEL.when(old.metadata.labels != new.metadata.labels)
        | Action::UPDATE_NODE_TAINT.when(spec(old) != spec(new))
        | Action::UPDATE_ALLOCATABLE.when(allocatable(old) != allocatable(new))
        | Action::UPDATE_NODE_CONDITION.when(conditions(old) != conditions(new))
        | Action::UPDATE_NODE_ANNOTATION.when(old.metadata.annotations != new.metadata.annotations)
}

/// Upstream `PodSchedulingPropertiesChange`.
fn pod_changes(old: &PodInfo, new: &PodInfo) -> Action {
    if old.is_like(new) {
        return Action::NONE;
    }
    let (before, after) = (&old.shape, &new.shape);
    Action::UPDATE_POD_LABEL.when(old.labels != new.labels)
        | Action::UPDATE_POD_SCALE_DOWN.when(asks_less(&before.requests, &after.requests))
        | Action::UPDATE_POD_TOLERATIONS.when(before.tolerations != after.tolerations)
        | Action::UPDATE_POD_GATES_ELIMINATED.when(!before.gates.is_empty() && after.gates.is_empty())
        | Action::UPDATE_POD_GENERATED_CLAIM.when(before.generated_claims != after.generated_claims)
}

fn asks_less(before: &Resources, after: &Resources) -> bool {
    let scalar = before.scalar.iter().any(|(name, amount)| after.scalar(name) < *amount);
    after.milli_cpu < before.milli_cpu || after.memory < before.memory || scalar
}
