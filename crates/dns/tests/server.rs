//! A server on loopback between a client and upstream servers of the test's own.
#![allow(clippy::unwrap_used)]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dns::{DnsError, Server, ServerConfig, Upstream, ZoneEvent};
use hickory_proto::op::{Edns, Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;

const WAIT: Duration = Duration::from_secs(8);

/// An upstream server: `big.` fits only TCP, `gone.` does not exist, `silent.` gets no answer,
/// `other.` gets one to another question first; everything else has 192.0.2.77.
struct Fake {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Fake {
    async fn start() -> Self {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let udp = UdpSocket::bind(address).await.unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        tokio::spawn(async move {
            let mut buffer = [0; 2000];
            while let Ok((length, client)) = udp.recv_from(&mut buffer).await {
                count.fetch_add(1, Ordering::SeqCst);
                let query = Message::from_vec(&buffer[..length]).unwrap();
                let name = query.queries[0].name().to_ascii();
                if name.starts_with("silent.") {
                    continue;
                }
                if name.starts_with("other.") {
                    let mut forged = answer(&query, 3);
                    forged.metadata.id = forged.metadata.id.wrapping_add(1);
                    udp.send_to(&forged.to_vec().unwrap(), client).await.unwrap();
                }
                let mut message = answer(&query, 1);
                if name.starts_with("big.") {
                    message = message.truncate();
                }
                udp.send_to(&message.to_vec().unwrap(), client).await.unwrap();
            }
        });
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = tcp.accept().await {
                let query = Message::from_vec(&read_framed(&mut stream).await).unwrap();
                write_framed(&mut stream, &answer(&query, 200).to_vec().unwrap()).await;
            }
        });
        Fake { address, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn answer(query: &Message, records: u8) -> Message {
    let mut message = Message::response(query.metadata.id, OpCode::Query);
    message.metadata.recursion_available = true;
    message.add_query(query.queries[0].clone());
    let name = query.queries[0].name();
    if name.to_ascii().starts_with("gone.") {
        message.metadata.response_code = ResponseCode::NXDomain;
        let soa = SOA::new(Name::root(), Name::root(), 1, 1, 1, 1, 60);
        message.add_authority(Record::from_rdata(Name::root(), 60, RData::SOA(soa)));
        return message;
    }
    for last in 0..records {
        let ip = Ipv4Addr::new(192, 0, 2, 77u8.wrapping_add(last));
        message.add_answer(Record::from_rdata(name.clone(), 60, RData::A(A(ip))));
    }
    message
}

async fn read_framed(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = vec![0; usize::from(stream.read_u16().await.unwrap())];
    stream.read_exact(&mut bytes).await.unwrap();
    bytes
}

async fn write_framed(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_u16(u16::try_from(bytes.len()).unwrap()).await.unwrap();
    stream.write_all(bytes).await.unwrap();
}

struct World {
    server: Server,
    events: mpsc::Sender<ZoneEvent>,
    to: SocketAddr,
}

impl World {
    fn new(upstream: Upstream) -> Self {
        let mut cfg = ServerConfig::new("127.0.0.1".parse().unwrap(), "cluster.local");
        cfg.listen = vec!["127.0.0.1:0".parse().unwrap()];
        cfg.upstream = upstream;
        let (events, source) = mpsc::channel(16);
        let server = Server::start(cfg, source).unwrap();
        let to = server.addresses()[0];
        World { server, events, to }
    }

    async fn filled(upstream: Upstream) -> Self {
        let world = World::new(upstream);
        world
            .tell(ZoneEvent::Service(service("web", "10.96.0.1", |_| {})))
            .await;
        let external = service("out", "", |spec| {
            spec.type_ = Some("ExternalName".into());
            spec.external_name = Some("www.example.com".into());
        });
        world.tell(ZoneEvent::Service(external)).await;
        world.tell(ZoneEvent::Service(service("many", "None", |_| {}))).await;
        world.tell(ZoneEvent::Slice(slice("many", 400))).await;
        world.tell(ZoneEvent::Synced).await;
        assert!(world.server.ready().await);
        world
    }

    async fn tell(&self, event: ZoneEvent) {
        self.events.send(event).await.unwrap();
    }

    async fn udp(&self, message: &Message) -> Message {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(self.to).await.unwrap();
        socket.send(&message.to_vec().unwrap()).await.unwrap();
        let mut buffer = [0; 5000];
        let received = tokio::time::timeout(WAIT, socket.recv(&mut buffer))
            .await
            .expect("an answer");
        let length = received.unwrap();
        let limit = message
            .edns
            .as_ref()
            .map_or(512, |edns| usize::from(edns.max_payload()));
        assert!(length <= limit, "{length} bytes, {limit} allowed");
        Message::from_vec(&buffer[..length]).unwrap()
    }

    async fn ask(&self, name: &str, kind: RecordType) -> Message {
        let query = query(name, kind);
        let answer = self.udp(&query).await;
        assert_eq!(answer.metadata.id, query.metadata.id);
        assert!(answer.metadata.recursion_available);
        answer
    }

    async fn tcp(&self, message: &Message) -> Message {
        let mut stream = TcpStream::connect(self.to).await.unwrap();
        write_framed(&mut stream, &message.to_vec().unwrap()).await;
        Message::from_vec(&read_framed(&mut stream).await).unwrap()
    }
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn addresses(message: &Message) -> Vec<String> {
    let ip = |record: &Record| record.data.ip_addr().map(|ip| ip.to_string());
    message.answers.iter().filter_map(ip).collect()
}

fn metadata(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.into()),
        namespace: Some("ns".into()),
        labels: Some([("kubernetes.io/service-name".into(), name.into())].into()),
        ..ObjectMeta::default()
    }
}

fn service(name: &str, cluster_ip: &str, edit: impl FnOnce(&mut ServiceSpec)) -> Arc<Service> {
    let mut spec = ServiceSpec {
        cluster_ip: Some(cluster_ip.into()),
        ports: Some(vec![ServicePort {
            port: 80,
            ..ServicePort::default()
        }]),
        ..ServiceSpec::default()
    };
    edit(&mut spec);
    Arc::new(Service {
        metadata: metadata(name),
        spec: Some(spec),
        status: None,
    })
}

fn slice(service: &str, endpoints: u16) -> Arc<EndpointSlice> {
    let endpoint = |n: u16| Endpoint {
        addresses: vec![format!("10.0.{}.{}", n >> 8, n & 255)],
        ..Endpoint::default()
    };
    Arc::new(EndpointSlice {
        address_type: "IPv4".into(),
        endpoints: Some((0..endpoints).map(endpoint).collect()),
        metadata: metadata(service),
        ports: None,
    })
}

fn nowhere() -> Upstream {
    Upstream::Servers(Vec::new())
}

#[tokio::test]
async fn cluster_names() {
    let world = World::filled(nowhere()).await;
    let found = world.ask("WeB.ns.svc.cluster.local.", RecordType::A).await;
    assert_eq!(addresses(&found), ["10.96.0.1"]);
    assert!(found.metadata.authoritative);
    assert_eq!(
        found.answers[0].name.to_ascii(),
        "WeB.ns.svc.cluster.local.",
        "as it was asked"
    );
    assert_eq!(found.answers[0].ttl, 30);

    let nothing = world.ask("nope.ns.svc.cluster.local.", RecordType::A).await;
    assert_eq!(nothing.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(nothing.authorities[0].record_type(), RecordType::SOA);
    let other = world.ask("web.ns.svc.cluster.local.", RecordType::AAAA).await;
    assert_eq!(
        (other.metadata.response_code, other.answers.len()),
        (ResponseCode::NoError, 0)
    );
    assert_eq!(other.authorities.len(), 1);

    let by_tcp = world.tcp(&query("web.ns.svc.cluster.local.", RecordType::A)).await;
    assert_eq!(addresses(&by_tcp), ["10.96.0.1"]);
    world.server.shutdown().await;
}

#[tokio::test]
async fn the_zone_follows_its_events() {
    let world = World::new(nowhere());
    let early = world.ask("web.ns.svc.cluster.local.", RecordType::A).await;
    assert_eq!(
        early.metadata.response_code,
        ResponseCode::ServFail,
        "not \"no such name\""
    );
    world
        .tell(ZoneEvent::Service(service("web", "10.96.0.1", |_| {})))
        .await;
    world.tell(ZoneEvent::Synced).await;
    assert!(world.server.ready().await);
    assert_eq!(
        addresses(&world.ask("web.ns.svc.cluster.local.", RecordType::A).await).len(),
        1
    );
    world.tell(ZoneEvent::ServiceGone("ns".into(), "web".into())).await;
    world.tell(ZoneEvent::Namespace("done".into())).await;
    // The second event is seen after the first.
    loop {
        let seen = world.ask("done.svc.cluster.local.", RecordType::A).await;
        if seen.metadata.response_code == ResponseCode::NoError {
            break;
        }
    }
    let gone = world.ask("web.ns.svc.cluster.local.", RecordType::A).await;
    assert_eq!(gone.metadata.response_code, ResponseCode::NXDomain);
}

#[tokio::test]
async fn large_answers_are_cut_for_udp_and_whole_by_tcp() {
    let world = World::filled(nowhere()).await;
    let name = "many.ns.svc.cluster.local.";
    let small = world.ask(name, RecordType::A).await;
    assert!(small.metadata.truncation);
    assert!(
        addresses(&small).len() > 10,
        "as many as fit: {}",
        addresses(&small).len()
    );
    let mut roomy = query(name, RecordType::A);
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    roomy.set_edns(edns);
    let more = world.udp(&roomy).await;
    assert!(more.metadata.truncation && more.edns.is_some());
    assert!(addresses(&more).len() > 120, "{}", addresses(&more).len());
    let all = world.tcp(&query(name, RecordType::A)).await;
    assert!(!all.metadata.truncation);
    assert_eq!(addresses(&all).len(), 400);
}

#[tokio::test]
async fn addresses_take_turns() {
    let world = World::filled(nowhere()).await;
    world.tell(ZoneEvent::Slice(slice("many", 3))).await;
    let mut first = std::collections::BTreeSet::new();
    while first.len() < 3 {
        let answer = world.ask("many.ns.svc.cluster.local.", RecordType::A).await;
        if addresses(&answer).len() == 3 {
            first.insert(addresses(&answer)[0].clone());
        }
    }
}

#[tokio::test]
async fn other_names_are_forwarded_and_kept() {
    let fake = Fake::start().await;
    let world = World::filled(Upstream::Servers(vec![fake.address])).await;
    for _ in 0..3 {
        let found = world.ask("www.example.com.", RecordType::A).await;
        assert_eq!(addresses(&found), ["192.0.2.77"]);
        assert!(!found.metadata.authoritative);
        assert!(found.answers[0].ttl <= 60);
    }
    assert_eq!(fake.asked(), 1);
    for _ in 0..2 {
        let gone = world.ask("gone.example.com.", RecordType::A).await;
        assert_eq!(gone.metadata.response_code, ResponseCode::NXDomain);
    }
    assert_eq!(fake.asked(), 2);
    // The alias and what it leads to, from the cache.
    let alias = world.ask("out.ns.svc.cluster.local.", RecordType::A).await;
    assert_eq!(alias.answers[0].record_type(), RecordType::CNAME);
    assert_eq!(addresses(&alias), ["192.0.2.77"]);
    assert_eq!(fake.asked(), 2);
}

#[tokio::test]
async fn upstreams_that_truncate_fail_or_lie() {
    let (dead, fake) = (UdpSocket::bind("127.0.0.1:0").await.unwrap(), Fake::start().await);
    let closed = dead.local_addr().unwrap();
    drop(dead);
    let world = World::filled(Upstream::Servers(vec![closed, fake.address])).await;
    let by_tcp = world.tcp(&query("big.example.com.", RecordType::A)).await;
    assert_eq!(addresses(&by_tcp).len(), 200, "asked again by TCP");
    let forged = world.ask("other.example.com.", RecordType::A).await;
    assert_eq!(
        addresses(&forged),
        ["192.0.2.77"],
        "the answer to another question is not taken"
    );
    let silent = world.ask("silent.example.com.", RecordType::A).await;
    assert_eq!(silent.metadata.response_code, ResponseCode::ServFail);
}

#[tokio::test]
async fn resolv_conf_is_followed_without_asking_itself() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("resolv.conf");
    std::fs::write(&path, "nameserver 127.0.0.1\n").unwrap();
    let world = World::filled(Upstream::ResolvConf(path)).await;
    let refused = world.ask("www.example.com.", RecordType::A).await;
    assert_eq!(
        refused.metadata.response_code,
        ResponseCode::ServFail,
        "no loop, no wait"
    );
}

#[tokio::test]
async fn garbage_changes_nothing() {
    let world = World::filled(nowhere()).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for bytes in [
        &[][..],
        &[0; 3],
        &[0xff; 12],
        &[0; 12],
        &[0x12; 4000],
        b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\xc0\x0c\0\x01\0\x01",
    ] {
        socket.send_to(bytes, world.to).await.unwrap();
        let mut stream = TcpStream::connect(world.to).await.unwrap();
        stream.write_all(bytes).await.unwrap();
    }
    let found = world.ask("web.ns.svc.cluster.local.", RecordType::A).await;
    assert_eq!(addresses(&found), ["10.96.0.1"]);
}

#[tokio::test]
async fn an_address_may_come_later_but_not_be_taken() {
    let mut cfg = ServerConfig::new("192.0.2.200".parse().unwrap(), "cluster.local");
    cfg.listen[0].set_port(0);
    let (_events, source) = mpsc::channel(1);
    let server = Server::start(cfg.clone(), source).expect("an address that no interface has");
    cfg.listen = server.addresses().to_vec();
    let (_events, source) = mpsc::channel(1);
    let error = Server::start(cfg, source).expect_err("taken");
    assert!(matches!(error, DnsError::Bind { .. }), "{error}");
    server.shutdown().await;
}
