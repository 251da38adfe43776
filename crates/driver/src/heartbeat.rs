//! When each node was last heard of, by this machine's clock.

use std::collections::HashMap;
use std::sync::Arc;

use client::Caches;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use parking_lot::RwLock;

const LEASES: &str = "kube-node-lease";

/// The last signs of life.
#[derive(Clone, Debug)]
pub(crate) struct Heartbeats {
    begun: Timestamp,
    heard: Arc<RwLock<HashMap<String, Timestamp>>>,
}

impl Heartbeats {
    /// Listens to node leases and to the heartbeats in nodes' conditions.
    pub(crate) fn start(caches: &Caches) -> Self {
        let heartbeats = Self {
            begun: Timestamp::now(),
            heard: Arc::default(),
        };
        let heard = heartbeats.clone();
        caches.get::<Lease>().on_change(move |change| {
            let renewed = |lease: &Lease| lease.spec.as_ref().and_then(|spec| spec.renew_time.clone());
            let (old, new) = (change.old.as_deref(), change.new.as_deref());
            let Some(lease) = new.filter(|lease| lease.metadata.namespace.as_deref() == Some(LEASES)) else {
                return;
            };
            // The first sight of a lease says nothing about when it was renewed.
            if old.is_some_and(|old| renewed(old) != renewed(lease)) {
                heard.hear(lease.metadata.name.as_deref().unwrap_or(""));
            }
        });
        let heard = heartbeats.clone();
        caches.get::<Node>().on_change(move |change| {
            let (old, new) = (change.old.as_deref(), change.new.as_deref());
            match (old, new) {
                (Some(gone), None) => {
                    heard.heard.write().remove(gone.metadata.name.as_deref().unwrap_or(""));
                }
                (Some(old), Some(node)) if last_heartbeat(old) != last_heartbeat(node) => {
                    heard.hear(node.metadata.name.as_deref().unwrap_or(""));
                }
                // A node that registers is alive.
                (None, Some(node)) => heard.hear(node.metadata.name.as_deref().unwrap_or("")),
                _ => {}
            }
        });
        heartbeats
    }

    fn hear(&self, node: &str) {
        self.heard.write().insert(node.to_owned(), Timestamp::now());
    }

    /// When this node was last heard of; at least the start of this process.
    pub(crate) fn last(&self, node: &str) -> Timestamp {
        self.heard.read().get(node).copied().unwrap_or(self.begun)
    }
}

fn last_heartbeat(node: &Node) -> Option<Timestamp> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready")?;
    ready.last_heartbeat_time.as_ref().map(|time| time.0)
}
