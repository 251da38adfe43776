//! A `default` service account in every namespace (upstream
//! `pkg/controller/serviceaccount/serviceaccounts_controller.go`).

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::controller::{Controller, Trigger, own_key};
use crate::namespace::is_terminating;
use crate::object::{name, namespace};
use crate::plan::{Action, Plan};
use crate::{Key, Turn, World};

const DEFAULT: &str = "default";

pub(crate) const CONTROLLER: Controller = Controller {
    name: "service-account-controller",
    account: "service-account-controller",
    triggers: &[Trigger::Namespace(own_key), Trigger::ServiceAccount(keys_of_account)],
    reconcile,
};

fn keys_of_account(_: &dyn World, old: Option<&ServiceAccount>, new: Option<&ServiceAccount>) -> Vec<Key> {
    match (old, new) {
        (Some(gone), None) if name(gone) == DEFAULT => vec![Key::new("", namespace(gone))],
        _ => Vec::new(),
    }
}

/// Creates the account where it is missing.
pub fn reconcile(world: &dyn World, key: &Key, _: &Turn) -> Plan {
    let mut plan = Plan::nothing();
    let Some(namespace) = world.namespaces().get("", &key.name) else {
        return plan;
    };
    if is_terminating(&namespace) || world.service_accounts().get(&key.name, DEFAULT).is_some() {
        return plan;
    }
    plan.act(Action::create_if_absent(&ServiceAccount {
        metadata: ObjectMeta {
            name: Some(DEFAULT.to_owned()),
            namespace: Some(key.name.clone()),
            ..ObjectMeta::default()
        },
        ..ServiceAccount::default()
    }));
    plan
}
