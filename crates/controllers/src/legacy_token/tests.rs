use k8s_openapi::api::core::v1::{Pod, Secret, ServiceAccount};
use serde_json::{Value, json};

use super::*;
use crate::fake::{Fake, pod, start};

fn account(secrets: &[&str]) -> Value {
    let secrets: Vec<Value> = secrets.iter().map(|name| json!({"name": name})).collect();
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": "ns", "name": "bot"},
        "secrets": secrets})
}

fn secret() -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
        "metadata": {"namespace": "ns", "name": "token", "annotations": {ACCOUNT_NAME: "bot"}}})
}

fn settle(fake: &mut Fake) {
    let secrets = fake.untyped(SECRETS).list("");
    for key in secrets.iter().map(|secret| token_key(secret)) {
        fake.settle(tokens::reconcile, &key);
    }
}

#[test]
fn a_secret_is_filled() {
    let mut fake = Fake::new();
    fake.put("serviceaccounts", account(&[])).put("secrets", secret());
    settle(&mut fake);
    // The key changes with the UID that was noted.
    settle(&mut fake);
    let filled = fake.json::<Secret>("ns", "token");
    assert_eq!(filled["metadata"]["annotations"][ACCOUNT_UID], "uid-bot");
    assert_eq!(
        (&filled["data"]["ca.crt"], &filled["data"]["namespace"]),
        (&json!("UEVN"), &json!("bnM="))
    );
    let token: Value = serde_json::from_str(filled["data"]["token"].as_str().unwrap()).unwrap();
    assert_eq!(token["sub"], "system:serviceaccount:ns:bot");
    assert_eq!(token["kubernetes.io/serviceaccount/secret.name"], "token");
    assert_eq!(token["kubernetes.io/serviceaccount/service-account.uid"], "uid-bot");
}

#[test]
fn what_is_wrong_is_mended_and_the_token_stays() {
    let mut fake = Fake::new();
    let mut secret = secret();
    secret["data"] = json!({"token": "kept", "namespace": "bnM=", "ca.crt": "old", "more": "x"});
    fake.put("serviceaccounts", account(&[])).put("secrets", secret);
    settle(&mut fake);
    let data = &fake.json::<Secret>("ns", "token")["data"];
    assert_eq!(
        *data,
        json!({"token": "kept", "namespace": "bnM=", "ca.crt": "UEVN", "more": "x"})
    );
}

#[test]
fn secrets_go_with_their_account() {
    for uid in [None, Some("uid-of-another")] {
        let mut fake = Fake::new();
        let mut secret = secret();
        if let Some(uid) = uid {
            secret["metadata"]["annotations"][ACCOUNT_UID] = json!(uid);
            fake.put("serviceaccounts", account(&[]));
        }
        fake.put("secrets", secret);
        settle(&mut fake);
        assert!(fake.all::<Secret>().is_empty(), "{uid:?}");
    }
}

#[test]
fn an_account_that_goes_brings_its_secrets_up() {
    let mut fake = Fake::new();
    fake.put("serviceaccounts", account(&[])).put("secrets", secret());
    let gone: ServiceAccount = serde_json::from_value(fake.json::<ServiceAccount>("ns", "bot")).unwrap();
    assert_eq!(
        keys_of_account(&fake, Some(&gone), None),
        [Key::new("ns", "token/bot/")]
    );
    assert_eq!(keys_of_account(&fake, Some(&gone), Some(&gone)), []);
}

#[test]
fn an_account_forgets_a_secret_that_is_gone() {
    let mut fake = Fake::new();
    fake.put("serviceaccounts", account(&["token", "other"]));
    fake.settle(tokens::reconcile, &Key::new("ns", "token/bot/uid-of-another"));
    assert_eq!(
        fake.json::<ServiceAccount>("ns", "bot")["secrets"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    fake.settle(tokens::reconcile, &Key::new("ns", "token/bot/uid-bot"));
    assert_eq!(
        fake.json::<ServiceAccount>("ns", "bot")["secrets"],
        json!([{"name": "other"}])
    );
}

/// A year and two days after tracking began.
fn old_cluster(reference: bool) -> Fake {
    let mut fake = Fake::new();
    let since = start().strftime("%Y-%m-%d").to_string();
    fake.put(
        "configmaps",
        json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"since": since}, "metadata":
            {"namespace": "kube-system", "name": "kube-apiserver-legacy-service-account-token-tracking"}}),
    );
    let references: &[&str] = if reference { &["token"] } else { &[] };
    fake.put("serviceaccounts", account(references))
        .put("secrets", secret());
    fake.sleep(367 * 24 * 3600);
    fake
}

const INVALID: &str = "kubernetes.io/legacy-token-invalid-since";

fn clean(fake: &mut Fake) -> Option<String> {
    fake.settle(cleaner::reconcile, &Key::new("ns", "token"));
    let secret = fake.all::<Secret>().pop()?;
    Some(secret["metadata"]["labels"][INVALID].as_str().unwrap_or("").to_owned())
}

#[test]
fn an_unused_token_is_invalid_first_and_goes_a_year_later() {
    let mut fake = old_cluster(true);
    assert_eq!(clean(&mut fake).as_deref(), Some("2027-01-03"));
    fake.sleep(364 * 24 * 3600);
    assert_eq!(clean(&mut fake).as_deref(), Some("2027-01-03"));
    fake.sleep(2 * 24 * 3600);
    assert_eq!(clean(&mut fake), None);
}

#[test]
fn tokens_that_may_be_in_use_stay() {
    assert_eq!(clean(&mut old_cluster(false)).as_deref(), Some(""), "made by a person");
    let mut used = old_cluster(true);
    let label = |day: &str| json!({"metadata": {"labels": {"kubernetes.io/legacy-token-last-used": day}}});
    used.change::<Secret>("ns", "token", label("2026-06-01"));
    assert_eq!(clean(&mut used).as_deref(), Some(""));
    used.change::<Secret>("ns", "token", label("June"));
    assert_eq!(
        clean(&mut used).as_deref(),
        Some(""),
        "nobody can tell when it was used"
    );
    let mut mounted = old_cluster(true);
    let mut mounting = pod("p", "web", "");
    mounting["spec"]["volumes"] = json!([{"name": "v", "projected": {"sources": [{"secret": {"name": "token"}}]}}]);
    mounted.put("pods", mounting);
    assert_eq!(clean(&mut mounted).as_deref(), Some(""));
    mounted.remove::<Pod>("ns", "p");
    assert_ne!(clean(&mut mounted).as_deref(), Some(""));
    let mut young = old_cluster(true);
    young.now = start();
    assert_eq!(
        clean(&mut young).as_deref(),
        Some(""),
        "uses are not tracked for long enough"
    );
}
