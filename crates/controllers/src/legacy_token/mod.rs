//! Tokens of service accounts that are kept in Secrets (upstream `pkg/controller/serviceaccount`).

mod cleaner;
#[cfg(test)]
mod tests;
mod tokens;

use k8s_openapi::api::core::v1::ServiceAccount;

use crate::controller::{Controller, Trigger, own_key};
use crate::object::{annotation, name, namespace};
use crate::{Key, Untyped, UntypedKind, World};

const SECRETS: UntypedKind = UntypedKind::AccountToken;
const TRACKING: UntypedKind = UntypedKind::LegacyTokenTracking;
const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";

pub(crate) const TOKENS: Controller = Controller {
    name: "serviceaccount-token-controller",
    account: "",
    triggers: &[
        Trigger::Untyped(SECRETS, key_of_secret),
        Trigger::ServiceAccount(keys_of_account),
    ],
    reconcile: tokens::reconcile,
};

pub(crate) const CLEANER: Controller = Controller {
    name: "legacy-serviceaccount-token-cleaner-controller",
    account: "legacy-service-account-token-cleaner",
    triggers: &[
        Trigger::Untyped(SECRETS, own_key),
        Trigger::Untyped(TRACKING, keys_of_all),
    ],
    reconcile: cleaner::reconcile,
};

/// A Secret that is gone is remembered by its account: the key holds both.
fn key_of_secret(_: &dyn World, old: Option<&Untyped>, new: Option<&Untyped>) -> Vec<Key> {
    new.or(old).map(token_key).into_iter().collect()
}

fn token_key(secret: &Untyped) -> Key {
    let of = |key| annotation(secret, key).unwrap_or("");
    let parts = [name(secret), of(ACCOUNT_NAME), of(ACCOUNT_UID)];
    Key::new(namespace(secret), parts.join("/"))
}

/// An account that goes takes its tokens along; one that comes may have been waited for.
fn keys_of_account(world: &dyn World, old: Option<&ServiceAccount>, new: Option<&ServiceAccount>) -> Vec<Key> {
    let uid = |account: &ServiceAccount| account.metadata.uid.clone();
    let Some(account) = new.or(old).filter(|_| old.map(uid) != new.map(uid)) else {
        return Vec::new();
    };
    let secrets = world.untyped(SECRETS).list(namespace(account));
    let own = secrets
        .iter()
        .filter(|secret| annotation(&***secret, ACCOUNT_NAME) == Some(name(account)));
    own.map(|secret| token_key(secret)).collect()
}

fn keys_of_all(world: &dyn World, _: Option<&Untyped>, _: Option<&Untyped>) -> Vec<Key> {
    world
        .untyped(SECRETS)
        .list("")
        .iter()
        .map(|secret| Key::of(&**secret))
        .collect()
}

fn refers_to(account: &ServiceAccount, secret: &str) -> bool {
    let mut references = account.secrets.iter().flatten();
    references.any(|reference| reference.name.as_deref() == Some(secret))
}

/// The account of a Secret, if it is there and the one that is meant.
fn account_of(world: &dyn World, secret: &Untyped) -> Option<std::sync::Arc<ServiceAccount>> {
    let account = annotation(secret, ACCOUNT_NAME).filter(|account| !account.is_empty())?;
    let uid = annotation(secret, ACCOUNT_UID).unwrap_or("");
    let found = world.service_accounts().get(namespace(secret), account)?;
    (uid.is_empty() || crate::object::uid(&*found) == uid).then_some(found)
}
