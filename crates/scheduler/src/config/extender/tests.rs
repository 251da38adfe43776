//! The cases of upstream's extender_test.go and of preemption with extenders.

use std::cell::RefCell;

use jiff::Timestamp;

use super::*;
use crate::cycle::{Attempt, Failure, schedule};
use crate::plugins::default_profile;
use crate::queue::Patience;
use crate::scheduler::{Outcome, Scheduler};
use crate::testing::{node, pod};

fn extender(part: Value) -> Extender {
    let mut whole = json!({"urlPrefix": "http://extender", "filterVerb": "filter", "weight": 1});
    for (key, value) in part.as_object().unwrap() {
        whole[key] = value.clone();
    }
    serde_json::from_value(whole).unwrap()
}

fn cluster() -> Cluster {
    let mut cluster = Cluster::default();
    for name in ["a", "b", "c"] {
        cluster.set_node(node(name).build());
    }
    cluster.settle();
    cluster
}

/// What becomes of a pod; `answer` answers for the extenders.
fn place(
    extenders: &[Extender],
    answer: &dyn Fn(usize, &str, &Value) -> Result<Value, String>,
) -> Result<String, String> {
    let (cluster, profile) = (cluster(), default_profile());
    let attempt = Attempt {
        cluster: &cluster,
        profile: &profile,
        start: 0,
        random: 0,
        now: Timestamp::UNIX_EPOCH,
        timings: None,
    };
    let object = |key: &PodKey| json!({"metadata": {"name": &*key.name}});
    let mut judge = Extenders {
        extenders,
        send: answer,
        object: &object,
    };
    let asking = pod("p").info();
    match schedule(&attempt, &asking, &mut judge) {
        Ok(placement) => Ok(placement.node.to_string()),
        Err(Failure::Error(error)) => Err(format!("error: {error}")),
        Err(Failure::Unfit(verdict, _)) => Err(verdict.message(&asking)),
    }
}

fn nodes(names: &[&str]) -> Value {
    let items: Vec<Value> = names.iter().map(|name| json!({"metadata": {"name": name}})).collect();
    json!({"Nodes": {"items": items}})
}

#[test]
fn extenders_filter_one_after_the_other() {
    let two = [extender(json!({})), extender(json!({"urlPrefix": "http://second"}))];
    let asked = RefCell::new(Vec::new());
    let placed = place(&two, &|number, verb, arguments| {
        let items = arguments["Nodes"]["items"].as_array().unwrap();
        let names: Vec<&str> = items
            .iter()
            .map(|item| item["metadata"]["name"].as_str().unwrap())
            .collect();
        asked.borrow_mut().push(format!(
            "{number} {verb} {} {}",
            arguments["Pod"]["metadata"]["name"],
            names.join("")
        ));
        Ok(nodes(if number == 0 { &["b", "c"] } else { &["c"] }))
    });
    assert_eq!(placed, Ok("c".to_owned()));
    assert_eq!(*asked.borrow(), ["0 filter \"p\" abc", "1 filter \"p\" bc"]);
    let refused = place(&two[..1], &|_, _, _| {
        Ok(
            json!({"Nodes": {"items": []}, "FailedNodes": {"a": "no GPU"}, "FailedAndUnresolvableNodes": {"b": "broken"}}),
        )
    });
    assert_eq!(refused, Err("0/3 nodes are available: 1 broken, 1 no GPU.".to_owned()));
}

#[test]
fn one_that_fails_fails_the_pod_unless_it_is_ignorable() {
    let answers: [&dyn Fn(usize, &str, &Value) -> Result<Value, String>; 3] = [
        &|_, _, _| Err("connection refused".to_owned()),
        &|_, _, _| Ok(json!({"Error": "no mood"})),
        &|_, _, _| Ok(nodes(&["z"])),
    ];
    let stranger =
        "extender \"http://extender\" claims a filtered node \"z\" which is not found in the input node list";
    for (answer, error) in answers.into_iter().zip(["connection refused", "no mood", stranger]) {
        assert_eq!(place(&[extender(json!({}))], answer), Err(format!("error: {error}")));
        assert!(place(&[extender(json!({"ignorable": true}))], answer).is_ok());
    }
}

