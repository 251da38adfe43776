//! An actor: a mind with a queue, memory, caches that may lag, and up to five turns at once.

use std::collections::HashMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use driver::{Agenda, Executor, Memory, Outcome, PATIENCE};
use jiff::{SignedDuration, Timestamp};

use crate::fault::Fault;
use crate::hands::SimHands;
use crate::mind::Mind;
use crate::registry::{Resource, registry};
use crate::rng::Rng;
use crate::store::{Event, Object};
use crate::view::Sight;
use crate::world::Cluster;

const WORKERS: usize = 5;
/// Caches and queues are behind no longer than this.
const LONGEST_LAG_MS: i64 = 20_000;

/// What the world does with an actor.
pub trait Actor {
    /// Sees what has happened, as far as its watches tell.
    fn deliver(&mut self);
    /// How many things it could do now.
    fn choices(&mut self) -> usize;
    /// Does one of them.
    fn act(&mut self, choice: usize);
    /// When it could do something though nothing happens.
    fn next_due(&self) -> Option<Timestamp>;
    /// Something goes wrong with it.
    fn suffer(&mut self, fault: Fault, rng: &mut Rng);
    /// Its watches and its queue work again.
    fn recover(&mut self);
}

struct Hold {
    /// Of one resource, or of all.
    resource: Option<Resource>,
    until: Timestamp,
    /// Then only the difference is seen.
    relist: bool,
}

struct Running<K> {
    key: K,
    again: Option<SignedDuration>,
    kept: Memory,
    future: Pin<Box<dyn Future<Output = Outcome>>>,
}

/// An actor with a mind.
pub struct MindActor<M: Mind> {
    mind: M,
    cluster: Cluster,
    sight: Arc<Sight>,
    executor: Executor<SimHands>,
    agenda: Agenda<M::Key, Timestamp>,
    memory: HashMap<M::Key, Memory>,
    /// Keys that wait for their last writes to be seen, but not longer than until a time.
    parked: Vec<(M::Key, Timestamp)>,
    running: Vec<Running<M::Key>>,
    holds: Vec<Hold>,
    /// Up to where everything was delivered that no hold keeps back; 0 after a hold has ended.
    delivered: u64,
    /// Until when its queue hears of nothing, and what it missed.
    deaf: Option<Timestamp>,
    missed: Vec<M::Key>,
}

impl<M: Mind> MindActor<M> {
    /// An actor that begins now.
    pub fn new(mind: M, cluster: &Cluster, sight: Arc<Sight>, actor: usize) -> Self {
        let hands = SimHands {
            cluster: cluster.clone(),
            actor,
            name: mind.name(),
        };
        Self {
            mind,
            cluster: cluster.clone(),
            sight,
            executor: Executor {
                hands,
                keys: None,
                local_disk: None,
            },
            agenda: Agenda::default(),
            memory: HashMap::new(),
            parked: Vec::new(),
            running: Vec::new(),
            holds: Vec::new(),
            delivered: 0,
            deaf: None,
            missed: Vec::new(),
        }
    }

    fn now(&self) -> Timestamp {
        self.cluster.lock().server.now
    }

    fn hear(&mut self, resource: Resource, old: Option<&Object>, new: Option<&Object>) {
        let keys = self.mind.keys(resource, old, new);
        if self.deaf.is_some() {
            self.missed.extend(keys);
        } else {
            keys.into_iter().for_each(|key| self.agenda.add(key));
        }
    }

    fn is_held(&self, resource: Resource) -> bool {
        self.holds
            .iter()
            .any(|hold| hold.resource.is_none_or(|held| held == resource))
    }

    /// Sees the difference between what it saw last of a resource, and what there is.
    fn relist(&mut self, resource: Resource) {
        let (before, latest, changed) = {
            let shared = self.cluster.lock();
            let (store, before) = (&shared.server.store, self.sight.revision(resource));
            let changed: Vec<Event> = store.since(resource, before).to_vec();
            (before, store.revision(), changed)
        };
        self.sight.advance(resource, latest);
        let mut keys: Vec<(String, String)> = Vec::new();
        for event in &changed {
            let (namespace, name) = event.object().key();
            keys.push((namespace.to_owned(), name.to_owned()));
        }
        keys.sort();
        keys.dedup();
        for (namespace, name) in keys {
            let (old, new) = {
                let shared = self.cluster.lock();
                let store = &shared.server.store;
                let old = store.get(resource, &namespace, &name, before).cloned();
                (old, store.live(resource, &namespace, &name).cloned())
            };
            if (old.is_some() || new.is_some()) && self.mind.hears(resource) {
                self.hear(resource, old.as_deref(), new.as_deref());
            }
        }
    }

    fn release(&mut self, now: Timestamp) {
        if self.deaf.is_some_and(|until| until <= now) {
            self.deaf = None;
            std::mem::take(&mut self.missed)
                .into_iter()
                .for_each(|key| self.agenda.add(key));
        }
        while let Some(at) = self.holds.iter().position(|hold| hold.until <= now) {
            let ended = self.holds.swap_remove(at);
            self.delivered = 0;
            let all = 0..registry().kinds.len();
            let ended_for = all.filter(|resource| ended.resource.is_none_or(|held| held == *resource));
            if ended.relist {
                for resource in ended_for.collect::<Vec<_>>() {
                    if !self.is_held(resource) {
                        self.relist(resource);
                    }
                }
            }
        }
    }

