//! A host, pods and an outside machine as network namespaces of this process.
//!
//! The host is the test's own thread. Nothing outlives the process.

use std::collections::BTreeMap;
use std::fs::File;
use std::future::Future;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use futures_util::TryStreamExt;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use net::{HostPort, NetConfig, PodNetwork, ServiceProxy};
use nix::sched::{CloneFlags, unshare};
use proxy::{ProxyConfig, Ruleset};
use rtnetlink::{Handle, LinkUnspec, LinkVeth, RouteMessageBuilder};

pub const NODE_IP: &str = "192.0.2.1";
pub const OUTSIDE_IP: &str = "192.0.2.2";
const WAIT: Duration = Duration::from_secs(3);

/// Runs a test in a network namespace of its own.
pub fn on_a_host<F: Future<Output = ()>>(test: impl FnOnce(World) -> F + Send + 'static) {
    assert!(
        nix::unistd::geteuid().is_root(),
        "network tests must run as root: they make network namespaces"
    );
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("unshare the network namespace");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("runtime");
        runtime.block_on(async move {
            let world = World::new().await;
            // A closure keeps only the fields that it names; the outside machine stays until the end all the same.
            let _outside = world.outside.clone();
            test(world).await;
        });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace with a thread in it.
pub struct Space {
    jobs: Sender<Job>,
    pub path: PathBuf,
    file: File,
}

impl Space {
    pub fn new() -> Self {
        let (jobs, received) = channel::<Job>();
        let (ready, opened) = channel();
        std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("unshare");
            let path = format!("/proc/self/task/{}/ns/net", nix::unistd::gettid());
            let file = File::open(&path).expect("open namespace");
            ready.send(file).expect("test waits");
            while let Ok(job) = received.recv() {
                job();
            }
        });
        let file = opened.recv().expect("namespace");
        let path = PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()));
        Space { jobs, path, file }
    }

    /// Runs something inside.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (answer, done) = channel();
        let job = Box::new(move || {
            let _ = answer.send(work());
        });
        self.jobs.send(job).expect("thread lives");
        done.recv().expect("the work panicked")
    }

    /// Serves TCP and UDP: answers "name client-address".
    pub fn serve(&self, name: &str, port: u16) {
        let name = name.to_owned();
        self.run(move || serve(name, "0.0.0.0", port));
    }

    pub fn ask_tcp(&self, to: &str) -> Answer {
        let to = to.to_owned();
        self.run(move || ask_tcp(&to))
    }
}

/// Serves on an address of this thread's namespace.
pub fn serve(name: String, ip: &str, port: u16) {
    let listener = TcpListener::bind((ip, port)).expect("listen");
    let udp = UdpSocket::bind((ip, port)).expect("bind");
    let reply = move |peer: IpAddr| format!("{name} {peer}");
    let by_tcp = reply.clone();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let Ok(mut client) = client else { continue };
            let Ok(peer) = client.peer_addr() else { continue };
            let _ = client.write_all(by_tcp(peer.ip()).as_bytes());
        }
    });
    std::thread::spawn(move || {
        let mut buffer = [0; 100];
        while let Ok((_, peer)) = udp.recv_from(&mut buffer) {
            let _ = udp.send_to(reply(peer.ip()).as_bytes(), peer);
        }
    });
}

/// What a client saw.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    From { server: String, client: String },
    Refused,
    Nothing(String),
}

impl Answer {
    fn parse(text: &str) -> Answer {
        match text.split_once(' ') {
            Some((server, client)) => Answer::From {
                server: server.into(),
                client: client.into(),
            },
            None => Answer::Nothing(format!("answered {text:?}")),
        }
    }

    #[track_caller]
    pub fn server(&self) -> &str {
        match self {
            Answer::From { server, .. } => server,
            other => panic!("no answer: {other:?}"),
        }
    }

    #[track_caller]
    pub fn client(&self) -> &str {
        match self {
            Answer::From { client, .. } => client,
            other => panic!("no answer: {other:?}"),
        }
    }
}

