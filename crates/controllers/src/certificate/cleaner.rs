//! Deletes requests that are done with (`cleaner/cleaner.go`).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{REQUESTS, is_issued};
use crate::object::created;
use crate::plan::Plan;
use crate::{Key, Turn, Untyped, World};

const DECIDED: SignedDuration = SignedDuration::from_hours(1);
const PENDING: SignedDuration = SignedDuration::from_hours(24);

/// Deletes one request when its time has come.
pub(super) fn reconcile(world: &dyn World, key: &Key, turn: &Turn) -> Plan {
    let mut plan = Plan::nothing();
    let Some(object) = world.untyped(REQUESTS).get("", &key.name) else {
        return plan;
    };
    let Some(end) = deadlines(&object).into_iter().min() else {
        return plan;
    };
    let left = end.duration_since(turn.now);
    if left.is_negative() {
        plan.act(REQUESTS.delete(&object));
    } else {
        plan.look_again(left + SignedDuration::from_secs(1));
    }
    plan
}

fn deadlines(object: &Untyped) -> Vec<Timestamp> {
    let conditions = object.list("status.conditions");
    if conditions.is_empty() {
        return created(object)
            .and_then(|at| at.checked_add(PENDING).ok())
            .into_iter()
            .collect();
    }
    let mut all = Vec::new();
    for condition in conditions {
        let ends = match condition["type"].as_str().unwrap_or("") {
            "Denied" | "Failed" => true,
            "Approved" if is_issued(object) => {
                all.extend(expiry(object));
                true
            }
            _ => false,
        };
        if ends {
            let at = updated(condition).and_then(|at| at.checked_add(DECIDED).ok());
            all.extend(at);
        }
    }
    all
}

fn updated(condition: &Value) -> Option<Timestamp> {
    condition["lastUpdateTime"].as_str()?.parse().ok()
}

/// When the first certificate ends.
fn expiry(object: &Untyped) -> Option<Timestamp> {
    let text = STANDARD.decode(object.text("status.certificate")).ok()?;
    let block = pem::parse(text).ok()?;
    let (_, certificate) = X509Certificate::from_der(block.contents()).ok()?;
    Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
}
