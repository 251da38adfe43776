//! The lease by which an API server is known (`controlplane/controller/apiserver…`): renewed while it serves; those of
//! servers that are gone are cleared away by the others, or by the same one when it comes back.

use std::time::Duration;

use api::{Gvr, Value, hash, meta, time};
use client::{Client, ClientError, DeleteParams, ListParams, PatchKind, WriteParams};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tokio_util::sync::CancellationToken;

const NAMESPACE: &str = "kube-system";
const LABEL: (&str, &str) = ("apiserver.kubernetes.io/identity", "kube-apiserver");
/// As upstream's (`--identity-lease-duration-seconds`).
const SECONDS: i64 = 3600;
/// Upstream renews every ten seconds; a lease of an hour needs no more than this.
const RENEW: Duration = Duration::from_secs(600);

fn leases() -> Gvr {
    Gvr::new("coordination.k8s.io", "v1", "leases")
}

/// Keeps this machine's lease until `shutdown`, as `client`, a superuser.
pub async fn keep(client: Client, hostname: String, shutdown: CancellationToken) {
    let name = format!("apiserver-{:016x}", hash::fnv1a_64(hostname.as_bytes()));
    let holder = format!("{name}_{:x}", Timestamp::now().as_nanosecond());
    let work = async {
        loop {
            if let Err(error) = renew(&client, &name, &holder, &hostname).await {
                tracing::warn!(
                    error = error.report(),
                    "the API server's lease cannot be renewed; will retry"
                );
            }
            if let Err(error) = clear(&client).await {
                tracing::warn!(
                    error = error.report(),
                    "leases of API servers cannot be cleared away; will retry"
                );
            }
            tokio::time::sleep(RENEW).await;
        }
    };
    shutdown.run_until_cancelled(work).await;
}

async fn renew(client: &Client, name: &str, holder: &str, hostname: &str) -> Result<(), ClientError> {
    let handle = client.dynamic(&leases());
    let spec = json!({"holderIdentity": holder, "leaseDurationSeconds": SECONDS,
        "renewTime": time::format_micro(Timestamp::now())});
    let params = WriteParams::manager("kube-apiserver");
    let patch = json!({"spec": spec});
    match handle.patch(NAMESPACE, name, PatchKind::Merge, &patch, &params).await {
        Err(error) if error.is_not_found() => {}
        other => return other.map(drop),
    }
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": spec,
        "metadata": {"name": name, "namespace": NAMESPACE,
            "labels": {LABEL.0: LABEL.1, "kubernetes.io/hostname": hostname}}});
    handle.create(NAMESPACE, &lease, &params).await.map(drop)
}

/// Deletes leases that nobody has renewed in their time.
async fn clear(client: &Client) -> Result<(), ClientError> {
    let handle = client.dynamic(&leases());
    let ours = ListParams::labels(format!("{}={}", LABEL.0, LABEL.1));
    for lease in handle.list_all(NAMESPACE, &ours).await?.items {
        if is_expired(&lease, Timestamp::now()) {
            match handle
                .delete(NAMESPACE, meta::name(&lease), &DeleteParams::default())
                .await
            {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Upstream's `isLeaseExpired`: one without times is.
fn is_expired(lease: &Value, now: Timestamp) -> bool {
    let spec = &lease["spec"];
    let renewed = spec["renewTime"].as_str().and_then(|text| time::parse(text).ok());
    match (renewed, spec["leaseDurationSeconds"].as_i64()) {
        (Some(renewed), Some(seconds)) => now.duration_since(renewed) > SignedDuration::from_secs(seconds),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_expire() {
        let now: Timestamp = "2026-01-01T01:00:00Z".parse().unwrap();
        let cases = [
            (
                json!({"renewTime": "2026-01-01T00:30:00.000000Z", "leaseDurationSeconds": 3600}),
                false,
            ),
            (
                json!({"renewTime": "2026-01-01T00:30:00.000000Z", "leaseDurationSeconds": 60}),
                true,
            ),
            (json!({"leaseDurationSeconds": 60}), true),
            (json!({}), true),
        ];
        for (spec, expired) in cases {
            assert_eq!(is_expired(&json!({"spec": spec}), now), expired, "{spec}");
        }
    }
}
