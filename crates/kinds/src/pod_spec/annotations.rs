//! Annotations that mean something to pods (`ValidatePodSpecificAnnotations`).

use api::field::{Error, Path, go_quote};
use api::{Value, meta};

use super::containers;
use super::volumes::descending_path;
use crate::tree;

/// Marks a pod that a node made from a file.
pub const MIRROR: &str = "kubernetes.io/config.mirror";
const COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
/// What precedes the container's name in the old form of AppArmor profiles.
pub const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

/// Every error of a pod's or template's annotations.
pub fn known(object: &Value, spec: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if let Some(value) = meta::annotation(object, MIRROR)
        && tree::text(spec, "nodeName").is_empty()
    {
        let detail = "must set spec.nodeName if mirror pod annotation is set";
        errors.push(Error::invalid(&path.key(MIRROR), value, detail));
    }
    if let Some(value) = meta::annotation(object, COST)
        && !is_plain_i32(value)
    {
        errors.push(Error::invalid(&path.key(COST), value, "must be a 32bit integer"));
    }
    if let Some(value) = meta::annotation(object, SECCOMP_POD) {
        errors.extend(seccomp(value, &path.child(SECCOMP_POD)));
    }
    let annotations = meta::annotations(object);
    for (key, value) in annotations.iter().filter(|(key, _)| key.starts_with(SECCOMP_CONTAINER)) {
        errors.extend(seccomp(value, &path.child(key)));
    }
    for (key, value) in &annotations {
        let Some(name) = key.strip_prefix(APP_ARMOR) else {
            continue;
        };
        let mut containers = containers::visit(spec, &Path::root()).into_iter();
        if !containers.any(|(container, _)| tree::text(container, "name") == name) {
            errors.push(Error::invalid(&path.key(key), name, "container not found"));
        }
        let plain = matches!(value.as_str(), "" | "runtime/default" | "unconfined");
        if !plain && !value.starts_with("localhost/") {
            let detail = format!("invalid AppArmor profile name: {}", go_quote(value));
            errors.push(Error::invalid(&path.key(key), value.as_str(), detail));
        }
    }
    errors
}

/// A number without sign `+` or leading zeros.
fn is_plain_i32(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    text.parse::<i32>().is_ok() && !text.starts_with('+') && (digits == "0" || !digits.starts_with('0'))
}

fn seccomp(profile: &str, path: &Path) -> Vec<Error> {
    if matches!(profile, "runtime/default" | "docker/default" | "unconfined") {
        return Vec::new();
    }
    match profile.strip_prefix("localhost/") {
        Some(file) => descending_path(file, path),
        None => vec![Error::invalid(path, profile, "must be a valid seccomp profile")],
    }
}

/// Where profiles are both in annotations and in fields, they say the same.
fn mismatch(annotation: &str, profile: &Value, what: &str, runtime_default: &[&str], path: &Path) -> Option<Error> {
    let kind_differs = || {
        let detail = format!("{what} type in annotation and field must match");
        Some(Error::forbidden(&path.child("type"), detail))
    };
    match tree::text(profile, "type") {
        "Unconfined" if annotation != "unconfined" => kind_differs(),
        "RuntimeDefault" if !runtime_default.contains(&annotation) => kind_differs(),
        "Localhost" => match annotation.strip_prefix("localhost/") {
            None => kind_differs(),
            Some(file) if tree::text_opt(profile, "localhostProfile") != Some(file) => {
                let detail = format!("{what} profile in annotation and field must match");
                Some(Error::forbidden(&path.child("localhostProfile"), detail))
            }
            Some(_) => None,
        },
        _ => None,
    }
}

/// Seccomp profiles (`validateSeccompAnnotationsAndFields`).
pub fn seccomp_matches(object: &Value, spec: &Value, path: &Path) -> Vec<Error> {
    let defaults = ["runtime/default", "docker/default"];
    let mut errors = Vec::new();
    let check = |holder: &Value, key: &str, path: &Path| {
        let profile = tree::at(holder, "securityContext.seccompProfile")?;
        let path = path.child("securityContext").child("seccompProfile");
        mismatch(meta::annotation(object, key)?, profile, "seccomp", &defaults, &path)
    };
    errors.extend(check(spec, SECCOMP_POD, path));
    for (container, path) in containers::visit(spec, path) {
        let key = format!("{SECCOMP_CONTAINER}{}", tree::text(container, "name"));
        errors.extend(check(container, &key, &path));
    }
    errors
}

/// AppArmor profiles (`validateAppArmorAnnotationsAndFieldsMatchOnCreate`).
pub fn app_armor_matches(object: &Value, spec: &Value, path: &Path) -> Vec<Error> {
    if tree::text(spec, "os.name") == "windows" {
        return Vec::new();
    }
    let of_pod = tree::at(spec, "securityContext.appArmorProfile");
    let containers = containers::visit(spec, path).into_iter();
    let errors = containers.filter_map(|(container, path)| {
        let profile = tree::at(container, "securityContext.appArmorProfile").or(of_pod)?;
        let key = format!("{APP_ARMOR}{}", tree::text(container, "name"));
        let path = path.child("securityContext").child("appArmorProfile");
        let annotation = meta::annotation(object, &key)?;
        mismatch(annotation, profile, "apparmor", &["runtime/default"], &path)
    });
    errors.collect()
}

/// What an update may not do to annotations (`ValidatePodSpecificAnnotationUpdates`).
pub fn changes(new: &Value, old: &Value, path: &Path) -> Vec<Error> {
    let (before, after) = (meta::annotations(old), meta::annotations(new));
    let what = |key: &str| match key {
        MIRROR => Some("mirror pod annotation"),
        key if key.starts_with(APP_ARMOR) => Some("AppArmor annotations"),
        _ => None,
    };
    let mut errors = Vec::new();
    for (key, _) in before.iter().filter(|(key, value)| after.get(*key) != Some(value)) {
        if let Some(what) = what(key) {
            let detail = format!("may not remove or update {what}");
            errors.push(Error::forbidden(&path.key(key), detail));
        }
    }
    for key in after.keys().filter(|key| !before.contains_key(*key)) {
        if let Some(what) = what(key) {
            errors.push(Error::forbidden(&path.key(key), format!("may not add {what}")));
        }
    }
    let spec = tree::at(new, "spec").unwrap_or(&Value::Null);
    errors.extend(known(new, spec, path));
    errors
}
