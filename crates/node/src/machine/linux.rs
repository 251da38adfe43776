use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statvfs::statvfs;

use super::{Facts, Filesystem, Load, Machine};

/// This machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Linux;

impl Machine for Linux {
    fn facts(&self) -> Facts {
        let uname = nix::sys::utsname::uname().ok();
        let part = |of: fn(&nix::sys::utsname::UtsName) -> &std::ffi::OsStr| {
            uname
                .as_ref()
                .map(|u| of(u).to_string_lossy().into_owned())
                .unwrap_or_default()
        };
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Facts {
            cpus: std::thread::available_parallelism().map_or(1, |n| n.get() as u64),
            memory_bytes: kib(&meminfo, "MemTotal:"),
            swap_bytes: kib(&meminfo, "SwapTotal:"),
            kernel_version: part(|u| u.release()),
            os_image: os_image(),
            machine_id: line("/etc/machine-id"),
            boot_id: line("/proc/sys/kernel/random/boot_id"),
            system_uuid: system_uuid(),
            architecture: match std::env::consts::ARCH {
                "x86_64" => "amd64",
                "aarch64" => "arm64",
                "powerpc64" => "ppc64le",
                other => other,
            }
            .into(),
            hostname: part(|u| u.nodename()),
        }
    }

    fn load(&self) -> Load {
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let available = kib(&meminfo, "MemAvailable:");
        let tasks = line("/proc/loadavg");
        let pids = tasks
            .split_whitespace()
            .nth(3)
            .and_then(|pair| pair.split('/').nth(1))
            .and_then(|n| n.parse().ok());
        Load {
            memory_available: available,
            memory_working_set: kib(&meminfo, "MemTotal:").saturating_sub(available),
            cpu_nanos: busy_nanos(&stat),
            pids: pids.unwrap_or(0),
            max_pids: line("/proc/sys/kernel/pid_max").parse().unwrap_or(0),
        }
    }

    fn filesystem(&self, path: &Path) -> io::Result<Filesystem> {
        let found = statvfs(path)?;
        let block = found.fragment_size();
        Ok(Filesystem {
            capacity: found.blocks() * block,
            available: found.blocks_available() * block,
            inodes: found.files(),
            inodes_free: found.files_available(),
        })
    }

    fn mount_tmpfs(&self, target: &Path, size: Option<u64>) -> io::Result<()> {
        let options = size.map_or("mode=1777".to_string(), |bytes| format!("mode=1777,size={bytes}"));
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        Ok(mount(
            Some("tmpfs"),
            target,
            Some("tmpfs"),
            flags,
            Some(options.as_str()),
        )?)
    }

    fn bind(&self, source: &Path, target: &Path) -> io::Result<()> {
        let none: Option<&str> = None;
        Ok(mount(
            Some(source),
            target,
            none,
            MsFlags::MS_BIND | MsFlags::MS_REC,
            none,
        )?)
    }

    fn unmount(&self, target: &Path) -> io::Result<()> {
        match umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => Ok(()),
            other => Ok(other?),
        }
    }

    fn mounts_below(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let table = fs::read_to_string("/proc/self/mountinfo")?;
        let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape);
        let mut found: Vec<PathBuf> = points
            .map(PathBuf::from)
            .filter(|point| point.starts_with(folder) && point != folder)
            .collect();
        found.sort_by_key(|point| std::cmp::Reverse(point.components().count()));
        Ok(found)
    }

    fn chown(&self, path: &Path, owner: Option<u32>, group: Option<u32>) -> io::Result<()> {
        std::os::unix::fs::lchown(path, owner, group)
    }
}

fn line(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_string()
}

fn kib(meminfo: &str, name: &str) -> u64 {
    let found = meminfo.lines().find_map(|line| line.strip_prefix(name));
    found
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|n| n.parse::<u64>().ok())
        .unwrap_or(0)
        * 1024
}

/// All but idle and iowait of the first line of /proc/stat; a tick is 10 ms on every Linux that matters.
fn busy_nanos(stat: &str) -> u64 {
    let Some(first) = stat.lines().next() else { return 0 };
    let ticks: Vec<u64> = first
        .split_whitespace()
        .skip(1)
        .filter_map(|n| n.parse().ok())
        .collect();
    let busy: u64 = ticks
        .iter()
        .take(8)
        .enumerate()
        .filter(|(at, _)| !matches!(at, 3 | 4))
        .map(|(_, n)| n)
        .sum();
    busy * 10_000_000
}

fn os_image() -> String {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or("Linux".into(), |name| name.trim_matches('"').to_string())
}

fn system_uuid() -> String {
    let uuid = line("/sys/class/dmi/id/product_uuid");
    if uuid.is_empty() { line("/etc/machine-id") } else { uuid }
}

/// mountinfo writes blanks and backslashes as octal.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\")
}
