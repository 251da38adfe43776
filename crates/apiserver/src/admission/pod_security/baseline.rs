//! The checks of the baseline level: no known ways to take over the host (upstream
//! `pod-security-admission/policy/check_*.go`).

use api::Value;
use api::field::go_quote;

use super::subject::{
    Found, Subject, Violation, containers_named, list, plural, quoted, security, set, setters, text, violation,
};

pub(super) fn app_armor(pod: &Subject<'_>) -> Option<Violation> {
    const ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";
    let mut values = Found::new();
    let mut bad = |profile: Option<&Value>| {
        let Some(profile) = profile else { return false };
        let kind = text(profile, "type");
        let bad = !matches!(kind, "RuntimeDefault" | "Localhost");
        if bad {
            values.insert(kind.to_owned());
        }
        bad
    };
    let by_pod = bad(pod.security("appArmorProfile"));
    let containers = pod.named(|container| bad(security(container, "appArmorProfile")));
    let mut setters = setters(by_pod, &containers);
    let annotations: Vec<String> = pod
        .annotations
        .iter()
        .filter(|(key, value)| {
            let allowed = value.is_empty() || *value == "runtime/default" || value.starts_with("localhost/");
            key.starts_with(ANNOTATION) && !allowed
        })
        .map(|(key, value)| format!("{key}={}", go_quote(value)))
        .collect();
    let mut values: Vec<String> = values.into_iter().collect();
    if !annotations.is_empty() {
        setters.push(plural("annotation", "annotations", annotations.len()).to_owned());
        values.extend(annotations);
    }
    if setters.is_empty() {
        return None;
    }
    let reason = plural(
        "forbidden AppArmor profile",
        "forbidden AppArmor profiles",
        values.len(),
    );
    let detail = format!(
        "{} must not set AppArmor profile type to {}",
        setters.join(" and "),
        quoted(values)
    );
    violation(reason, detail)
}

pub(super) fn capabilities(pod: &Subject<'_>) -> Option<Violation> {
    const ALLOWED: [&str; 13] = [
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ];
    let mut found = Found::new();
    let containers = pod.named(|container| {
        let added = list(container, "securityContext.capabilities.add");
        let bad: Vec<&str> = added
            .iter()
            .filter_map(Value::as_str)
            .filter(|name| !ALLOWED.contains(name))
            .collect();
        found.extend(bad.iter().map(|name| (*name).to_owned()));
        !bad.is_empty()
    });
    if containers.is_empty() {
        return None;
    }
    let detail = format!(
        "{} must not include {} in securityContext.capabilities.add",
        containers_named(&containers),
        quoted(found)
    );
    violation("non-default capabilities", detail)
}

pub(super) fn host_namespaces(pod: &Subject<'_>) -> Option<Violation> {
    let set: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .into_iter()
        .filter(|field| pod.spec.get(*field).and_then(Value::as_bool) == Some(true))
        .map(|field| format!("{field}=true"))
        .collect();
    if set.is_empty() {
        return None;
    }
    violation("host namespaces", set.join(", "))
}

pub(super) fn host_path_volumes(pod: &Subject<'_>) -> Option<Violation> {
    let names: Vec<&str> = list(pod.spec, "volumes")
        .iter()
        .filter(|volume| set(volume, "hostPath").is_some())
        .map(|volume| text(volume, "name"))
        .collect();
    if names.is_empty() {
        return None;
    }
    let detail = format!("{} {}", plural("volume", "volumes", names.len()), quoted(&names));
    violation("hostPath volumes", detail)
}

pub(super) fn host_ports(pod: &Subject<'_>) -> Option<Violation> {
    let mut ports = Found::new();
    let containers = pod.named(|container| {
        let bad: Vec<i64> = list(container, "ports")
            .iter()
            .filter_map(|port| port.get("hostPort")?.as_i64())
            .filter(|port| *port != 0)
            .collect();
        ports.extend(bad.iter().map(i64::to_string));
        !bad.is_empty()
    });
    if containers.is_empty() {
        return None;
    }
    let detail = format!(
        "{} {} {} {}",
        containers_named(&containers),
        plural("uses", "use", containers.len()),
        plural("hostPort", "hostPorts", ports.len()),
        ports.into_iter().collect::<Vec<_>>().join(", ")
    );
    violation("hostPort", detail)
}

