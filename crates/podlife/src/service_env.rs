//! Environment variables of Services (pkg/kubelet/envvars).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Service, ServicePort};

/// Variables that a pod of the namespace sees: `kubernetes` of `default` always, those of its own namespace if it
/// wants them.
pub fn variables<'a>(
    services: impl Iterator<Item = &'a Service>,
    namespace: &str,
    links: Links,
) -> BTreeMap<String, String> {
    let mut chosen: BTreeMap<&str, &Service> = BTreeMap::new();
    for service in services {
        let (Some(name), Some(home)) = (service.metadata.name.as_deref(), service.metadata.namespace.as_deref()) else {
            continue;
        };
        if address(service).is_none() {
            continue;
        }
        if home == namespace && links == Links::Own {
            chosen.insert(name, service);
        } else if home == "default" && name == "kubernetes" {
            chosen.entry(name).or_insert(service);
        }
    }
    let mut out = BTreeMap::new();
    for (name, service) in chosen {
        add(name, service, &mut out);
    }
    out
}

/// `spec.enableServiceLinks`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// Services of the pod's namespace as well.
    Own,
    /// Only `kubernetes`.
    None,
}

fn address(service: &Service) -> Option<&str> {
    service
        .spec
        .as_ref()?
        .cluster_ip
        .as_deref()
        .filter(|ip| !ip.is_empty() && *ip != "None")
}

fn add(name: &str, service: &Service, out: &mut BTreeMap<String, String>) {
    let (Some(ip), Some(ports)) = (address(service), service.spec.as_ref().and_then(|s| s.ports.as_deref())) else {
        return;
    };
    let prefix = variable(name);
    let Some(first) = ports.first() else { return };
    out.insert(format!("{prefix}_SERVICE_HOST"), ip.to_string());
    out.insert(format!("{prefix}_SERVICE_PORT"), first.port.to_string());
    for port in ports {
        if let Some(label) = port.name.as_deref().filter(|label| !label.is_empty()) {
            out.insert(
                format!("{prefix}_SERVICE_PORT_{}", variable(label)),
                port.port.to_string(),
            );
        }
    }
    out.insert(format!("{prefix}_PORT"), url(ip, first));
    for port in ports {
        let protocol = protocol(port);
        let base = format!("{prefix}_PORT_{}_{}", port.port, protocol.to_uppercase());
        out.insert(base.clone(), url(ip, port));
        out.insert(format!("{base}_PROTO"), protocol.to_lowercase());
        out.insert(format!("{base}_PORT"), port.port.to_string());
        out.insert(format!("{base}_ADDR"), ip.to_string());
    }
}

fn protocol(port: &ServicePort) -> &str {
    port.protocol.as_deref().filter(|p| !p.is_empty()).unwrap_or("TCP")
}

fn url(ip: &str, port: &ServicePort) -> String {
    let host = if ip.contains(':') {
        format!("[{ip}]")
    } else {
        ip.to_string()
    };
    format!("{}://{host}:{}", protocol(port).to_lowercase(), port.port)
}

fn variable(name: &str) -> String {
    name.replace('-', "_").to_uppercase()
}
