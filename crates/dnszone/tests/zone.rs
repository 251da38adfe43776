//! Tables of questions and answers, and that updates in any order end where a fresh zone starts.
#![allow(clippy::unwrap_used)]

use dnszone::{Answer, RecordData, RecordType, Zone, ZoneConfig, answer};
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use proptest::prelude::*;

fn meta(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some("ns".to_owned()),
        ..ObjectMeta::default()
    }
}

fn service(name: &str, cluster_ips: &[&str], edit: impl FnOnce(&mut ServiceSpec)) -> Service {
    let mut spec = ServiceSpec {
        cluster_ip: cluster_ips.first().map(|ip| (*ip).to_owned()),
        cluster_ips: Some(cluster_ips.iter().map(|ip| (*ip).to_owned()).collect()),
        ports: Some(vec![ServicePort {
            name: Some("http".to_owned()),
            port: 80,
            protocol: Some("TCP".to_owned()),
            ..ServicePort::default()
        }]),
        ..ServiceSpec::default()
    };
    edit(&mut spec);
    Service {
        metadata: meta(name),
        spec: Some(spec),
        status: None,
    }
}

fn endpoint(ip: &str, hostname: Option<&str>, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![ip.to_owned()],
        hostname: hostname.map(str::to_owned),
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            ..EndpointConditions::default()
        }),
        ..Endpoint::default()
    }
}

fn slice(name: &str, service: &str, endpoints: Vec<Endpoint>) -> EndpointSlice {
    let mut metadata = meta(name);
    metadata.labels = Some([("kubernetes.io/service-name".to_owned(), service.to_owned())].into());
    EndpointSlice {
        address_type: "IPv4".to_owned(),
        endpoints: Some(endpoints),
        metadata,
        ports: Some(vec![EndpointPort {
            name: Some("http".to_owned()),
            port: Some(8080),
            protocol: Some("TCP".to_owned()),
            ..EndpointPort::default()
        }]),
    }
}

fn objects() -> (Vec<Service>, Vec<EndpointSlice>) {
    let services = vec![
        service("web", &["10.96.0.1", "fd00::1"], |_| {}),
        service("db", &["None"], |_| {}),
        service("early", &["None"], |spec| spec.publish_not_ready_addresses = Some(true)),
        service("alone", &["None"], |_| {}),
        service("pending", &[], |_| {}),
        service("out", &[], |spec| {
            spec.type_ = Some("ExternalName".to_owned());
            spec.external_name = Some("Example.COM.".to_owned());
        }),
        service("in", &[], |spec| {
            spec.type_ = Some("ExternalName".to_owned());
            spec.external_name = Some("web.ns.svc.cluster.local".to_owned());
        }),
        service("loop", &[], |spec| {
            spec.type_ = Some("ExternalName".to_owned());
            spec.external_name = Some("loop.ns.svc.cluster.local".to_owned());
        }),
    ];
    let slices = vec![
        slice(
            "db-1",
            "db",
            vec![
                endpoint("10.0.0.1", Some("db-0"), true),
                endpoint("10.0.0.2", None, true),
            ],
        ),
        slice("db-2", "db", vec![endpoint("10.0.0.3", Some("db-1"), false)]),
        slice("early-1", "early", vec![endpoint("10.0.0.9", None, false)]),
        slice("web-1", "web", vec![endpoint("10.0.0.5", Some("w"), true)]),
    ];
    (services, slices)
}

fn config() -> ZoneConfig {
    let mut cfg = ZoneConfig::new("Cluster.Local.");
    cfg.server_addresses = vec!["10.96.0.10".parse().unwrap()];
    cfg
}

fn zone() -> Zone {
    let (services, slices) = objects();
    Zone::build(config(), &services, &slices, ["ns", "empty"])
}

/// One line an answer.
fn show(zone: &Zone, name: &str, wanted: RecordType) -> String {
    let data = |data: &RecordData| match data {
        RecordData::A(ip) => format!("A {ip}"),
        RecordData::Aaaa(ip) => format!("AAAA {ip}"),
        RecordData::Srv {
            priority,
            weight,
            port,
            target,
        } => {
            format!("SRV {priority} {weight} {port} {target}")
        }
        RecordData::Ptr(name) => format!("PTR {name}"),
        RecordData::Txt(text) => format!("TXT {text}"),
        RecordData::Cname(name) => format!("CNAME {name}"),
        RecordData::Soa {
            primary,
            mailbox,
            minimum,
            ..
        } => {
            format!("SOA {primary} {mailbox} {minimum}")
        }
        RecordData::Ns(name) => format!("NS {name}"),
    };
    match answer(zone, name, wanted) {
        Answer::NotAuthoritative => "elsewhere".to_owned(),
        Answer::NxDomain(_) => "NXDOMAIN".to_owned(),
        Answer::NoData(_) => "NODATA".to_owned(),
        Answer::Records {
            answers,
            additional,
            chase,
        } => {
            let mut line: Vec<String> = answers.iter().map(|record| data(&record.data)).collect();
            for record in additional {
                line.push(format!("+{} {}", record.name, data(&record.data)));
            }
            line.extend(chase.map(|name| format!("->{name}")));
            line.join(", ")
        }
    }
}