/// Probes must not reach beyond the pod.
pub(super) fn probe_hosts(pod: &Subject<'_>) -> Option<Violation> {
    let mut hosts = Found::new();
    let mut containers = pod.named(|container| {
        let handlers = [
            "livenessProbe",
            "readinessProbe",
            "startupProbe",
            "lifecycle.postStart",
            "lifecycle.preStop",
        ];
        let mut bad = false;
        for handler in handlers.into_iter().filter_map(|path| set(container, path)) {
            for host in ["httpGet.host", "tcpSocket.host"].map(|path| text(handler, path)) {
                if !host.is_empty() {
                    bad = true;
                    hosts.insert(host.to_owned());
                }
            }
        }
        bad
    });
    if containers.is_empty() {
        return None;
    }
    containers.sort_unstable();
    containers.dedup();
    let detail = format!(
        "{} {} {} {}",
        containers_named(&containers),
        plural("uses", "use", containers.len()),
        plural("probe or lifecycle host", "probe or lifecycle hosts", hosts.len()),
        quoted(hosts)
    );
    violation("probe or lifecycle host", detail)
}

pub(super) fn privileged(pod: &Subject<'_>) -> Option<Violation> {
    let containers = pod.named(|c| security(c, "privileged").and_then(Value::as_bool) == Some(true));
    if containers.is_empty() {
        return None;
    }
    let detail = format!(
        "{} must not set securityContext.privileged=true",
        containers_named(&containers)
    );
    violation("privileged", detail)
}

pub(super) fn proc_mount(pod: &Subject<'_>) -> Option<Violation> {
    let mut found = Found::new();
    let containers = pod.named(|container| {
        let mount = security(container, "procMount").and_then(Value::as_str);
        let bad = mount.filter(|mount| *mount != "Default");
        found.extend(bad.map(str::to_owned));
        bad.is_some()
    });
    if containers.is_empty() {
        return None;
    }
    let detail = format!(
        "{} must not set securityContext.procMount to {}",
        containers_named(&containers),
        quoted(found)
    );
    violation("procMount", detail)
}

/// From v1.35 on a user namespace makes up for it.
pub(super) fn proc_mount_on_host(pod: &Subject<'_>) -> Option<Violation> {
    if pod.has_user_namespace() {
        return None;
    }
    proc_mount(pod)
}

pub(super) fn se_linux(pod: &Subject<'_>) -> Option<Violation> {
    se_linux_beyond(pod, &["", "container_t", "container_init_t", "container_kvm_t"])
}

pub(super) fn se_linux_1_31(pod: &Subject<'_>) -> Option<Violation> {
    let types = [
        "",
        "container_t",
        "container_init_t",
        "container_kvm_t",
        "container_engine_t",
    ];
    se_linux_beyond(pod, &types)
}

fn se_linux_beyond(pod: &Subject<'_>, types: &[&str]) -> Option<Violation> {
    let (mut bad_types, mut user, mut role) = (Found::new(), false, false);
    let mut bad = |options: Option<&Value>| {
        let Some(options) = options else { return false };
        let kind = text(options, "type");
        let of = [
            !types.contains(&kind),
            !text(options, "user").is_empty(),
            !text(options, "role").is_empty(),
        ];
        if of[0] {
            bad_types.insert(kind.to_owned());
        }
        user |= of[1];
        role |= of[2];
        of.contains(&true)
    };
    let by_pod = bad(pod.security("seLinuxOptions"));
    let containers = pod.named(|container| bad(security(container, "seLinuxOptions")));
    let setters = setters(by_pod, &containers);
    if setters.is_empty() {
        return None;
    }
    let mut what = Vec::new();
    if !bad_types.is_empty() {
        what.push(format!(
            "{} {}",
            plural("type", "types", bad_types.len()),
            quoted(bad_types)
        ));
    }
    if user {
        what.push("user may not be set".to_owned());
    }
    if role {
        what.push("role may not be set".to_owned());
    }
    let detail = format!(
        "{} set forbidden securityContext.seLinuxOptions: {}",
        setters.join(" and "),
        what.join("; ")
    );
    violation("seLinuxOptions", detail)
}

