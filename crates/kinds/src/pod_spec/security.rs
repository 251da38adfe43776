//! Security contexts, sysctls, seccomp and AppArmor profiles, and the rules of each operating
//! system.

use api::field::{Error, Path};
use api::{Value, validate};

use super::containers;
use super::volumes;
use super::windows;
use crate::{checks, tree};

const WINDOWS: &str = "cannot be set for a windows pod";
const LINUX: &str = "windows options cannot be set for a linux pod";
const PROFILES: &[&str] = &["Localhost", "RuntimeDefault", "Unconfined"];
const MAX_PROFILE_BYTES: usize = 4095;

fn ids(context: &Value, fields: &[&str], path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for field in fields {
        if let Some(id) = tree::int(context, field) {
            let messages = validate::user_or_group_id(id).into_iter();
            errors.extend(messages.map(|text| Error::invalid(&path.child(field), id, text)));
        }
    }
    errors
}

/// `securityContext` of a pod.
pub fn pod(spec: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let path = path.child("securityContext");
    if let Some(context) = tree::at(spec, "securityContext") {
        errors.extend(ids(context, &["fsGroup", "runAsUser", "runAsGroup"], &path));
        for (index, group) in tree::list(context, "supplementalGroups").iter().enumerate() {
            let id = group.as_i64().unwrap_or(-1);
            let path = path.child("supplementalGroups").index(index);
            let messages = validate::user_or_group_id(id).into_iter();
            errors.extend(messages.map(|text| Error::invalid(&path, id, text)));
        }
        errors.extend(sysctls(context, spec, &path.child("sysctls")));
        let choice = |field: &str, known: &[&str]| {
            let value = tree::text_opt(context, field);
            checks::optional_one_of(value, known, &path.child(field))
        };
        errors.extend(choice("fsGroupChangePolicy", &["Always", "OnRootMismatch"]));
        errors.extend(seccomp(context, &path));
        errors.extend(windows::options(context, &path));
        errors.extend(app_armor(context, &path));
        errors.extend(choice("supplementalGroupsPolicy", &["Merge", "Strict"]));
        errors.extend(choice("seLinuxChangePolicy", &["MountOption", "Recursive"]));
    }
    if tree::flag(spec, "shareProcessNamespace") && tree::flag(spec, "hostPID") {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(Error::invalid(&path.child("shareProcessNamespace"), true, detail));
    }
    errors
}

fn sysctls(context: &Value, spec: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let list = tree::list(context, "sysctls");
    for (index, sysctl) in list.iter().enumerate() {
        let (path, name) = (path.index(index).child("name"), tree::text(sysctl, "name"));
        if name.is_empty() {
            errors.push(Error::required(&path, ""));
        } else if name.len() > 253 || !name.split(['.', '/']).all(is_sysctl_segment) {
            let detail = r"must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
            errors.push(Error::invalid(&path, name, detail));
        } else if list[..index].iter().any(|other| tree::text(other, "name") == name) {
            errors.push(Error::duplicate(&path, name));
        }
        let shared = match sysctl_namespace(name) {
            Some("net") => "hostNetwork",
            Some("ipc") => "hostIPC",
            _ => continue,
        };
        if tree::flag(spec, shared) {
            let detail = format!("may not be specified when '{shared}' is true");
            errors.push(Error::invalid(&path, name, detail));
        }
    }
    errors
}

/// The namespace a sysctl belongs to (component-helpers `node/util/sysctl`).
fn sysctl_namespace(name: &str) -> Option<&'static str> {
    // The first separator decides which of `.` and `/` separates.
    let dotted = match name.find(['.', '/']) {
        Some(at) if name.as_bytes()[at] == b'/' => name.replace('.', "\u{0}").replace('/', "."),
        _ => name.to_owned(),
    };
    let ipc = ["kernel.shm", "kernel.msg", "fs.mqueue."];
    if dotted == "kernel.sem" || ipc.iter().any(|prefix| dotted.starts_with(prefix)) {
        return Some("ipc");
    }
    dotted.starts_with("net.").then_some("net")
}

