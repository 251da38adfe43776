//! One run of the world: a history, with or without faults, until everything is still.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use api::Value;
use controllers::ALL;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

use crate::actor::{Actor, MindActor};
use crate::fault::{Fault, Faults};
use crate::history::Deed;
use crate::hollow::Hollow;
use crate::law::Law;
use crate::mind::{ControllerMind, GarbageMind};
use crate::rng::Rng;
use crate::sched::SchedulerActor;
use crate::server::Server;
use crate::summary::{Summary, summarise};
use crate::user::Users;
use crate::view::Sight;
use crate::world::{Cluster, Shared};

/// More steps than any history needs: controllers that fight never end.
const MOST_STEPS: u64 = 150_000;
/// Tries of a deed that cannot be done yet, one a second.
const MOST_TRIES: u32 = 120;
/// After the last deed things go wrong for this long.
const TROUBLED: SignedDuration = SignedDuration::from_secs(30);
/// And this long later everything has come to rest: deadlines, tolerations and back-offs have ended.
const SETTLED: SignedDuration = SignedDuration::from_mins(40);

/// How a run goes.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Determines everything.
    pub seed: u64,
    /// How many of a thousand writes go wrong.
    pub per_mille: u64,
    /// Writes that are left alone.
    pub spared: BTreeSet<u64>,
    /// Whether what happens is written down.
    pub trace: bool,
}

/// What came of a run.
#[derive(Debug, Default)]
pub struct Ended {
    /// What must not have happened.
    pub violations: Vec<String>,
    /// The state in the end.
    pub summary: Summary,
    /// What happened.
    pub trace: Vec<String>,
    /// What went wrong.
    pub faults: Vec<(u64, Fault)>,
    /// Steps.
    pub steps: u64,
    /// Writes.
    pub writes: u64,
}

/// The time at which worlds begin.
pub fn beginning() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().expect("a time")
}

/// The world at work.
pub struct Run {
    /// What everybody shares.
    pub cluster: Cluster,
    /// The nodes.
    pub hollow: Hollow,
    /// The users.
    pub users: Users,
    actors: Vec<Box<dyn Actor>>,
    law: Law,
    rng: Rng,
    deeds: VecDeque<(Timestamp, Deed, u32)>,
    steps: u64,
}

impl Run {
    /// A world in which a history is to happen.
    pub fn new(settings: &Settings, history: &[Deed]) -> Self {
        let shared = Shared {
            server: Server::new(settings.seed, beginning()),
            faults: Faults::new(settings.seed, settings.per_mille, settings.spared.clone()),
            silent: Default::default(),
            trace: settings.trace.then(Vec::new),
            violations: Vec::new(),
        };
        let cluster: Cluster = Arc::new(Mutex::new(shared));
        let mut actors: Vec<Box<dyn Actor>> = Vec::new();
        for controller in ALL.iter().filter(|controller| !driver::needs_keys(controller.name)) {
            let sight = Sight::new(&cluster);
            let mind = ControllerMind::new(controller, &sight);
            let index = actors.len();
            actors.push(Box::new(MindActor::new(mind, &cluster, sight, index)));
        }
        let (sight, index) = (Sight::new(&cluster), actors.len());
        actors.push(Box::new(MindActor::new(
            GarbageMind(sight.clone()),
            &cluster,
            sight,
            index,
        )));
        actors.push(Box::new(SchedulerActor::new(&cluster, actors.len(), settings.seed)));
        let deeds = history.iter();
        let deeds = deeds
            .map(|deed| (beginning() + SignedDuration::from_millis(deed.at), deed.clone(), 0))
            .collect();
        Self {
            cluster,
            hollow: Hollow::new(settings.seed),
            users: Users::default(),
            actors,
            law: Law::default(),
            rng: Rng::new(settings.seed, 6 + u64::from(settings.per_mille > 0)),
            deeds,
            steps: 0,
        }
    }

    /// Runs a history to its end.
    pub fn history(settings: &Settings, history: &[Deed]) -> Ended {
        let mut run = Self::new(settings, history);
        while !run.deeds.is_empty() && run.step(None) {}
        run.pass(TROUBLED);
        run.recover();
        run.settle();
        run.end()
    }

    /// The world's time.
    pub fn now(&self) -> Timestamp {
        self.cluster.lock().server.now
    }

    /// Nothing goes wrong from now on.
    pub fn recover(&mut self) {
        self.cluster.lock().faults.per_mille = 0;
        self.actors.iter_mut().for_each(|actor| actor.recover());
    }

