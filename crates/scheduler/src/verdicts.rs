//! What the scheduler last said of each pending pod, as JSON for people and programs to read.
//!
//! `{namespace, name, uid, queue, attempts, nodes, message, groups}`: the queue in which the pod waits, how many nodes
//! there were, upstream's message, and the nodes in groups of `{plugin, message, count, nodes, preemptible, remedies}`,
//! where `remedies` are what would have to change, one alternative each. All of it is as of the last attempt.

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::explain::{self, Problem};
use crate::framework::Reasons;
use crate::pod::PodInfo;
use crate::scheduler::Scheduler;
use crate::verdict::{Group, Verdict};

/// All pending pods, by namespace and name; names of nodes are left to [`of`].
#[must_use]
pub fn all(scheduler: &Scheduler) -> Value {
    let mut pods: Vec<_> = scheduler.queue().pending().collect();
    pods.sort_by(|(a, ..), (b, ..)| (&a.key.namespace, &a.key.name).cmp(&(&b.key.namespace, &b.key.name)));
    let told = pods.into_iter().map(|(pod, verdict, queue)| {
        let mut told = tell(scheduler, pod, verdict.map(|verdict| &**verdict), queue);
        for group in told["groups"].as_array_mut().into_iter().flatten() {
            if let Some(group) = group.as_object_mut() {
                group.remove("nodes");
            }
        }
        told
    });
    json!({"pods": told.collect::<Vec<_>>()})
}

/// One pending pod.
#[must_use]
pub fn of(scheduler: &Scheduler, namespace: &str, name: &str) -> Option<Value> {
    let mut pending = scheduler.queue().pending();
    let (pod, verdict, queue) = pending.find(|(pod, ..)| *pod.key.namespace == *namespace && *pod.key.name == *name)?;
    Some(tell(scheduler, pod, verdict.map(|verdict| &**verdict), queue))
}

/// What is at a path below the one where verdicts are served: all of them, or one pod's at `/NAMESPACE/NAME`.
#[must_use]
pub fn at(scheduler: &Scheduler, path: &str) -> Option<Value> {
    match path.trim_matches('/').split('/').collect::<Vec<_>>()[..] {
        [""] => Some(all(scheduler)),
        [namespace, name] => of(scheduler, namespace, name),
        _ => None,
    }
}

fn tell(scheduler: &Scheduler, pod: &PodInfo, verdict: Option<&Verdict>, queue: &str) -> Value {
    let mut told = json!({
        "namespace": &*pod.key.namespace, "name": &*pod.key.name, "uid": &*pod.key.uid, "queue": queue,
        "attempts": scheduler.queue().attempts(&pod.key), "groups": [],
    });
    if let Some(node) = scheduler.cluster.nominated_node(&pod.key) {
        told["nominatedNodeName"] = json!(&**node);
    }
    if let Some(verdict) = verdict {
        told["nodes"] = json!(verdict.node_count);
        told["message"] = json!(verdict.message(pod));
        told["groups"] = groups(&scheduler.cluster, pod, verdict).into();
    } else if !pod.shape.gates.is_empty() {
        told["message"] = json!(format!(
            "waits for its scheduling gates: {}",
            pod.shape.gates.join(", ")
        ));
    }
    told
}

fn groups(cluster: &Cluster, pod: &PodInfo, verdict: &Verdict) -> Vec<Value> {
    let mut all: Vec<Value> = verdict.groups.iter().map(|found| group(cluster, pod, found)).collect();
    if let Some((plugin, rejection)) = &verdict.before {
        all.push(json!({
            "plugin": plugin, "message": rejection.texts(pod).join(", "), "count": verdict.node_count, "nodes": [],
            "preemptible": rejection.resolvable(), "remedies": explain::remedies(plugin),
        }));
    }
    if let Some((count, plugins)) = &verdict.left_out {
        let names = plugins.join(" ");
        let remedies: Vec<&str> = plugins
            .iter()
            .flat_map(|plugin| explain::remedies(plugin))
            .copied()
            .collect();
        all.push(json!({
            "plugin": names, "message": format!("node(s) didn't satisfy plugin(s) [{names}]"), "count": count,
            "nodes": [], "preemptible": false, "remedies": remedies,
        }));
    }
    all.sort_by_key(|group| std::cmp::Reverse(group["count"].as_u64()));
    all
}

