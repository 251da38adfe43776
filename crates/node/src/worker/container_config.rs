//! A container's configuration for the runtime (`generateContainerConfig`, pkg/kubelet/kuberuntime).

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, SeccompProfile, VolumeMount};
use podlife::env::{self, Environment, Sources};
use podlife::fields::NodeFacts;
use podlife::service_env::{self, Links};
use podlife::{resources, security, spec};
use runtime::{
    Capabilities, ContainerConfig, ContainerSecurityContext, Device, Image, KeyValue, LinuxContainerResources, Mount,
    MountPropagation, NamespaceMode, SecurityProfile,
};

use crate::context::Context;
use crate::recorder::Type;
use crate::volumes::{self, io_error};
use crate::{labels, worker::Failure};

const DEFAULT_MESSAGE_PATH: &str = "/dev/termination-log";

/// What a container is started with, besides its spec.
pub(crate) struct Start<'a> {
    pub pod: &'a Pod,
    pub spec: &'a PodSpec,
    pub container: &'a Container,
    pub restart_count: i32,
    pub image: &'a Image,
    pub pod_ips: Vec<std::net::IpAddr>,
}

/// The configuration. Makes the files and sub-paths that the container mounts.
pub(crate) async fn build(ctx: &Arc<Context>, start: &Start<'_>) -> Result<ContainerConfig, Failure> {
    let Start {
        pod,
        spec,
        container,
        restart_count,
        image,
        ..
    } = *start;
    let config_error = |message: String| Failure::new("CreateContainerConfigError", message);
    let effective = security::effective(spec, container);
    let user = image.uid.map_or_else(|| image.username.clone(), |uid| uid.to_string());
    let user = if user.is_empty() {
        image.config.user.clone()
    } else {
        user
    };
    security::verify_non_root(&effective, &user, &podlife::spec::display(pod), &container.name)
        .map_err(|error| config_error(error.to_string()))?;
    let environment = environment(ctx, start).await.map_err(config_error)?;
    let mounts = mounts(ctx, start, &environment).await.map_err(config_error)?;
    let expand = |list: &Option<Vec<String>>| list.iter().flatten().map(|text| environment.expand(text)).collect();
    let meta = &pod.metadata;
    let text = |value: Option<&String>| value.cloned().unwrap_or_default();
    Ok(ContainerConfig {
        name: container.name.clone(),
        attempt: restart_count.max(0) as u32,
        image: image.id.clone(),
        user_specified_image: container.image.clone().unwrap_or_default(),
        command: expand(&container.command),
        args: expand(&container.args),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        envs: environment
            .variables
            .iter()
            .map(|(k, v)| KeyValue {
                key: k.clone(),
                value: v.clone(),
            })
            .collect(),
        mounts,
        devices: devices(ctx, pod, spec, container),
        labels: BTreeMap::from([
            (labels::POD_NAME.to_string(), text(meta.name.as_ref())),
            (labels::POD_NAMESPACE.to_string(), text(meta.namespace.as_ref())),
            (labels::POD_UID.to_string(), text(meta.uid.as_ref())),
            (labels::CONTAINER_NAME.to_string(), container.name.clone()),
        ]),
        annotations: annotations(ctx, start),
        log_path: format!("{}/{restart_count}.log", container.name),
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        tty: container.tty == Some(true),
        stop_signal: container
            .lifecycle
            .as_ref()
            .and_then(|l| l.stop_signal.clone())
            .unwrap_or_default(),
        resources: limits(ctx, pod, spec, container),
        security_context: security_context(ctx, spec, &effective),
    })
}

fn annotations(ctx: &Context, start: &Start<'_>) -> BTreeMap<String, String> {
    let Start {
        pod,
        spec,
        container,
        restart_count,
        ..
    } = *start;
    let file = ctx.pod_dir(pod).termination_log(&container.name, restart_count);
    let policy = container.termination_message_policy.as_deref().unwrap_or("File");
    let grace = spec.termination_grace_period_seconds.unwrap_or(30);
    BTreeMap::from([
        (
            labels::HASH.to_string(),
            format!("{:x}", podlife::spec::hash(container)),
        ),
        (labels::RESTART_COUNT.to_string(), restart_count.to_string()),
        (labels::TERMINATION_LOG.to_string(), file.to_string_lossy().into_owned()),
        (labels::TERMINATION_POLICY.to_string(), policy.to_string()),
        (labels::GRACE.to_string(), grace.to_string()),
    ])
}

