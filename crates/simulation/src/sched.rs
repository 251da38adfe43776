//! The scheduler as an actor: the pure scheduler's state machine; bindings and evictions are writes like any other.
//!
//! It sees all kinds that its plugins follow from the start; those of volumes are left out. What plugins would have written (claims of devices) and the
//! conditions of pods that have no node are not: nobody in this world reads them.

use std::sync::Arc;

use api::{Gvr, Status};
use apiserver::rules::DeleteOptions;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, ReplicationController, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use scheduler::cycle::NoJudge;
use scheduler::framework::{PreBind, Resource as Feed, Shared};
use scheduler::queue::Patience;
use scheduler::scheduler::{Placed, Unschedulable};
use scheduler::{Outcome, PodInfo, Scheduler, plugins};

use crate::actor::Actor;
use crate::fault::Fault;
use crate::registry::{Resource, registry, resource_of};
use crate::rng::Rng;
use crate::server::Server;
use crate::store::Object;
use crate::view::Sight;
use crate::world::Cluster;

const LONGEST_LAG_MS: i64 = 20_000;
/// Claims of this world are bound in their status alone; there are no volumes.
const OF_VOLUMES: [&str; 4] = ["VolumeRestrictions", "NodeVolumeLimits", "VolumeBinding", "VolumeZone"];

/// What plugins see of an object.
type Share = fn(&Object) -> Shared;

/// The scheduler.
pub struct SchedulerActor {
    cluster: Cluster,
    sight: Arc<Sight>,
    index: usize,
    scheduler: Scheduler,
    nodes: Resource,
    pods: Resource,
    feeds: Vec<(Resource, Feed, Share)>,
    seeds: Rng,
    held: Option<Timestamp>,
}

/// The kinds that plugins follow, as production shows them.
fn feeds() -> Vec<(Resource, Feed, Share)> {
    let mut feeds: Vec<(Resource, Feed, Share)> = vec![
        (resource_of::<Namespace>(), Feed::Namespace, |object| {
            object.typed::<Namespace>()
        }),
        (resource_of::<Service>(), Feed::Service, |object| {
            object.typed::<Service>()
        }),
        (
            resource_of::<ReplicationController>(),
            Feed::ReplicationController,
            |object| object.typed::<ReplicationController>(),
        ),
        (resource_of::<ReplicaSet>(), Feed::ReplicaSet, |object| {
            object.typed::<ReplicaSet>()
        }),
        (resource_of::<StatefulSet>(), Feed::StatefulSet, |object| {
            object.typed::<StatefulSet>()
        }),
        (
            resource_of::<PodDisruptionBudget>(),
            Feed::PodDisruptionBudget,
            |object| object.typed::<PodDisruptionBudget>(),
        ),
    ];
    for (plural, feed) in [
        ("resourceclaims", Feed::ResourceClaim),
        ("resourceslices", Feed::ResourceSlice),
        ("deviceclasses", Feed::DeviceClass),
        ("devicetaintrules", Feed::DeviceTaintRule),
    ] {
        let found = registry().find(&Gvr::new("resource.k8s.io", "v1", plural));
        let share: Share = |object| Arc::new(object.value.clone());
        feeds.extend(found.map(|resource| (resource, feed, share)));
    }
    feeds
}

fn scheduler(seeds: &mut Rng) -> Scheduler {
    let profile = plugins::default_profile_without(&OF_VOLUMES);
    Scheduler::new(vec![profile], Patience::default(), seeds.draw())
}

impl SchedulerActor {
    /// A scheduler that begins now.
    pub fn new(cluster: &Cluster, index: usize, seed: u64) -> Self {
        let mut seeds = Rng::new(seed, 4);
        Self {
            cluster: cluster.clone(),
            sight: Sight::new(cluster),
            index,
            scheduler: scheduler(&mut seeds),
            nodes: resource_of::<Node>(),
            pods: resource_of::<Pod>(),
            feeds: feeds(),
            seeds,
            held: None,
        }
    }

    fn now(&self) -> Timestamp {
        self.cluster.lock().server.now
    }

    fn resources(&self) -> Vec<Resource> {
        let feeds = self.feeds.iter().map(|(resource, ..)| *resource);
        [self.nodes].into_iter().chain(feeds).chain([self.pods]).collect()
    }

    fn hear(&mut self, resource: Resource, old: Option<&Object>, new: Option<&Object>) {
        let now = self.now();
        if resource == self.nodes {
            match new {
                Some(node) => self.scheduler.set_node(&node.typed::<Node>(), now),
                None => self.scheduler.remove_node(old.map_or("", |node| node.key().1), now),
            }
        } else if resource == self.pods {
            let Some(pod) = new.or(old) else { return };
            let pod = self.scheduler.read(&pod.typed::<Pod>());
            match new {
                Some(_) => self.scheduler.set_pod(pod, now),
                None => self.scheduler.remove_pod(&pod, now),
            }
        } else if let Some((_, feed, share)) = self.feeds.iter().find(|(known, ..)| *known == resource) {
            let (old, new) = (old.map(share), new.map(share));
            self.scheduler.observe(*feed, old.as_ref(), new.as_ref(), now);
        }
    }

