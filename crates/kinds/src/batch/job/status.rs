//! What a job's status may say, and how it may change. Most is asked only of what changed, so that
//! a status from before these rules does not stay for ever.

use std::collections::HashSet;

use api::Value;
use api::field::{Error, Path};

use super::indexes;
use crate::{checks, tree};

/// A job's status before or after a change.
struct View<'v>(&'v Value);

impl<'v> View<'v> {
    fn is(&self, kind: &str) -> bool {
        let conditions = tree::list(self.0, "status.conditions").iter();
        let mut of_kind = conditions.filter(|condition| tree::text(condition, "type") == kind);
        of_kind.any(|condition| tree::text(condition, "status") == "True")
    }

    fn is_finished(&self) -> bool {
        self.is("Complete") || self.is("Failed")
    }

    fn count(&self, field: &str) -> i64 {
        tree::count(self.0, &format!("status.{field}"))
    }

    fn at(&self, field: &str) -> Option<&'v Value> {
        tree::at(self.0, &format!("status.{field}"))
    }

    fn time(&self, field: &str) -> Option<&'v str> {
        self.at(field)?.as_str()
    }
}

/// A job's status after a change, with what differs.
struct Change<'v> {
    new: View<'v>,
    old: View<'v>,
    path: Path,
    errors: Vec<Error>,
}

pub(super) fn validate(new: &Value, old: &Value) -> Vec<Error> {
    let mut change = Change {
        new: View(new),
        old: View(old),
        path: Path::new("status"),
        errors: Vec::new(),
    };
    change.counts();
    change.ends();
    change.finished();
    change.index_lists();
    change.success();
    change.steps();
    change.errors
}

