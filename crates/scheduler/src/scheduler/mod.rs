//! The whole scheduler as a state machine: events go in, what is to be done comes out.
//!
//! Whoever runs it (crate `driver`, benchmarks, simulations) tells it of every change, takes pods with
//! [`Scheduler::pop`], decides with [`Scheduler::decide`], does what the [`Outcome`] says and tells of
//! the result with [`Scheduler::bound`], [`Scheduler::preempted`] or [`Scheduler::give_up`].

mod changes;
mod permits;

use std::any::Any;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::cluster::Cluster;
use crate::cycle::{ActiveFilter, Attempt, Failure, Judge, schedule};
use crate::framework::{
    Action, Binding, Context, Event, Permit, Point, PostFilter, PostFilterContext, PreBind, Profile, Rejection,
    Resource, Write,
};
use crate::metrics::{Metrics, Result as Attempted, Timings};
use crate::pod::{PodInfo, PodKey};
use crate::queue::{EXTENDER, Hints, NO_NODES, Patience, Popped, Queue};
use crate::verdict::Verdict;
use permits::Permits;

/// In every so many decisions plugins are measured, too (upstream `pluginMetricsSamplePercent`).
const MEASURED_CLOSELY: u64 = 10;

/// What is to be done with a pod.
#[derive(Debug)]
pub enum Outcome {
    /// Bind it: see [`Scheduler::pre_bind`].
    Bind(Placed),
    /// It waits for permission; [`Scheduler::permitted`] has it later.
    Parked,
    /// No node can take it.
    Unschedulable(Box<Unschedulable>),
    /// It was not pending any more.
    Nothing,
}

/// A pod with its node.
#[derive(Debug, Clone)]
pub struct Placed {
    /// The pod.
    pub pod: Arc<PodInfo>,
    /// The node.
    pub node: Arc<str>,
    /// How often it was tried.
    pub attempts: u32,
    /// When it first came.
    pub first: Timestamp,
    /// When this try began.
    pub begun: Timestamp,
}

/// What is to be written about a pod that could not be placed.
#[derive(Debug)]
pub struct Unschedulable {
    /// The pod.
    pub pod: Arc<PodInfo>,
    /// `Unschedulable` or `SchedulerError`: the condition's reason.
    pub reason: &'static str,
    /// For the condition and the event.
    pub message: String,
    /// Whether the last attempt said the same: the condition has it already.
    pub known: bool,
    /// What `status.nominatedNodeName` is to be, when it is to change.
    pub nominate: Option<Option<Arc<str>>>,
    /// Pods to be evicted for it. Until [`Scheduler::preempted`] it stays in flight.
    pub victims: Vec<Arc<PodInfo>>,
    /// Pods of lower priority whose nomination for the same node ends.
    pub displaced: Vec<Arc<PodInfo>>,
    /// Writes of a plugin that may help.
    pub writes: Vec<Write>,
}

/// The scheduler.
pub struct Scheduler {
    /// The cluster as the events told.
    pub cluster: Cluster,
    /// The numbers.
    pub metrics: Metrics,
    /// Seconds since some time, for the numbers; nothing is measured without.
    pub clock: Option<fn() -> f64>,
    decisions: u64,
    queue: Queue,
    profiles: Vec<Profile>,
    permits: Permits,
    start: usize,
    random: u64,
    wanted: Vec<Wanted>,
}

/// An attempt that found no node.
struct Tried {
    profile: usize,
    filters: Vec<ActiveFilter>,
    random: u64,
}

/// A plugin's wish to hear of events, in which profile.
struct Wanted {
    plugin: &'static str,
    registration: crate::framework::Registration,
}

/// The hints of the plugins of all profiles.
struct ProfileHints<'s> {
    profiles: &'s [Profile],
    context: Context<'s>,
}

impl Hints for ProfileHints<'_> {
    fn may_help(&self, plugin: &'static str, pod: &PodInfo, event: &Event) -> bool {
        if plugin == NO_NODES {
            return event.resource == Resource::Node && event.action.meets(Action::ADD);
        }
        // Nobody knows what an extender waits for.
        if plugin == EXTENDER {
            return true;
        }
        let profile = self
            .profiles
            .iter()
            .find(|profile| profile.scheduler_name == pod.shape.scheduler_name);
        let plugins = profile.into_iter().flat_map(|profile| profile.plugins());
        plugins.filter(|known| known.name() == plugin).any(|known| {
            known.events().iter().any(|wanted| event.is_wanted_by(wanted)) && known.hint(&self.context, pod, event)
        })
    }
}

