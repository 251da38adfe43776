//! Security contexts, sysctls, seccomp and AppArmor profiles, and the rules of each operating
//! system.

use api::field::{Error, Path};
use api::{Value, validate};

use super::defaults::CONTAINER_LISTS;
use super::volumes;
use crate::{checks, tree};

const WINDOWS: &str = "cannot be set for a windows pod";

fn ids(context: &Value, fields: &[&str], path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for field in fields {
        if let Some(id) = tree::int(context, field) {
            let messages = validate::user_or_group_id(id);
            errors.extend(
                messages
                    .into_iter()
                    .map(|text| Error::invalid(&path.child(field), id, text)),
            );
        }
    }
    errors
}

/// `securityContext` of a pod.
pub fn pod(spec: &Value, path: &Path) -> Vec<Error> {
    let Some(context) = tree::at(spec, "securityContext") else {
        return Vec::new();
    };
    let path = path.child("securityContext");
    let mut errors = ids(context, &["fsGroup", "runAsUser", "runAsGroup"], &path);
    for (index, group) in tree::list(context, "supplementalGroups").iter().enumerate() {
        let id = group.as_i64().unwrap_or(-1);
        let path = path.child("supplementalGroups").index(index);
        let messages = validate::user_or_group_id(id);
        errors.extend(messages.into_iter().map(|text| Error::invalid(&path, id, text)));
    }
    if tree::flag(spec, "shareProcessNamespace") && tree::flag(spec, "hostPID") {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(Error::invalid(&path.child("shareProcessNamespace"), true, detail));
    }
    errors.extend(sysctls(context, &path.child("sysctls")));
    for (field, known) in [
        ("fsGroupChangePolicy", &["Always", "OnRootMismatch"][..]),
        ("supplementalGroupsPolicy", &["Merge", "Strict"]),
        ("seLinuxChangePolicy", &["MountOption", "Recursive"]),
    ] {
        let value = tree::text_opt(context, field);
        errors.extend(checks::optional_one_of(value, known, &path.child(field)));
    }
    errors.extend(profiles(context, &path));
    errors
}

fn sysctls(context: &Value, path: &Path) -> Vec<Error> {
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
    }
    errors
}

fn is_sysctl_segment(segment: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = segment.as_bytes();
    matches!((bytes.first(), bytes.last()), (Some(a), Some(b)) if plain(*a) && plain(*b))
        && bytes.iter().all(|b| plain(*b) || matches!(b, b'-' | b'_'))
}

/// Seccomp and AppArmor profiles of a security context.
fn profiles(context: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let known = &["Localhost", "RuntimeDefault", "Unconfined"];
    if let Some(profile) = tree::at(context, "seccompProfile") {
        let path = path.child("seccompProfile");
        let kind = tree::text(profile, "type");
        match kind {
            "" => errors.push(Error::required(
                &path.child("type"),
                "type is required when seccompProfile is set",
            )),
            kind if known.contains(&kind) => {}
            kind => errors.push(Error::not_supported(&path.child("type"), kind, known)),
        }
        let local = tree::text_opt(profile, "localhostProfile");
        let path = path.child("localhostProfile");
        match (kind, local) {
            ("Localhost", None) => {
                errors.push(Error::required(&path, "must be set when seccomp type is Localhost"));
            }
            ("Localhost", Some(file)) => errors.extend(volumes::descending_path(file, &path)),
            (_, Some(_)) => {
                let detail = "can only be set when seccomp type is Localhost";
                errors.push(Error::invalid(&path, profile.clone(), detail));
            }
            _ => {}
        }
    }
    if let Some(profile) = tree::at(context, "appArmorProfile") {
        let path = path.child("appArmorProfile");
        let kind = tree::text(profile, "type");
        match kind {
            "" => errors.push(Error::required(
                &path.child("type"),
                "type is required when appArmorProfile is set",
            )),
            kind if known.contains(&kind) => {}
            kind => errors.push(Error::not_supported(&path.child("type"), kind, known)),
        }
        let local = tree::text_opt(profile, "localhostProfile");
        let path = path.child("localhostProfile");
        match (kind, local) {
            ("Localhost", None) => {
                errors.push(Error::required(&path, "must be set when AppArmor type is Localhost"));
            }
            ("Localhost", Some(name)) if name.trim() != name || name.is_empty() => {
                errors.push(Error::invalid(&path, name, "must not be padded with whitespace"));
            }
            ("Localhost", Some(_)) | (_, None) => {}
            (_, Some(name)) => {
                let detail = "can only be set when AppArmor type is Localhost";
                errors.push(Error::invalid(&path, name, detail));
            }
        }
    }
    errors
}

