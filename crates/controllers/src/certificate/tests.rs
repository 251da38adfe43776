use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::SignedDuration;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use rcgen::string::Ia5String;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};
use serde_json::{Value, json};

use super::*;
use crate::Key;
use crate::fake::{Fake, start};

const KUBELET: &[&str] = &["digital signature", "client auth"];

fn pem(common_name: &str, organization: &str, names: &[SanType]) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    if !organization.is_empty() {
        params.distinguished_name.push(DnType::OrganizationName, organization);
    }
    params.subject_alt_names = names.to_vec();
    params
        .serialize_request(&KeyPair::generate().unwrap())
        .unwrap()
        .pem()
        .unwrap()
}

fn object(signer: &str, pem: &str, usages: &[&str]) -> Value {
    json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": "r"},
        "spec": {"signerName": signer, "request": STANDARD.encode(pem), "usages": usages,
            "username": "system:node:n", "groups": ["system:nodes"]},
    })
}

fn cluster(object: Value) -> Fake {
    let mut fake = Fake::new();
    fake.put("certificatesigningrequests", object);
    fake
}

fn status(fake: &Fake) -> Value {
    fake.json::<CertificateSigningRequest>("", "r")["status"].clone()
}

fn key() -> Key {
    Key::new("", "r")
}

fn approved(mut object: Value) -> Value {
    object["status"] = json!({"conditions": [{"type": "Approved", "status": "True"}]});
    object
}

#[test]
fn node_agents_are_approved_if_they_may() {
    let own = || object(KUBELET_CLIENT, &pem("system:node:n", "system:nodes", &[]), KUBELET);
    let of_another = || object(KUBELET_CLIENT, &pem("system:node:m", "system:nodes", &[]), KUBELET);
    let own_words = "Auto approving self kubelet client certificate after SubjectAccessReview.";
    let words = "Auto approving kubelet client certificate after SubjectAccessReview.";
    type May = &'static [&'static str];
    let table: [(Value, May, &str); 7] = [
        (own(), &["selfnodeclient"], own_words),
        (own(), &["selfnodeclient", "nodeclient"], own_words),
        (own(), &["nodeclient"], words),
        (own(), &[], ""),
        (of_another(), &["nodeclient"], words),
        (of_another(), &["selfnodeclient"], ""),
        (
            object(CLIENT, &pem("system:node:n", "system:nodes", &[]), KUBELET),
            &["selfnodeclient", "nodeclient"],
            "",
        ),
    ];
    for (object, may, message) in table {
        let mut fake = cluster(object);
        fake.may = may.to_vec();
        let plan = approver::reconcile(&fake, &key(), &fake.turn());
        fake.execute(&plan);
        let status = status(&fake);
        if message.is_empty() {
            assert!(status.is_null(), "{may:?} {status}");
            continue;
        }
        let expected = json!([{"type": "Approved", "status": "True", "reason": "AutoApproved", "message": message}]);
        assert_eq!(status["conditions"], expected, "{may:?}");
        fake.settle(approver::reconcile, &key());
    }
}

#[test]
fn whoever_may_not_is_asked_about_less_and_less() {
    let mut fake = cluster(object(
        KUBELET_CLIENT,
        &pem("system:node:n", "system:nodes", &[]),
        KUBELET,
    ));
    for (age, wait) in [(0, 1), (2, 2), (30, 30), (5000, 1000)] {
        fake.now = start().checked_add(SignedDuration::from_secs(age)).unwrap();
        let plan = approver::reconcile(&fake, &key(), &fake.turn());
        assert_eq!(plan.requeue_after, Some(SignedDuration::from_secs(wait)));
    }
}

#[test]
fn decided_requests_are_not_approved_again() {
    for kind in ["Approved", "Denied"] {
        let mut object = object(KUBELET_CLIENT, &pem("system:node:n", "system:nodes", &[]), KUBELET);
        object["status"] = json!({"conditions": [{"type": kind, "status": "True"}]});
        let fake = cluster(object);
        assert_eq!(approver::reconcile(&fake, &key(), &fake.turn()), crate::Plan::nothing());
    }
}

#[test]
fn approved_requests_are_signed() {
    let serving = &["digital signature", "key encipherment", "server auth"];
    let dns = [SanType::DnsName(Ia5String::try_from("n.example").unwrap())];
    let year = "PT8760H";
    let table: [(&str, String, &[&str], Option<i64>, &str); 6] = [
        (CLIENT, pem("jane", "dev", &[]), &["client auth"], None, year),
        (
            CLIENT,
            pem("jane", "", &dns),
            &["client auth", "key encipherment"],
            Some(3600),
            "PT1H",
        ),
        (CLIENT, pem("jane", "", &[]), &["client auth"], Some(60), "PT10M"),
        (CLIENT, pem("jane", "", &[]), &["client auth"], Some(1 << 40), year),
        (
            KUBELET_CLIENT,
            pem("system:node:n", "system:nodes", &[]),
            KUBELET,
            None,
            year,
        ),
        (
            KUBELET_SERVING,
            pem("system:node:n", "system:nodes", &dns),
            serving,
            None,
            year,
        ),
    ];
    for (signer, pem, usages, seconds, lifetime) in table {
        let mut object = approved(object(signer, &pem, usages));
        if let Some(seconds) = seconds {
            object["spec"]["expirationSeconds"] = json!(seconds.min(i32::MAX.into()));
        }
        let mut fake = cluster(object);
        fake.settle(signer::reconcile, &key());
        assert_eq!(status(&fake)["certificate"], format!("{usages:?} {lifetime}"));
    }
}

