//! The downward API: fields of the pod and amounts of resources as text (pkg/fieldpath, pkg/api/v1/resource).

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::{amount, spec};

/// Why a field has no value.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FieldError {
    /// No such field.
    #[error("unsupported fieldPath: {0}")]
    Unsupported(String),
    /// No such container.
    #[error("container {0} not found")]
    NoContainer(String),
    /// No such resource.
    #[error("unsupported container resource : {0}")]
    Resource(String),
}

/// What the node adds to the pod's own fields.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodeFacts<'a> {
    /// The node's addresses.
    pub host_ips: &'a [IpAddr],
    /// The pod's addresses, primary first.
    pub pod_ips: &'a [IpAddr],
    /// What the node can give to pods: stands in for missing limits.
    pub allocatable: Option<&'a BTreeMap<String, Quantity>>,
}

/// The field's text.
pub fn field(pod: &Pod, path: &str, facts: &NodeFacts) -> Result<String, FieldError> {
    let meta = &pod.metadata;
    let pod_spec = pod.spec.as_ref();
    let text = |value: Option<&String>| value.cloned().unwrap_or_default();
    let join = |ips: &[IpAddr]| ips.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(",");
    let first = |ips: &[IpAddr]| ips.first().map(IpAddr::to_string).unwrap_or_default();
    Ok(match path {
        "metadata.name" => text(meta.name.as_ref()),
        "metadata.namespace" => text(meta.namespace.as_ref()),
        "metadata.uid" => text(meta.uid.as_ref()),
        "metadata.labels" => map(meta.labels.as_ref()),
        "metadata.annotations" => map(meta.annotations.as_ref()),
        "spec.nodeName" => text(pod_spec.and_then(|s| s.node_name.as_ref())),
        "spec.serviceAccountName" => text(pod_spec.and_then(|s| s.service_account_name.as_ref())),
        "status.hostIP" => first(facts.host_ips),
        "status.hostIPs" => join(facts.host_ips),
        "status.podIP" => first(facts.pod_ips),
        "status.podIPs" => join(facts.pod_ips),
        _ => {
            let (list, key) = subscript(path).ok_or_else(|| FieldError::Unsupported(path.to_string()))?;
            let list = match list {
                "metadata.labels" => meta.labels.as_ref(),
                "metadata.annotations" => meta.annotations.as_ref(),
                _ => return Err(FieldError::Unsupported(path.to_string())),
            };
            text(list.and_then(|list| list.get(key)))
        }
    })
}

/// Whether the field can change while the pod runs, or is known only once it has a sandbox.
pub fn needs_addresses(path: &str) -> bool {
    matches!(path, "status.podIP" | "status.podIPs")
}

fn subscript(path: &str) -> Option<(&str, &str)> {
    let (list, rest) = path.split_once("['")?;
    Some((list, rest.strip_suffix("']")?))
}

/// Sorted lines of `key="value"`, the value escaped.
fn map(list: Option<&BTreeMap<String, String>>) -> String {
    let lines = list
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", go_quote(value)));
    lines.collect::<Vec<_>>().join("\n")
}

/// As Go's `%q`.
fn go_quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The amount of a container's resource, in units of the divisor, rounded up.
pub fn resource(
    pod: &Pod,
    own: Option<&Container>,
    selector: &ResourceFieldSelector,
    facts: &NodeFacts,
) -> Result<String, FieldError> {
    let name = selector.container_name.as_deref().unwrap_or_default();
    let found = pod.spec.as_ref().and_then(|s| spec::find(s, name)).map(|(_, c)| c);
    let container = if name.is_empty() { own } else { found.as_ref() };
    let container = container.ok_or_else(|| FieldError::NoContainer(name.to_string()))?;
    let (list, resource) = selector
        .resource
        .split_once('.')
        .filter(|(list, _)| matches!(*list, "limits" | "requests"))
        .ok_or_else(|| FieldError::Resource(selector.resource.clone()))?;
    let known = matches!(resource, "cpu" | "memory" | "ephemeral-storage") || resource.starts_with("hugepages-");
    if !known {
        return Err(FieldError::Resource(selector.resource.clone()));
    }
    let resources = container.resources.as_ref();
    let own = match list {
        "limits" => resources.and_then(|r| r.limits.as_ref()),
        _ => resources.and_then(|r| r.requests.as_ref()),
    };
    let own = own
        .and_then(|list| list.get(resource))
        .filter(|q| amount::milli(q) != 0);
    let default = || {
        facts
            .allocatable
            .filter(|_| list == "limits")
            .and_then(|all| all.get(resource))
    };
    let quantity = own.or_else(default).cloned().unwrap_or(Quantity("0".into()));
    let divisor = selector.divisor.clone().unwrap_or(Quantity("1".into()));
    Ok(divided(&quantity, &divisor, resource).to_string())
}

fn divided(quantity: &Quantity, divisor: &Quantity, resource: &str) -> i128 {
    let one = |n: i64| if n == 0 { 1 } else { i128::from(n) };
    if resource == "cpu" {
        let divisor = if amount::milli(divisor) == 0 {
            1000
        } else {
            amount::milli(divisor)
        };
        return amount::div_ceil(i128::from(amount::milli(quantity)), one(divisor));
    }
    amount::div_ceil(i128::from(amount::value(quantity)), one(amount::value(divisor)))
}