#[test]
fn questions() {
    use RecordType::{A, Aaaa, Cname, Ns, Other, Ptr, Soa, Srv, Txt};
    let zone = zone();
    for (name, wanted, expected) in [
        (
            "cluster.local",
            Soa,
            "SOA ns.dns.cluster.local hostmaster.cluster.local 30",
        ),
        ("cluster.local.", Ns, "NS ns.dns.cluster.local"),
        ("cluster.local", A, "NODATA"),
        ("ns.dns.cluster.local", A, "A 10.96.0.10"),
        ("dns-version.cluster.local", Txt, "TXT 1.1.0"),
        ("dns-version.cluster.local", A, "NODATA"),
        ("svc.cluster.local", A, "NODATA"),
        ("ns.svc.cluster.local", A, "NODATA"),
        ("empty.svc.cluster.local", A, "NODATA"),
        ("nope.svc.cluster.local", A, "NXDOMAIN"),
        ("nope.cluster.local", A, "NXDOMAIN"),
        ("example.com", A, "elsewhere"),
        ("notcluster.local", A, "elsewhere"),
        ("", A, "elsewhere"),
        // Cluster IPs.
        ("web.ns.svc.cluster.local", A, "A 10.96.0.1"),
        ("WEB.Ns.svc.CLUSTER.local.", A, "A 10.96.0.1"),
        ("web.ns.svc.cluster.local", Aaaa, "AAAA fd00::1"),
        ("web.ns.svc.cluster.local", Txt, "NODATA"),
        ("web.ns.svc.cluster.local", Other, "NODATA"),
        ("web.nope.svc.cluster.local", A, "NXDOMAIN"),
        ("pending.ns.svc.cluster.local", A, "NXDOMAIN"),
        (
            "_http._tcp.web.ns.svc.cluster.local",
            Srv,
            "SRV 0 100 80 web.ns.svc.cluster.local, +web.ns.svc.cluster.local A 10.96.0.1, \
             +web.ns.svc.cluster.local AAAA fd00::1",
        ),
        ("_http._udp.web.ns.svc.cluster.local", Srv, "NXDOMAIN"),
        ("_nope._tcp.web.ns.svc.cluster.local", Srv, "NXDOMAIN"),
        ("_tcp.web.ns.svc.cluster.local", Srv, "NODATA"),
        ("_udp.web.ns.svc.cluster.local", Srv, "NXDOMAIN"),
        ("w.web.ns.svc.cluster.local", A, "A 10.0.0.5"),
        ("a.b.c.web.ns.svc.cluster.local", A, "NXDOMAIN"),
        // Headless.
        ("db.ns.svc.cluster.local", A, "A 10.0.0.1, A 10.0.0.2"),
        ("db.ns.svc.cluster.local", Aaaa, "NODATA"),
        ("db-0.db.ns.svc.cluster.local", A, "A 10.0.0.1"),
        ("10-0-0-2.db.ns.svc.cluster.local", A, "A 10.0.0.2"),
        ("10-0-0-1.db.ns.svc.cluster.local", A, "NXDOMAIN"),
        ("db-1.db.ns.svc.cluster.local", A, "NXDOMAIN"),
        (
            "_http._tcp.db.ns.svc.cluster.local",
            Srv,
            "SRV 0 50 8080 10-0-0-2.db.ns.svc.cluster.local, SRV 0 50 8080 db-0.db.ns.svc.cluster.local, \
             +10-0-0-2.db.ns.svc.cluster.local A 10.0.0.2, +db-0.db.ns.svc.cluster.local A 10.0.0.1",
        ),
        ("early.ns.svc.cluster.local", A, "A 10.0.0.9"),
        ("alone.ns.svc.cluster.local", A, "NXDOMAIN"),
        // Aliases.
        ("out.ns.svc.cluster.local", A, "CNAME example.com, ->example.com"),
        ("out.ns.svc.cluster.local", Cname, "CNAME example.com"),
        ("x.out.ns.svc.cluster.local", A, "NXDOMAIN"),
        (
            "in.ns.svc.cluster.local",
            A,
            "CNAME web.ns.svc.cluster.local, A 10.96.0.1",
        ),
        // Pods.
        ("10-1-2-3.ns.pod.cluster.local", A, "A 10.1.2.3"),
        ("10-1-2-3.ns.pod.cluster.local", Aaaa, "NODATA"),
        ("fd00--7.ns.pod.cluster.local", Aaaa, "AAAA fd00::7"),
        ("10-1-2-3.nope.pod.cluster.local", A, "NXDOMAIN"),
        ("hello.ns.pod.cluster.local", A, "NXDOMAIN"),
        // Reverse.
        ("1.0.96.10.in-addr.arpa", Ptr, "PTR web.ns.svc.cluster.local"),
        ("1.0.0.10.in-addr.arpa.", Ptr, "PTR db-0.db.ns.svc.cluster.local"),
        ("2.0.0.10.in-addr.arpa", Ptr, "elsewhere"),
        ("1.0.96.10.in-addr.arpa", A, "NODATA"),
        ("0.96.10.in-addr.arpa", Ptr, "elsewhere"),
        ("x.0.96.10.in-addr.arpa", Ptr, "elsewhere"),
        (
            "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa",
            Ptr,
            "PTR web.ns.svc.cluster.local",
        ),
        ("1.0.d.f.ip6.arpa", Ptr, "elsewhere"),
    ] {
        assert_eq!(show(&zone, name, wanted), expected, "{name} {wanted:?}");
    }
}

