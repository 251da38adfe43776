//! Services over real packets.

use k8s_openapi::api::core::v1::{LoadBalancerIngress, LoadBalancerStatus, ServiceSpec, ServiceStatus};
use k8s_openapi::api::discovery::v1::Endpoint;
use net::HostPort;

use crate::foreign;
use crate::world::{Answer, NODE_IP, OUTSIDE_IP, ask_tcp, ask_udp, on_a_host, serve, service, slice, tally, udp_to};

const CLUSTER_IP: &str = "10.96.1.1";
const TO: &str = "10.96.1.1:80";

fn plain(_: &mut ServiceSpec) {}

fn node_port(spec: &mut ServiceSpec) {
    for (port, number) in spec.ports.iter_mut().flatten().zip([30080, 30080]) {
        port.node_port = Some(number);
    }
}

/// Absent without br_netfilter, which is the same as off.
fn set_bridge_filter(value: &str) {
    let path = std::path::Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables");
    if path.exists() {
        std::fs::write(path, value).expect("sysctl");
    }
}

#[test]
fn cluster_ip_balances_over_endpoints() {
    on_a_host(|world| async move {
        let (a, a_ip) = world.pod("a").await;
        let (_b, b_ip) = world.pod("b").await;
        let services = [service("s", CLUSTER_IP, plain)];
        world.apply(&services, &[slice("s", &[a_ip, b_ip])]).await;

        // Other software may have turned bridge filtering on or off: both must work.
        for bridge_filter in ["0", "1"] {
            set_bridge_filter(bridge_filter);
            let from_host = tally(60, || ask_tcp(TO));
            assert_eq!(from_host.len(), 2, "{from_host:?}");
            assert!(from_host.values().all(|count| *count > 10), "{from_host:?}");
            let from_pod = tally(30, || a.ask_tcp(TO));
            assert_eq!(
                from_pod.len(),
                2,
                "a pod reaches itself through its service: {from_pod:?}"
            );
        }
        assert_eq!(ask_udp(&udp_to(TO)).client(), "10.244.0.1");

        // A pod is seen by its address, except by itself.
        let (c, c_ip) = world.pod("c").await;
        assert_eq!(c.ask_tcp(TO).client(), c_ip.to_string());
        world.apply(&services, &[slice("s", &[a_ip])]).await;
        assert_eq!(a.ask_tcp(TO).client(), "10.244.0.1");
    });
}

#[test]
fn no_endpoints_means_refused_and_other_ports_too() {
    on_a_host(|world| async move {
        let (a, a_ip) = world.pod("a").await;
        let services = [service("s", CLUSTER_IP, node_port)];
        world.apply(&services, &[]).await;
        assert_eq!(ask_tcp(TO), Answer::Refused);
        assert_eq!(a.ask_tcp(TO), Answer::Refused);
        // From the host itself, `send` already says that a rule forbids it.
        assert_eq!(a.run(|| ask_udp(&udp_to(TO))), Answer::Refused);
        assert_eq!(world.outside.ask_tcp(&format!("{NODE_IP}:30080")), Answer::Refused);

        world.apply(&services, &[slice("s", &[a_ip])]).await;
        assert_eq!(ask_tcp(TO).server(), "a");
        assert_eq!(ask_tcp("10.96.1.1:81"), Answer::Refused, "a port the service has not");
        assert_eq!(a.ask_tcp("10.96.1.1:81"), Answer::Refused);
    });
}

#[test]
fn the_dns_address_is_answered_by_this_host() {
    on_a_host(|world| async move {
        let (a, a_ip) = world.pod("a").await;
        serve("dns".to_owned(), "10.96.0.10", 53);
        // A Service object for it changes nothing.
        let services = [service("kube-dns", "10.96.0.10", plain)];
        world.apply(&services, &[slice("kube-dns", &[a_ip])]).await;
        let to = "10.96.0.10:53";
        assert_eq!(ask_tcp(to).server(), "dns");
        assert_eq!(ask_udp(&udp_to(to)).server(), "dns");
        assert_eq!(
            a.ask_tcp(to).client(),
            a_ip.to_string(),
            "pods are seen by their address"
        );
        assert_eq!(a.run(|| ask_udp(&udp_to("10.96.0.10:53"))).server(), "dns");
        assert_eq!(a.ask_tcp("10.96.0.10:80"), Answer::Refused);
    });
}