fn failed(error: &std::io::Error) -> Answer {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => Answer::Refused,
        _ => Answer::Nothing(error.to_string()),
    }
}

pub fn ask_tcp(to: &str) -> Answer {
    let address: SocketAddr = to.parse().expect("address");
    let mut text = String::new();
    let asked = TcpStream::connect_timeout(&address, WAIT).and_then(|mut stream| {
        stream.set_read_timeout(Some(WAIT))?;
        stream.read_to_string(&mut text)
    });
    match asked {
        Ok(_) => Answer::parse(&text),
        Err(error) => failed(&error),
    }
}

/// Asks over one UDP socket.
pub fn ask_udp(socket: &UdpSocket) -> Answer {
    let mut buffer = [0; 200];
    socket.set_read_timeout(Some(WAIT)).expect("timeout");
    match socket.send(b"?").and_then(|_| socket.recv(&mut buffer)) {
        Ok(length) => Answer::parse(&String::from_utf8_lossy(&buffer[..length])),
        Err(error) => failed(&error),
    }
}

pub fn udp_to(to: &str) -> UdpSocket {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("bind");
    socket.connect(to).expect("connect");
    socket
}

/// How often each server answered.
pub fn tally(times: usize, mut ask: impl FnMut() -> Answer) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..times {
        *counts.entry(ask().server().to_owned()).or_insert(0) += 1;
    }
    counts
}

pub struct World {
    pub pods: PodNetwork,
    pub proxy: ServiceProxy,
    _state: tempfile::TempDir,
    pub net: NetConfig,
    pub cfg: ProxyConfig,
    pub outside: Arc<Space>,
}

impl World {
    async fn new() -> Self {
        let (connection, handle, _) = rtnetlink::new_connection().expect("rtnetlink");
        tokio::spawn(connection);
        // A new namespace takes over the machine's settings, which are not ours to know.
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").expect("sysctl");
        let outside = Space::new();
        uplink(&handle, &outside).await;
        let state = tempfile::tempdir().expect("tempdir");
        let pod_cidr = "10.244.0.0/24".parse().expect("range");
        let net = NetConfig::new(pod_cidr, state.path().join("net"));
        let pods = PodNetwork::open(net.clone()).await.expect("open the pod network");
        let proxy = ServiceProxy::start("test-proxy").expect("start the proxy");
        let mut cfg = ProxyConfig::new("n1");
        cfg.node_ips = vec![NODE_IP.parse().expect("ip")];
        cfg.cluster_cidrs = vec!["10.244.0.0/16".parse().expect("range")];
        cfg.service_cidrs = vec!["10.96.0.0/12".parse().expect("range")];
        cfg.local_addresses = vec!["10.96.0.10".parse().expect("ip")];
        World {
            pods,
            proxy,
            _state: state,
            net,
            cfg,
            outside: Arc::new(outside),
        }
    }

    /// A connected pod that serves on port 8080.
    pub async fn pod(&self, name: &str) -> (Space, Ipv4Addr) {
        self.pod_with_ports(name, &[]).await
    }

    pub async fn pod_with_ports(&self, name: &str, ports: &[HostPort]) -> (Space, Ipv4Addr) {
        let space = Space::new();
        let address = self.pods.setup(name, &space.path, ports).await.expect("set the pod up");
        space.serve(name, 8080);
        (space, address)
    }

    pub fn ruleset(&self, services: &[Arc<Service>], slices: &[Arc<EndpointSlice>]) -> Arc<Ruleset> {
        Arc::new(proxy::ruleset(services, slices, &self.cfg))
    }

    pub async fn apply(&self, services: &[Arc<Service>], slices: &[Arc<EndpointSlice>]) -> net::UdpCleanup {
        self.proxy
            .apply(self.ruleset(services, slices))
            .await
            .expect("apply the rules")
    }
}

