//! Queries by TCP.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::packet::Transport;
use crate::respond::{Responder, Step};

const MAX_CONNECTIONS: usize = 256;
/// A connection without a whole query for so long is closed.
const IDLE: Duration = Duration::from_secs(10);
/// After a failed accept (no file descriptors left): time for some to be closed.
const BREATHER: Duration = Duration::from_millis(100);

/// Answers until `stop`.
pub(crate) async fn serve(
    listener: TcpListener,
    responder: Arc<Responder>,
    tracker: TaskTracker,
    stop: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                debug!(error = %error, "accepting a DNS connection failed");
                tokio::time::sleep(BREATHER).await;
                continue;
            }
        };
        // Without a place the connection is closed at once; clients try again.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            continue;
        };
        let (responder, stop) = (Arc::clone(&responder), stop.clone());
        tracker.spawn(async move {
            let served = stop.run_until_cancelled(connection(stream, &responder)).await;
            if let Some(Err(error)) = served {
                debug!(error = %error, "a DNS connection ended");
            }
            drop(place);
        });
    }
}

async fn connection(mut stream: TcpStream, responder: &Responder) -> io::Result<()> {
    loop {
        let packet = timeout(IDLE, read(&mut stream)).await??;
        let bytes = match responder.step(&packet, Transport::Tcp) {
            Step::Ignore => return Ok(()),
            Step::Reply(bytes) => bytes,
            Step::Forward(forward) => responder.finish(*forward).await,
        };
        let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend_from_slice(&bytes);
        timeout(IDLE, stream.write_all(&framed)).await??;
    }
}

async fn read(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut packet = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut packet).await?;
    Ok(packet)
}
