//! What the scheduler writes: bindings, conditions, nominations, evictions, events.

use std::sync::Arc;

use client::{Cache, Client, ClientError, DeleteParams, EventRecorder, EventSpec, PatchKind, WriteParams};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use scheduler::PodInfo;
use scheduler::framework::{Verb, Write};
use serde_json::{Value, json};

#[derive(Clone)]
pub(super) struct Writer {
    pub(super) client: Client,
    pub(super) recorder: EventRecorder,
    pub(super) pods: Cache<Pod>,
}

impl Writer {
    pub(super) async fn bind(&self, pod: &PodInfo, node: &str) -> Result<(), ClientError> {
        let key = &pod.key;
        let binding = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"namespace": &*key.namespace, "name": &*key.name, "uid": &*key.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        });
        let params = WriteParams::default();
        let pods = self.client.of::<Pod>();
        let bound = pods
            .create_sub::<_, Value>(&key.namespace, &key.name, "binding", &binding, &params)
            .await;
        bound.map(drop)
    }

    pub(super) async fn write_all(&self, writes: &[Write]) -> Result<(), ClientError> {
        for write in writes {
            self.write(write).await?;
        }
        Ok(())
    }

    async fn write(&self, write: &Write) -> Result<(), ClientError> {
        let handle = self.client.dynamic(&write.resource);
        let (namespace, name, body) = (write.namespace.as_str(), write.name.as_str(), &write.body);
        let params = WriteParams::manager("kube-scheduler");
        match (write.verb, write.subresource) {
            (Verb::Create, _) => handle.create(namespace, body, &params).await.map(drop),
            (Verb::Update, "status") => handle
                .update_sub::<_, Value>(namespace, name, "status", body, &params)
                .await
                .map(drop),
            (Verb::Update, _) => handle.update(namespace, name, body, &params).await.map(drop),
            (Verb::MergePatch, "status") => handle
                .patch_sub(namespace, name, "status", PatchKind::Merge, body, &params)
                .await
                .map(drop),
            (Verb::MergePatch, _) => handle
                .patch(namespace, name, PatchKind::Merge, body, &params)
                .await
                .map(drop),
            (Verb::Delete, _) => handle.delete(namespace, name, &DeleteParams::default()).await.map(drop),
        }
    }

    /// Writes the PodScheduled condition and, where it changes, the nominated node.
    pub(super) async fn report(&self, pod: &PodInfo, reason: &str, message: &str, nominate: Option<Option<&str>>) {
        let mut status = json!({"conditions": [{
            "type": "PodScheduled", "status": "False", "reason": reason, "message": message,
            "lastTransitionTime": api::time::format(self.unscheduled_since(pod)),
        }]});
        if let Some(node) = nominate {
            status["nominatedNodeName"] = json!(node);
        }
        self.patch_status(pod, status).await;
    }

    pub(super) async fn clear_nomination(&self, pod: &PodInfo) {
        self.patch_status(pod, json!({"nominatedNodeName": null})).await;
    }

    async fn patch_status(&self, pod: &PodInfo, status: Value) {
        let key = &pod.key;
        let patch = json!({"metadata": {"uid": &*key.uid}, "status": status});
        let params = WriteParams::manager("kube-scheduler");
        let kind = PatchKind::Strategic;
        let patched = self
            .client
            .patch_status::<Pod>(&key.namespace, &key.name, kind, &patch, &params)
            .await;
        if let Err(error) = patched
            && !error.is_not_found()
        {
            tracing::debug!(
                pod = &*key.name,
                error = error.report(),
                "the pod's status was not written"
            );
        }
    }

    fn unscheduled_since(&self, pod: &PodInfo) -> Timestamp {
        let known = self.pods.get(&pod.key.namespace, &pod.key.name);
        let conditions = known.as_ref().and_then(|pod| pod.status.as_ref()?.conditions.as_ref());
        conditions
            .into_iter()
            .flatten()
            .filter(|condition| condition.type_ == "PodScheduled" && condition.status == "False")
            .find_map(|condition| condition.last_transition_time.as_ref())
            .map_or_else(Timestamp::now, |time| time.0)
    }

    /// Evicts pods to make room; whether all of it succeeded (upstream `preemption.prepareCandidate`).
    pub(super) async fn evict(&self, preemptor: &PodInfo, node: &str, victims: &[Arc<PodInfo>]) -> bool {
        for victim in victims {
            if let Err(error) = self.evict_one(preemptor, victim).await
                && !error.is_not_found()
            {
                tracing::warn!(
                    pod = &*victim.key.name,
                    error = error.report(),
                    "a pod was not preempted"
                );
                return false;
            }
            let message = format!("Preempted by pod {} on node {node}", preemptor.key.uid);
            self.recorder.record(event(victim, false, "Preempted", message));
        }
        true
    }

    async fn evict_one(&self, preemptor: &PodInfo, victim: &PodInfo) -> Result<(), ClientError> {
        let key = &victim.key;
        let scheduler = &preemptor.shape.scheduler_name;
        let patch = json!({"metadata": {"uid": &*key.uid}, "status": {"conditions": [{
            "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
            "message": format!("{scheduler}: preempting to accommodate a higher priority pod"),
            "lastTransitionTime": api::time::format(Timestamp::now()),
        }]}});
        let params = WriteParams::manager("kube-scheduler");
        let kind = PatchKind::Strategic;
        self.client
            .patch_status::<Pod>(&key.namespace, &key.name, kind, &patch, &params)
            .await?;
        let params = DeleteParams::uid(&*key.uid);
        self.client
            .delete::<Pod>(&key.namespace, &key.name, &params)
            .await
            .map(drop)
    }

    pub(super) fn scheduled(&self, pod: &PodInfo, node: &str) {
        let message = format!("Successfully assigned {}/{} to {node}", pod.key.namespace, pod.key.name);
        self.recorder.record(event(pod, false, "Scheduled", message));
    }

    pub(super) fn failed_scheduling(&self, pod: &PodInfo, message: &str) {
        self.recorder
            .record(event(pod, true, "FailedScheduling", message.to_owned()));
    }
}

fn event(pod: &PodInfo, warning: bool, reason: &str, message: String) -> EventSpec {
    EventSpec {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        namespace: pod.key.namespace.to_string(),
        name: pod.key.name.to_string(),
        uid: pod.key.uid.to_string(),
        resource_version: pod.resource_version.to_string(),
        field_path: String::new(),
        warning,
        reason: reason.to_owned(),
        message,
    }
}
