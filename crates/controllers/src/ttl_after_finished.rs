//! Deletes Jobs some time after they ended (upstream `pkg/controller/ttlafterfinished`).

use jiff::SignedDuration;
use k8s_openapi::api::batch::v1::Job;

use crate::controller::{Controller, Trigger};
use crate::object::is_deleting;
use crate::plan::{Action, Plan, Propagation, Verb};
use crate::{Key, Turn, World};

pub(crate) const CONTROLLER: Controller = Controller {
    name: "ttl-after-finished-controller",
    account: "ttl-after-finished-controller",
    triggers: &[Trigger::Job(keys_of_job)],
    reconcile,
};

fn keys_of_job(_: &dyn World, _: Option<&Job>, new: Option<&Job>) -> Vec<Key> {
    let ended = new.filter(|job| ended_with_limit(job).is_some() && !is_deleting(*job));
    ended.map(Key::of).into_iter().collect()
}

/// When a Job that has a limit ended, and the limit.
fn ended_with_limit(job: &Job) -> Option<(jiff::Timestamp, SignedDuration)> {
    let seconds = job.spec.as_ref()?.ttl_seconds_after_finished?;
    let mut conditions = job.status.as_ref()?.conditions.iter().flatten();
    let ended = conditions.find(|c| matches!(c.type_.as_str(), "Complete" | "Failed") && c.status == "True")?;
    Some((
        ended.last_transition_time.as_ref()?.0,
        SignedDuration::from_secs(seconds.into()),
    ))
}

/// Deletes the Job, its pods first, when its time has come.
pub fn reconcile(world: &dyn World, key: &Key, turn: &Turn) -> Plan {
    let mut plan = Plan::nothing();
    let job = world
        .jobs()
        .get(&key.namespace, &key.name)
        .filter(|job| !is_deleting(&**job));
    let Some((job, (ended, limit))) = job.and_then(|job| ended_with_limit(&job).map(|ended| (job, ended))) else {
        return plan;
    };
    let left = limit - turn.now.duration_since(ended);
    if left.is_positive() {
        plan.look_again(left);
        return plan;
    }
    let mut action = Action::delete(&*job);
    if let Verb::Delete {
        target, propagation, ..
    } = &mut action.verb
    {
        *propagation = Some(Propagation::Foreground);
        target.resource_version = job.metadata.resource_version.clone();
    }
    plan.act(action);
    plan
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fake::{Fake, start};

    #[test]
    fn a_job_goes_when_its_time_is_over() {
        let mut fake = Fake::new();
        fake.put(
            "jobs",
            json!({
                "apiVersion": "batch/v1", "kind": "Job", "metadata": {"namespace": "ns", "name": "sum"},
                "spec": {"ttlSecondsAfterFinished": 60, "template": {}},
                "status": {"conditions": [
                    {"type": "Complete", "status": "True", "lastTransitionTime": api::time::format(start())}]},
            }),
        );
        let key = Key::new("ns", "sum");
        fake.sleep(59);
        let plan = reconcile(&fake, &key, &fake.turn());
        assert_eq!(
            (plan.is_empty(), plan.requeue_after),
            (true, Some(SignedDuration::from_secs(1)))
        );
        fake.sleep(1);
        fake.settle(reconcile, &key);
        assert!(fake.all::<Job>().is_empty());
    }
}