    /// Lets everything come to rest.
    pub fn settle(&mut self) {
        self.pass(SETTLED);
    }

    /// What came of it.
    pub fn end(self) -> Ended {
        let mut shared = self.cluster.lock();
        let broken = !shared.violations.is_empty();
        let summary = if broken {
            Summary::default()
        } else {
            for violation in self.law.in_the_end(&shared.server, &self.users, &shared.silent) {
                shared.violate(violation);
            }
            summarise(&shared.server)
        };
        Ended {
            violations: std::mem::take(&mut shared.violations),
            summary,
            trace: shared.trace.take().unwrap_or_default(),
            faults: std::mem::take(&mut shared.faults.happened),
            steps: self.steps,
            writes: shared.server.store.revision(),
        }
    }

    /// Something happens, or time passes until something can (but not beyond `until`). Whether it may go on.
    pub fn step(&mut self, until: Option<Timestamp>) -> bool {
        self.steps += 1;
        if self.steps > MOST_STEPS {
            self.cluster.lock().violate("it does not come to rest".to_owned());
        }
        self.see();
        if !self.cluster.lock().violations.is_empty() {
            return false;
        }
        let choices: Vec<usize> = self.actors.iter_mut().map(|actor| actor.choices()).collect();
        let all: usize = choices.iter().sum();
        if all == 0 {
            return self.wait(until);
        }
        let mut chosen = self.rng.below(all);
        for (actor, choices) in choices.into_iter().enumerate() {
            if chosen < choices {
                self.actors[actor].act(chosen);
                break;
            }
            chosen -= choices;
        }
        self.cluster.lock().server.pass(SignedDuration::from_micros(500));
        self.suffer();
        until.is_none_or(|until| self.now() < until)
    }

    /// What is due happens, and everybody sees what happened.
    fn see(&mut self) {
        let now = self.now();
        while self.deeds.front().is_some_and(|(at, ..)| *at <= now) {
            let (_, deed, tries) = self.deeds.pop_front().expect("just seen");
            let mut shared = self.cluster.lock();
            let done = self.users.act(&mut shared, &mut self.hollow, &deed.op);
            shared.note(|| {
                format!(
                    "user: {:?}: {:?}",
                    deed.op,
                    done.as_ref().err().map(|error| &error.message)
                )
            });
            if done.is_err() && tries < MOST_TRIES {
                let again = (now + SignedDuration::from_secs(1), deed, tries + 1);
                let at = self.deeds.partition_point(|(due, ..)| *due <= again.0);
                self.deeds.insert(at, again);
            }
        }
        {
            let mut shared = self.cluster.lock();
            self.hollow.act(&mut shared);
            self.hollow.observe(&mut shared);
            self.law.look(&mut shared);
        }
        self.actors.iter_mut().for_each(|actor| actor.deliver());
    }

    fn suffer(&mut self) {
        let due = std::mem::take(&mut self.cluster.lock().faults.due);
        for (actor, fault, mut rng) in due {
            if fault == Fault::CrashAll {
                self.actors.iter_mut().for_each(|actor| actor.suffer(fault, &mut rng));
            } else {
                self.actors[actor].suffer(fault, &mut rng);
            }
        }
    }

    /// Nobody has anything to do: time passes.
    fn wait(&mut self, until: Option<Timestamp>) -> bool {
        let now = self.now();
        let actors = self.actors.iter().filter_map(|actor| actor.next_due());
        let deeds = self.deeds.front().map(|(at, ..)| *at);
        let next = actors.chain(deeds).chain(self.hollow.next_due()).min();
        let next = match (next, until) {
            (Some(next), Some(until)) if next < until => next,
            (Some(next), None) => next,
            (_, Some(until)) => {
                self.cluster.lock().server.now = until.max(now);
                return false;
            }
            (None, None) => return false,
        };
        self.cluster.lock().server.now = next.max(now + SignedDuration::from_micros(1));
        true
    }

    /// Lets time pass, with whatever happens in it.
    pub fn pass(&mut self, time: SignedDuration) {
        let until = self.now() + time;
        while self.now() < until && self.step(Some(until)) {}
    }

    /// A copy of an object, by group, resource, namespace and name.
    pub fn object(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        let resource = crate::registry::registry().known(group, resource);
        self.cluster.lock().server.get(resource, namespace, name).ok().cloned()
    }
}