#[test]
fn names_are_enough_for_one_that_knows_nodes() {
    let placed = place(&[extender(json!({"nodeCacheCapable": true}))], &|_, _, arguments| {
        assert_eq!(
            (&arguments["NodeNames"], &arguments["Nodes"]),
            (&json!(["a", "b", "c"]), &Value::Null)
        );
        Ok(json!({"NodeNames": ["b"]}))
    });
    assert_eq!(placed, Ok("b".to_owned()));
}

#[test]
fn scores_count_by_weight() {
    let two = [
        extender(json!({"filterVerb": "", "prioritizeVerb": "rate", "weight": 1})),
        extender(json!({"filterVerb": "", "prioritizeVerb": "rate", "weight": 5})),
    ];
    let rate = |number: usize, _: &str, _: &Value| {
        let (b, c) = if number == 0 { (10, 0) } else { (0, 3) };
        Ok(json!([{"Host": "a", "Score": 0}, {"Host": "b", "Score": b}, {"Host": "c", "Score": c}]))
    };
    assert_eq!(place(&two, &rate), Ok("c".to_owned()));
    assert_eq!(place(&two[..1], &rate), Ok("b".to_owned()));
    // One that fails has no say.
    let silent = |number: usize, verb: &str, value: &Value| match number {
        1 => Err("gone".to_owned()),
        _ => rate(number, verb, value),
    };
    assert_eq!(place(&two, &silent), Ok("b".to_owned()));
}

#[test]
fn only_pods_that_ask_for_its_resources_are_its_business() {
    let picky = extender(json!({"managedResources": [{"name": "example.com/foo"}]}));
    assert!(place(std::slice::from_ref(&picky), &|_, _, _| Err("asked".to_owned())).is_ok());
    let asking = json!({"containers": [{"name": "c", "resources": {"requests": {"example.com/foo": "1"}}}]});
    assert!(picky.is_interested(&pod("p").json(asking).info()));
}

#[test]
fn extenders_have_a_say_in_evictions() {
    let preempt = |part: Value, answer: Value| {
        let now = Timestamp::UNIX_EPOCH;
        let mut scheduler = Scheduler::new(vec![default_profile()], Patience::default(), 1);
        for name in ["a", "b"] {
            scheduler.set_node(&node(name).cpu("1").build(), now);
            scheduler.set_pod(pod(&format!("on-{name}")).requests("1", "1Mi").on(name).info(), now);
        }
        scheduler.set_pod(pod("p").requests("1", "1Mi").priority(10).info(), now);
        let extenders = [extender(part)];
        let object = |key: &PodKey| json!({"metadata": {"name": &*key.name}});
        let send = |_: usize, verb: &str, arguments: &Value| {
            assert_eq!(verb, "preempt");
            let field = if extenders[0].node_cache_capable {
                "NodeNameToMetaVictims"
            } else {
                "NodeNameToVictims"
            };
            assert_eq!(arguments[field]["a"]["Pods"].as_array().unwrap().len(), 1);
            Ok(json!({"NodeNameToMetaVictims": answer}))
        };
        let mut judge = Extenders {
            extenders: &extenders,
            send: &send,
            object: &object,
        };
        let popped = scheduler.pop(now).unwrap();
        match scheduler.decide(popped, now, &mut judge) {
            Outcome::Unschedulable(report) => match report.victims.first() {
                Some(victim) => victim.key.name.to_string(),
                None => report.message,
            },
            other => panic!("{other:?}"),
        }
    };
    let verbs = json!({"filterVerb": "", "preemptVerb": "preempt"});
    let by_name = json!({"filterVerb": "", "preemptVerb": "preempt", "nodeCacheCapable": true});
    let on_b = json!({"b": {"Pods": [{"UID": "uid-on-b"}], "NumPDBViolations": 0}});
    assert_eq!(preempt(verbs.clone(), on_b.clone()), "on-b");
    assert_eq!(preempt(by_name, on_b), "on-b");
    let nobody = preempt(verbs.clone(), json!({}));
    assert!(
        nobody.starts_with("0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are"),
        "{nobody}"
    );
    let stranger = preempt(verbs.clone(), json!({"a": {"Pods": [{"UID": "uid-on-b"}]}}));
    assert!(
        stranger.contains("claims to preempt pod (UID: uid-on-b) on node: a"),
        "{stranger}"
    );
    let empty = preempt(verbs, json!({"a": {"Pods": []}}));
    assert!(
        empty.contains("expected at least one victim pod on node \"a\""),
        "{empty}"
    );
}