#[test]
fn node_ports_answer_from_everywhere() {
    on_a_host(|world| async move {
        let (a, a_ip) = world.pod("a").await;
        world
            .apply(&[service("s", CLUSTER_IP, node_port)], &[slice("s", &[a_ip])])
            .await;
        let to = format!("{NODE_IP}:30080");
        let outside = world.outside.ask_tcp(&to);
        assert_eq!((outside.server(), outside.client()), ("a", "10.244.0.1"), "masqueraded");
        assert_eq!(ask_tcp(&to).server(), "a");
        assert_eq!(ask_tcp("127.0.0.1:30080").server(), "a", "on loopback too");
        assert_eq!(a.ask_tcp(&to).server(), "a");
        assert_eq!(ask_udp(&udp_to("127.0.0.1:30080")).server(), "a");
    });
}

#[test]
fn external_policy_local_keeps_the_client() {
    on_a_host(|world| async move {
        let (_a, a_ip) = world.pod("a").await;
        let services = [service("s", CLUSTER_IP, |spec| {
            node_port(spec);
            spec.external_traffic_policy = Some("Local".to_owned());
            spec.external_ips = Some(vec!["198.51.100.7".to_owned()]);
        })];
        world.apply(&services, &[slice("s", &[a_ip])]).await;
        for to in [format!("{NODE_IP}:30080"), "198.51.100.7:80".to_owned()] {
            let outside = world.outside.ask_tcp(&to);
            assert_eq!((outside.server(), outside.client()), ("a", OUTSIDE_IP), "{to}");
            assert_eq!(ask_tcp(&to).server(), "a", "{to}");
        }
        assert_eq!(ask_tcp("127.0.0.1:30080").server(), "a");
    });
}

#[test]
fn affinity_holds_and_survives_its_endpoints_removal() {
    on_a_host(|mut world| async move {
        let mut addresses = Vec::new();
        let mut spaces = Vec::new();
        for name in ["a", "b", "c", "d"] {
            let (space, ip) = world.pod(name).await;
            spaces.push(space);
            addresses.push(ip);
        }
        let sticky = |spec: &mut ServiceSpec| spec.session_affinity = Some("ClientIP".to_owned());
        let services = [service("s", CLUSTER_IP, sticky)];
        world.apply(&services, &[slice("s", &addresses)]).await;
        let chosen = tally(20, || ask_tcp(TO));
        assert_eq!(chosen.len(), 1, "{chosen:?}");
        let first = chosen.into_keys().next().expect("one");

        // An owner that starts anew keeps what clients were given.
        world.proxy = net::ServiceProxy::start("second").expect("start");
        world.apply(&services, &[slice("s", &addresses)]).await;
        assert_eq!(
            tally(20, || ask_tcp(TO)).into_keys().collect::<Vec<_>>(),
            std::slice::from_ref(&first)
        );

        let at = ["a", "b", "c", "d"]
            .iter()
            .position(|name| *name == first)
            .expect("known");
        addresses.remove(at);
        world.apply(&services, &[slice("s", &addresses)]).await;
        let moved = tally(20, || ask_tcp(TO));
        assert_eq!(moved.len(), 1, "the client has a new one, and keeps it: {moved:?}");
        assert!(!moved.contains_key(&first));
    });
}

