//! Limits in place. See pkg/kubelet/cm/cgroup_manager_linux.go for the conversions.

use std::fs;
use std::path::Path;

use super::{Cgroups, Version, failed};
use crate::{LinuxContainerResources, Result, RuntimeError};

impl Cgroups {
    /// Sets the limits that are given; the group must be there.
    pub fn apply(&self, path: &str, limits: &LinuxContainerResources) -> Result<()> {
        self.apply_cpu(path, limits)?;
        if let Some(bytes) = limits.memory_limit_bytes {
            self.apply_memory(path, bytes)?;
        }
        if let Some(count) = limits.pids_limit {
            let (_, dir) = self.need("pids", path)?;
            set(&dir.join("pids.max"), &unlimited_or(count))?;
        }
        for (file, value) in [
            ("cpuset.cpus", &limits.cpuset_cpus),
            ("cpuset.mems", &limits.cpuset_mems),
        ] {
            if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
                let (_, dir) = self.need("cpuset", path)?;
                set(&dir.join(file), value)?;
            }
        }
        for (size, bytes) in &limits.hugepage_limits {
            let (version, dir) = self.need("hugetlb", path)?;
            let file = match version {
                Version::V1 => format!("hugetlb.{size}.limit_in_bytes"),
                Version::V2 => format!("hugetlb.{size}.max"),
            };
            set(&dir.join(file), &bytes.to_string())?;
        }
        Ok(())
    }

    fn need(&self, controller: &'static str, path: &str) -> Result<(Version, std::path::PathBuf)> {
        self.dir(controller, path).ok_or_else(|| RuntimeError::Unsupported {
            what: "this limit",
            message: format!("the {controller} cgroup controller is not enabled in the kernel"),
        })
    }

    fn apply_cpu(&self, path: &str, limits: &LinuxContainerResources) -> Result<()> {
        if limits.cpu_shares.is_none() && limits.cpu_period.is_none() && limits.cpu_quota.is_none() {
            return Ok(());
        }
        let (version, dir) = self.need("cpu", path)?;
        if let Some(shares) = limits.cpu_shares {
            match version {
                Version::V1 => set(&dir.join("cpu.shares"), &shares.max(2).to_string())?,
                Version::V2 => set(&dir.join("cpu.weight"), &shares_to_weight(shares).to_string())?,
            }
        }
        match version {
            Version::V1 => {
                if let Some(period) = limits.cpu_period.filter(|period| *period > 0) {
                    set(&dir.join("cpu.cfs_period_us"), &period.to_string())?;
                }
                if let Some(quota) = limits.cpu_quota {
                    set(
                        &dir.join("cpu.cfs_quota_us"),
                        &if quota > 0 { quota } else { -1 }.to_string(),
                    )?;
                }
            }
            Version::V2 => {
                if limits.cpu_quota.is_some() || limits.cpu_period.is_some() {
                    let now = fs::read_to_string(dir.join("cpu.max")).unwrap_or_default();
                    let mut now = now.split_ascii_whitespace();
                    let quota = match limits.cpu_quota {
                        Some(quota) if quota > 0 => quota.to_string(),
                        Some(_) => "max".to_owned(),
                        None => now.next().unwrap_or("max").to_owned(),
                    };
                    let period = limits.cpu_period.filter(|period| *period > 0).unwrap_or(100_000);
                    set(&dir.join("cpu.max"), &format!("{quota} {period}"))?;
                }
            }
        }
        Ok(())
    }

    /// Memory, and no swap on top of it.
    fn apply_memory(&self, path: &str, bytes: i64) -> Result<()> {
        let (version, dir) = self.need("memory", path)?;
        match version {
            Version::V1 => {
                let value = if bytes > 0 { bytes } else { -1 }.to_string();
                let (limit, with_swap) = (
                    dir.join("memory.limit_in_bytes"),
                    dir.join("memory.memsw.limit_in_bytes"),
                );
                if !with_swap.exists() {
                    return set(&limit, &value);
                }
                // The one must never be below the other, so the order depends on the direction.
                if fs::write(&limit, &value).is_ok() {
                    return set(&with_swap, &value);
                }
                set(&with_swap, &value)?;
                set(&limit, &value)
            }
            Version::V2 => {
                set(&dir.join("memory.max"), &unlimited_or(bytes))?;
                let swap = dir.join("memory.swap.max");
                if swap.exists() {
                    set(&swap, if bytes > 0 { "0" } else { "max" })
                } else {
                    Ok(())
                }
            }
        }
    }
}

fn unlimited_or(value: i64) -> String {
    if value > 0 { value.to_string() } else { "max".to_owned() }
}

fn set(file: &Path, value: &str) -> Result<()> {
    fs::write(file, value).map_err(failed(file, &format!("write {value:?}")))
}

/// Shares (2 to 262144) as v2's weight (1 to 10000).
fn shares_to_weight(shares: u64) -> u64 {
    let shares = shares.clamp(2, 262_144);
    1 + (shares - 2) * 9_999 / 262_142
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights() {
        assert_eq!(shares_to_weight(0), 1);
        assert_eq!(shares_to_weight(2), 1);
        assert_eq!(shares_to_weight(1024), 39);
        assert_eq!(shares_to_weight(262_144), 10_000);
        assert_eq!(shares_to_weight(u64::MAX), 10_000);
    }
}