fn group(cluster: &Cluster, pod: &PodInfo, group: &Group) -> Value {
    let there = || {
        let slots = group.slots().filter_map(|slot| cluster.slots().get(slot as usize));
        slots.filter(|node| node.exists())
    };
    let mut nodes: Vec<&str> = there().map(|node| node.name()).collect();
    nodes.sort_unstable();
    let remedies: Vec<String> = if matches!(group.rejection.reasons, Reasons::Short(_)) {
        // Where the least is missing.
        let mut least: Vec<(Problem, &str)> = Vec::new();
        for node in there() {
            for problem in explain::shortages(pod, node) {
                let known = least.iter_mut().find(|(known, _)| known.is_of(&problem));
                match known {
                    None => least.push((problem, node.name())),
                    Some(known) if problem < known.0 => *known = (problem, node.name()),
                    Some(_) => {}
                }
            }
        }
        least
            .iter()
            .map(|(problem, node)| explain::freeing(problem, node))
            .collect()
    } else {
        explain::remedies(group.plugin)
            .iter()
            .map(|remedy| (*remedy).to_owned())
            .collect()
    };
    json!({
        "plugin": group.plugin, "message": group.rejection.texts(pod).join(", "), "count": group.count, "nodes": nodes,
        "preemptible": group.rejection.resolvable(), "remedies": remedies,
    })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::cycle::NoJudge;
    use crate::plugins::default_profile;
    use crate::queue::Patience;
    use crate::testing::{node, pod};

    #[test]
    fn what_was_said_last_is_told() {
        let now = Timestamp::UNIX_EPOCH;
        let mut scheduler = Scheduler::new(vec![default_profile()], Patience::default(), 1);
        for (name, cpu) in [("a", "1"), ("b", "2")] {
            scheduler.set_node(&node(name).cpu(cpu).build(), now);
        }
        scheduler.set_node(&node("c").taint("dedicated", "NoSchedule").build(), now);
        scheduler.set_pod(
            pod("gated")
                .json(serde_json::json!({"schedulingGates": [{"name": "g"}]}))
                .info(),
            now,
        );
        scheduler.set_pod(pod("p").requests("3", "1Mi").info(), now);
        let popped = scheduler.pop(now).unwrap();
        scheduler.decide(popped, now, &mut NoJudge);
        let told = at(&scheduler, "/default/p").unwrap();
        assert_eq!(
            (&told["queue"], &told["attempts"], &told["nodes"]),
            (&"unschedulable".into(), &1.into(), &3.into())
        );
        let message = told["message"].as_str().unwrap();
        assert!(message.starts_with("0/3 nodes are available: "), "{message}");
        let short = &told["groups"][0];
        assert_eq!(
            (&short["plugin"], &short["count"]),
            (&"NodeResourcesFit".into(), &2.into())
        );
        assert_eq!(short["nodes"], serde_json::json!(["a", "b"]));
        assert_eq!(short["remedies"][0], "free 1000m CPU on b, or add a node that has it");
        assert_eq!(told["groups"][1]["plugin"], "TaintToleration");
        let all = at(&scheduler, "").unwrap();
        let names: Vec<_> = all["pods"]
            .as_array()
            .unwrap()
            .iter()
            .map(|pod| pod["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["gated", "p"]);
        assert_eq!(all["pods"][0]["queue"], "gated");
        assert!(all["pods"][1]["groups"][0]["nodes"].is_null());
        assert_eq!(at(&scheduler, "/default/nobody"), None);
        assert_eq!(at(&scheduler, "/default"), None);
    }
}
