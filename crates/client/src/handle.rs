//! Requests about the objects of one resource.

use std::marker::PhantomData;

use api::{Gvr, Status, Value};
use bytes::Bytes;
use http::header::{ACCEPT, HeaderValue};
use http::{Method, Request};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use typed::Decoded;
pub use typed::Object;

use crate::client::{build, encode};
use crate::params::{Query, escape};
use crate::watch::WatchStream;
use crate::{Client, ClientError, DeleteParams, ListParams, PatchKind, WatchParams, WriteParams};

/// A page of objects.
#[derive(Clone, Debug)]
pub struct List<T> {
    /// Revision and continue token.
    pub metadata: ListMeta,
    /// The objects.
    pub items: Vec<T>,
}

/// A page as it came.
#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    metadata: ListMeta,
    items: Option<Vec<Box<RawValue>>>,
}

/// What a delete was answered with.
#[derive(Clone, Debug)]
pub enum Deleted<T> {
    /// The object as it was last, or as it waits for finalizers or its grace period.
    Object(Box<T>),
    /// It is gone (or its deletion was accepted).
    Status(Box<Status>),
}

const JSON: Option<&str> = Some("application/json");
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";

/// Requests about the objects of one resource, decoded as `T`. An empty namespace means
/// cluster-scoped, or all namespaces.
#[derive(Clone, Debug)]
pub struct Handle<T> {
    client: Client,
    resource: Gvr,
    metadata_only: bool,
    decoded: PhantomData<fn() -> T>,
}

impl<K: Object> Handle<K> {
    pub(crate) fn typed(client: Client) -> Self {
        let resource = Gvr {
            group: K::GROUP.to_owned(),
            version: K::VERSION.to_owned(),
            resource: K::URL_PATH_SEGMENT.to_owned(),
        };
        Self::new(client, resource)
    }
}

impl<T: Decoded> Handle<T> {
    pub(crate) fn new(client: Client, resource: Gvr) -> Self {
        Self {
            client,
            resource,
            metadata_only: false,
            decoded: PhantomData,
        }
    }

    /// The same requests, with objects decoded as something else.
    pub(crate) fn decoding<O: Decoded>(self) -> Handle<O> {
        Handle {
            client: self.client,
            resource: self.resource,
            metadata_only: self.metadata_only,
            decoded: PhantomData,
        }
    }

    /// Asks the server to send metadata only.
    pub fn metadata_only(mut self) -> Self {
        self.metadata_only = true;
        self
    }

    /// The resource.
    pub fn resource(&self) -> &Gvr {
        &self.resource
    }

    /// The request path of a collection, object or subresource (empty parts are left out).
    pub fn path(&self, namespace: &str, name: &str, subresource: &str) -> String {
        let mut path = String::with_capacity(96);
        if self.resource.group.is_empty() {
            path.push_str("/api/");
        } else {
            path.push_str("/apis/");
            path.push_str(&self.resource.group);
            path.push('/');
        }
        path.push_str(&self.resource.version);
        if !namespace.is_empty() {
            path.push_str("/namespaces/");
            escape(&mut path, namespace);
        }
        path.push('/');
        path.push_str(&self.resource.resource);
        for part in [name, subresource] {
            if !part.is_empty() {
                path.push('/');
                for (index, segment) in part.split('/').enumerate() {
                    if index > 0 {
                        path.push('/');
                    }
                    escape(&mut path, segment);
                }
            }
        }
        path
    }

    /// Reads one object.
    ///
    /// # Errors
    /// Not found, or the request failed.
    pub async fn get(&self, namespace: &str, name: &str) -> Result<T, ClientError> {
        self.get_sub(namespace, name, "").await
    }

    /// Reads a subresource of the same type.
    ///
    /// # Errors
    /// The request failed.
    pub async fn get_sub(&self, namespace: &str, name: &str, subresource: &str) -> Result<T, ClientError> {
        let path = self.path(namespace, name, subresource);
        let request = self.read(build(Method::GET, &path, None, Bytes::new())?, METADATA);
        let body = self.client.request_bytes(request).await?;
        T::from_json(&body).map_err(|source| answer(&path, source))
    }

    /// Lists one page.
    ///
    /// # Errors
    /// The request failed; 410 when the continue token or revision is too old.
    pub async fn list(&self, namespace: &str, params: &ListParams) -> Result<List<T>, ClientError> {
        let mut query = Query::default();
        params.query(&mut query);
        let path = query.finish(self.path(namespace, "", ""));
        let request = self.read(build(Method::GET, &path, None, Bytes::new())?, METADATA_LIST);
        let body = self.client.request_bytes(request).await?;
        list(&body).map_err(|source| answer(&path, source))
    }

    /// Lists everything, page by page (`params.limit` is the page size).
    ///
    /// # Errors
    /// As [`Handle::list`].
    pub async fn list_all(&self, namespace: &str, params: &ListParams) -> Result<List<T>, ClientError> {
        let mut params = params.clone();
        let mut all = self.list(namespace, &params).await?;
        while let Some(token) = all.metadata.continue_.take().filter(|token| !token.is_empty()) {
            params.continue_token = token;
            params.resource_version.clear();
            params.resource_version_match.clear();
            let mut page = self.list(namespace, &params).await?;
            all.items.append(&mut page.items);
            all.metadata = page.metadata;
        }
        Ok(all)
    }

