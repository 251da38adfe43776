//! What `/proc` says about skiff's processes.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A process, as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    pub pid: u32,
    pub is_shim: bool,
    /// Proportional and resident set size.
    pub pss_bytes: u64,
    pub rss_bytes: u64,
    /// User and system time so far, in clock ticks.
    pub cpu_ticks: u64,
    /// Caused to be written to disk so far.
    pub written_bytes: u64,
}

/// `skiff up`, and the shims of its data directory; what runs in the containers is not skiff.
pub fn samples(up: u32, data: &Path) -> Result<Vec<Sample>> {
    let mut found = vec![sample(up, false)?];
    for pid in shims(data)? {
        found.push(sample(pid, true)?);
    }
    Ok(found)
}

fn shims(data: &Path) -> Result<Vec<u32>> {
    let sandboxes = data.join("runtime/sandboxes");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("list /proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // It may have ended since.
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let mut arguments = command.split(|byte| *byte == 0).map(String::from_utf8_lossy);
        if arguments.nth(1).as_deref() == Some("shim")
            && arguments.any(|argument| Path::new(argument.as_ref()).starts_with(&sandboxes))
        {
            found.push(pid);
        }
    }
    Ok(found)
}

fn sample(pid: u32, is_shim: bool) -> Result<Sample> {
    let folder = PathBuf::from(format!("/proc/{pid}"));
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    };
    let (memory, io) = (read("smaps_rollup")?, read("io")?);
    let field = |text: &str, name: &str| number(text, name).with_context(|| format!("{name} of process {pid}"));
    Ok(Sample {
        pid,
        is_shim,
        pss_bytes: field(&memory, "Pss")? * 1024,
        rss_bytes: field(&memory, "Rss")? * 1024,
        cpu_ticks: cpu_ticks(&read("stat")?).with_context(|| format!("times of process {pid}"))?,
        written_bytes: field(&io, "write_bytes")?.saturating_sub(field(&io, "cancelled_write_bytes")?),
    })
}

/// The number of a line `Name:   1234 kB`.
fn number(text: &str, name: &str) -> Option<u64> {
    let rest = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// utime and stime: fields 14 and 15 of `/proc/PID/stat`; the second may hold blanks and brackets.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found() {
        let text = "55d-7ff ---p 0 [rollup]\nRss:   2048 kB\nPss:   1024 kB\nPss_Dirty:  3 kB\n";
        assert_eq!(number(text, "Pss"), Some(1024));
        assert_eq!(number(text, "Swap"), None);
        assert_eq!(cpu_ticks("7 (a) b) S 1 2 3 4 5 6 7 8 9 10 11 12 13"), Some(23));
    }

    #[test]
    fn this_process_can_be_measured() {
        let found = sample(std::process::id(), false).unwrap();
        assert!(found.rss_bytes >= found.pss_bytes && found.pss_bytes > 0, "{found:?}");
    }
}
