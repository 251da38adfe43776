//! What was measured, as a table and as JSON.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};

use super::server::Used;

/// How long requests took, in microseconds.
#[derive(Debug, Clone, Default)]
pub struct Latencies(Vec<u32>);

impl Latencies {
    pub fn add(&mut self, latency: Duration) {
        self.0.push(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
    }

    pub fn merge(&mut self, other: Latencies) {
        self.0.extend(other.0);
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Milliseconds at these per-mille.
    fn at(&self, per_mille: &[usize]) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let pick = |p: &usize| {
            let at = (sorted.len() * p / 1000).min(sorted.len().saturating_sub(1));
            sorted.get(at).map_or(0.0, |micros| f64::from(*micros) / 1e3)
        };
        per_mille.iter().map(pick).collect()
    }
}

/// One workload's figures.
pub struct Measured {
    pub name: String,
    pub time: Duration,
    pub errors: u64,
    /// Of answers.
    pub bytes: u64,
    pub latencies: Latencies,
    pub server: Option<Used>,
    /// What this program took.
    pub own_cpu: Duration,
    /// Figures of this workload alone.
    pub extra: Vec<(&'static str, f64)>,
}

const MIB: f64 = 1024.0 * 1024.0;

impl Measured {
    fn per_second(&self) -> f64 {
        self.latencies.count() as f64 / self.time.as_secs_f64().max(1e-9)
    }

    /// The server's CPU time for a request, in microseconds.
    fn cpu_micros(&self) -> Option<f64> {
        let count = self.latencies.count().max(1) as f64;
        self.server.map(|used| used.cpu.as_secs_f64() * 1e6 / count)
    }

    /// One line for people.
    pub fn line(&self) -> String {
        let latency = self.latencies.at(&[500, 990]);
        let mut line = format!(
            "{:<8} {:>9.0}/s  p50 {:>8.2} ms  p99 {:>8.2} ms  {:>7.1} MB/s  errors {}",
            self.name,
            self.per_second(),
            latency[0],
            latency[1],
            self.bytes as f64 / 1e6 / self.time.as_secs_f64().max(1e-9),
            self.errors
        );
        if let (Some(used), Some(micros)) = (&self.server, self.cpu_micros()) {
            let _ = write!(
                line,
                "  server {micros:.0} us CPU each, {:.2} cores, RSS {:.0} MiB, peak {:.0} MiB",
                used.cpu.as_secs_f64() / self.time.as_secs_f64().max(1e-9),
                used.rss_bytes as f64 / MIB,
                used.peak_bytes as f64 / MIB
            );
        }
        for (name, value) in &self.extra {
            let _ = write!(line, "  {name} {value:.2}");
        }
        line
    }

    /// What is compared between servers, by name.
    pub fn figures(&self) -> Vec<(&'static str, f64)> {
        let mut figures = Vec::new();
        if self.latencies.count() > 0 {
            let latency = self.latencies.at(&[500, 990]);
            figures.push(("requestsPerSecond", self.per_second()));
            figures.push(("latencyMsP50", latency[0]));
            figures.push(("latencyMsP99", latency[1]));
        }
        if let (Some(used), Some(micros)) = (&self.server, self.cpu_micros()) {
            if self.latencies.count() > 0 {
                figures.push(("cpuMicrosPerRequest", micros));
            }
            figures.push(("cores", used.cpu.as_secs_f64() / self.time.as_secs_f64().max(1e-9)));
            figures.push(("rssMib", used.rss_bytes as f64 / MIB));
            figures.push(("peakMib", used.peak_bytes as f64 / MIB));
        }
        figures.extend(&self.extra);
        figures.push(("errors", self.errors as f64));
        figures
    }

    /// All figures.
    pub fn json(&self) -> Value {
        let latency = self.latencies.at(&[500, 900, 990, 999, 1000]);
        let mut value = json!({
            "name": self.name,
            "seconds": self.time.as_secs_f64(),
            "requests": self.latencies.count(),
            "requestsPerSecond": self.per_second(),
            "errors": self.errors,
            "answerBytes": self.bytes,
            "latencyMs": {"p50": latency[0], "p90": latency[1], "p99": latency[2], "p999": latency[3], "max": latency[4]},
            "clientCpuSeconds": self.own_cpu.as_secs_f64(),
        });
        if let Some(used) = &self.server {
            value["server"] = json!({
                "cpuSeconds": used.cpu.as_secs_f64(),
                "cpuMicrosPerRequest": self.cpu_micros(),
                "rssBytes": used.rss_bytes,
                "grownBytes": used.grown_bytes,
                "peakBytes": used.peak_bytes,
            });
        }
        for (name, figure) in &self.extra {
            value[*name] = (*figure).into();
        }
        value
    }
}

/// All lines.
pub fn table(measured: &[Measured]) -> String {
    measured.iter().map(|m| m.line() + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles() {
        let mut latencies = Latencies::default();
        for millis in 1..=100 {
            latencies.add(Duration::from_millis(millis));
        }
        assert_eq!(latencies.at(&[0, 500, 990, 1000]), [1.0, 51.0, 100.0, 100.0]);
        assert_eq!(Latencies::default().at(&[500]), [0.0]);
    }
}