fn is_sysctl_segment(segment: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = segment.as_bytes();
    matches!((bytes.first(), bytes.last()), (Some(a), Some(b)) if plain(*a) && plain(*b))
        && bytes.iter().all(|b| plain(*b) || matches!(b, b'-' | b'_'))
}

fn seccomp(context: &Value, path: &Path) -> Vec<Error> {
    let Some(profile) = tree::at(context, "seccompProfile") else {
        return Vec::new();
    };
    let path = path.child("seccompProfile");
    let (kind, kind_path) = (tree::text(profile, "type"), path.child("type"));
    let mut errors = match kind {
        "" => {
            let detail = "type is required when seccompProfile is set";
            vec![Error::required(&kind_path, detail)]
        }
        kind => checks::optional_one_of(Some(kind), PROFILES, &kind_path),
    };
    let path = path.child("localhostProfile");
    match (kind, tree::text_opt(profile, "localhostProfile")) {
        ("Localhost", None) => {
            errors.push(Error::required(&path, "must be set when seccomp type is Localhost"));
        }
        ("Localhost", Some(file)) => errors.extend(volumes::descending_path(file, &path)),
        (_, Some(_)) => {
            let detail = "can only be set when seccomp type is Localhost";
            let shown = checks::go_struct(profile, &["Type=type", "LocalhostProfile?localhostProfile"]);
            errors.push(Error::invalid(&path, profile.clone(), detail).showing(shown));
        }
        _ => {}
    }
    errors
}

fn app_armor(context: &Value, path: &Path) -> Vec<Error> {
    let Some(profile) = tree::at(context, "appArmorProfile") else {
        return Vec::new();
    };
    let path = path.child("appArmorProfile");
    let local = tree::text_opt(profile, "localhostProfile");
    let local_path = path.child("localhostProfile");
    let missing = || Error::required(&local_path, "must be set when AppArmor type is Localhost");
    match (tree::text(profile, "type"), local) {
        ("Localhost", None) => vec![missing()],
        ("Localhost", Some(name)) => {
            let mut errors = Vec::new();
            if name.trim() != name {
                let detail = "must not be padded with whitespace";
                errors.push(Error::invalid(&local_path, name, detail));
            } else if name.is_empty() {
                errors.push(missing());
            }
            if name.len() > MAX_PROFILE_BYTES {
                errors.push(Error::too_long(&local_path, MAX_PROFILE_BYTES));
            }
            errors
        }
        ("RuntimeDefault" | "Unconfined", Some(name)) => {
            let detail = "can only be set when AppArmor type is Localhost";
            vec![Error::invalid(&local_path, name, detail)]
        }
        ("RuntimeDefault" | "Unconfined", None) => Vec::new(),
        ("", _) => {
            let detail = "type is required when appArmorProfile is set";
            vec![Error::required(&path.child("type"), detail)]
        }
        (kind, _) => vec![Error::not_supported(&path.child("type"), kind, PROFILES)],
    }
}

/// `securityContext` of a container.
pub fn container(container: &Value, spec: &Value, path: &Path) -> Vec<Error> {
    let Some(context) = tree::at(container, "securityContext") else {
        return Vec::new();
    };
    let path = path.child("securityContext");
    let mut errors = ids(context, &["runAsUser", "runAsGroup"], &path);
    let mount = tree::text_opt(context, "procMount");
    let mount_path = path.child("procMount");
    errors.extend(checks::optional_one_of(mount, &["Default", "Unmasked"], &mount_path));
    if mount == Some("Unmasked") && tree::flag_opt(spec, "hostUsers") != Some(false) {
        let detail = "`hostUsers` must be false to use `Unmasked`";
        errors.push(Error::invalid(&mount_path, "Unmasked", detail));
    }
    errors.extend(seccomp(context, &path));
    if tree::flag_opt(context, "allowPrivilegeEscalation") == Some(false) {
        if tree::flag(context, "privileged") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.push(Error::invalid(&path, context.clone(), detail));
        }
        let capabilities = tree::strings(context, "capabilities.add").into_iter();
        for _ in capabilities.filter(|capability| *capability == "CAP_SYS_ADMIN") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.push(Error::invalid(&path, context.clone(), detail));
        }
    }
    errors.extend(windows::options(context, &path));
    errors.extend(app_armor(context, &path));
    errors
}

