//! The seam between a client and whatever answers it.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::ClientError;

/// A future that owns nothing but what its signature says.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Any error a body may end with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A streaming response body.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// A byte stream in both directions: what an upgraded connection is.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// An upgraded connection.
pub type Upgraded = Box<dyn Io>;

/// Carries requests to an API server.
///
/// Assumptions: the request's URI is a path and query below the server's base; the transport adds
/// scheme, authority, base path and credentials. Caveat: a response's body is streamed, so dropping
/// it ends the request.
pub trait Transport: Send + Sync + 'static {
    /// Sends one request. An `Err` means that no response arrived; an HTTP error status is `Ok`.
    fn call(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Body>, ClientError>>;

    /// Sends an HTTP/1.1 Upgrade request; answers with the 101 response's head and the stream, or
    /// with the server's refusal as an error.
    fn upgrade(
        &self,
        request: http::Request<Bytes>,
    ) -> BoxFuture<'_, Result<(http::Response<()>, Upgraded), ClientError>> {
        let path = request.uri().path().to_owned();
        Box::pin(async move { Err(ClientError::UpgradeUnsupported { path }) })
    }
}

/// A body of the given bytes, for transports and tests.
pub fn full_body(bytes: impl Into<Bytes>) -> Body {
    http_body_util::Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}
