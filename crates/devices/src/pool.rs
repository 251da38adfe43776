//! The pools that a node can use devices of.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::Node;
use crate::slice::{Counters, DeviceId, Slice};

/// A pool: the slices of its newest generation.
pub(crate) struct Pool {
    pub name: String,
    /// Not all of its slices are there (yet).
    pub incomplete: bool,
    /// It contradicts itself.
    pub invalid: bool,
    /// Those of its slices that the node can use, by name.
    pub slices: Vec<Arc<Slice>>,
    /// What is left of its counters by what is allocated already.
    pub available: BTreeMap<String, Counters>,
}

/// The pools of a node, by driver and name.
pub(crate) fn gather(slices: &[Arc<Slice>], node: &dyn Node, allocated: &BTreeSet<DeviceId>) -> Vec<Pool> {
    let mut by_id: BTreeMap<(&str, &str), Vec<&Arc<Slice>>> = BTreeMap::new();
    for slice in slices {
        let pool = by_id.entry((&slice.driver, &slice.pool)).or_default();
        match pool.first().map(|known| known.generation) {
            Some(known) if slice.generation < known => continue,
            Some(known) if slice.generation > known => pool.clear(),
            _ => {}
        }
        pool.push(slice);
    }
    let pools = by_id.into_iter().filter_map(|((driver, name), mut all)| {
        all.sort_by(|a, b| a.name.cmp(&b.name));
        let usable: Vec<Arc<Slice>> = all
            .iter()
            .filter(|slice| slice.has(node))
            .map(|slice| (*slice).clone())
            .collect();
        if usable.is_empty() {
            return None;
        }
        let count = i64::try_from(all.len()).unwrap_or(i64::MAX);
        Some(Pool {
            name: format!("{driver}/{name}"),
            incomplete: all.iter().any(|slice| slice.count != count),
            invalid: contradicts_itself(&all),
            available: available(&all, allocated),
            slices: usable,
        })
    });
    pools.collect()
}

/// Names of devices and of counter sets are there once, and what devices consume is there.
fn contradicts_itself(slices: &[&Arc<Slice>]) -> bool {
    let mut names = BTreeSet::new();
    let mut sets = BTreeSet::new();
    let twice = slices.iter().any(|slice| {
        let devices = slice.devices.iter().any(|device| !names.insert(&device.name));
        slice.counter_sets.keys().any(|set| !sets.insert(set)) || devices
    });
    let mut consumed = slices
        .iter()
        .flat_map(|slice| &slice.devices)
        .flat_map(|device| &device.consumes);
    twice || consumed.any(|(set, _)| !sets.contains(set))
}

fn available(slices: &[&Arc<Slice>], allocated: &BTreeSet<DeviceId>) -> BTreeMap<String, Counters> {
    let sets = slices.iter().flat_map(|slice| slice.counter_sets.clone());
    let mut available: BTreeMap<String, Counters> = sets.collect();
    if available.is_empty() {
        return available;
    }
    for slice in slices {
        for device in slice.devices.iter().filter(|device| !device.consumes.is_empty()) {
            if allocated.contains(&slice.id(device)) {
                for (set, counters) in &device.consumes {
                    for (name, value) in counters {
                        if let Some(left) = available.get_mut(set).and_then(|set| set.get_mut(name)) {
                            *left = left.sub(value);
                        }
                    }
                }
            }
        }
    }
    available
}
