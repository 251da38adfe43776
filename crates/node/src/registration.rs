//! The Node object and its lease: made, renewed, kept up to date.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use client::{ClientError, PatchKind, WriteParams};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{Node, NodeSpec, NodeStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use serde_json::json;
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::context::Context;
use crate::extended;
use crate::node_status;

/// How often the lease is renewed.
pub const RENEW: Duration = Duration::from_secs(10);
/// How long a lease holds.
pub const LEASE_SECONDS: i32 = 40;
/// The status is written at least this often.
const REPORT: Duration = Duration::from_secs(300);
/// The machine is looked at this often: free memory and disk tell nobody when they change.
const LOOK: Duration = Duration::from_secs(10);
/// Namespace of the leases.
pub const LEASES: &str = "kube-node-lease";

/// Labels of a Node.
pub(crate) fn labels(name: &str, architecture: &str) -> BTreeMap<String, String> {
    let pairs = [
        ("kubernetes.io/hostname", name),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", architecture),
    ];
    pairs.map(|(key, value)| (key.to_string(), value.to_string())).into()
}

/// Makes the Node, or brings its labels up to date. Retries until it works.
pub(crate) async fn register(ctx: &Context) -> Node {
    let mut delay = Duration::from_millis(100);
    loop {
        match try_register(ctx).await {
            Ok(node) => return node,
            Err(error) => {
                tracing::warn!(error = %error.report(), node = ctx.config.name, "cannot register the node; will retry");
            }
        }
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(Duration::from_secs(7));
    }
}

async fn try_register(ctx: &Context) -> Result<Node, ClientError> {
    let nodes = ctx.client().of::<Node>();
    let name = &ctx.config.name;
    let mut wanted = labels(name, &ctx.facts.architecture);
    wanted.extend(ctx.config.labels.clone());
    let found = match nodes.get("", name).await {
        Ok(found) => Some(found),
        Err(error) if error.is_not_found() => None,
        Err(error) => return Err(error),
    };
    let node = match found {
        Some(node) => {
            let has = node.metadata.labels.clone().unwrap_or_default();
            if wanted.iter().all(|(key, value)| has.get(key) == Some(value)) {
                node
            } else {
                let patch = json!({"metadata": {"labels": wanted}});
                nodes
                    .patch("", name, PatchKind::Merge, &patch, &WriteParams::default())
                    .await?
            }
        }
        None => {
            let spec = NodeSpec {
                pod_cidr: ctx.config.pod_cidr.clone(),
                pod_cidrs: ctx.config.pod_cidr.clone().map(|cidr| vec![cidr]),
                ..NodeSpec::default()
            };
            let node = Node {
                metadata: ObjectMeta {
                    name: Some(name.clone()),
                    labels: Some(wanted),
                    ..ObjectMeta::default()
                },
                spec: Some(spec),
                status: Some(node_status::status(ctx, None).await),
            };
            nodes.create("", &node, &WriteParams::default()).await?
        }
    };
    let status = node_status::status(ctx, node.status.as_ref()).await;
    report(ctx, &status, node.status.as_ref()).await
}

async fn report(ctx: &Context, status: &NodeStatus, before: Option<&NodeStatus>) -> Result<Node, ClientError> {
    let mut patch = json!({"status": status});
    let (capacity, allocatable) = before
        .map(|before| (before.capacity.as_ref(), before.allocatable.as_ref()))
        .unwrap_or_default();
    for (name, quantity) in extended::changes(capacity, allocatable) {
        patch["status"]["allocatable"][name] = quantity;
    }
    let nodes = ctx.client().of::<Node>();
    nodes
        .patch_sub(
            "",
            &ctx.config.name,
            "status",
            PatchKind::Strategic,
            &patch,
            &WriteParams::default(),
        )
        .await
}

/// Keeps the Node's status up to date until the node stops.
pub(crate) async fn keep_status(ctx: Arc<Context>, mut node: Node, changed: Arc<Notify>) {
    let mut reported = tokio::time::Instant::now();
    loop {
        tokio::select! {
            () = ctx.stop.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {
                // Others announce resources in the capacity.
                if let Ok(now) = ctx.client().of::<Node>().get("", &ctx.config.name).await {
                    node = now;
                }
            }
            () = changed.notified() => {}
        }
        let status = node_status::status(&ctx, node.status.as_ref()).await;
        let same = node
            .status
            .as_ref()
            .is_some_and(|old| node_status::same(old, &merged(old, &status)));
        if same && reported.elapsed() < REPORT {
            continue;
        }
        match report(&ctx, &status, node.status.as_ref()).await {
            Ok(now) => {
                node = now;
                reported = tokio::time::Instant::now();
            }
            Err(error) if error.is_not_found() => {
                tracing::warn!(node = ctx.config.name, "the Node object is gone; registering again");
                node = register(&ctx).await;
            }
            Err(error) => tracing::warn!(error = %error.report(), "cannot report the node's status; will retry"),
        }
    }
}

/// What the API would have after the patch: what others put there stays.
fn merged(old: &NodeStatus, new: &NodeStatus) -> NodeStatus {
    let mut out = old.clone();
    out.addresses.clone_from(&new.addresses);
    // Beside its own resources the node lets pods have all that others put into its capacity.
    let others = old
        .capacity
        .iter()
        .flatten()
        .filter(|(name, _)| extended::is_extended(name));
    let others: BTreeMap<_, _> = others
        .map(|(name, quantity)| (name.clone(), quantity.clone()))
        .collect();
    for (resources, own) in [
        (&mut out.allocatable, &new.allocatable),
        (&mut out.capacity, &new.capacity),
    ] {
        resources.clone_from(own);
        resources.get_or_insert_default().extend(others.clone());
    }
    out.daemon_endpoints.clone_from(&new.daemon_endpoints);
    out.declared_features.clone_from(&new.declared_features);
    out.images.clone_from(&new.images);
    out.node_info.clone_from(&new.node_info);
    let list = out.conditions.get_or_insert_default();
    for condition in new.conditions.iter().flatten() {
        match list.iter_mut().find(|c| c.type_ == condition.type_) {
            Some(found) => *found = condition.clone(),
            None => list.push(condition.clone()),
        }
    }
    out
}

/// Renews the lease of a node until `stop`.
pub(crate) async fn keep_lease(
    client: client::Client,
    name: String,
    uid: String,
    clock: Clock,
    stop: tokio_util::sync::CancellationToken,
) {
    loop {
        if let Err(error) = renew(&client, &name, &uid, &clock).await {
            tracing::warn!(error = %error.report(), node = name, "cannot renew the node's lease; will retry");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RENEW) => {}
        }
    }
}

async fn renew(client: &client::Client, name: &str, uid: &str, clock: &Clock) -> Result<(), ClientError> {
    let leases = client.of::<Lease>();
    let now = MicroTime(clock.now());
    let patch = json!({"spec": {"holderIdentity": name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": now}});
    match leases
        .patch(LEASES, name, PatchKind::Merge, &patch, &WriteParams::default())
        .await
    {
        Err(error) if error.is_not_found() => {}
        other => return other.map(drop),
    }
    let owner = OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: name.to_string(),
        uid: uid.to_string(),
        ..OwnerReference::default()
    };
    let lease = Lease {
        metadata: ObjectMeta {
            name: Some(name.to_string()),
            namespace: Some(LEASES.into()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(name.to_string()),
            lease_duration_seconds: Some(LEASE_SECONDS),
            renew_time: Some(now),
            ..LeaseSpec::default()
        }),
    };
    leases.create(LEASES, &lease, &WriteParams::default()).await.map(drop)
}