    /// Starts a watch.
    ///
    /// # Errors
    /// The watch could not be started; 410 when the revision is too old.
    pub async fn watch(&self, namespace: &str, params: &WatchParams) -> Result<WatchStream<T>, ClientError> {
        let mut query = Query::default();
        params.query(&mut query);
        let path = query.finish(self.path(namespace, "", ""));
        let request = self.read(build(Method::GET, &path, None, Bytes::new())?, METADATA);
        let response = self.client.request(request).await?;
        Ok(WatchStream::new(path, response.into_body()))
    }

    /// Creates an object.
    ///
    /// # Errors
    /// The request failed.
    pub async fn create<B: Serialize + ?Sized>(
        &self,
        namespace: &str,
        object: &B,
        params: &WriteParams,
    ) -> Result<T, ClientError> {
        self.write(Method::POST, JSON, self.path(namespace, "", ""), object, params)
            .await
    }

    /// Posts to a subresource (binding, eviction, token); the answer may be of another type.
    ///
    /// # Errors
    /// The request failed.
    pub async fn create_sub<B: Serialize + ?Sized, R: Decoded>(
        &self,
        namespace: &str,
        name: &str,
        subresource: &str,
        body: &B,
        params: &WriteParams,
    ) -> Result<R, ClientError> {
        self.write(
            Method::POST,
            JSON,
            self.path(namespace, name, subresource),
            body,
            params,
        )
        .await
    }

    /// Replaces an object.
    ///
    /// # Errors
    /// The request failed.
    pub async fn update<B: Serialize + ?Sized>(
        &self,
        namespace: &str,
        name: &str,
        object: &B,
        params: &WriteParams,
    ) -> Result<T, ClientError> {
        self.update_sub(namespace, name, "", object, params).await
    }

    /// Replaces a subresource (status, scale, finalize).
    ///
    /// # Errors
    /// The request failed.
    pub async fn update_sub<B: Serialize + ?Sized, R: Decoded>(
        &self,
        namespace: &str,
        name: &str,
        subresource: &str,
        object: &B,
        params: &WriteParams,
    ) -> Result<R, ClientError> {
        self.write(
            Method::PUT,
            JSON,
            self.path(namespace, name, subresource),
            object,
            params,
        )
        .await
    }

    /// Patches an object.
    ///
    /// # Errors
    /// The request failed.
    pub async fn patch(
        &self,
        namespace: &str,
        name: &str,
        kind: PatchKind,
        patch: &Value,
        params: &WriteParams,
    ) -> Result<T, ClientError> {
        self.patch_sub(namespace, name, "", kind, patch, params).await
    }

    /// Patches a subresource.
    ///
    /// # Errors
    /// The request failed.
    pub async fn patch_sub(
        &self,
        namespace: &str,
        name: &str,
        subresource: &str,
        kind: PatchKind,
        patch: &Value,
        params: &WriteParams,
    ) -> Result<T, ClientError> {
        let path = self.path(namespace, name, subresource);
        self.write(Method::PATCH, Some(kind.content_type()), path, patch, params)
            .await
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// The request failed; 409 when a precondition does not hold.
    pub async fn delete(&self, namespace: &str, name: &str, params: &DeleteParams) -> Result<Deleted<T>, ClientError> {
        let path = self.path(namespace, name, "");
        let request = build(Method::DELETE, &path, JSON, encode("DeleteOptions", params)?)?;
        let body = self.client.request_bytes(request).await?;
        let decode = |source| ClientError::Decode {
            what: format!("the answer of deleting {path}"),
            source,
        };
        let head: Head = serde_json::from_slice(&body).map_err(decode)?;
        if head.kind == "Status" {
            return Ok(Deleted::Status(Box::new(
                serde_json::from_slice(&body).map_err(decode)?,
            )));
        }
        Ok(Deleted::Object(Box::new(T::from_json(&body).map_err(decode)?)))
    }

    /// Deletes all that is selected.
    ///
    /// # Errors
    /// The request failed.
    pub async fn delete_collection(
        &self,
        namespace: &str,
        params: &DeleteParams,
        selected: &ListParams,
    ) -> Result<(), ClientError> {
        let mut query = Query::default();
        selected.query(&mut query);
        let path = query.finish(self.path(namespace, "", ""));
        let request = build(Method::DELETE, &path, JSON, encode("DeleteOptions", params)?)?;
        self.client.request_bytes(request).await.map(drop)
    }

    async fn write<B: Serialize + ?Sized, R: Decoded>(
        &self,
        method: Method,
        content_type: Option<&'static str>,
        path: String,
        body: &B,
        params: &WriteParams,
    ) -> Result<R, ClientError> {
        let mut query = Query::default();
        params.query(&mut query);
        let path = query.finish(path);
        let request = build(method, &path, content_type, encode(&self.resource.resource, body)?)?;
        let body = self.client.request_bytes(request).await?;
        R::from_json(&body).map_err(|source| answer(&path, source))
    }

    fn read(&self, mut request: Request<Bytes>, metadata: &'static str) -> Request<Bytes> {
        if self.metadata_only {
            request.headers_mut().insert(ACCEPT, HeaderValue::from_static(metadata));
        }
        request
    }
}

fn list<T: Decoded>(json: &[u8]) -> Result<List<T>, serde_json::Error> {
    let page: Page = serde_json::from_slice(json)?;
    let items = page.items.unwrap_or_default();
    let items = items.iter().map(|item| T::from_json(item.get().as_bytes()));
    Ok(List {
        metadata: page.metadata,
        items: items.collect::<Result<_, _>>()?,
    })
}

fn answer(path: &str, source: serde_json::Error) -> ClientError {
    ClientError::Decode {
        what: format!("the answer of {path}"),
        source,
    }
}

#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    kind: String,
}
