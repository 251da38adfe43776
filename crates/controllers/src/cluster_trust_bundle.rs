//! The API server's authority as a bundle that everybody may mount (upstream
//! `pkg/controller/certificates/clustertrustbundlepublisher`).

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::controller::{Controller, Trigger};
use crate::object::name;
use crate::plan::Plan;
use crate::{Key, Turn, Untyped, UntypedKind, World};

const SIGNER: &str = "kubernetes.io/kube-apiserver-serving";
const BUNDLES: UntypedKind = UntypedKind::ServingTrustBundle;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "kube-apiserver-serving-clustertrustbundle-publisher-controller",
    account: "kube-apiserver-serving-clustertrustbundle-publisher",
    triggers: &[Trigger::Untyped(BUNDLES, always), Trigger::Namespace(at_start)],
    reconcile,
};

fn always(_: &dyn World, _: Option<&Untyped>, _: Option<&Untyped>) -> Vec<Key> {
    vec![Key::new("", SIGNER)]
}

/// There may be no bundle at all yet.
fn at_start(world: &dyn World, old: Option<&Namespace>, new: Option<&Namespace>) -> Vec<Key> {
    match new {
        Some(namespace) if old.is_none() && name(namespace) == "kube-system" => always(world, None, None),
        _ => Vec::new(),
    }
}

/// Publishes the bundle, and removes those of earlier authorities.
pub fn reconcile(world: &dyn World, _: &Key, _: &Turn) -> Plan {
    let mut plan = Plan::nothing();
    let bundle = world.root_ca();
    if bundle.is_empty() {
        return plan;
    }
    let wanted = bundle_name(bundle);
    match world.untyped(BUNDLES).get("", &wanted) {
        None => {
            let mut object = Untyped {
                metadata: ObjectMeta {
                    name: Some(wanted.clone()),
                    ..ObjectMeta::default()
                },
                ..Untyped::default()
            };
            *object.entry("spec") = json!({"signerName": SIGNER, "trustBundle": bundle});
            plan.act(BUNDLES.create(&object));
        }
        Some(object) if object.text("spec.trustBundle") != bundle => {
            let mut changed = (*object).clone();
            changed.entry("spec")["trustBundle"] = bundle.into();
            plan.act(BUNDLES.replace(&changed, ""));
        }
        Some(_) => {}
    }
    for other in world
        .untyped(BUNDLES)
        .list("")
        .iter()
        .filter(|other| name(&***other) != wanted)
    {
        plan.act(BUNDLES.delete(other));
    }
    plan
}

fn bundle_name(bundle: &str) -> String {
    let hash = Sha256::digest(bundle);
    let hex: String = hash[..12].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}:{hex}", SIGNER.replace('/', ":"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Fake;

    fn put(fake: &mut Fake, name: &str, signer: &str, bundle: &str) {
        fake.put(
            "clustertrustbundles",
            json!({"apiVersion": "certificates.k8s.io/v1", "kind": "ClusterTrustBundle", "metadata": {"name": name},
                "spec": {"signerName": signer, "trustBundle": bundle}}),
        );
    }

    fn names(fake: &Fake) -> Vec<String> {
        fake.untyped(BUNDLES)
            .list("")
            .iter()
            .map(|bundle| name(&**bundle).to_owned())
            .collect()
    }

    #[test]
    fn there_is_one_bundle_of_the_present_authority() {
        let mut fake = Fake::new();
        let key = Key::new("", SIGNER);
        fake.settle(reconcile, &key);
        let wanted = bundle_name("PEM");
        // sha256 of "PEM".
        assert!(
            wanted.starts_with("kubernetes.io:kube-apiserver-serving:") && wanted.len() == 37 + 24,
            "{wanted}"
        );
        assert_eq!(names(&fake), std::slice::from_ref(&wanted));
        put(&mut fake, "kubernetes.io:kube-apiserver-serving:old", SIGNER, "OLD");
        put(&mut fake, "example.com:x", "example.com/x", "OTHER");
        put(&mut fake, &wanted, SIGNER, "SPOILT");
        fake.settle(reconcile, &key);
        assert_eq!(names(&fake), std::slice::from_ref(&wanted));
        let bundle = fake.untyped(BUNDLES).get("", &wanted).unwrap();
        assert_eq!(bundle.text("spec.trustBundle"), "PEM");
    }

    #[test]
    fn it_is_published_at_the_start() {
        let mut fake = Fake::new();
        fake.put("namespaces", crate::fake::namespace("kube-system"));
        let system = fake.namespaces().get("", "kube-system").unwrap();
        assert_eq!(at_start(&fake, None, Some(&system)).len(), 1);
        assert_eq!(at_start(&fake, Some(&system), Some(&system)), []);
    }
}
