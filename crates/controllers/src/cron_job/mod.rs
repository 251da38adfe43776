//! CronJobs: Jobs by the clock (upstream `pkg/controller/cronjob`).

mod times;

use std::sync::Arc;

use api::cron::{Schedule, zone_of};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use crate::controller::{Controller, Trigger, own_key};
use crate::diff::merge_patch;
use crate::job::finished;
use crate::object::{controller_of, controller_reference, is_deleting, name, namespace, seconds, uid};
use crate::plan::{Action, Confirm, Plan, Propagation, Reference, Target, Verb};
use crate::{Key, Turn, World};
use times::{Due, due, job_minutes};

/// Looked again this much after a time, so that clocks that differ a little do no harm.
const PADDING: SignedDuration = SignedDuration::from_millis(100);
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

pub(crate) const CONTROLLER: Controller = Controller {
    name: "cronjob-controller",
    account: "cronjob-controller",
    triggers: &[Trigger::CronJob(own_key), Trigger::Job(keys_of_job)],
    reconcile,
};

fn keys_of_job(_: &dyn World, old: Option<&Job>, new: Option<&Job>) -> Vec<Key> {
    let owners = [old, new].into_iter().flatten().filter_map(|job| {
        let owner = controller_of(job).filter(|owner| owner.kind == "CronJob")?;
        Some(Key::new(namespace(job), owner.name.as_str()))
    });
    let mut keys: Vec<Key> = owners.collect();
    keys.dedup();
    keys
}

/// A CronJob, its Jobs, and the status in the making.
struct Sync<'a> {
    cron: &'a CronJob,
    jobs: Vec<Arc<Job>>,
    turn: &'a Turn,
    status: CronJobStatus,
    /// Active Jobs that are not there any more: confirmed before the status forgets them.
    missing: Vec<Target>,
}

/// Starts what is due, keeps the list of what runs, and removes old Jobs.
pub fn reconcile(world: &dyn World, key: &Key, turn: &Turn) -> Plan {
    let mut plan = Plan::nothing();
    let Some(cron) = world.cron_jobs().get(&key.namespace, &key.name) else {
        return plan;
    };
    let jobs = world.jobs().owned_by(uid(&*cron)).into_iter();
    let jobs = jobs.filter(|job| controller_of(&**job).is_some_and(|owner| owner.uid == uid(&*cron)));
    let mut sync = Sync {
        cron: &cron,
        jobs: jobs.collect(),
        turn,
        status: cron.status.clone().unwrap_or_default(),
        missing: Vec::new(),
    };
    sync.follow_jobs(&mut plan);
    let start = if is_deleting(&*cron) {
        None
    } else {
        sync.start(&mut plan)
    };
    if !is_deleting(&*cron) {
        sync.remove_old(&mut plan);
    }
    if let Some((job, time)) = start {
        sync.run(&job, time, &mut plan);
    }
    sync.report(&mut plan);
    plan
}