#[test]
fn an_update_removes_an_endpoint_for_udp_flows_too() {
    on_a_host(|world| async move {
        let (_a, a_ip) = world.pod("a").await;
        let (_b, b_ip) = world.pod("b").await;
        let services = [service("s", CLUSTER_IP, node_port)];
        world.apply(&services, &[slice("s", &[a_ip])]).await;
        let (flow, by_node_port) = (udp_to(TO), udp_to(&format!("{NODE_IP}:30080")));
        assert_eq!(ask_udp(&flow).server(), "a");
        assert_eq!(ask_udp(&by_node_port).server(), "a");
        let cleaned = world.apply(&services, &[slice("s", &[b_ip])]).await;
        assert_eq!(cleaned.deleted, 2, "{cleaned:?}");
        assert_eq!(
            ask_udp(&flow).server(),
            "b",
            "the same socket, without waiting for a timeout"
        );
        assert_eq!(ask_udp(&by_node_port).server(), "b");
        assert_eq!(tally(20, || ask_tcp(TO)).into_keys().collect::<Vec<_>>(), ["b"]);
        let unchanged = world.apply(&services, &[slice("s", &[b_ip])]).await;
        assert_eq!(unchanged.deleted, 0);
    });
}

#[test]
fn a_foreign_flush_is_repaired() {
    on_a_host(|world| async move {
        let (_a, a_ip) = world.pod("a").await;
        let services = [service("s", CLUSTER_IP, plain)];
        world.apply(&services, &[slice("s", &[a_ip])]).await;
        assert_eq!(ask_tcp(TO).server(), "a");
        let mut repairs = world.proxy.repairs();
        assert_eq!(*repairs.borrow_and_update(), 0, "our own writes are not foreign");

        for (what, change) in [
            ("the table", foreign::Change::DeleteTable),
            ("a chain's rules", foreign::Change::FlushChain("services")),
            ("a map's elements", foreign::Change::FlushSet("service-ips")),
        ] {
            foreign::make("skiff", change);
            tokio::time::timeout(std::time::Duration::from_secs(5), repairs.changed())
                .await
                .unwrap_or_else(|_| panic!("removing {what} was not noticed"))
                .expect("owner lives");
            repairs.borrow_and_update();
            assert_eq!(ask_tcp(TO).server(), "a", "{what}");
        }
        // Another table's changes are none of ours, and the repaired table still takes updates.
        foreign::make("other", foreign::Change::AddTable);
        world.apply(&services, &[]).await;
        assert_eq!(ask_tcp(TO), Answer::Refused);
        assert!(!repairs.has_changed().expect("owner lives"));
    });
}

#[test]
fn every_sort_of_rule_is_accepted_and_reads_back_the_same() {
    on_a_host(|mut world| async move {
        world.cfg.node_ips.push("2001:db8::1".parse().expect("ip"));
        world.cfg.cluster_cidrs.push("fd10::/16".parse().expect("range"));
        world.cfg.service_cidrs.push("fd96::/112".parse().expect("range"));
        let everything = |name: &str, ip: &str, external: &str, ranges: &[&str]| {
            let service = service(name, ip, |spec| {
                node_port(spec);
                spec.external_traffic_policy = Some("Local".to_owned());
                spec.session_affinity = Some("ClientIP".to_owned());
                spec.external_ips = Some(vec![external.to_owned()]);
                spec.load_balancer_source_ranges = Some(ranges.iter().map(|range| (*range).to_owned()).collect());
            });
            let mut service = std::sync::Arc::unwrap_or_clone(service);
            let ingress = LoadBalancerIngress {
                ip: Some(external.to_owned()),
                ..Default::default()
            };
            let load_balancer = LoadBalancerStatus {
                ingress: Some(vec![ingress]),
            };
            let load_balancer = Some(load_balancer);
            service.status = Some(ServiceStatus {
                load_balancer,
                ..Default::default()
            });
            std::sync::Arc::new(service)
        };
        let services = [
            everything("four", CLUSTER_IP, "203.0.113.1", &["198.51.100.0/24"]),
            everything("six", "fd96::1", "2001:db8::99", &["2001:db8::/64"]),
            service("none", "fd96::2", plain),
        ];
        let mut six = std::sync::Arc::unwrap_or_clone(slice("six", &[]));
        six.address_type = "IPv6".to_owned();
        six.endpoints = Some(vec![Endpoint {
            addresses: vec!["fd10::1".to_owned()],
            node_name: Some("n1".to_owned()),
            ..Default::default()
        }]);
        let slices = [
            slice("four", &["10.244.0.9".parse().expect("ip")]),
            std::sync::Arc::new(six),
        ];
        world.apply(&services, &slices).await;
        assert!(
            world.proxy.verify().await.expect("read back"),
            "after writing everything"
        );
        world.apply(&services, &slices[..1]).await;
        assert!(world.proxy.verify().await.expect("read back"), "after an update");
        assert_eq!(world.ruleset(&services, &slices).tables.len(), 2);
    });
}

