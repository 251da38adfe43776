use serde_json::{Value, json};

use super::*;
use crate::fake::{Fake, node};

fn service(name: &str, port: i32) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "ns", "name": name},
        "spec": {"type": "LoadBalancer", "ipFamilies": ["IPv4"], "externalTrafficPolicy": "Cluster",
            "ports": [{"port": port, "protocol": "TCP", "nodePort": 31000 + port}]},
    })
}

fn machine(name: &str, addresses: &[(&str, &str)]) -> Value {
    let mut node = node(name);
    let addresses: Vec<Value> = addresses
        .iter()
        .map(|(kind, ip)| json!({"type": kind, "address": ip}))
        .collect();
    node["status"]["addresses"] = json!(addresses);
    node
}

fn cluster() -> Fake {
    let mut fake = Fake::new();
    fake.put(
        "nodes",
        machine(
            "a",
            &[
                ("InternalIP", "192.0.2.1"),
                ("InternalIP", "2001:db8::1"),
                ("Hostname", "a"),
            ],
        ),
    );
    fake.put(
        "nodes",
        machine("b", &[("InternalIP", "10.0.0.2"), ("ExternalIP", "192.0.2.2")]),
    );
    fake
}

fn addresses_of(fake: &Fake, name: &str) -> String {
    let service = fake.json::<Service>("ns", name);
    let ingress = service["status"]["loadBalancer"]["ingress"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    assert!(ingress.iter().all(|one| one["ipMode"] == "VIP"));
    let ips: Vec<&str> = ingress.iter().filter_map(|one| one["ip"].as_str()).collect();
    ips.join(" ")
}

fn settle(fake: &mut Fake, name: &str) -> String {
    fake.settle(reconcile, &Key::new("ns", name));
    addresses_of(fake, name)
}

#[test]
fn a_service_has_the_nodes_addresses() {
    let mut fake = cluster();
    fake.put("services", service("web", 80));
    assert_eq!(settle(&mut fake, "web"), "192.0.2.1 192.0.2.2");
    assert_eq!(
        fake.events,
        [
            "EnsuringLoadBalancer: Ensuring load balancer",
            "EnsuredLoadBalancer: Ensured load balancer"
        ]
    );
    assert_eq!(
        fake.json::<Service>("ns", "web")["metadata"]["finalizers"],
        json!([FINALIZER])
    );
    // Nodes come and go.
    let not_ready = json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}});
    let cases = [
        (
            json!({"metadata": {"labels": {EXCLUDED: ""}}}),
            json!({"metadata": {"labels": null}}),
        ),
        (
            json!({"spec": {"taints": [{"key": GOING, "effect": "NoSchedule"}]}}),
            json!({"spec": {"taints": null}}),
        ),
        (
            not_ready,
            json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}),
        ),
    ];
    for (change, back) in cases {
        fake.change::<Node>("", "b", change.clone());
        assert_eq!(settle(&mut fake, "web"), "192.0.2.1", "{change}");
        fake.change::<Node>("", "b", back);
        assert_eq!(settle(&mut fake, "web"), "192.0.2.1 192.0.2.2");
    }
    assert_eq!(
        fake.events[2],
        "UpdatedLoadBalancer: Updated load balancer with new hosts"
    );
}

#[test]
fn what_a_service_asks_for() {
    let cases = [
        (json!({"spec": {"ipFamilies": ["IPv6"]}}), "2001:db8::1"),
        (
            json!({"spec": {"ipFamilies": ["IPv4", "IPv6"]}}),
            "192.0.2.1 192.0.2.2 2001:db8::1",
        ),
        (json!({"spec": {"loadBalancerIP": "192.0.2.2"}}), "192.0.2.2"),
        (json!({"spec": {"loadBalancerIP": "192.0.2.9"}}), "192.0.2.1 192.0.2.2"),
        (
            json!({"spec": {"allocateLoadBalancerNodePorts": false, "ports": [{"port": 80}]}}),
            "192.0.2.1 192.0.2.2",
        ),
        (json!({"spec": {"externalTrafficPolicy": "Local"}}), "192.0.2.1"),
    ];
    for (change, expected) in cases {
        let mut fake = cluster();
        fake.put("services", service("web", 80));
        fake.change::<Service>("ns", "web", change.clone());
        fake.put(
            "endpointslices",
            json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": {"namespace": "ns", "name": "web-1", "labels": {SERVICE_NAME: "web"}},
                "endpoints": [{"addresses": ["10.1.0.1"], "nodeName": "a", "conditions": {"ready": true}},
                    {"addresses": ["10.1.0.2"], "nodeName": "b", "conditions": {"ready": false}}]}),
        );
        assert_eq!(settle(&mut fake, "web"), expected, "{change}");
    }
}

