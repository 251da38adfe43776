//! A namespace uses no more than its quotas allow
//! (`apiserver/pkg/admission/plugin/resourcequota`).
//!
//! What a request will use is charged to the quotas' `status.used` by compare-and-swap before the
//! request is carried out, so that no two requests of any server can use the same rest. Requests of one
//! namespace that come together are charged together: the first of them serves all that wait.
//! A request that fails afterwards has been charged all the same; the quota controller counts anew.

use std::collections::HashMap;
use std::sync::Arc;

use api::{GroupResource, Status, Value};
use async_trait::async_trait;
use jiff::Timestamp;
use parking_lot::Mutex;
use quota::{Limited, Quota, Request, Requirement, amounts};
use tokio::sync::oneshot;

use super::{Attributes, Operation, Plugin, Step};
use crate::cache::{At, ListParams, Selection};
use crate::kind::value_at;
use crate::resource::{Resource, cache_status};
use crate::state::State;
use crate::verbs::persist::{Expect, Outcome, Write};

/// How often quotas that others have charged meanwhile are charged again.
const ATTEMPTS: usize = 16;
/// How often a request queues again after whoever served it went away.
const QUEUED: usize = 8;

/// Objects that come and go too fast to be counted.
const IGNORED: [(&str, &str); 2] = [("", "events"), ("events.k8s.io", "events")];

pub(super) struct ResourceQuota {
    limited: Vec<Limited>,
    rooms: Mutex<HashMap<String, Arc<Room>>>,
}

/// Where the requests of one namespace wait.
#[derive(Default)]
struct Room {
    waiting: Mutex<Vec<Waiter>>,
    turn: tokio::sync::Mutex<()>,
}

/// A request, and whom to tell.
struct Waiter {
    resource: GroupResource,
    subresource: String,
    operation: quota::Operation,
    object: Value,
    old: Option<Value>,
    now: Timestamp,
    dry_run: bool,
    told: oneshot::Sender<Verdict>,
}

/// What became of a request.
enum Verdict {
    Allowed,
    Refused(String),
    Failed(Status),
}

impl ResourceQuota {
    /// By a `ResourceQuotaConfiguration`.
    pub fn new(settings: Option<&Value>) -> Result<ResourceQuota, String> {
        if let Some(settings) = settings
            && settings["kind"] != "ResourceQuotaConfiguration"
            && settings["kind"] != "Configuration"
        {
            return Err("kind is not ResourceQuotaConfiguration".to_owned());
        }
        let listed = settings.and_then(|settings| settings.get("limitedResources")?.as_array());
        Ok(ResourceQuota {
            limited: listed.into_iter().flatten().map(limited).collect(),
            rooms: Mutex::default(),
        })
    }
}

fn limited(value: &Value) -> Limited {
    let text = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or("");
    let list = |field: &str| value.get(field).and_then(Value::as_array).into_iter().flatten();
    Limited {
        resource: GroupResource::new(text("apiGroup"), text("resource")),
        match_contains: list("matchContains")
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        match_scopes: list("matchScopes").map(Requirement::read).collect(),
    }
}

#[async_trait]
impl Plugin for ResourceQuota {
    fn concerns(&self, step: Step, _group: &str, _plural: &str) -> bool {
        step == Step::Validate
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn validate(&self, state: &State, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
        let Some(object) = object.filter(|_| attributes.resource.kind.is_namespaced()) else {
            return Ok(());
        };
        let kind = &attributes.resource.kind;
        if IGNORED.contains(&(kind.gvk.group.as_str(), kind.plural.as_str())) {
            return Ok(());
        }
        let operation = match attributes.operation {
            Operation::Create => quota::Operation::Create,
            _ => quota::Operation::Update,
        };
        let resource = attributes.resource.group_resource();
        let evaluator = quota::Evaluator::of(&resource);
        if !evaluator.handles(operation, attributes.subresource, object, attributes.old) {
            return Ok(());
        }
        let Some(quotas) = state.resource("", "v1", "resourcequotas") else {
            return Ok(());
        };
        let here = read(&quotas, attributes.namespace).await?;
        if here.is_empty() && self.limited.is_empty() {
            return Ok(());
        }
        for _ in 0..QUEUED {
            let (told, mut verdict) = oneshot::channel();
            let waiter = Waiter {
                resource: resource.clone(),
                subresource: attributes.subresource.to_owned(),
                operation,
                object: object.clone(),
                old: attributes.old.cloned(),
                now: attributes.call.now,
                dry_run: attributes.dry_run(),
                told,
            };
            let room = self.room(attributes.namespace);
            room.waiting.lock().push(waiter);
            let answer = tokio::select! {
                biased;
                answer = &mut verdict => answer,
                turn = room.turn.lock() => {
                    let batch = std::mem::take(&mut *room.waiting.lock());
                    serve(state, &quotas, attributes.namespace, &self.limited, batch).await;
                    drop(turn);
                    verdict.await
                }
            };
            self.leave(attributes.namespace, &room);
            match answer {
                Ok(Verdict::Allowed) => return Ok(()),
                Ok(Verdict::Refused(why)) => return Err(attributes.forbid(why)),
                Ok(Verdict::Failed(status)) => return Err(status),
                // Whoever served it was cancelled in the middle.
                Err(_) => {}
            }
        }
        Err(Status::internal("resource quota evaluation timed out"))
    }
}

impl ResourceQuota {
    fn room(&self, namespace: &str) -> Arc<Room> {
        self.rooms.lock().entry(namespace.to_owned()).or_default().clone()
    }

