use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::*;
use crate::fake::{self, Fake};

fn pod(name: &str, claim: Value) -> Value {
    let mut pod = fake::pod(name, "web", "");
    let mut claim = claim;
    claim["name"] = json!("gpu");
    pod["spec"]["resourceClaims"] = json!([claim]);
    pod
}

fn from_template(name: &str) -> Value {
    pod(name, json!({"resourceClaimTemplateName": "t"}))
}

fn template() -> Value {
    json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaimTemplate",
        "metadata": {"namespace": "ns", "name": "t"},
        "spec": {"metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}},
            "spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "x"}}]}}}})
}

fn claim(name: &str, consumers: &[(&str, &str)]) -> Value {
    let consumers: Vec<Value> = consumers
        .iter()
        .map(|(name, uid)| json!({"resource": "pods", "name": name, "uid": uid}))
        .collect();
    json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim",
        "metadata": {"namespace": "ns", "name": name, "finalizers": [FINALIZER]}, "spec": {},
        "status": {"allocation": {"devices": {}}, "reservedFor": consumers}})
}

fn cluster(objects: &[(&str, Value)]) -> Fake {
    let mut fake = Fake::new();
    for (resource, object) in objects {
        fake.put(resource, object.clone());
    }
    fake
}

fn settle_claim(fake: &mut Fake, name: &str) {
    fake.settle(reconcile, &Key::new("ns", format!("claim/{name}")));
}

fn get(fake: &Fake, name: &str) -> Option<std::sync::Arc<Untyped>> {
    fake.untyped(CLAIMS).get("ns", name)
}

#[test]
fn a_claim_is_made_from_its_template_and_told() {
    let mut fake = cluster(&[("pods", from_template("p")), ("resourceclaimtemplates", template())]);
    fake.settle(reconcile, &Key::new("ns", "pod/p"));
    let claims = fake.untyped(CLAIMS).list("");
    assert_eq!(claims.len(), 1);
    let made = &claims[0];
    assert_eq!(made.metadata.generate_name.as_deref(), Some("p-gpu-"));
    assert_eq!(owner(made), Some(("p", "uid-p")));
    assert_eq!(made.at("spec"), template()["spec"].get("spec").unwrap());
    assert_eq!(json!(made.metadata.labels), json!({"a": "b"}));
    assert_eq!(
        json!(made.metadata.annotations),
        json!({"c": "d", "resource.kubernetes.io/pod-claim-name": "gpu"})
    );
    let told = &fake.json::<Pod>("ns", "p")["status"]["resourceClaimStatuses"];
    assert_eq!(*told, json!([{"name": "gpu", "resourceClaimName": name(&**made)}]));
    // Deleted by accident, it is made anew; one of that name that is another's is not taken.
    let name = name(&**made).to_owned();
    fake.put("resourceclaims", claim(&name, &[]));
    fake.settle(reconcile, &Key::new("ns", "pod/p"));
    assert_eq!(fake.untyped(CLAIMS).list("").len(), 2);
}

#[test]
fn a_missing_template_is_told() {
    let mut fake = cluster(&[("pods", from_template("p"))]);
    let plan = reconcile(&fake, &Key::new("ns", "pod/p"), &fake.turn());
    fake.execute(&plan);
    let expected = "FailedResourceClaimCreation: PodResourceClaim gpu: resource claim template \"t\": \
                    resourceclaimtemplate.resource.k8s.io \"t\" not found";
    assert_eq!(fake.events, [expected]);
    let template = serde_json::from_value(template()).unwrap();
    assert_eq!(
        keys_of_template(&fake, None, Some(&template)),
        [Key::new("ns", "pod/p")]
    );
}

#[test]
fn long_names_share_what_room_there_is() {
    let mut fake = cluster(&[
        ("pods", from_template(&"p".repeat(200))),
        ("resourceclaimtemplates", template()),
    ]);
    fake.settle(reconcile, &Key::new("ns", format!("pod/{}", "p".repeat(200))));
    let claims = fake.untyped(CLAIMS).list("");
    assert_eq!(claims[0].metadata.generate_name, Some(format!("{}-", "p".repeat(55))));
}

#[test]
fn pods_that_need_nothing_are_left_alone() {
    let mut unneeded = from_template("unneeded");
    unneeded["status"]["resourceClaimStatuses"] = json!([{"name": "gpu"}]);
    let mut going = from_template("going");
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let given = pod("given", json!({"resourceClaimName": "c"}));
    let fake = cluster(&[
        ("pods", unneeded),
        ("pods", going),
        ("pods", given),
        ("resourceclaimtemplates", template()),
    ]);
    for name in ["unneeded", "going", "given"] {
        assert!(
            reconcile(&fake, &Key::new("ns", format!("pod/{name}")), &fake.turn()).is_empty(),
            "{name}"
        );
    }
}

