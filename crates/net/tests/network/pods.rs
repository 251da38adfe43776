//! Pods' connectivity, leases, host ports, clean-up.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;

use futures_util::TryStreamExt;
use net::{HostPort, PodNetError, PodNetwork};

use rtnetlink::RouteMessageBuilder;

use crate::foreign;
use crate::world::{Answer, NODE_IP, OUTSIDE_IP, ask_tcp, ask_udp, links, on_a_host, udp_to};

#[test]
fn pods_reach_each_other_the_host_and_the_world() {
    on_a_host(|world| async move {
        let (a, a_ip) = world.pod("a").await;
        let (_b, b_ip) = world.pod("b").await;
        let to_b = a.ask_tcp(&format!("{b_ip}:8080"));
        assert_eq!((to_b.server(), to_b.client()), ("b", a_ip.to_string().as_str()));
        let from_host = ask_tcp(&format!("{b_ip}:8080"));
        assert_eq!((from_host.server(), from_host.client()), ("b", "10.244.0.1"));
        assert_eq!(a.ask_tcp(&format!("{a_ip}:8080")).server(), "a", "a pod reaches itself");

        world.outside.serve("world", 9000);
        let outward = a.ask_tcp(&format!("{OUTSIDE_IP}:9000"));
        assert_eq!((outward.server(), outward.client()), ("world", NODE_IP), "masqueraded");
        assert_eq!(
            a.ask_tcp(&format!("{NODE_IP}:1")),
            Answer::Refused,
            "the host itself answers"
        );
    });
}

#[test]
fn the_hosts_loopback_is_out_of_reach_for_pods() {
    on_a_host(|world| async move {
        let (a, _) = world.pod("a").await;
        let listener = std::net::TcpListener::bind("127.0.0.1:7777").expect("listen");
        a.run(route_loopback_to_the_host);
        let asked = || {
            a.run(|| {
                let to = "127.0.0.1:7777".parse().expect("address");
                let wait = std::time::Duration::from_millis(300);
                std::net::TcpStream::connect_timeout(&to, wait).map(drop)
            })
        };
        assert!(asked().is_err(), "a privileged pod reached the host's loopback");
        // The trick itself works: only our rule stands in its way.
        world.pods.shutdown();
        foreign::make("skiff-pods", foreign::Change::DeleteTable);
        asked().expect("reachable without the rule");
        drop(listener);
    });
}

/// What a pod with its own CAP_NET_ADMIN can do.
fn route_loopback_to_the_host() {
    for interface in ["all", "eth0"] {
        let path = format!("/proc/sys/net/ipv4/conf/{interface}/route_localnet");
        fs::write(path, "1").expect("sysctl");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("runtime").block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().expect("rtnetlink");
        tokio::spawn(connection);
        let link = |name: &str| handle.link().get().match_name(name).execute();
        let lo = link("lo").try_next().await.expect("lo").expect("lo").header.index;
        let eth0 = link("eth0").try_next().await.expect("eth0").expect("eth0").header.index;
        let own = handle.address().get().set_link_index_filter(lo).execute();
        for address in own.try_collect::<Vec<_>>().await.expect("addresses") {
            handle.address().del(address).execute().await.expect("remove from lo");
        }
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(Ipv4Addr::new(127, 0, 0, 0), 8)
            .gateway(Ipv4Addr::new(10, 244, 0, 1))
            .output_interface(eth0)
            .build();
        handle.route().add(route).execute().await.expect("route");
    });
}

#[test]
fn setup_is_repeatable_and_teardown_forgets() {
    on_a_host(|world| async move {
        let (space, ip) = world.pod("a").await;
        let again = world.pods.setup("a", &space.path, &[]).await.expect("again");
        assert_eq!(again, ip);
        assert_eq!(ask_tcp(&format!("{ip}:8080")).server(), "a");
        world.pods.teardown("a").await.expect("teardown");
        world.pods.teardown("a").await.expect("teardown twice");
        assert_eq!(world.pods.address("a"), None);
        let (_, next) = world.pod("b").await;
        assert_ne!(next, ip, "a freed address rests");
    });
}

