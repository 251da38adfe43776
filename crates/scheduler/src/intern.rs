//! Shares what pods of one template have in common.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use crate::labels::Labels;
use crate::shape::PodShape;

/// Entries that are looked through for unused ones at the earliest.
const FIRST_SWEEP: usize = 1024;

/// Tables of shared values. An entry that nobody else holds is dropped when its table has doubled.
///
/// The mutex is held for one look-up; there is one writer in practice.
#[derive(Debug, Default)]
pub struct Interner {
    texts: Table<str>,
    labels: Table<Labels>,
    shapes: Table<PodShape>,
}

impl Interner {
    /// The shared copy of a text.
    #[must_use]
    pub fn text(&self, text: &str) -> Arc<str> {
        self.texts.get(hash(text), |known| known == text, || text.into())
    }

    /// The shared copy of labels.
    #[must_use]
    pub fn labels(&self, labels: Labels) -> Arc<Labels> {
        let key = hash(&labels);
        let slot = std::cell::Cell::new(Some(labels));
        self.labels.get(
            key,
            |known| {
                let labels = slot.take();
                let same = labels.as_ref() == Some(known);
                slot.set(labels);
                same
            },
            || Arc::new(slot.take().unwrap_or_default()),
        )
    }

    /// The shared copy of a shape.
    #[must_use]
    pub fn shape(&self, shape: PodShape) -> Arc<PodShape> {
        let key = shape.fingerprint();
        let shape = Arc::new(shape);
        self.shapes.get(key, |known| known == &*shape, || shape.clone())
    }
}

fn hash<T: Hash + ?Sized>(value: &T) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[derive(Debug)]
struct Table<T: ?Sized>(Mutex<Entries<T>>);

#[derive(Debug)]
struct Entries<T: ?Sized> {
    by_hash: HashMap<u64, Vec<Arc<T>>>,
    len: usize,
    sweep_at: usize,
}

impl<T: ?Sized> Default for Table<T> {
    fn default() -> Self {
        Table(Mutex::new(Entries {
            by_hash: HashMap::new(),
            len: 0,
            sweep_at: FIRST_SWEEP,
        }))
    }
}

impl<T: ?Sized> Table<T> {
    fn get(&self, key: u64, same: impl Fn(&T) -> bool, make: impl FnOnce() -> Arc<T>) -> Arc<T> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = entries
            .by_hash
            .get(&key)
            .and_then(|list| list.iter().find(|known| same(known)));
        if let Some(known) = known {
            return known.clone();
        }
        if entries.len >= entries.sweep_at {
            entries.sweep();
        }
        let made = make();
        entries.by_hash.entry(key).or_default().push(made.clone());
        entries.len += 1;
        made
    }
}

impl<T: ?Sized> Entries<T> {
    fn sweep(&mut self) {
        self.by_hash.retain(|_, list| {
            list.retain(|entry| Arc::strong_count(entry) > 1);
            !list.is_empty()
        });
        self.len = self.by_hash.values().map(Vec::len).sum();
        self.sweep_at = (self.len * 2).max(FIRST_SWEEP);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_shared_and_the_unused_is_dropped() {
        let interner = Interner::default();
        let kept = interner.text("kept");
        assert!(Arc::ptr_eq(&kept, &interner.text("kept")));
        for n in 0..FIRST_SWEEP * 3 {
            let _ = interner.text(&format!("text {n}"));
        }
        assert!(interner.texts.0.lock().unwrap().len <= FIRST_SWEEP);
        assert!(Arc::ptr_eq(&kept, &interner.text("kept")));
    }
}
