//! Resource names and amounts.

use api::field::{Error, Path};
use api::{Map, Quantity, Value, validate};

use super::defaults;
use crate::{checks, tree};

/// Resources without a domain that an API object may name.
const STANDARD: &[&str] = &[
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "storage",
    "requests.storage",
    "services.nodeports",
    "services.loadbalancers",
];

const COUNTED: &[&str] = &[
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];

/// Whether pages of one size are meant.
pub fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// Whether Kubernetes itself defines it.
pub fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Whether it is a device or another resource of somebody else's (`IsExtendedResourceName`).
pub fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && validate::qualified_name(&format!("requests.{name}")).is_empty()
}

/// Whether more may be promised than there is.
pub fn may_overcommit(name: &str) -> bool {
    is_native(name) && !is_huge_page(name)
}

/// A resource that some API object may name (`validateResourceName`).
pub fn resource_name(name: &str, path: &Path) -> Vec<Error> {
    let errors = checks::qualified_name(name, path);
    let quota_pages = ["requests.hugepages-", "hugepages-"];
    let known = STANDARD.contains(&name) || quota_pages.iter().any(|prefix| name.starts_with(prefix));
    if errors.is_empty() && !name.contains('/') && !known {
        return vec![Error::invalid(
            path,
            name,
            "must be a standard resource type or fully qualified",
        )];
    }
    errors
}

/// A resource that a container may have.
pub fn container_resource_name(name: &str, path: &Path) -> Vec<Error> {
    let mut errors = resource_name(name, path);
    if !name.contains('/') {
        if !matches!(name, "cpu" | "memory" | "ephemeral-storage") && !is_huge_page(name) {
            errors.push(Error::invalid(path, name, "must be a standard resource for containers"));
        }
    } else if !is_native(name) && !is_extended(name) {
        errors.push(Error::invalid(
            path,
            name,
            "doesn't follow extended resource name standard",
        ));
    }
    errors
}

/// An amount of a resource: not negative, and whole where things are counted.
pub fn quantity_value(name: &str, value: &Value, path: &Path) -> Vec<Error> {
    let Some(quantity) = tree::quantity(value) else {
        return vec![Error::invalid(path, value.clone(), "must be a valid resource quantity")];
    };
    let mut errors = checks::nonnegative_quantity(&quantity, path);
    if (COUNTED.contains(&name) || is_extended(name)) && !quantity.is_whole() {
        errors.push(Error::invalid(path, quantity.to_string(), "must be an integer"));
    }
    errors
}

/// Requests, limits and claims of a container, or the overhead of a pod
/// (`ValidateResourceRequirements`).
pub fn requirements(resources: &Value, claim_names: &[&str], path: &Path) -> Vec<Error> {
    requirements_named(resources, container_resource_name, claim_names, path)
}

fn requirements_named(
    resources: &Value,
    name_check: fn(&str, &Path) -> Vec<Error>,
    claim_names: &[&str],
    path: &Path,
) -> Vec<Error> {
    let empty = Map::new();
    let limits = tree::map(resources, "limits").unwrap_or(&empty);
    let requests = tree::map(resources, "requests").unwrap_or(&empty);
    let mut errors = Vec::new();
    for (name, value) in limits {
        let path = path.child("limits").key(name);
        errors.extend(name_check(name, &path));
        errors.extend(quantity_value(name, value, &path));
        errors.extend(page_multiple(name, value, &path));
    }
    for (name, value) in requests {
        let own = path.child("requests").key(name);
        errors.extend(name_check(name, &own));
        errors.extend(quantity_value(name, value, &own));
        errors.extend(request_within_limit(name, value, limits.get(name), path));
        errors.extend(page_multiple(name, value, &own));
    }
    let names = || limits.keys().chain(requests.keys());
    let computes = names().any(|name| matches!(name.as_str(), "cpu" | "memory"));
    if !computes && names().any(|name| is_huge_page(name)) {
        errors.push(Error::forbidden(path, "HugePages require cpu or memory"));
    }
    errors.extend(claims(resources, claim_names, &path.child("claims")));
    errors
}

/// Huge pages come whole.
fn page_multiple(name: &str, value: &Value, path: &Path) -> Option<Error> {
    let size: Option<Quantity> = name.strip_prefix("hugepages-")?.parse().ok();
    let quantity = tree::quantity(value)?;
    let divides = size.is_some_and(|size| {
        size.value() > 0 && quantity.is_whole() && quantity.value() > 0 && quantity.value() % size.value() == 0
    });
    let detail = format!("{quantity} is not positive integer multiple of {name}");
    (!divides).then(|| Error::invalid(path, quantity.to_string(), detail))
}

