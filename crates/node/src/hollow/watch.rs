//! The pods of the simulated nodes, as a list and a watch tell them: one stream, nothing kept.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use api::Gvr;
use client::{ClientError, Handle, ListParams, WatchEvent, WatchParams};
use serde_json::Value;
use tokio::sync::mpsc;

use super::Shared;

const PAGE: u32 = 500;
const RETRY: Duration = Duration::from_secs(1);

/// What became known of a pod.
pub(super) enum Seen {
    /// It is like this.
    Is(Value),
    /// It is gone.
    Gone(String),
    /// A list is complete: whatever else was known is gone.
    Only(HashSet<String>),
}

/// Follows until nobody listens.
pub(super) async fn follow(shared: Arc<Shared>, seen: mpsc::Sender<Seen>) {
    let pods = shared.client.dynamic(&Gvr::new("", "v1", "pods"));
    let selector = match &shared.config.names[..] {
        [only] => format!("spec.nodeName={only}"),
        _ => "spec.nodeName!=".to_owned(),
    };
    let follower = Follower {
        shared,
        pods,
        selector,
        seen,
    };
    let mut revision = String::new();
    while !follower.seen.is_closed() {
        let followed = if revision.is_empty() {
            follower.list().await.map(|listed| revision = listed)
        } else {
            follower.watch(&mut revision).await
        };
        match followed {
            Ok(()) => continue,
            Err(error) if error.is_expired() => revision.clear(),
            Err(error) => {
                tracing::warn!(error = error.report(), "the hollow nodes lost the server, will retry");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

struct Follower {
    shared: Arc<Shared>,
    pods: Handle<Value>,
    selector: String,
    seen: mpsc::Sender<Seen>,
}

impl Follower {
    async fn list(&self) -> Result<String, ClientError> {
        let mut params = ListParams {
            field_selector: self.selector.clone(),
            limit: PAGE,
            ..ListParams::default()
        };
        let mut uids = HashSet::new();
        loop {
            let page = self.pods.list("", &params).await?;
            for pod in page.items {
                uids.insert(uid(&pod));
                self.tell(pod).await;
            }
            params.continue_token = page.metadata.continue_.unwrap_or_default();
            if params.continue_token.is_empty() {
                let _ = self.seen.send(Seen::Only(uids)).await;
                return Ok(page.metadata.resource_version.unwrap_or_default());
            }
        }
    }

    async fn watch(&self, revision: &mut String) -> Result<(), ClientError> {
        let params = WatchParams {
            field_selector: self.selector.clone(),
            resource_version: revision.clone(),
            bookmarks: true,
            ..WatchParams::default()
        };
        let mut events = self.pods.watch("", &params).await?;
        while let Some(event) = events.next().await {
            match event? {
                WatchEvent::Added(pod) | WatchEvent::Modified(pod) => {
                    *revision = text(&pod, "resourceVersion");
                    self.tell(pod).await;
                }
                WatchEvent::Deleted(pod) => {
                    *revision = text(&pod, "resourceVersion");
                    let _ = self.seen.send(Seen::Gone(uid(&pod))).await;
                }
                WatchEvent::Bookmark { resource_version, .. } => *revision = resource_version,
                WatchEvent::Error(status) => return Err(ClientError::Api(status)),
            }
        }
        Ok(())
    }

    async fn tell(&self, mut pod: Value) {
        let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
        if !self.shared.addresses.contains_key(node) {
            return;
        }
        if let Some(metadata) = pod["metadata"].as_object_mut() {
            metadata.remove("managedFields");
        }
        let _ = self.seen.send(Seen::Is(pod)).await;
    }
}

pub(super) fn uid(pod: &Value) -> String {
    text(pod, "uid")
}

pub(super) fn text(pod: &Value, field: &str) -> String {
    pod["metadata"][field].as_str().unwrap_or_default().to_owned()
}
