//! The scheduler's numbers, by upstream's names (pkg/scheduler/metrics/metrics.go).

use std::collections::BTreeMap;
use std::fmt::Write;

use jiff::SignedDuration;

use crate::queue::Queue;

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Result {
    /// The pod was bound.
    Scheduled,
    /// No node could take it.
    Unschedulable,
    /// Something failed.
    Error,
}

/// Observations in exponential buckets.
#[derive(Debug, Clone)]
pub struct Histogram {
    bounds: Vec<f64>,
    counts: Vec<u64>,
    sum: f64,
    count: u64,
}

impl Histogram {
    fn exponential(start: f64, factor: f64, buckets: i32) -> Histogram {
        let bounds: Vec<f64> = (0..buckets).map(|n| start * factor.powi(n)).collect();
        Histogram {
            counts: vec![0; bounds.len()],
            bounds,
            sum: 0.0,
            count: 0,
        }
    }

    /// Notes a value.
    pub fn observe(&mut self, value: f64) {
        if let Some(at) = self.bounds.iter().position(|bound| value <= *bound) {
            self.counts[at] += 1;
        }
        self.sum += value;
        self.count += 1;
    }

    /// How many values there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    fn render(&self, text: &mut String, name: &str, labels: &str) {
        let separator = if labels.is_empty() { "" } else { "," };
        let mut below = 0;
        for (bound, count) in self.bounds.iter().zip(&self.counts) {
            below += count;
            let _ = writeln!(text, "{name}_bucket{{{labels}{separator}le=\"{bound}\"}} {below}");
        }
        let _ = writeln!(text, "{name}_bucket{{{labels}{separator}le=\"+Inf\"}} {}", self.count);
        let braces = if labels.is_empty() {
            String::new()
        } else {
            format!("{{{labels}}}")
        };
        let _ = writeln!(text, "{name}_sum{braces} {}", self.sum);
        let _ = writeln!(text, "{name}_count{braces} {}", self.count);
    }
}

/// All counters. Times are measured by whoever runs the scheduler.
#[derive(Debug, Clone)]
pub struct Metrics {
    attempts: BTreeMap<Result, u64>,
    turned_down: BTreeMap<&'static str, u64>,
    preemption_attempts: u64,
    victims: Histogram,
    pod_attempts: Histogram,
    sli: Histogram,
    /// Seconds of a decision.
    pub algorithm: Histogram,
    /// Seconds of an attempt, its binding included.
    pub attempt: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics {
            attempts: BTreeMap::new(),
            turned_down: BTreeMap::new(),
            preemption_attempts: 0,
            victims: Histogram::exponential(1.0, 2.0, 7),
            pod_attempts: Histogram::exponential(1.0, 2.0, 5),
            sli: Histogram::exponential(0.01, 2.0, 20),
            algorithm: Histogram::exponential(0.001, 2.0, 15),
            attempt: Histogram::exponential(0.001, 2.0, 15),
        }
    }
}

impl Metrics {
    pub(crate) fn attempted(&mut self, result: Result) {
        *self.attempts.entry(result).or_default() += 1;
    }

    pub(crate) fn turned_down(&mut self, plugin: &'static str) {
        *self.turned_down.entry(plugin).or_default() += 1;
    }

    pub(crate) fn preempted(&mut self, victims: usize) {
        self.preemption_attempts += 1;
        self.victims
            .observe(f64::from(u32::try_from(victims).unwrap_or(u32::MAX)));
    }

    pub(crate) fn bound(&mut self, attempts: u32, since: SignedDuration) {
        self.pod_attempts.observe(f64::from(attempts));
        self.sli.observe(since.as_secs_f64());
    }

    /// How many attempts ended so.
    #[must_use]
    pub fn attempts(&self, result: Result) -> u64 {
        self.attempts.get(&result).copied().unwrap_or(0)
    }

