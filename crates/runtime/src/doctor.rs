//! Whether this machine can run containers, and how to mend it if not.

use std::fs;
use std::path::Path;

use crate::cgroup::Cgroups;

/// What was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Such as `overlayfs`.
    pub name: &'static str,
    /// How it is.
    pub verdict: Verdict,
}

/// How something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be; what was found.
    Good(String),
    /// Containers run, but something is missing: what, and how to mend it.
    Poor(String),
    /// Containers cannot run: why, and how to mend it.
    Bad(String),
}

/// Looks at the machine. Changes nothing.
pub fn doctor(data_dir: &Path) -> Vec<Check> {
    let check = |name, verdict| Check { name, verdict };
    vec![
        check("root", root()),
        check("kernel", kernel()),
        check("namespaces", namespaces()),
        check("control groups", control_groups()),
        check("overlayfs", overlay()),
        check("seccomp", seccomp()),
        check("disk", disk(data_dir)),
    ]
}

fn root() -> Verdict {
    if !nix::unistd::geteuid().is_root() {
        return Verdict::Bad("not root; run skiff as root (or with --hollow-nodes, without containers)".to_owned());
    }
    // SAFETY: takes and gives numbers only.
    let admin = unsafe { libc::prctl(libc::PR_CAPBSET_READ, 21, 0, 0, 0) } == 1;
    if admin {
        Verdict::Good("root with CAP_SYS_ADMIN".to_owned())
    } else {
        Verdict::Bad("CAP_SYS_ADMIN is missing; in a container, run it privileged".to_owned())
    }
}

fn kernel() -> Verdict {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim().to_owned();
    let mut numbers = release.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    // mount_setattr, which mounts are made with, came last of what is needed.
    if version < (5, 12) {
        return Verdict::Bad(format!("Linux {release}; 5.12 or later is needed"));
    }
    Verdict::Good(format!("Linux {release}"))
}

fn namespaces() -> Verdict {
    let missing: Vec<&str> = ["net", "ipc", "uts", "mnt", "pid", "cgroup"]
        .into_iter()
        .filter(|name| !Path::new("/proc/self/ns").join(name).exists())
        .collect();
    if missing.is_empty() {
        Verdict::Good("all there".to_owned())
    } else {
        Verdict::Bad(format!(
            "the kernel has no {} namespaces; use one that has",
            missing.join(", ")
        ))
    }
}

fn control_groups() -> Verdict {
    let cgroups = match Cgroups::detect() {
        Ok(cgroups) => cgroups,
        Err(error) => return Verdict::Bad(error.to_string()),
    };
    let version = if cgroups.is_v2() { "v2" } else { "v1" };
    let missing: Vec<&str> = ["cpu", "memory", "pids", "cpuset"]
        .into_iter()
        .filter(|controller| !cgroups.has_controller(controller))
        .collect();
    if missing.is_empty() {
        return Verdict::Good(version.to_owned());
    }
    Verdict::Poor(format!(
        "{version}, without the controllers {}: such limits cannot be set; enable them (for memory on some machines: \
         cgroup_enable=memory on the kernel's command line)",
        missing.join(", ")
    ))
}

fn overlay() -> Verdict {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if known.lines().any(|line| line.trim_end().ends_with("overlay")) {
        return Verdict::Good("there".to_owned());
    }
    Verdict::Poor(
        "the kernel does not have it (now): images are copied for each container; try `modprobe overlay`".to_owned(),
    )
}

fn seccomp() -> Verdict {
    match fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail") {
        Ok(actions) if actions.contains("errno") => Verdict::Good("there".to_owned()),
        _ => Verdict::Poor(
            "the kernel cannot filter system calls: pods with seccompProfile RuntimeDefault will not start".to_owned(),
        ),
    }
}

fn disk(data_dir: &Path) -> Verdict {
    let existing = data_dir
        .ancestors()
        .find(|path| path.exists())
        .unwrap_or(Path::new("/"));
    match crate::image::filesystem_usage(existing, 0, 0) {
        Ok(usage) if usage.available_bytes < 1 << 30 => Verdict::Poor(format!(
            "{} MiB are left for {}; images need more: free some space or use another --data-dir",
            usage.available_bytes >> 20,
            data_dir.display()
        )),
        Ok(usage) => Verdict::Good(format!(
            "{} GiB are left for {}",
            usage.available_bytes >> 30,
            data_dir.display()
        )),
        Err(error) => Verdict::Poor(error.to_string()),
    }
}
