use super::*;
use api::Value;
use serde_json::json;

fn rules(level: Level, minor: Option<u32>) -> Rules {
    Rules {
        level,
        version: minor.map_or(Version::Latest, Version::Minor),
    }
}

fn told(level: Level, minor: Option<u32>, pod: &Value) -> String {
    details(&evaluate(rules(level, minor), &Subject::of(pod)))
}

/// A pod that the restricted level takes.
fn hardened() -> Value {
    json!({"metadata": {"name": "p"}, "spec": {
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "initContainers": [{"name": "i", "securityContext":
            {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}],
        "containers": [{"name": "c", "securityContext":
            {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}}],
        "volumes": [{"name": "v", "emptyDir": {}}, {"name": "w", "image": {}}]}})
}

fn with(path: &str, value: Value) -> Value {
    let mut pod = hardened();
    let mut at = &mut pod;
    for field in path.split('.') {
        at = match field.parse::<usize>() {
            Ok(index) => &mut at[index],
            Err(_) => &mut at[field],
        };
    }
    *at = value;
    pod
}

#[test]
fn a_hardened_pod_passes_everywhere() {
    for minor in (0..=40).map(Some).chain([None]) {
        assert_eq!(told(Level::Restricted, minor, &hardened()), "", "{minor:?}");
    }
    let plain = json!({"spec": {"containers": [{"name": "c"}]}});
    assert_eq!(told(Level::Baseline, None, &plain), "");
    assert_eq!(
        told(Level::Restricted, None, &plain),
        "allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), \
         unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]), \
         runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true), \
         seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
    );
    assert_eq!(told(Level::Privileged, None, &plain), "");
}

/// (what is set, to what, the violation of the baseline level).
#[test]
fn the_baseline_level() {
    let context = "spec.containers.0.securityContext";
    let cases = [
        (
            "metadata.annotations",
            json!({"container.apparmor.security.beta.kubernetes.io/c": "unconfined"}),
            "forbidden AppArmor profile (annotation must not set AppArmor profile type to \
             \"container.apparmor.security.beta.kubernetes.io/c=\"unconfined\"\")",
        ),
        (
            "spec.securityContext.appArmorProfile",
            json!({"type": "Unconfined"}),
            "forbidden AppArmor profile (pod must not set AppArmor profile type to \"Unconfined\")",
        ),
        (
            &format!("{context}.capabilities.add"),
            json!(["SYS_ADMIN", "CHOWN", "BPF"]),
            "non-default capabilities (container \"c\" must not include \"BPF\", \"SYS_ADMIN\" in securityContext.capabilities.add)",
        ),
        ("spec.hostPID", json!(true), "host namespaces (hostPID=true)"),
        (
            "spec.volumes",
            json!([{"name": "a", "hostPath": {"path": "/"}}, {"name": "b", "hostPath": {}}]),
            "hostPath volumes (volumes \"a\", \"b\")",
        ),
        (
            "spec.containers.0.ports",
            json!([{"hostPort": 80}, {"hostPort": 443}, {"containerPort": 1}]),
            "hostPort (container \"c\" uses hostPorts 443, 80)",
        ),
        (
            "spec.containers.0.livenessProbe",
            json!({"httpGet": {"host": "8.8.8.8"}}),
            "probe or lifecycle host (container \"c\" uses probe or lifecycle host \"8.8.8.8\")",
        ),
        (
            &format!("{context}.privileged"),
            json!(true),
            "privileged (container \"c\" must not set securityContext.privileged=true)",
        ),
        (
            &format!("{context}.procMount"),
            json!("Unmasked"),
            "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")",
        ),
        (
            &format!("{context}.seLinuxOptions"),
            json!({"type": "x", "user": "u", "role": "r"}),
            "seLinuxOptions (container \"c\" set forbidden securityContext.seLinuxOptions: type \"x\"; user may not be set; role may not be set)",
        ),
        (
            "spec.securityContext.seccompProfile",
            json!({"type": "Unconfined"}),
            "seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
        (
            "spec.securityContext.sysctls",
            json!([{"name": "kernel.msgmax"}, {"name": "net.ipv4.tcp_rmem"}]),
            "forbidden sysctls (kernel.msgmax)",
        ),
        (
            "spec.securityContext.windowsOptions",
            json!({"hostProcess": true}),
            "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
        ),
    ];
    for (path, value, want) in cases {
        assert_eq!(told(Level::Baseline, None, &with(path, value)), want);
    }
}

#[test]
fn the_restricted_level() {
    let cases = [
        (
            "spec.volumes",
            json!([{"name": "a", "nfs": {}}, {"name": "b", "hostPath": {}}, {"name": "c"}]),
            "restricted volume types (volumes \"a\", \"b\", \"c\" use restricted volume types \"hostPath\", \"nfs\", \"unknown\")",
        ),
        (
            "spec.securityContext.runAsNonRoot",
            json!(false),
            "runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false)",
        ),
        (
            "spec.containers.0.securityContext.runAsUser",
            json!(0),
            "runAsUser=0 (container \"c\" must not set runAsUser=0)",
        ),
        (
            "spec.containers.0.securityContext.capabilities",
            json!({"drop": ["NET_RAW"], "add": ["CHOWN"]}),
            "unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]; \
             container \"c\" must not include \"CHOWN\" in securityContext.capabilities.add)",
        ),
        (
            "spec.initContainers.0.securityContext.seccompProfile",
            json!({"type": "Unconfined"}),
            "seccompProfile (container \"i\" must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
    ];
    for (path, value, want) in cases {
        assert_eq!(told(Level::Restricted, None, &with(path, value)), want);
    }
}

#[test]
fn versions_bring_and_relax_checks() {
    let passes = |level: Level, minor: u32, pod: &Value| told(level, Some(minor), pod).is_empty();
    let sysctl = |name: &str| with("spec.securityContext.sysctls", json!([{"name": name}]));
    for (name, since) in [
        ("net.ipv4.ip_local_reserved_ports", 27),
        ("net.ipv4.tcp_fin_timeout", 29),
        ("net.ipv4.tcp_wmem", 32),
        ("net.ipv4.tcp_notsent_lowat", 37),
    ] {
        assert!(!passes(Level::Baseline, since - 1, &sysctl(name)) && passes(Level::Baseline, since, &sysctl(name)));
    }
    let probe = with("spec.containers.0.readinessProbe", json!({"tcpSocket": {"host": "h"}}));
    assert!(passes(Level::Baseline, 33, &probe) && !passes(Level::Baseline, 34, &probe));
    let engine = with(
        "spec.securityContext.seLinuxOptions",
        json!({"type": "container_engine_t"}),
    );
    assert!(!passes(Level::Baseline, 30, &engine) && passes(Level::Baseline, 31, &engine));
    let mut nested = with("spec.containers.0.securityContext.procMount", json!("Unmasked"));
    nested["spec"]["hostUsers"] = json!(false);
    nested["spec"]["securityContext"]["runAsUser"] = json!(0);
    nested["spec"]["securityContext"]["runAsNonRoot"] = json!(false);
    assert!(!passes(Level::Baseline, 34, &nested) && passes(Level::Baseline, 35, &nested));
    assert_eq!(
        told(Level::Restricted, None, &nested),
        "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")"
    );
    let windows = json!({"spec": {"os": {"name": "windows"}, "securityContext": {"runAsNonRoot": true},
        "containers": [{"name": "c"}]}});
    assert!(!passes(Level::Restricted, 24, &windows) && passes(Level::Restricted, 25, &windows));
    let annotated = with(
        "metadata.annotations",
        json!({"seccomp.security.alpha.kubernetes.io/pod": "unconfined"}),
    );
    assert!(!passes(Level::Baseline, 18, &annotated) && passes(Level::Baseline, 19, &annotated));
}