    /// All of it in Prometheus' text form.
    #[must_use]
    pub fn render(&self, queue: &Queue, nodes: usize, pods: usize) -> String {
        let mut text = String::new();
        let mut family = |name: &str, kind: &str, help: &str, lines: &dyn Fn(&mut String, &str)| {
            let _ = writeln!(text, "# HELP {name} [STABLE] {help}\n# TYPE {name} {kind}");
            lines(&mut text, name);
        };
        family(
            "scheduler_schedule_attempts_total",
            "counter",
            "Number of attempts to schedule pods, by the result. 'unschedulable' means a pod could not be scheduled, while 'error' means an internal scheduler problem.",
            &|text, name| {
                for (result, word) in [
                    (Result::Scheduled, "scheduled"),
                    (Result::Unschedulable, "unschedulable"),
                    (Result::Error, "error"),
                ] {
                    let _ = writeln!(
                        text,
                        "{name}{{profile=\"default-scheduler\",result=\"{word}\"}} {}",
                        self.attempts(result)
                    );
                }
            },
        );
        family(
            "scheduler_pending_pods",
            "gauge",
            "Number of pending pods, by the queue type.",
            &|text, name| {
                for (queue, count) in ["active", "backoff", "unschedulable", "gated"]
                    .iter()
                    .zip(queue.lengths())
                {
                    let _ = writeln!(text, "{name}{{queue=\"{queue}\"}} {count}");
                }
            },
        );
        family(
            "scheduler_queue_incoming_pods_total",
            "counter",
            "Number of pods added to scheduling queues by event and queue type.",
            &|text, name| {
                let sorted: BTreeMap<_, _> = queue.incoming().iter().collect();
                for ((queue, event), count) in sorted {
                    let _ = writeln!(text, "{name}{{event=\"{event}\",queue=\"{queue}\"}} {count}");
                }
            },
        );
        family(
            "scheduler_unschedulable_pods",
            "counter",
            "The number of times pods were turned down, by plugin name.",
            &|text, name| {
                for (plugin, count) in &self.turned_down {
                    let _ = writeln!(
                        text,
                        "{name}{{plugin=\"{plugin}\",profile=\"default-scheduler\"}} {count}"
                    );
                }
            },
        );
        family(
            "scheduler_preemption_attempts_total",
            "counter",
            "Total preemption attempts in the cluster till now",
            &|text, name| {
                let _ = writeln!(text, "{name} {}", self.preemption_attempts);
            },
        );
        family(
            "scheduler_scheduler_cache_size",
            "gauge",
            "Number of nodes, pods, and assumed (bound) pods in the scheduler cache.",
            &|text, name| {
                let _ = writeln!(text, "{name}{{type=\"nodes\"}} {nodes}\n{name}{{type=\"pods\"}} {pods}");
            },
        );
        for (name, help, histogram, labels) in [
            (
                "scheduler_preemption_victims",
                "Number of selected preemption victims",
                &self.victims,
                "",
            ),
            (
                "scheduler_pod_scheduling_attempts",
                "Number of attempts to successfully schedule a pod.",
                &self.pod_attempts,
                "",
            ),
            (
                "scheduler_pod_scheduling_sli_duration_seconds",
                "E2e latency for a pod being scheduled, from the time the pod enters the scheduling queue and might involve multiple scheduling attempts.",
                &self.sli,
                "",
            ),
            (
                "scheduler_scheduling_algorithm_duration_seconds",
                "Scheduling algorithm latency in seconds",
                &self.algorithm,
                "",
            ),
            (
                "scheduler_scheduling_attempt_duration_seconds",
                "Scheduling attempt latency in seconds (scheduling algorithm + binding)",
                &self.attempt,
                "profile=\"default-scheduler\",result=\"scheduled\"",
            ),
        ] {
            family(name, "histogram", help, &|text, name| {
                histogram.render(text, name, labels)
            });
        }
        text
    }
}
