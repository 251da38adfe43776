use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use serde_json::json;

use crate::dns::{ClusterDns, parse, pod_resolver};
use crate::env::{EnvError, Sources, environment, references};
use crate::fields::{self, NodeFacts};
use crate::probe::{Around, Kind, Prober};
use crate::reclaim::{ImagePolicy, ImageUse, PodUse, dead_containers, first_to_evict, images};
use crate::service_env::{Links, variables};
use crate::testing::{World, at, pod};
use crate::{ContainerState, ProbeResult, Qos, hosts, qos, resources, security, termination_message};

fn typed<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
    serde_json::from_value(value).unwrap()
}

#[test]
fn classes_of_quality() {
    let rl = |requests: &str, limits: &str| {
        let parse = |text: &str| -> serde_json::Value { serde_json::from_str(text).unwrap() };
        json!({"name": "a", "resources": {"requests": parse(requests), "limits": parse(limits)}})
    };
    let both = r#"{"cpu":"1","memory":"1Gi"}"#;
    for (containers, expected) in [
        (vec![json!({"name": "a"})], Qos::BestEffort),
        (vec![rl(both, both)], Qos::Guaranteed),
        (vec![rl("{}", both)], Qos::Burstable),
        (vec![rl(both, "{}")], Qos::Burstable),
        (vec![rl(both, both), json!({"name": "b"})], Qos::Burstable),
        (vec![rl(r#"{"cpu":"0"}"#, "{}")], Qos::BestEffort),
    ] {
        let pod = pod(json!({"containers": containers}));
        assert_eq!(qos::class(pod.spec.as_ref().unwrap()), expected, "{containers:?}");
    }
}

#[test]
fn control_groups() {
    assert_eq!(
        [0, 1, 100, 1000, 1_000_000].map(resources::shares),
        [2, 2, 102, 1024, 262_144]
    );
    assert_eq!(
        [0, 1, 500, 2000].map(resources::quota),
        [None, Some(1000), Some(50_000), Some(200_000)]
    );
    let pod = pod(json!({"containers": [
        {"name": "a", "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "128Mi"}}},
        {"name": "b", "resources": {"requests": {"cpu": "200m"}, "limits": {"cpu": "1"}}}]}));
    let spec = pod.spec.as_ref().unwrap();
    let whole = resources::pod_cgroup(spec);
    assert_eq!(
        (whole.cpu_shares, whole.cpu_quota, whole.memory_limit),
        (307, Some(200_000), None)
    );
    let a = resources::container_cgroup(spec, &spec.containers[0]);
    assert_eq!(
        (a.cpu_shares, a.cpu_quota, a.memory_limit),
        (102, Some(100_000), Some(128 << 20))
    );
    assert_eq!(resources::oom_score_adj(&pod, &spec.containers[0], 640 << 20), 900);
    assert_eq!(resources::oom_score_adj(&pod, &spec.containers[1], 640 << 20), 999);
    assert_eq!(resources::cgroup_parent("/skiff", &pod), "/skiff/burstable/podu1");
}

#[test]
fn environment_in_order_with_references() {
    let pod = pod(json!({"nodeName": "n1", "containers": [{"name": "a",
    "resources": {"limits": {"cpu": "1500m"}, "requests": {"memory": "64Mi"}},
    "envFrom": [{"configMapRef": {"name": "cm"}, "prefix": "P_"}, {"secretRef": {"name": "none", "optional": true}}],
    "env": [
        {"name": "PLAIN", "value": "x"},
        {"name": "REF", "value": "$(PLAIN)-$(P_KEY)-$(HELLO_SERVICE_HOST)-$(NOPE)-$$(PLAIN)"},
        {"name": "P_OTHER", "value": "overridden"},
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
        {"name": "MEM", "valueFrom": {"resourceFieldRef": {"resource": "requests.memory", "divisor": "1Mi"}}},
        {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        {"name": "GONE", "valueFrom": {"secretKeyRef": {"name": "s", "key": "nokey", "optional": true}}},
    ]}]}));
    let container = pod.spec.as_ref().unwrap().containers[0].clone();
    let needed = references(&container);
    assert_eq!(
        (needed.config_maps, needed.secrets),
        (vec!["cm".to_string()], vec!["none".to_string(), "s".into()])
    );
    let config_maps = BTreeMap::from([(
        "cm".to_string(),
        typed::<ConfigMap>(json!({"data": {"KEY": "v", "OTHER": "o", "a=b": "bad"}})),
    )]);
    let secrets = BTreeMap::from([("s".to_string(), typed::<Secret>(json!({"data": {"k": "aGk="}})))]);
    let services = BTreeMap::from([("HELLO_SERVICE_HOST".to_string(), "10.96.0.7".to_string())]);
    let ips = [IpAddr::from([10, 0, 0, 5])];
    let facts = NodeFacts {
        pod_ips: &ips,
        ..NodeFacts::default()
    };
    let sources = Sources {
        config_maps: &config_maps,
        secrets: &secrets,
        services: &services,
        facts,
    };
    let env = environment(&pod, &container, &sources).unwrap();
    let shown: Vec<_> = env.variables.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(
        shown,
        [
            "P_KEY=v",
            "P_OTHER=overridden",
            "PLAIN=x",
            "REF=x-v-10.96.0.7-$(NOPE)-$(PLAIN)",
            "NODE=n1",
            "IP=10.0.0.5",
            "CPU=2",
            "MEM=64",
            "SECRET=hi",
            "HELLO_SERVICE_HOST=10.96.0.7"
        ]
    );
    assert_eq!(
        env.skipped,
        [("configMap", "cm".to_string(), vec!["P_a=b".to_string()])]
    );
    assert_eq!(env.expand("say $(PLAIN)"), "say x");
    assert_eq!(
        env.expand_strictly("d/$(NOPE)").unwrap_err(),
        EnvError::Missing("NOPE".into())
    );
    let none = BTreeMap::new();
    let sources = Sources {
        config_maps: &none,
        ..sources
    };
    assert_eq!(
        environment(&pod, &container, &sources).unwrap_err().to_string(),
        "configmap \"cm\" not found"
    );
}

#[test]
fn service_variables() {
    let services: Vec<Service> = vec![
        typed(json!({"metadata": {"name": "kubernetes", "namespace": "default"},
            "spec": {"clusterIP": "10.96.0.1", "ports": [{"name": "https", "port": 443, "protocol": "TCP"}]}})),
        typed(json!({"metadata": {"name": "my-svc", "namespace": "ns"},
            "spec": {"clusterIP": "10.96.0.2", "ports": [{"port": 53, "protocol": "UDP"}]}})),
        typed(
            json!({"metadata": {"name": "headless", "namespace": "ns"}, "spec": {"clusterIP": "None", "ports": [{"port": 1}]}}),
        ),
        typed(
            json!({"metadata": {"name": "other", "namespace": "elsewhere"}, "spec": {"clusterIP": "10.96.0.3", "ports": [{"port": 1}]}}),
        ),
    ];
    let own = variables(services.iter(), "ns", Links::Own);
    let shown: Vec<_> = own.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(
        shown,
        [
            "KUBERNETES_PORT=tcp://10.96.0.1:443",
            "KUBERNETES_PORT_443_TCP=tcp://10.96.0.1:443",
            "KUBERNETES_PORT_443_TCP_ADDR=10.96.0.1",
            "KUBERNETES_PORT_443_TCP_PORT=443",
            "KUBERNETES_PORT_443_TCP_PROTO=tcp",
            "KUBERNETES_SERVICE_HOST=10.96.0.1",
            "KUBERNETES_SERVICE_PORT=443",
            "KUBERNETES_SERVICE_PORT_HTTPS=443",
            "MY_SVC_PORT=udp://10.96.0.2:53",
            "MY_SVC_PORT_53_UDP=udp://10.96.0.2:53",
            "MY_SVC_PORT_53_UDP_ADDR=10.96.0.2",
            "MY_SVC_PORT_53_UDP_PORT=53",
            "MY_SVC_PORT_53_UDP_PROTO=udp",
            "MY_SVC_SERVICE_HOST=10.96.0.2",
            "MY_SVC_SERVICE_PORT=53",
        ]
    );
    assert_eq!(variables(services.iter(), "ns", Links::None).len(), 8);
}

#[test]
fn downward_fields() {
    let mut pod = pod(json!({"containers": []}));
    pod.metadata.labels = Some(BTreeMap::from([("b".into(), "2".into()), ("a".into(), "x\"y".into())]));
    let facts = NodeFacts::default();
    let get = |path: &str| fields::field(&pod, path, &facts);
    assert_eq!(get("metadata.labels").unwrap(), "a=\"x\\\"y\"\nb=\"2\"");
    assert_eq!(get("metadata.labels['b']").unwrap(), "2");
    assert_eq!(get("metadata.annotations['none']").unwrap(), "");
    assert_eq!(
        get("spec.tolerations").unwrap_err().to_string(),
        "unsupported fieldPath: spec.tolerations"
    );
}

#[test]
fn resolvers_by_policy() {
    let host =
        parse("# c\nnameserver 1.1.1.1\nnameserver 8.8.8.8\nsearch corp.example. example\noptions ndots:2 rotate\n");
    let dns = [IpAddr::from([10, 96, 0, 10])];
    let cluster = ClusterDns {
        servers: &dns,
        domain: "cluster.local",
    };
    let show = |spec: serde_json::Value| {
        let (r, _) = pod_resolver(&pod(spec), &host, &cluster);
        format!(
            "{}|{}|{}",
            r.servers.join(" "),
            r.searches.join(" "),
            r.options.join(" ")
        )
    };
    let clustered = "10.96.0.10|ns.svc.cluster.local svc.cluster.local cluster.local corp.example example|ndots:5";
    let hosts = "1.1.1.1 8.8.8.8|corp.example example|ndots:2 rotate";
    assert_eq!(show(json!({"containers": []})), clustered);
    assert_eq!(show(json!({"containers": [], "hostNetwork": true})), hosts);
    assert_eq!(
        show(json!({"containers": [], "hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"})),
        clustered
    );
    assert_eq!(show(json!({"containers": [], "dnsPolicy": "Default"})), hosts);
    let config = json!({"nameservers": ["9.9.9.9"], "searches": ["x"], "options": [{"name": "ndots", "value": "1"}, {"name": "edns0"}]});
    assert_eq!(
        show(json!({"containers": [], "dnsPolicy": "None", "dnsConfig": config})),
        "9.9.9.9|x|ndots:1 edns0"
    );
}

#[test]
fn hosts_files() {
    let pod = pod(json!({"containers": [], "hostname": "h", "subdomain": "sub"}));
    assert_eq!(hosts::hostname(&pod), "h");
    assert_eq!(
        hosts::domain(&pod, "cluster.local").as_deref(),
        Some("sub.ns.svc.cluster.local")
    );
    let aliases = [typed(json!({"ip": "1.2.3.4", "hostnames": ["x", "y"]}))];
    let text = hosts::managed(
        &[IpAddr::from([10, 0, 0, 5])],
        "h",
        Some("sub.ns.svc.cluster.local"),
        &aliases,
    );
    assert!(
        text.ends_with("10.0.0.5\th.sub.ns.svc.cluster.local\th\n\n# Entries added by HostAliases.\n1.2.3.4\tx\ty\n")
    );
}

#[test]
fn security_contexts_merge() {
    let pod = pod(
        json!({"securityContext": {"runAsUser": 1, "runAsNonRoot": true, "fsGroup": 7, "supplementalGroups": [8]},
        "containers": [{"name": "a", "securityContext": {"runAsUser": 2, "allowPrivilegeEscalation": false}}, {"name": "b"}]}),
    );
    let spec = pod.spec.as_ref().unwrap();
    let a = security::effective(spec, &spec.containers[0]);
    assert_eq!(
        (a.run_as_user, a.no_new_privileges, a.supplemental_groups.clone()),
        (Some(2), true, vec![8, 7])
    );
    let mut b = security::effective(spec, &spec.containers[1]);
    assert!(security::verify_non_root(&b, "", "p", "b").is_ok());
    b.run_as_user = None;
    for (user, ok) in [
        ("", false),
        ("0", false),
        ("0:5", false),
        ("1000:5", true),
        ("app", false),
    ] {
        assert_eq!(security::verify_non_root(&b, user, "p", "b").is_ok(), ok, "{user}");
    }
}

#[test]
fn probes_step_by_thresholds() {
    let probe =
        typed(json!({"initialDelaySeconds": 5, "periodSeconds": 2, "failureThreshold": 2, "successThreshold": 2}));
    let up = Around {
        started: true,
        deleted: false,
    };
    let mut prober = Prober::new(Kind::Readiness, &probe, at(0), None);
    assert_eq!(prober.next(up), Some(at(5)));
    assert_eq!(
        prober.next(Around {
            started: false,
            deleted: false
        }),
        None
    );
    assert_eq!(prober.observe(ProbeResult::Success, at(5)), None);
    assert_eq!(prober.next(up), Some(at(7)));
    assert_eq!(prober.observe(ProbeResult::Success, at(7)), Some(ProbeResult::Success));
    assert_eq!(prober.observe(ProbeResult::Failure, at(9)), None);
    assert_eq!(prober.observe(ProbeResult::Unknown, at(11)), None);
    assert_eq!(prober.observe(ProbeResult::Failure, at(13)), Some(ProbeResult::Failure));
    assert_eq!(prober.next(up), Some(at(15)));
    let eager = typed(json!({"periodSeconds": 10}));
    let mut prober = Prober::new(Kind::Readiness, &eager, at(0), None);
    let mut tried = Vec::new();
    for _ in 0..6 {
        let next = prober.next(up).unwrap();
        tried.push(next.duration_since(at(0)).as_millis());
        prober.observe(ProbeResult::Failure, next);
    }
    assert_eq!(
        tried,
        [500, 1500, 3500, 7500, 15_500, 25_500],
        "sooner at first, then by the period"
    );
    let mut prober = Prober::new(Kind::Liveness, &probe, at(0), None);
    assert_eq!(
        prober.next(Around {
            started: true,
            deleted: true
        }),
        None
    );
    prober.observe(ProbeResult::Failure, at(5));
    assert_eq!(prober.observe(ProbeResult::Failure, at(7)), Some(ProbeResult::Failure));
    assert_eq!(prober.next(up), None, "held until there is a new container");
    let mut prober = Prober::new(Kind::Startup, &typed(json!({})), at(0), None);
    assert_eq!(prober.verdict(), ProbeResult::Unknown);
    assert_eq!(prober.observe(ProbeResult::Success, at(1)), Some(ProbeResult::Success));
    assert_eq!(prober.next(up), None);
}

#[test]
fn images_and_containers_to_remove() {
    let image = |id: &str, used: i64, in_use| ImageUse {
        id: id.into(),
        size: 10,
        detected: at(0),
        last_used: at(used),
        in_use,
        pinned: id == "pinned",
    };
    let all = [
        image("new", 50, false),
        image("old", 10, false),
        image("busy", 1, true),
        image("pinned", 0, false),
    ];
    let policy = ImagePolicy::default();
    assert!(images(&all, 100, 16, policy, at(1000)).is_empty());
    assert_eq!(images(&all, 100, 14, policy, at(1000)), ["old"]);
    assert_eq!(images(&all, 100, 5, policy, at(1000)), ["old", "new"]);
    assert!(images(&all, 100, 5, policy, at(60)).is_empty(), "too young");
    let world = World::new(pod(json!({"containers": [{"name": "a"}]}))).sandbox("s", true);
    let world = world
        .container("a", ContainerState::Exited, 1)
        .container("a", ContainerState::Exited, 1);
    let world = world.container("a", ContainerState::Running, 0);
    assert_eq!(dead_containers(&world.runtime.containers), ["a-0"]);
}

#[test]
fn eviction_takes_those_above_their_requests_first() {
    let pod = |uid: &str, priority, used, requested| PodUse {
        uid: uid.into(),
        qos: Qos::Burstable,
        priority,
        used,
        requested,
        critical: false,
    };
    let pods = [
        pod("within", 0, 10, 20),
        pod("high", 100, 50, 10),
        pod("low", 0, 30, 10),
        pod("lower", 0, 40, 10),
    ];
    assert_eq!(first_to_evict(&pods).unwrap().uid, "lower");
}

#[test]
fn messages_of_the_dead() {
    use termination_message::{Policy, message};
    let policy = Policy::parse(Some("FallbackToLogsOnError"));
    assert!(policy.wants_log(1, b"") && !policy.wants_log(0, b"") && !policy.wants_log(1, b"x"));
    assert_eq!(message("", b"bye", ""), "bye");
    assert_eq!(message("oom", b"bye", ""), "oom: bye");
    let log: String = (0..100).map(|n| format!("{n}\n")).collect();
    assert!(message("", b"", &log).starts_with("20\n"));
}
