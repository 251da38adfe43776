//! Components in this process call the API server without a socket, as their own user.

use std::sync::Arc;

use apiserver::{ApiServer, Peer, UserInfo};
use bytes::Bytes;
use client::{Body, BoxFuture, Client, ClientError, Transport};
use http::{Request, Response};

struct InProcess {
    server: ApiServer,
    user: UserInfo,
}

impl Transport for InProcess {
    fn call(&self, request: Request<Bytes>) -> BoxFuture<'_, Result<Response<Body>, ClientError>> {
        let peer = Peer { address: None, user: Some(self.user.clone()) };
        Box::pin(async move { Ok(self.server.handle(request.map(apiserver::body::full), peer).await) })
    }
}

/// A client that calls `server` as `user`.
pub fn client(server: &ApiServer, user: UserInfo) -> Client {
    let agent = format!("skiff/{} ({})", env!("CARGO_PKG_VERSION"), user.name);
    Client::in_process(Arc::new(InProcess { server: server.clone(), user })).with_user_agent(&agent)
}