    /// Makes a write, unless something goes wrong: whether it is known to be done; nothing, if the scheduler died.
    fn write(&self, what: String, act: impl FnOnce(&mut Server) -> Result<(), Status>) -> Option<bool> {
        let mut shared = self.cluster.lock();
        let fault = shared.faults.at_write(self.index);
        if fault == Some(Fault::CrashBefore) {
            return None;
        }
        let done = act(&mut shared.server).is_ok();
        shared.note(|| format!("scheduler: {what}: {done:?} {fault:?}"));
        match fault {
            Some(Fault::CrashAfter | Fault::CrashAll) => None,
            Some(Fault::AnswerLost) => Some(false),
            _ => Some(done),
        }
    }

    fn follow(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Bind(placed) => self.bind(&placed),
            Outcome::Unschedulable(report) => self.make_room(&report),
            Outcome::Parked | Outcome::Nothing => {}
        }
    }

    fn bind(&mut self, placed: &Placed) {
        let now = self.now();
        if self.scheduler.pre_bind(placed, now) != PreBind::Done {
            return self.give_up(placed, "nothing is prepared in this world");
        }
        let (key, node) = (&placed.pod.key, &placed.node);
        let what = format!("{}/{} to {node}", key.namespace, key.name);
        let bind = |server: &mut Server| server.bind(&key.namespace, &key.name, &key.uid, node).map(drop);
        match self.write(what, bind) {
            None => {}
            Some(true) => self.scheduler.bound(placed, now),
            Some(false) => self.give_up(placed, "binding rejected"),
        }
    }

    fn give_up(&mut self, placed: &Placed, why: &str) {
        let now = self.now();
        let outcome = self.scheduler.give_up(placed, why, now);
        self.follow(outcome);
    }

    fn make_room(&mut self, report: &Unschedulable) {
        if report.victims.is_empty() {
            return;
        }
        for victim in &report.victims {
            match self.write(format!("evicts {}", victim.key), |server| self.evict(server, victim)) {
                None => return,
                Some(true) => {}
                Some(false) => return self.scheduler.preempted(&report.pod.key, false, self.now()),
            }
        }
        self.scheduler.preempted(&report.pod.key, true, self.now());
    }

    fn evict(&self, server: &mut Server, victim: &PodInfo) -> Result<(), Status> {
        let options = DeleteOptions {
            uid: Some(victim.key.uid.to_string()),
            ..DeleteOptions::default()
        };
        let (namespace, name) = (&victim.key.namespace, &victim.key.name);
        server.delete(self.pods, namespace, name, &options).map(drop)
    }

    fn see(&mut self) {
        for resource in self.resources() {
            let events = {
                let shared = self.cluster.lock();
                shared
                    .server
                    .store
                    .since(resource, self.sight.revision(resource))
                    .to_vec()
            };
            for event in events {
                self.sight.advance(resource, event.revision);
                self.hear(resource, event.old.as_deref(), event.new.as_deref());
            }
        }
    }
}

impl Actor for SchedulerActor {
    fn deliver(&mut self) {
        let now = self.now();
        if self.held.is_some_and(|until| until > now) {
            return;
        }
        self.held = None;
        self.see();
    }

    fn choices(&mut self) -> usize {
        let now = self.now();
        let active = self.scheduler.queue().lengths()[0] > 0;
        usize::from(active || self.scheduler.next_wake().is_some_and(|wake| wake <= now))
    }

    fn act(&mut self, _: usize) {
        let now = self.now();
        for outcome in self.scheduler.permitted(now) {
            self.follow(outcome);
        }
        if let Some(popped) = self.scheduler.pop(now) {
            let outcome = self.scheduler.decide(popped, now, &mut NoJudge);
            self.follow(outcome);
        }
    }

    fn next_due(&self) -> Option<Timestamp> {
        self.held.into_iter().chain(self.scheduler.next_wake()).min()
    }

    fn suffer(&mut self, fault: Fault, rng: &mut Rng) {
        match fault {
            Fault::CrashBefore | Fault::CrashAfter | Fault::CrashAll => {
                self.scheduler = scheduler(&mut self.seeds);
                self.held = None;
                self.sight = Sight::new(&self.cluster);
                self.relist();
            }
            Fault::Stale | Fault::Relist | Fault::Deaf => {
                self.held = Some(self.now() + SignedDuration::from_millis(rng.between(1, LONGEST_LAG_MS)));
            }
            Fault::AnswerLost => {}
        }
    }

    fn recover(&mut self) {
        self.held = None;
    }
}

impl SchedulerActor {
    fn relist(&mut self) {
        for resource in self.resources() {
            let (objects, revision) = {
                let store = &self.cluster.lock().server.store;
                (store.list(resource, "", u64::MAX), store.revision())
            };
            self.sight.advance(resource, revision);
            for object in objects {
                self.hear(resource, None, Some(&object));
            }
        }
    }
}