/// What does not go with user namespaces.
pub fn host_users(spec: &Value, path: &Path) -> Vec<Error> {
    if tree::flag_opt(spec, "hostUsers") != Some(false) {
        return Vec::new();
    }
    let detail = "when `hostUsers` is false";
    let mut errors = Vec::new();
    // Upstream capitalizes two of the paths.
    for (field, shown) in [
        ("hostNetwork", "hostNetwork"),
        ("hostPID", "HostPID"),
        ("hostIPC", "HostIPC"),
    ] {
        if tree::flag(spec, field) {
            errors.push(Error::forbidden(&path.child(shown), detail));
        }
    }
    for (container, path) in containers::visit(spec, path) {
        if !tree::list(container, "volumeDevices").is_empty() {
            errors.push(Error::forbidden(&path.child("volumeDevices"), detail));
        }
    }
    errors
}

/// What the pod's operating system has not.
pub fn operating_system(spec: &Value, path: &Path) -> Vec<Error> {
    let Some(os) = tree::at(spec, "os") else {
        return Vec::new();
    };
    let os_path = path.child("os");
    match tree::text(os, "name") {
        "" => vec![Error::required(&os_path.child("name"), "")],
        "linux" => {
            let mut errors = refuse(spec, &["securityContext.windowsOptions"], LINUX, path);
            for (container, path) in containers::visit(spec, path) {
                errors.extend(refuse(container, &["securityContext.windowsOptions"], LINUX, &path));
            }
            errors
        }
        "windows" => {
            let mut errors = refuse(spec, OF_LINUX_PODS, WINDOWS, path);
            for (container, path) in containers::visit(spec, path) {
                errors.extend(refuse(container, OF_LINUX_CONTAINERS, WINDOWS, &path));
            }
            errors
        }
        other => vec![Error::not_supported(&os_path, other, &["linux", "windows"])],
    }
}

const OF_LINUX_PODS: &[&str] = &[
    "securityContext.appArmorProfile",
    "securityContext.seLinuxOptions",
    "securityContext.seccompProfile",
    "securityContext.fsGroup",
    "securityContext.fsGroupChangePolicy",
    "securityContext.sysctls",
    "securityContext.runAsUser",
    "securityContext.runAsGroup",
    "securityContext.supplementalGroups",
    "securityContext.supplementalGroupsPolicy",
    "securityContext.seLinuxChangePolicy",
    "hostUsers",
    "hostPID",
    "hostIPC",
    "shareProcessNamespace",
];
const OF_LINUX_CONTAINERS: &[&str] = &[
    "securityContext.appArmorProfile",
    "securityContext.seLinuxOptions",
    "securityContext.seccompProfile",
    "securityContext.capabilities",
    "securityContext.readOnlyRootFilesystem",
    "securityContext.privileged",
    "securityContext.allowPrivilegeEscalation",
    "securityContext.procMount",
    "securityContext.runAsUser",
    "securityContext.runAsGroup",
];

/// Refuses fields that are set; `hostPID` and `hostIPC` are no pointers upstream, so that false is
/// not set.
fn refuse(holder: &Value, fields: &[&str], detail: &str, path: &Path) -> Vec<Error> {
    let is_set = |field: &str| {
        let value = tree::at(holder, field);
        let plain = matches!(field, "hostPID" | "hostIPC");
        value.is_some_and(|value| {
            if plain {
                value == true
            } else {
                tree::same(Some(value), None).eq(&false)
            }
        })
    };
    let set = fields.iter().filter(|field| is_set(field));
    set.map(|field| Error::forbidden(&path.child(field), detail)).collect()
}
