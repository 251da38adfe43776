//! When the nodes can be said to be ready: what an earlier run left in the store does not count.

use std::collections::BTreeSet;

use anyhow::Result;
use client::{Client, Object, WatchEvent, WatchParams};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::jiff::Timestamp;

/// Waits until each node has renewed its lease since `since`, and is Ready. A node reports its conditions before it
/// renews its lease for the first time, so they are of this run too.
pub async fn nodes_ready(client: &Client, names: &[String], since: Timestamp) -> Result<()> {
    each(client, node::LEASES, names, |lease: &Lease| renewed(lease, since)).await?;
    each(client, "", names, is_ready).await
}

fn renewed(lease: &Lease, since: Timestamp) -> bool {
    let time = lease.spec.as_ref().and_then(|spec| spec.renew_time.as_ref());
    // The API keeps microseconds.
    time.is_some_and(|time| time.0.as_microsecond() >= since.as_microsecond())
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Waits until each of the named objects has been seen as it is wanted.
async fn each<K: Object>(
    client: &Client,
    namespace: &str,
    names: &[String],
    wanted: impl Fn(&K) -> bool,
) -> Result<()> {
    let mut missing: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    let mut params = WatchParams::default();
    if let [name] = names {
        params.field_selector = format!("metadata.name={name}");
    }
    while !missing.is_empty() {
        let mut events = client.watch::<K>(namespace, &params).await?;
        while let Some(Ok(event)) = events.next().await {
            if let WatchEvent::Added(object) | WatchEvent::Modified(object) = event
                && wanted(&object)
            {
                missing.remove(object.metadata().name.as_deref().unwrap_or_default());
            }
            if missing.is_empty() {
                break;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::coordination::v1::LeaseSpec;
    use k8s_openapi::api::core::v1::{NodeCondition, NodeStatus};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

    use super::*;

    fn lease(time: &str) -> Lease {
        Lease {
            spec: Some(LeaseSpec {
                renew_time: Some(MicroTime(time.parse().unwrap())),
                ..LeaseSpec::default()
            }),
            ..Lease::default()
        }
    }

    #[test]
    fn an_earlier_run_does_not_count() {
        let since: Timestamp = "2026-01-01T00:00:00.123456789Z".parse().unwrap();
        assert!(!renewed(&Lease::default(), since));
        assert!(!renewed(&lease("2026-01-01T00:00:00.123455Z"), since));
        assert!(renewed(&lease("2026-01-01T00:00:00.123456Z"), since));
        assert!(renewed(&lease("2026-01-01T00:00:09.000000Z"), since));
    }

    #[test]
    fn ready_is_ready_true() {
        let node = |status: &str| Node {
            status: Some(NodeStatus {
                conditions: Some(vec![NodeCondition {
                    type_: "Ready".into(),
                    status: status.into(),
                    ..NodeCondition::default()
                }]),
                ..NodeStatus::default()
            }),
            ..Node::default()
        };
        assert!(is_ready(&node("True")));
        assert!(!is_ready(&node("Unknown")));
        assert!(!is_ready(&Node::default()));
    }
}
