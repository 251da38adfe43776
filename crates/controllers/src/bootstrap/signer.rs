//! Signs the ConfigMap `cluster-info` with every token that may (`bootstrapsigner.go`).

use std::collections::BTreeMap;

use super::{MAP, TOKENS, jws, token};
use crate::plan::Plan;
use crate::{Key, Turn, World};

const CONTENT: &str = "kubeconfig";
const PREFIX: &str = "jws-kubeconfig-";

/// Adds, mends and removes signatures.
pub(super) fn reconcile(world: &dyn World, key: &Key, turn: &Turn) -> Plan {
    let mut plan = Plan::nothing();
    let Some(map) = world.untyped(MAP).get(&key.namespace, &key.name) else {
        return plan;
    };
    let Some(content) = map.at("data").get(CONTENT).and_then(|content| content.as_str()) else {
        return plan;
    };
    let tokens = world.untyped(TOKENS).list("");
    let wanted: BTreeMap<String, String> = tokens
        .iter()
        .filter_map(|secret| token::for_signing(secret, turn.now))
        .map(|(id, secret)| (format!("{PREFIX}{id}"), jws::detached(content, &id, &secret)))
        .collect();
    let data = map.at("data").as_object();
    let present = data.into_iter().flatten().filter(|(name, _)| name.starts_with(PREFIX));
    let same = present.clone().count() == wanted.len()
        && present
            .clone()
            .all(|(name, value)| wanted.get(name).is_some_and(|wanted| *value == **wanted));
    if same {
        return plan;
    }
    let mut changed = (*map).clone();
    if let Some(data) = changed.entry("data").as_object_mut() {
        data.retain(|name, _| !name.starts_with(PREFIX));
        data.extend(wanted.into_iter().map(|(name, value)| (name, value.into())));
    }
    plan.act(MAP.replace(&changed, ""));
    plan
}
