use serde_json::json;

use super::*;

const NOW: &str = "2026-01-01T00:00:00Z";

fn ty() -> TypeRef<'static> {
    crate::builtin().kind("apps", "v1", "Deployment").unwrap()
}

fn writer(manager: &str) -> Writer {
    Writer {
        manager: manager.into(),
        api_version: "apps/v1".into(),
        subresource: String::new(),
    }
}

fn deployment(spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec})
}

fn applied(live: Option<&Value>, manager: &str, spec: Value) -> Result<Value, Vec<Conflict>> {
    apply(
        ty(),
        live,
        &deployment(spec),
        &writer(manager),
        Force::No,
        &[&["status"]],
        NOW,
    )
}

fn containers(list: Value) -> Value {
    json!({"template": {"spec": {"containers": list}}})
}

#[test]
fn fields_are_recorded_as_upstream_writes_them() {
    let object = applied(None, "me", json!({
        "replicas": 2,
        "template": {"spec": {"containers": [{"name": "a", "image": "i", "args": ["x"], "ports": [{"containerPort": 80}]}]}},
    }))
    .unwrap();
    assert_eq!(
        object["metadata"]["managedFields"][0]["fieldsV1"],
        json!({"f:spec": {
            "f:replicas": {},
            "f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"a\"}": {
                ".": {}, "f:name": {}, "f:image": {}, "f:args": {},
                "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}},
            }}}},
        }})
    );
}

#[test]
fn applying_twice_changes_nothing() {
    let spec = json!({"replicas": 2, "template": {"metadata": {"labels": {"a": "b"}}}});
    let once = applied(None, "me", spec.clone()).unwrap();
    assert_eq!(applied(Some(&once), "me", spec).unwrap(), once);
}

#[test]
fn what_is_not_wanted_any_more_goes_unless_others_own_it() {
    let once = applied(None, "me", json!({"replicas": 2, "paused": true})).unwrap();
    let both = applied(Some(&once), "you", json!({"paused": true})).unwrap();
    let less = applied(Some(&both), "me", json!({"minReadySeconds": 1})).unwrap();
    assert_eq!(less["spec"], json!({"paused": true, "minReadySeconds": 1}));
    let config = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}});
    let none = apply(ty(), Some(&less), &config, &writer("you"), Force::No, &[], NOW).unwrap();
    assert_eq!(none["spec"], json!({"minReadySeconds": 1}));
    assert_eq!(none["metadata"]["managedFields"].as_array().unwrap().len(), 1);
}

#[test]
fn elements_of_lists_have_owners() {
    let mine = applied(None, "me", containers(json!([{"name": "a", "image": "1"}]))).unwrap();
    let both = applied(Some(&mine), "you", containers(json!([{"name": "b", "image": "2"}]))).unwrap();
    assert_eq!(
        both["spec"],
        containers(json!([{"name": "a", "image": "1"}, {"name": "b", "image": "2"}]))
    );
    let less = applied(Some(&both), "me", containers(json!([]))).unwrap();
    assert_eq!(less["spec"], containers(json!([{"name": "b", "image": "2"}])));
}

#[test]
fn conflicts_are_told_or_forced() {
    let mine = applied(None, "me", json!({"replicas": 2})).unwrap();
    assert!(
        applied(Some(&mine), "you", json!({"replicas": 2})).is_ok(),
        "the same value is shared"
    );
    let conflicts = applied(Some(&mine), "you", json!({"replicas": 3})).unwrap_err();
    assert_eq!(
        conflicts,
        [Conflict {
            owner: "\"me\"".into(),
            field: ".spec.replicas".into()
        }]
    );
    let config = deployment(json!({"replicas": 3}));
    let forced = apply(ty(), Some(&mine), &config, &writer("you"), Force::Yes, &[], NOW).unwrap();
    assert_eq!(forced["spec"]["replicas"], 3);
    assert_eq!(forced["metadata"]["managedFields"].as_array().unwrap().len(), 1);
}

