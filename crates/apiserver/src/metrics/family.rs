//! Counters, gauges and histograms with labels, written as Prometheus' text format.
//!
//! What is measured of every request must cost little: a series is found by one hash of its label values.

use std::collections::HashMap;
use std::fmt::Write;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;

/// One series.
pub(crate) trait Metric: Send + Sync {
    /// As `# TYPE` names it.
    const TYPE: &'static str;

    /// Writes its lines; `labels` are `a="b",c="d"` or nothing.
    fn write(&self, out: &mut String, name: &str, labels: &str);
}

/// Only grows.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub fn inc(&self) {
        self.add(1);
    }

    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }
}

impl Metric for Counter {
    const TYPE: &'static str = "counter";

    fn write(&self, out: &mut String, name: &str, labels: &str) {
        line(out, name, labels, self.0.load(Ordering::Relaxed));
    }
}

/// Goes up and down.
#[derive(Default)]
pub(crate) struct Gauge(AtomicI64);

impl Gauge {
    pub fn add(&self, count: i64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

impl Metric for Gauge {
    const TYPE: &'static str = "gauge";

    fn write(&self, out: &mut String, name: &str, labels: &str) {
        line(out, name, labels, self.0.load(Ordering::Relaxed));
    }
}

/// Counts values below bounds.
pub(crate) struct Histogram {
    bounds: &'static [f64],
    /// One more than bounds: the last is for what is above all.
    counts: Box<[AtomicU64]>,
    /// The bits of a float.
    sum: AtomicU64,
}

impl Histogram {
    pub fn new(bounds: &'static [f64]) -> Histogram {
        Histogram {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        }
    }

    pub fn observe(&self, value: f64) {
        let at = self.bounds.partition_point(|bound| *bound < value);
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        let add = |bits: u64| Some((f64::from_bits(bits) + value).to_bits());
        // The closure always gives a value.
        let _ = self.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    pub fn observe_time(&self, time: Duration) {
        self.observe(time.as_secs_f64());
    }
}

impl Metric for Histogram {
    const TYPE: &'static str = "histogram";

    fn write(&self, out: &mut String, name: &str, labels: &str) {
        let comma = if labels.is_empty() { "" } else { "," };
        let bucket = format!("{name}_bucket");
        let mut below = 0;
        for (at, count) in self.counts.iter().enumerate() {
            below += count.load(Ordering::Relaxed);
            let bound = self.bounds.get(at).map_or("+Inf".to_owned(), f64::to_string);
            line(out, &bucket, &format!("{labels}{comma}le=\"{bound}\""), below);
        }
        let sum = f64::from_bits(self.sum.load(Ordering::Relaxed));
        line(out, &format!("{name}_sum"), labels, sum);
        line(out, &format!("{name}_count"), labels, below);
    }
}

fn line(out: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    let written = if labels.is_empty() {
        writeln!(out, "{name} {value}")
    } else {
        writeln!(out, "{name}{{{labels}}} {value}")
    };
    written.expect("a string takes everything");
}

struct Series<M> {
    /// As they are written.
    labels: String,
    metric: Arc<M>,
}

/// All series of a name.
pub(crate) struct Family<M> {
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    make: fn() -> M,
    hasher: RandomState,
    /// By the hash of the label values: with 64 random bits, two that are equal by chance are not expected in the
    /// life of a server.
    series: RwLock<HashMap<u64, Series<M>>>,
}

impl<M: Metric + Default> Family<M> {
    pub fn new(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Family<M> {
        Family::made_by(name, help, labels, M::default)
    }
}

impl<M: Metric> Family<M> {
    pub fn made_by(
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
        make: fn() -> M,
    ) -> Family<M> {
        Family {
            name,
            help,
            labels,
            make,
            hasher: RandomState::new(),
            series: RwLock::default(),
        }
    }

    /// The series of these label values, in the order of the labels.
    pub fn of(&self, values: &[&str]) -> Arc<M> {
        debug_assert_eq!(values.len(), self.labels.len(), "{}", self.name);
        let key = self.hasher.hash_one(values);
        if let Some(series) = self.series.read().get(&key) {
            return series.metric.clone();
        }
        let mut all = self.series.write();
        let series = all.entry(key).or_insert_with(|| Series {
            labels: self.text(values),
            metric: Arc::new((self.make)()),
        });
        series.metric.clone()
    }

    /// Forgets all series.
    pub fn clear(&self) {
        self.series.write().clear();
    }

    fn text(&self, values: &[&str]) -> String {
        let pairs = self.labels.iter().zip(values).map(|(label, value)| {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            format!("{label}=\"{value}\"")
        });
        pairs.collect::<Vec<_>>().join(",")
    }

    /// Writes all series, in the order of their labels.
    pub fn write(&self, out: &mut String) {
        let all = self.series.read();
        if all.is_empty() {
            return;
        }
        let mut sorted: Vec<_> = all.values().collect();
        sorted.sort_by(|a, b| a.labels.cmp(&b.labels));
        writeln!(
            out,
            "# HELP {} {}\n# TYPE {} {}",
            self.name,
            self.help,
            self.name,
            M::TYPE
        )
        .expect("a string takes everything");
        for series in sorted {
            series.metric.write(out, self.name, &series.labels);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_format() {
        let counters: Family<Counter> = Family::new("c_total", "Counts.", &["a", "b"]);
        counters.of(&["x", "q\"\\"]).inc();
        counters.of(&["x", "q\"\\"]).inc();
        let histograms = Family::made_by("h", "Sizes.", &[], || Histogram::new(&[1.0, 2.5]));
        for value in [0.5, 1.0, 2.0, 9.0] {
            histograms.of(&[]).observe(value);
        }
        let mut text = String::new();
        counters.write(&mut text);
        histograms.write(&mut text);
        assert_eq!(
            text,
            "# HELP c_total Counts.\n# TYPE c_total counter\nc_total{a=\"x\",b=\"q\\\"\\\\\"} 2\n\
             # HELP h Sizes.\n# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"2.5\"} 3\n\
             h_bucket{le=\"+Inf\"} 4\nh_sum 12.5\nh_count 4\n"
        );
    }
}