#[test]
fn a_pod_that_was_bound_by_others_gets_its_reservation() {
    let bound = fake::ready(pod("p", json!({"resourceClaimName": "c"})), "n", "10.0.0.1");
    let mut fake = cluster(&[("pods", bound), ("resourceclaims", claim("c", &[("q", "uid-q")]))]);
    fake.settle(reconcile, &Key::new("ns", "pod/p"));
    let consumers = get(&fake, "c").unwrap().list("status.reservedFor").to_vec();
    assert_eq!(consumers[1], json!({"resource": "pods", "name": "p", "uid": "uid-p"}));
    // Without an allocation there is nothing to reserve.
    let mut unallocated = claim("c", &[]);
    unallocated["status"] = json!({});
    fake.put("resourceclaims", unallocated);
    assert!(reconcile(&fake, &Key::new("ns", "pod/p"), &fake.turn()).is_empty());
}

#[test]
fn consumers_that_are_gone_or_done_are_forgotten() {
    let running = fake::ready(pod("running", json!({"resourceClaimName": "c"})), "n", "10.0.0.1");
    let mut done = running.clone();
    (done["metadata"]["name"], done["status"]["phase"]) = (json!("done"), json!("Succeeded"));
    let mut unscheduled = pod("unscheduled", json!({"resourceClaimName": "c"}));
    unscheduled["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let table: [(&[(&str, &str)], usize); 4] = [
        (
            &[
                ("running", "uid-running"),
                ("done", "uid-done"),
                ("unscheduled", "uid-unscheduled"),
            ],
            1,
        ),
        (&[("running", "uid-of-before")], 0),
        (&[("gone", "uid-gone"), ("running", "uid-running")], 1),
        (&[("running", "uid-running")], 1),
    ];
    for (consumers, left) in table {
        let mut fake = cluster(&[
            ("pods", running.clone()),
            ("pods", done.clone()),
            ("pods", unscheduled.clone()),
            ("resourceclaims", claim("c", consumers)),
        ]);
        settle_claim(&mut fake, "c");
        let found = get(&fake, "c").unwrap();
        assert_eq!(found.list("status.reservedFor").len(), left, "{consumers:?}");
        // With the last consumer go the allocation and the finalizer.
        assert_eq!(found.at("status.allocation").is_null(), left == 0, "{consumers:?}");
        assert_eq!(
            found.metadata.finalizers.iter().flatten().count(),
            left,
            "{consumers:?}"
        );
    }
}

#[test]
fn an_unused_claim_stays_as_it_is_until_it_is_deleted() {
    let mut fake = cluster(&[("resourceclaims", claim("c", &[]))]);
    assert!(reconcile(&fake, &Key::new("ns", "claim/c"), &fake.turn()).is_empty());
    // The scheduler adds the finalizer before the allocation.
    let mut young = claim("young", &[]);
    young["status"] = json!({});
    fake.put("resourceclaims", young);
    assert!(reconcile(&fake, &Key::new("ns", "claim/young"), &fake.turn()).is_empty());
    let mut going = claim("c", &[]);
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    fake.put("resourceclaims", going);
    settle_claim(&mut fake, "c");
    let left = get(&fake, "c").unwrap();
    assert!(left.at("status.allocation").is_null() && left.metadata.finalizers.iter().flatten().count() == 0);
}

#[test]
fn a_claim_of_a_pod_goes_when_the_pod_is_done() {
    for (phase, uid, left) in [
        ("Running", "uid-p", 1),
        ("Failed", "uid-p", 0),
        ("Running", "uid-before", 0),
    ] {
        let mut pod = fake::ready(from_template("p"), "n", "10.0.0.1");
        pod["status"]["phase"] = json!(phase);
        let mut own = claim("c", &[]);
        own["status"] = json!({});
        own["metadata"]["ownerReferences"] =
            json!([{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid, "controller": true}]);
        let mut fake = cluster(&[("pods", pod), ("resourceclaims", own)]);
        settle_claim(&mut fake, "c");
        assert_eq!(fake.untyped(CLAIMS).list("").len(), left, "{phase} {uid}");
    }
}

#[test]
fn changes_concern_pods_and_claims() {
    let mut done = fake::ready(pod("p", json!({"resourceClaimName": "c"})), "n", "10.0.0.1");
    let typed = |pod: &Value| serde_json::from_value::<Pod>(pod.clone()).unwrap();
    let fake = cluster(&[("pods", done.clone()), ("resourceclaims", claim("c", &[]))]);
    assert_eq!(keys_of_pod(&fake, None, Some(&typed(&done))), [Key::new("ns", "pod/p")]);
    assert_eq!(
        keys_of_pod(&fake, Some(&typed(&done)), None),
        [Key::new("ns", "claim/c")]
    );
    done["status"]["phase"] = json!("Failed");
    assert_eq!(
        keys_of_pod(&fake, None, Some(&typed(&done))),
        [Key::new("ns", "claim/c"), Key::new("ns", "pod/p")]
    );
    let claim = get(&fake, "c").unwrap();
    assert_eq!(
        keys_of_claim(&fake, None, Some(&claim)),
        [Key::new("ns", "claim/c"), Key::new("ns", "pod/p")]
    );
    assert_eq!(keys_of_claim(&fake, Some(&claim), None), [Key::new("ns", "pod/p")]);
    let mut other = fake::pod("q", "web", "");
    other["status"]["phase"] = json!("Failed");
    assert_eq!(keys_of_pod(&fake, None, Some(&typed(&other))), []);
}
