//! The checks that the restricted level adds: current practice of hardening (upstream
//! `pod-security-admission/policy/check_*.go`).

use api::Value;

use super::baseline::is_seccomp_profile;
use super::subject::{
    Found, Subject, Violation, containers_named, list, plural, quoted, security, set, setters, text, violation,
};

pub(super) fn privilege_escalation(pod: &Subject<'_>) -> Option<Violation> {
    let containers = pod.named(|c| security(c, "allowPrivilegeEscalation").and_then(Value::as_bool) != Some(false));
    if containers.is_empty() {
        return None;
    }
    let detail = format!(
        "{} must set securityContext.allowPrivilegeEscalation=false",
        containers_named(&containers)
    );
    violation("allowPrivilegeEscalation != false", detail)
}

/// From v1.25 on a pod for Windows, which cannot say so, need not.
pub(super) fn privilege_escalation_on_linux(pod: &Subject<'_>) -> Option<Violation> {
    if pod.is_windows() {
        return None;
    }
    privilege_escalation(pod)
}

pub(super) fn capabilities(pod: &Subject<'_>) -> Option<Violation> {
    let listed = |container: &Value, list_name: &str| -> Vec<String> {
        list(container, &format!("securityContext.capabilities.{list_name}"))
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect()
    };
    let undropped = pod.named(|c| !listed(c, "drop").iter().any(|name| name == "ALL"));
    let mut found = Found::new();
    let adding = pod.named(|c| {
        let bad: Vec<String> = listed(c, "add")
            .into_iter()
            .filter(|name| name != "NET_BIND_SERVICE")
            .collect();
        let any = !bad.is_empty();
        found.extend(bad);
        any
    });
    let mut details = Vec::new();
    if !undropped.is_empty() {
        details.push(format!(
            "{} must set securityContext.capabilities.drop=[\"ALL\"]",
            containers_named(&undropped)
        ));
    }
    if !adding.is_empty() {
        details.push(format!(
            "{} must not include {} in securityContext.capabilities.add",
            containers_named(&adding),
            quoted(found)
        ));
    }
    if details.is_empty() {
        return None;
    }
    violation("unrestricted capabilities", details.join("; "))
}

pub(super) fn capabilities_on_linux(pod: &Subject<'_>) -> Option<Violation> {
    if pod.is_windows() {
        return None;
    }
    capabilities(pod)
}

/// What the names of volumes that are not allowed are, in upstream's order of looking.
const RESTRICTED_VOLUMES: [&str; 21] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "gitRepo",
    "nfs",
    "iscsi",
    "glusterfs",
    "rbd",
    "flexVolume",
    "cinder",
    "cephfs",
    "flocker",
    "fc",
    "azureFile",
    "vsphereVolume",
    "quobyte",
    "azureDisk",
    "photonPersistentDisk",
    "portworxVolume",
    "scaleIO",
    "storageos",
];
const ALLOWED_VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

pub(super) fn volumes(pod: &Subject<'_>) -> Option<Violation> {
    let mut kinds = Found::new();
    let mut names = Vec::new();
    for volume in list(pod.spec, "volumes") {
        let has = |kind: &&str| set(volume, kind).is_some();
        if ALLOWED_VOLUMES.iter().any(&has) {
            continue;
        }
        names.push(text(volume, "name"));
        let kind = RESTRICTED_VOLUMES.into_iter().find(|kind| has(kind));
        kinds.insert(kind.unwrap_or("unknown").to_owned());
    }
    if names.is_empty() {
        return None;
    }
    let detail = format!(
        "{} {} {} {} {}",
        plural("volume", "volumes", names.len()),
        quoted(&names),
        plural("uses", "use", names.len()),
        plural("restricted volume type", "restricted volume types", kinds.len()),
        quoted(kinds)
    );
    violation("restricted volume types", detail)
}

pub(super) fn run_as_non_root(pod: &Subject<'_>) -> Option<Violation> {
    let of_pod = pod.security("runAsNonRoot").and_then(Value::as_bool);
    let of = |c: &Value| security(c, "runAsNonRoot").and_then(Value::as_bool);
    let setters = setters(of_pod == Some(false), &pod.named(|c| of(c) == Some(false)));
    if !setters.is_empty() {
        let detail = format!(
            "{} must not set securityContext.runAsNonRoot=false",
            setters.join(" and ")
        );
        return violation("runAsNonRoot != true", detail);
    }
    let silent = pod.named(|c| of(c).is_none() && of_pod != Some(true));
    if silent.is_empty() {
        return None;
    }
    let detail = format!(
        "pod or {} must set securityContext.runAsNonRoot=true",
        containers_named(&silent)
    );
    violation("runAsNonRoot != true", detail)
}

/// From v1.35 on root in a user namespace is not root.
pub(super) fn run_as_non_root_on_host(pod: &Subject<'_>) -> Option<Violation> {
    if pod.has_user_namespace() {
        return None;
    }
    run_as_non_root(pod)
}

pub(super) fn run_as_user(pod: &Subject<'_>) -> Option<Violation> {
    let is_root = |user: Option<&Value>| user.and_then(Value::as_i64) == Some(0);
    let setters = setters(
        is_root(pod.security("runAsUser")),
        &pod.named(|container| is_root(security(container, "runAsUser"))),
    );
    if setters.is_empty() {
        return None;
    }
    violation(
        "runAsUser=0",
        format!("{} must not set runAsUser=0", setters.join(" and ")),
    )
}

pub(super) fn run_as_user_on_host(pod: &Subject<'_>) -> Option<Violation> {
    if pod.has_user_namespace() {
        return None;
    }
    run_as_user(pod)
}

pub(super) fn seccomp(pod: &Subject<'_>) -> Option<Violation> {
    let explicit = super::baseline::seccomp(pod);
    if explicit.is_some() {
        return explicit;
    }
    let of_pod = pod
        .security("seccompProfile")
        .is_some_and(|profile| is_seccomp_profile(text(profile, "type")));
    let silent = pod.named(|container| security(container, "seccompProfile").is_none() && !of_pod);
    if silent.is_empty() {
        return None;
    }
    let detail = format!(
        "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
        containers_named(&silent)
    );
    violation("seccompProfile", detail)
}

pub(super) fn seccomp_on_linux(pod: &Subject<'_>) -> Option<Violation> {
    if pod.is_windows() {
        return None;
    }
    seccomp(pod)
}
