//! What happens to packets.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use proxy::{NodePortAddresses, Protocol, Ruleset, health_checks, ruleset};

use crate::build::{CLIENT, Ep, NODE, OTHER_NODES_POD, POD, Sent, Svc, config, ep, from, slice, slice_of, svc};

const IP: &str = "10.96.1.1";

fn rules(services: &[Arc<Service>], slices: &[Arc<EndpointSlice>]) -> Ruleset {
    ruleset(services, slices, &config())
}

/// Rules of one service with these endpoints.
fn one(service: Svc, endpoints: Vec<Ep>) -> Ruleset {
    rules(&[service.done()], &[slice("s", endpoints)])
}

fn check(ruleset: &Ruleset, table: &[(&str, Sent, &str)]) {
    for (what, packet, expected) in table {
        assert_eq!(packet.through(ruleset), *expected, "{what}");
    }
}

fn remote(ip: &str) -> Ep {
    ep(ip).on("n2")
}

#[test]
fn cluster_ips() {
    let ruleset = one(svc("s", IP), vec![ep("10.244.0.1"), remote("10.244.7.1")]);
    let both = "10.244.0.1:8080 10.244.7.1:8080";
    let masked = "10.244.0.1:8080+m 10.244.7.1:8080+m";
    check(
        &ruleset,
        &[
            ("a pod keeps its address", from(POD, IP), both),
            ("a pod of another node too", from(OTHER_NODES_POD, IP), both),
            ("off-cluster traffic is masqueraded", from(CLIENT, IP), masked),
            ("the host by its own address", from(NODE, IP), masked),
            ("another port", from(POD, IP).port(81), "reset"),
            ("another protocol", from(POD, IP).protocol(Protocol::Udp), "unreachable"),
            ("an unallocated address", from(POD, "10.96.9.9"), "drop"),
            ("the host to an unallocated address", from(NODE, "10.96.9.9"), "drop"),
            (
                "a service that a process here answers",
                from(POD, "10.96.0.10").port(53),
                "10.96.0.10:53",
            ),
            ("anything else", from(POD, CLIENT), "198.51.100.1:80"),
            // Endpoint 10.244.0.1 is the first of two.
            (
                "a pod that gets itself",
                from("10.244.0.1", IP),
                "10.244.0.1:8080+m 10.244.7.1:8080",
            ),
        ],
    );
}

#[test]
fn local_addresses_have_no_rules_even_as_services() {
    let dns = svc("s", "10.96.0.10");
    let ruleset = one(dns, vec![ep("10.244.0.1")]);
    check(
        &ruleset,
        &[
            ("from a pod", from(POD, "10.96.0.10"), "10.96.0.10:80"),
            ("from the host", from(NODE, "10.96.0.10"), "10.96.0.10:80"),
        ],
    );
}

#[test]
fn without_endpoints() {
    let outer = |service: Svc| {
        service
            .node_port(30080)
            .external_ip("203.0.113.1")
            .balancer("203.0.113.2", None)
    };
    for endpoints in [vec![], vec![ep("10.244.0.1").unready()], vec![ep("10.244.0.1").gone()]] {
        let ruleset = one(outer(svc("s", IP)), endpoints);
        check(
            &ruleset,
            &[
                ("pod", from(POD, IP), "reset"),
                ("host", from(NODE, IP), "reset"),
                ("node port", from(CLIENT, NODE).port(30080), "reset"),
                ("node port from the host", from(NODE, NODE).port(30080), "reset"),
                ("external address", from(CLIENT, "203.0.113.1"), "reset"),
                ("balancer address", from(CLIENT, "203.0.113.2"), "reset"),
            ],
        );
    }
    let udp = rules(&[svc("s", IP).protocol("UDP").done()], &[]);
    check(
        &udp,
        &[(
            "UDP is told by ICMP",
            from(POD, IP).protocol(Protocol::Udp),
            "unreachable",
        )],
    );
}

