//! What must hold for any history: pages equal one list, watches equal repeated lists, applies are idempotent and those
//! of different owners commute.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::harness::{Lines, Server, config_map, server};

const PODS: &str = "/api/v1/namespaces/ns/pods";
const MAPS: &str = "/api/v1/namespaces/ns/configmaps";
const MERGE: &str = "application/merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

/// One step of a history.
#[derive(Clone, Debug)]
enum Step {
    /// Creates the object, or changes its label and node.
    Write {
        name: u8,
        label: u8,
        node: u8,
    },
    Delete(u8),
    /// Forgets all old revisions.
    Compact,
}

fn steps(length: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..8_u8, 0..3_u8, 0..3_u8).prop_map(|(name, label, node)| Step::Write { name, label, node }),
        2 => (0..8_u8).prop_map(Step::Delete),
        1 => Just(Step::Compact),
    ];
    prop::collection::vec(step, 1..length)
}

async fn run(server: &Server, step: &Step) {
    match step {
        Step::Write { name, label, node } => {
            let path = format!("{PODS}/p{name}");
            let spec = json!({"nodeName": format!("n{node}"), "containers": [{"name": "c", "image": "i"}]});
            let metadata = json!({"name": format!("p{name}"), "labels": {"l": format!("v{label}")}});
            let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
            if server.post(PODS, &pod).await.code == 409 {
                let patch = json!({"metadata": {"labels": {"l": format!("v{label}")}},
                    "spec": {"nodeName": format!("n{node}")}});
                server.patch(&path, MERGE, &patch).await.expect(200);
            }
        }
        Step::Delete(name) => {
            server.delete(&format!("{PODS}/p{name}?gracePeriodSeconds=0")).await;
        }
        Step::Compact => {
            drop(server.store.compact(server.store.revision()).await);
        }
    }
}

/// Name to resourceVersion.
fn state(list: &Value) -> BTreeMap<String, String> {
    let items = list["items"].as_array().unwrap();
    items
        .iter()
        .map(|item| {
            let text = |field: &str| item["metadata"][field].as_str().unwrap().to_owned();
            (text("name"), text("resourceVersion"))
        })
        .collect()
}

async fn list(server: &Server, query: &str) -> Value {
    server.get(&format!("{PODS}?{query}")).await.expect(200)
}

/// Takes events until the state is at the revision of a last object that tells the end.
async fn replay(watch: &mut Lines, mut known: BTreeMap<String, String>, end: &str) -> BTreeMap<String, String> {
    let mut last = 0;
    loop {
        let event = watch.next().await.expect("the watch goes on");
        let text = |field: &str| event["object"]["metadata"][field].as_str().unwrap_or("").to_owned();
        let (name, revision) = (text("name"), text("resourceVersion"));
        let number: u64 = revision.parse().unwrap();
        assert!(number > last, "events are in order: {event}");
        last = number;
        match event["type"].as_str().unwrap() {
            "ADDED" if name == end => return known,
            "ADDED" => assert_eq!(known.insert(name, revision), None, "it was there: {event}"),
            "MODIFIED" => assert!(known.insert(name, revision).is_some(), "it was not there: {event}"),
            "DELETED" => assert!(known.remove(&name).is_some(), "it was not there: {event}"),
            other => panic!("{other}: {event}"),
        }
    }
}