fn request_within_limit(name: &str, request: &Value, limit: Option<&Value>, path: &Path) -> Vec<Error> {
    let (Some(request), limit) = (tree::quantity(request), limit.and_then(tree::quantity)) else {
        return Vec::new();
    };
    let path_of = |field| path.child(field);
    match limit {
        Some(limit) if request != limit && !may_overcommit(name) => {
            let detail = format!("must be equal to {name} limit of {limit}");
            vec![Error::invalid(&path_of("requests"), request.to_string(), detail)]
        }
        Some(limit) if request > limit => {
            let detail = format!("must be less than or equal to {name} limit of {limit}");
            vec![Error::invalid(&path_of("requests"), request.to_string(), detail)]
        }
        None if !may_overcommit(name) => {
            let detail = "Limit must be set for non overcommitable resources";
            vec![Error::required(&path_of("limits"), detail)]
        }
        _ => Vec::new(),
    }
}

fn claims(resources: &Value, known: &[&str], path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    // `claim` or `claim/request`; a whole claim overlaps with each of its requests.
    let mut seen: Vec<String> = Vec::new();
    for (index, claim) in tree::list(resources, "claims").iter().enumerate() {
        let (path, name) = (path.index(index), tree::text(claim, "name"));
        if name.is_empty() {
            errors.push(Error::required(&path, ""));
            continue;
        }
        let request = tree::text(claim, "request");
        if seen.iter().any(|key| key == name) {
            errors.push(Error::duplicate(&path, name));
        } else if request.is_empty() {
            let parts = seen
                .iter()
                .filter(|key| key.split_once('/').is_some_and(|(claim, _)| claim == name));
            errors.extend(parts.map(|_| Error::duplicate(&path, name)).collect::<Vec<_>>());
            seen.push(name.to_owned());
        } else {
            errors.extend(checks::dns_label(request, &path.child("request")));
            let key = format!("{name}/{request}");
            if seen.contains(&key) {
                errors.push(Error::duplicate(&path, key.clone()));
            }
            seen.push(key);
        }
        if !known.contains(&name) {
            let mut error = Error::not_found(&path, name);
            let list = match known {
                [] => " which is empty".to_owned(),
                known => format!(": {}", known.join(", ")),
            };
            error.detail = format!("must be one of the names in pod.spec.resourceClaims{list}");
            errors.push(error);
        }
    }
    errors
}

/// A resource that a pod as a whole may have.
fn pod_resource_name(name: &str, path: &Path) -> Vec<Error> {
    let errors = resource_name(name, path);
    if errors.is_empty() && !defaults::is_pod_level(name) {
        return vec![Error::not_supported(path, name, &["cpu", "hugepages-", "memory"])];
    }
    errors
}

/// Resources of a pod as a whole: they bound what its containers ask for together.
pub fn pod_level(spec: &Value, path: &Path) -> Vec<Error> {
    let Some(resources) = tree::at(spec, "resources") else {
        return Vec::new();
    };
    let path = path.child("resources");
    if tree::text(spec, "os.name") == "windows" {
        return vec![Error::forbidden(&path, "may not be set for a windows pod")];
    }
    let mut errors = Vec::new();
    if !tree::list(resources, "claims").is_empty() {
        let detail = "claims may not be set for Resources at pod-level";
        errors.push(Error::forbidden(&path.child("claims"), detail));
    }
    let claim_names: Vec<&str> = tree::list(spec, "resourceClaims")
        .iter()
        .map(|claim| tree::text(claim, "name"))
        .collect();
    errors.extend(requirements_named(resources, pod_resource_name, &claim_names, &path));
    let entry = |list: &str, name: &str| tree::quantity(tree::map(resources, list)?.get(name)?);
    for (name, total) in defaults::container_requests(spec) {
        if let Some(request) = entry("requests", &name)
            && request < total
        {
            let detail = format!("must be greater than or equal to aggregate container requests of {total}");
            let path = path.child("requests").key(&name);
            errors.push(Error::invalid(&path, request.to_string(), detail));
        }
    }
    for (name, total) in defaults::container_limits(spec) {
        if let Some(limit) = entry("limits", &name)
            && is_huge_page(&name)
            && limit < total
        {
            let detail = format!("must be greater than or equal to aggregate container limits of {total}");
            let path = path.child("limits").key(&name);
            errors.push(Error::invalid(&path, limit.to_string(), detail));
        }
    }
    for (index, container) in tree::list(spec, "containers").iter().enumerate() {
        for (name, value) in tree::entries(container, "resources.limits") {
            let (Some(own), Some(limit)) = (tree::quantity(value), entry("limits", name)) else {
                continue;
            };
            if own > limit {
                let path = path.child("containers").index(index).key(name).child("limits");
                let detail = format!("must be less than or equal to pod limits of {limit}");
                errors.push(Error::invalid(&path, own.to_string(), detail));
            }
        }
    }
    errors
}
