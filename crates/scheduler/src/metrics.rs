//! The scheduler's numbers, by upstream's names (pkg/scheduler/metrics/metrics.go).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write;

use jiff::SignedDuration;

use crate::framework::Point;
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

impl Result {
    fn word(self) -> &'static str {
        match self {
            Result::Scheduled => "scheduled",
            Result::Unschedulable => "unschedulable",
            Result::Error => "error",
        }
    }
}

impl Histogram {
    pub(crate) fn exponential(start: f64, factor: f64, buckets: i32) -> Histogram {
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

/// How long the parts of one decision took, by a clock from outside.
#[derive(Debug)]
pub struct Timings {
    clock: fn() -> f64,
    points: RefCell<Vec<(Point, &'static str, f64)>>,
    plugins: RefCell<Vec<(Point, &'static str, f64)>>,
    /// Whether plugins are measured, too.
    closely: bool,
}

impl Timings {
    pub(crate) fn new(clock: fn() -> f64, closely: bool) -> Timings {
        Timings {
            clock,
            points: RefCell::default(),
            plugins: RefCell::default(),
            closely,
        }
    }

    /// Does something and notes how long it took.
    pub(crate) fn point<R>(timings: Option<&Timings>, point: Point, act: impl FnOnce() -> (R, &'static str)) -> R {
        let Some(timings) = timings else { return act().0 };
        let begun = (timings.clock)();
        let (done, status) = act();
        let took = (timings.clock)() - begun;
        timings.points.borrow_mut().push((point, status, took));
        done
    }

    /// The same for what one plugin does.
    pub(crate) fn plugin<R>(timings: Option<&Timings>, point: Point, name: &'static str, act: impl FnOnce() -> R) -> R {
        let Some(timings) = timings.filter(|timings| timings.closely) else {
            return act();
        };
        let begun = (timings.clock)();
        let done = act();
        let took = (timings.clock)() - begun;
        timings.plugins.borrow_mut().push((point, name, took));
        done
    }
}

/// The numbers of one profile.
#[derive(Debug, Clone)]
struct ByProfile {
    attempts: BTreeMap<Result, u64>,
    durations: BTreeMap<Result, Histogram>,
    points: BTreeMap<(Point, &'static str), Histogram>,
}

/// All counters. Times are measured by whoever runs the scheduler.
#[derive(Debug, Clone)]
pub struct Metrics {
    profiles: BTreeMap<String, ByProfile>,
    plugins: BTreeMap<(Point, &'static str), Histogram>,
    preemption_attempts: u64,
    victims: Histogram,
    pod_attempts: Histogram,
    /// By the number of attempts.
    sli: BTreeMap<u32, Histogram>,
    /// Seconds of a decision.
    pub algorithm: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics {
            profiles: BTreeMap::new(),
            plugins: BTreeMap::new(),
            preemption_attempts: 0,
            victims: Histogram::exponential(1.0, 2.0, 7),
            pod_attempts: Histogram::exponential(1.0, 2.0, 5),
            sli: BTreeMap::new(),
            algorithm: Histogram::exponential(0.001, 2.0, 15),
        }
    }
}

/// More attempts than this are told as one.
const MOST_ATTEMPTS: u32 = 15;

impl Metrics {
    fn profile(&mut self, name: &str) -> &mut ByProfile {
        if !self.profiles.contains_key(name) {
            let empty = ByProfile {
                attempts: BTreeMap::new(),
                durations: BTreeMap::new(),
                points: BTreeMap::new(),
            };
            self.profiles.insert(name.to_owned(), empty);
        }
        self.profiles.get_mut(name).expect("it was just made")
    }

    pub(crate) fn attempted(&mut self, profile: &str, result: Result) {
        *self.profile(profile).attempts.entry(result).or_default() += 1;
    }

    /// An attempt took so long, its binding included.
    pub fn took(&mut self, profile: &str, result: Result, seconds: f64) {
        let durations = &mut self.profile(profile).durations;
        let made = || Histogram::exponential(0.001, 2.0, 15);
        durations.entry(result).or_insert_with(made).observe(seconds);
    }

    pub(crate) fn preempted(&mut self, victims: usize) {
        self.preemption_attempts += 1;
        self.victims
            .observe(f64::from(u32::try_from(victims).unwrap_or(u32::MAX)));
    }

    pub(crate) fn bound(&mut self, attempts: u32, since: SignedDuration) {
        self.pod_attempts.observe(f64::from(attempts));
        let made = || Histogram::exponential(0.01, 2.0, 20);
        let sli = self.sli.entry(attempts.min(MOST_ATTEMPTS)).or_insert_with(made);
        sli.observe(since.as_secs_f64());
    }

    pub(crate) fn timed(&mut self, profile: &str, timings: Timings) {
        let points = &mut self.profile(profile).points;
        for (point, status, took) in timings.points.into_inner() {
            let made = || Histogram::exponential(0.0001, 2.0, 12);
            points.entry((point, status)).or_insert_with(made).observe(took);
        }
        for (point, plugin, took) in timings.plugins.into_inner() {
            let made = || Histogram::exponential(0.00001, 1.5, 20);
            self.plugins.entry((point, plugin)).or_insert_with(made).observe(took);
        }
    }

    /// How many attempts ended so, of all profiles.
    #[must_use]
    pub fn attempts(&self, result: Result) -> u64 {
        let each = self
            .profiles
            .values()
            .filter_map(|profile| profile.attempts.get(&result));
        each.sum()
    }

    /// All of it in Prometheus' text form.
    #[must_use]
    pub fn render(&self, queue: &Queue, nodes: usize, pods: usize) -> String {
        let mut page = Page(String::new());
        self.render_attempts(&mut page);
        render_queue(queue, &mut page);
        page.family(
            "scheduler_preemption_attempts_total",
            "counter",
            "STABLE",
            "Total preemption attempts in the cluster till now",
        );
        page.value("scheduler_preemption_attempts_total", "", self.preemption_attempts);
        let name = "scheduler_scheduler_cache_size";
        let help = "Number of nodes, pods, and assumed (bound) pods in the scheduler cache.";
        page.family(name, "gauge", "ALPHA", help);
        page.value(name, "type=\"nodes\"", nodes as u64);
        page.value(name, "type=\"pods\"", pods as u64);
        let name = "scheduler_preemption_victims";
        page.family(name, "histogram", "STABLE", "Number of selected preemption victims");
        self.victims.render(&mut page.0, name, "");
        let name = "scheduler_pod_scheduling_attempts";
        page.family(
            name,
            "histogram",
            "STABLE",
            "Number of attempts to successfully schedule a pod.",
        );
        self.pod_attempts.render(&mut page.0, name, "");
        let name = "scheduler_scheduling_algorithm_duration_seconds";
        page.family(name, "histogram", "ALPHA", "Scheduling algorithm latency in seconds");
        self.algorithm.render(&mut page.0, name, "");
        let name = "scheduler_plugin_execution_duration_seconds";
        let help = "Duration for running a plugin at a specific extension point.";
        page.family(name, "histogram", "ALPHA", help);
        for ((point, plugin), histogram) in &self.plugins {
            let point = point.word();
            let labels = format!("extension_point=\"{point}\",plugin=\"{plugin}\",status=\"Success\"");
            histogram.render(&mut page.0, name, &labels);
        }
        page.0
    }

    fn render_attempts(&self, page: &mut Page) {
        let name = "scheduler_schedule_attempts_total";
        let help = "Number of attempts to schedule pods, by the result. 'unschedulable' means a pod could not be \
                    scheduled, while 'error' means an internal scheduler problem.";
        page.family(name, "counter", "STABLE", help);
        for (profile, numbers) in &self.profiles {
            for (result, count) in &numbers.attempts {
                page.value(
                    name,
                    &format!("profile=\"{profile}\",result=\"{}\"", result.word()),
                    *count,
                );
            }
        }
        let name = "scheduler_scheduling_attempt_duration_seconds";
        let help = "Scheduling attempt latency in seconds (scheduling algorithm + binding)";
        page.family(name, "histogram", "STABLE", help);
        for (profile, numbers) in &self.profiles {
            for (result, histogram) in &numbers.durations {
                let labels = format!("profile=\"{profile}\",result=\"{}\"", result.word());
                histogram.render(&mut page.0, name, &labels);
            }
        }
        let name = "scheduler_framework_extension_point_duration_seconds";
        let help = "Latency for running all plugins of a specific extension point.";
        page.family(name, "histogram", "STABLE", help);
        for (profile, numbers) in &self.profiles {
            for ((point, status), histogram) in &numbers.points {
                let point = point.word();
                let labels = format!("extension_point=\"{point}\",profile=\"{profile}\",status=\"{status}\"");
                histogram.render(&mut page.0, name, &labels);
            }
        }
        let name = "scheduler_pod_scheduling_sli_duration_seconds";
        let help = "E2e latency for a pod being scheduled, from the time the pod enters the scheduling queue and might \
                    involve multiple scheduling attempts.";
        page.family(name, "histogram", "BETA", help);
        for (attempts, histogram) in &self.sli {
            let more = if *attempts >= MOST_ATTEMPTS { "+" } else { "" };
            histogram.render(&mut page.0, name, &format!("attempts=\"{attempts}{more}\""));
        }
    }
}

/// Metrics in Prometheus' text form.
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, stability: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} [{stability}] {help}\n# TYPE {name} {kind}");
    }

    fn value(&mut self, name: &str, labels: &str, value: u64) {
        let _ = match labels {
            "" => writeln!(self.0, "{name} {value}"),
            labels => writeln!(self.0, "{name}{{{labels}}} {value}"),
        };
    }
}

fn render_queue(queue: &Queue, page: &mut Page) {
    let name = "scheduler_pending_pods";
    page.family(name, "gauge", "STABLE", "Number of pending pods, by the queue type.");
    let words = ["active", "backoff", "unschedulable", "gated"];
    for (queue, count) in words.iter().zip(queue.lengths()) {
        page.value(name, &format!("queue=\"{queue}\""), count as u64);
    }
    let name = "scheduler_queue_incoming_pods_total";
    let help = "Number of pods added to scheduling queues by event and queue type.";
    page.family(name, "counter", "STABLE", help);
    let sorted: BTreeMap<_, _> = queue.incoming().iter().collect();
    for ((queue, event), count) in sorted {
        page.value(name, &format!("event=\"{event}\",queue=\"{queue}\""), *count);
    }
    let name = "scheduler_unschedulable_pods";
    let help = "The number of unschedulable pods broken down by plugin name. A pod will increment the gauge for all \
                plugins that caused it to not schedule and so this metric have meaning only when broken down by plugin.";
    page.family(name, "gauge", "ALPHA", help);
    let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for (pod, verdict, _) in queue.pending() {
        for plugin in verdict.into_iter().flat_map(|verdict| verdict.plugins()) {
            *counts.entry((plugin, &pod.shape.scheduler_name)).or_default() += 1;
        }
    }
    for ((plugin, profile), count) in counts {
        page.value(name, &format!("plugin=\"{plugin}\",profile=\"{profile}\""), count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Patience;

    #[test]
    fn numbers_have_upstreams_names_and_labels() {
        let mut metrics = Metrics::default();
        metrics.attempted("a", Result::Scheduled);
        metrics.took("a", Result::Scheduled, 0.0015);
        metrics.bound(20, SignedDuration::from_millis(15));
        metrics.preempted(3);
        let timings = Timings::new(|| 1.0, true);
        Timings::point(Some(&timings), Point::Filter, || ((), "Success"));
        Timings::plugin(Some(&timings), Point::Score, "ImageLocality", || ());
        metrics.timed("a", timings);
        let text = metrics.render(&Queue::new(Patience::default()), 2, 5);
        for line in [
            "scheduler_schedule_attempts_total{profile=\"a\",result=\"scheduled\"} 1",
            "scheduler_scheduling_attempt_duration_seconds_bucket{profile=\"a\",result=\"scheduled\",le=\"0.002\"} 1",
            "scheduler_pod_scheduling_sli_duration_seconds_count{attempts=\"15+\"} 1",
            "scheduler_framework_extension_point_duration_seconds_count{extension_point=\"Filter\",profile=\"a\",status=\"Success\"} 1",
            "scheduler_plugin_execution_duration_seconds_count{extension_point=\"Score\",plugin=\"ImageLocality\",status=\"Success\"} 1",
            "scheduler_preemption_victims_sum 3",
            "scheduler_pending_pods{queue=\"gated\"} 0",
            "scheduler_scheduler_cache_size{type=\"nodes\"} 2",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
