//! Finding pods and containers.

use std::sync::Arc;

use http::{Response, StatusCode};
use k8s_openapi::api::core::v1::Pod;
use runtime::{ContainerFilter, ContainerState, ContainerStatus};
use serde_json::{Value, json};

use super::{Answer, Body, Refusal};
use crate::context::Context;
use crate::{labels, worker};

/// The pod of the name, and of the UID if one is given.
pub(super) fn pod(ctx: &Context, namespace: &str, name: &str, uid: Option<&str>) -> Result<Arc<Pod>, Refusal> {
    let found = ctx.pods.get(namespace, name);
    let found = found.filter(|pod| uid.is_none_or(|uid| pod.metadata.uid.as_deref() == Some(uid)));
    found.ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, format!("pod {name:?} not found")))
}

/// All containers of the name in the pod, newest first.
pub(super) async fn containers(ctx: &Context, pod: &Pod, name: &str) -> Result<Vec<ContainerStatus>, Refusal> {
    let known = pod
        .spec
        .as_ref()
        .is_some_and(|spec| podlife::spec::find(spec, name).is_some());
    if !known {
        let pod = pod.metadata.name.as_deref().unwrap_or_default();
        return Err(Refusal::bad(format!("container {name} is not valid for pod {pod}")));
    }
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let mut found = worker::containers(ctx, uid).await.map_err(Refusal::internal)?;
    found.retain(|container| container.name == name);
    Ok(found)
}

/// The running container of the name.
pub(super) async fn running(
    ctx: &Context,
    namespace: &str,
    pod_name: &str,
    uid: Option<&str>,
    container: &str,
) -> Result<(Arc<Pod>, ContainerStatus), Refusal> {
    let pod = pod(ctx, namespace, pod_name, uid)?;
    let newest = containers(ctx, &pod, container).await?.into_iter().next();
    match newest {
        Some(found) if found.state == ContainerState::Running => Ok((pod, found)),
        _ => Err(Refusal::new(
            StatusCode::NOT_FOUND,
            format!("container not found ({container:?})"),
        )),
    }
}

/// All pods of the node, as the API has them.
pub(super) fn pods(ctx: &Context) -> Response<Body> {
    let items: Vec<Value> = ctx
        .pods
        .list()
        .iter()
        .filter_map(|pod| serde_json::to_value(&**pod).ok())
        .collect();
    super::json(&json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
}

/// Pods that have running containers, as the runtime has them.
pub(super) async fn running_pods(ctx: &Context) -> Answer {
    let filter = ContainerFilter {
        state: Some(ContainerState::Running),
        ..ContainerFilter::default()
    };
    let mut pods: std::collections::BTreeMap<String, Value> = Default::default();
    for container in ctx.runtime().list_containers(filter).await.map_err(Refusal::internal)? {
        let label = |key: &str| container.labels.get(key).cloned().unwrap_or_default();
        let pod = pods.entry(label(labels::POD_UID)).or_insert_with(|| {
            json!({
                "metadata": {
                    "name": label(labels::POD_NAME),
                    "namespace": label(labels::POD_NAMESPACE),
                    "uid": label(labels::POD_UID),
                },
                "spec": {"containers": []},
                "status": {},
            })
        });
        if let Some(list) = pod["spec"]["containers"].as_array_mut() {
            list.push(json!({"name": container.name, "image": container.image_ref, "resources": {}}));
        }
    }
    let items: Vec<Value> = pods.into_values().collect();
    Ok(super::json(
        &json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}),
    ))
}

/// `/configz`.
pub(super) fn configuration(ctx: &Context) -> Value {
    json!({"kubeletconfig": {
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "clusterDomain": ctx.config.cluster_domain,
        "clusterDNS": ctx.config.cluster_dns,
        "maxPods": ctx.config.max_pods,
        "podCIDR": ctx.config.pod_cidr,
        "resolvConf": ctx.config.resolv_conf,
        "cgroupRoot": ctx.config.cgroup_root,
        "nodeStatusUpdateFrequency": "10s",
        "nodeStatusReportFrequency": "5m0s",
        "nodeLeaseDurationSeconds": crate::registration::LEASE_SECONDS,
        "imageGCHighThresholdPercent": 85,
        "imageGCLowThresholdPercent": 80,
        "containerLogMaxSize": "10Mi",
        "containerLogMaxFiles": 5,
        "authentication": {"anonymous": {"enabled": false}, "webhook": {"enabled": true}},
        "authorization": {"mode": "Webhook"},
    }})
}