    fn begin(&mut self, key: M::Key) {
        let now = self.now();
        let turn = self.memory.get(&key).cloned().unwrap_or_default().turn(now);
        let decided = catch_unwind(AssertUnwindSafe(|| self.mind.reconcile(&key, &turn)));
        let Ok(plan) = decided else {
            let what = format!("{} panics on {key:?}", self.mind.name());
            self.cluster.lock().violate(what);
            self.agenda.done(&key);
            return;
        };
        let (again, kept) = (plan.requeue_after, Memory::of(&plan));
        if plan.is_empty() {
            return self.end(key, again, kept, Outcome::default());
        }
        let executor = self.executor.clone();
        let future = Box::pin(async move { executor.execute(plan).await });
        self.running.push(Running {
            key,
            again,
            kept,
            future,
        });
    }

    fn end(&mut self, key: M::Key, again: Option<SignedDuration>, kept: Memory, outcome: Outcome) {
        let (now, failed) = (self.now(), outcome.failure.is_some());
        match kept.after(outcome) {
            Some(memory) => drop(self.memory.insert(key.clone(), memory)),
            None => drop(self.memory.remove(&key)),
        }
        if failed {
            self.agenda.add_failed(key.clone(), now);
        } else {
            self.agenda.forget(&key);
            if let Some(after) = again {
                let after: Duration = after.try_into().unwrap_or_default();
                self.agenda.delay(key.clone(), now + after);
            }
        }
        self.agenda.done(&key);
    }

    fn is_ready(&self, key: &M::Key) -> bool {
        let memory = self.memory.get(key);
        memory.is_none_or(|memory| {
            memory
                .expectations
                .iter()
                .all(|expectation| self.sight.seen(expectation))
        })
    }

    /// The process dies and begins anew: it lists all there is.
    fn crash(&mut self) {
        self.running.clear();
        self.parked.clear();
        self.memory.clear();
        self.agenda = Agenda::default();
        self.holds.clear();
        self.deaf = None;
        self.missed.clear();
        self.delivered = 0;
        let (now, revision) = {
            let shared = self.cluster.lock();
            (shared.server.now, shared.server.store.revision())
        };
        *self.sight.begun.lock() = now;
        let all = 0..registry().kinds.len();
        all.clone().for_each(|resource| self.sight.advance(resource, revision));
        for resource in all {
            if self.mind.hears(resource) {
                let objects = self.cluster.lock().server.store.list(resource, "", revision);
                for object in objects {
                    self.hear(resource, None, Some(&object));
                }
            }
        }
    }
}

impl<M: Mind> Actor for MindActor<M> {
    fn deliver(&mut self) {
        if !self.holds.is_empty() || self.deaf.is_some() {
            self.release(self.now());
        }
        let (changed, latest) = {
            let shared = self.cluster.lock();
            let store = &shared.server.store;
            if store.revision() == self.delivered {
                return;
            }
            (store.changed(self.delivered), store.revision())
        };
        self.delivered = latest;
        for resource in changed {
            if self.is_held(resource) {
                continue;
            }
            let from = self.sight.revision(resource);
            if self.mind.hears(resource) {
                let events = self.cluster.lock().server.store.since(resource, from).to_vec();
                for event in events {
                    self.sight.advance(resource, event.revision);
                    self.hear(resource, event.old.as_deref(), event.new.as_deref());
                }
            }
            self.sight.advance(resource, latest);
        }
    }

    fn choices(&mut self) -> usize {
        let now = self.now();
        let waiting: Vec<usize> = (0..self.parked.len()).collect();
        for at in waiting.into_iter().rev() {
            if self.parked[at].1 <= now || self.is_ready(&self.parked[at].0) {
                let (key, _) = self.parked.swap_remove(at);
                self.begin(key);
            }
        }
        let free = self.running.len() < WORKERS;
        let ready = self.agenda.has_ready() || self.agenda.next_due().is_some_and(|due| due <= now);
        self.running.len() + usize::from(free && ready)
    }

    fn act(&mut self, choice: usize) {
        if choice >= self.running.len() {
            let now = self.now();
            let Some(key) = self.agenda.next(now) else { return };
            if self.is_ready(&key) {
                self.begin(key);
            } else {
                self.parked.push((key, now + PATIENCE));
            }
            return;
        }
        let mut context = Context::from_waker(Waker::noop());
        if let Poll::Ready(outcome) = self.running[choice].future.as_mut().poll(&mut context) {
            let ended = self.running.remove(choice);
            self.end(ended.key, ended.again, ended.kept, outcome);
        }
    }

    fn next_due(&self) -> Option<Timestamp> {
        let parked = self.parked.iter().map(|(_, until)| *until);
        let holds = self.holds.iter().map(|hold| hold.until);
        parked.chain(holds).chain(self.deaf).chain(self.agenda.next_due()).min()
    }

    fn suffer(&mut self, fault: Fault, rng: &mut Rng) {
        let until = self.now() + SignedDuration::from_millis(rng.between(1, LONGEST_LAG_MS));
        match fault {
            Fault::CrashBefore | Fault::CrashAfter | Fault::CrashAll => self.crash(),
            Fault::AnswerLost => {}
            Fault::Stale | Fault::Relist => {
                let heard: Vec<Resource> = (0..registry().kinds.len())
                    .filter(|resource| self.mind.hears(*resource))
                    .collect();
                let one = rng.chance(500).then(|| *rng.pick(&heard));
                self.holds.push(Hold {
                    resource: one,
                    until,
                    relist: fault == Fault::Relist,
                });
            }
            Fault::Deaf => self.deaf = Some(until),
        }
    }

    fn recover(&mut self) {
        let now = self.now();
        self.holds.iter_mut().for_each(|hold| hold.until = now);
        self.deaf = self.deaf.map(|_| now);
    }
}
