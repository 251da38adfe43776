//! A pod's resolv.conf (pkg/kubelet/network/dns).

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Pod;

use crate::spec;

const MAX_SERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_CHARS: usize = 2048;
const MAX_NAME: usize = 253;

/// Contents of a resolv.conf.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolver {
    /// Name servers.
    pub servers: Vec<String>,
    /// Search domains.
    pub searches: Vec<String>,
    /// Options.
    pub options: Vec<String>,
}

/// The cluster's DNS.
#[derive(Clone, Copy, Debug)]
pub struct ClusterDns<'a> {
    /// Addresses of the service; empty if there is none.
    pub servers: &'a [IpAddr],
    /// Such as `cluster.local`.
    pub domain: &'a str,
}

/// Reads a resolv.conf; the last `search` and `options` lines count.
pub fn parse(text: &str) -> Resolver {
    let mut out = Resolver::default();
    for line in text.lines() {
        let line = line.split(['#', ';']).next().unwrap_or_default();
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => out.servers.extend(words.next().map(String::from)),
            Some("search") => out.searches = words.map(trim_dot).collect(),
            Some("options") => out.options = words.map(String::from).collect(),
            _ => {}
        }
    }
    out
}

fn trim_dot(name: &str) -> String {
    if name == "." {
        name.to_string()
    } else {
        name.trim_end_matches('.').to_string()
    }
}

/// The pod's resolver, and complaints about what did not fit.
pub fn pod_resolver(pod: &Pod, host: &Resolver, cluster: &ClusterDns) -> (Resolver, Vec<String>) {
    let Some(pod_spec) = pod.spec.as_ref() else {
        return (host.clone(), Vec::new());
    };
    let policy = pod_spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let clustered = match policy {
        "ClusterFirstWithHostNet" => true,
        "None" | "Default" => false,
        _ => !spec::host_network(pod_spec),
    };
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let mut out = if policy == "None" {
        Resolver::default()
    } else if clustered && !cluster.servers.is_empty() {
        let domain = cluster.domain;
        let own = [
            format!("{namespace}.svc.{domain}"),
            format!("svc.{domain}"),
            domain.to_string(),
        ];
        Resolver {
            servers: cluster.servers.iter().map(IpAddr::to_string).collect(),
            searches: unique(own.into_iter().chain(host.searches.iter().cloned())),
            options: vec!["ndots:5".into()],
        }
    } else {
        host.clone()
    };
    if let Some(extra) = &pod_spec.dns_config {
        out.servers = unique(
            out.servers
                .into_iter()
                .chain(extra.nameservers.iter().flatten().cloned()),
        );
        out.searches = unique(out.searches.into_iter().chain(extra.searches.iter().flatten().cloned()));
        for option in extra.options.iter().flatten() {
            let Some(name) = option.name.as_deref() else { continue };
            out.options.retain(|old| old.split(':').next() != Some(name));
            out.options.push(match option.value.as_deref() {
                Some(value) if !value.is_empty() => format!("{name}:{value}"),
                _ => name.to_string(),
            });
        }
    }
    let complaints = fit(&mut out);
    (out, complaints)
}

fn unique(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for name in names {
        if !out.contains(&name) {
            out.push(name);
        }
    }
    out
}

fn fit(out: &mut Resolver) -> Vec<String> {
    let mut complaints = Vec::new();
    let before = out.searches.len();
    out.searches.truncate(MAX_SEARCHES);
    out.searches.retain(|name| name.len() <= MAX_NAME);
    while out.searches.join(" ").len() > MAX_SEARCH_CHARS {
        out.searches.pop();
    }
    if out.searches.len() < before {
        complaints.push(format!(
            "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {}",
            out.searches.join(" ")
        ));
    }
    if out.servers.len() > MAX_SERVERS {
        out.servers.truncate(MAX_SERVERS);
        complaints.push(format!(
            "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {}",
            out.servers.join(" ")
        ));
    }
    complaints
}
