//! Whether a Job has ended, and its status.

use k8s_openapi::api::batch::v1::JobCondition;
use serde_json::json;

use super::Sync;
use super::policy::{Verdict, judge, success};
use crate::diff::merge_patch;
use crate::object::{is_deleting, seconds};
use crate::plan::{Action, Plan, Reference, Step};
use crate::pod::{is_ready, phase};

/// Why a Job ends.
#[derive(Clone, Debug, PartialEq)]
struct Verdicted {
    /// `SuccessCriteriaMet` or `FailureTarget`: what stands in the status until all pods have ended.
    interim: &'static str,
    reason: String,
    message: String,
}

const SUCCESS: &str = "SuccessCriteriaMet";
const FAILURE: &str = "FailureTarget";

impl Verdicted {
    fn failure(reason: &str, message: impl Into<String>) -> Self {
        Self {
            interim: FAILURE,
            reason: reason.to_owned(),
            message: message.into(),
        }
    }

    fn success(reason: &str, message: impl Into<String>) -> Self {
        Self {
            interim: SUCCESS,
            reason: reason.to_owned(),
            message: message.into(),
        }
    }

    fn terminal(&self) -> &'static str {
        if self.interim == SUCCESS { "Complete" } else { "Failed" }
    }
}

impl Sync<'_> {
    /// Decides, starts or ends pods, counts, and writes the status.
    pub(super) fn sync(mut self, plan: &mut Plan) {
        if self.status.start_time.is_none() && !self.is_suspended() {
            self.status.start_time = Some(seconds(self.turn.now));
        }
        let mut verdict = self.verdict();
        if let Some(left) = self
            .deadline_in()
            .filter(|left| left.is_positive() && verdict.is_none())
        {
            plan.look_again(left);
        }
        let mut end_events = Vec::new();
        if verdict.is_some() {
            let deletions = self.deletions(&self.active);
            if !deletions.is_empty() {
                plan.steps.push(Step::All(deletions));
            }
        } else if !is_deleting(self.job) {
            let moved = self.manage(plan);
            let enough = match self.spec.completions {
                None => self.succeeded > 0,
                Some(completions) => self.succeeded >= completions,
            };
            if enough && self.active.is_empty() && !moved {
                verdict = Some(Verdicted::success(
                    "CompletionsReached",
                    "Reached expected number of succeeded pods",
                ));
            } else {
                self.tell_suspended(plan);
            }
        }
        self.track(verdict.is_some(), plan);
        let ends = verdict.is_some();
        if let Some(verdict) = verdict {
            self.end(&verdict, &mut end_events);
        }
        self.report(end_events, ends, plan);
    }

    fn has(&self, kind: &str) -> Option<&JobCondition> {
        let mut conditions = self.status.conditions.iter().flatten();
        conditions.find(|condition| condition.type_ == kind && condition.status == "True")
    }

    /// Whether the Job is over, by what was decided before or by what there is now.
    fn verdict(&self) -> Option<Verdicted> {
        for interim in [SUCCESS, FAILURE] {
            if let Some(known) = self.has(interim) {
                let text = |text: &Option<String>| text.clone().unwrap_or_default();
                return Some(Verdicted {
                    interim,
                    reason: text(&known.reason),
                    message: text(&known.message),
                });
            }
        }
        let failed = self.pods.iter().filter(|pod| self.is_failed(pod));
        let by_policy = failed.filter_map(|pod| match judge(self.job, pod) {
            Verdict::FailJob(message) => Some(message),
            _ => None,
        });
        if let Some(message) = by_policy.into_iter().next() {
            return Some(Verdicted::failure("PodFailurePolicy", message));
        }
        if self.failed > self.spec.backoff_limit.unwrap_or(6) || self.restarted_too_often() {
            return Some(Verdicted::failure(
                "BackoffLimitExceeded",
                "Job has reached the specified backoff limit",
            ));
        }
        if self.deadline_in().is_some_and(|left| !left.is_positive()) {
            return Some(Verdicted::failure(
                "DeadlineExceeded",
                "Job was active longer than specified deadline",
            ));
        }
        if let Some(failed) = &self.failed_indexes {
            if self.spec.max_failed_indexes.is_some_and(|limit| failed.total() > limit) {
                let message = "Job has exceeded the specified maximal number of failed indexes";
                return Some(Verdicted::failure("MaxFailedIndexesExceeded", message));
            }
            if failed.total() > 0 && failed.total() + self.succeeded_indexes.total() >= self.completions() {
                return Some(Verdicted::failure("FailedIndexes", "Job has failed indexes"));
            }
        }
        if !self.is_indexed() {
            return None;
        }
        success(self.job, self.completions(), &self.succeeded_indexes)
            .map(|message| Verdicted::success("SuccessPolicy", message))
    }

    /// Containers that are restarted in place count against the limit, too (`pastBackoffLimitOnFailure`).
    fn restarted_too_often(&self) -> bool {
        let spec = self.spec.template.spec.as_ref();
        if spec.and_then(|spec| spec.restart_policy.as_deref()) != Some("OnFailure") {
            return false;
        }
        let alive = self
            .pods
            .iter()
            .filter(|pod| matches!(phase(pod), "Running" | "Pending"));
        let statuses = alive.flat_map(|pod| pod.status.iter()).flat_map(|status| {
            status
                .init_container_statuses
                .iter()
                .flatten()
                .chain(status.container_statuses.iter().flatten())
        });
        let restarts: i32 = statuses.map(|status| status.restart_count).sum();
        match self.spec.backoff_limit.unwrap_or(6) {
            0 => restarts > 0,
            limit => restarts >= limit,
        }
    }

    fn tell_suspended(&mut self, plan: &mut Plan) {
        let known = self
            .status
            .conditions
            .iter()
            .flatten()
            .find(|condition| condition.type_ == "Suspended");
        let is = known.is_some_and(|condition| condition.status == "True");
        let about = || Reference::to(self.job);
        if self.is_suspended() && !is {
            plan.act(Action::event(about(), "Suspended", "Job suspended"));
            self.set("Suspended", "True", "JobSuspended", "Job suspended");
            // While a job is suspended is the only time when its start may go (JobStatus.startTime); it comes anew
            // when the job is resumed.
            self.status.start_time = None;
        } else if !self.is_suspended() && is {
            plan.act(Action::event(about(), "Resumed", "Job resumed"));
            self.set("Suspended", "False", "JobResumed", "Job resumed");
        }
    }

    fn set(&mut self, kind: &str, status: &str, reason: &str, message: &str) {
        let now = Some(seconds(self.turn.now));
        let new = JobCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()).filter(|reason| !reason.is_empty()),
            message: Some(message.to_owned()).filter(|message| !message.is_empty()),
            last_probe_time: now.clone(),
            last_transition_time: now,
        };
        let conditions = self.status.conditions.get_or_insert_default();
        match conditions.iter_mut().find(|condition| condition.type_ == kind) {
            Some(known) => *known = new,
            None => conditions.push(new),
        }
    }

    /// The interim condition at once; the last one when all pods have ended and are counted.
    fn end(&mut self, verdict: &Verdicted, events: &mut Vec<(&'static str, String, String)>) {
        if self.has(verdict.interim).is_none() {
            self.set(verdict.interim, "True", &verdict.reason, &verdict.message);
            return;
        }
        let running = !self.active.is_empty() || self.pods.iter().any(|pod| Self::is_terminating(pod));
        if running || !self.is_all_counted() {
            return;
        }
        self.set(verdict.terminal(), "True", &verdict.reason, &verdict.message);
        if verdict.interim == SUCCESS {
            self.status.completion_time = Some(seconds(self.turn.now));
            if self
                .spec
                .completions
                .is_some_and(|completions| self.succeeded > completions)
            {
                let message = "Too many succeeded pods running after completion count reached";
                events.push(("Warning", "TooManySucceededPods".to_owned(), message.to_owned()));
            }
            events.push(("Normal", "Completed".to_owned(), "Job completed".to_owned()));
        } else {
            events.push(("Warning", verdict.reason.clone(), verdict.message.clone()));
        }
    }

    fn report(mut self, events: Vec<(&'static str, String, String)>, ends: bool, plan: &mut Plan) {
        let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        let active = if ends { Vec::new() } else { self.active.clone() };
        self.status.active = Some(number(active.len())).filter(|count| *count != 0);
        self.status.ready = Some(number(active.iter().filter(|pod| is_ready(pod)).count()));
        self.status.terminating = Some(number(self.pods.iter().filter(|pod| Self::is_terminating(pod)).count()));
        let old = self.job.status.clone().unwrap_or_default();
        if let Some(status) = merge_patch(&old, &self.status) {
            plan.finally(Action::patch_status_version(self.job, json!({"status": status})));
            for (kind, reason, message) in events {
                let event = Action::event(Reference::to(self.job), reason_of(&reason), message);
                plan.finally(if kind == "Warning" { event.warning() } else { event });
            }
        }
    }
}

/// The reasons that a Job's events can have.
fn reason_of(reason: &str) -> &'static str {
    const REASONS: [&str; 9] = [
        "Completed",
        "TooManySucceededPods",
        "PodFailurePolicy",
        "BackoffLimitExceeded",
        "DeadlineExceeded",
        "MaxFailedIndexesExceeded",
        "FailedIndexes",
        "SuccessPolicy",
        "CompletionsReached",
    ];
    REASONS.into_iter().find(|known| *known == reason).unwrap_or("Failed")
}
