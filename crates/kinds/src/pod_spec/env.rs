//! Environment variables and what fills them.

use api::field::{Error, Path};
use api::{Value, validate};

use super::volumes::no_backsteps;
use crate::{checks, tree};

/// Fields of the pod that a variable may have.
const ENV_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Fields of the pod that a file in a volume may have.
pub(super) const FILE_FIELDS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];
const RESOURCE_FIELDS: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
const SOURCES: [&str; 5] = [
    "fieldRef",
    "resourceFieldRef",
    "configMapKeyRef",
    "secretKeyRef",
    "fileKeyRef",
];

/// `env` of a container.
pub fn env(container: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (index, variable) in tree::list(container, "env").iter().enumerate() {
        let path = path.index(index);
        match tree::text(variable, "name") {
            "" => errors.push(Error::required(&path.child("name"), "")),
            name => errors.extend(checks::invalid_each(
                &path.child("name"),
                name,
                validate::env_var_name(name),
            )),
        }
        if let Some(source) = tree::at(variable, "valueFrom") {
            errors.extend(value_from(
                source,
                tree::text(variable, "value"),
                &path.child("valueFrom"),
            ));
        }
    }
    errors
}

fn value_from(source: &Value, value: &str, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut sources = 0;
    for name in SOURCES {
        let Some(reference) = tree::at(source, name) else {
            continue;
        };
        sources += 1;
        let path = path.child(name);
        errors.extend(match name {
            "fieldRef" => field_reference(reference, ENV_FIELDS, &path),
            "resourceFieldRef" => resource_reference(reference, ContainerName::Implied, &path),
            "fileKeyRef" => file_reference(reference, &path),
            _ => key_reference(reference, &path),
        });
    }
    if sources == 0 {
        let detail =
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        errors.push(Error::invalid(path, "", detail));
    } else if !value.is_empty() {
        errors.push(Error::invalid(
            path,
            "",
            "may not be specified when `value` is not empty",
        ));
    } else if sources > 1 {
        errors.push(Error::invalid(
            path,
            "",
            "may not have more than one field specified at a time",
        ));
    }
    errors
}

/// A field of the pod; labels and annotations may carry a subscript.
pub(super) fn field_reference(reference: &Value, known: &[&str], path: &Path) -> Vec<Error> {
    let (version, field) = (tree::text(reference, "apiVersion"), tree::text(reference, "fieldPath"));
    if version.is_empty() {
        return vec![Error::required(&path.child("apiVersion"), "")];
    }
    let field_path = path.child("fieldPath");
    if field.is_empty() {
        return vec![Error::required(&field_path, "")];
    }
    let subscripted = field.strip_suffix("']").and_then(|rest| rest.split_once("['"));
    let name = subscripted.map_or(field, |(name, _)| name);
    let convertible = FILE_FIELDS.contains(&name)
        || ENV_FIELDS.contains(&name)
        || matches!(name, "spec.restartPolicy" | "spec.schedulerName" | "status.phase");
    if version != "v1" || !convertible {
        let what = if version == "v1" {
            "field label not supported"
        } else {
            "unsupported pod version"
        };
        let detail = format!(
            "error converting fieldPath: {what}: {}",
            if version == "v1" { field } else { version }
        );
        return vec![Error::invalid(&field_path, field, detail)];
    }
    match subscripted {
        Some(("metadata.annotations", key)) => checks::qualified_name(&key.to_lowercase(), path),
        Some(("metadata.labels", key)) => checks::qualified_name(key, path),
        Some((name, _)) => vec![Error::invalid(path, name, "does not support subscript")],
        None if known.contains(&field) => Vec::new(),
        None => vec![Error::not_supported(&field_path, field, known)],
    }
}

/// Whether a resource reference names its container.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ContainerName {
    Required,
    Implied,
}