impl Scheduler {
    /// A scheduler of an empty cluster. `seed` is where its random numbers come from.
    #[must_use]
    pub fn new(profiles: Vec<Profile>, patience: Patience, seed: u64) -> Scheduler {
        let mut wanted = Vec::new();
        for plugin in profiles.iter().flat_map(|profile| profile.plugins()) {
            for registration in plugin.events() {
                let plugin = plugin.name();
                wanted.push(Wanted { plugin, registration });
            }
        }
        Scheduler {
            cluster: Cluster::default(),
            metrics: Metrics::default(),
            clock: None,
            decisions: 0,
            queue: Queue::new(patience),
            profiles,
            permits: Permits::default(),
            start: 0,
            random: seed | 1,
            wanted,
        }
    }

    /// The profiles.
    #[must_use]
    pub fn profiles(&self) -> &[Profile] {
        &self.profiles
    }

    /// The queue.
    #[must_use]
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// The profile that schedules a pod; `None` when that is somebody else's business.
    #[must_use]
    pub fn profile_of(&self, pod: &PodInfo) -> Option<&Profile> {
        self.profiles
            .iter()
            .find(|profile| profile.scheduler_name == pod.shape.scheduler_name)
    }

    /// Prepares a pod that the API has.
    #[must_use]
    pub fn read(&self, pod: &k8s_openapi::api::core::v1::Pod) -> Arc<PodInfo> {
        Arc::new(PodInfo::new(pod, self.cluster.interner()))
    }

