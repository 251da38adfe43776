//! The server's life.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, RwLock};

use dnszone::{Zone, ZoneConfig};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::info;

use crate::forward::{Forwarder, Upstream};
use crate::respond::Responder;
use crate::source::{ZoneSource, keep};
use crate::{tcp, udp};

const TCP_BACKLOG: i32 = 128;

/// What a server needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// Addresses to serve, by UDP and TCP. They need not be on an interface yet. With port 0 a free
    /// port is chosen, the same for both.
    pub listen: Vec<SocketAddr>,
    /// Where names outside the cluster are asked.
    pub upstream: Upstream,
    /// The cluster's zone.
    pub zone: ZoneConfig,
}

impl ServerConfig {
    /// The cluster DNS address, port 53, with the host's resolvers.
    pub fn new(address: IpAddr, domain: &str) -> Self {
        let mut zone = ZoneConfig::new(domain);
        zone.server_addresses = vec![address];
        ServerConfig {
            listen: vec![SocketAddr::new(address, 53)],
            upstream: Upstream::ResolvConf(PathBuf::from("/etc/resolv.conf")),
            zone,
        }
    }
}

/// Why a server could not start.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// An address could not be bound.
    #[error(
        "cannot serve DNS on {address} ({transport}); is another DNS server listening there, or is \
         the port privileged?"
    )]
    Bind {
        /// The address.
        address: SocketAddr,
        /// UDP or TCP.
        transport: &'static str,
        /// The reason.
        #[source]
        source: io::Error,
    },
}

/// A running server. Dropping it stops it without waiting; see [`shutdown`](Self::shutdown).
#[derive(Debug)]
pub struct Server {
    addresses: Vec<SocketAddr>,
    synced: watch::Receiver<bool>,
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Server {
    /// Binds the addresses and starts answering; cluster names once `source` has said
    /// [`Synced`](crate::ZoneEvent::Synced). Must be called inside a tokio runtime.
    pub fn start(cfg: ServerConfig, source: ZoneSource) -> Result<Self, DnsError> {
        let mut sockets = Vec::new();
        for address in &cfg.listen {
            sockets.push(bind(*address)?);
        }
        let addresses: Vec<SocketAddr> = sockets.iter().map(|bound| bound.address).collect();
        let own = addresses.iter().map(SocketAddr::ip).collect();
        let forwarder = Arc::new(Forwarder::new(cfg.upstream, own));
        let zone = Arc::new(RwLock::new(Zone::new(cfg.zone)));
        let (filled, synced) = watch::channel(false);
        let responder = Arc::new(Responder::new(Arc::clone(&zone), synced.clone(), forwarder));
        let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
        tracker.spawn(keep(zone, source, filled, stop.clone()));
        for bound in sockets {
            let parts = || (Arc::clone(&responder), tracker.clone(), stop.clone());
            let (to, tasks, until) = parts();
            tracker.spawn(udp::serve(Arc::new(bound.udp), to, tasks, until));
            let (to, tasks, until) = parts();
            tracker.spawn(tcp::serve(bound.tcp, to, tasks, until));
        }
        info!(?addresses, "DNS server listening");
        Ok(Server {
            addresses,
            synced,
            tracker,
            stop,
        })
    }

    /// The addresses served.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Resolves when cluster names are answered; `false` if the source ended before.
    pub async fn ready(&self) -> bool {
        self.synced.clone().wait_for(|synced| *synced).await.is_ok()
    }

    /// Stops and waits for all tasks; queries under way are dropped.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Bound {
    address: SocketAddr,
    udp: UdpSocket,
    tcp: TcpListener,
}

fn bind(address: SocketAddr) -> Result<Bound, DnsError> {
    let failed = |transport| {
        move |source| DnsError::Bind {
            address,
            transport,
            source,
        }
    };
    // TCP first: it finds a free port that is then likely to be free for UDP as well.
    let tcp = socket(address, Type::STREAM, Protocol::TCP).map_err(failed("TCP"))?;
    let listening = tcp.listen(TCP_BACKLOG).and_then(|()| TcpListener::from_std(tcp.into()));
    let tcp = listening.map_err(failed("TCP"))?;
    let address = tcp.local_addr().map_err(failed("TCP"))?;
    let udp = socket(address, Type::DGRAM, Protocol::UDP).map_err(failed("UDP"))?;
    let udp = UdpSocket::from_std(udp.into()).map_err(failed("UDP"))?;
    Ok(Bound { address, udp, tcp })
}

/// A bound socket that does not mind if its address comes to an interface later.
fn socket(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    if kind == Type::STREAM {
        socket.set_reuse_address(true)?;
    }
    match address {
        SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
        SocketAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.set_freebind_v6(true)?;
        }
    }
    socket.bind(&address.into())?;
    Ok(socket)
}
