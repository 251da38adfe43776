//! The client: requests over a transport, and typed shorthands.

use std::sync::Arc;
use std::time::Duration;

use api::{Gvr, Status, Value};
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use typed::Decoded;

use crate::handle::{Deleted, Handle, List, Object};
use crate::{
    Body, ClientError, Config, DeleteParams, HttpsTransport, ListParams, PatchKind, Transport, Upgraded, WatchParams,
    WatchStream, WriteParams,
};

/// Requests that the server asked to be sent again are, this often (as client-go).
const MAX_ATTEMPTS: u32 = 10;

/// A client of one API server with one identity. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    transport: Arc<dyn Transport>,
    headers: Arc<HeaderMap>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("headers", &self.headers)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client over any transport; the identity is the transport's.
    pub fn in_process(transport: Arc<dyn Transport>) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("skiff/", env!("CARGO_PKG_VERSION"))),
        );
        Self {
            transport,
            headers: Arc::new(headers),
        }
    }

    /// A client over HTTPS.
    ///
    /// # Errors
    /// The configuration's certificates or addresses are unusable.
    pub fn https(config: Config) -> Result<Self, ClientError> {
        Ok(Self::in_process(Arc::new(HttpsTransport::new(config)?)))
    }

    /// A client for the current context of a kubeconfig file.
    ///
    /// # Errors
    /// The file cannot be read or does not describe a usable connection.
    pub fn from_kubeconfig(path: impl AsRef<std::path::Path>) -> Result<Self, ClientError> {
        let kubeconfig = crate::Kubeconfig::read(path.as_ref()).map_err(crate::ConfigError::from)?;
        Self::https(
            kubeconfig
                .config(&crate::Overrides::default())
                .map_err(crate::ConfigError::from)?,
        )
    }

    /// The same client, sending another header with every request (user agent, impersonation).
    pub fn with_header(&self, name: http::HeaderName, value: HeaderValue) -> Self {
        let mut headers = (*self.headers).clone();
        headers.insert(name, value);
        Self {
            transport: self.transport.clone(),
            headers: Arc::new(headers),
        }
    }

    /// The same client with this user agent.
    pub fn with_user_agent(&self, agent: &str) -> Self {
        match HeaderValue::from_str(agent) {
            Ok(value) => self.with_header(USER_AGENT, value),
            Err(_) => self.clone(),
        }
    }

    /// Requests about objects of a typed kind.
    pub fn of<K: Object>(&self) -> Handle<K> {
        Handle::typed(self.clone())
    }

    /// Requests about objects of any resource, as JSON.
    pub fn dynamic(&self, resource: &Gvr) -> Handle<Value> {
        Handle::new(self.clone(), resource.clone())
    }

    /// Requests about objects of any resource, of which only what `T` names is decoded.
    pub fn resource<T: Decoded>(&self, resource: &Gvr) -> Handle<T> {
        Handle::new(self.clone(), resource.clone())
    }

    /// Sends a request as it is (headers are added), without looking at the response.
    ///
    /// # Errors
    /// No response arrived.
    pub async fn send(&self, mut request: Request<Bytes>) -> Result<Response<Body>, ClientError> {
        self.add_headers(request.headers_mut());
        let mut attempt = 1;
        loop {
            let response = self.transport.call(request.clone()).await?;
            match retry_after(&response) {
                Some(wait) if attempt < MAX_ATTEMPTS => tokio::time::sleep(wait).await,
                _ => return Ok(response),
            }
            attempt += 1;
        }
    }

    /// Sends a request; an HTTP error becomes [`ClientError::Api`].
    ///
    /// # Errors
    /// No response, or one that is not a success.
    pub async fn request(&self, request: Request<Bytes>) -> Result<Response<Body>, ClientError> {
        let (path, method) = (request.uri().path().to_owned(), request.method().clone());
        let response = self.send(request).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let code = response.status();
        let body = read_body(response, &path).await?;
        Err(failure(code, &method, &body).into())
    }

    /// Sends a request and reads the whole response.
    ///
    /// # Errors
    /// As [`Client::request`], or the body ended early.
    pub async fn request_bytes(&self, request: Request<Bytes>) -> Result<Bytes, ClientError> {
        let path = request.uri().path().to_owned();
        read_body(self.request(request).await?, &path).await
    }

    /// Sends a request and decodes its JSON response.
    ///
    /// # Errors
    /// As [`Client::request_bytes`], or the body is not of that type.
    pub async fn request_json<T: DeserializeOwned>(&self, request: Request<Bytes>) -> Result<T, ClientError> {
        let path = request.uri().path().to_owned();
        let body = self.request_bytes(request).await?;
        serde_json::from_slice(&body).map_err(|source| ClientError::Decode {
            what: format!("the answer of {path}"),
            source,
        })
    }

    /// GETs a path and decodes its JSON response.
    ///
    /// # Errors
    /// As [`Client::request_json`].
    pub async fn get_json<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.request_json(build(Method::GET, path, None, Bytes::new())?).await
    }

    /// GETs a path and answers with its text.
    ///
    /// # Errors
    /// As [`Client::request_bytes`].
    pub async fn get_text(&self, path: &str) -> Result<String, ClientError> {
        let mut request = build(Method::GET, path, None, Bytes::new())?;
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("*/*"));
        Ok(String::from_utf8_lossy(&self.request_bytes(request).await?).into_owned())
    }

    /// Opens an upgraded connection (exec, attach, port-forward). The request carries the
    /// `Upgrade` and protocol headers; the answer is the 101 response's head and the stream.
    ///
    /// # Errors
    /// The transport has no upgrades, or the server refused.
    pub async fn upgrade(&self, mut request: Request<Bytes>) -> Result<(Response<()>, Upgraded), ClientError> {
        self.add_headers(request.headers_mut());
        self.transport.upgrade(request).await
    }

    /// Reads one object. `namespace` is empty for cluster-scoped kinds.
    ///
    /// # Errors
    /// Not found, or the request failed.
    pub async fn get<K: Object>(&self, namespace: &str, name: &str) -> Result<K, ClientError> {
        self.of::<K>().get(namespace, name).await
    }

    /// Lists one page of objects. An empty `namespace` is all of them.
    ///
    /// # Errors
    /// The request failed.
    pub async fn list<K: Object>(&self, namespace: &str, params: &ListParams) -> Result<List<K>, ClientError> {
        self.of::<K>().list(namespace, params).await
    }

    /// Creates an object.
    ///
    /// # Errors
    /// The request failed.
    pub async fn create<K: Object>(&self, namespace: &str, object: &K, params: &WriteParams) -> Result<K, ClientError> {
        self.of::<K>().create(namespace, object, params).await
    }

    /// Replaces an object.
    ///
    /// # Errors
    /// The request failed.
    pub async fn update<K: Object>(
        &self,
        namespace: &str,
        name: &str,
        object: &K,
        params: &WriteParams,
    ) -> Result<K, ClientError> {
        self.of::<K>().update(namespace, name, object, params).await
    }

    /// Patches an object.
    ///
    /// # Errors
    /// The request failed.
    pub async fn patch<K: Object>(
        &self,
        namespace: &str,
        name: &str,
        kind: PatchKind,
        patch: &Value,
        params: &WriteParams,
    ) -> Result<K, ClientError> {
        self.of::<K>().patch(namespace, name, kind, patch, params).await
    }

    /// Patches the status subresource.
    ///
    /// # Errors
    /// The request failed.
    pub async fn patch_status<K: Object>(
        &self,
        namespace: &str,
        name: &str,
        kind: PatchKind,
        patch: &Value,
        params: &WriteParams,
    ) -> Result<K, ClientError> {
        self.of::<K>()
            .patch_sub(namespace, name, "status", kind, patch, params)
            .await
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// The request failed.
    pub async fn delete<K: Object>(
        &self,
        namespace: &str,
        name: &str,
        params: &DeleteParams,
    ) -> Result<Deleted<K>, ClientError> {
        self.of::<K>().delete(namespace, name, params).await
    }

    /// Watches objects. An empty `namespace` is all of them.
    ///
    /// # Errors
    /// The watch could not be started.
    pub async fn watch<K: Object>(&self, namespace: &str, params: &WatchParams) -> Result<WatchStream<K>, ClientError> {
        self.of::<K>().watch(namespace, params).await
    }

    fn add_headers(&self, headers: &mut HeaderMap) {
        for (name, value) in self.headers.iter() {
            if !headers.contains_key(name) {
                headers.insert(name.clone(), value.clone());
            }
        }
    }
}

