//! Finds the selectors that may mean a pod by one label that they ask for.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use api::labels::{Operator, Selector};

use crate::labels::Labels;

/// Numbers of selectors, by a label that each asks for exactly.
#[derive(Debug, Clone, Default)]
pub(super) struct Buckets {
    by_label: HashMap<u64, Vec<u32>>,
    /// Selectors that ask for no exact label.
    rest: Vec<u32>,
}

fn hash(key: &str, value: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (key, value).hash(&mut hasher);
    hasher.finish()
}

fn exact_label(selector: &Selector) -> Option<u64> {
    selector.requirements().iter().find_map(|requirement| {
        let exact = matches!(
            requirement.operator(),
            Operator::Equals | Operator::DoubleEquals | Operator::In
        );
        match requirement.values() {
            [value] if exact => Some(hash(requirement.key(), value)),
            _ => None,
        }
    })
}

impl Buckets {
    fn bucket(&mut self, selector: &Selector) -> &mut Vec<u32> {
        match exact_label(selector) {
            Some(label) => self.by_label.entry(label).or_default(),
            None => &mut self.rest,
        }
    }

    pub(super) fn insert(&mut self, selector: &Selector, number: u32) {
        self.bucket(selector).push(number);
    }

    pub(super) fn remove(&mut self, selector: &Selector, number: u32) {
        self.bucket(selector).retain(|known| *known != number);
        if let Some(label) = exact_label(selector)
            && self.by_label.get(&label).is_some_and(Vec::is_empty)
        {
            self.by_label.remove(&label);
        }
    }

    /// Numbers of all selectors that may select these labels, each once.
    pub(super) fn candidates(&self, labels: &Labels) -> Vec<u32> {
        let mut numbers = self.rest.clone();
        if !self.by_label.is_empty() {
            for (key, value) in labels.iter() {
                if let Some(more) = self.by_label.get(&hash(key, value)) {
                    numbers.extend(more);
                }
            }
        }
        numbers
    }
}
