use super::*;

/// The graph, by UID.
#[derive(Default)]
struct Fake(Vec<Node>);

impl Graph for Fake {
    fn get(&self, key: &NodeKey) -> Option<Node> {
        self.0.iter().find(|node| node.key() == *key).cloned()
    }
    fn by_uid(&self, uid: &str) -> Option<Node> {
        self.0.iter().find(|node| node.uid == uid).cloned()
    }
    fn dependents(&self, uid: &str) -> Vec<Node> {
        self.0
            .iter()
            .filter(|node| node.owners.iter().any(|owner| owner.uid == uid))
            .cloned()
            .collect()
    }
    fn resource_of(&self, _: &str, kind: &str) -> Option<(Gvr, bool)> {
        (kind == "Pod").then(|| (Gvr::new("", "v1", "pods"), true))
    }
}

fn node(name: &str, owners: &[&str]) -> Node {
    let owner = |uid: &&str| OwnerReference {
        api_version: "v1".into(),
        kind: "Pod".into(),
        name: (*uid).into(),
        uid: (*uid).into(),
        block_owner_deletion: Some(true),
        ..OwnerReference::default()
    };
    Node {
        resource: Gvr::new("", "v1", "pods"),
        kind: "Pod".into(),
        namespace: "ns".into(),
        name: name.into(),
        uid: name.into(),
        resource_version: "1".into(),
        owners: owners.iter().map(owner).collect(),
        ..Node::default()
    }
}

fn deleting(mut node: Node, finalizer: &str) -> Node {
    node.deleting = true;
    node.finalizers.push(finalizer.into());
    node
}

/// What is done about `a`, in words.
fn done(nodes: Vec<Node>) -> Vec<String> {
    let plan = reconcile(&Fake(nodes), &node("a", &[]).key());
    let words = plan.actions().map(|action| {
        let confirmed: Vec<String> = action
            .confirm
            .iter()
            .filter_map(|confirm| match confirm {
                Confirm::Absent(t) | Confirm::Alive(t) => Some(t.name.clone()),
                Confirm::Review { .. } => None,
            })
            .collect();
        let confirmed = if confirmed.is_empty() {
            String::new()
        } else {
            format!(" if {} is absent", confirmed.join(" and "))
        };
        match &action.verb {
            Verb::Delete {
                target, propagation, ..
            } => format!("delete {} {:?}{confirmed}", target.name, propagation.expect("set")),
            Verb::Patch { target, body, .. } => {
                let owners = body["metadata"]["ownerReferences"].as_array();
                let owners: Option<Vec<&str>> = owners.map(|o| o.iter().filter_map(|o| o["uid"].as_str()).collect());
                match body["metadata"].get("finalizers") {
                    Some(left) => format!("{} finalizers {left}", target.name),
                    None => format!("{} owners {:?}{confirmed}", target.name, owners.unwrap_or_default()),
                }
            }
            other => format!("{other:?}"),
        }
    });
    words.collect()
}

#[test]
fn what_is_done_follows_from_the_owners() {
    let b = || node("b", &[]);
    let waiting = || deleting(node("b", &[]), FOREGROUND);
    let cases: Vec<(&str, Vec<Node>, Vec<&str>)> = vec![
        ("an owner exists", vec![node("a", &["b"]), b()], vec![]),
        ("no owner", vec![node("a", &[])], vec![]),
        (
            "gone",
            vec![node("a", &["b"])],
            vec!["delete a Background if b is absent"],
        ),
        (
            "both gone",
            vec![node("a", &["b", "c"])],
            vec!["delete a Background if b and c is absent"],
        ),
        (
            "one of two gone",
            vec![node("a", &["b", "c"]), b()],
            vec!["a owners [\"b\"] if c is absent"],
        ),
        (
            "owner waits",
            vec![node("a", &["b"]), waiting()],
            vec!["delete a Background"],
        ),
        (
            "owner waits, dependents",
            vec![node("a", &["b"]), waiting(), node("c", &["a"])],
            vec!["delete a Foreground"],
        ),
        (
            "a circle",
            vec![node("a", &["b"]), waiting(), deleting(node("c", &["a"]), FOREGROUND)],
            vec!["a owners [\"b\"]", "delete a Foreground"],
        ),
        ("already going", vec![deleting(node("a", &["b"]), "other")], vec![]),
        (
            "orphaning",
            vec![deleting(node("a", &[]), ORPHAN), node("c", &["a", "d"])],
            vec!["c owners [\"d\"]", "a finalizers null"],
        ),
        (
            "waits for a dependent",
            vec![deleting(node("a", &[]), FOREGROUND), node("c", &["a"])],
            vec![],
        ),
        (
            "waits no more",
            vec![deleting(node("a", &[]), FOREGROUND)],
            vec!["a finalizers null"],
        ),
    ];
    for (name, nodes, expected) in cases {
        assert_eq!(done(nodes), expected, "{name}");
    }
}

#[test]
fn an_owner_of_an_unknown_kind_means_nothing() {
    let mut dependent = node("a", &["b"]);
    dependent.owners[0].kind = "Strange".into();
    assert!(done(vec![dependent]).is_empty());
}

#[test]
fn an_owner_in_another_namespace_does_not_count() {
    let mut owner = node("b", &[]);
    owner.namespace = "other".into();
    let plan = reconcile(&Fake(vec![node("a", &["b"]), owner]), &node("a", &[]).key());
    let told = plan
        .actions()
        .next()
        .and_then(|action| action.told.as_ref())
        .and_then(|told| told.success.as_ref());
    assert_eq!(told.map(|text| text.reason), Some("OwnerRefInvalidNamespace"));
    assert_eq!(plan.actions().count(), 2);
}

#[test]
fn changes_concern_owners_and_dependents() {
    let graph = Fake(vec![
        node("a", &["b"]),
        deleting(node("owner", &[]), FOREGROUND),
        node("c", &["owner"]),
    ]);
    let names = |keys: Vec<NodeKey>| keys.into_iter().map(|key| key.name).collect::<Vec<_>>();
    assert_eq!(names(concerned(&graph, Some(&node("b", &[])), None)), ["a"]);
    assert_eq!(names(concerned(&graph, Some(&node("c", &["owner"])), None)), ["owner"]);
    let waits = deleting(node("owner", &[]), FOREGROUND);
    assert_eq!(
        names(concerned(&graph, Some(&node("owner", &[])), Some(&waits))),
        ["owner", "c"]
    );
    assert!(concerned(&graph, None, Some(&node("x", &[]))).is_empty());
}