#[test]
fn a_restart_finds_its_pods_and_removes_the_dead() {
    on_a_host(|world| async move {
        let (_a, a_ip) = world.pod("a").await;
        let (_b, b_ip) = world.pod("b").await;
        let before = links().await;
        world.pods.shutdown();
        let pods = PodNetwork::open(world.net.clone()).await.expect("open again");
        assert_eq!(
            ask_tcp(&format!("{a_ip}:8080")).server(),
            "a",
            "running pods are not disturbed"
        );
        assert_eq!((pods.address("a"), pods.address("b")), (Some(a_ip), Some(b_ip)));

        pods.reconcile(&BTreeSet::from(["a".to_owned()]))
            .await
            .expect("reconcile");
        assert_eq!(ask_tcp(&format!("{a_ip}:8080")).server(), "a");
        assert_eq!(pods.address("b"), None);
        assert_eq!(links().await.len(), before.len() - 1, "b's interface is gone");
        // A second run does nothing.
        pods.reconcile(&BTreeSet::from(["a".to_owned()]))
            .await
            .expect("reconcile again");
        assert_eq!(pods.address("a"), Some(a_ip));
    });
}

#[test]
fn host_ports_lead_to_their_pod() {
    on_a_host(|world| async move {
        let port = HostPort {
            host_ip: None,
            host_port: 8888,
            protocol: "TCP".to_owned(),
            pod_port: 8080,
        };
        let (a, _) = world.pod_with_ports("a", std::slice::from_ref(&port)).await;
        let (b, _) = world.pod("b").await;
        let to = format!("{NODE_IP}:8888");
        let outside = world.outside.ask_tcp(&to);
        assert_eq!(
            (outside.server(), outside.client()),
            ("a", OUTSIDE_IP),
            "the client is seen"
        );
        assert_eq!(ask_tcp("127.0.0.1:8888").server(), "a");
        assert_eq!(ask_tcp(&to).server(), "a");
        assert_eq!(b.ask_tcp(&to).server(), "a");
        assert_eq!(a.ask_tcp(&to).server(), "a", "hairpin");

        let clash = world.pods.setup("c", &b.path, std::slice::from_ref(&port)).await;
        assert!(
            matches!(clash, Err(PodNetError::PortTaken { port: 8888, .. })),
            "{clash:?}"
        );
        world.pods.teardown("a").await.expect("teardown");
        assert_eq!(world.outside.ask_tcp(&to), Answer::Refused);
    });
}

#[test]
fn a_udp_host_port_follows_its_pod() {
    on_a_host(|world| async move {
        let port = HostPort {
            host_ip: None,
            host_port: 5353,
            protocol: "UDP".to_owned(),
            pod_port: 8080,
        };
        let flow = udp_to(&format!("{NODE_IP}:5353"));
        let (_a, _) = world.pod_with_ports("a", std::slice::from_ref(&port)).await;
        assert_eq!(ask_udp(&flow).server(), "a");
        world.pods.teardown("a").await.expect("teardown");
        assert_eq!(ask_udp(&flow), Answer::Refused, "nothing is left of it");
        let (_b, _) = world.pod_with_ports("b", std::slice::from_ref(&port)).await;
        assert_eq!(ask_udp(&flow).server(), "b", "for the same socket");
    });
}

#[test]
fn reconciling_with_an_old_list_spares_new_sandboxes() {
    on_a_host(|world| async move {
        let (_a, ip) = world.pod("a").await;
        world.pods.reconcile(&BTreeSet::new()).await.expect("reconcile");
        assert_eq!(world.pods.address("a"), Some(ip));
        assert_eq!(ask_tcp(&format!("{ip}:8080")).server(), "a");
    });
}

#[test]
fn a_namespace_that_is_none_is_an_error_and_keeps_nothing() {
    on_a_host(|world| async move {
        let before = links().await;
        for path in ["/nonexistent/netns", "/etc/passwd"] {
            let error = world.pods.setup("a", path.as_ref(), &[]).await.expect_err(path);
            assert!(error.to_string().contains("cannot"), "{error}");
            assert_eq!(world.pods.address("a"), None);
        }
        assert_eq!(links().await, before);
    });
}

#[test]
fn cleanup_leaves_the_host_as_it_was() {
    on_a_host(|world| async move {
        let (_a, _) = world.pod("a").await;
        world.apply(&[], &[]).await;
        let state = world.net.state_dir.clone();
        assert!(links().await.contains(&"skiff0".to_owned()));
        world.pods.shutdown();
        world.proxy.shutdown();
        net::cleanup(&state, &world.net).await.expect("cleanup");
        assert_eq!(links().await, ["lo", "uplink"]);
        assert!(!state.exists());
        let forward = fs::read_to_string("/proc/sys/net/ipv4/ip_forward").expect("sysctl");
        assert_eq!(forward.trim(), "0", "the setting from before");
        net::cleanup(&state, &world.net).await.expect("cleanup twice");
    });
}
