//! The server: from a request to an answer.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use api::Status;
use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use jiff::Timestamp;
use store::Store;
use tokio_util::sync::CancellationToken;

use crate::admission::Pipeline;
use crate::allocate::{Pool, Pools};
use crate::body::Body;
use crate::call::{Call, Warnings};
use crate::kind::Kind;
use crate::negotiate;
use crate::request::{Query, RequestInfo};
use crate::resource::Registry;
use crate::respond::{self, Answer};
use crate::route;
use crate::state::State;
use crate::user::UserInfo;

/// The longest body that is read.
const BODY_LIMIT_BYTES: usize = 3 * 1024 * 1024;
/// How long an ordinary request may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// What a server is made of.
pub struct Config {
    /// Every kind that is served.
    pub kinds: Vec<Kind>,
    /// Where objects are kept.
    pub store: Store,
    /// Pools of unique values, by the names that kinds use.
    pub pools: Vec<Pool>,
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// The address, unless it is this process.
    pub address: Option<SocketAddr>,
    /// The identity of a component in this process, which needs no credentials.
    pub user: Option<UserInfo>,
}

/// The API server; cheap to clone.
#[derive(Clone)]
pub struct ApiServer {
    state: Arc<State>,
}

impl ApiServer {
    /// Makes a server and starts its caches. Must be called inside a tokio runtime.
    pub fn new(config: Config) -> ApiServer {
        let registry = Registry::new(config.kinds, &config.store);
        ApiServer {
            state: Arc::new(State {
                pools: Pools::new(config.pools, &config.store),
                registry: ArcSwap::from_pointee(registry),
                store: config.store,
                admission: Pipeline::built_in(),
                shutdown: CancellationToken::new(),
            }),
        }
    }

    /// Answers one request.
    pub async fn handle(&self, request: Request<Body>, peer: Peer) -> Response<Body> {
        let query = Query::parse(request.uri().query().unwrap_or(""));
        let info = RequestInfo::parse(request.method(), request.uri().path(), &query);
        let output = negotiate::output_or_json(request.headers(), &query);
        let long_running = info.is_long_running();
        let work = AssertUnwindSafe(self.answer(request, peer, info, query)).catch_unwind();
        let answered = if long_running {
            work.await
        } else {
            match tokio::time::timeout(DEADLINE, work).await {
                Ok(answered) => answered,
                Err(_) => {
                    let status =
                        Status::timeout("request did not complete within the allotted timeout", 0);
                    return respond::status(&status, output);
                }
            }
        };
        answered.unwrap_or_else(|_| {
            let status = Status::internal("the server met an unexpected condition");
            respond::status(&status, output)
        })
    }

    async fn answer(
        &self,
        request: Request<Body>,
        peer: Peer,
        info: RequestInfo,
        query: Query,
    ) -> Answer {
        let output = negotiate::output_or_json(request.headers(), &query);
        let (parts, body) = request.into_parts();
        let user = peer.user.unwrap_or_else(UserInfo::anonymous);
        let call = Call {
            info,
            method: parts.method.clone(),
            query,
            headers: parts.headers.clone(),
            user,
            now: Timestamp::now(),
            warnings: Warnings::default(),
        };
        let result = route::dispatch(&self.state, &call, body).await;
        let mut answer = result.unwrap_or_else(|status| respond::status(&status, output));
        call.warnings.write(answer.headers_mut());
        answer
    }
}

/// Reads a body up to the limit.
///
/// # Errors
/// 413 if it is longer, 400 if it breaks off.
pub(crate) async fn read_body(body: Body) -> Result<Bytes, Status> {
    match Limited::new(body, BODY_LIMIT_BYTES).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(Status::request_entity_too_large(format!("limit is {BODY_LIMIT_BYTES}")))
        }
        Err(error) => Err(Status::bad_request(format!("cannot read the body: {error}"))),
    }
}
