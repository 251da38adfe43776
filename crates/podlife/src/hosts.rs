//! A pod's host name and `/etc/hosts` (pkg/kubelet/kubelet_pods.go).

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{HostAlias, Pod};

/// Longest host name.
const MAX_HOSTNAME: usize = 63;

/// The pod's host name.
pub fn hostname(pod: &Pod) -> String {
    let pod_spec = pod.spec.as_ref();
    if let Some(whole) = pod_spec
        .and_then(|s| s.hostname_override.as_deref())
        .filter(|name| !name.is_empty())
    {
        return whole.to_string();
    }
    let own = pod_spec
        .and_then(|s| s.hostname.as_deref())
        .filter(|name| !name.is_empty());
    let name = own.or(pod.metadata.name.as_deref()).unwrap_or_default();
    let cut = name
        .char_indices()
        .nth(MAX_HOSTNAME)
        .map_or(name, |(end, _)| &name[..end]);
    cut.trim_end_matches(['-', '.']).to_string()
}

/// The domain that `spec.subdomain` puts the pod in.
pub fn domain(pod: &Pod, cluster_domain: &str) -> Option<String> {
    let subdomain = pod
        .spec
        .as_ref()?
        .subdomain
        .as_deref()
        .filter(|name| !name.is_empty())?;
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    Some(format!("{subdomain}.{namespace}.svc.{cluster_domain}"))
}

/// What the kernel is told: the host name, or the whole name where the pod asks for it.
pub fn kernel_hostname(pod: &Pod, cluster_domain: &str) -> String {
    let name = hostname(pod);
    let whole = pod.spec.as_ref().is_some_and(|s| s.set_hostname_as_fqdn == Some(true));
    match domain(pod, cluster_domain) {
        Some(domain) if whole && name.len() + 1 + domain.len() <= 64 => format!("{name}.{domain}"),
        _ => name,
    }
}

/// `/etc/hosts` of a pod with its own network.
pub fn managed(ips: &[IpAddr], hostname: &str, domain: Option<&str>, aliases: &[HostAlias]) -> String {
    let mut out = String::from(concat!(
        "# Kubernetes-managed hosts file.\n",
        "127.0.0.1\tlocalhost\n",
        "::1\tlocalhost ip6-localhost ip6-loopback\n",
        "fe00::0\tip6-localnet\n",
        "fe00::0\tip6-mcastprefix\n",
        "fe00::1\tip6-allnodes\n",
        "fe00::2\tip6-allrouters\n",
    ));
    for ip in ips {
        match domain {
            Some(domain) => out.push_str(&format!("{ip}\t{hostname}.{domain}\t{hostname}\n")),
            None => out.push_str(&format!("{ip}\t{hostname}\n")),
        }
    }
    out + &alias_lines(aliases)
}

/// `/etc/hosts` of a pod with the host's network.
pub fn host_network(hosts_file: &str, aliases: &[HostAlias]) -> String {
    format!(
        "# Kubernetes-managed hosts file (host network).\n{hosts_file}{}",
        alias_lines(aliases)
    )
}

fn alias_lines(aliases: &[HostAlias]) -> String {
    if aliases.is_empty() {
        return String::new();
    }
    let mut out = String::from("\n# Entries added by HostAliases.\n");
    for alias in aliases {
        let names = alias.hostnames.as_deref().unwrap_or_default().join("\t");
        out.push_str(&format!("{}\t{names}\n", alias.ip));
    }
    out
}