#[test]
fn what_a_signer_does_not_sign_fails() {
    let node = |names: &[SanType]| pem("system:node:n", "system:nodes", names);
    let dns = [SanType::DnsName(Ia5String::try_from("n").unwrap())];
    let email = [dns[0].clone(), SanType::Rfc822Name(Ia5String::try_from("a@b").unwrap())];
    let uri = [dns[0].clone(), SanType::URI(Ia5String::try_from("https://b").unwrap())];
    let ip = [SanType::IpAddress([10, 0, 0, 1].into())];
    let serving: &[&str] = &["digital signature", "server auth"];
    let table: [(&str, String, &[&str], &str); 11] = [
        (
            CLIENT,
            node(&[]),
            &["client auth", "server auth"],
            "invalid usage for client certificate: server auth",
        ),
        (
            CLIENT,
            node(&[]),
            &["digital signature"],
            "missing required usage for client certificate: client auth",
        ),
        (
            KUBELET_CLIENT,
            pem("system:node:n", "other", &[]),
            KUBELET,
            "subject organization is not system:nodes",
        ),
        (
            KUBELET_CLIENT,
            node(&dns),
            KUBELET,
            "DNS subjectAltNames are not allowed",
        ),
        (KUBELET_CLIENT, node(&ip), KUBELET, "IP subjectAltNames are not allowed"),
        (
            KUBELET_CLIENT,
            pem("n", "system:nodes", &[]),
            KUBELET,
            "subject common name does not begin with system:node:",
        ),
        (
            KUBELET_CLIENT,
            node(&[]),
            serving,
            "usages did not match [client auth digital signature key encipherment]",
        ),
        (
            KUBELET_SERVING,
            node(&[]),
            serving,
            "DNS or IP subjectAltName is required",
        ),
        (
            KUBELET_SERVING,
            node(&email),
            serving,
            "Email subjectAltNames are not allowed",
        ),
        (
            KUBELET_SERVING,
            node(&uri),
            serving,
            "URI subjectAltNames are not allowed",
        ),
        (
            KUBELET_SERVING,
            node(&dns),
            KUBELET,
            "usages did not match [digital signature key encipherment server auth]",
        ),
    ];
    for (signer, pem, usages, message) in table {
        let mut fake = cluster(approved(object(signer, &pem, usages)));
        fake.settle(signer::reconcile, &key());
        let condition = &status(&fake)["conditions"][1];
        assert_eq!(
            (&condition["type"], &condition["reason"], &condition["message"]),
            (&json!("Failed"), &json!("SignerValidationFailure"), &json!(message))
        );
    }
}

#[test]
fn others_requests_and_undecided_ones_are_left_alone() {
    let text = pem("jane", "", &[]);
    let mut denied = approved(object(CLIENT, &text, &["client auth"]));
    let verdicts = denied["status"]["conditions"].as_array_mut().unwrap();
    verdicts.push(json!({"type": "Denied", "status": "True"}));
    let others = approved(object("example.com/signer", &text, &["client auth"]));
    let garbage = approved(object(CLIENT, "garbage", &["client auth"]));
    for object in [object(CLIENT, &text, &["client auth"]), denied, others, garbage] {
        let fake = cluster(object);
        assert!(signer::reconcile(&fake, &key(), &fake.turn()).is_empty());
    }
}

#[test]
fn requests_go_when_they_are_done_with() {
    let at = api::time::format(start());
    let condition = |kind: &str| json!({"conditions": [{"type": kind, "status": "True", "lastUpdateTime": at}]});
    let mut issued = condition("Approved");
    issued["certificate"] = json!("eA==");
    let mut short = condition("Approved");
    short["conditions"][0]["lastUpdateTime"] = json!("2027-01-01T00:00:00Z");
    short["certificate"] = STANDARD.encode(short_lived()).into();
    let (hour, day) = (3600, 24 * 3600);
    let table = [
        (json!(null), day),
        (condition("Denied"), hour),
        (condition("Failed"), hour),
        (issued, hour),
        (short, 600),
    ];
    for (status, lifetime) in table {
        let mut object = object(CLIENT, "", &[]);
        object["status"] = status.clone();
        let mut fake = cluster(object);
        fake.sleep(lifetime);
        let plan = cleaner::reconcile(&fake, &key(), &fake.turn());
        assert_eq!(
            (plan.is_empty(), plan.requeue_after),
            (true, Some(SignedDuration::from_secs(1))),
            "{status}"
        );
        fake.sleep(1);
        fake.settle(cleaner::reconcile, &key());
        assert!(fake.all::<CertificateSigningRequest>().is_empty(), "{status}");
    }
    // Approved, and not signed yet: it waits.
    let mut object = object(CLIENT, "", &[]);
    object["status"] = condition("Approved");
    let mut fake = cluster(object);
    fake.sleep(30 * day);
    assert_eq!(cleaner::reconcile(&fake, &key(), &fake.turn()), crate::Plan::nothing());
}

/// A certificate of the first ten minutes.
fn short_lived() -> String {
    let mut params = CertificateParams::default();
    params.not_before = rcgen::date_time_ymd(2025, 12, 31);
    params.not_after = rcgen::date_time_ymd(2026, 1, 1) + std::time::Duration::from_secs(600);
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
}
