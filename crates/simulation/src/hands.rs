//! How controllers reach the server: one call at a time, each of which lets others go first, and writes go wrong.

use std::future::{Future, pending};
use std::pin::Pin;
use std::task::{Context, Poll};

use api::{Gvr, Status, Value, meta};
use apiserver::rules;
use client::{ClientError, DeleteParams, EventSpec, Propagation};
use driver::{Hands, Place};
use serde_json::json;

use crate::fault::Fault;
use crate::registry::{Resource, registry};
use crate::server::{Change, Server};
use crate::world::Cluster;

/// The hands of one actor.
#[derive(Clone)]
pub struct SimHands {
    /// The world.
    pub cluster: Cluster,
    /// Whose they are.
    pub actor: usize,
    /// Its name.
    pub name: &'static str,
}

/// Lets others go first, once.
struct Yield(bool);

impl Future for Yield {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

fn find(resource: &Gvr) -> Result<Resource, ClientError> {
    registry()
        .find(resource)
        .ok_or_else(|| Status::unknown_resource().into())
}

impl SimHands {
    /// Makes a write, unless something goes wrong.
    ///
    /// # Errors
    /// The server's, or that the answer is lost.
    pub async fn write<T: Send>(
        &self,
        what: String,
        act: impl FnOnce(&mut Server) -> Result<T, Status> + Send,
    ) -> Result<T, ClientError> {
        Yield(false).await;
        let fault = self.cluster.lock().faults.at_write(self.actor);
        if fault == Some(Fault::CrashBefore) {
            self.cluster.lock().note(|| format!("{} dies before {what}", self.name));
            return pending().await;
        }
        let result = {
            let mut shared = self.cluster.lock();
            let result = act(&mut shared.server);
            let revision = shared.server.store.revision();
            shared.note(|| {
                let answer = match &result {
                    Ok(_) => format!("r{revision}"),
                    Err(error) => error.to_string(),
                };
                let fault = fault.map(|fault| format!(" {fault:?}")).unwrap_or_default();
                format!("{}: {what}: {answer}{fault}", self.name)
            });
            result
        };
        match fault {
            Some(Fault::CrashAfter | Fault::CrashAll) => pending().await,
            Some(Fault::AnswerLost) => Err(ClientError::Send {
                method: "WRITE".to_owned(),
                url: what,
                source: "the answer is lost".into(),
            }),
            _ => Ok(result?),
        }
    }
}

fn called(verb: &str, resource: &Gvr, namespace: &str, name: &str) -> String {
    format!("{verb} {} {namespace}/{name}", resource.resource)
}

impl Hands for SimHands {
    async fn get(&self, at: Place<'_>) -> Result<Value, ClientError> {
        Yield(false).await;
        let shared = self.cluster.lock();
        Ok(shared.server.get(find(at.resource)?, at.namespace, at.name)?.clone())
    }

    async fn list(&self, resource: &Gvr, namespace: &str) -> Result<Vec<Value>, ClientError> {
        Yield(false).await;
        let found = self
            .cluster
            .lock()
            .server
            .store
            .list(find(resource)?, namespace, u64::MAX);
        Ok(found.iter().map(|object| object.value.clone()).collect())
    }

    async fn any(&self, resource: &Gvr, namespace: &str) -> Result<bool, ClientError> {
        let found = self
            .cluster
            .lock()
            .server
            .store
            .list(find(resource)?, namespace, u64::MAX);
        Ok(!found.is_empty())
    }

    async fn create(&self, resource: &Gvr, namespace: &str, object: &Value) -> Result<Value, ClientError> {
        let (found, what) = (
            find(resource)?,
            called("create", resource, namespace, meta::name(object)),
        );
        self.write(what, |server| server.create(found, namespace, object)).await
    }

    async fn update(&self, at: Place<'_>, subresource: &str, object: &Value) -> Result<Value, ClientError> {
        let (found, verb) = (find(at.resource)?, format!("put {subresource} of"));
        let what = called(&verb, at.resource, at.namespace, at.name);
        let change = Change::Put(object);
        self.write(what, |server| {
            server.update(found, at.namespace, at.name, subresource, change)
        })
        .await
    }

    async fn merge(&self, at: Place<'_>, subresource: &str, patch: &Value) -> Result<Value, ClientError> {
        let (found, verb) = (find(at.resource)?, format!("patch {subresource} of"));
        let what = format!("{} {patch}", called(&verb, at.resource, at.namespace, at.name));
        let change = Change::Merge(patch);
        self.write(what, |server| {
            server.update(found, at.namespace, at.name, subresource, change)
        })
        .await
    }

    async fn delete(&self, at: Place<'_>, params: &DeleteParams) -> Result<(), ClientError> {
        let found = find(at.resource)?;
        let preconditions = params.preconditions.clone().unwrap_or_default();
        let options = rules::DeleteOptions {
            grace_period_seconds: params.grace_period_seconds,
            uid: preconditions.uid,
            resource_version: preconditions.resource_version,
            propagation: params.propagation_policy.map(|policy| match policy {
                Propagation::Orphan => rules::Propagation::Orphan,
                Propagation::Background => rules::Propagation::Background,
                Propagation::Foreground => rules::Propagation::Foreground,
            }),
            ..rules::DeleteOptions::default()
        };
        let what = called("delete", at.resource, at.namespace, at.name);
        self.write(what, |server| server.delete(found, at.namespace, at.name, &options))
            .await
            .map(drop)
    }

    async fn delete_all(&self, resource: &Gvr, namespace: &str) -> Result<(), ClientError> {
        let found = find(resource)?;
        let what = called("delete all", resource, namespace, "");
        let all = |server: &mut Server| {
            for object in server.store.list(found, namespace, u64::MAX) {
                server.delete(
                    found,
                    namespace,
                    meta::name(&object.value),
                    &rules::DeleteOptions::default(),
                )?;
            }
            Ok(())
        };
        self.write(what, all).await
    }

    async fn rewrite(&self, resource: &Gvr) -> Result<(), ClientError> {
        for object in self.list(resource, "").await? {
            let at = Place {
                resource,
                namespace: meta::namespace(&object),
                name: meta::name(&object),
            };
            let patch = json!({"metadata": {
                "uid": meta::uid(&object), "resourceVersion": meta::resource_version(&object)}});
            match self.merge(at, "", &patch).await {
                Err(error) if !error.is_conflict() && !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    async fn together<T: Send + 'static>(&self, all: Vec<impl Future<Output = T> + Send + 'static>) -> Vec<T> {
        let mut results = Vec::with_capacity(all.len());
        for one in all {
            results.push(one.await);
        }
        results
    }

    fn tell(&self, event: EventSpec) {
        let mut shared = self.cluster.lock();
        shared.note(|| {
            format!(
                "{} tells: {} {}/{}: {}",
                self.name, event.kind, event.namespace, event.name, event.message
            )
        });
    }
}