#[test]
fn others_classes_are_left_alone() {
    let mut fake = cluster();
    let mut foreign = service("web", 80);
    foreign["spec"]["loadBalancerClass"] = json!("example.com/other");
    fake.put("services", foreign);
    assert!(reconcile(&fake, &Key::new("ns", "web"), &fake.turn()).is_empty());
}

#[test]
fn addresses_go_before_the_service_does() {
    let changes = [
        json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
        json!({"spec": {"type": "ClusterIP"}}),
    ];
    for change in changes {
        let mut fake = cluster();
        fake.put("services", service("web", 80));
        settle(&mut fake, "web");
        fake.events.clear();
        fake.change::<Service>("ns", "web", change);
        assert_eq!(settle(&mut fake, "web"), "");
        assert_eq!(fake.json::<Service>("ns", "web")["metadata"]["finalizers"], json!([]));
        assert_eq!(
            fake.events,
            [
                "DeletingLoadBalancer: Deleting load balancer",
                "DeletedLoadBalancer: Deleted load balancer"
            ]
        );
    }
}

#[test]
fn a_port_is_one_services_only() {
    let mut fake = cluster();
    fake.put("services", service("first", 80));
    settle(&mut fake, "first");
    fake.sleep(5);
    fake.put("services", service("a-second", 80))
        .put("services", service("other", 81));
    fake.events.clear();
    assert_eq!(settle(&mut fake, "a-second"), "");
    assert_eq!(
        fake.events[1],
        "SyncLoadBalancerFailed: Error syncing load balancer: failed to ensure load balancer: port 80/TCP of the nodes is taken by service ns/first"
    );
    assert_eq!(fake.events.len(), 2);
    assert_eq!(settle(&mut fake, "other"), "192.0.2.1 192.0.2.2");
    assert_eq!(settle(&mut fake, "first"), "192.0.2.1 192.0.2.2");
    // The one that waits is looked at again when the port is free.
    let old: Service = serde_json::from_value(fake.json::<Service>("ns", "first")).unwrap();
    fake.remove::<Service>("ns", "first");
    assert!(keys_of_service(&fake, Some(&old), None).contains(&Key::new("ns", "a-second")));
    assert_eq!(settle(&mut fake, "a-second"), "192.0.2.1 192.0.2.2");
    // UDP is another port; node ports and the cluster's own are not free.
    let mut udp = service("udp", 80);
    udp["spec"]["ports"][0]["protocol"] = json!("UDP");
    fake.put("services", udp)
        .put("services", service("node-port", 31080))
        .put("services", service("api", 6443));
    fake.network.node_ports_in_use = vec![6443];
    assert_eq!(settle(&mut fake, "udp"), "192.0.2.1 192.0.2.2");
    assert_eq!(settle(&mut fake, "node-port"), "");
    assert_eq!(settle(&mut fake, "api"), "");
}

#[test]
fn without_nodes_it_waits() {
    let mut fake = Fake::new();
    fake.put("nodes", machine("a", &[("InternalIP", "127.0.0.1")]))
        .put("services", service("web", 80));
    assert_eq!(settle(&mut fake, "web"), "");
    assert_eq!(
        fake.events[1],
        "UnAvailableLoadBalancer: There are no available nodes for LoadBalancer"
    );
    fake.change::<Node>(
        "",
        "a",
        json!({"status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}}),
    );
    assert_eq!(settle(&mut fake, "web"), "192.0.2.1");
}