async fn environment(ctx: &Arc<Context>, start: &Start<'_>) -> Result<Environment, String> {
    let Start {
        pod, spec, container, ..
    } = *start;
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let names = env::references(container);
    let config_maps = ctx.sources.config_maps(namespace, &names.config_maps).await;
    let secrets = ctx.sources.secrets(namespace, &names.secrets).await;
    ctx.services.synced().await;
    let links = if spec.enable_service_links == Some(false) {
        Links::None
    } else {
        Links::Own
    };
    let services = ctx.services.list();
    let services = service_env::variables(services.iter().map(|service| &**service), namespace, links);
    let allocatable = ctx.allocatable();
    let facts = NodeFacts {
        host_ips: &ctx.config.ips,
        pod_ips: &start.pod_ips,
        allocatable: Some(&allocatable),
    };
    let sources = Sources {
        config_maps: &config_maps,
        secrets: &secrets,
        services: &services,
        facts,
    };
    let out = env::environment(pod, container, &sources).map_err(|error| error.to_string())?;
    for (kind, name, keys) in &out.skipped {
        let keys = keys.join(", ");
        let message = format!(
            "Keys [{keys}] from the EnvFrom {kind} {namespace}/{name} were skipped since they are considered invalid environment variable names."
        );
        ctx.recorder
            .pod(pod, Type::Warning, "InvalidEnvironmentVariableNames", message);
    }
    Ok(out)
}

fn limits(ctx: &Context, pod: &Pod, spec: &PodSpec, container: &Container) -> LinuxContainerResources {
    let cgroup = resources::container_cgroup(spec, container);
    let memory = i64::try_from(ctx.facts.memory_bytes).unwrap_or(i64::MAX);
    LinuxContainerResources {
        cpu_period: Some(resources::QUOTA_PERIOD),
        cpu_quota: cgroup.cpu_quota,
        cpu_shares: Some(cgroup.cpu_shares),
        memory_limit_bytes: cgroup.memory_limit,
        oom_score_adj: Some(resources::oom_score_adj(pod, container, memory)),
        hugepage_limits: cgroup.hugepages,
        ..LinuxContainerResources::default()
    }
}

fn security_context(ctx: &Context, spec: &PodSpec, effective: &security::Effective) -> ContainerSecurityContext {
    let list = |names: &Option<Vec<String>>| names.clone().unwrap_or_default();
    ContainerSecurityContext {
        privileged: effective.privileged,
        capabilities: Capabilities {
            add: list(&effective.capabilities.add),
            drop: list(&effective.capabilities.drop),
        },
        run_as_user: effective.run_as_user,
        run_as_group: effective.run_as_group,
        run_as_username: String::new(),
        supplemental_groups: effective.supplemental_groups.clone(),
        strict_supplemental_groups: effective.strict_groups,
        readonly_rootfs: effective.read_only_root,
        no_new_privs: effective.no_new_privileges,
        seccomp: effective
            .seccomp
            .as_ref()
            .map_or(SecurityProfile::Unconfined, |profile| seccomp(ctx, profile)),
        masked_paths: (effective.unmasked_proc || effective.privileged).then(Vec::new),
        readonly_paths: (effective.unmasked_proc || effective.privileged).then(Vec::new),
        pid: pid_namespace(spec),
    }
}

pub(crate) fn pid_namespace(spec: &PodSpec) -> NamespaceMode {
    if spec.host_pid == Some(true) {
        NamespaceMode::Node
    } else if spec.share_process_namespace == Some(true) {
        NamespaceMode::Pod
    } else {
        NamespaceMode::Container
    }
}

fn seccomp(ctx: &Context, profile: &SeccompProfile) -> SecurityProfile {
    match profile.type_.as_str() {
        "RuntimeDefault" => SecurityProfile::RuntimeDefault,
        "Localhost" => {
            let name = profile.localhost_profile.as_deref().unwrap_or_default();
            SecurityProfile::Localhost(ctx.data_dir().join("seccomp").join(name).to_string_lossy().into_owned())
        }
        _ => SecurityProfile::Unconfined,
    }
}

