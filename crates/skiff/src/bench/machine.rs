//! On what was measured.

use std::fs;
use std::path::Path;

use nix::sys::statfs::statfs;
use serde_json::{Value, json};

/// The machine, the file system of the data directory, and this program.
pub fn describe(dir: &Path) -> Value {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':'))
            .map(|(_, value)| value.trim().to_owned())
    };
    let memory = field(&read("/proc/meminfo"), "MemTotal")
        .and_then(|text| text.split(' ').next()?.parse::<u64>().ok())
        .map(|kibibytes| kibibytes / 1024);
    json!({
        "skiff": env!("CARGO_PKG_VERSION"),
        "build": if cfg!(debug_assertions) { "debug" } else { "release" },
        "cpu": field(&read("/proc/cpuinfo"), "model name"),
        "cores": std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        "memoryMiB": memory,
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "fileSystem": file_system(dir),
        "load": read("/proc/loadavg").split(' ').next(),
    })
}

/// Its type; on one in memory nothing is written to disk.
fn file_system(dir: &Path) -> String {
    let Ok(found) = statfs(dir) else {
        return "unknown".into();
    };
    match found.filesystem_type().0 {
        0xEF53 => "ext4".into(),
        0x0102_1994 => "tmpfs".into(),
        0x5846_5342 => "xfs".into(),
        0x9123_683E => "btrfs".into(),
        0x794C_7630 => "overlay".into(),
        other => format!("{other:#x}"),
    }
}