/// `securityContext` of a container.
pub fn container(container: &Value, path: &Path) -> Vec<Error> {
    let Some(context) = tree::at(container, "securityContext") else {
        return Vec::new();
    };
    let path = path.child("securityContext");
    let mut errors = ids(context, &["runAsUser", "runAsGroup"], &path);
    let mount = tree::text_opt(context, "procMount");
    errors.extend(checks::optional_one_of(
        mount,
        &["Default", "Unmasked"],
        &path.child("procMount"),
    ));
    errors.extend(profiles(context, &path));
    if tree::flag_opt(context, "allowPrivilegeEscalation") == Some(false) {
        if tree::flag(context, "privileged") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.push(Error::invalid(&path, context.clone(), detail));
        }
        if tree::strings(context, "capabilities.add").contains(&"CAP_SYS_ADMIN") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.push(Error::invalid(&path, context.clone(), detail));
        }
    }
    errors
}

/// Host namespaces that do not go with user namespaces.
pub fn host_users(spec: &Value, path: &Path) -> Vec<Error> {
    if tree::flag_opt(spec, "hostUsers") != Some(false) {
        return Vec::new();
    }
    let detail = "when `hostUsers` is false";
    let fields = ["hostNetwork", "hostPID", "hostIPC"]
        .into_iter()
        .filter(|field| tree::flag(spec, field));
    fields
        .map(|field| Error::forbidden(&path.child(field), detail))
        .collect()
}

/// What the pod's operating system has not.
pub fn operating_system(spec: &Value, path: &Path) -> Vec<Error> {
    let Some(os) = tree::at(spec, "os") else {
        return Vec::new();
    };
    let os_path = path.child("os");
    match tree::text(os, "name") {
        "" => vec![Error::required(&os_path.child("name"), "cannot be empty")],
        "linux" => set_fields(
            spec,
            path,
            &["windowsOptions"],
            &["windowsOptions"],
            &[],
            "windows options cannot be set for a linux pod",
        ),
        "windows" => {
            let pod = [
                "appArmorProfile",
                "seLinuxOptions",
                "seccompProfile",
                "fsGroup",
                "fsGroupChangePolicy",
                "sysctls",
                "runAsUser",
                "runAsGroup",
                "supplementalGroups",
                "supplementalGroupsPolicy",
            ];
            let container = [
                "appArmorProfile",
                "seLinuxOptions",
                "seccompProfile",
                "capabilities",
                "readOnlyRootFilesystem",
                "privileged",
                "allowPrivilegeEscalation",
                "procMount",
                "runAsUser",
                "runAsGroup",
            ];
            let spec_fields = ["hostUsers", "hostPID", "hostIPC", "shareProcessNamespace"];
            set_fields(spec, path, &pod, &container, &spec_fields, WINDOWS)
        }
        other => vec![Error::not_supported(&os_path, other, &["linux", "windows"])],
    }
}

/// Refuses fields of the pod's context, of its containers' contexts, and of the spec.
fn set_fields(spec: &Value, path: &Path, pod: &[&str], container: &[&str], own: &[&str], detail: &str) -> Vec<Error> {
    let mut errors = Vec::new();
    let is_set = |holder: &Value, field: &str| {
        tree::at(holder, field).is_some_and(|value| *value != Value::Bool(false) || field == "hostUsers")
    };
    for field in own.iter().filter(|field| is_set(spec, field)) {
        errors.push(Error::forbidden(&path.child(field), detail));
    }
    if let Some(context) = tree::at(spec, "securityContext") {
        for field in pod.iter().filter(|field| is_set(context, field)) {
            errors.push(Error::forbidden(&path.child("securityContext").child(field), detail));
        }
    }
    for list in CONTAINER_LISTS {
        for (index, item) in tree::list(spec, list).iter().enumerate() {
            let Some(context) = tree::at(item, "securityContext") else {
                continue;
            };
            let path = path.child(list).index(index).child("securityContext");
            for field in container.iter().filter(|field| tree::at(context, field).is_some()) {
                errors.push(Error::forbidden(&path.child(field), detail));
            }
        }
    }
    errors
}
