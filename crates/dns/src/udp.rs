//! Queries by UDP.

use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::packet::Transport;
use crate::respond::{Responder, Step};

/// Longer queries are not DNS; they are cut and answered with FORMERR.
const MAX_QUERY: usize = 4096;

/// Answers until `stop`. Queries for upstream run as tasks of `tracker`; their number is bounded by
/// the forwarder.
pub(crate) async fn serve(
    socket: Arc<UdpSocket>,
    responder: Arc<Responder>,
    tracker: TaskTracker,
    stop: CancellationToken,
) {
    let mut buffer = vec![0; MAX_QUERY];
    while let Some(received) = stop.run_until_cancelled(socket.recv_from(&mut buffer)).await {
        let (length, client) = match received {
            Ok(received) => received,
            Err(error) => {
                // Errors of earlier sends (an ICMP message came back) show up here.
                debug!(error = %error, "receiving a DNS query failed");
                tokio::task::yield_now().await;
                continue;
            }
        };
        match responder.step(&buffer[..length], Transport::Udp) {
            Step::Ignore => {}
            Step::Reply(bytes) => send(&socket, &bytes, client),
            Step::Forward(forward) => {
                let (socket, responder) = (Arc::clone(&socket), Arc::clone(&responder));
                let stop = stop.clone();
                tracker.spawn(async move {
                    if let Some(bytes) = stop.run_until_cancelled(responder.finish(*forward)).await {
                        send(&socket, &bytes, client);
                    }
                });
            }
        }
    }
}

/// A response that the kernel has no room for is lost, as any datagram may be: waiting would let a
/// few clients hold up all.
fn send(socket: &UdpSocket, bytes: &[u8], client: std::net::SocketAddr) {
    if !bytes.is_empty()
        && let Err(error) = socket.try_send_to(bytes, client)
    {
        debug!(%client, error = %error, "sending a DNS response failed");
    }
}
