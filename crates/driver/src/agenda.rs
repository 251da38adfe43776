//! Which key is next, by any clock: the work queue without its waiting.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::ops::Add;
use std::time::Duration;

/// First and longest wait of a key that keeps failing, as client-go's.
const BACKOFF_MIN: Duration = Duration::from_millis(5);
const BACKOFF_MAX: Duration = Duration::from_secs(1000);

/// Keys that are ready or delayed until a time. A key added any number of times is next once; one added while it runs
/// is next again when it is done.
#[derive(Debug)]
pub struct Agenda<K, T> {
    ready: VecDeque<K>,
    /// In `ready`, or to be put there when they are done.
    dirty: HashSet<K>,
    running: HashSet<K>,
    /// By due time and a number that keeps equal times apart.
    delayed: BTreeMap<(T, u64), K>,
    due: HashMap<K, (T, u64)>,
    counter: u64,
    failures: HashMap<K, u32>,
}

impl<K, T> Default for Agenda<K, T> {
    fn default() -> Self {
        Self {
            ready: VecDeque::new(),
            dirty: HashSet::new(),
            running: HashSet::new(),
            delayed: BTreeMap::new(),
            due: HashMap::new(),
            counter: 0,
            failures: HashMap::new(),
        }
    }
}

impl<K: Clone + Eq + Hash, T: Copy + Ord + Add<Duration, Output = T>> Agenda<K, T> {
    /// Makes a key ready.
    pub fn add(&mut self, key: K) {
        if let Some(due) = self.due.remove(&key) {
            self.delayed.remove(&due);
        }
        if !self.dirty.insert(key.clone()) {
            return;
        }
        if !self.running.contains(&key) {
            self.ready.push_back(key);
        }
    }

    /// Makes a key ready at a time; the earliest of several such times counts.
    pub fn delay(&mut self, key: K, at: T) {
        if self.dirty.contains(&key) {
            return;
        }
        if let Some(known) = self.due.get(&key) {
            if known.0 <= at {
                return;
            }
            self.delayed.remove(known);
        }
        self.counter += 1;
        let due = (at, self.counter);
        self.delayed.insert(due, key.clone());
        self.due.insert(key, due);
    }

    /// Makes a key that failed ready, later each time.
    pub fn add_failed(&mut self, key: K, now: T) {
        let failures = self.failures.entry(key.clone()).or_default();
        let wait = BACKOFF_MAX.min(BACKOFF_MIN * 2u32.saturating_pow((*failures).min(20)));
        *failures += 1;
        self.delay(key, now + wait);
    }

    /// The key has succeeded: its next failure is its first.
    pub fn forget(&mut self, key: &K) {
        self.failures.remove(key);
    }

    /// The next key, which counts as running until [`Agenda::done`].
    pub fn next(&mut self, now: T) -> Option<K> {
        self.wake(now);
        let key = self.ready.pop_front()?;
        self.dirty.remove(&key);
        self.running.insert(key.clone());
        Some(key)
    }

    /// The key's turn is over. Whether it is ready again at once.
    pub fn done(&mut self, key: &K) -> bool {
        self.running.remove(key);
        let again = self.dirty.contains(key);
        if again {
            self.ready.push_back(key.clone());
        }
        again
    }

    /// Whether a key is ready without waiting.
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// When the first delayed key is ready.
    pub fn next_due(&self) -> Option<T> {
        self.delayed.keys().next().map(|(due, _)| *due)
    }

    /// How many keys are ready or delayed.
    pub fn len(&self) -> usize {
        self.dirty.len() + self.due.len()
    }

    /// Whether no key is ready or delayed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn wake(&mut self, now: T) {
        while let Some((due, _)) = self.delayed.first_key_value() {
            if due.0 > now {
                return;
            }
            let (_, key) = self.delayed.pop_first().expect("just seen");
            self.due.remove(&key);
            self.add(key);
        }
    }
}
