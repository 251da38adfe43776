//! Why a pod is where it is, or nowhere: in words, grouped, with what is short. Reads a cluster and changes nothing;
//! asked of a changed clone, it answers "what if".

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use placement::first_untolerated;

use crate::cluster::Cluster;
use crate::cycle::{Attempt, Failure, NoJudge, schedule};
use crate::framework::{Profile, Reasons, Rejection};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::resources::Resources;
use crate::verdict::Verdict;

/// One thing that is wrong with some nodes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Problem {
    /// The node has too little left; `hopeless` when even the empty node has.
    Short {
        /// Of this resource (`pods` for places).
        resource: String,
        /// So much, in the resource's unit (thousandths of a core for `cpu`).
        amount: i64,
        /// Whether the whole node would not do.
        hopeless: bool,
    },
    /// A taint that the pod does not tolerate.
    Taint {
        /// Its key.
        key: String,
        /// Its value.
        value: String,
        /// Its effect.
        effect: String,
    },
    /// Anything else, in upstream's words.
    Other {
        /// The plugin that says so.
        plugin: String,
        /// Its words.
        reason: String,
    },
}

impl Problem {
    /// Whether both are shortages of the same resource.
    pub(crate) fn is_of(&self, other: &Problem) -> bool {
        match (self, other) {
            (Problem::Short { resource: one, .. }, Problem::Short { resource: other, .. }) => one == other,
            _ => false,
        }
    }
}

/// What ends a shortage on a node.
pub(crate) fn freeing(problem: &Problem, node: &str) -> String {
    match problem {
        Problem::Short { resource, .. } if resource == "pods" => format!("let a pod of {node} go, or add a node"),
        Problem::Short { resource, amount, .. } => {
            format!(
                "free {} on {node}, or add a node that has it",
                amount_text(resource, *amount)
            )
        }
        other => other.to_string(),
    }
}

/// What would have to change where a plugin turned nodes down, one alternative each.
#[must_use]
pub fn remedies(plugin: &str) -> &'static [&'static str] {
    match plugin {
        "NodeAffinity" => &["label a node as the pod asks for, or change the pod's node selector or affinity"],
        "NodeName" => &["take spec.nodeName away, or add a node of that name"],
        "NodePorts" => &["use another host port, or let the pod that has it go"],
        "NodeUnschedulable" => &["make a node schedulable again: kubectl uncordon NODE"],
        "TaintToleration" => &[
            "give the pod a toleration for the taint",
            "take the taint away: kubectl taint nodes",
        ],
        "PodTopologySpread" => &["add nodes to the emptiest domain, raise maxSkew, or use ScheduleAnyway"],
        "InterPodAffinity" => &["change the (anti-)affinity of this pod, or of the pods that it meets there"],
        "VolumeBinding" | "VolumeZone" => {
            &["make a volume that can be used from the node, or a claim that waits for the pod"]
        }
        "NodeVolumeLimits" => &["let a pod with volumes go from the node, or add a node"],
        "VolumeRestrictions" => &["let the pod go that uses the volume, or make the claim that is missing"],
        "DynamicResources" => &["let a pod with devices go, or add a node that has such devices"],
        _ => &[],
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Problem::Short { resource, amount, .. } => write!(f, "{} short", amount_text(resource, *amount)),
            Problem::Taint { key, value, effect } if value.is_empty() => {
                write!(f, "taint {key}:{effect} not tolerated")
            }
            Problem::Taint { key, value, effect } => write!(f, "taint {key}={value}:{effect} not tolerated"),
            Problem::Other { reason, .. } => f.write_str(reason),
        }
    }
}

