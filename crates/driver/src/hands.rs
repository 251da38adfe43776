//! What plans are executed with: the API as one identity reaches it.

use api::{Gvr, Value};
use client::{Client, ClientError, DeleteParams, EventRecorder, EventSpec, Handle, ListParams, PatchKind, WriteParams};
use tokio::task::JoinSet;

use crate::rewrite::rewrite;

/// Field manager of all controllers, as upstream's.
pub(crate) const FIELD_MANAGER: &str = "kube-controller-manager";

/// The few verbs that plans need, as one identity. Production has [`Live`]; a simulation has its own, in memory.
pub trait Hands: Clone + Send + Sync + 'static {
    /// Reads an object.
    fn get(&self, at: Place<'_>) -> impl Future<Output = Result<Value, ClientError>> + Send;
    /// All objects of a resource in a namespace.
    fn list(&self, resource: &Gvr, namespace: &str) -> impl Future<Output = Result<Vec<Value>, ClientError>> + Send;
    /// Whether a namespace has an object of a resource.
    fn any(&self, resource: &Gvr, namespace: &str) -> impl Future<Output = Result<bool, ClientError>> + Send;
    /// Creates an object.
    fn create(
        &self,
        resource: &Gvr,
        namespace: &str,
        object: &Value,
    ) -> impl Future<Output = Result<Value, ClientError>> + Send;
    /// Replaces an object or a part of it.
    fn update(
        &self,
        at: Place<'_>,
        subresource: &str,
        object: &Value,
    ) -> impl Future<Output = Result<Value, ClientError>> + Send;
    /// Applies a JSON merge patch.
    fn merge(
        &self,
        at: Place<'_>,
        subresource: &str,
        patch: &Value,
    ) -> impl Future<Output = Result<Value, ClientError>> + Send;
    /// Deletes an object.
    fn delete(&self, at: Place<'_>, params: &DeleteParams) -> impl Future<Output = Result<(), ClientError>> + Send;
    /// Deletes all objects of a resource in a namespace.
    fn delete_all(&self, resource: &Gvr, namespace: &str) -> impl Future<Output = Result<(), ClientError>> + Send;
    /// Writes every object of a resource as it is.
    fn rewrite(&self, resource: &Gvr) -> impl Future<Output = Result<(), ClientError>> + Send;
    /// Does independent things at once; what panics is left out of the results.
    fn together<T: Send + 'static>(
        &self,
        all: Vec<impl Future<Output = T> + Send + 'static>,
    ) -> impl Future<Output = Vec<T>> + Send;
    /// Tells an event; never fails.
    fn tell(&self, event: EventSpec);
}

/// Where an object is.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Its resource.
    pub resource: &'a Gvr,
    /// Its namespace; empty for cluster-scoped objects.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
}

/// An API server, in this process or elsewhere. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Live {
    /// The way to it.
    pub client: Client,
    /// Who tells of what is done.
    pub recorder: EventRecorder,
}

impl Live {
    fn of(&self, resource: &Gvr) -> Handle<Value> {
        self.client.dynamic(resource)
    }
}

fn params() -> WriteParams {
    WriteParams::manager(FIELD_MANAGER)
}

impl Hands for Live {
    async fn get(&self, at: Place<'_>) -> Result<Value, ClientError> {
        self.of(at.resource).get(at.namespace, at.name).await
    }

    async fn list(&self, resource: &Gvr, namespace: &str) -> Result<Vec<Value>, ClientError> {
        let listed = self.of(resource).list_all(namespace, &ListParams::default()).await;
        listed.map(|list| list.items)
    }

    async fn any(&self, resource: &Gvr, namespace: &str) -> Result<bool, ClientError> {
        let one = ListParams {
            limit: 1,
            ..ListParams::default()
        };
        let listed = self.of(resource).metadata_only().list(namespace, &one).await;
        listed.map(|list| !list.items.is_empty())
    }

    async fn create(&self, resource: &Gvr, namespace: &str, object: &Value) -> Result<Value, ClientError> {
        self.of(resource).create(namespace, object, &params()).await
    }

    async fn update(&self, at: Place<'_>, subresource: &str, object: &Value) -> Result<Value, ClientError> {
        let handle = self.of(at.resource);
        handle
            .update_sub(at.namespace, at.name, subresource, object, &params())
            .await
    }

    async fn merge(&self, at: Place<'_>, subresource: &str, patch: &Value) -> Result<Value, ClientError> {
        let (handle, kind) = (self.of(at.resource), PatchKind::Merge);
        handle
            .patch_sub(at.namespace, at.name, subresource, kind, patch, &params())
            .await
    }

    async fn delete(&self, at: Place<'_>, params: &DeleteParams) -> Result<(), ClientError> {
        self.of(at.resource)
            .delete(at.namespace, at.name, params)
            .await
            .map(drop)
    }

    async fn delete_all(&self, resource: &Gvr, namespace: &str) -> Result<(), ClientError> {
        let handle = self.of(resource);
        handle
            .delete_collection(namespace, &DeleteParams::default(), &ListParams::default())
            .await
    }

    async fn rewrite(&self, resource: &Gvr) -> Result<(), ClientError> {
        rewrite(&self.client, resource, &params()).await
    }

    async fn together<T: Send + 'static>(&self, all: Vec<impl Future<Output = T> + Send + 'static>) -> Vec<T> {
        let mut running: JoinSet<T> = all.into_iter().collect();
        let mut results = Vec::with_capacity(running.len());
        while let Some(ended) = running.join_next().await {
            match ended {
                Ok(result) => results.push(result),
                Err(error) => tracing::error!(%error, "an action panicked"),
            }
        }
        results
    }

    fn tell(&self, event: EventSpec) {
        self.recorder.record(event);
    }
}