#[test]
fn many_services_in_one_batch() {
    on_a_host(|world| async move {
        let (_a, a_ip) = world.pod("a").await;
        let mut services = Vec::new();
        let mut slices = Vec::new();
        for n in 0..2_000u32 {
            let name = format!("s{n}");
            services.push(service(&name, &format!("10.100.{}.{}", n >> 8, n & 255), plain));
            slices.push(slice(&name, &[a_ip]));
        }
        world.apply(&services, &slices).await;
        assert!(world.proxy.verify().await.expect("read back"));
        assert_eq!(ask_tcp("10.100.7.207:80").server(), "a");
        // A change of one of them is a small update.
        slices[1999] = slice("s1999", &[]);
        world.apply(&services, &slices).await;
        assert_eq!(ask_tcp("10.100.7.207:80"), Answer::Refused);
        assert_eq!(ask_tcp("10.100.7.206:80").server(), "a");
        assert_eq!(
            *world.proxy.repairs().borrow(),
            0,
            "no own write was taken for a foreign one"
        );
    });
}

/// People look at rules by `nft`; it must understand every one.
#[test]
fn nft_lists_what_is_written() {
    on_a_host(|world| async move {
        let ports = [HostPort {
            host_ip: None,
            host_port: 8081,
            protocol: "TCP".into(),
            pod_port: 8080,
        }];
        let (_a, a_ip) = world.pod_with_ports("a", &ports).await;
        let everything = |spec: &mut ServiceSpec| {
            node_port(spec);
            spec.type_ = Some("LoadBalancer".into());
            spec.session_affinity = Some("ClientIP".into());
            spec.load_balancer_source_ranges = Some(vec!["192.0.2.0/24".into()]);
            spec.external_traffic_policy = Some("Local".into());
        };
        let services = [
            service("s", CLUSTER_IP, everything),
            service("empty", "10.96.1.2", plain),
            service("plain", "10.96.1.3", plain),
        ];
        let slices = [slice("s", &[a_ip]), slice("plain", &[a_ip])];
        world.apply(&services, &slices).await;
        ask_tcp(TO);
        for format in [
            &["list", "ruleset"][..],
            &["-j", "list", "ruleset"],
            &["-a", "list", "ruleset"],
        ] {
            let listed = std::process::Command::new("nft")
                .args(format)
                .output()
                .expect("nft is there: apt-get install --no-install-recommends nftables");
            let text = String::from_utf8_lossy(&listed.stdout).into_owned();
            let told = String::from_utf8_lossy(&listed.stderr).into_owned();
            let ended = listed.status;
            assert!(ended.success(), "nft {format:?} ended with {ended}: {told}\n{text}");
            // Of some statements nft itself has no JSON, which it says.
            let json = format.contains(&"-j");
            assert!(json || told.is_empty(), "nft {format:?}: {told}");
            let sticky = text.contains("update @affinity");
            assert!(sticky && !text.contains("invalid type"), "nft {format:?}:\n{text}");
        }
    });
}
