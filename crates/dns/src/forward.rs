//! Asking the host's resolvers.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, Query, ResponseCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tracing::debug;

use crate::cache::{Cache, Key};
use crate::packet::{OWN_PAYLOAD, Response};
use crate::resolv_conf::ResolvConf;

/// Wait for one server. Clients wait five seconds in all.
const ATTEMPT: Duration = Duration::from_millis(1_800);
const ATTEMPTS: usize = 3;
/// Queries being forwarded at once; more are refused at once rather than queued.
const IN_FLIGHT: usize = 1024;

/// Where names outside the cluster are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upstream {
    /// The `nameserver`s of this resolv.conf, as it is at the time.
    ResolvConf(PathBuf),
    /// These servers.
    Servers(Vec<SocketAddr>),
}

#[derive(Debug)]
enum Servers {
    File(ResolvConf),
    Fixed(Vec<SocketAddr>),
}

/// How a client wants its answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wishes {
    pub dnssec_ok: bool,
    pub checking_disabled: bool,
}

/// Forwards queries, with a cache. The mutexes are std's: held for look-ups, never across an await.
pub(crate) struct Forwarder {
    servers: Mutex<Servers>,
    cache: Mutex<Cache>,
    slots: Semaphore,
    /// The server that answered last, so that a dead first one does not slow every query.
    preferred: AtomicUsize,
}

impl Forwarder {
    /// `own`: addresses of this server, which are never asked.
    pub fn new(upstream: Upstream, own: Vec<IpAddr>) -> Self {
        let servers = match upstream {
            Upstream::ResolvConf(path) => Servers::File(ResolvConf::new(path, own)),
            Upstream::Servers(servers) => Servers::Fixed(servers),
        };
        Forwarder {
            servers: Mutex::new(servers),
            cache: Mutex::default(),
            slots: Semaphore::new(IN_FLIGHT),
            preferred: AtomicUsize::new(0),
        }
    }

    /// An answer that needs no packet.
    pub fn cached(&self, query: &Query, wishes: Wishes) -> Option<Response> {
        let key = Key::of(query, wishes.dnssec_ok, wishes.checking_disabled);
        self.cache
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .get(&key, Instant::now())
    }

    /// The answer of an upstream server; SERVFAIL if none gives one.
    pub async fn ask(&self, query: &Query, wishes: Wishes) -> Response {
        if let Some(response) = self.cached(query, wishes) {
            return response;
        }
        let Ok(_slot) = self.slots.try_acquire() else {
            debug!("too many queries are being forwarded");
            return Response::of(ResponseCode::ServFail);
        };
        let servers = self.current_servers();
        let first = self.preferred.load(Ordering::Relaxed);
        let mut last = Response::of(ResponseCode::ServFail);
        for attempt in 0..ATTEMPTS {
            let Some(count) = Some(servers.len()).filter(|count| *count > 0) else {
                break;
            };
            let index = first.wrapping_add(attempt) % count;
            let server = servers[index];
            let asked = timeout(ATTEMPT, exchange(server, query, wishes)).await;
            match asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(message) => {
                    let response = response_of(message);
                    if matches!(response.code, ResponseCode::NoError | ResponseCode::NXDomain) {
                        self.preferred.store(index, Ordering::Relaxed);
                        self.keep(query, wishes, &response);
                        return response;
                    }
                    last = response;
                }
                Err(error) => debug!(%server, error = %error, "upstream resolver did not answer"),
            }
        }
        last
    }

    fn current_servers(&self) -> Vec<SocketAddr> {
        match &mut *self.servers.lock().unwrap_or_else(|e| e.into_inner()) {
            Servers::File(file) => file.servers(Instant::now()).to_vec(),
            Servers::Fixed(servers) => servers.clone(),
        }
    }

    fn keep(&self, query: &Query, wishes: Wishes, response: &Response) {
        let key = Key::of(query, wishes.dnssec_ok, wishes.checking_disabled);
        let mut cache = self.cache.lock().unwrap_or_else(|e| e.into_inner());
        cache.put(key, response.clone(), Instant::now());
    }
}

fn response_of(message: Message) -> Response {
    Response {
        code: message.metadata.response_code,
        authoritative: false,
        authentic: message.metadata.authentic_data,
        answers: message.answers,
        authorities: message.authorities,
        additionals: message.additionals,
    }
}

/// One query by UDP, again by TCP if the answer did not fit.
async fn exchange(server: SocketAddr, query: &Query, wishes: Wishes) -> io::Result<Message> {
    // `query()` draws a random id; the kernel draws a random source port.
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.metadata.checking_disabled = wishes.checking_disabled;
    message.add_query(query.clone());
    let mut edns = Edns::new();
    edns.set_max_payload(OWN_PAYLOAD)
        .set_version(0)
        .set_dnssec_ok(wishes.dnssec_ok);
    message.set_edns(edns);
    let bytes = message.to_vec().map_err(io::Error::other)?;
    let answer = by_udp(server, &bytes, &message).await?;
    if answer.metadata.truncation {
        return by_tcp(server, &bytes, &message).await;
    }
    Ok(answer)
}

async fn by_udp(server: SocketAddr, bytes: &[u8], asked: &Message) -> io::Result<Message> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buffer = vec![0; usize::from(OWN_PAYLOAD)];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // What does not answer our question may be forged: the true answer may still come.
        if let Some(message) = Message::from_vec(&buffer[..length]).ok().filter(|m| answers(m, asked)) {
            return Ok(message);
        }
    }
}

async fn by_tcp(server: SocketAddr, bytes: &[u8], asked: &Message) -> io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(bytes);
    stream.write_all(&framed).await?;
    let mut buffer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut buffer).await?;
    let message = Message::from_vec(&buffer).map_err(io::Error::other)?;
    if answers(&message, asked) {
        Ok(message)
    } else {
        Err(io::ErrorKind::InvalidData.into())
    }
}

fn answers(message: &Message, asked: &Message) -> bool {
    let same = |a: &Query, b: &Query| {
        a.name() == b.name() && a.query_type() == b.query_type() && a.query_class() == b.query_class()
    };
    message.metadata.id == asked.metadata.id
        && message.metadata.message_type == MessageType::Response
        && message.queries.len() == 1
        && same(&message.queries[0], &asked.queries[0])
}
