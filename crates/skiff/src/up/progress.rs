//! What `up` tells while it starts: each step with its time.

use std::io::Write;
use std::time::{Duration, Instant};

/// Times steps since the process started.
pub struct Progress {
    start: Instant,
}

impl Progress {
    /// Begins now, less what the process has needed to come here.
    pub fn begin() -> Progress {
        Progress {
            start: Instant::now().checked_sub(process_age()).unwrap_or_else(Instant::now),
        }
    }

    /// Tells that a step that began at `since` is done.
    pub fn done(&self, what: &str, since: Instant) {
        Progress::line(&format!("  {what:<28} {:>5} ms", since.elapsed().as_millis()));
    }

    /// Since the process started.
    pub fn total(&self) -> Duration {
        self.start.elapsed()
    }

    /// Writes a line at once; a closed standard output is no reason to stop.
    pub fn line(text: &str) {
        let mut stdout = std::io::stdout().lock();
        let _ = writeln!(stdout, "{text}");
        let _ = stdout.flush();
    }
}

/// How long ago the kernel started this process; zero when it does not say.
fn process_age() -> Duration {
    let age = || -> Option<Duration> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        let started: u64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
        let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
        let uptime: f64 = uptime.split_whitespace().next()?.parse().ok()?;
        let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok()??;
        let started = Duration::from_millis(started * 1000 / u64::try_from(ticks).ok()?);
        Duration::from_secs_f64(uptime).checked_sub(started)
    };
    age().unwrap_or_default()
}
