//! Telling the API the pod's status (pkg/kubelet/status/status_manager.go).

use std::collections::BTreeSet;

use client::{PatchKind, WriteParams};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use podlife::condition::OWNED;
use podlife::{ContainerState, Lifecycle, ProbeResults, RuntimeStatus, StatusInputs};
use serde_json::{Map, Value, json};

use super::{Done, Retry, Worker};

/// Fields of the status that others own.
const FOREIGN: [&str; 4] = [
    "nominatedNodeName",
    "resourceClaimStatuses",
    "extendedResourceClaimStatus",
    "resize",
];

/// What the API was told.
pub(super) struct Publishing {
    published: PodStatus,
    wanted: Option<PodStatus>,
    pub busy: bool,
    pub retry: Retry,
}

impl Publishing {
    pub fn new(known: &PodStatus) -> Publishing {
        Publishing {
            published: known.clone(),
            wanted: None,
            busy: false,
            retry: Retry::default(),
        }
    }

    /// The API knows the newest status.
    pub fn is_settled(&self) -> bool {
        self.wanted
            .as_ref()
            .is_some_and(|wanted| own_part(wanted) == own_part(&self.published))
    }

    pub fn done(&mut self, status: PodStatus, result: Result<(), String>, now: Timestamp) {
        self.busy = false;
        match result {
            Ok(()) => {
                self.published = status;
                self.retry = Retry::default();
            }
            Err(error) => {
                tracing::warn!(error, "cannot report a pod's status; will retry");
                self.retry.failed(now);
            }
        }
    }
}

impl Worker {
    pub(super) fn publish(&mut self, lifecycle: Lifecycle, probes: &ProbeResults, now: Timestamp) {
        let pod_spec = self.spec();
        let runtime = shown(&self.runtime, &self.memory.starting);
        let status = podlife::status(&StatusInputs {
            pod: &self.pod,
            spec: &pod_spec,
            previous: &self.previous,
            runtime: &runtime,
            probes,
            waiting: &self.waiting,
            lifecycle,
            cause: self.memory.ending.as_ref().map(|ending| &ending.cause),
            host_ips: &self.ctx.config.ips,
            runtime_name: self.ctx.runtime_name.split(':').next().unwrap_or_default(),
            now,
        });
        self.previous = status.clone();
        self.publishing.wanted = Some(status.clone());
        let idle = !self.present || self.publishing.busy || self.publishing.retry.waits(now);
        if idle || self.publishing.is_settled() {
            return;
        }
        self.publishing.busy = true;
        let patch = patch(&self.pod, &self.publishing.published, &status);
        let (ctx, pod) = (self.ctx.clone(), self.pod.clone());
        self.spawn(async move {
            let meta = &pod.metadata;
            let (namespace, name) = (
                meta.namespace.as_deref().unwrap_or_default(),
                meta.name.as_deref().unwrap_or_default(),
            );
            let pods = ctx.client().of::<Pod>();
            let params = WriteParams::default();
            let result = match pods
                .patch_sub(namespace, name, "status", PatchKind::Strategic, &patch, &params)
                .await
            {
                Ok(_) => Ok(()),
                // It is gone, or another one has its name: the watch will say so.
                Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
                Err(error) => Err(error.report()),
            };
            Done::Published {
                status: Box::new(status),
                result,
            }
        });
    }
}

/// What runs, as the status tells it: a container counts as started when its start is complete, its postStart hook too;
/// one that is only made is not there yet.
fn shown(runtime: &RuntimeStatus, starting: &BTreeSet<String>) -> RuntimeStatus {
    let mut shown = runtime.clone();
    shown.containers.retain(|c| match c.state {
        ContainerState::Created => false,
        ContainerState::Running => !starting.contains(&c.name),
        ContainerState::Exited | ContainerState::Unknown => true,
    });
    shown
}

/// The status without what others own.
fn own_part(status: &PodStatus) -> Map<String, Value> {
    let Ok(Value::Object(mut map)) = serde_json::to_value(status) else {
        return Map::new();
    };
    FOREIGN.iter().for_each(|field| drop(map.remove(*field)));
    if let Some(Value::Array(conditions)) = map.get_mut("conditions") {
        conditions.retain(|c| {
            c["type"]
                .as_str()
                .is_some_and(|kind| OWNED.contains(&kind) || kind == "DisruptionTarget")
        });
    }
    map
}