#[test]
fn an_alias_loop_ends() {
    let line = show(&zone(), "loop.ns.svc.cluster.local", RecordType::A);
    assert_eq!(line.matches("CNAME").count(), 8);
}

#[test]
fn a_service_that_goes_takes_its_names_along() {
    let mut zone = zone();
    let serial = zone.serial();
    zone.remove_service("ns", "web");
    assert!(zone.serial() > serial);
    assert_eq!(show(&zone, "web.ns.svc.cluster.local", RecordType::A), "NXDOMAIN");
    assert_eq!(show(&zone, "1.0.96.10.in-addr.arpa", RecordType::Ptr), "elsewhere");
    zone.upsert_slice(&slice("db-1", "other", vec![]));
    assert_eq!(
        show(&zone, "db.ns.svc.cluster.local", RecordType::A),
        "NXDOMAIN",
        "the slice moved"
    );
}

#[derive(Debug, Clone)]
enum Step {
    PutService(usize),
    DropService(usize),
    PutSlice(usize, usize),
    DropSlice(usize),
    Namespace(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..8usize).prop_map(Step::PutService),
        (0..8usize).prop_map(Step::DropService),
        (0..4usize, 0..4usize).prop_map(|(at, like)| Step::PutSlice(at, like)),
        (0..4usize).prop_map(Step::DropSlice),
        any::<bool>().prop_map(Step::Namespace),
    ]
}

proptest! {
    #[test]
    fn updates_end_where_a_fresh_zone_starts(steps in proptest::collection::vec(step(), 0..40)) {
        let (services, slices) = objects();
        let mut zone = Zone::new(config());
        let mut have_services = vec![None; services.len()];
        let mut have_slices = vec![None; slices.len()];
        let mut declared = false;
        for step in steps {
            match step {
                Step::PutService(i) => {
                    zone.upsert_service(&services[i]);
                    have_services[i] = Some(services[i].clone());
                }
                Step::DropService(i) => {
                    zone.remove_service("ns", services[i].metadata.name.as_ref().unwrap());
                    have_services[i] = None;
                }
                Step::PutSlice(at, like) => {
                    let mut slice = slices[like].clone();
                    slice.metadata.name = slices[at].metadata.name.clone();
                    zone.upsert_slice(&slice);
                    have_slices[at] = Some(slice);
                }
                Step::DropSlice(i) => {
                    zone.remove_slice("ns", slices[i].metadata.name.as_ref().unwrap());
                    have_slices[i] = None;
                }
                Step::Namespace(exists) => {
                    declared = exists;
                    if exists { zone.add_namespace("ns") } else { zone.remove_namespace("ns") }
                }
            }
        }
        let fresh = Zone::build(
            config(),
            have_services.iter().flatten(),
            have_slices.iter().flatten(),
            declared.then_some("ns"),
        );
        prop_assert!(zone == fresh);
    }

    #[test]
    fn no_name_panics(name in "[a-z0-9._-]{0,60}", tail in prop_oneof!["", ".cluster.local", ".ns.svc.cluster.local", ".in-addr.arpa", ".ip6.arpa"]) {
        let _ = answer(&zone(), &format!("{name}{tail}"), RecordType::Srv);
    }
}
