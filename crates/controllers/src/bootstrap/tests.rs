use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde_json::{Value, json};

use super::*;
use crate::fake::{Fake, start};

fn secret(id: &str, more: &[(&str, &str)]) -> Value {
    let mut data = json!({});
    let fields = [
        ("token-id", id),
        ("token-secret", "0123456789abcdef"),
        ("usage-bootstrap-signing", "true"),
    ];
    for (name, value) in fields.iter().chain(more) {
        data[name] = STANDARD.encode(value).into();
    }
    json!({"apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token",
        "metadata": {"namespace": "kube-system", "name": format!("bootstrap-token-{id}")}, "data": data})
}

fn cluster() -> (Fake, Key) {
    let mut fake = Fake::new();
    fake.put(
        "configmaps",
        json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"kubeconfig": "payload"},
            "metadata": {"namespace": "kube-public", "name": "cluster-info"}}),
    );
    (fake, Key::new("kube-public", "cluster-info"))
}

fn signatures(fake: &Fake) -> Vec<String> {
    let map = fake.json::<ConfigMap>("kube-public", "cluster-info");
    let names = map["data"].as_object().unwrap().keys();
    names.filter(|name| name.starts_with("jws-")).cloned().collect()
}

#[test]
fn the_map_has_the_signatures_of_the_tokens_that_may_sign() {
    let (mut fake, key) = cluster();
    fake.settle(signer::reconcile, &key);
    assert_eq!(signatures(&fake), Vec::<String>::new());
    let past = api::time::format(start());
    fake.put("secrets", secret("abcdef", &[]));
    fake.put("secrets", secret("noscer", &[("usage-bootstrap-signing", "false")]));
    fake.put("secrets", secret("expire", &[("expiration", &past)]));
    fake.put("secrets", secret("UPPERC", &[]));
    let mut misnamed = secret("other1", &[]);
    misnamed["metadata"]["name"] = json!("bootstrap-token-other2");
    fake.put("secrets", misnamed);
    fake.settle(signer::reconcile, &key);
    assert_eq!(signatures(&fake), ["jws-kubeconfig-abcdef"]);
    // A wrong signature is mended, and one of a token that is gone is removed.
    let changed = json!({"data": {"jws-kubeconfig-abcdef": "wrong", "jws-kubeconfig-gonegn": "old"}});
    fake.change::<ConfigMap>("kube-public", "cluster-info", changed);
    fake.settle(signer::reconcile, &key);
    let map = fake.json::<ConfigMap>("kube-public", "cluster-info");
    let expected = jws::detached("payload", "abcdef", "0123456789abcdef");
    assert_eq!(
        map["data"],
        json!({"kubeconfig": "payload", "jws-kubeconfig-abcdef": expected})
    );
    fake.remove::<Secret>("kube-system", "bootstrap-token-abcdef");
    fake.settle(signer::reconcile, &key);
    assert_eq!(signatures(&fake), Vec::<String>::new());
}

#[test]
fn a_map_without_content_is_left_alone() {
    let (mut fake, key) = cluster();
    fake.change::<ConfigMap>("kube-public", "cluster-info", json!({"data": {"kubeconfig": null}}));
    fake.put("secrets", secret("abcdef", &[]));
    assert!(signer::reconcile(&fake, &key, &fake.turn()).is_empty());
}

#[test]
fn tokens_go_when_they_expire() {
    let mut fake = Fake::new();
    let soon = api::time::format(start().checked_add(jiff::SignedDuration::from_secs(60)).unwrap());
    fake.put("secrets", secret("staying", &[]));
    fake.put("secrets", secret("leaves", &[("expiration", &soon)]));
    fake.put("secrets", secret("broken", &[("expiration", "tomorrow")]));
    let key = |id: &str| Key::new("kube-system", format!("bootstrap-token-{id}"));
    let names = |fake: &Fake| fake.all::<Secret>().len();
    let plan = cleaner::reconcile(&fake, &key("leaves"), &fake.turn());
    assert_eq!(
        (plan.is_empty(), plan.requeue_after),
        (true, Some(jiff::SignedDuration::from_secs(60)))
    );
    for id in ["staying", "leaves", "broken"] {
        fake.settle(cleaner::reconcile, &key(id));
    }
    assert_eq!(names(&fake), 2);
    fake.sleep(60);
    fake.settle(cleaner::reconcile, &key("leaves"));
    assert_eq!(names(&fake), 1);
}
