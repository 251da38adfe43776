//! Differences, applied by a model as strict as the kernel.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use proptest::prelude::*;
use proxy::{
    Chain, Change, Changes, Data, Dnat, Match, Ruleset, Set, Statement, Table, TableId, Verdict, diff, ruleset,
};

use crate::build::{Ep, config, ep, slice, svc};

fn verdict_target(verdict: &Verdict) -> Option<&String> {
    match verdict {
        Verdict::Jump(chain) | Verdict::Goto(chain) => Some(chain),
        _ => None,
    }
}

/// Chains and sets that a table's rules and elements refer to.
fn references(table: &Table) -> (BTreeSet<&String>, BTreeSet<&String>) {
    let (mut chains, mut sets) = (BTreeSet::new(), BTreeSet::new());
    for set in table.sets.values() {
        for data in set.elements.values() {
            if let Data::Verdict(verdict) = data {
                chains.extend(verdict_target(verdict));
            }
        }
    }
    for statement in table.chains.values().flat_map(|c| &c.rules).flat_map(|r| &r.statements) {
        match statement {
            Statement::Verdict(verdict) => chains.extend(verdict_target(verdict)),
            Statement::VerdictMap { map, .. } => drop(sets.insert(map)),
            Statement::Match(Match::InSet(_, set, _)) => drop(sets.insert(set)),
            Statement::Dnat(Dnat::Balanced { map, remember, .. }) => {
                sets.insert(map);
                sets.extend(remember.iter().map(|sticky| &sticky.map));
            }
            Statement::Dnat(Dnat::Remembered { sticky, members, .. }) => {
                sets.extend([&sticky.map, members]);
            }
            Statement::Dnat(Dnat::Lookup { map, .. }) => drop(sets.insert(map)),
            _ => {}
        }
    }
    (chains, sets)
}

fn assert_whole(table: &Table) {
    let (chains, sets) = references(table);
    for chain in chains {
        assert!(table.chains.contains_key(chain), "no chain {chain}");
    }
    for set in sets {
        assert!(table.sets.contains_key(set), "no set {set}");
    }
}

fn table<'t>(kernel: &'t mut Ruleset, id: &TableId) -> &'t mut Table {
    kernel.tables.get_mut(id).expect("the table exists")
}

fn carry_out(kernel: &mut Ruleset, changes: &Changes<'_>) {
    for change in &changes.operations {
        match change {
            Change::ReplaceTable(id) => drop(kernel.tables.insert((*id).clone(), Table::default())),
            Change::RemoveTable(id) => drop(kernel.tables.remove(*id).expect("it exists")),
            Change::AddSet(id, name, set) => {
                let empty = Set {
                    elements: Default::default(),
                    ..(*set).clone()
                };
                assert!(table(kernel, id).sets.insert((*name).to_owned(), empty).is_none());
            }
            Change::AddChain(id, name, base) => {
                let empty = Chain {
                    base: *base,
                    rules: Vec::new(),
                };
                assert!(table(kernel, id).chains.insert((*name).to_owned(), empty).is_none());
            }
            Change::FlushChain(id, name) => {
                table(kernel, id)
                    .chains
                    .get_mut(*name)
                    .expect("it exists")
                    .rules
                    .clear();
            }
            Change::RemoveElements(id, name, _, elements) => {
                let set = table(kernel, id).sets.get_mut(*name).expect("it exists");
                for (key, data) in elements {
                    assert_eq!(set.elements.remove(key).as_ref(), Some(*data));
                }
            }
            Change::AddRules(id, name, rules) => {
                let table = table(kernel, id);
                table
                    .chains
                    .get_mut(*name)
                    .expect("it exists")
                    .rules
                    .extend(rules.iter().cloned());
                assert_whole(table);
            }
            Change::AddElements(id, name, _, elements) => {
                let table = table(kernel, id);
                let set = table.sets.get_mut(*name).expect("it exists");
                for (key, data) in elements {
                    assert!(set.elements.insert(*key, (*data).clone()).is_none(), "{key:?} exists");
                }
                assert_whole(table);
            }
            Change::RemoveChain(id, name) => {
                let table = table(kernel, id);
                let gone = table.chains.remove(*name).expect("it exists");
                assert!(gone.rules.is_empty(), "{name} has rules");
                assert_whole(table);
            }
            Change::RemoveSet(id, name) => {
                let table = table(kernel, id);
                table.sets.remove(*name).expect("it exists");
                assert_whole(table);
            }
        }
    }
}