async fn mounts(ctx: &Arc<Context>, start: &Start<'_>, environment: &Environment) -> Result<Vec<Mount>, String> {
    let Start {
        pod,
        spec,
        container,
        restart_count,
        ..
    } = *start;
    let dir = ctx.pod_dir(pod);
    let mut out = Vec::new();
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let host_path = volume_path(ctx, pod, spec, container, index, mount, environment).await?;
        out.push(Mount {
            container_path: absolute(&mount.mount_path),
            host_path,
            readonly: mount.read_only == Some(true) || is_read_only(spec, &mount.name),
            propagation: match mount.mount_propagation.as_deref() {
                Some("Bidirectional") => MountPropagation::Bidirectional,
                Some("HostToContainer") => MountPropagation::HostToContainer,
                _ => MountPropagation::Private,
            },
        });
    }
    let mounted = |out: &[Mount], path: &str| out.iter().any(|mount| mount.container_path == path);
    if !mounted(&out, "/etc/hosts") {
        let text = hosts_file(ctx, start);
        let path = dir.etc_hosts();
        write_beside(path.clone(), text.into_bytes(), 0o644).await?;
        out.push(Mount {
            container_path: "/etc/hosts".into(),
            host_path: path,
            ..Mount::default()
        });
    }
    let message_path = container
        .termination_message_path
        .as_deref()
        .filter(|path| !path.is_empty());
    let message_path = message_path.unwrap_or(DEFAULT_MESSAGE_PATH);
    if !mounted(&out, message_path) {
        let path = dir.termination_log(&container.name, restart_count);
        write_beside(path.clone(), Vec::new(), 0o666).await?;
        out.push(Mount {
            container_path: message_path.into(),
            host_path: path,
            ..Mount::default()
        });
    }
    Ok(out)
}

/// Volumes of mode Block. What is linked was found to be a block device when the volume was set up.
fn devices(ctx: &Context, pod: &Pod, spec: &PodSpec, container: &Container) -> Vec<Device> {
    let dir = ctx.pod_dir(pod);
    let wanted = container.volume_devices.iter().flatten().filter_map(|device| {
        let host_path = std::fs::read_link(volumes::device_link(&dir, &device.name)).ok()?;
        let read_only = is_read_only(spec, &device.name);
        Some(Device {
            container_path: absolute(&device.device_path),
            host_path,
            permissions: if read_only { "r" } else { "mrw" }.to_owned(),
        })
    });
    wanted.collect()
}

/// Volumes that the node writes are not for containers to write, nor claims that are used for reading only.
fn is_read_only(spec: &PodSpec, name: &str) -> bool {
    spec.volumes.iter().flatten().find(|v| v.name == name).is_some_and(|v| {
        let claim = v.persistent_volume_claim.as_ref();
        v.config_map.is_some()
            || v.secret.is_some()
            || v.projected.is_some()
            || v.downward_api.is_some()
            || claim.is_some_and(|claim| claim.read_only == Some(true))
    })
}

fn absolute(path: &str) -> String {
    if path.starts_with('/') {
        path.to_string()
    } else {
        format!("/{path}")
    }
}

async fn volume_path(
    ctx: &Arc<Context>,
    pod: &Pod,
    spec: &PodSpec,
    container: &Container,
    index: usize,
    mount: &VolumeMount,
    environment: &Environment,
) -> Result<PathBuf, String> {
    let dir = ctx.pod_dir(pod);
    let volume = spec.volumes.iter().flatten().find(|v| v.name == mount.name);
    let volume = volume.ok_or_else(|| {
        format!(
            "volume {:?} of the mount at {} is not there",
            mount.name, mount.mount_path
        )
    })?;
    let folder = volumes::host_folder(&dir, volume).map_err(|error| error.to_string())?;
    let expression = mount.sub_path_expr.as_deref().filter(|text| !text.is_empty());
    let part = match expression {
        Some(text) => environment.expand_strictly(text).map_err(|error| error.to_string())?,
        None => mount.sub_path.clone().unwrap_or_default(),
    };
    if part.is_empty() {
        return Ok(folder);
    }
    let place = dir.sub_path(&mount.name, &container.name, index);
    let ctx = ctx.clone();
    volumes::blocking(move || volumes::resolve_sub_path(&*ctx.config.machine, &folder, &part, place))
        .await
        .map_err(|error| {
            format!(
                "failed to prepare subPath for volumeMount {:?} of container {:?}: {error}",
                mount.name, container.name
            )
        })
}

fn hosts_file(ctx: &Context, start: &Start<'_>) -> String {
    let Start { pod, spec, .. } = *start;
    let aliases = spec.host_aliases.as_deref().unwrap_or_default();
    if spec::host_network(spec) {
        let host = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
        return podlife::hosts::host_network(&host, aliases);
    }
    let name = podlife::hosts::hostname(pod);
    let domain = podlife::hosts::domain(pod, &ctx.config.cluster_domain);
    podlife::hosts::managed(&start.pod_ips, &name, domain.as_deref(), aliases)
}

async fn write_beside(path: PathBuf, data: Vec<u8>, mode: u32) -> Result<(), String> {
    volumes::blocking(move || {
        volumes::make_folder(path.parent().unwrap_or(Path::new("/")))?;
        std::fs::write(&path, data).map_err(io_error("write", &path))?;
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&path, permissions).map_err(io_error("change the mode of", &path))
    })
    .await
    .map_err(|error| error.to_string())
}