/// A strategic merge patch from what the API knows to the new status, for this very pod.
fn patch(pod: &Pod, old: &PodStatus, new: &PodStatus) -> Value {
    let (old, mut new) = (own_part(old), own_part(new));
    for key in old.keys() {
        if !new.contains_key(key) {
            new.insert(key.clone(), Value::Null);
        }
    }
    clear_gone_fields(old.get("conditions"), new.get_mut("conditions"));
    for list in ["podIPs", "hostIPs"] {
        // Their items are merged by key; replaced ones must go.
        let replaced = old.get(list).is_some_and(|before| new.get(list) != Some(before));
        if let (true, Some(Value::Array(items))) = (replaced, new.get_mut(list)) {
            items.push(json!({"$patch": "replace"}));
        }
    }
    json!({"metadata": {"uid": pod.metadata.uid}, "status": new})
}

/// Conditions merge by type: a reason or message that a condition has no more must be taken away.
fn clear_gone_fields(old: Option<&Value>, new: Option<&mut Value>) {
    let (Some(Value::Array(old)), Some(Value::Array(new))) = (old, new) else {
        return;
    };
    for condition in new {
        let Some(Value::Object(before)) = old.iter().find(|other| other["type"] == condition["type"]) else {
            continue;
        };
        for field in before.keys() {
            if condition.get(field).is_none() {
                condition[field.as_str()] = Value::Null;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_that_is_gone_is_taken_away() {
        let typed = |condition: Value| serde_json::from_value::<PodStatus>(json!({"conditions": [condition]})).unwrap();
        let old = typed(json!({"type": "Ready", "status": "False", "reason": "ContainersNotReady", "message": "x"}));
        let new = typed(json!({"type": "Ready", "status": "True"}));
        assert_eq!(
            patch(&Pod::default(), &old, &new)["status"]["conditions"],
            json!([{"type": "Ready", "status": "True", "reason": null, "message": null}])
        );
    }

    #[test]
    fn a_container_whose_hook_runs_is_not_told_of() {
        let container = |id: &str, state| podlife::Container {
            id: id.into(),
            name: "c".into(),
            sandbox_id: String::new(),
            state,
            created_at: jiff::Timestamp::UNIX_EPOCH,
            started_at: None,
            finished_at: None,
            exit_code: 0,
            reason: String::new(),
            message: String::new(),
            image: String::new(),
            image_id: String::new(),
            restart_count: 0,
            hash: 0,
            user: None,
        };
        let runtime = RuntimeStatus {
            containers: vec![
                container("new", ContainerState::Running),
                container("made", ContainerState::Created),
                container("old", ContainerState::Exited),
            ],
            ..RuntimeStatus::default()
        };
        let ids = |starting: &[&str]| {
            let starting = starting.iter().map(|name| (*name).to_owned()).collect();
            let shown = shown(&runtime, &starting);
            shown.containers.into_iter().map(|c| c.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(&["c"]), ["old"]);
        assert_eq!(ids(&["other"]), ["new", "old"]);
    }

    #[test]
    fn patches_remove_what_is_gone_and_leave_what_is_not_ours() {
        let typed = |value: Value| serde_json::from_value::<PodStatus>(value).unwrap();
        let old =
            typed(json!({"phase": "Pending", "reason": "x", "nominatedNodeName": "n", "podIPs": [{"ip": "1.1.1.1"}]}));
        let new = typed(json!({"phase": "Running", "podIPs": [{"ip": "2.2.2.2"}],
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "x.io/up", "status": "True"}]}));
        let pod: Pod = serde_json::from_value(json!({"metadata": {"uid": "u"}})).unwrap();
        let expected = json!({"metadata": {"uid": "u"}, "status": {"phase": "Running", "reason": null,
            "podIPs": [{"ip": "2.2.2.2"}, {"$patch": "replace"}], "conditions": [{"type": "Ready", "status": "True"}]}});
        assert_eq!(patch(&pod, &old, &new), expected);
    }
}
