//! SPDY/3.1 as Kubernetes uses it (moby/spdystream): streams opened by the client, headers
//! compressed with one shared dictionary, no flow control windows in practice.

mod frame;
mod headers;
mod session;

pub(crate) use session::{Role, Session, start};