/// Connects the outside machine: 192.0.2.2 there, 192.0.2.1 here, default routes to each other.
async fn uplink(handle: &Handle, outside: &Space) {
    let lo = index(handle, "lo").await;
    up(handle, lo).await;
    let pair = LinkVeth::new("uplink", "far0").build();
    handle.link().add(pair).execute().await.expect("veth");
    let far = index(handle, "far0").await;
    let moved = LinkUnspec::new_with_index(far)
        .setns_by_fd(outside.file.as_raw_fd())
        .build();
    handle.link().set(moved).execute().await.expect("move");
    let near = index(handle, "uplink").await;
    configure(handle, near, NODE_IP, OUTSIDE_IP).await;
    outside.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("runtime");
        runtime.block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection().expect("rtnetlink");
            tokio::spawn(connection);
            let far = index(&handle, "far0").await;
            configure(&handle, far, OUTSIDE_IP, NODE_IP).await;
        });
    });
}

async fn configure(handle: &Handle, index: u32, own: &str, gateway: &str) {
    handle
        .address()
        .add(index, own.parse().expect("ip"), 24)
        .execute()
        .await
        .expect("address");
    up(handle, index).await;
    let gateway: Ipv4Addr = gateway.parse().expect("ip");
    let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).build();
    handle.route().add(route).execute().await.expect("route");
}

async fn up(handle: &Handle, index: u32) {
    handle
        .link()
        .set(LinkUnspec::new_with_index(index).up().build())
        .execute()
        .await
        .expect("up");
}

async fn index(handle: &Handle, name: &str) -> u32 {
    let link = handle
        .link()
        .get()
        .match_name(name)
        .execute()
        .try_next()
        .await
        .expect("link");
    link.expect("link").header.index
}

/// Names of the links of this thread's namespace.
pub async fn links() -> Vec<String> {
    let (connection, handle, _) = rtnetlink::new_connection().expect("rtnetlink");
    tokio::spawn(connection);
    let links: Vec<_> = handle.link().get().execute().try_collect().await.expect("links");
    let mut names: Vec<String> = links
        .into_iter()
        .flat_map(|link| link.attributes)
        .filter_map(|attribute| match attribute {
            rtnetlink::packet_route::link::LinkAttribute::IfName(name) => Some(name),
            _ => None,
        })
        .collect();
    names.sort();
    names
}

/// A service with a TCP and a UDP port 80, both named.
pub fn service(name: &str, cluster_ip: &str, edit: impl FnOnce(&mut ServiceSpec)) -> Arc<Service> {
    let port = |protocol: &str| ServicePort {
        name: Some(protocol.to_lowercase()),
        port: 80,
        protocol: Some(protocol.to_owned()),
        ..ServicePort::default()
    };
    let mut spec = ServiceSpec {
        cluster_ip: Some(cluster_ip.to_owned()),
        cluster_ips: Some(vec![cluster_ip.to_owned()]),
        ports: Some(vec![port("TCP"), port("UDP")]),
        ..ServiceSpec::default()
    };
    edit(&mut spec);
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some("default".to_owned()),
        ..ObjectMeta::default()
    };
    Arc::new(Service {
        metadata,
        spec: Some(spec),
        status: None,
    })
}

/// The slice of a service: endpoints on port 8080 of this node.
pub fn slice(service: &str, addresses: &[Ipv4Addr]) -> Arc<EndpointSlice> {
    let port = |protocol: &str| EndpointPort {
        name: Some(protocol.to_lowercase()),
        port: Some(8080),
        protocol: Some(protocol.to_owned()),
        ..EndpointPort::default()
    };
    let endpoint = |address: &Ipv4Addr| Endpoint {
        addresses: vec![address.to_string()],
        node_name: Some("n1".to_owned()),
        ..Endpoint::default()
    };
    let labels = [("kubernetes.io/service-name".to_owned(), service.to_owned())];
    Arc::new(EndpointSlice {
        address_type: "IPv4".to_owned(),
        endpoints: Some(addresses.iter().map(endpoint).collect()),
        metadata: ObjectMeta {
            name: Some(format!("{service}-1")),
            namespace: Some("default".to_owned()),
            labels: Some(labels.into()),
            ..ObjectMeta::default()
        },
        ports: Some(vec![port("TCP"), port("UDP")]),
    })
}
