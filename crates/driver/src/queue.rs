//! The work queue (client-go `util/workqueue`): keys, each at most once, never the same one at once.

use std::hash::Hash;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::agenda::Agenda;

/// A queue of keys.
///
/// Guarantees: a key added any number of times runs once after the last addition; one added while it
/// runs, runs again when it is done. Cancel-safe: a dropped [`Queue::next`] loses no key.
#[derive(Debug)]
pub struct Queue<K> {
    /// A std-style lock is right: it is held for a few map operations, never across an await.
    state: Mutex<Agenda<K, Instant>>,
    changed: Notify,
}

impl<K: Clone + Eq + Hash> Default for Queue<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Clone + Eq + Hash> Queue<K> {
    /// An empty queue.
    pub fn new() -> Self {
        Self {
            state: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Runs a key as soon as it may.
    pub fn add(&self, key: K) {
        self.state.lock().add(key);
        self.changed.notify_one();
    }

    /// Runs a key after a time; the earliest of several such times counts.
    pub fn add_after(&self, key: K, after: Duration) {
        self.state.lock().delay(key, Instant::now() + after);
        self.changed.notify_one();
    }

    /// Runs a key that failed, later each time.
    pub fn add_failed(&self, key: K) {
        self.state.lock().add_failed(key, Instant::now());
        self.changed.notify_one();
    }

    /// The key has succeeded: its next failure is its first.
    pub fn forget(&self, key: &K) {
        self.state.lock().forget(key);
    }

    /// The key's turn is over; until then it is not handed out again.
    pub fn done(&self, key: &K) {
        if self.state.lock().done(key) {
            self.changed.notify_one();
        }
    }

    /// How many keys are ready or delayed.
    pub fn len(&self) -> usize {
        self.state.lock().len()
    }

    /// Whether no key is ready or delayed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next key; the caller says [`Queue::done`] when its turn is over.
    pub async fn next(&self) -> K {
        loop {
            let next_due = {
                let mut state = self.state.lock();
                if let Some(key) = state.next(Instant::now()) {
                    if state.has_ready() {
                        self.changed.notify_one();
                    }
                    return key;
                }
                state.next_due()
            };
            match next_due {
                Some(due) => {
                    tokio::select! {
                        () = self.changed.notified() => {}
                        () = tokio::time::sleep_until(due) => {}
                    }
                }
                None => self.changed.notified().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn next_within<K: Clone + Eq + Hash>(queue: &Queue<K>, time: Duration) -> Option<K> {
        tokio::time::timeout(time, queue.next()).await.ok()
    }

    const SHORT: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn a_key_runs_once_and_never_twice_at_once() {
        let queue = Queue::new();
        queue.add("a");
        queue.add("a");
        queue.add("b");
        assert_eq!(queue.next().await, "a");
        queue.add("a");
        assert_eq!(queue.next().await, "b");
        assert_eq!(next_within(&queue, SHORT).await, None);
        queue.done(&"a");
        assert_eq!(queue.next().await, "a");
        queue.done(&"a");
        assert_eq!(next_within(&queue, SHORT).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn delays_end_and_the_earliest_counts() {
        let queue = Queue::new();
        queue.add_after("a", Duration::from_secs(10));
        queue.add_after("a", Duration::from_secs(5));
        queue.add_after("a", Duration::from_secs(20));
        assert_eq!(next_within(&queue, Duration::from_secs(4)).await, None);
        assert_eq!(next_within(&queue, Duration::from_secs(2)).await, Some("a"));
        queue.done(&"a");
        assert_eq!(next_within(&queue, Duration::from_secs(60)).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_wait_longer_each_time() {
        let queue = Queue::new();
        for expected in [5, 10, 20, 40] {
            queue.add_failed("a");
            let begun = Instant::now();
            assert_eq!(queue.next().await, "a");
            let waited = begun.elapsed().as_millis();
            assert!(
                (expected..=expected + 1).contains(&waited),
                "{waited} ms, not {expected}"
            );
            queue.done(&"a");
        }
        queue.forget(&"a");
        queue.add_failed("a");
        assert_eq!(next_within(&queue, Duration::from_millis(7)).await, Some("a"));
    }
}