#[test]
fn node_ports_and_external_addresses() {
    let service = svc("s", IP)
        .node_port(30080)
        .external_ip("203.0.113.1")
        .balancer("203.0.113.2", Some("VIP"))
        .balancer("203.0.113.3", Some("Proxy"));
    let ruleset = one(service, vec![remote("10.244.7.1")]);
    let there = "10.244.7.1:8080+m";
    check(
        &ruleset,
        &[
            ("node port", from(CLIENT, NODE).port(30080), there),
            ("node port from a pod", from(POD, NODE).port(30080), there),
            ("node port from the host", from(NODE, NODE).port(30080), there),
            (
                "node port on loopback",
                from("127.0.0.1", "127.0.0.1").port(30080),
                there,
            ),
            (
                "node port of a passing packet",
                from(CLIENT, "203.0.113.9").port(30080),
                "203.0.113.9:30080",
            ),
            ("external address", from(CLIENT, "203.0.113.1"), there),
            ("balancer address", from(CLIENT, "203.0.113.2"), there),
            (
                "an address the balancer rewrites itself",
                from(CLIENT, "203.0.113.3"),
                "203.0.113.3:80",
            ),
        ],
    );
}

#[test]
fn node_port_addresses() {
    let services = [svc("s", IP).node_port(30080).done()];
    let slices = [slice("s", vec![remote("10.244.7.1")])];
    let mut cfg = config();
    cfg.node_port_addresses = NodePortAddresses::AnyLocalButLoopback;
    let by_loopback = from("127.0.0.1", "127.0.0.1").port(30080);
    check(
        &ruleset(&services, &slices, &cfg),
        &[
            ("loopback", by_loopback.clone(), "127.0.0.1:30080"),
            ("the node", from(CLIENT, NODE).port(30080), "10.244.7.1:8080+m"),
        ],
    );
    cfg.node_port_addresses = NodePortAddresses::Only(vec!["10.96.0.10".parse().unwrap()]);
    check(
        &ruleset(&services, &slices, &cfg),
        &[
            ("not chosen", from(CLIENT, NODE).port(30080), "192.0.2.1:30080"),
            ("chosen", from(CLIENT, "10.96.0.10").port(30080), "10.244.7.1:8080+m"),
        ],
    );
}

#[test]
fn external_policy_local() {
    let service = || {
        svc("s", IP)
            .node_port(30080)
            .external_ip("203.0.113.1")
            .external_local()
    };
    let ruleset = one(service(), vec![ep("10.244.0.1"), remote("10.244.7.1")]);
    let both = "10.244.0.1:8080 10.244.7.1:8080";
    check(
        &ruleset,
        &[
            (
                "a client keeps its address, locally",
                from(CLIENT, NODE).port(30080),
                "10.244.0.1:8080",
            ),
            ("by external address", from(CLIENT, "203.0.113.1"), "10.244.0.1:8080"),
            ("a pod short-circuits", from(POD, "203.0.113.1"), both),
            (
                "the host too",
                from(NODE, NODE).port(30080),
                "10.244.0.1:8080+m 10.244.7.1:8080+m",
            ),
            ("the cluster IP is not concerned", from(POD, IP), both),
        ],
    );
    let elsewhere = one(service(), vec![remote("10.244.7.1")]);
    check(
        &elsewhere,
        &[
            (
                "nothing here: dropped, so that balancers notice",
                from(CLIENT, NODE).port(30080),
                "drop",
            ),
            ("by external address", from(CLIENT, "203.0.113.1"), "drop"),
            ("pods are served", from(POD, "203.0.113.1"), "10.244.7.1:8080"),
            ("the host is served", from(NODE, NODE).port(30080), "10.244.7.1:8080+m"),
            ("the cluster IP is not concerned", from(POD, IP), "10.244.7.1:8080"),
        ],
    );
}

#[test]
fn internal_policy_local() {
    let service = || svc("s", IP).internal_local();
    let here = one(service(), vec![ep("10.244.0.1"), remote("10.244.7.1")]);
    check(&here, &[("only here", from(POD, IP), "10.244.0.1:8080")]);
    let elsewhere = one(service().node_port(30080), vec![remote("10.244.7.1")]);
    check(
        &elsewhere,
        &[
            ("dropped", from(POD, IP), "drop"),
            (
                "the node port is not concerned",
                from(CLIENT, NODE).port(30080),
                "10.244.7.1:8080+m",
            ),
        ],
    );
    check(
        &one(service(), vec![]),
        &[("refused if nobody could", from(POD, IP), "reset")],
    );
}

