//! Bootstrap tokens: they sign what joining machines learn of the cluster, and go when they expire (upstream
//! `pkg/controller/bootstrap`).

mod cleaner;
mod jws;
mod signer;
#[cfg(test)]
mod tests;
mod token;

use crate::controller::{Controller, Trigger, own_key};
use crate::{Key, Untyped, UntypedKind, World};

const MAP: UntypedKind = UntypedKind::ClusterInfo;
const TOKENS: UntypedKind = UntypedKind::BootstrapToken;

pub(crate) const SIGNER: Controller = Controller {
    name: "bootstrap-signer-controller",
    account: "bootstrap-signer",
    triggers: &[Trigger::Untyped(MAP, the_map), Trigger::Untyped(TOKENS, the_map)],
    reconcile: signer::reconcile,
};

pub(crate) const CLEANER: Controller = Controller {
    name: "token-cleaner-controller",
    account: "token-cleaner",
    triggers: &[Trigger::Untyped(TOKENS, own_key)],
    reconcile: cleaner::reconcile,
};

fn the_map(_: &dyn World, _: Option<&Untyped>, _: Option<&Untyped>) -> Vec<Key> {
    vec![Key::new("kube-public", "cluster-info")]
}