impl Sync<'_> {
    fn tell(&self, reason: &'static str, message: String, warning: bool, plan: &mut Plan) {
        let action = Action::event(Reference::to(self.cron), reason, message);
        plan.act(if warning { action.warning() } else { action });
    }

    /// Says the same thing about the same moment once only.
    fn tell_once(&self, reason: &'static str, message: String, about: Timestamp, warning: bool, plan: &mut Plan) {
        if self.turn.notes.get(reason) != Some(&about) {
            self.tell(reason, message, warning, plan);
        }
        plan.notes.insert(reason.to_owned(), about);
    }

    fn is_active(&self, job: &Job) -> bool {
        self.status
            .active
            .iter()
            .flatten()
            .any(|active| active.uid.as_deref() == Some(uid(job)))
    }

    fn forget(&mut self, uid: &str) {
        if let Some(active) = &mut self.status.active {
            active.retain(|active| active.uid.as_deref() != Some(uid));
        }
    }

    /// Brings the list of active Jobs up to date.
    fn follow_jobs(&mut self, plan: &mut Plan) {
        for job in self.jobs.clone() {
            match (self.is_active(&job), finished(&job)) {
                (false, None) => self.find(&job, plan),
                (true, Some(how)) => {
                    self.forget(uid(&*job));
                    let message = format!("Saw completed job: {}, condition: {how}", name(&*job));
                    self.tell("SawCompletedJob", message, false, plan);
                    self.note_success(&job);
                }
                (false, Some(_)) => self.note_success(&job),
                (true, None) => {}
            }
        }
        let gone = self
            .status
            .active
            .iter()
            .flatten()
            .filter(|active| self.jobs.iter().all(|job| active.uid.as_deref() != Some(uid(&**job))));
        let gone: Vec<ObjectReference> = gone.cloned().collect();
        for active in gone {
            let (job, uid) = (active.name.unwrap_or_default(), active.uid.unwrap_or_default());
            self.tell("MissingJob", format!("Active job went missing: {job}"), false, plan);
            self.forget(&uid);
            self.missing.push(Target {
                resource: crate::gvr_of::<Job>(),
                namespace: namespace(self.cron).to_owned(),
                name: job,
                uid: Some(uid),
                resource_version: None,
            });
        }
    }

    /// A running Job that is not in the list: the one just started, or one that somebody else made.
    fn find(&mut self, job: &Arc<Job>, plan: &mut Plan) {
        let last = self.status.last_schedule_time.as_ref();
        if last.is_some_and(|last| job_name(self.cron, last.0) == name(&**job)) {
            self.status.active.get_or_insert_default().push(ObjectReference {
                api_version: Some("batch/v1".to_owned()),
                kind: Some("Job".to_owned()),
                namespace: job.metadata.namespace.clone(),
                name: job.metadata.name.clone(),
                uid: job.metadata.uid.clone(),
                resource_version: job.metadata.resource_version.clone(),
                field_path: None,
            });
            return;
        }
        let created = crate::object::created(&**job).unwrap_or(self.turn.now);
        let message = format!(
            "Saw a job that the controller did not create or forgot: {}",
            name(&**job)
        );
        self.tell_once("UnexpectedJob", message, created, true, plan);
    }

    fn note_success(&mut self, job: &Job) {
        let completed = job.status.as_ref().and_then(|status| status.completion_time.clone());
        if let Some(completed) = completed
            && self
                .status
                .last_successful_time
                .as_ref()
                .is_none_or(|known| known.0 < completed.0)
        {
            self.status.last_successful_time = Some(completed);
        }
    }

    /// The Job that is due, if one is, and when it was due. Says why not, otherwise.
    fn start(&mut self, plan: &mut Plan) -> Option<(Job, Timestamp)> {
        let (spec, now) = (&self.cron.spec, self.turn.now);
        let generation = crate::object::created(self.cron).unwrap_or(now);
        let zone_name = spec.time_zone.as_deref().unwrap_or("");
        let Some(zone) = zone_of(zone_name) else {
            let message = format!("invalid timeZone: {zone_name:?}: unknown time zone {zone_name}");
            self.tell_once("UnknownTimeZone", message, generation, true, plan);
            return None;
        };
        if spec.suspend == Some(true) {
            return None;
        }
        let schedule = match Schedule::parse(&spec.schedule) {
            Ok(schedule) if spec.time_zone.is_some() && !spec.schedule.contains("TZ") => schedule.in_zone(zone.clone()),
            Ok(schedule) => schedule,
            Err(error) => {
                let message = format!("unparseable schedule: {:?} : {error}", spec.schedule);
                self.tell_once("UnparseableSchedule", message, generation, true, plan);
                return None;
            }
        };
        let due = match due(self.cron, now, &schedule) {
            Ok(due) => due,
            Err(error) => {
                let message = format!("invalid schedule: {} : {error}", spec.schedule);
                self.tell_once("InvalidSchedule", message, generation, true, plan);
                return None;
            }
        };
        if let Some(next) = schedule.next(now) {
            plan.look_again(next.duration_since(now) + PADDING);
        }
        let time = self.permitted(due, plan)?;
        if spec.concurrency_policy.as_deref() == Some("Replace") {
            let running: Vec<Arc<Job>> = self
                .jobs
                .iter()
                .filter(|job| finished(job).is_none())
                .cloned()
                .collect();
            for job in running.iter().filter(|job| !is_deleting(&***job)) {
                self.delete(job, plan);
            }
        }
        let zone = if spec.time_zone.is_some() {
            zone
        } else {
            jiff::tz::TimeZone::UTC
        };
        Some((self.job_for(time, &zone), time))
    }

    /// When what is due may start now.
    fn permitted(&self, due: Option<Due>, plan: &mut Plan) -> Option<Timestamp> {
        let Due { time, too_many_missed } = due?;
        if too_many_missed {
            let message =
                "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
            self.tell_once("TooManyMissedTimes", message.to_owned(), time, true, plan);
        }
        let spec = &self.cron.spec;
        let deadline = spec
            .starting_deadline_seconds
            .map(|seconds| time + SignedDuration::from_secs(seconds));
        if deadline.is_some_and(|deadline| deadline < self.turn.now) {
            let when = time.strftime("%a, %d %b %Y %H:%M:%S +0000");
            self.tell_once(
                "MissSchedule",
                format!("Missed scheduled time to start a job: {when}"),
                time,
                true,
                plan,
            );
            return None;
        }
        let job = job_name(self.cron, time);
        let mut names = self
            .status
            .active
            .iter()
            .flatten()
            .filter_map(|active| active.name.as_deref());
        let known = names.any(|active| active == job) || self.jobs.iter().any(|known| name(&**known) == job);
        if known
            || self
                .status
                .last_schedule_time
                .as_ref()
                .is_some_and(|last| last.0 == time)
        {
            return None;
        }
        let running = self.jobs.iter().any(|job| finished(job).is_none());
        if spec.concurrency_policy.as_deref() == Some("Forbid") && running {
            let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
            self.tell_once("JobAlreadyActive", message.to_owned(), time, false, plan);
            return None;
        }
        Some(time)
    }

    fn job_for(&self, time: Timestamp, zone: &jiff::tz::TimeZone) -> Job {
        let template = &self.cron.spec.job_template;
        let metadata = template.metadata.clone().unwrap_or_default();
        let zoned = time.to_zoned(zone.clone());
        let offset = if zoned.offset().is_zero() {
            "Z".to_owned()
        } else {
            zoned.strftime("%:z").to_string()
        };
        let scheduled = format!("{}{offset}", zoned.strftime("%Y-%m-%dT%H:%M:%S"));
        let mut annotations = metadata.annotations.unwrap_or_default();
        annotations.insert(SCHEDULED.to_owned(), scheduled);
        Job {
            metadata: ObjectMeta {
                name: Some(job_name(self.cron, time)),
                namespace: Some(namespace(self.cron).to_owned()),
                labels: metadata.labels,
                annotations: Some(annotations),
                owner_references: Some(vec![controller_reference(self.cron)]),
                ..ObjectMeta::default()
            },
            spec: template.spec.clone(),
            status: None,
        }
    }

    /// Creates the Job, and only then says in the status that this time is done with. The Job's name is that time: if
    /// the second write is lost, the first cannot happen again.
    fn run(&mut self, job: &Job, time: Timestamp, plan: &mut Plan) {
        plan.act(
            Action::create_if_absent(job)
                .telling(
                    Reference::to(self.cron),
                    "SuccessfulCreate",
                    format!("Created job {}", name(job)),
                )
                .or_telling("FailedCreate", "Error creating job: {error}"),
        );
        let last = json!({"status": {"lastScheduleTime": seconds(time)}});
        plan.act(Action::patch_status(self.cron, last));
        // The rest of the status follows in the next turn, which sees the new Job.
        self.status.last_schedule_time = Some(seconds(time));
    }

    fn delete(&mut self, job: &Job, plan: &mut Plan) {
        self.forget(uid(job));
        let mut action = Action::delete(job)
            .telling(
                Reference::to(self.cron),
                "SuccessfulDelete",
                format!("Deleted job {}", name(job)),
            )
            .or_telling("FailedDelete", "Deleted job: {error}");
        if let Verb::Delete { propagation, .. } = &mut action.verb {
            *propagation = Some(Propagation::Background);
        }
        plan.act(action);
    }

    /// Keeps as many finished Jobs as the limits say.
    fn remove_old(&mut self, plan: &mut Plan) {
        let limits = [
            ("Complete", self.cron.spec.successful_jobs_history_limit),
            ("Failed", self.cron.spec.failed_jobs_history_limit),
        ];
        for (how, limit) in limits {
            let Some(limit) = limit else { continue };
            let mut ended: Vec<Arc<Job>> = self
                .jobs
                .iter()
                .filter(|job| finished(job) == Some(how) && !is_deleting(&***job))
                .cloned()
                .collect();
            let started = |job: &Job| {
                job.status
                    .as_ref()
                    .and_then(|status| status.start_time.as_ref().map(|time| time.0))
            };
            ended.sort_by(|a, b| {
                let key = |job: &Job| (started(job).is_none(), started(job));
                key(a).cmp(&key(b)).then_with(|| name(&**a).cmp(name(&**b)))
            });
            let surplus = ended.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
            for job in ended.iter().take(surplus) {
                self.delete(job, plan);
            }
        }
    }

    fn report(&mut self, plan: &mut Plan) {
        if self.status.active.as_ref().is_some_and(Vec::is_empty) {
            self.status.active = None;
        }
        let mut old = self.cron.status.clone().unwrap_or_default();
        // Written after the creation only, by a step of its own.
        old.last_schedule_time = self.status.last_schedule_time.clone();
        if let Some(status) = merge_patch(&old, &self.status) {
            let mut action = Action::patch_status_version(self.cron, json!({"status": status}));
            for missing in &self.missing {
                action = action.confirmed(Confirm::Absent(missing.clone()));
            }
            // A version that a step of this plan has moved is no longer there to be patched: the next turn does it.
            let moved = plan.actions().any(|action| matches!(action.verb, Verb::Patch { .. }));
            if !moved {
                plan.finally(action);
            }
        }
    }
}

fn job_name(cron: &CronJob, time: Timestamp) -> String {
    format!("{}-{}", name(cron), job_minutes(time))
}

#[cfg(test)]
mod tests;
