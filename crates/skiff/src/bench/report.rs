//! Figures, their limits, and how they are shown.

use std::fmt::Write;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::cluster::Start;
use super::millis;
use super::process::Sample;

const MIB: f64 = 1024.0 * 1024.0;

/// Everything that was measured.
#[derive(Debug, Default)]
pub struct Figures {
    pub new: Vec<Start>,
    pub warm: Vec<Start>,
    pub running: Vec<Duration>,
    pub idle: Option<Idle>,
}

/// What skiff and its shims take together when idle.
#[derive(Debug, Clone, Copy)]
pub struct Idle {
    pub shims: usize,
    pub pss_bytes: u64,
    pub rss_bytes: u64,
    pub skiff_pss_bytes: u64,
    pub cpu_percent: f64,
    pub written_bytes_per_second: f64,
    pub seconds: f64,
}

impl Idle {
    /// From two samples of the same processes.
    pub fn between(before: &[Sample], after: &[Sample], time: Duration) -> Result<Idle> {
        let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten();
        let ticks = ticks.context("the kernel tells how long a clock tick is")?;
        let seconds = time.as_secs_f64();
        // One that ended meanwhile is no longer in the sum, one that began was not: both would be no idle cluster.
        let ids = |samples: &[Sample]| {
            samples
                .iter()
                .map(|sample| sample.pid)
                .collect::<std::collections::BTreeSet<_>>()
        };
        anyhow::ensure!(
            ids(before) == ids(after),
            "the cluster was not idle: its processes changed"
        );
        let sum = |samples: &[Sample], of: fn(&Sample) -> u64| samples.iter().map(of).sum::<u64>();
        let grown = |of: fn(&Sample) -> u64| sum(after, of).saturating_sub(sum(before, of)) as f64;
        Ok(Idle {
            shims: after.iter().filter(|sample| sample.is_shim).count(),
            pss_bytes: sum(after, |sample| sample.pss_bytes),
            rss_bytes: sum(after, |sample| sample.rss_bytes),
            skiff_pss_bytes: sum(after, |sample| if sample.is_shim { 0 } else { sample.pss_bytes }),
            cpu_percent: grown(|sample| sample.cpu_ticks) / ticks as f64 / seconds * 100.0,
            written_bytes_per_second: grown(|sample| sample.written_bytes) / seconds,
            seconds,
        })
    }
}

/// A line of the report.
struct Row {
    name: &'static str,
    value: f64,
    unit: &'static str,
    /// It must stay below this.
    limit: Option<f64>,
}

fn rows(figures: &Figures) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut row = |name, value, unit, limit| {
        rows.push(Row {
            name,
            value,
            unit,
            limit,
        })
    };
    let of = |starts: &[Start], what: fn(&Start) -> f64| median(&starts.iter().map(what).collect::<Vec<_>>());
    let readyz = |start: &Start| millis(start.readyz);
    let node_ready = |start: &Start| millis(start.node_ready);
    let says = |start: &Start| start.ready_in_ms as f64;
    row(
        "new data directory: /readyz answers, median",
        of(&figures.new, readyz),
        "ms",
        Some(1000.0),
    );
    row(
        "new data directory: Node Ready, median",
        of(&figures.new, node_ready),
        "ms",
        Some(2000.0),
    );
    row(
        "new data directory: it says `ready in`, median",
        of(&figures.new, says),
        "ms",
        None,
    );
    row(
        "warm data directory: /readyz answers, median",
        of(&figures.warm, readyz),
        "ms",
        Some(500.0),
    );
    row(
        "warm data directory: Node Ready, median",
        of(&figures.warm, node_ready),
        "ms",
        Some(2000.0),
    );
    row(
        "warm data directory: it says `ready in`, median",
        of(&figures.warm, says),
        "ms",
        None,
    );
    let running: Vec<f64> = figures.running.iter().copied().map(millis).collect();
    row(
        "create a Deployment -> its pod Running, median",
        median(&running),
        "ms",
        Some(1000.0),
    );
    row(
        "create a Deployment -> its pod Running, p99",
        percentile(&running, 99),
        "ms",
        None,
    );
    if let Some(idle) = &figures.idle {
        row(
            "idle: memory of skiff and its shims, PSS",
            idle.pss_bytes as f64 / MIB,
            "MiB",
            Some(100.0),
        );
        row(
            "idle: memory of skiff and its shims, RSS",
            idle.rss_bytes as f64 / MIB,
            "MiB",
            Some(100.0),
        );
        row(
            "idle: of which skiff itself, PSS",
            idle.skiff_pss_bytes as f64 / MIB,
            "MiB",
            None,
        );
        row("idle: share of one core", idle.cpu_percent, "%", Some(2.0));
        row(
            "idle: written to disk",
            idle.written_bytes_per_second / 1000.0,
            "kB/s",
            Some(2.0),
        );
    }
    rows
}