fn amount_text(resource: &str, amount: i64) -> String {
    let bytes = || {
        let units = [(1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")];
        let unit = units.into_iter().find(|(size, _)| amount >= *size);
        unit.map_or(format!("{amount}"), |(size, name)| {
            let tenths = (amount * 10 + size - 1) / size;
            if tenths % 10 == 0 {
                format!("{}{name}", tenths / 10)
            } else {
                format!("{}.{}{name}", tenths / 10, tenths % 10)
            }
        })
    };
    match resource {
        "cpu" => format!("{amount}m CPU"),
        "pods" => "a place for a pod".to_owned(),
        "memory" => format!("{} memory", bytes()),
        "ephemeral-storage" => format!("{} ephemeral storage", bytes()),
        name if name.starts_with("hugepages-") => format!("{} {name}", bytes()),
        name => format!("{amount} {name}"),
    }
}

/// Nodes with the same problems.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nodes {
    /// What is wrong with them.
    pub problems: Vec<Problem>,
    /// The plugin that turned them down.
    pub plugin: String,
    /// Whether evicting pods may help.
    pub resolvable: bool,
    /// Their names, sorted.
    pub names: Vec<String>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Explanation {
    /// It could go to a node now.
    Fits {
        /// The node that would be chosen.
        node: String,
        /// How many nodes could take it, of those that were looked at.
        feasible: usize,
    },
    /// No node can take it.
    Unfit {
        /// How many nodes there are.
        nodes: usize,
        /// What is wrong with all of them, when no node was even asked.
        before: Option<String>,
        /// What is wrong with which, most nodes first.
        groups: Vec<Nodes>,
        /// Upstream's message.
        message: String,
    },
    /// A plugin failed.
    Error(String),
}

/// Explains `pod` on `cluster`. A pod that is already on a node is asked about as if it were not: take it from a
/// clone of the cluster first.
#[must_use]
pub fn explain(cluster: &mut Cluster, profile: &Profile, pod: &Arc<PodInfo>, now: Timestamp) -> Explanation {
    cluster.settle();
    let attempt = Attempt {
        cluster,
        profile,
        start: 0,
        random: 0,
        now,
        timings: None,
    };
    match schedule(&attempt, pod, &mut NoJudge) {
        Ok(placement) => Explanation::Fits {
            node: placement.node.to_string(),
            feasible: placement.feasible,
        },
        Err(Failure::Error(message)) => Explanation::Error(message),
        Err(Failure::Unfit(verdict, _)) => unfit(cluster, pod, &verdict),
    }
}

fn unfit(cluster: &Cluster, pod: &PodInfo, verdict: &Verdict) -> Explanation {
    let before = verdict
        .before
        .as_ref()
        .map(|(_, rejection)| rejection.texts(pod).join(", "));
    Explanation::Unfit {
        nodes: verdict.node_count,
        before,
        groups: groups(cluster, pod, verdict),
        message: verdict.message(pod),
    }
}

/// The nodes of a verdict, grouped by what is wrong with them, as the cluster is now.
#[must_use]
pub fn groups(cluster: &Cluster, pod: &PodInfo, verdict: &Verdict) -> Vec<Nodes> {
    let mut found: BTreeMap<(Vec<Problem>, &str, bool), Vec<String>> = BTreeMap::new();
    for group in &verdict.groups {
        for node in group
            .slots()
            .filter_map(|slot| cluster.slots().get(slot as usize))
            .filter(|node| node.exists())
        {
            let problems = problems(pod, node, group.plugin, &group.rejection);
            let key = (problems, group.plugin, group.rejection.resolvable());
            found.entry(key).or_default().push(node.name().to_owned());
        }
    }
    let mut all: Vec<Nodes> = found
        .into_iter()
        .map(|((problems, plugin, resolvable), mut names)| {
            names.sort();
            Nodes {
                problems,
                plugin: plugin.to_owned(),
                resolvable,
                names,
            }
        })
        .collect();
    all.sort_by_key(|nodes| std::cmp::Reverse(nodes.names.len()));
    all
}

fn problems(pod: &PodInfo, node: &NodeInfo, plugin: &str, rejection: &Rejection) -> Vec<Problem> {
    if matches!(rejection.reasons, Reasons::Short(_)) {
        return shortages(pod, node);
    }
    if plugin == "TaintToleration"
        && let Some(taint) = first_untolerated(node.taints(), &pod.shape.tolerations, &["NoSchedule", "NoExecute"])
    {
        return vec![Problem::Taint {
            key: taint.key.clone(),
            value: taint.value.clone().unwrap_or_default(),
            effect: taint.effect.clone(),
        }];
    }
    let other = |reason: std::borrow::Cow<'static, str>| Problem::Other {
        plugin: plugin.to_owned(),
        reason: reason.into_owned(),
    };
    rejection.texts(pod).into_iter().map(other).collect()
}

/// What is short on a node.
pub(crate) fn shortages(pod: &PodInfo, node: &NodeInfo) -> Vec<Problem> {
    let mut problems = Vec::new();
    if i64::try_from(node.pods.len()).unwrap_or(i64::MAX) >= node.allowed_pods {
        problems.push(Problem::Short {
            resource: "pods".to_owned(),
            amount: 1,
            hopeless: node.allowed_pods < 1,
        });
    }
    let need: &Resources = &pod.shape.requests;
    let scalar = need.scalar.iter().map(|(name, _)| &**name);
    for resource in ["cpu", "memory", "ephemeral-storage"].into_iter().chain(scalar) {
        let (need, have) = (need.amount(resource), node.allocatable.amount(resource));
        let short = need - (have - node.requested.amount(resource));
        if need > 0 && short > 0 {
            problems.push(Problem::Short {
                resource: resource.to_owned(),
                amount: short,
                hopeless: need > have,
            });
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::default_profile;
    use crate::testing::{node, pod};

    fn lines(cluster: &mut Cluster, pod: &Arc<PodInfo>) -> Vec<String> {
        match explain(cluster, &default_profile(), pod, Timestamp::UNIX_EPOCH) {
            Explanation::Unfit { groups, .. } => groups
                .iter()
                .map(|nodes| {
                    let problems: Vec<_> = nodes.problems.iter().map(ToString::to_string).collect();
                    format!("{}: {}", nodes.names.join(" "), problems.join(", "))
                })
                .collect(),
            other => vec![format!("{other:?}")],
        }
    }

    #[test]
    fn what_is_short_is_said_and_what_if_touches_nothing() {
        let mut cluster = Cluster::default();
        for name in ["a", "b", "c"] {
            cluster.set_node(node(name).cpu("2").build());
        }
        cluster.set_node(node("d").taint("dedicated", "NoSchedule").build());
        for (name, at) in [("p1", "a"), ("p2", "b"), ("p3", "c")] {
            cluster.set_pod(pod(name).requests("1200m", "7Gi").on(at).info());
        }
        let wanted = pod("p").requests("1", "1536Mi").info();
        assert_eq!(
            lines(&mut cluster, &wanted),
            [
                "a b c: 200m CPU short, 512Mi memory short",
                "d: taint dedicated:NoSchedule not tolerated"
            ]
        );
        let mut drained = cluster.clone();
        drained.remove_pod(&pod("p1").info().key);
        let answer = explain(&mut drained, &default_profile(), &wanted, Timestamp::UNIX_EPOCH);
        assert!(
            matches!(answer, Explanation::Fits { ref node, .. } if node == "a"),
            "{answer:?}"
        );
        assert_eq!(lines(&mut cluster, &wanted).len(), 2);
    }
}