    /// Forgets a room that nobody else is in.
    fn leave(&self, namespace: &str, room: &Arc<Room>) {
        let mut rooms = self.rooms.lock();
        if Arc::strong_count(room) <= 2 && room.waiting.lock().is_empty() {
            rooms.remove(namespace);
        }
    }
}

/// A quota with what is needed to swap it.
struct Held {
    quota: Quota,
    object: Value,
    revision: i64,
}

async fn read(quotas: &Resource, namespace: &str) -> Result<Vec<Held>, Status> {
    let params = ListParams {
        at: At::Latest,
        selection: Selection::namespace(namespace),
        limit: 0,
        start_after: None,
    };
    let page = quotas.cache.list(params).await.map_err(cache_status)?;
    let held = page.entries.iter().map(|entry| {
        let object = quotas.value(entry);
        Held {
            quota: Quota::read(&object),
            object,
            revision: entry.revision,
        }
    });
    Ok(held.collect())
}

/// Decides about all that wait, and charges what is allowed.
async fn serve(state: &State, quotas: &Resource, namespace: &str, limited: &[Limited], mut batch: Vec<Waiter>) {
    // After a conflict only the quotas that could not be swapped are looked at again.
    let mut only: Option<Vec<String>> = None;
    for _ in 0..ATTEMPTS {
        let mut held = match read(quotas, namespace).await {
            Ok(held) => held,
            Err(status) => return fail(batch, &status),
        };
        if let Some(names) = &only {
            held.retain(|held| names.contains(&held.quota.name));
        }
        let before: Vec<Quota> = held.iter().map(|held| held.quota.clone()).collect();
        batch = judge(batch, &mut held, if only.is_some() { &[] } else { limited });
        let mut conflicts = Vec::new();
        for (held, before) in held.iter().zip(&before).filter(|(held, before)| held.quota != **before) {
            match swap(state, quotas, namespace, held).await {
                Ok(true) => {}
                Ok(false) => conflicts.push(before.name.clone()),
                Err(status) => return fail(batch, &status),
            }
        }
        if conflicts.is_empty() {
            for waiter in batch {
                // Nobody is there any more if the request was given up; what it was charged is
                // counted anew.
                drop(waiter.told.send(Verdict::Allowed));
            }
            return;
        }
        only = Some(conflicts);
    }
    let name = only.and_then(|names| names.into_iter().next()).unwrap_or_default();
    fail(batch, &Status::stale(&quotas.group_resource(), &name));
}

/// Charges the quotas in memory; refuses what exceeds them, lets go what changes nothing, and gives
/// back what waits for its charge to be written.
fn judge(batch: Vec<Waiter>, held: &mut [Held], limited: &[Limited]) -> Vec<Waiter> {
    let mut charged = Vec::new();
    for waiter in batch {
        let quotas: Vec<Quota> = held.iter().map(|held| held.quota.clone()).collect();
        let request = Request {
            resource: &waiter.resource,
            subresource: &waiter.subresource,
            operation: waiter.operation,
            object: &waiter.object,
            old: waiter.old.as_ref(),
            now: waiter.now,
        };
        match quota::check(&quotas, &request, limited) {
            Err(why) => drop(waiter.told.send(Verdict::Refused(why))),
            Ok(moved) if waiter.dry_run || moved.is_empty() => drop((moved, waiter.told.send(Verdict::Allowed))),
            Ok(moved) => {
                for (at, used) in moved {
                    held[at].quota.used = used;
                }
                charged.push(waiter);
            }
        }
    }
    charged
}

fn fail(batch: Vec<Waiter>, status: &Status) {
    for waiter in batch {
        drop(waiter.told.send(Verdict::Failed(status.clone())));
    }
}

/// Writes what is used, if the quota is still as it was read.
async fn swap(state: &State, quotas: &Resource, namespace: &str, held: &Held) -> Result<bool, Status> {
    let mut new = held.object.clone();
    new["status"]["used"] = amounts::write(&held.quota.used);
    if value_at(&new, "status.hard").is_none() {
        return Ok(true);
    }
    let write = Write {
        resource: quotas,
        key: quotas.key(namespace, &held.quota.name),
        expect: Expect::Revision(held.revision),
        object: Some(&new),
        old: Some(&held.object),
    };
    Ok(matches!(write.run(&state.store).await?, Outcome::Done(..)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_limited_is_configured() {
        let settings = json!({"kind": "ResourceQuotaConfiguration", "limitedResources": [
            {"apiGroup": "apps", "resource": "deployments", "matchContains": ["count/"],
             "matchScopes": [{"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}]});
        let plugin = ResourceQuota::new(Some(&settings)).unwrap();
        assert_eq!(plugin.limited[0].resource, GroupResource::new("apps", "deployments"));
        assert_eq!(
            plugin.limited[0].match_scopes[0].to_string(),
            "{PriorityClass In [high]}"
        );
        assert!(ResourceQuota::new(Some(&json!({"kind": "X"}))).is_err());
    }
}
