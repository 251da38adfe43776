//! The last two samples of each node, and the rates between them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::{Value, meta};
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::exposition::{Point, Scrape, parse};
use crate::state::State;
use crate::subresource;

/// A sample this young is good enough.
const FRESH: Duration = Duration::from_secs(10);
/// Rates over a longer time say little about now.
const STALE: Duration = Duration::from_secs(120);
/// How far apart two samples are at least.
const APART: Duration = Duration::from_secs(1);

/// Usage over a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rate {
    pub nano_cores: u64,
    pub memory_bytes: u64,
    pub time: Timestamp,
    pub window_millis: i64,
}

/// Samples by node.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    nodes: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Pair>>>>,
}

#[derive(Debug, Default)]
struct Pair {
    /// Of the node of this UID.
    uid: String,
    before: Option<(Instant, Arc<Scrape>)>,
    last: Option<(Instant, Arc<Scrape>)>,
}

/// What is known of a node.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    before: Arc<Scrape>,
    last: Arc<Scrape>,
}

impl Samples {
    /// The node's usage, asked for if what is known is old; `None` if it does not answer.
    pub(super) async fn look(&self, state: &State, node: &Value) -> Option<Seen> {
        let pair = self
            .nodes
            .lock()
            .entry(meta::name(node).to_owned())
            .or_default()
            .clone();
        // One at a time asks a node; the others have its answer.
        let mut pair = pair.lock().await;
        if pair.uid != meta::uid(node) {
            *pair = Pair {
                uid: meta::uid(node).to_owned(),
                ..Pair::default()
            };
        }
        if pair.last.as_ref().is_none_or(|(at, _)| at.elapsed() >= FRESH) {
            let scrape = ask(state, node).await?;
            pair.push(scrape);
        }
        if !pair.is_telling() {
            tokio::time::sleep(APART).await;
            let scrape = ask(state, node).await?;
            pair.push(scrape);
        }
        let (before, last) = (pair.before.as_ref()?, pair.last.as_ref()?);
        Some(Seen {
            before: before.1.clone(),
            last: last.1.clone(),
        })
    }
}

impl Pair {
    fn push(&mut self, scrape: Scrape) {
        self.before = self.last.take();
        self.last = Some((Instant::now(), Arc::new(scrape)));
    }

    fn is_telling(&self) -> bool {
        match (&self.before, &self.last) {
            (Some((before, _)), Some((last, _))) => (APART..=STALE).contains(&last.duration_since(*before)),
            _ => false,
        }
    }
}

async fn ask(state: &State, node: &Value) -> Option<Scrape> {
    match subresource::ask_kubelet(state, node, "/metrics/resource").await {
        Ok(text) => Some(parse(&text)),
        Err(error) => {
            tracing::debug!(node = meta::name(node), %error, "a node does not tell what it uses");
            None
        }
    }
}

impl Seen {
    /// The node's own usage.
    pub fn node(&self) -> Option<Rate> {
        rate(&self.before.node, &self.last.node)
    }

    /// The usage of each of a pod's containers, if there is any.
    pub fn pod(&self, namespace: &str, pod: &str) -> Option<Vec<(String, Rate)>> {
        let first = (namespace.to_owned(), pod.to_owned(), String::new());
        let ours = self.last.containers.range(first..);
        let ours = ours.take_while(|(name, _)| name.0 == namespace && name.1 == pod);
        let mut rates = Vec::new();
        for (name, point) in ours {
            let before = self.before.containers.get(name);
            let known = before.and_then(|before| rate(before, point));
            // One that is new has used all that it used since it started.
            let rate = known.or_else(|| rate(&birth(point)?, point));
            rates.push((name.2.clone(), rate?));
        }
        (!rates.is_empty()).then_some(rates)
    }
}

fn birth(point: &Point) -> Option<Point> {
    let started = point.started_seconds?;
    Some(Point {
        cpu_seconds: Some(0.0),
        millis: Some((started * 1000.0) as i64),
        ..Point::default()
    })
}

fn rate(before: &Point, last: &Point) -> Option<Rate> {
    let millis = last.millis?;
    let window_millis = millis - before.millis?;
    let used = last.cpu_seconds? - before.cpu_seconds?;
    // A counter that went back belongs to a container that was started anew.
    let again = last
        .started_seconds
        .is_some_and(|at| before.started_seconds.is_some_and(|before| at != before));
    if window_millis < APART.as_millis() as i64 / 2 || used < 0.0 || again {
        return None;
    }
    Some(Rate {
        nano_cores: (used * 1e12 / window_millis as f64) as u64,
        memory_bytes: last.memory_bytes? as u64,
        time: Timestamp::from_millisecond(millis).ok()?,
        window_millis,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(cpu: f64, millis: i64, started: f64) -> Point {
        Point {
            cpu_seconds: Some(cpu),
            memory_bytes: Some(4096.0),
            millis: Some(millis),
            started_seconds: Some(started),
        }
    }

    #[test]
    fn rates_are_between_two_samples_or_since_the_start() {
        let name = |container: &str| ("ns".to_owned(), "p".to_owned(), container.to_owned());
        let mut before = Scrape::default();
        before.containers.insert(name("old"), point(1.0, 10_000, 1.0));
        before.containers.insert(name("again"), point(9.0, 10_000, 1.0));
        let mut last = Scrape::default();
        last.containers.insert(name("old"), point(2.0, 20_000, 1.0));
        last.containers.insert(name("again"), point(1.0, 20_000, 15.0));
        last.containers.insert(name("new"), point(0.5, 20_000, 19.0));
        last.containers
            .insert(("ns".into(), "p2".into(), "c".into()), point(1.0, 20_000, 19.9));
        let seen = Seen {
            before: Arc::new(before),
            last: Arc::new(last),
        };
        let rates = seen.pod("ns", "p").unwrap();
        let cores: Vec<(&str, u64)> = rates
            .iter()
            .map(|(name, rate)| (name.as_str(), rate.nano_cores))
            .collect();
        assert_eq!(
            cores,
            [("again", 200_000_000), ("new", 500_000_000), ("old", 100_000_000)]
        );
        // Too young to tell, and unknown.
        assert!(seen.pod("ns", "p2").is_none() && seen.pod("ns", "p3").is_none());
    }
}