/// For people.
pub fn table(machine: &Value, figures: &Figures) -> String {
    let mut text = String::new();
    let facts: Vec<String> = machine
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    let _ = writeln!(text, "{}", facts.join(", "));
    let _ = write!(
        text,
        "{} starts each, {} deployments",
        figures.new.len(),
        figures.running.len()
    );
    if let Some(idle) = &figures.idle {
        let _ = write!(text, ", idle for {} s with {} shims", idle.seconds, idle.shims);
    }
    let _ = writeln!(text, "\n\n{:<50} {:>12}  {:>12}", "FIGURE", "MEASURED", "LIMIT");
    for row in rows(figures) {
        let limit = row
            .limit
            .map_or(String::new(), |limit| format!("< {limit} {}", row.unit));
        let verdict = match row.limit {
            Some(limit) if row.value >= limit => "  EXCEEDED",
            _ => "",
        };
        let value = format!("{:.1} {}", row.value, row.unit);
        let _ = writeln!(text, "{:<50} {value:>12}  {limit:>12}{verdict}", row.name);
    }
    text
}

/// For programs: the rows, and every sample behind them.
pub fn json(machine: &Value, figures: &Figures) -> Value {
    let rows: Vec<Value> = rows(figures)
        .iter()
        .map(|row| {
            let holds = row.limit.map(|limit| row.value < limit);
            json!({"name": row.name, "value": row.value, "unit": row.unit, "limit": row.limit, "holds": holds})
        })
        .collect();
    let starts = |starts: &[Start]| -> Vec<Value> {
        let start = |start: &Start| {
            json!({
                "readyzMs": millis(start.readyz), "nodeReadyMs": millis(start.node_ready), "readyInMs": start.ready_in_ms,
            })
        };
        starts.iter().map(start).collect()
    };
    json!({
        "machine": machine,
        "figures": rows,
        "samples": {
            "new": starts(&figures.new),
            "warm": starts(&figures.warm),
            "runningMs": figures.running.iter().copied().map(millis).collect::<Vec<_>>(),
        },
        "idle": figures.idle.map(|idle| json!({"seconds": idle.seconds, "shims": idle.shims})),
    })
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// NaN of nothing.
pub fn median(values: &[f64]) -> f64 {
    let sorted = sorted(values);
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

/// By nearest rank: of fewer than 100 values the 99th is the largest.
fn percentile(values: &[f64], percent: usize) -> f64 {
    let sorted = sorted(values);
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_percentiles() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
        assert!(median(&[]).is_nan());
        let values: Vec<f64> = (1..=200).map(f64::from).collect();
        assert!((percentile(&values, 99) - 198.0).abs() < 1e-9);
        assert!((percentile(&[5.0, 7.0], 99) - 7.0).abs() < 1e-9);
    }

    #[test]
    fn idle_is_what_grew() {
        let sample = |pid, is_shim, cpu_ticks, written_bytes| Sample {
            pid,
            is_shim,
            pss_bytes: 1,
            rss_bytes: 2,
            cpu_ticks,
            written_bytes,
        };
        let before = [sample(1, false, 100, 1000), sample(2, true, 10, 0)];
        let after = [sample(1, false, 150, 21_000), sample(2, true, 10, 0)];
        let idle = Idle::between(&before, &after, Duration::from_secs(10)).unwrap();
        assert_eq!(
            (idle.shims, idle.pss_bytes, idle.rss_bytes, idle.skiff_pss_bytes),
            (1, 2, 4, 1)
        );
        assert!((idle.written_bytes_per_second - 2000.0).abs() < 1e-9);
        assert!(idle.cpu_percent > 0.0);
        assert!(Idle::between(&before, &after[..1], Duration::from_secs(10)).is_err());
    }

    #[test]
    fn every_figure_is_shown() {
        let start = Start {
            readyz: Duration::from_millis(300),
            node_ready: Duration::from_millis(900),
            ready_in_ms: 880,
        };
        let figures = Figures {
            new: vec![start],
            warm: vec![start],
            running: vec![Duration::from_millis(1200)],
            idle: None,
        };
        let text = table(&json!({"cores": 2}), &figures);
        assert_eq!(text.matches("EXCEEDED").count(), 1, "{text}");
        let document = json(&json!({}), &figures);
        assert_eq!(document["figures"][0]["holds"], true);
        assert_eq!(document["samples"]["runningMs"][0], 1200.0);
    }
}