    /// A number of xorshift64*.
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 8
    }

    /// The pod to try next.
    pub fn pop(&mut self, now: Timestamp) -> Option<Popped> {
        self.queue.pop(now)
    }

    /// When [`Scheduler::pop`] or [`Scheduler::permitted`] may have something that they have not now.
    #[must_use]
    pub fn next_wake(&self) -> Option<Timestamp> {
        self.queue
            .next_wake()
            .into_iter()
            .chain(self.permits.next_timeout())
            .min()
    }

    /// Finds a node for a pod that was popped, and counts the pod on it.
    pub fn decide(&mut self, popped: Popped, now: Timestamp, judge: &mut dyn Judge) -> Outcome {
        let Popped { pod, attempts, first } = popped;
        self.cluster.settle();
        let random = self.next_random();
        let Some(at) = self
            .profiles
            .iter()
            .position(|profile| profile.scheduler_name == pod.shape.scheduler_name)
        else {
            self.queue.remove(&pod.key);
            return Outcome::Nothing;
        };
        self.decisions += 1;
        let closely = self.decisions.is_multiple_of(MEASURED_CLOSELY);
        let timings = self.clock.map(|clock| Timings::new(clock, closely));
        let profile = &self.profiles[at];
        let attempt = Attempt {
            cluster: &self.cluster,
            profile,
            start: self.start,
            random,
            now,
            timings: timings.as_ref(),
        };
        let scheduled = schedule(&attempt, &pod, judge);
        if let Some(timings) = timings {
            self.metrics.timed(&pod.shape.scheduler_name, timings);
        }
        match scheduled {
            Ok(placement) => {
                self.start = placement.next_start;
                let node = placement.node;
                self.place(
                    Placed {
                        pod,
                        node,
                        attempts,
                        first,
                        begun: now,
                    },
                    at,
                    now,
                )
            }
            Err(Failure::Error(message)) => self.failed(&pod, message, now),
            Err(Failure::Unfit(verdict, filters)) => {
                let tried = Tried {
                    profile: at,
                    filters,
                    random,
                };
                self.unfit(pod, *verdict, tried, judge, now)
            }
        }
    }

    /// Counts the pod on its node and asks Reserve and Permit.
    fn place(&mut self, placed: Placed, profile: usize, now: Timestamp) -> Outcome {
        self.cluster.assume(placed.pod.clone(), &placed.node);
        match self.reserve(&placed, profile, now) {
            Ok(Permit::Allow) => {
                self.cluster.nominate(&placed.pod, None);
                self.queue.binding(&placed.pod.key);
                Outcome::Bind(placed)
            }
            Ok(Permit::Wait(patience)) => {
                self.permits.park(placed, now + patience);
                Outcome::Parked
            }
            Ok(Permit::Reject(rejection)) | Err(rejection) => self.turned_down(&placed, rejection, now),
        }
    }

    fn reserve(&self, placed: &Placed, profile: usize, now: Timestamp) -> Result<Permit, Rejection> {
        let profile = &self.profiles[profile];
        if !profile.has(Point::Reserve) && !profile.has(Point::Permit) {
            return Ok(Permit::Allow);
        }
        let context = Context {
            cluster: &self.cluster,
            now,
        };
        let Some(node) = self.cluster.node(&placed.node) else {
            return Err(Rejection::error(format!("node {:?} is gone", placed.node)));
        };
        for (_, plugin, _) in profile.at(Point::Reserve) {
            let reserved = plugin.reserve(&context, &placed.pod, node);
            reserved.map_err(|rejection| rejection.while_running("Reserve", plugin.name(), &placed.pod))?;
        }
        let mut longest: Option<SignedDuration> = None;
        for (_, plugin, _) in profile.at(Point::Permit) {
            match plugin.permit(&context, &placed.pod, node) {
                Permit::Allow => {}
                Permit::Wait(patience) => longest = longest.max(Some(patience)),
                reject @ Permit::Reject(_) => return Ok(reject),
            }
        }
        Ok(longest.map_or(Permit::Allow, Permit::Wait))
    }

    /// A pod that was counted on a node cannot have it after all.
    fn turned_down(&mut self, placed: &Placed, rejection: Rejection, now: Timestamp) -> Outcome {
        let message = rejection.texts(&placed.pod).join(", ");
        self.give_up(placed, &message, now)
    }

    /// Takes back a placement whose binding failed, or which was turned down on the way to it.
    pub fn give_up(&mut self, placed: &Placed, message: &str, now: Timestamp) -> Outcome {
        self.unplace(placed, now);
        let outcome = self.failed(&placed.pod, message.to_owned(), now);
        let pod: Arc<dyn Any + Send + Sync> = placed.pod.clone();
        self.tell(
            Event {
                resource: Resource::AssignedPod,
                action: Action::DELETE,
                old: Some(pod),
                new: None,
            },
            now,
        );
        outcome
    }

    fn unplace(&mut self, placed: &Placed, now: Timestamp) {
        let context = Context {
            cluster: &self.cluster,
            now,
        };
        if let Some(profile) = self.profile_of(&placed.pod) {
            for (_, plugin, _) in profile.at(Point::Reserve) {
                plugin.unreserve(&context, &placed.pod);
            }
        }
        self.cluster.forget(&placed.pod.key);
    }

    /// What failed for reasons outside the cluster's state is tried again after a back-off.
    fn failed(&mut self, pod: &Arc<PodInfo>, message: String, now: Timestamp) -> Outcome {
        if self.queue.pod(&pod.key).is_none() {
            return Outcome::Nothing;
        }
        self.metrics.attempted(&pod.shape.scheduler_name, Attempted::Error);
        self.queue.retry(&pod.key, now);
        Outcome::Unschedulable(Box::new(Unschedulable {
            pod: pod.clone(),
            reason: "SchedulerError",
            message,
            known: false,
            nominate: None,
            victims: Vec::new(),
            displaced: Vec::new(),
            writes: Vec::new(),
        }))
    }

    /// No node can take the pod: PostFilter may make room.
    fn unfit(
        &mut self,
        pod: Arc<PodInfo>,
        mut verdict: Verdict,
        tried: Tried,
        judge: &mut dyn Judge,
        now: Timestamp,
    ) -> Outcome {
        self.metrics
            .attempted(&pod.shape.scheduler_name, Attempted::Unschedulable);
        let mut report = Unschedulable {
            pod: pod.clone(),
            reason: "Unschedulable",
            message: String::new(),
            known: false,
            nominate: None,
            victims: Vec::new(),
            displaced: Vec::new(),
            writes: Vec::new(),
        };
        if verdict.node_count > 0 {
            self.make_room(&mut verdict, tried, judge, now, &mut report);
        }
        report.message = verdict.message(&pod);
        let before = self.queue.verdict(&pod.key);
        report.known = before.is_some_and(|before| **before == verdict || before.message(&pod) == report.message);
        if let Some(node) = &report.nominate {
            self.cluster.nominate(&pod, node.as_deref());
        }
        let hints = ProfileHints {
            profiles: &self.profiles,
            context: Context {
                cluster: &self.cluster,
                now,
            },
        };
        if report.victims.is_empty() {
            self.queue.failed(&pod.key, verdict, &hints, now);
        } else {
            self.metrics.preempted(report.victims.len());
            self.permits.preempting(pod.key.clone(), verdict);
        }
        Outcome::Unschedulable(Box::new(report))
    }

    fn make_room(
        &self,
        verdict: &mut Verdict,
        mut tried: Tried,
        judge: &mut dyn Judge,
        now: Timestamp,
        report: &mut Unschedulable,
    ) {
        let pod = report.pod.clone();
        let mut said: Vec<String> = Vec::new();
        let profile = &self.profiles[tried.profile];
        for (_, plugin, _) in profile.at(Point::PostFilter) {
            let mut context = PostFilterContext {
                cluster: &self.cluster,
                profile,
                filters: &mut tried.filters,
                verdict,
                judge,
                random: tried.random,
                now,
            };
            match plugin.post_filter(&mut context, &pod) {
                PostFilter::Unschedulable(text) => said.push(text),
                PostFilter::Act(writes, text) => {
                    report.writes = writes;
                    said.push(text);
                    break;
                }
                PostFilter::Preempt { node, victims } => {
                    let lower = self
                        .cluster
                        .nominated_on(&node)
                        .filter(|other| other.priority() < pod.priority());
                    report.displaced = lower.cloned().collect();
                    report.nominate = Some(Some(node));
                    report.victims = victims;
                    // Success says nothing, and silences what others said.
                    said.clear();
                    break;
                }
            }
        }
        said.retain(|text| !text.is_empty());
        verdict.after = said.join(", ");
        let was_nominated = pod.nominated.is_some() || self.cluster.nominated_node(&pod.key).is_some();
        let keeps = verdict.after.contains("not eligible due to");
        if report.victims.is_empty() && was_nominated && !keeps {
            report.nominate = Some(None);
        }
    }

    /// The evictions for a pod are done, or failed: it waits for the room, or is tried again.
    pub fn preempted(&mut self, key: &PodKey, succeeded: bool, now: Timestamp) {
        let Some(verdict) = self.permits.preempted(key) else {
            return;
        };
        if !succeeded {
            if let Some(pod) = self.queue.pod(key).cloned() {
                self.cluster.nominate(&pod, None);
            }
            self.queue.retry(key, now);
            return;
        }
        let hints = ProfileHints {
            profiles: &self.profiles,
            context: Context {
                cluster: &self.cluster,
                now,
            },
        };
        self.queue.failed(key, verdict, &hints, now);
    }

    /// What has to be done before a placed pod is bound: to be asked until it says done.
    #[must_use]
    pub fn pre_bind(&self, placed: &Placed, now: Timestamp) -> PreBind {
        let Some(profile) = self.profile_of(&placed.pod) else {
            return PreBind::Done;
        };
        let context = Context {
            cluster: &self.cluster,
            now,
        };
        let mut asked = profile.at(Point::PreBind).map(|(_, plugin, _)| {
            match plugin.pre_bind(&context, &placed.pod, &placed.node) {
                PreBind::Reject(rejection) => {
                    PreBind::Reject(rejection.while_running("PreBind", plugin.name(), &placed.pod))
                }
                answer => answer,
            }
        });
        asked.find(|answer| *answer != PreBind::Done).unwrap_or(PreBind::Done)
    }

    /// Who binds a pod.
    #[must_use]
    pub fn binding(&self, pod: &PodInfo) -> Option<Binding> {
        self.profile_of(pod)?
            .at(Point::Bind)
            .find_map(|(_, plugin, _)| plugin.bind(pod))
    }

    /// The pod is bound.
    pub fn bound(&mut self, placed: &Placed, now: Timestamp) {
        self.queue.remove(&placed.pod.key);
        let profile = &placed.pod.shape.scheduler_name;
        self.metrics.attempted(profile, Attempted::Scheduled);
        let took = now.duration_since(placed.begun).as_secs_f64();
        self.metrics.took(profile, Attempted::Scheduled, took);
        self.metrics.bound(placed.attempts, now.duration_since(placed.first));
        if let Some(profile) = self.profile_of(&placed.pod) {
            for (_, plugin, _) in profile.at(Point::PostBind) {
                plugin.post_bind(&placed.pod);
            }
        }
    }

    /// Pods that were parked and may now be bound, or have waited too long.
    pub fn permitted(&mut self, now: Timestamp) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for (placed, until) in self.permits.take_all() {
            let Some(at) = self
                .profiles
                .iter()
                .position(|p| p.scheduler_name == placed.pod.shape.scheduler_name)
            else {
                continue;
            };
            match self.ask_again(&placed, at, now) {
                Permit::Allow => {
                    self.cluster.nominate(&placed.pod, None);
                    self.queue.binding(&placed.pod.key);
                    outcomes.push(Outcome::Bind(placed));
                }
                Permit::Wait(_) if until > now => self.permits.park(placed, until),
                Permit::Wait(_) => {
                    let late = Rejection::unschedulable("pod was rejected due to timeout after waiting at Permit");
                    outcomes.push(self.turned_down(&placed, late, now));
                }
                Permit::Reject(rejection) => outcomes.push(self.turned_down(&placed, rejection, now)),
            }
        }
        outcomes
    }

    fn ask_again(&self, placed: &Placed, profile: usize, now: Timestamp) -> Permit {
        let context = Context {
            cluster: &self.cluster,
            now,
        };
        let Some(node) = self.cluster.node(&placed.node) else {
            return Permit::Reject(Rejection::error(format!("node {:?} is gone", placed.node)));
        };
        let mut answer = Permit::Allow;
        for (_, plugin, _) in self.profiles[profile].at(Point::Permit) {
            match plugin.permit(&context, &placed.pod, node) {
                Permit::Allow => {}
                wait @ Permit::Wait(_) => answer = wait,
                reject @ Permit::Reject(_) => return reject,
            }
        }
        answer
    }
}

#[cfg(test)]
mod tests;
