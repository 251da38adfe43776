//! Makes tokens invalid that were made by themselves once and that nobody uses, and deletes them later
//! (`legacy_serviceaccount_token_cleaner.go`).

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use serde_json::{Value, json};

use super::{SECRETS, TRACKING, account_of, refers_to};
use crate::object::{created, is_deleting, name, namespace, to_value};
use crate::plan::Plan;
use crate::{Key, Turn, Untyped, World};

/// `--legacy-service-account-token-clean-up-period`.
const PERIOD: SignedDuration = SignedDuration::from_hours(365 * 24);
const DAY: SignedDuration = SignedDuration::from_hours(24);
const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
const MAP: (&str, &str) = ("kube-system", "kube-apiserver-legacy-service-account-token-tracking");

/// Looks after one Secret.
pub(super) fn reconcile(world: &dyn World, key: &Key, turn: &Turn) -> Plan {
    let mut plan = Plan::nothing();
    let secret = world.untyped(SECRETS).get(&key.namespace, &key.name);
    let Some(secret) = secret.filter(|secret| !is_deleting(&**secret)) else {
        return plan;
    };
    let Some(tracked) = tracked_since(world) else {
        return plan;
    };
    let begun = created(&*secret).map_or(tracked, |created| created.max(tracked));
    let left = PERIOD - turn.now.duration_since(begun);
    if left.is_positive() {
        plan.look_again(left);
        return plan;
    }
    let limit = turn.now.checked_sub(PERIOD).map_or(Date::MIN, day);
    if let Some(text) = secret.label(LAST_USED) {
        let Ok(used) = text.parse::<Date>() else { return plan };
        if used >= limit {
            plan.look_again(DAY);
            return plan;
        }
    }
    let made_by_itself = account_of(world, &secret).is_some_and(|account| refers_to(&account, name(&*secret)));
    if !made_by_itself || is_mounted(world, &secret) {
        plan.look_again(DAY);
        return plan;
    }
    match secret.label(INVALID_SINCE).and_then(|text| text.parse::<Date>().ok()) {
        None => {
            let today = day(turn.now).to_string();
            let body = json!({"metadata": {"labels": {INVALID_SINCE: today}}});
            plan.act(SECRETS.patch(&secret, "", body));
        }
        Some(since) if since >= limit => plan.look_again(DAY),
        Some(_) => {
            let mut delete = SECRETS.delete(&secret);
            if let crate::Verb::Delete { target, .. } = &mut delete.verb {
                target.resource_version = secret.metadata.resource_version.clone();
            }
            plan.act(delete);
        }
    }
    plan
}

fn day(time: Timestamp) -> Date {
    time.to_zoned(TimeZone::UTC).date()
}

/// The first moment from which uses are surely known: the day after the one that was written down.
fn tracked_since(world: &dyn World) -> Option<Timestamp> {
    let map = world.untyped(TRACKING).get(MAP.0, MAP.1)?;
    let day: Date = map.text("data.since").parse().ok()?;
    let next = day.checked_add(1.day()).ok()?;
    Some(next.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

fn is_mounted(world: &dyn World, secret: &Untyped) -> bool {
    let pods = world.pods().list(namespace(secret));
    pods.iter().any(|pod| {
        pod.spec
            .as_ref()
            .is_some_and(|spec| names(&to_value(spec), name(secret)))
    })
}

/// Whether a pod's spec names a Secret anywhere (upstream `podutil.VisitPodSecretNames`).
fn names(value: &Value, secret: &str) -> bool {
    match value {
        Value::Array(items) => items.iter().any(|item| names(item, secret)),
        Value::Object(fields) => fields.iter().any(|(field, value)| {
            let direct = match field.as_str() {
                "secretName" => value == secret,
                "secretRef" | "secretKeyRef" | "nodePublishSecretRef" | "secret" => value["name"] == secret,
                "imagePullSecrets" => value
                    .as_array()
                    .into_iter()
                    .flatten()
                    .any(|item| item["name"] == secret),
                _ => false,
            };
            direct || names(value, secret)
        }),
        _ => false,
    }
}