/// A request with an optional JSON (or patch) body.
pub(crate) fn build(
    method: Method,
    path: &str,
    content_type: Option<&'static str>,
    body: Bytes,
) -> Result<Request<Bytes>, ClientError> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(ACCEPT, "application/json");
    if let Some(content_type) = content_type {
        request = request.header(CONTENT_TYPE, content_type);
    }
    request.body(body).map_err(|source| ClientError::BuildRequest {
        path: path.to_owned(),
        source,
    })
}

pub(crate) fn encode<T: Serialize + ?Sized>(what: &str, value: &T) -> Result<Bytes, ClientError> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|source| ClientError::Encode {
            what: what.to_owned(),
            source,
        })
}

pub(crate) async fn read_body(response: Response<Body>, path: &str) -> Result<Bytes, ClientError> {
    match response.into_body().collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(source) => Err(ClientError::ReadBody {
            path: path.to_owned(),
            source,
        }),
    }
}

/// The Status of a failed response; a body that is none becomes the message, as client-go does.
pub(crate) fn failure(code: http::StatusCode, method: &Method, body: &[u8]) -> Status {
    match serde_json::from_slice::<Status>(body) {
        Ok(status) if status.kind == "Status" && status.code != 0 => status,
        _ => Status::from_http(code.as_u16(), method.as_str(), &String::from_utf8_lossy(body)),
    }
}

fn retry_after(response: &Response<Body>) -> Option<Duration> {
    let code = response.status().as_u16();
    if code != 429 && code < 500 {
        return None;
    }
    let seconds: u64 = response.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds.min(60)))
}
