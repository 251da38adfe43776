//! The API server's authority in every namespace, for the volumes of service-account tokens
//! (upstream `pkg/controller/certificates/rootcacertpublisher`).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::controller::{Controller, Trigger, own_key};
use crate::namespace::is_terminating;
use crate::object::{annotation, namespace};
use crate::plan::{Action, Plan};
use crate::{Key, Turn, World};

const NAME: &str = "kube-root-ca.crt";
const FILE: &str = "ca.crt";
const DESCRIPTION_KEY: &str = "kubernetes.io/description";
const DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";

pub(crate) const CONTROLLER: Controller = Controller {
    name: "root-ca-cert-publisher",
    account: "root-ca-cert-publisher",
    triggers: &[Trigger::Namespace(own_key), Trigger::RootCaMap(keys_of_map)],
    reconcile,
};

fn keys_of_map(_: &dyn World, old: Option<&ConfigMap>, new: Option<&ConfigMap>) -> Vec<Key> {
    new.or(old)
        .map(|map| Key::new("", namespace(map)))
        .into_iter()
        .collect()
}

/// Creates or mends the map.
pub fn reconcile(world: &dyn World, key: &Key, _: &Turn) -> Plan {
    let mut plan = Plan::nothing();
    let Some(namespace) = world.namespaces().get("", &key.name) else {
        return plan;
    };
    if is_terminating(&namespace) {
        return plan;
    }
    let data = BTreeMap::from([(FILE.to_owned(), world.root_ca().to_owned())]);
    let annotations = BTreeMap::from([(DESCRIPTION_KEY.to_owned(), DESCRIPTION.to_owned())]);
    match world.root_ca_maps().get(&key.name, NAME) {
        None => plan.act(Action::create(&ConfigMap {
            metadata: ObjectMeta {
                name: Some(NAME.to_owned()),
                namespace: Some(key.name.clone()),
                annotations: Some(annotations),
                ..ObjectMeta::default()
            },
            data: Some(data),
            ..ConfigMap::default()
        })),
        Some(map) if map.data.as_ref() == Some(&data) && annotation(&*map, DESCRIPTION_KEY) == Some(DESCRIPTION) => {}
        // Upstream's role for this allows no patch.
        Some(map) => {
            let mut map = (*map).clone();
            map.metadata.annotations.get_or_insert_default().extend(annotations);
            map.data = Some(data);
            plan.act(Action::replace(&map));
        }
    }
    plan
}
