//! What a group uses, and whether it ran out of memory.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::{Cgroups, Version, failed};
use crate::{CpuUsage, MemoryUsage, Result};

/// What a group and those below use.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub cpu: CpuUsage,
    pub memory: MemoryUsage,
    pub processes: u64,
}

impl Cgroups {
    /// What can be read of a group's usage; zeros for the rest.
    pub fn usage(&self, path: &str) -> Usage {
        Usage {
            cpu: self.cpu_usage(path),
            memory: self.memory_usage(path),
            processes: self
                .dir("pids", path)
                .and_then(|(_, dir)| number(&dir.join("pids.current")))
                .unwrap_or(0),
        }
    }

    fn cpu_usage(&self, path: &str) -> CpuUsage {
        let nanoseconds = match self.dir("cpuacct", path) {
            Some((_, dir)) => number(&dir.join("cpuacct.usage")),
            None => self
                .dir("cpu", path)
                .and_then(|(_, dir)| keyed(&dir.join("cpu.stat"), "usage_usec"))
                .map(|microseconds| microseconds * 1_000),
        };
        CpuUsage {
            usage_core_nano_seconds: nanoseconds.unwrap_or(0),
        }
    }

    fn memory_usage(&self, path: &str) -> MemoryUsage {
        let Some((version, dir)) = self.dir("memory", path) else {
            return MemoryUsage::default();
        };
        let (current, limit, prefix, rss) = match version {
            Version::V1 => ("memory.usage_in_bytes", "memory.limit_in_bytes", "total_", "total_rss"),
            Version::V2 => ("memory.current", "memory.max", "", "anon"),
        };
        let stat = fs::read_to_string(dir.join("memory.stat")).unwrap_or_default();
        let field = |name: &str| keyed_in(&stat, name).unwrap_or(0);
        let usage_bytes = number(&dir.join(current)).unwrap_or(0);
        let working_set_bytes = usage_bytes.saturating_sub(field(&format!("{prefix}inactive_file")));
        // v1 says "no limit" with a number near the largest.
        let limit = number(&dir.join(limit)).filter(|limit| *limit < 1 << 62);
        MemoryUsage {
            working_set_bytes,
            usage_bytes,
            rss_bytes: field(rss),
            available_bytes: limit.map_or(0, |limit| limit.saturating_sub(working_set_bytes)),
            page_faults: field(&format!("{prefix}pgfault")),
            major_page_faults: field(&format!("{prefix}pgmajfault")),
        }
    }

    /// How many processes of the group were killed for want of memory.
    pub fn oom_kills(&self, path: &str) -> u64 {
        self.dir("memory", path)
            .and_then(|(version, dir)| keyed(&oom_file(version, &dir), "oom_kill"))
            .unwrap_or(0)
    }

    /// A descriptor that becomes readable when [`Cgroups::oom_kills`] may have grown. `None` without memory controller.
    pub fn watch_oom(&self, path: &str) -> Result<Option<OomWatch>> {
        let Some((version, dir)) = self.dir("memory", path) else {
            return Ok(None);
        };
        let file = oom_file(version, &dir);
        match version {
            Version::V1 => {
                let control = File::open(&file).map_err(failed(&file, "open"))?;
                // SAFETY: eventfd takes no pointers; a result that is not negative is a descriptor of ours.
                let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
                if fd < 0 {
                    return Err(failed(&file, "eventfd")(std::io::Error::last_os_error()));
                }
                // SAFETY: see above.
                let event = unsafe { OwnedFd::from_raw_fd(fd) };
                let register = dir.join("cgroup.event_control");
                fs::write(&register, format!("{} {}", event.as_raw_fd(), control.as_raw_fd()))
                    .map_err(failed(&register, "register"))?;
                Ok(Some(OomWatch {
                    event,
                    _control: Some(control),
                }))
            }
            Version::V2 => {
                use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
                let os = |error: nix::errno::Errno| failed(&file, "watch")(error.into());
                let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(os)?;
                inotify.add_watch(&file, AddWatchFlags::IN_MODIFY).map_err(os)?;
                let event = inotify.as_fd().try_clone_to_owned().map_err(failed(&file, "watch"))?;
                Ok(Some(OomWatch { event, _control: None }))
            }
        }
    }
}

/// See [`Cgroups::watch_oom`].
pub(crate) struct OomWatch {
    event: OwnedFd,
    _control: Option<File>,
}

impl OomWatch {
    /// To poll for reading.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// Makes it wait for the next one.
    pub fn drain(&self) {
        let mut buffer = [0u8; 4096];
        if let Ok(event) = self.event.try_clone() {
            // It is non-blocking, and an event that stays only wakes us once more.
            let _ = File::from(event).read(&mut buffer);
        }
    }
}

fn oom_file(version: Version, dir: &Path) -> PathBuf {
    dir.join(match version {
        Version::V1 => "memory.oom_control",
        Version::V2 => "memory.events",
    })
}

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn keyed(file: &Path, key: &str) -> Option<u64> {
    keyed_in(&fs::read_to_string(file).ok()?, key)
}

fn keyed_in(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        line.split_once(' ')
            .filter(|(name, _)| *name == key)?
            .1
            .trim()
            .parse()
            .ok()
    })
}