/// Before v1.19 the profile was an annotation.
pub(super) fn seccomp_annotations(pod: &Subject<'_>) -> Option<Violation> {
    let names = std::iter::once("seccomp.security.alpha.kubernetes.io/pod".to_owned()).chain(
        pod.containers()
            .map(|c| format!("container.seccomp.security.alpha.kubernetes.io/{}", text(c, "name"))),
    );
    let bad: Found = names
        .filter_map(|name| {
            let value = pod.annotations.get(&name)?;
            let allowed =
                matches!(value.as_str(), "runtime/default" | "docker/default") || value.starts_with("localhost/");
            (!allowed).then(|| format!("{name}={}", go_quote(value)))
        })
        .collect();
    if bad.is_empty() {
        return None;
    }
    let detail = format!(
        "forbidden {} {}",
        plural("annotation", "annotations", bad.len()),
        bad.into_iter().collect::<Vec<_>>().join(", ")
    );
    violation("seccompProfile", detail)
}

pub(super) fn seccomp(pod: &Subject<'_>) -> Option<Violation> {
    let mut found = Found::new();
    let mut bad = |profile: Option<&Value>| {
        let kind = profile.map(|profile| text(profile, "type"));
        let bad = kind.filter(|kind| !is_seccomp_profile(kind));
        found.extend(bad.map(str::to_owned));
        bad.is_some()
    };
    let by_pod = bad(pod.security("seccompProfile"));
    let containers = pod.named(|container| bad(security(container, "seccompProfile")));
    let setters = setters(by_pod, &containers);
    if setters.is_empty() {
        return None;
    }
    let detail = format!(
        "{} must not set securityContext.seccompProfile.type to {}",
        setters.join(" and "),
        quoted(found)
    );
    violation("seccompProfile", detail)
}

pub(super) fn is_seccomp_profile(kind: &str) -> bool {
    matches!(kind, "RuntimeDefault" | "Localhost")
}

/// Sysctls that touch the pod alone, by the version that allowed them.
const SYSCTLS: [(u32, &str); 14] = [
    (0, "kernel.shm_rmid_forced"),
    (0, "net.ipv4.ip_local_port_range"),
    (0, "net.ipv4.tcp_syncookies"),
    (0, "net.ipv4.ping_group_range"),
    (0, "net.ipv4.ip_unprivileged_port_start"),
    (27, "net.ipv4.ip_local_reserved_ports"),
    (29, "net.ipv4.tcp_keepalive_time"),
    (29, "net.ipv4.tcp_fin_timeout"),
    (29, "net.ipv4.tcp_keepalive_intvl"),
    (29, "net.ipv4.tcp_keepalive_probes"),
    (32, "net.ipv4.tcp_rmem"),
    (32, "net.ipv4.tcp_wmem"),
    (37, "net.ipv4.tcp_slow_start_after_idle"),
    (37, "net.ipv4.tcp_notsent_lowat"),
];

pub(super) fn sysctls<const MINOR: u32>(pod: &Subject<'_>) -> Option<Violation> {
    let asked = pod.security("sysctls").and_then(Value::as_array);
    let bad: Vec<&str> = asked
        .into_iter()
        .flatten()
        .map(|sysctl| text(sysctl, "name"))
        .filter(|name| !SYSCTLS.iter().any(|(since, known)| *since <= MINOR && known == name))
        .collect();
    if bad.is_empty() {
        return None;
    }
    violation("forbidden sysctls", bad.join(", "))
}

pub(super) fn windows_host_process(pod: &Subject<'_>) -> Option<Violation> {
    let asks =
        |options: Option<&Value>| options.and_then(|options| options.get("hostProcess")?.as_bool()) == Some(true);
    let by_pod = asks(pod.security("windowsOptions"));
    let containers = pod.named(|container| asks(security(container, "windowsOptions")));
    let setters = setters(by_pod, &containers);
    if setters.is_empty() {
        return None;
    }
    let detail = format!(
        "{} must not set securityContext.windowsOptions.hostProcess=true",
        setters.join(" and ")
    );
    violation("hostProcess", detail)
}
