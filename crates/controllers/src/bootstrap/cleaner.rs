//! Deletes tokens that have expired (`tokencleaner.go`).

use super::TOKENS;
use super::token::{Life, life};
use crate::plan::Plan;
use crate::{Key, Turn, World};

/// Deletes one token when its time has come.
pub(super) fn reconcile(world: &dyn World, key: &Key, turn: &Turn) -> Plan {
    let mut plan = Plan::nothing();
    if let Some(secret) = world.untyped(TOKENS).get(&key.namespace, &key.name) {
        match life(&secret, turn.now) {
            Life::Over => plan.act(TOKENS.delete(&secret)),
            Life::Left(left) => plan.look_again(left),
            Life::Endless => {}
        }
    }
    plan
}