#[test]
fn terminating_endpoints() {
    let leaving = || ep("10.244.0.1").leaving();
    check(
        &one(svc("s", IP), vec![leaving(), remote("10.244.7.1")]),
        &[("a ready one is preferred", from(POD, IP), "10.244.7.1:8080")],
    );
    check(
        &one(svc("s", IP), vec![leaving(), ep("10.244.0.2").unready()]),
        &[("better leaving than none", from(POD, IP), "10.244.0.1:8080")],
    );
    let local = svc("s", IP).node_port(30080).external_local();
    check(
        &one(local, vec![leaving(), remote("10.244.7.1")]),
        &[
            (
                "the last one here, for its own traffic",
                from(CLIENT, NODE).port(30080),
                "10.244.0.1:8080",
            ),
            ("the cluster's is elsewhere", from(POD, IP), "10.244.7.1:8080"),
        ],
    );
}

#[test]
fn topology_hints() {
    let far = |zone: &str| remote("10.244.7.1").zone(zone);
    for (what, endpoints, expected) in [
        (
            "same zone",
            vec![ep("10.244.0.1").zone("z1"), far("z2")],
            "10.244.0.1:8080",
        ),
        (
            "a hint is missing",
            vec![ep("10.244.0.1").zone("z1"), remote("10.244.7.1")],
            "10.244.0.1:8080 10.244.7.1:8080",
        ),
        (
            "none for this zone",
            vec![ep("10.244.0.1").zone("z3"), far("z2")],
            "10.244.0.1:8080 10.244.7.1:8080",
        ),
        (
            "the node before the zone",
            vec![ep("10.244.0.1").zone("z1").hint_node("n2"), far("z1").hint_node("n1")],
            "10.244.7.1:8080",
        ),
        (
            "an unready one's hint does not count",
            vec![ep("10.244.0.1").unready(), far("z1")],
            "10.244.7.1:8080",
        ),
    ] {
        check(&one(svc("s", IP), endpoints), &[(what, from(POD, IP), expected)]);
    }
}

#[test]
fn affinity() {
    let ruleset = one(svc("s", IP).sticky(Some(60)), vec![ep("10.244.0.1"), ep("10.244.0.2")]);
    check(
        &ruleset,
        &[
            (
                "the first choice is remembered",
                from(POD, IP),
                "10.244.0.1:8080+r 10.244.0.2:8080+r",
            ),
            (
                "and followed",
                from(POD, IP).remembered("10.244.0.2"),
                "10.244.0.2:8080",
            ),
            (
                "unless it is gone",
                from(POD, IP).remembered("10.244.0.9"),
                "10.244.0.1:8080+r 10.244.0.2:8080+r",
            ),
        ],
    );
    let text = format!("{ruleset:?}");
    assert!(text.contains("timeout: 60s"));
    assert!(format!("{:?}", one(svc("s", IP).sticky(None), vec![ep("10.244.0.1")])).contains("10800s"));
}

#[test]
fn source_ranges() {
    let service = svc("s", IP)
        .balancer("203.0.113.2", None)
        .node_port(30080)
        .sources(&["198.51.100.0/25", " 192.0.2.0/24"]);
    let ruleset = one(service, vec![ep("10.244.0.1")]);
    check(
        &ruleset,
        &[
            ("allowed", from(CLIENT, "203.0.113.2"), "10.244.0.1:8080+m"),
            ("not allowed", from("198.51.100.200", "203.0.113.2"), "drop"),
            ("the node is in a range", from(NODE, "203.0.113.2"), "10.244.0.1:8080+m"),
            (
                "and so are its balancer addresses",
                from("203.0.113.2", "203.0.113.2"),
                "10.244.0.1:8080+m",
            ),
            (
                "other ways in are not restricted",
                from("198.51.100.200", NODE).port(30080),
                "10.244.0.1:8080+m",
            ),
        ],
    );
}

