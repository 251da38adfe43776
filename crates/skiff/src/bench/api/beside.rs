//! Two servers side by side: each workload on one and then on the other, several times, so that whatever else happens
//! on the machine happens to both.

use std::fmt::Write;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::Bench;
use super::figures::Measured;

/// One workload's runs, in the order in which they were made.
pub struct Pair {
    name: String,
    own: Vec<Measured>,
    peer: Vec<Measured>,
}

/// A figure of both, at the median of the runs; the ratio is the median of the runs' ratios.
struct Row {
    figure: &'static str,
    own: f64,
    peer: f64,
    ratio: f64,
}

/// Measures both in turn; who is first changes with every run.
pub async fn run(own: &Bench<'_>, peer: &Bench<'_>) -> Result<Vec<Pair>> {
    let mut pairs = Vec::new();
    for bench in [own, peer] {
        bench.objects.prepare(&bench.target).await?;
    }
    let mut filled = false;
    for workload in own.workloads() {
        if workload.reads() && !filled {
            for bench in [own, peer] {
                bench.fill().await?;
            }
            filled = true;
        }
        let mut pair = Pair {
            name: workload.name(),
            own: Vec::new(),
            peer: Vec::new(),
        };
        for run in 0..own.options.runs {
            let own_first = run % 2 == 0;
            for is_own in [own_first, !own_first] {
                let (bench, whose) = if is_own { (own, "own ") } else { (peer, "peer") };
                let measured = bench.one(*workload).await;
                let measured = measured.with_context(|| format!("{workload:?} on {}", bench.target.url()))?;
                super::super::tell(&format!("{whose} {}", measured.line()));
                if workload.creates() {
                    bench.objects.clear(&bench.target).await?;
                }
                let side = if is_own { &mut pair.own } else { &mut pair.peer };
                side.push(measured);
            }
        }
        pairs.push(pair);
    }
    Ok(pairs)
}

impl Pair {
    fn rows(&self) -> Vec<Row> {
        let (own, peer) = (all(&self.own), all(&self.peer));
        let Some(first) = own.first() else { return Vec::new() };
        let row = |(figure, _): &(&'static str, f64)| {
            let of = |runs: &[Vec<(&'static str, f64)>]| -> Vec<f64> {
                let named = |run: &Vec<(&'static str, f64)>| run.iter().find(|(name, _)| name == figure).map(|f| f.1);
                runs.iter().map(|run| named(run).unwrap_or(f64::NAN)).collect()
            };
            let (own, peer) = (of(&own), of(&peer));
            let ratios: Vec<f64> = own.iter().zip(&peer).map(|(own, peer)| own / peer).collect();
            Row {
                figure,
                own: super::super::report::median(&own),
                peer: super::super::report::median(&peer),
                ratio: super::super::report::median(&ratios),
            }
        };
        first.iter().map(row).collect()
    }

    /// The medians, and every run.
    pub fn json(&self) -> Value {
        let runs = |side: &[Measured]| side.iter().map(Measured::json).collect::<Vec<_>>();
        let medians: serde_json::Map<String, Value> = self
            .rows()
            .into_iter()
            .map(|row| {
                let figures = json!({"own": row.own, "peer": row.peer, "ratio": row.ratio});
                (row.figure.to_owned(), figures)
            })
            .collect();
        json!({"name": self.name, "medians": medians, "own": runs(&self.own), "peer": runs(&self.peer)})
    }
}

fn all(runs: &[Measured]) -> Vec<Vec<(&'static str, f64)>> {
    runs.iter().map(Measured::figures).collect()
}

/// For people.
pub fn table(pairs: &[Pair]) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{:<9} {:<22} {:>14} {:>14} {:>9}",
        "WORKLOAD", "FIGURE (MEDIAN)", "OWN", "PEER", "RATIO"
    );
    for pair in pairs {
        for row in pair.rows() {
            let _ = writeln!(
                text,
                "{:<9} {:<22} {:>14.2} {:>14.2} {:>9.3}",
                pair.name, row.figure, row.own, row.peer, row.ratio
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::figures::Latencies;
    use super::*;

    #[test]
    fn ratios_are_medians_of_runs() {
        let measured = |requests: u64| {
            let mut latencies = Latencies::default();
            (0..requests).for_each(|_| latencies.add(Duration::from_millis(1)));
            Measured {
                name: "get".to_owned(),
                time: Duration::from_secs(1),
                errors: 0,
                bytes: 0,
                latencies,
                server: None,
                own_cpu: Duration::ZERO,
                extra: Vec::new(),
            }
        };
        let pair = Pair {
            name: "get".to_owned(),
            own: [60, 20, 40].map(measured).into(),
            peer: [10, 10, 5].map(measured).into(),
        };
        let rows = pair.rows();
        let row = rows.iter().find(|row| row.figure == "requestsPerSecond").unwrap();
        assert_eq!((row.own, row.peer, row.ratio), (40.0, 10.0, 6.0));
        assert_eq!(pair.json()["medians"]["requestsPerSecond"]["ratio"], 6.0);
        assert!(table(&[pair]).contains("requestsPerSecond"));
    }
}
