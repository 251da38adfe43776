use std::sync::Arc;
use crate::context::Context;
pub(crate) async fn serve(_ctx: Arc<Context>, _listener: tokio::net::TcpListener) {}
