//! When pods are bound, as a client sees it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use api::Gvr;
use client::{Client, ClientError, ListParams, WatchEvent, WatchParams};
use serde::Deserialize;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::templates::MARK;

/// Before a watch that broke is started again.
const RETRY: Duration = Duration::from_millis(100);

/// Pods that have been seen bound, by namespace.
#[derive(Clone)]
pub struct Bound {
    shared: Arc<Shared>,
    _task: Arc<Task>,
}

struct Shared {
    /// Locked for moments only, never across an await.
    namespaces: Mutex<HashMap<String, HashMap<String, Instant>>>,
    count: watch::Sender<u64>,
}

struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// As much of a pod as is looked at.
#[derive(Debug, Deserialize)]
struct Seen {
    metadata: SeenMetadata,
}

typed::decoded!(Seen);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SeenMetadata {
    name: String,
    namespace: String,
    #[serde(default)]
    resource_version: String,
}

impl Bound {
    /// Starts to watch; there must be no bound pods yet.
    pub async fn follow(client: Client) -> Result<Bound> {
        let shared = Arc::new(Shared {
            namespaces: Mutex::default(),
            count: watch::Sender::new(0),
        });
        let (handle, nothing) = (client.resource::<Seen>(&pods()), ListParams::fields("metadata.name=-"));
        let listed = handle.list("", &nothing).await.context("list pods")?;
        let mut revision = listed.metadata.resource_version.unwrap_or_default();
        let own = shared.clone();
        let task = tokio::spawn(async move {
            loop {
                // A watch that ends is taken up where it ended.
                if let Err(error) = own.watch(&client, &mut revision).await {
                    tracing::warn!(error = error.report(), "the watch of bound pods broke, will retry");
                    tokio::time::sleep(RETRY).await;
                }
            }
        });
        Ok(Bound {
            shared,
            _task: Arc::new(Task(task)),
        })
    }

    /// Waits until so many pods of the namespace have been seen.
    pub async fn wait(&self, namespace: &str, count: usize) {
        let mut changed = self.shared.count.subscribe();
        // The sender lives in `shared`, which `self` keeps alive.
        let _ = changed.wait_for(|_| self.count(namespace) >= count).await;
    }

    /// How many pods of the namespace have been seen.
    pub fn count(&self, namespace: &str) -> usize {
        let namespaces = self.shared.namespaces.lock().expect("nobody panics while holding it");
        namespaces.get(namespace).map_or(0, HashMap::len)
    }

    /// When each pod of the namespace was seen.
    pub fn times(&self, namespace: &str) -> HashMap<String, Instant> {
        let namespaces = self.shared.namespaces.lock().expect("nobody panics while holding it");
        namespaces.get(namespace).cloned().unwrap_or_default()
    }
}

fn pods() -> Gvr {
    Gvr::new("", "v1", "pods")
}

impl Shared {
    async fn watch(&self, client: &Client, revision: &mut String) -> Result<(), ClientError> {
        let params = WatchParams {
            field_selector: "spec.nodeName!=".to_owned(),
            label_selector: MARK.to_owned(),
            resource_version: revision.clone(),
            ..WatchParams::default()
        };
        let mut events = client.resource::<Seen>(&pods()).watch("", &params).await?;
        while let Some(event) = events.next().await {
            match event? {
                // A pod that is bound comes into the selection.
                WatchEvent::Added(pod) => {
                    revision.clone_from(&pod.metadata.resource_version);
                    self.add(pod.metadata);
                }
                WatchEvent::Modified(pod) | WatchEvent::Deleted(pod) => *revision = pod.metadata.resource_version,
                WatchEvent::Bookmark { resource_version, .. } => *revision = resource_version,
                WatchEvent::Error(status) => return Err(ClientError::Api(status)),
            }
        }
        Ok(())
    }

    fn add(&self, pod: SeenMetadata) {
        let now = Instant::now();
        {
            let mut namespaces = self.namespaces.lock().expect("nobody panics while holding it");
            let seen = namespaces.entry(pod.namespace).or_default();
            seen.entry(pod.name).or_insert(now);
        }
        self.count.send_modify(|count| *count += 1);
    }
}
