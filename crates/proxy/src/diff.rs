//! Operations that turn one ruleset into another.

use std::collections::BTreeSet;

use crate::ruleset::{Base, Chain, Data, Key, Rule, Ruleset, Set, Table, TableId};

/// One operation. Their order within [`Changes`] matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change<'a> {
    /// Make a table anew, removing one of that name with all it holds.
    ReplaceTable(&'a TableId),
    /// Remove a table with all it holds.
    RemoveTable(&'a TableId),
    /// Make a set or map, empty.
    AddSet(&'a TableId, &'a str, &'a Set),
    /// Make a chain, empty.
    AddChain(&'a TableId, &'a str, Option<Base>),
    /// Remove all rules of a chain.
    FlushChain(&'a TableId, &'a str),
    /// Remove elements of a set.
    RemoveElements(&'a TableId, &'a str, &'a Set, Vec<(Key, &'a Data)>),
    /// Append rules to a chain.
    AddRules(&'a TableId, &'a str, &'a [Rule]),
    /// Add elements to a set.
    AddElements(&'a TableId, &'a str, &'a Set, Vec<(Key, &'a Data)>),
    /// Remove a chain without rules that nothing refers to.
    RemoveChain(&'a TableId, &'a str),
    /// Remove a set that no rule refers to.
    RemoveSet(&'a TableId, &'a str),
}

/// What [`diff`] found, in the order in which to do it, as one atomic batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes<'a> {
    /// The operations.
    pub operations: Vec<Change<'a>>,
    /// UDP services or their endpoints differ: stale conntrack entries must go afterwards.
    pub udp: bool,
}

impl Changes<'_> {
    /// Nothing to do.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty() && !self.udp
    }

    /// Number of rules and elements to write or remove: the size of the update.
    pub fn size(&self) -> usize {
        self.operations
            .iter()
            .map(|operation| match operation {
                Change::RemoveElements(_, _, _, elements) | Change::AddElements(_, _, _, elements) => elements.len(),
                Change::AddRules(_, _, rules) => rules.len(),
                _ => 1,
            })
            .sum()
    }
}

/// What to do so that `old` becomes `new`. Writes only what differs: rules chain by chain,
/// elements one by one.
pub fn diff<'a>(old: &'a Ruleset, new: &'a Ruleset) -> Changes<'a> {
    let mut operations = Vec::new();
    for id in old.tables.keys().filter(|id| !new.tables.contains_key(*id)) {
        operations.push(Change::RemoveTable(id));
    }
    for (id, table) in &new.tables {
        match old.tables.get(id) {
            Some(before) if !redefined(before, table) => {
                edit_table(id, before, table, &mut operations);
            }
            _ => {
                operations.push(Change::ReplaceTable(id));
                build_table(id, table, &mut operations);
            }
        }
    }
    Changes {
        operations,
        udp: old.udp != new.udp,
    }
}

/// Whether something keeps its name but not its nature, which cannot be edited in place.
fn redefined(old: &Table, new: &Table) -> bool {
    let set = |name: &String, set: &Set| {
        old.sets
            .get(name)
            .is_some_and(|before| (before.key, before.data, before.mode) != (set.key, set.data, set.mode))
    };
    let chain = |name: &String, chain: &Chain| old.chains.get(name).is_some_and(|before| before.base != chain.base);
    new.sets.iter().any(|(name, new)| set(name, new)) || new.chains.iter().any(|(name, new)| chain(name, new))
}

fn build_table<'a>(id: &'a TableId, table: &'a Table, operations: &mut Vec<Change<'a>>) {
    for (name, set) in &table.sets {
        operations.push(Change::AddSet(id, name, set));
    }
    for (name, chain) in &table.chains {
        operations.push(Change::AddChain(id, name, chain.base));
    }
    for (name, chain) in table.chains.iter().filter(|(_, chain)| !chain.rules.is_empty()) {
        operations.push(Change::AddRules(id, name, &chain.rules));
    }
    for (name, set) in table.sets.iter().filter(|(_, set)| !set.elements.is_empty()) {
        let elements = set.elements.iter().map(|(key, data)| (*key, data)).collect();
        operations.push(Change::AddElements(id, name, set, elements));
    }
}

/// References decide the order: what is referred to comes before and goes after what refers to it.
fn edit_table<'a>(id: &'a TableId, old: &'a Table, new: &'a Table, operations: &mut Vec<Change<'a>>) {
    let added_set = |name: &&String| !old.sets.contains_key(*name);
    for name in new.sets.keys().filter(added_set) {
        operations.push(Change::AddSet(id, name, &new.sets[name]));
    }
    let added_chain = |name: &&String| !old.chains.contains_key(*name);
    for name in new.chains.keys().filter(added_chain) {
        operations.push(Change::AddChain(id, name, new.chains[name].base));
    }
    for (name, chain) in &old.chains {
        let changed = new.chains.get(name).is_none_or(|after| after.rules != chain.rules);
        if changed && !chain.rules.is_empty() {
            operations.push(Change::FlushChain(id, name));
        }
    }
    for (name, set) in &old.sets {
        let kept = new.sets.get(name);
        let gone: Vec<_> = set
            .elements
            .iter()
            .filter(|(key, data)| kept.and_then(|kept| kept.elements.get(key)) != Some(*data))
            .map(|(key, data)| (*key, data))
            .collect();
        if !gone.is_empty() {
            operations.push(Change::RemoveElements(id, name, set, gone));
        }
    }
    for (name, chain) in &new.chains {
        let changed = old.chains.get(name).is_none_or(|before| before.rules != chain.rules);
        if changed && !chain.rules.is_empty() {
            operations.push(Change::AddRules(id, name, &chain.rules));
        }
    }
    for (name, set) in &new.sets {
        let before = old.sets.get(name);
        let added: Vec<_> = set
            .elements
            .iter()
            .filter(|(key, data)| before.and_then(|before| before.elements.get(key)) != Some(*data))
            .map(|(key, data)| (*key, data))
            .collect();
        if !added.is_empty() {
            operations.push(Change::AddElements(id, name, set, added));
        }
    }
    let chains: BTreeSet<_> = new.chains.keys().collect();
    for name in old.chains.keys().filter(|name| !chains.contains(name)) {
        operations.push(Change::RemoveChain(id, name));
    }
    for name in old.sets.keys().filter(|name| !new.sets.contains_key(*name)) {
        operations.push(Change::RemoveSet(id, name));
    }
}
