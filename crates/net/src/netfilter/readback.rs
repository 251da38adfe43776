//! What the kernel has of a table, and whether it is what we wrote.

use std::collections::{BTreeMap, BTreeSet};

use proxy::{Ruleset, SetMode, Table, TableId};

use super::attribute::{Attributes, Reader};
use super::batch::{Learned, family_number, hook_number, rule_comment};
use super::key::{data_attributes, key_value};
use super::socket::Socket;
use super::{NetfilterError, expression};

const SUBSYSTEM: u16 = 10 << 8;
const GET_CHAIN: u16 = SUBSYSTEM | 4;
const GET_RULE: u16 = SUBSYSTEM | 7;
const GET_SET: u16 = SUBSYSTEM | 10;
const GET_ELEMENT: u16 = SUBSYSTEM | 13;

/// Whether the kernel holds exactly this ruleset's tables (dynamic maps' content aside).
pub(crate) fn intact(socket: &mut Socket, ruleset: &Ruleset) -> Result<bool, NetfilterError> {
    for (id, table) in &ruleset.tables {
        let same = match table_intact(socket, id, table) {
            Ok(same) => same,
            // No such table.
            Err(NetfilterError::Dump { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}

fn table_intact(socket: &mut Socket, id: &TableId, table: &Table) -> Result<bool, NetfilterError> {
    if chains(socket, id)? != expected_chains(table)
        || rules(socket, id)? != expected_rules(id, table)
        || sets(socket, id)? != table.sets.keys().cloned().collect()
    {
        return Ok(false);
    }
    for (name, set) in table.sets.iter().filter(|(_, set)| set.mode == SetMode::Static) {
        let mut expected: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        for (key, data) in &set.elements {
            let data = data_attributes(data).map(|data| canonical(&data.0)).unwrap_or_default();
            expected.insert(key_value(key), data);
        }
        let mut found = BTreeMap::new();
        elements(socket, id, name, |element| {
            if let Some(key) = element.nested(1).and_then(|key| key.find(1)) {
                let data = element.find(2).map(canonical).unwrap_or_default();
                found.insert(key.to_vec(), data);
            }
        })?;
        if found != expected {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A value or verdict without the framing, whose flags differ between writing and reading.
fn canonical(data: &[u8]) -> Vec<u8> {
    let reader = Reader(data);
    if let Some(value) = reader.find(1) {
        return value.to_vec();
    }
    let Some(verdict) = reader.nested(2) else {
        return Vec::new();
    };
    let mut bytes = verdict.find(1).unwrap_or_default().to_vec();
    bytes.extend_from_slice(verdict.text(2).unwrap_or_default().as_bytes());
    bytes
}

type Hooks = BTreeMap<String, Option<(u32, i32)>>;

fn expected_chains(table: &Table) -> Hooks {
    let hook = |chain: &proxy::Chain| chain.base.map(|base| (hook_number(base.hook), base.priority));
    table
        .chains
        .iter()
        .map(|(name, chain)| (name.clone(), hook(chain)))
        .collect()
}

fn chains(socket: &mut Socket, id: &TableId) -> Result<Hooks, NetfilterError> {
    let mut found = Hooks::new();
    // Chains are listed by family, so the table is told apart here.
    socket.dump("chains", GET_CHAIN, family_number(id.family), &[], |chain| {
        if chain.text(1) != Some(&id.name) {
            return;
        }
        let hook = chain.nested(4).and_then(|hook| {
            let priority = hook.u32(2)?;
            Some((hook.u32(1)?, i32::from_ne_bytes(priority.to_ne_bytes())))
        });
        found.insert(chain.text(3).unwrap_or_default().to_owned(), hook);
    })?;
    Ok(found)
}

/// Each chain's rules by their comments, in order.
type Comments = BTreeMap<String, Vec<Vec<u8>>>;

fn expected_rules(id: &TableId, table: &Table) -> Comments {
    let comments = |chain: &proxy::Chain| -> Vec<Vec<u8>> {
        let comment = |rule| rule_comment(&expression::rule(rule, id.family));
        chain.rules.iter().map(comment).collect()
    };
    let filled = table.chains.iter().filter(|(_, chain)| !chain.rules.is_empty());
    filled.map(|(name, chain)| (name.clone(), comments(chain))).collect()
}

fn rules(socket: &mut Socket, id: &TableId) -> Result<Comments, NetfilterError> {
    let mut found = Comments::new();
    let table = Attributes::new().text(1, &id.name);
    socket.dump("rules", GET_RULE, family_number(id.family), &table.0, |rule| {
        // Old kernels ignore the filter.
        if rule.text(1) == Some(&id.name) {
            let chain = rule.text(2).unwrap_or_default().to_owned();
            found
                .entry(chain)
                .or_default()
                .push(rule.find(7).unwrap_or_default().to_vec());
        }
    })?;
    Ok(found)
}

fn sets(socket: &mut Socket, id: &TableId) -> Result<BTreeSet<String>, NetfilterError> {
    let mut found = BTreeSet::new();
    let table = Attributes::new().text(1, &id.name);
    socket.dump("sets", GET_SET, family_number(id.family), &table.0, |set| {
        if set.text(1) == Some(&id.name) {
            found.insert(set.text(2).unwrap_or_default().to_owned());
        }
    })?;
    Ok(found)
}

fn elements(
    socket: &mut Socket,
    id: &TableId,
    set: &str,
    mut each: impl FnMut(Reader<'_>),
) -> Result<(), NetfilterError> {
    let request = Attributes::new().text(1, &id.name).text(2, set);
    socket.dump(
        "set elements",
        GET_ELEMENT,
        family_number(id.family),
        &request.0,
        |answer| {
            for (_, element) in answer.nested(3).into_iter().flatten() {
                each(Reader(element));
            }
        },
    )
}

/// What packets have put into a map; nothing if there is no such map.
pub(crate) fn learned(socket: &mut Socket, id: &TableId, set: &str) -> Result<Vec<Learned>, NetfilterError> {
    let mut found = Vec::new();
    let listed = elements(socket, id, set, |element| {
        let key = element.nested(1).and_then(|key| key.find(1));
        let data = element.nested(2).and_then(|data| data.find(1));
        if let (Some(key), Some(data)) = (key, data) {
            found.push(Learned {
                key: key.to_vec(),
                data: data.to_vec(),
                timeout: element.u64(4).unwrap_or(0),
                expires: element.u64(5).unwrap_or(0),
            });
        }
    });
    match listed {
        Err(NetfilterError::Dump { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
        Ok(()) => Ok(found),
    }
}
