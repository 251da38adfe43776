//! What runs in the measured cluster.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use client::{Client, DeleteParams, Propagation, WatchEvent, WatchParams, WatchStream, WriteParams};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use serde_json::{Value, json};

use super::cluster::until;

const NAMESPACE: &str = "default";
const PATIENCE: Duration = Duration::from_secs(60);

fn deployment(name: &str, replicas: u16) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [
                    {"name": "hello", "image": "skiff.local/hello", "imagePullPolicy": "IfNotPresent"},
                ]},
            },
        },
    })
}

/// From before the Deployment's creation is sent until a watch shows its pod Running. The pod is gone in the end.
pub async fn time_to_running(client: &Client, index: u16) -> Result<Duration> {
    let name = format!("bench-{index}");
    let params = WatchParams {
        label_selector: format!("app={name}"),
        ..WatchParams::default()
    };
    let mut pods = client.watch::<Pod>(NAMESPACE, &params).await?;
    let deployments = client.of::<Deployment>();
    let measured = async {
        let since = Instant::now();
        deployments
            .create(NAMESPACE, &deployment(&name, 1), &WriteParams::default())
            .await?;
        follow(
            &mut pods,
            |event| matches!(event, WatchEvent::Added(pod) | WatchEvent::Modified(pod) if is_running(pod)),
        )
        .await?;
        let took = since.elapsed();
        deployments
            .delete(
                NAMESPACE,
                &name,
                &DeleteParams::default().propagate(Propagation::Background),
            )
            .await?;
        follow(&mut pods, |event| matches!(event, WatchEvent::Deleted(_))).await?;
        Ok(took)
    };
    tokio::time::timeout(PATIENCE, measured)
        .await
        .with_context(|| format!("the pod of {name} took too long"))?
}

fn is_running(pod: &Pod) -> bool {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running")
}

async fn follow(pods: &mut WatchStream<Pod>, wanted: impl Fn(&WatchEvent<Pod>) -> bool) -> Result<()> {
    while let Some(event) = pods.next().await {
        match event? {
            WatchEvent::Error(status) => return Err(*status).context("watch pods"),
            event if wanted(&event) => return Ok(()),
            _ => {}
        }
    }
    bail!("the server ended a watch of pods")
}

/// The README's example: three replicas behind a Service; waits until all are ready.
pub async fn start_example(client: &Client) -> Result<()> {
    let params = WriteParams::default();
    client
        .of::<Deployment>()
        .create(NAMESPACE, &deployment("hello", 3), &params)
        .await?;
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "hello"},
        "spec": {"type": "NodePort", "selector": {"app": "hello"}, "ports": [{"port": 80, "targetPort": 8080}]},
    });
    client.of::<Service>().create(NAMESPACE, &service, &params).await?;
    let ready =
        |deployment: &Deployment| deployment.status.as_ref().and_then(|status| status.ready_replicas) == Some(3);
    let selected = WatchParams {
        field_selector: "metadata.name=hello".into(),
        ..WatchParams::default()
    };
    let waited = until::<Deployment>(client, NAMESPACE, &selected, ready);
    tokio::time::timeout(PATIENCE, waited)
        .await
        .context("the example's pods took too long")?
}