#[test]
fn protocols_share_a_port() {
    let services = [
        svc("t", IP).done(),
        svc("u", IP).protocol("UDP").done(),
        svc("x", IP).protocol("SCTP").done(),
    ];
    let slices = [
        slice_of("t", "t", "TCP", vec![ep("10.244.0.1")]),
        slice_of("u", "u", "UDP", vec![ep("10.244.0.2")]),
        slice_of("x", "x", "SCTP", vec![ep("10.244.0.3")]),
    ];
    let ruleset = rules(&services, &slices);
    check(
        &ruleset,
        &[
            ("TCP", from(POD, IP), "10.244.0.1:8080"),
            ("UDP", from(POD, IP).protocol(Protocol::Udp), "10.244.0.2:8080"),
            ("SCTP", from(POD, IP).protocol(Protocol::Sctp), "10.244.0.3:8080"),
        ],
    );
    let address = (IP.parse().unwrap(), 80);
    assert_eq!(ruleset.udp.by_address[&address].len(), 1);
}

#[test]
fn services_without_rules() {
    for (what, service) in [
        ("headless", svc("s", "None")),
        ("no address yet", svc("s", "")),
        (
            "alias",
            svc("s", IP).spec(|spec| spec.type_ = Some("ExternalName".into())),
        ),
        (
            "another proxy's",
            svc("s", IP).label("service.kubernetes.io/service-proxy-name"),
        ),
        ("nobody's", svc("s", IP).label("service.kubernetes.io/headless")),
        ("another family", svc("s", "fd96::1")),
    ] {
        let ruleset = one(service, vec![ep("10.244.0.1")]);
        assert_eq!(ruleset, rules(&[], &[]), "{what}");
    }
}

#[test]
fn slices_are_joined_and_duplicates_folded() {
    let slices = [
        slice_of("a", "s", "TCP", vec![ep("10.244.0.1").unready(), ep("10.244.0.2")]),
        slice_of(
            "b",
            "s",
            "TCP",
            vec![ep("10.244.0.1"), ep("not an address"), ep("0.0.0.0")],
        ),
        slice_of("c", "s", "UDP", vec![ep("10.244.0.3")]),
        slice_of("d", "other", "TCP", vec![ep("10.244.0.4")]),
    ];
    let ruleset = rules(&[svc("s", IP).done()], &slices);
    check(&ruleset, &[("both", from(POD, IP), "10.244.0.1:8080 10.244.0.2:8080")]);
}

#[test]
fn the_first_of_two_claims_has_it() {
    let services = [
        svc("b", "10.96.1.2").external_ip("203.0.113.1").done(),
        svc("a", IP).external_ip("203.0.113.1").done(),
    ];
    let slices = [slice("a", vec![ep("10.244.0.1")]), slice("b", vec![ep("10.244.0.2")])];
    let ruleset = rules(&services, &slices);
    check(
        &ruleset,
        &[("by name", from(CLIENT, "203.0.113.1"), "10.244.0.1:8080+m")],
    );
}

#[test]
fn ipv6() {
    let mut cfg = config();
    cfg.node_ips.push("2001:db8::1".parse().unwrap());
    let service = svc("s", "fd96::1").node_port(30080).done();
    let ruleset = ruleset(&[service], &[slice("s", vec![ep("fd10::1")])], &cfg);
    assert_eq!(ruleset.tables.len(), 2);
    let mut by_node_port = from("2001:db8::9", "2001:db8::1").port(30080);
    by_node_port.0.host_addresses = vec!["2001:db8::1".parse().unwrap()];
    check(
        &ruleset,
        &[
            ("pod", from("fd10::99", "fd96::1"), "fd10::1:8080"),
            ("client", from("2001:db8::9", "fd96::1"), "fd10::1:8080+m"),
            ("node port", by_node_port, "fd10::1:8080+m"),
            ("unallocated", from("fd10::99", "fd96::9"), "drop"),
        ],
    );
}

#[test]
fn health_check_ports() {
    let service = svc("s", IP)
        .node_port(30080)
        .external_local()
        .spec(|spec| spec.health_check_node_port = Some(32000));
    let slices = [slice(
        "s",
        vec![ep("10.244.0.1"), ep("10.244.0.2").unready(), remote("10.244.7.1")],
    )];
    let checks = health_checks(&[service.done()], &slices, &config());
    assert_eq!(checks[&32000].local_endpoints, 1);
    assert_eq!(checks[&32000].service, ("ns".to_owned(), "s".to_owned()));
}
