//! How far a pull is, for people.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use runtime::PullProgress;

/// On what is no terminal, a line this often at most.
const BETWEEN_LINES: Duration = Duration::from_secs(1);

/// Shown on standard error: on a terminal one line that changes, else a line now and then. Clones are one.
#[derive(Clone, Default)]
pub struct Progress {
    // Held while a line is written.
    shown: Arc<Mutex<Shown>>,
}

#[derive(Default)]
struct Shown {
    at: Option<Instant>,
    unfinished_line: bool,
}

impl Progress {
    pub fn show(&self, now: &PullProgress) {
        if now.bytes_total == 0 {
            // Everything is here.
            return;
        }
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stderr = io::stderr();
        if stderr.is_terminal() {
            shown.unfinished_line = true;
            let _ = write!(stderr, "\r\x1b[K{}", describe(now));
            let _ = stderr.flush();
        } else if shown.at.is_none_or(|at| at.elapsed() > BETWEEN_LINES) {
            shown.at = Some(Instant::now());
            let _ = writeln!(stderr, "{}", describe(now));
        }
    }

    /// What is shown does not stay.
    pub fn end(&self) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut shown.unfinished_line) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// Such as `12.3 of 45.6 MiB, 2 of 5 layers`.
pub fn describe(now: &PullProgress) -> String {
    // What broke off and began anew was counted twice.
    let done = now.bytes_done.min(now.bytes_total);
    format!(
        "{:.1} of {:.1} MiB, {} of {} layers",
        mebibytes(done),
        mebibytes(now.bytes_total),
        now.layers_done,
        now.layers_total
    )
}

pub fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_words() {
        let now = PullProgress {
            layers_done: 1,
            layers_total: 3,
            bytes_done: 3 << 20,
            bytes_total: 2 << 20,
        };
        assert_eq!(describe(&now), "2.0 of 2.0 MiB, 1 of 3 layers");
    }
}
