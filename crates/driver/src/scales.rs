//! The scales of controllers of any kind, asked for when somebody wants to know, and again when their object changes.

use std::collections::HashMap;
use std::sync::Arc;

use api::{Gvr, Value, meta};
use client::Client;
use controllers::Scaled;
use controllers::garbage::{Graph, NodeKey};
use parking_lot::Mutex;

use crate::metadata::Metadata;

/// Called with a namespace in which a scale is known, or known to be another.
type Wake = Box<dyn Fn(&str) + Send + Sync>;

/// What is known. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Scales {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    metadata: Metadata,
    /// A lock is right: it is held for a look-up, never across an await.
    known: Mutex<HashMap<NodeKey, Scaled>>,
    wake: Mutex<Vec<Wake>>,
}

impl Scales {
    /// Asks as the owner of `client`.
    pub(crate) fn start(client: Client, metadata: Metadata) -> Self {
        let inner = Arc::new(Inner {
            client,
            metadata: metadata.clone(),
            known: Mutex::default(),
            wake: Mutex::default(),
        });
        let weak = Arc::downgrade(&inner);
        metadata.listen(move |resource, change| {
            let Some(inner) = weak.upgrade() else { return };
            if inner.known.lock().is_empty() {
                return;
            }
            let metadata = &change.object().metadata;
            let key = NodeKey {
                resource: resource.gvr.clone(),
                namespace: metadata.namespace.clone().unwrap_or_default(),
                name: metadata.name.clone().unwrap_or_default(),
            };
            if inner.known.lock().remove(&key).is_some() {
                inner.awake(&key.namespace);
            }
        });
        Self { inner }
    }

    /// Calls `wake` from now on.
    pub(crate) fn on_news(&self, wake: impl Fn(&str) + Send + Sync + 'static) {
        self.inner.wake.lock().push(Box::new(wake));
    }

    /// What is known of a scale; if nothing is, it is asked for.
    pub(crate) fn of(&self, namespace: &str, api_version: &str, kind: &str, name: &str) -> Scaled {
        let Some((resource, _)) = self.inner.metadata.resource_of(api_version, kind) else {
            let kind = api::field::go_quote(kind);
            return Scaled::Refused(format!(
                "no matches for kind {kind} in version {}",
                api::field::go_quote(api_version)
            ));
        };
        let key = NodeKey {
            resource,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        let mut known = self.inner.known.lock();
        match known.get(&key) {
            // A failure is told once; who wants to know asks again.
            Some(Scaled::Refused(_)) => known.remove(&key).unwrap_or(Scaled::Asked),
            Some(found) => found.clone(),
            None => {
                known.insert(key.clone(), Scaled::Asked);
                let inner = self.inner.clone();
                tokio::spawn(async move { inner.ask(key).await });
                Scaled::Asked
            }
        }
    }
}

impl Inner {
    async fn ask(&self, key: NodeKey) {
        let answer = self
            .client
            .dynamic(&key.resource)
            .get_sub(&key.namespace, &key.name, "scale")
            .await;
        let found = match answer {
            Ok(scale) => known(&scale),
            Err(error) if error.is_not_found() => match self.metadata.get(&key) {
                Some(_) => Scaled::Refused(without_scale(&key.resource)),
                None => Scaled::Absent,
            },
            Err(error) => Scaled::Refused(error.report()),
        };
        // What changed meanwhile is asked for again.
        if let Some(asked) = self.known.lock().get_mut(&key) {
            *asked = found;
        }
        self.awake(&key.namespace);
    }

    fn awake(&self, namespace: &str) {
        for wake in self.wake.lock().iter() {
            wake(namespace);
        }
    }
}

fn known(scale: &Value) -> Scaled {
    let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
    Scaled::Known {
        uid: meta::uid(scale).to_owned(),
        replicas: i32::try_from(replicas).unwrap_or(i32::MAX),
    }
}

fn without_scale(resource: &Gvr) -> String {
    format!("{} does not implement the scale subresource", resource.group_resource())
}