const SELECTIONS: [&str; 5] = [
    "",
    "labelSelector=l%3Dv1",
    "labelSelector=l+in+(v0,v2)",
    "fieldSelector=spec.nodeName%3Dn1",
    "fieldSelector=spec.nodeName!%3Dn0&labelSelector=l!%3Dv2",
];

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_watch_equals_repeated_lists(before in steps(10), after in steps(30)) {
        block_on(async {
            let server = server().await;
            server.namespace("ns").await;
            for step in &before {
                run(&server, step).await;
            }
            let mut watches = Vec::new();
            for selection in SELECTIONS {
                let first = list(&server, selection).await;
                let revision = first["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
                let watch = server.watch(&format!("{PODS}?watch=1&resourceVersion={revision}&{selection}")).await;
                watches.push((selection, watch, state(&first)));
            }
            for step in &after {
                run(&server, step).await;
            }
            // One that every selection sees.
            let wanted: Vec<_> = {
                let mut all = Vec::new();
                for selection in SELECTIONS {
                    all.push(state(&list(&server, selection).await));
                }
                all
            };
            for (at, (label, node)) in [("v1", "n1"), ("v0", "n1")].into_iter().enumerate() {
                let name = format!("end{at}");
                let pod = json!({"apiVersion": "v1", "kind": "Pod",
                    "metadata": {"name": name, "labels": {"l": label}},
                    "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]}});
                server.post(PODS, &pod).await.expect(201);
            }
            for ((selection, mut watch, known), wanted) in watches.into_iter().zip(wanted) {
                let end = if selection.contains("v0,v2") { "end1" } else { "end0" };
                let seen = replay(&mut watch, known, end).await;
                assert_eq!(seen, wanted, "{selection}");
            }
        });
    }

    #[test]
    fn pages_equal_one_list(before in steps(30), between in prop::collection::vec(steps(4), 8), limit in 1..5_usize) {
        block_on(async {
            let server = server().await;
            server.namespace("ns").await;
            for step in &before {
                run(&server, step).await;
            }
            let whole = list(&server, "").await;
            let mut page = list(&server, &format!("limit={limit}")).await;
            let revision = page["metadata"]["resourceVersion"].clone();
            let mut paged = state(&page);
            let mut between = between.iter();
            while let Some(token) = page["metadata"]["continue"].as_str().map(str::to_owned) {
                assert!(page["items"].as_array().unwrap().len() <= limit);
                for step in between.next().into_iter().flatten() {
                    run(&server, step).await;
                }
                let next = server.get(&format!("{PODS}?limit={limit}&continue={token}")).await;
                if next.code == 410 {
                    // Compacted: the new token leads on, at another revision.
                    let token = next.json()["metadata"]["continue"].as_str().unwrap().to_owned();
                    let rest = list(&server, &format!("continue={token}")).await;
                    assert_ne!(rest["metadata"]["resourceVersion"], revision);
                    return;
                }
                page = next.expect(200);
                assert_eq!(page["metadata"]["resourceVersion"], revision);
                paged.extend(state(&page));
            }
            assert_eq!(paged, state(&whole));
        });
    }

    #[test]
    fn applies_are_idempotent_and_those_of_disjoint_owners_commute(
        one in prop::collection::btree_map("a[a-c]", "[a-z]{1,3}", 1..4),
        other in prop::collection::btree_map("b[a-c]", "[a-z]{1,3}", 1..4),
        label in prop::option::of("[a-z]{1,3}"),
    ) {
        block_on(async {
            let server = server().await;
            server.namespace("ns").await;
            let of_one = config_map("m", &json!(one));
            let mut of_other = config_map("m", &json!(other));
            if let Some(label) = &label {
                of_other["metadata"]["labels"] = json!({"l": label});
            }
            let mut ends = Vec::new();
            for order in [[("one", &of_one), ("other", &of_other)], [("other", &of_other), ("one", &of_one)]] {
                for (owner, config) in order {
                    let path = format!("{MAPS}/m?fieldManager={owner}");
                    let done = server.patch(&path, APPLY, config).await;
                    assert!(matches!(done.code, 200 | 201), "{}", done.text());
                    let again = server.patch(&path, APPLY, config).await.expect(200);
                    assert_eq!(again, done.json(), "an apply that changes nothing writes nothing");
                }
                let mut end = server.get(&format!("{MAPS}/m")).await.expect(200);
                let mut owners: Vec<Value> = end["metadata"]["managedFields"].as_array().unwrap().clone();
                for owner in &mut owners {
                    owner.as_object_mut().unwrap().remove("time");
                }
                owners.sort_by_key(Value::to_string);
                end["metadata"] = json!({"labels": end["metadata"]["labels"], "managedFields": owners});
                ends.push(end);
                server.delete(&format!("{MAPS}/m")).await.expect(200);
            }
            assert_eq!(ends[0], ends[1]);
        });
    }

    #[test]
    fn whoever_gives_up_a_field_removes_it_if_nobody_else_owns_it(
        first in prop::collection::btree_map("[a-c]", "[a-z]", 1..4),
        second in prop::collection::btree_map("[a-c]", "[a-z]", 1..4),
    ) {
        block_on(async {
            let server = server().await;
            server.namespace("ns").await;
            let path = format!("{MAPS}/m?fieldManager=one&force=true");
            server.patch(&path, APPLY, &config_map("m", &json!(first))).await.expect(201);
            let end = server.patch(&path, APPLY, &config_map("m", &json!(second))).await.expect(200);
            assert_eq!(end["data"], json!(second));
        });
    }
}
