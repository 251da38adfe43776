//! What `/proc` says of the server's processes.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// The server's processes.
pub struct Server(Vec<u32>);

/// What they have used so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sample {
    cpu: Duration,
    rss_bytes: u64,
    peak_bytes: u64,
}

/// What they have used between two samples.
#[derive(Debug, Clone, Copy)]
pub struct Used {
    pub cpu: Duration,
    /// Resident memory at the end.
    pub rss_bytes: u64,
    /// By how much it has grown.
    pub grown_bytes: i64,
    /// The highest it has been since the workload began.
    pub peak_bytes: u64,
}

impl Used {
    /// By how much the memory has been higher than it was in a sample, at most.
    pub fn peak_growth_bytes(&self, since: &Sample) -> f64 {
        self.peak_bytes.saturating_sub(since.rss_bytes) as f64
    }
}

impl Server {
    /// The processes must exist.
    pub fn new(pids: &[u32]) -> Result<Server> {
        let server = Server(pids.to_vec());
        server.sample()?;
        Ok(server)
    }

    /// What the processes have used so far.
    pub fn sample(&self) -> Result<Sample> {
        let mut sum = Sample::default();
        for pid in &self.0 {
            sum.cpu += cpu(&pid.to_string())?;
            let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
            let field = |name: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(name));
                let number = line.and_then(|rest| rest.trim().split(' ').next()?.parse::<u64>().ok());
                number.unwrap_or(0) * 1024
            };
            sum.rss_bytes += field("VmRSS:");
            sum.peak_bytes += field("VmHWM:");
        }
        Ok(sum)
    }

    /// Forgets the peak so far, where that is allowed.
    pub fn reset_peak(&self) {
        for pid in &self.0 {
            let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
        }
    }

    /// Nothing if no process is known.
    pub fn between(&self, before: &Sample, after: &Sample) -> Option<Used> {
        (!self.0.is_empty()).then(|| Used {
            cpu: after.cpu.saturating_sub(before.cpu),
            rss_bytes: after.rss_bytes,
            grown_bytes: after.rss_bytes as i64 - before.rss_bytes as i64,
            peak_bytes: after.peak_bytes,
        })
    }
}

/// The CPU time of this program.
pub fn own_cpu() -> Result<Duration> {
    cpu("self")
}

fn cpu(pid: &str) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("read {path} (is --server-pid right?)"))?;
    // The program's name may hold anything; what follows it does not.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?
        .unwrap_or(100)
        .max(1);
    Ok(Duration::from_secs_f64(
        (ticks(11) + ticks(12)) as f64 / per_second as f64,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something() {
        let server = Server::new(&[std::process::id()]).unwrap();
        let sample = server.sample().unwrap();
        assert!(sample.rss_bytes > 0);
        let used = server.between(&sample, &server.sample().unwrap()).unwrap();
        assert!(used.rss_bytes > 0);
        assert!(Server::new(&[u32::MAX]).is_err());
    }
}