type World = (Vec<Arc<Service>>, Vec<Arc<EndpointSlice>>);

/// Up to four services of all sorts with up to four endpoints.
fn world() -> impl Strategy<Value = World> {
    let endpoint = (1u8..6, 0u8..4, any::<bool>());
    let service = (0u8..4, 0u8..32, proptest::collection::vec(endpoint, 0..5));
    proptest::collection::vec(service, 0..4).prop_map(|services| {
        let (mut found, mut slices) = (Vec::new(), Vec::new());
        for (number, features, endpoints) in services {
            let mut service = svc(&format!("s{number}"), &format!("10.96.1.{number}"));
            if features & 1 != 0 {
                service = service.node_port(30000 + i32::from(number));
            }
            if features & 2 != 0 {
                service = service.external_local();
            }
            if features & 4 != 0 {
                service = service.sticky(None);
            }
            if features & 8 != 0 {
                service = service.balancer("203.0.113.1", None).sources(&["198.51.100.0/24"]);
            }
            if features & 16 != 0 {
                service = service.protocol("UDP");
            }
            found.push(service.done());
            let endpoint = |(last, state, here): (u8, u8, bool)| -> Ep {
                let ep = ep(&format!("10.244.0.{last}")).on(if here { "n1" } else { "n2" });
                match state {
                    0 => ep.unready(),
                    1 => ep.leaving(),
                    _ => ep,
                }
            };
            let protocol = if features & 16 != 0 { "UDP" } else { "TCP" };
            let name = format!("s{number}");
            let endpoints = endpoints.into_iter().map(endpoint).collect();
            slices.push(crate::build::slice_of(&name, &name, protocol, endpoints));
        }
        // One object a name, as in the API.
        found.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        found.dedup_by(|a, b| a.metadata.name == b.metadata.name);
        slices.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        slices.dedup_by(|a, b| a.metadata.name == b.metadata.name);
        (found, slices)
    })
}

proptest! {
    #[test]
    fn differences_lead_from_any_ruleset_to_any_other(old in world(), new in world()) {
        let old = ruleset(&old.0, &old.1, &config());
        let new = ruleset(&new.0, &new.1, &config());
        let mut kernel = Ruleset::default();
        carry_out(&mut kernel, &diff(&Ruleset::default(), &old));
        prop_assert_eq!(&kernel.tables, &old.tables);
        carry_out(&mut kernel, &diff(&old, &new));
        prop_assert_eq!(&kernel.tables, &new.tables);
        prop_assert!(diff(&new, &new.clone()).is_empty(), "a second run does nothing");
        prop_assert_eq!(diff(&old, &new).udp, old.udp != new.udp);
    }
}

#[test]
fn an_update_is_as_large_as_the_change() {
    let services: Vec<_> = (0..500)
        .map(|n| svc(&format!("s{n}"), &format!("10.97.{}.{}", n / 250, n % 250)).done())
        .collect();
    let mut slices: Vec<_> = (0..500)
        .map(|n| slice(&format!("s{n}"), vec![ep("10.244.0.1")]))
        .collect();
    let before = ruleset(&services, &slices, &config());
    slices[250] = slice("s250", vec![ep("10.244.0.1"), ep("10.244.0.2")]);
    let after = ruleset(&services, &slices, &config());
    let changes = diff(&before, &after);
    assert!(changes.size() <= 5, "{:?}", changes.operations);
    slices[250] = slice("s250", vec![]);
    let none = ruleset(&services, &slices, &config());
    assert!(diff(&after, &none).size() <= 10);
}

#[test]
fn another_table_name_replaces_the_table() {
    let old = ruleset(&[], &[], &config());
    let mut cfg = config();
    cfg.table = "other".into();
    let new = ruleset(&[], &[], &cfg);
    let mut kernel = old.clone();
    carry_out(&mut kernel, &diff(&old, &new));
    assert_eq!(kernel.tables, new.tables);
}