/// A resource of a container.
pub(super) fn resource_reference(reference: &Value, container: ContainerName, path: &Path) -> Vec<Error> {
    let resource = tree::text(reference, "resource");
    let pages = ["limits.hugepages-", "requests.hugepages-"]
        .iter()
        .any(|prefix| resource.starts_with(prefix));
    let mut errors = Vec::new();
    if container == ContainerName::Required && tree::text(reference, "containerName").is_empty() {
        errors.push(Error::required(&path.child("containerName"), ""));
    } else if resource.is_empty() {
        errors.push(Error::required(&path.child("resource"), ""));
    } else if !RESOURCE_FIELDS.contains(&resource) && !pages {
        errors.push(Error::not_supported(&path.child("resource"), resource, RESOURCE_FIELDS));
    }
    errors.extend(divisor(reference, resource, path));
    errors
}

fn divisor(reference: &Value, resource: &str, path: &Path) -> Vec<Error> {
    let divisor = tree::at(reference, "divisor")
        .and_then(tree::quantity)
        .unwrap_or_default();
    if divisor.is_zero() {
        return Vec::new();
    }
    const SIZES: &[&str] = &[
        "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei",
    ];
    let (known, what) = match resource {
        "limits.cpu" | "requests.cpu" => (&["1m", "1"][..], "cpu"),
        "limits.memory" | "requests.memory" => (SIZES, "memory"),
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => (SIZES, "local ephemeral storage"),
        _ if resource.contains(".hugepages-") => (SIZES, "hugepages"),
        _ => return Vec::new(),
    };
    if known.contains(&divisor.to_string().as_str()) {
        return Vec::new();
    }
    let list = if what == "cpu" {
        "1m and 1".to_owned()
    } else {
        known.join(", ")
    };
    let detail = format!("only divisor's values {list} are supported with the {what} resource");
    vec![Error::invalid(&path.child("divisor"), resource, detail)]
}

fn key_reference(reference: &Value, path: &Path) -> Vec<Error> {
    let mut errors = checks::dns_subdomain(tree::text(reference, "name"), &path.child("name"));
    match tree::text(reference, "key") {
        "" => errors.push(Error::required(&path.child("key"), "")),
        key => errors.extend(checks::invalid_each(
            &path.child("key"),
            key,
            validate::config_map_key(key),
        )),
    }
    errors
}

fn file_reference(reference: &Value, path: &Path) -> Vec<Error> {
    let text = |field| tree::text(reference, field);
    let mut errors = match text("key") {
        "" => vec![Error::required(&path.child("key"), "")],
        key => checks::invalid_each(&path.child("key"), key, validate::env_var_name(key)),
    };
    errors.extend(match text("volumeName") {
        "" => vec![Error::required(&path.child("volumeName"), "")],
        name => checks::dns_label(name, &path.child("volumeName")),
    });
    errors.extend(match text("path") {
        "" => vec![Error::required(&path.child("path"), "")],
        file => no_backsteps(file, &path.child("path")),
    });
    errors
}

/// `envFrom` of a container.
pub fn env_from(container: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (index, source) in tree::list(container, "envFrom").iter().enumerate() {
        let item = path.index(index);
        let prefix = tree::text(source, "prefix");
        if !prefix.is_empty() {
            errors.extend(checks::invalid_each(
                &item.child("prefix"),
                prefix,
                validate::env_var_name(prefix),
            ));
        }
        let mut sources = 0;
        for name in ["configMapRef", "secretRef"] {
            let Some(reference) = tree::at(source, name) else {
                continue;
            };
            sources += 1;
            let path = item.child(name).child("name");
            match tree::text(reference, "name") {
                "" => errors.push(Error::required(&path, "")),
                target => errors.extend(checks::dns_subdomain(target, &path)),
            }
        }
        // Upstream reports both at the list.
        if sources == 0 {
            errors.push(Error::invalid(
                path,
                "",
                "must specify one of: `configMapRef` or `secretRef`",
            ));
        } else if sources > 1 {
            errors.push(Error::invalid(
                path,
                "",
                "may not have more than one field specified at a time",
            ));
        }
    }
    errors
}
