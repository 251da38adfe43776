//! Turns: a key is taken, what it wrote is awaited, it is decided and executed.

use std::collections::HashMap;
use std::fmt::Display;
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use controllers::{Plan, Turn};
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::execute::Executor;
use crate::expectation::{Sight, all_seen};
use crate::hands::Live;
use crate::memory::Memory;
use crate::queue::Queue;

/// What is run.
pub(crate) struct Turns<K, S, D> {
    /// The controller's name.
    pub(crate) name: &'static str,
    /// Its keys.
    pub(crate) queue: Arc<Queue<K>>,
    /// Its hands.
    pub(crate) executor: Executor<Live>,
    /// Tells when the caches have seen a write.
    pub(crate) sight: S,
    /// Turns at once.
    pub(crate) workers: usize,
    /// Its mind.
    pub(crate) decide: D,
}

struct Shared<K, S, D> {
    turns: Turns<K, S, D>,
    memory: Mutex<HashMap<K, Memory>>,
    permits: Semaphore,
}

/// A key that is called something in logs.
pub(crate) trait Named: Clone + Eq + Hash + Send + Sync + 'static {
    /// For people.
    fn named(&self) -> String;
}

impl Named for controllers::Key {
    fn named(&self) -> String {
        self.to_string()
    }
}

impl Named for controllers::garbage::NodeKey {
    fn named(&self) -> String {
        let namespace: &dyn Display = &self.namespace;
        format!("{} {namespace}/{}", self.resource.resource, self.name)
    }
}

/// Runs turns until `stop`, then lets those that have begun end.
pub(crate) async fn run<K, S, D>(turns: Turns<K, S, D>, stop: CancellationToken)
where
    K: Named,
    S: Sight + 'static,
    D: Fn(&K, &Turn) -> Plan + Send + Sync + 'static,
{
    let workers = turns.workers;
    let shared = Arc::new(Shared {
        turns,
        memory: Mutex::default(),
        permits: Semaphore::new(workers),
    });
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(_) = running.join_next(), if !running.is_empty() => {}
            key = shared.turns.queue.next() => {
                let (shared, stop) = (shared.clone(), stop.clone());
                running.spawn(async move { shared.turn(key, stop).await });
            }
        }
    }
    while running.join_next().await.is_some() {}
}

impl<K, S, D> Shared<K, S, D>
where
    K: Named,
    S: Sight,
    D: Fn(&K, &Turn) -> Plan,
{
    async fn turn(&self, key: K, stop: CancellationToken) {
        let queue = &self.turns.queue;
        let known = self.memory.lock().get(&key).cloned().unwrap_or_default();
        // Waiting for the caches takes no worker away from other keys.
        let wait = all_seen(&self.turns.sight, &known.expectations);
        if stop.run_until_cancelled(wait).await.is_none() {
            queue.done(&key);
            return;
        }
        let permit = self.permits.acquire().await.expect("the semaphore is never closed");
        let turn = known.turn(Timestamp::now());
        let decided = catch_unwind(AssertUnwindSafe(|| (self.turns.decide)(&key, &turn)));
        let Ok(plan) = decided else {
            tracing::error!(controller = self.turns.name, key = key.named(), "a controller panicked");
            queue.add_failed(key.clone());
            queue.done(&key);
            return;
        };
        let (again, kept) = (plan.requeue_after, Memory::of(&plan));
        let outcome = self.turns.executor.execute(plan).await;
        drop(permit);
        let failed = outcome.failure.is_some();
        if let Some(failure) = &outcome.failure {
            let (controller, error) = (self.turns.name, &failure.message);
            tracing::debug!(controller, key = key.named(), error, "a plan failed, will retry");
        }
        match kept.after(outcome) {
            Some(memory) => drop(self.memory.lock().insert(key.clone(), memory)),
            None => drop(self.memory.lock().remove(&key)),
        }
        if failed {
            queue.add_failed(key.clone());
        } else {
            queue.forget(&key);
            if let Some(after) = again {
                queue.add_after(key.clone(), after.try_into().unwrap_or_default());
            }
        }
        queue.done(&key);
    }
}
