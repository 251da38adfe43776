//! Counting each ended pod once (upstream `trackJobStatusAndRemoveFinalizers`).

use std::collections::BTreeSet;

use k8s_openapi::api::batch::v1::UncountedTerminatedPods;
use k8s_openapi::api::core::v1::Pod;

use super::indexes::Indexes;
use super::pods::{all_failures_before, failures_before, finished_at, index_of, is_tracked};
use super::policy::{Verdict, judge};
use super::{Sync, without_finalizer};
use crate::object::{is_deleting, uid};
use crate::plan::{Action, Plan, Step};
use crate::pod::phase;

/// At most this many UIDs wait in the status.
const MAX_UNCOUNTED: usize = 500;

fn take(list: &mut Option<Vec<String>>, tracked: &BTreeSet<&str>) -> i32 {
    let Some(uids) = list else { return 0 };
    let before = uids.len();
    uids.retain(|uid| tracked.contains(uid.as_str()));
    let settled = before - uids.len();
    if uids.is_empty() {
        *list = None;
    }
    i32::try_from(settled).unwrap_or(i32::MAX)
}

impl Sync<'_> {
    fn uncounted(&self) -> UncountedTerminatedPods {
        self.status.uncounted_terminated_pods.clone().unwrap_or_default()
    }

    fn waits_as(list: Option<&Vec<String>>, pod: &Pod) -> bool {
        list.is_some_and(|uids| uids.iter().any(|known| known == uid(pod)))
    }

    /// Turns UIDs whose pods have lost the finalizer into numbers.
    pub(super) fn settle_counted(&mut self) {
        let tracked: BTreeSet<&str> = self
            .pods
            .iter()
            .filter(|pod| is_tracked(pod))
            .map(|pod| uid(&**pod))
            .collect();
        let mut uncounted = self.uncounted();
        let succeeded = take(&mut uncounted.succeeded, &tracked);
        let failed = take(&mut uncounted.failed, &tracked);
        let raise = |count: &mut Option<i32>, more: i32| {
            if more > 0 {
                *count = Some(count.unwrap_or(0) + more);
            }
        };
        raise(&mut self.status.succeeded, succeeded);
        raise(&mut self.status.failed, failed);
        self.status.uncounted_terminated_pods = Some(uncounted);
    }

    /// Everything that ended, whether the status knows it or not.
    pub(super) fn count(&mut self) {
        let uncounted = self.uncounted();
        let (succeeded, failed) = (uncounted.succeeded.as_ref(), uncounted.failed.as_ref());
        let tracked = || self.pods.iter().filter(|pod| is_tracked(pod) && self.is_valid(pod));
        let new = |list, pod: &Pod| !Self::waits_as(list, pod);
        let newly_succeeded = tracked()
            .filter(|pod| phase(pod) == "Succeeded" && new(succeeded, pod))
            .count();
        let newly_failed = tracked()
            .filter(|pod| self.is_failed(pod) && new(failed, pod) && judge(self.job, pod) != Verdict::Ignore)
            .count();
        let length = |list: Option<&Vec<String>>| list.map_or(0, Vec::len);
        let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        self.succeeded = self.status.succeeded.unwrap_or(0) + number(newly_succeeded + length(succeeded));
        self.failed = self.status.failed.unwrap_or(0) + number(newly_failed + length(failed));
        if self.is_indexed() {
            self.count_indexes();
        }
    }

    fn count_indexes(&mut self) {
        let limit = self.completions();
        let mut succeeded = Indexes::parse(self.status.completed_indexes.as_deref().unwrap_or(""), limit);
        let ended = |wanted: &dyn Fn(&Pod) -> bool| -> Indexes {
            let pods = self
                .pods
                .iter()
                .filter(|pod| is_tracked(pod) && self.is_valid(pod) && wanted(pod));
            pods.filter_map(|pod| index_of(pod)).collect()
        };
        succeeded.merge(&ended(&|pod| phase(pod) == "Succeeded"));
        let mut failed_indexes = None;
        if let Some(limit_per_index) = self.spec.backoff_limit_per_index {
            let mut failed = Indexes::parse(self.status.failed_indexes.as_deref().unwrap_or(""), limit);
            failed.merge(&ended(&|pod| {
                self.is_failed(pod) && self.fails_index(pod, limit_per_index)
            }));
            failed_indexes = Some(failed);
        }
        self.succeeded = succeeded.total();
        self.succeeded_indexes = succeeded;
        self.failed_indexes = failed_indexes;
        if self.spec.backoff_limit_per_index.is_some() {
            self.hold_failed();
        }
    }

    fn fails_index(&self, pod: &Pod, limit: i32) -> bool {
        match judge(self.job, pod) {
            Verdict::FailIndex => true,
            Verdict::Ignore => false,
            _ => failures_before(pod) >= limit,
        }
    }

    /// The last failed pod of an index keeps its finalizer until its replacement has inherited its number of failures.
    fn hold_failed(&mut self) {
        let active: Indexes = self.active.iter().filter_map(|pod| index_of(pod)).collect();
        let failed: Vec<_> = self
            .pods
            .iter()
            .filter(|pod| is_tracked(pod) && self.is_valid(pod) && self.is_failed(pod))
            .cloned()
            .collect();
        for pod in failed {
            let Some(index) = index_of(&pod) else { continue };
            let over = |indexes: Option<&Indexes>| indexes.is_some_and(|indexes| indexes.has(index));
            if over(Some(&self.succeeded_indexes)) || over(self.failed_indexes.as_ref()) || active.has(index) {
                continue;
            }
            let last = |pod: &Pod| (all_failures_before(pod), finished_at(pod));
            if self.held.get(&index).is_none_or(|known| last(known) <= last(&pod)) {
                self.held.insert(index, pod);
            }
        }
    }

    /// Puts what ended into the status, and takes the finalizer from what the status has already. `ending` counts all
    /// that still run as failed.
    pub(super) fn track(&mut self, ending: bool, plan: &mut Plan) {
        let known = self.job.status.clone().unwrap_or_default();
        let known_uids = known.uncounted_terminated_pods.unwrap_or_default();
        let known_indexes = Indexes::parse(known.completed_indexes.as_deref().unwrap_or(""), self.completions());
        let mut uncounted = self.uncounted();
        let mut done = Indexes::parse(
            self.status.completed_indexes.as_deref().unwrap_or(""),
            self.completions(),
        );
        let mut releases = Vec::new();
        let mut pods: Vec<_> = self.pods.iter().filter(|pod| is_tracked(pod)).cloned().collect();
        pods.sort_by_key(|pod| index_of(pod));
        let mut waiting =
            uncounted.succeeded.as_ref().map_or(0, Vec::len) + uncounted.failed.as_ref().map_or(0, Vec::len);
        for pod in pods {
            let failed = self.is_failed(&pod);
            if !self.may_release(&pod, failed, ending) {
                continue;
            }
            let (list, seen) = if phase(&pod) == "Succeeded" && !Self::waits_as(uncounted.failed.as_ref(), &pod) {
                if self.is_indexed() {
                    match index_of(&pod).filter(|index| *index < self.completions()) {
                        Some(index) if !known_indexes.has(index) => {
                            done.add(index, index);
                            waiting += 1;
                        }
                        _ => releases.push(without_finalizer(&pod)),
                    }
                    if waiting >= MAX_UNCOUNTED {
                        break;
                    }
                    continue;
                }
                (&mut uncounted.succeeded, &known_uids.succeeded)
            } else if (failed || ending) && self.is_valid(&pod) && judge(self.job, &pod) != Verdict::Ignore {
                (&mut uncounted.failed, &known_uids.failed)
            } else {
                releases.push(without_finalizer(&pod));
                continue;
            };
            if Self::waits_as(seen.as_ref(), &pod) {
                releases.push(without_finalizer(&pod));
            } else if !Self::waits_as(list.as_ref(), &pod) {
                list.get_or_insert_default().push(uid(&*pod).to_owned());
                waiting += 1;
            }
            if waiting >= MAX_UNCOUNTED {
                break;
            }
        }
        self.status.uncounted_terminated_pods = Some(uncounted);
        if self.is_indexed() {
            let text = done.to_string();
            self.status.succeeded = Some(done.total()).filter(|total| *total != 0);
            self.status.completed_indexes = Some(text).filter(|text| !text.is_empty());
            self.status.failed_indexes = self.failed_indexes.as_ref().map(ToString::to_string);
        }
        if !releases.is_empty() {
            plan.steps.push(Step::All(releases));
        }
    }

    /// Whether everything that ended is in the numbers.
    pub(super) fn is_all_counted(&self) -> bool {
        let uncounted = self.uncounted();
        uncounted.succeeded.is_none() && uncounted.failed.is_none() && !self.pods.iter().any(|pod| is_tracked(pod))
    }

    fn may_release(&self, pod: &Pod, failed: bool, ending: bool) -> bool {
        if is_deleting(self.job) || ending || phase(pod) == "Succeeded" {
            return true;
        }
        let is_held = index_of(pod)
            .and_then(|index| self.held.get(&index))
            .is_some_and(|held| uid(&**held) == uid(pod));
        failed && !is_held
    }

    /// Deletes pods, with upstream's events.
    pub(super) fn deletions(&self, pods: &[std::sync::Arc<Pod>]) -> Vec<Action> {
        let told = |pod: &Pod| {
            let name = crate::object::name(pod);
            Action::delete(pod)
                .telling(
                    crate::plan::Reference::to(self.job),
                    "SuccessfulDelete",
                    format!("Deleted pod: {name}"),
                )
                .or_telling("FailedDelete", "Error deleting: {error}")
        };
        pods.iter().map(|pod| told(pod)).collect()
    }
}
