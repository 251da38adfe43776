//! Which checks a level has as of a version (upstream `pod-security-admission/policy/registry.go`).

use super::policy::{Level, Rules, Version};
use super::subject::{Subject, Violation};
use super::{baseline, restricted};

type Check = fn(&Subject<'_>) -> Option<Violation>;

/// A check's shape from a minor version on. Lines of one id follow each other, oldest first; ids are
/// in the order in which violations are told: by level, then by name.
struct Line {
    id: &'static str,
    level: Level,
    since: u32,
    check: Check,
    /// The check of the baseline level that it makes needless.
    overrides: &'static str,
}

const fn base(id: &'static str, since: u32, check: Check) -> Line {
    Line {
        id,
        level: Level::Baseline,
        since,
        check,
        overrides: "",
    }
}

const fn more(id: &'static str, since: u32, check: Check, overrides: &'static str) -> Line {
    Line {
        id,
        level: Level::Restricted,
        since,
        check,
        overrides,
    }
}

const CHECKS: &[Line] = &[
    base("appArmorProfile", 0, baseline::app_armor),
    base("capabilities_baseline", 0, baseline::capabilities),
    base("hostNamespaces", 0, baseline::host_namespaces),
    base("hostPathVolumes", 0, baseline::host_path_volumes),
    base("hostPorts", 0, baseline::host_ports),
    base("hostProbesAndHostLifecycle", 34, baseline::probe_hosts),
    base("privileged", 0, baseline::privileged),
    base("procMount", 0, baseline::proc_mount),
    base("procMount", 35, baseline::proc_mount_on_host),
    base("seLinuxOptions", 0, baseline::se_linux),
    base("seLinuxOptions", 31, baseline::se_linux_1_31),
    base("seccompProfile_baseline", 0, baseline::seccomp_annotations),
    base("seccompProfile_baseline", 19, baseline::seccomp),
    base("sysctls", 0, baseline::sysctls::<0>),
    base("sysctls", 27, baseline::sysctls::<27>),
    base("sysctls", 29, baseline::sysctls::<29>),
    base("sysctls", 32, baseline::sysctls::<32>),
    base("sysctls", 37, baseline::sysctls::<37>),
    base("windowsHostProcess", 0, baseline::windows_host_process),
    more("allowPrivilegeEscalation", 8, restricted::privilege_escalation, ""),
    more(
        "allowPrivilegeEscalation",
        25,
        restricted::privilege_escalation_on_linux,
        "",
    ),
    more(
        "capabilities_restricted",
        22,
        restricted::capabilities,
        "capabilities_baseline",
    ),
    more(
        "capabilities_restricted",
        25,
        restricted::capabilities_on_linux,
        "capabilities_baseline",
    ),
    more("procMount_restricted", 35, baseline::proc_mount, "procMount"),
    more("restrictedVolumes", 0, restricted::volumes, "hostPathVolumes"),
    more("runAsNonRoot", 0, restricted::run_as_non_root, ""),
    more("runAsNonRoot", 35, restricted::run_as_non_root_on_host, ""),
    more("runAsUser", 23, restricted::run_as_user, ""),
    more("runAsUser", 35, restricted::run_as_user_on_host, ""),
    more(
        "seccompProfile_restricted",
        19,
        restricted::seccomp,
        "seccompProfile_baseline",
    ),
    more(
        "seccompProfile_restricted",
        25,
        restricted::seccomp_on_linux,
        "seccompProfile_baseline",
    ),
];

/// Every violation of these rules.
pub(super) fn evaluate(rules: Rules, pod: &Subject<'_>) -> Vec<Violation> {
    if rules.level == Level::Privileged {
        return Vec::new();
    }
    let minor = match rules.version {
        Version::Latest => u32::MAX,
        Version::Minor(minor) => minor,
    };
    let applies = |at: usize| {
        let line = &CHECKS[at];
        let newer = CHECKS.get(at + 1).filter(|next| next.id == line.id);
        line.level <= rules.level && line.since <= minor && newer.is_none_or(|next| next.since > minor)
    };
    let chosen: Vec<&Line> = (0..CHECKS.len())
        .filter(|at| applies(*at))
        .map(|at| &CHECKS[at])
        .collect();
    chosen
        .iter()
        .filter(|line| !chosen.iter().any(|other| other.overrides == line.id))
        .filter_map(|line| (line.check)(pod))
        .collect()
}

/// The reasons alone: what many pods have in common.
pub(super) fn reasons(violations: &[Violation]) -> String {
    let all: Vec<&str> = violations.iter().map(|v| v.reason.as_str()).collect();
    all.join(", ")
}

/// Reasons with their details in parentheses.
pub(super) fn details(violations: &[Violation]) -> String {
    let all: Vec<String> = violations
        .iter()
        .map(|v| format!("{} ({})", v.reason, v.detail))
        .collect();
    all.join(", ")
}

#[cfg(test)]
mod tests;
