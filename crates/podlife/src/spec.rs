//! Finding one's way in a pod's spec.

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodSpec};

/// What a container is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Runs to its end before the next one.
    Init,
    /// An init container with `restartPolicy: Always`.
    Sidecar,
    /// One of `spec.containers`.
    Regular,
    /// One of `spec.ephemeralContainers`.
    Ephemeral,
}

/// An init container that keeps running.
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// Init containers, in order.
pub fn init_containers(spec: &PodSpec) -> &[Container] {
    spec.init_containers.as_deref().unwrap_or_default()
}

/// Ephemeral containers as containers.
pub fn ephemeral_containers(spec: &PodSpec) -> Vec<Container> {
    spec.ephemeral_containers.iter().flatten().map(as_container).collect()
}

/// Every container with its role: init, regular, ephemeral.
pub fn containers(spec: &PodSpec) -> Vec<(Role, Container)> {
    let init = init_containers(spec)
        .iter()
        .map(|c| (if is_sidecar(c) { Role::Sidecar } else { Role::Init }, c.clone()));
    let regular = spec.containers.iter().map(|c| (Role::Regular, c.clone()));
    let ephemeral = ephemeral_containers(spec).into_iter().map(|c| (Role::Ephemeral, c));
    init.chain(regular).chain(ephemeral).collect()
}

/// The container of the name.
pub fn find(spec: &PodSpec, name: &str) -> Option<(Role, Container)> {
    if let Some(c) = spec.containers.iter().find(|c| c.name == name) {
        return Some((Role::Regular, c.clone()));
    }
    if let Some(c) = init_containers(spec).iter().find(|c| c.name == name) {
        return Some((if is_sidecar(c) { Role::Sidecar } else { Role::Init }, c.clone()));
    }
    let ephemeral = spec.ephemeral_containers.iter().flatten().find(|c| c.name == name)?;
    Some((Role::Ephemeral, as_container(ephemeral)))
}

/// An ephemeral container's common part.
pub fn as_container(e: &EphemeralContainer) -> Container {
    Container {
        args: e.args.clone(),
        command: e.command.clone(),
        env: e.env.clone(),
        env_from: e.env_from.clone(),
        image: e.image.clone(),
        image_pull_policy: e.image_pull_policy.clone(),
        lifecycle: e.lifecycle.clone(),
        liveness_probe: e.liveness_probe.clone(),
        name: e.name.clone(),
        ports: e.ports.clone(),
        readiness_probe: e.readiness_probe.clone(),
        resize_policy: e.resize_policy.clone(),
        resources: e.resources.clone(),
        restart_policy: e.restart_policy.clone(),
        security_context: e.security_context.clone(),
        startup_probe: e.startup_probe.clone(),
        stdin: e.stdin,
        stdin_once: e.stdin_once,
        termination_message_path: e.termination_message_path.clone(),
        termination_message_policy: e.termination_message_policy.clone(),
        tty: e.tty,
        volume_devices: e.volume_devices.clone(),
        volume_mounts: e.volume_mounts.clone(),
        working_dir: e.working_dir.clone(),
        ..Container::default()
    }
}

/// `spec.hostNetwork`.
pub fn host_network(spec: &PodSpec) -> bool {
    spec.host_network == Some(true)
}

/// FNV-1a (32 bits) of what forces a new container when it changes: name and image (upstream since 1.31,
/// pkg/kubelet/container/helpers.go).
pub fn hash(container: &Container) -> u64 {
    let mut hash: u32 = 0x811c_9dc5;
    let image = container.image.as_deref().unwrap_or_default();
    for byte in container.name.bytes().chain([0]).chain(image.bytes()) {
        hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    u64::from(hash)
}

/// `name_namespace(uid)`, as messages show a pod.
pub fn display(pod: &Pod) -> String {
    let meta = &pod.metadata;
    format!(
        "{}_{}({})",
        meta.name.as_deref().unwrap_or_default(),
        meta.namespace.as_deref().unwrap_or_default(),
        meta.uid.as_deref().unwrap_or_default()
    )
}