impl Change<'_> {
    fn differs(&self, field: &str) -> bool {
        !tree::same(self.new.at(field), self.old.at(field))
    }

    fn turns(&self, kind: &str) -> bool {
        self.new.is(kind) != self.old.is(kind)
    }

    fn invalid(&mut self, wrong: bool, field: &str, detail: &str) {
        if wrong {
            let value = self.new.at(field).cloned().unwrap_or_default();
            self.errors.push(Error::invalid(&self.path.child(field), value, detail));
        }
    }

    fn conditions(&mut self, wrong: bool, detail: &str) {
        if wrong {
            self.errors
                .push(checks::invalid_whole(&self.path.child("conditions"), detail));
        }
    }

    fn required(&mut self, wrong: bool, field: &str, detail: &str) {
        if wrong {
            self.errors.push(Error::required(&self.path.child(field), detail));
        }
    }

    fn counts(&mut self) {
        let status = tree::at(self.new.0, "status").unwrap_or(&Value::Null);
        let fields = ["active", "succeeded", "failed", "ready", "terminating"];
        self.errors.extend(checks::all_nonnegative(status, &fields, &self.path));
        let path = self.path.child("uncountedTerminatedPods");
        let mut seen = HashSet::new();
        for field in ["succeeded", "failed"] {
            let uids = tree::strings(status, &format!("uncountedTerminatedPods.{field}"));
            for (index, uid) in uids.into_iter().enumerate() {
                let path = path.child(field).index(index);
                if uid.is_empty() {
                    self.errors.push(Error::invalid(&path, uid, "must not be empty"));
                } else if !seen.insert(uid) {
                    self.errors.push(Error::duplicate(&path, uid));
                }
            }
        }
    }

    /// Which ends go together.
    fn ends(&mut self) {
        let (complete, failed) = (self.new.is("Complete"), self.new.is("Failed"));
        let target = self.new.is("FailureTarget");
        let turned = self.turns("Complete");
        self.conditions(
            (turned || self.turns("Failed")) && complete && failed,
            "cannot set Complete=True and Failed=true conditions",
        );
        self.conditions(
            (turned || self.turns("FailureTarget")) && complete && target,
            "cannot set Complete=True and FailureTarget=true conditions",
        );
        let (start, end) = (self.new.time("startTime"), self.new.time("completionTime"));
        let moved = turned || self.differs("completionTime");
        self.invalid(
            moved && end.is_some() && !complete,
            "completionTime",
            "cannot set completionTime when there is no Complete=True condition",
        );
        self.required(
            moved && end.is_none() && complete,
            "completionTime",
            "completionTime is required for Complete jobs",
        );
        // Both are of the same form, where earlier means less.
        let before = start.zip(end).is_some_and(|(start, end)| end < start);
        self.invalid(
            before && (self.differs("startTime") || self.differs("completionTime")),
            "completionTime",
            "completionTime cannot be set before startTime",
        );
        self.conditions(
            (self.turns("Failed") || self.turns("FailureTarget")) && failed && !target,
            "cannot set Failed=True condition without the FailureTarget=true condition",
        );
        let met = self.new.is("SuccessCriteriaMet");
        self.conditions(
            (turned || self.turns("SuccessCriteriaMet")) && complete && !met,
            "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
        );
    }

    /// What a finished job cannot have any more.
    fn finished(&mut self) {
        let finished = self.new.is_finished();
        let turned = finished != self.old.is_finished();
        self.invalid(
            finished && (turned || self.differs("active")) && self.new.count("active") > 0,
            "active",
            "active>0 is invalid for finished job",
        );
        let unstarted = tree::flag(self.new.0, "spec.suspend") && tree::int(self.new.0, "spec.completions") == Some(0);
        self.required(
            finished && (turned || self.differs("startTime")) && !unstarted && self.new.time("startTime").is_none(),
            "startTime",
            "startTime is required for finished job",
        );
        let uncounted =
            |field: &str| !tree::list(self.new.0, &format!("status.uncountedTerminatedPods.{field}")).is_empty();
        let left = uncounted("failed") || uncounted("succeeded");
        self.invalid(
            finished && (turned || self.differs("uncountedTerminatedPods")) && left,
            "uncountedTerminatedPods",
            "uncountedTerminatedPods needs to be empty for finished job",
        );
    }

    fn index_lists(&mut self) {
        let job = self.new.0;
        let completions = tree::int(job, "spec.completions");
        let per_index = tree::int(job, "spec.backoffLimitPerIndex").is_some();
        let (completed, failed) = (tree::text(job, "status.completedIndexes"), self.new.at("failedIndexes"));
        let failed_list = failed.and_then(Value::as_str).unwrap_or("");
        let (completed_differs, failed_differs) = (self.differs("completedIndexes"), self.differs("failedIndexes"));
        if let Some(completions) = completions {
            if let Err(why) = indexes::count(completed, completions) {
                let detail = format!("error parsing completedIndexes: {why}");
                self.invalid(completed_differs, "completedIndexes", &detail);
            }
            if let Err(why) = indexes::count(failed_list, completions) {
                let detail = format!("error parsing failedIndexes: {why}");
                self.invalid(failed_differs && per_index, "failedIndexes", &detail);
            }
        }
        self.invalid(
            completed_differs && !completed.is_empty() && !self.is_indexed(),
            "completedIndexes",
            "cannot set non-empty completedIndexes when non-indexed completion mode",
        );
        self.invalid(
            failed_differs && !per_index && tree::is_set(failed),
            "failedIndexes",
            "cannot set non-null failedIndexes when backoffLimitPerIndex is null",
        );
        let shared = completions.and_then(|completions| indexes::overlap(completed, failed_list, completions));
        if let Some(index) = shared {
            let detail = format!("failedIndexes and completedIndexes overlap at index: {index}");
            self.invalid(completed_differs || failed_differs, "failedIndexes", &detail);
        }
        let finished = self.new.is_finished();
        let turned = finished != self.old.is_finished();
        self.invalid(
            finished && (turned || self.differs("terminating")) && self.new.count("terminating") > 0,
            "terminating",
            "terminating>0 is invalid for finished job",
        );
        self.invalid(
            (self.differs("ready") || self.differs("active")) && self.new.count("ready") > self.new.count("active"),
            "ready",
            "cannot set more ready pods than active",
        );
    }

    fn is_indexed(&self) -> bool {
        tree::text(self.new.0, "spec.completionMode") == "Indexed"
    }

    fn success(&mut self) {
        let met = self.new.is("SuccessCriteriaMet");
        self.conditions(
            met && self.new.is("Failed"),
            "cannot set SuccessCriteriaMet=True and Failed=true conditions",
        );
        self.conditions(
            met && self.new.is("FailureTarget"),
            "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
        );
        let policy = tree::is_set(tree::at(self.new.0, "spec.successPolicy"));
        self.conditions(
            policy && !met && self.new.is("Complete"),
            "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True",
        );
    }

    /// What cannot go back.
    fn steps(&mut self) {
        for kind in ["Failed", "Complete", "FailureTarget"] {
            let undone = self.old.is(kind) && !self.new.is(kind);
            self.conditions(undone, &format!("cannot disable the terminal {kind}=True condition"));
        }
        self.invalid(
            self.new.count("failed") < self.old.count("failed"),
            "failed",
            "cannot decrease the failed counter",
        );
        // With as many completions as run at once, a job can be scaled down.
        let spec = |field: &str| tree::int(self.new.0, &format!("spec.{field}"));
        let scales = spec("completions") == spec("parallelism");
        self.invalid(
            !scales && self.new.count("succeeded") < self.old.count("succeeded"),
            "succeeded",
            "cannot decrease the succeeded counter",
        );
        let ends = (self.new.time("completionTime"), self.old.time("completionTime"));
        self.invalid(
            matches!(ends, (Some(new), Some(old)) if new != old),
            "completionTime",
            "completionTime cannot be mutated",
        );
        let restarted = self.old.time("startTime").is_some() && self.differs("startTime");
        self.required(
            restarted && !tree::flag(self.new.0, "spec.suspend"),
            "startTime",
            "startTime cannot be removed for unsuspended job",
        );
        let (met, was_met) = (self.new.is("SuccessCriteriaMet"), self.old.is("SuccessCriteriaMet"));
        self.conditions(was_met && !met, "cannot disable the SuccessCriteriaMet=True condition");
        self.conditions(
            self.old.is("Complete") && !was_met && met,
            "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn job(status: Value) -> Value {
        json!({"spec": {"completions": 3, "parallelism": 1}, "status": status})
    }

    fn told(new: Value, old: Value) -> Vec<String> {
        validate(&job(new), &job(old)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_job_runs_and_completes() {
        let running = json!({"startTime": "2026-01-01T00:00:00Z", "active": 1, "ready": 1, "succeeded": 2});
        assert_eq!(told(running.clone(), json!({})), [""; 0]);
        let done = json!({"startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:01:00Z",
            "succeeded": 3, "conditions": [
                {"type": "SuccessCriteriaMet", "status": "True"}, {"type": "Complete", "status": "True"}]});
        assert_eq!(told(done.clone(), running.clone()), [""; 0]);
        let undone = told(running, done);
        assert!(
            undone.contains(
                &"status.conditions: Invalid value: cannot disable the terminal Complete=True condition".to_owned()
            ),
            "{undone:?}"
        );
        assert!(
            undone.contains(&"status.succeeded: Invalid value: 2: cannot decrease the succeeded counter".to_owned())
        );
    }

    #[test]
    fn ends_exclude_each_other() {
        let both = json!({"active": 1, "conditions": [
            {"type": "Failed", "status": "True"}, {"type": "Complete", "status": "True"}]});
        let told = told(both, json!({}));
        for part in [
            "cannot set Complete=True and Failed=true conditions",
            "status.completionTime: Required value: completionTime is required for Complete jobs",
            "cannot set Failed=True condition without the FailureTarget=true condition",
            "status.active: Invalid value: 1: active>0 is invalid for finished job",
            "status.startTime: Required value: startTime is required for finished job",
        ] {
            assert!(told.iter().any(|line| line.contains(part)), "{part}: {told:?}");
        }
    }
}
