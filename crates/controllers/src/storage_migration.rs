//! Rewrites all objects of a resource, so that each is stored in the version that is stored now (upstream
//! `pkg/controller/storageversionmigrator`).
//!
//! Here only custom resources have versions to be stored in: of a definition, the versions that are stored are told
//! anew when all is rewritten.

use api::Value;
use jiff::SignedDuration;
use serde_json::json;

use crate::controller::{Controller, Trigger, own_key};
use crate::object::created;
use crate::plan::{Action, Plan, Verb};
use crate::{Key, Turn, Untyped, UntypedKind, World};

const MIGRATIONS: UntypedKind = UntypedKind::StorageVersionMigration;
/// How long a resource may take to appear.
const PATIENCE: SignedDuration = SignedDuration::from_mins(1);
const AGAIN: SignedDuration = SignedDuration::from_secs(5);

pub(crate) const CONTROLLER: Controller = Controller {
    name: "storage-version-migrator-controller",
    account: "storage-version-migrator-controller",
    triggers: &[Trigger::Untyped(MIGRATIONS, own_key)],
    reconcile,
};

/// Begins or ends one migration.
pub fn reconcile(world: &dyn World, key: &Key, turn: &Turn) -> Plan {
    let mut plan = Plan::nothing();
    let Some(migration) = world.untyped(MIGRATIONS).get("", &key.name) else {
        return plan;
    };
    if is_true(&migration, "Succeeded") || is_true(&migration, "Failed") {
        return plan;
    }
    let (group, resource) = (
        migration.text("spec.resource.group"),
        migration.text("spec.resource.resource"),
    );
    let Some((resource, revision)) = world.watched(group, resource) else {
        let age = created(&*migration).map_or(SignedDuration::ZERO, |created| turn.now.duration_since(created));
        if age < PATIENCE {
            plan.look_again(AGAIN);
        } else {
            let told = told(
                &migration,
                turn,
                "Failed",
                "StorageVersionMigrationFailed",
                "resource not found",
            );
            plan.act(status(&migration, "1", told));
        }
        return plan;
    };
    if !is_true(&migration, "Running") {
        let told = told(&migration, turn, "Running", "StorageVersionMigrationInProgress", "");
        plan.act(status(&migration, &revision.to_string(), told));
        return plan;
    }
    let version = migration.text("status.resourceVersion").to_owned();
    if turn
        .failure
        .as_ref()
        .is_some_and(|failure| failure.resource == resource.resource)
    {
        let message = "migration encountered unhandled error";
        let told = told(&migration, turn, "Failed", "StorageVersionMigrationFailed", message);
        plan.act(status(&migration, &version, told));
        return plan;
    }
    plan.act(Action::new(Verb::Rewrite { resource }));
    let told = told(&migration, turn, "Succeeded", "StorageVersionMigrationSucceeded", "");
    plan.act(status(&migration, &version, told));
    plan
}

fn is_true(migration: &Untyped, kind: &str) -> bool {
    migration
        .condition(kind)
        .is_some_and(|condition| condition["status"] == "True")
}

/// The conditions with this one true; what has ended does not run.
fn told(migration: &Untyped, turn: &Turn, kind: &str, reason: &str, message: &str) -> Vec<Value> {
    let now = api::time::format(turn.now);
    let others = migration
        .list("status.conditions")
        .iter()
        .filter(|condition| condition["type"] != kind);
    let mut all: Vec<Value> = others.cloned().collect();
    for condition in all.iter_mut().filter(|condition| condition["type"] == "Running") {
        condition["status"] = "False".into();
        condition["lastTransitionTime"] = now.clone().into();
    }
    all.push(
        json!({"type": kind, "status": "True", "reason": reason, "message": message,
        "lastTransitionTime": now}),
    );
    all
}

fn status(migration: &Untyped, version: &str, conditions: Vec<Value>) -> Action {
    let mut changed = migration.clone();
    let status = changed.entry("status");
    status["resourceVersion"] = version.into();
    status["conditions"] = conditions.into();
    MIGRATIONS.replace(&changed, "status")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Failure;
    use crate::fake::Fake;

    fn cluster() -> (Fake, Key) {
        let mut fake = Fake::new();
        fake.put(
            "storageversionmigrations",
            json!({"apiVersion": "storagemigration.k8s.io/v1", "kind": "StorageVersionMigration",
                "metadata": {"name": "m"}, "spec": {"resource": {"group": "apps", "resource": "deployments"}}}),
        );
        (fake, Key::new("", "m"))
    }

    fn conditions(fake: &Fake) -> Vec<String> {
        let migration = fake.untyped(MIGRATIONS).get("", "m").unwrap();
        let text = |condition: &Value| {
            let of = |field: &str| condition[field].as_str().unwrap_or("").to_owned();
            format!("{}={} {} {}", of("type"), of("status"), of("reason"), of("message"))
                .trim_end()
                .to_owned()
        };
        migration.list("status.conditions").iter().map(text).collect()
    }

    #[test]
    fn a_migration_runs_and_succeeds() {
        let (mut fake, key) = cluster();
        fake.watched.push((api::Gvr::new("apps", "v1", "deployments"), 7));
        let plan = reconcile(&fake, &key, &fake.turn());
        fake.execute(&plan);
        assert_eq!(conditions(&fake), ["Running=True StorageVersionMigrationInProgress"]);
        assert_eq!(
            fake.untyped(MIGRATIONS)
                .get("", "m")
                .unwrap()
                .text("status.resourceVersion"),
            "7"
        );
        fake.settle(reconcile, &key);
        assert_eq!(
            conditions(&fake),
            [
                "Running=False StorageVersionMigrationInProgress",
                "Succeeded=True StorageVersionMigrationSucceeded"
            ]
        );
        assert_eq!(fake.rewritten, ["deployments"]);
    }

    #[test]
    fn a_resource_that_does_not_come_fails() {
        let (mut fake, key) = cluster();
        assert_eq!(reconcile(&fake, &key, &fake.turn()).requeue_after, Some(AGAIN));
        fake.sleep(60);
        fake.settle(reconcile, &key);
        assert_eq!(
            conditions(&fake),
            ["Failed=True StorageVersionMigrationFailed resource not found"]
        );
    }

    #[test]
    fn an_object_that_cannot_be_rewritten_fails_the_migration() {
        let (mut fake, key) = cluster();
        fake.watched.push((api::Gvr::new("apps", "v1", "deployments"), 7));
        let plan = reconcile(&fake, &key, &fake.turn());
        fake.execute(&plan);
        let failure = |resource: &str| Failure {
            resource: resource.to_owned(),
            message: "no".to_owned(),
        };
        let mut turn = fake.turn();
        turn.failure = Some(failure("storageversionmigrations"));
        assert_eq!(
            reconcile(&fake, &key, &turn).steps.len(),
            2,
            "a status that was not written is written again"
        );
        turn.failure = Some(failure("deployments"));
        let plan = reconcile(&fake, &key, &turn);
        fake.execute(&plan);
        assert_eq!(
            conditions(&fake)[1],
            "Failed=True StorageVersionMigrationFailed migration encountered unhandled error"
        );
        fake.settle(reconcile, &key);
    }
}
