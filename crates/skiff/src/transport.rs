//! Components in this process call the API server without a socket, as their own user.

use std::sync::Arc;

use apiserver::{ApiServer, InProcess, UserInfo};
use bytes::Bytes;
use client::{Body, BoxFuture, Client, ClientError, Transport};
use http::{Request, Response};

struct Adapter(InProcess);

impl Transport for Adapter {
    fn call(&self, request: Request<Bytes>) -> BoxFuture<'_, Result<Response<Body>, ClientError>> {
        let server = self.0.clone();
        Box::pin(async move { Ok(server.call(request).await) })
    }
}

/// A client that calls `server` as `user`.
pub fn client(server: &ApiServer, user: UserInfo) -> Client {
    let agent = format!("skiff/{} ({})", env!("CARGO_PKG_VERSION"), user.name);
    Client::in_process(Arc::new(Adapter(server.in_process(user)))).with_user_agent(&agent)
}