#[test]
fn updates_take_over_what_they_change() {
    let mine = applied(None, "me", json!({"replicas": 2, "paused": true})).unwrap();
    let mut scaled = mine.clone();
    scaled["spec"]["replicas"] = json!(5);
    update(ty(), Some(&mine), &mut scaled, &writer("kubectl-scale"), NOW);
    let entries = scaled["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(entries[0]["fieldsV1"], json!({"f:spec": {"f:paused": {}}}));
    assert_eq!(entries[1]["fieldsV1"], json!({"f:spec": {"f:replicas": {}}}));
    let conflicts = applied(Some(&scaled), "me", json!({"replicas": 2, "paused": true})).unwrap_err();
    assert_eq!(conflicts[0].owner, "\"kubectl-scale\" using apps/v1");
    let mut same = scaled.clone();
    update(
        ty(),
        Some(&scaled),
        &mut same,
        &writer("someone"),
        "2027-01-01T00:00:00Z",
    );
    assert_eq!(same, scaled, "a write that changes nothing owns nothing");
}

#[test]
fn creation_owns_everything_but_what_the_server_sets() {
    let mut object = deployment(json!({"replicas": 1}));
    object["metadata"]["labels"] = json!({"a": "b"});
    update(ty(), None, &mut object, &writer("creator"), NOW);
    assert_eq!(
        object["metadata"]["managedFields"][0]["fieldsV1"],
        json!({"f:metadata": {"f:labels": {".": {}, "f:a": {}}}, "f:spec": {"f:replicas": {}}})
    );
}

#[test]
fn kubectl_takes_over_what_its_client_side_apply_left_unchanged() {
    const NOTE: &str = "kubectl.kubernetes.io/last-applied-configuration";
    let mut live = deployment(json!({"replicas": 1, "revisionHistoryLimit": 5}));
    let note = deployment(json!({"replicas": 1, "minReadySeconds": 4})).to_string();
    live["metadata"]["annotations"] = json!({NOTE: note});
    update(ty(), None, &mut live, &writer("kubectl-client-side-apply"), NOW);
    let applied = |manager: &str, spec: Value| applied(Some(&live), manager, spec);

    let conflicts = applied("other", json!({"replicas": 2})).unwrap_err();
    assert_eq!(conflicts[0].field, ".spec.replicas");
    let changed = applied("kubectl", json!({"replicas": 2})).unwrap();
    assert_eq!(changed["spec"]["replicas"], 2);
    let note: Value = serde_json::from_str(changed["metadata"]["annotations"][NOTE].as_str().unwrap()).unwrap();
    assert_eq!(note, deployment(json!({"replicas": 2})));
    // What was not applied, or was changed since, is still the other manager's.
    let conflicts = applied("kubectl", json!({"replicas": 2, "revisionHistoryLimit": 6})).unwrap_err();
    assert_eq!(conflicts.len(), 1);
    assert_eq!(conflicts[0].field, ".spec.revisionHistoryLimit");
    // Without the annotation there is nothing to follow, and none is made.
    let fresh = apply(
        ty(),
        None,
        &deployment(json!({"replicas": 2})),
        &writer("kubectl"),
        Force::No,
        &[],
        NOW,
    );
    assert!(fresh.unwrap()["metadata"].get("annotations").is_none());
}

#[test]
fn managed_fields_can_be_written_directly() {
    let mut live = deployment(json!({"replicas": 1}));
    update(ty(), None, &mut live, &writer("kubectl-client-side-apply"), NOW);
    let written = |entries: Value, subresource: &str| {
        let mut new = live.clone();
        new["metadata"]["managedFields"] = entries;
        let writer = Writer {
            subresource: subresource.to_owned(),
            ..writer("me")
        };
        update(ty(), Some(&live), &mut new, &writer, NOW);
        new["metadata"]["managedFields"].clone()
    };
    // As kubectl hands over from client-side to server-side apply.
    let mut handed = live["metadata"]["managedFields"].clone();
    handed[0]["manager"] = json!("kubectl");
    handed[0]["operation"] = json!("Apply");
    assert_eq!(written(handed.clone(), ""), handed);
    assert_eq!(written(handed.clone(), "status"), live["metadata"]["managedFields"]);
    handed[0]["operation"] = json!("Take");
    assert_eq!(written(handed, ""), live["metadata"]["managedFields"]);
    assert_eq!(written(json!([{}]), ""), Value::Null);
}

/// An update by way of whole sets: what [`update`] has to come to.
fn update_by_sets(ty: TypeRef<'_>, live: Option<&Value>, new: &mut Value, writer: &Writer, now: &str) {
    let mut managers = live.map(Managers::read).unwrap_or_default();
    let mut nothing = json!({});
    crate::normalize(ty, &mut nothing);
    let difference = compare(ty, live.unwrap_or(&nothing), new);
    let mut changed = difference.added.union(&difference.modified);
    for path in NEVER_OWNED {
        changed.remove_branch(path);
    }
    let removed = difference.removed;
    if !changed.is_empty() || !removed.is_empty() {
        managers.take_from_others(&writer.update_id(), &changed, &removed);
        let mine = managers.set(&writer.update_id()).difference(&removed).union(&changed);
        managers.put(writer.update_id(), writer, mine, now);
    }
    managers.write(new);
}

/// Pods that differ in every way in which values are divided among owners.
fn pods() -> Vec<Value> {
    let containers = [
        json!(null),
        json!([]),
        json!([{"name": "a", "image": "1", "ports": [{"containerPort": 80}], "args": ["x"]}, {"name": "b"}]),
        json!([{"name": "b", "env": [{"name": "E"}]}, {"name": "a", "image": "2", "ports": [{"containerPort": 80, "protocol": "UDP"}]}]),
    ];
    let metadata = [
        json!({"name": "p"}),
        json!({"name": "p", "labels": {}, "finalizers": ["x/a"]}),
        json!({"name": "p", "labels": {"a": "b", "c": "d"}, "finalizers": ["x/b", "x/a"], "generation": 2}),
        json!({"name": "p", "labels": {"a": "c"}, "ownerReferences": [{"uid": "1", "name": "o"}], "annotations": null}),
    ];
    let status = [
        json!({}),
        json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}),
        json!({"conditions": [{"type": "Other"}, {"type": "Ready", "status": "False"}], "unknown": {"a": 1}}),
    ];
    let mut pods = Vec::new();
    for metadata in &metadata {
        for containers in &containers {
            for status in &status {
                let spec = json!({"containers": containers, "nodeSelector": {"n": status["phase"]}});
                pods.push(
                    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status}),
                );
            }
        }
    }
    pods
}

