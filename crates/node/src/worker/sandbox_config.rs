//! A sandbox's configuration for the runtime (`generatePodSandboxConfig`, pkg/kubelet/kuberuntime).

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use podlife::dns::{self, ClusterDns};
use podlife::{hosts, resources, spec};
use runtime::{
    DnsConfig, LinuxContainerResources, NamespaceMode, NamespaceOption, PodSandboxConfig, PodSandboxMetadata,
    PodSecurityContext,
};

use crate::context::Context;
use crate::labels;
use crate::recorder::Type;
use crate::worker::container_config::pid_namespace;

/// The configuration.
pub(crate) fn build(ctx: &Context, pod: &Pod, pod_spec: &PodSpec, attempt: u32) -> PodSandboxConfig {
    let meta = &pod.metadata;
    let text = |value: Option<&String>| value.cloned().unwrap_or_default();
    let metadata = PodSandboxMetadata {
        name: text(meta.name.as_ref()),
        namespace: text(meta.namespace.as_ref()),
        uid: text(meta.uid.as_ref()),
        attempt,
    };
    let mut own = meta.labels.clone().unwrap_or_default();
    own.insert(labels::POD_NAME.into(), metadata.name.clone());
    own.insert(labels::POD_NAMESPACE.into(), metadata.namespace.clone());
    own.insert(labels::POD_UID.into(), metadata.uid.clone());
    let mut annotations = meta.annotations.clone().unwrap_or_default();
    annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    annotations.insert(labels::HOST_PORTS.into(), host_ports(pod_spec).to_string());
    let host_network = spec::host_network(pod_spec);
    let mode = |host: bool| if host { NamespaceMode::Node } else { NamespaceMode::Pod };
    PodSandboxConfig {
        metadata,
        hostname: if host_network {
            String::new()
        } else {
            hosts::kernel_hostname(pod, &ctx.config.cluster_domain)
        },
        log_directory: ctx.pod_dir(pod).logs(),
        dns_config: Some(resolver(ctx, pod)),
        labels: own,
        annotations,
        cgroup_parent: resources::cgroup_parent(&ctx.config.cgroup_root, pod),
        resources: pod_limits(pod_spec),
        sysctls: pod_spec
            .security_context
            .iter()
            .flat_map(|s| s.sysctls.iter().flatten())
            .map(|sysctl| (sysctl.name.clone(), sysctl.value.clone()))
            .collect(),
        security_context: PodSecurityContext {
            namespace_options: NamespaceOption {
                network: mode(host_network),
                pid: pid_namespace(pod_spec),
                ipc: mode(pod_spec.host_ipc == Some(true)),
            },
        },
    }
}

fn pod_limits(pod_spec: &PodSpec) -> LinuxContainerResources {
    let cgroup = resources::pod_cgroup(pod_spec);
    LinuxContainerResources {
        cpu_period: Some(resources::QUOTA_PERIOD),
        cpu_quota: cgroup.cpu_quota,
        cpu_shares: Some(cgroup.cpu_shares),
        memory_limit_bytes: cgroup.memory_limit,
        ..LinuxContainerResources::default()
    }
}

fn resolver(ctx: &Context, pod: &Pod) -> DnsConfig {
    let host = dns::parse(&std::fs::read_to_string(&ctx.config.resolv_conf).unwrap_or_default());
    let cluster = ClusterDns {
        servers: &ctx.config.cluster_dns,
        domain: &ctx.config.cluster_domain,
    };
    let (found, complaints) = dns::pod_resolver(pod, &host, &cluster);
    for complaint in complaints {
        ctx.recorder.pod(pod, Type::Warning, "DNSConfigForming", complaint);
    }
    DnsConfig {
        servers: found.servers,
        searches: found.searches,
        options: found.options,
    }
}

/// The host ports of a pod's containers, for [`crate::NodeNetwork`].
fn host_ports(pod_spec: &PodSpec) -> serde_json::Value {
    let containers = spec::init_containers(pod_spec)
        .iter()
        .filter(|c| spec::is_sidecar(c))
        .chain(&pod_spec.containers);
    let ports = containers
        .flat_map(|c| c.ports.iter().flatten())
        .filter(|port| port.host_port.is_some_and(|p| p > 0));
    let ports = ports.map(|port| {
        serde_json::json!({
            "host_ip": port.host_ip.as_deref().filter(|ip| !ip.is_empty()),
            "host_port": port.host_port,
            "protocol": port.protocol.as_deref().unwrap_or("TCP"),
            "pod_port": port.container_port,
        })
    });
    ports.collect()
}
