//! A container's security context over its pod's (pkg/securitycontext).

use k8s_openapi::api::core::v1::{Capabilities, Container, PodSpec, SeccompProfile};

/// What holds for one container.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effective {
    /// User id.
    pub run_as_user: Option<i64>,
    /// Group id.
    pub run_as_group: Option<i64>,
    /// Must not be root.
    pub run_as_non_root: bool,
    /// Everything is allowed.
    pub privileged: bool,
    /// Root file system is read-only.
    pub read_only_root: bool,
    /// `allowPrivilegeEscalation: false`.
    pub no_new_privileges: bool,
    /// Changes to capabilities.
    pub capabilities: Capabilities,
    /// System call filter.
    pub seccomp: Option<SeccompProfile>,
    /// `procMount: Unmasked`.
    pub unmasked_proc: bool,
    /// Further groups, `fsGroup` among them.
    pub supplemental_groups: Vec<i64>,
    /// The image's own groups do not count.
    pub strict_groups: bool,
}

/// Why a container must not run.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RootError {
    /// The pod says root and not root.
    #[error("container's runAsUser breaks non-root policy (pod: {pod:?}, container: {container})")]
    UserIsRoot {
        /// The pod, as messages show it.
        pod: String,
        /// The container.
        container: String,
    },
    /// The image says root.
    #[error("container has runAsNonRoot and image will run as root (pod: {pod:?}, container: {container})")]
    ImageIsRoot {
        /// The pod, as messages show it.
        pod: String,
        /// The container.
        container: String,
    },
    /// The image names a user whose id is not known.
    #[error(
        "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root (pod: {pod:?}, container: {container})"
    )]
    NotNumeric {
        /// The image's user.
        user: String,
        /// The pod, as messages show it.
        pod: String,
        /// The container.
        container: String,
    },
}

/// Merges the two.
pub fn effective(pod_spec: &PodSpec, container: &Container) -> Effective {
    let pod = pod_spec.security_context.clone().unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    let privileged = own.privileged == Some(true);
    let capabilities = own.capabilities.clone().unwrap_or_default();
    let admin = |c: &Capabilities| {
        c.add
            .iter()
            .flatten()
            .any(|name| matches!(name.to_uppercase().trim_start_matches("CAP_"), "SYS_ADMIN"))
    };
    Effective {
        run_as_user: own.run_as_user.or(pod.run_as_user),
        run_as_group: own.run_as_group.or(pod.run_as_group),
        run_as_non_root: own.run_as_non_root.or(pod.run_as_non_root) == Some(true),
        privileged,
        read_only_root: own.read_only_root_filesystem == Some(true),
        no_new_privileges: own.allow_privilege_escalation == Some(false) && !privileged && !admin(&capabilities),
        capabilities,
        seccomp: own.seccomp_profile.or(pod.seccomp_profile),
        unmasked_proc: own.proc_mount.as_deref() == Some("Unmasked"),
        supplemental_groups: pod
            .supplemental_groups
            .into_iter()
            .flatten()
            .chain(pod.fs_group)
            .collect(),
        strict_groups: pod.supplemental_groups_policy.as_deref() == Some("Strict"),
    }
}

/// Checks `runAsNonRoot` against the user that will be (`verifyRunAsNonRoot`). `image_user`: a number, a name, or
/// empty for root.
pub fn verify_non_root(effective: &Effective, image_user: &str, pod: &str, container: &str) -> Result<(), RootError> {
    if !effective.run_as_non_root {
        return Ok(());
    }
    let (pod, container) = (pod.to_string(), container.to_string());
    match effective.run_as_user {
        Some(0) => return Err(RootError::UserIsRoot { pod, container }),
        Some(_) => return Ok(()),
        None => {}
    }
    let user = image_user.split(':').next().unwrap_or_default();
    match user.parse::<i64>() {
        Ok(0) => Err(RootError::ImageIsRoot { pod, container }),
        Ok(_) => Ok(()),
        Err(_) if user.is_empty() => Err(RootError::ImageIsRoot { pod, container }),
        Err(_) => Err(RootError::NotNumeric {
            user: user.to_string(),
            pod,
            container,
        }),
    }
}