#[test]
fn updates_come_to_what_whole_sets_say() {
    const LATER: &str = "2026-01-02T00:00:00Z";
    let ty = crate::builtin().kind("", "v1", "Pod").unwrap();
    let check = |live: Option<&Value>, new: &Value, who: &str, now: &str| {
        let (mut fast, mut slow) = (new.clone(), new.clone());
        update(ty, live, &mut fast, &writer(who), now);
        update_by_sets(ty, live, &mut slow, &writer(who), now);
        assert_eq!(fast, slow, "from {live:#?}");
        fast
    };
    let pods = pods();
    for (at, first) in pods.iter().enumerate() {
        let made = check(None, first, "me", NOW);
        let step = check(Some(&made), &pods[(at * 7 + 3) % pods.len()], "you", NOW);
        for last in &pods {
            for who in ["me", "you", "else"] {
                check(Some(&step), last, who, LATER);
            }
        }
    }
}

#[test]
fn elements_that_are_there_twice_have_one_owner() {
    let ty = crate::builtin().kind("", "v1", "Pod").unwrap();
    let containers = json!([{"name": "a", "image": "1"}, {"name": "a", "command": ["2"]}]);
    let mut pod = json!({"metadata": {"name": "p"}, "spec": {"containers": containers}});
    let mut slow = pod.clone();
    update(ty, None, &mut pod, &writer("me"), NOW);
    update_by_sets(ty, None, &mut slow, &writer("me"), NOW);
    assert_eq!(pod, slow);
}

#[test]
fn what_is_null_until_it_is_set_is_not_owned_itself() {
    let ty = crate::builtin().kind("", "v1", "Pod").unwrap();
    let mut pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}]}});
    update(ty, None, &mut pod, &writer("me"), NOW);
    assert_eq!(
        pod["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"],
        json!({"f:containers": {"k:{\"name\":\"a\"}": {".": {}, "f:name": {}}}})
    );
}

#[test]
fn a_set_that_names_the_whole_and_its_parts_gives_up_parts_only() {
    let labelled = json!({"template": {"metadata": {"labels": {"a": "b", "c": "d"}}}});
    let mut live = applied(None, "me", labelled).unwrap();
    // What kubectl writes when it turns client-side apply into server-side apply: an update's set, as an applier's.
    live["metadata"]["managedFields"][0]["fieldsV1"] =
        json!({"f:spec": {"f:template": {"f:metadata": {"f:labels": {".": {}, "f:a": {}, "f:c": {}}}}}});
    let less = applied(
        Some(&live),
        "me",
        json!({"template": {"metadata": {"labels": {"a": "b"}}}}),
    )
    .unwrap();
    assert_eq!(less["spec"], json!({"template": {"metadata": {"labels": {"a": "b"}}}}));
}
