//! Verdicts in words: nodes that fail for the same reason together, and what would have to change.

use std::collections::BTreeMap;

use api::Quantity;
use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use scheduler::explain::remedies;
use serde_json::{Value, json};

use super::amounts::{self, Amounts};
use super::picture::Picture;

/// Nodes that cannot take the pod for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// `200m CPU short`, `taint dedicated=db not tolerated`.
    pub reason: String,
    /// The scheduler's plugin.
    pub plugin: String,
    pub nodes: Vec<String>,
    /// What would have to change, one alternative each.
    pub remedies: Vec<String>,
}

impl Group {
    pub fn json(&self) -> Value {
        json!({
            "count": self.nodes.len(), "reason": self.reason, "plugin": self.plugin, "nodes": self.nodes,
            "remedies": self.remedies,
        })
    }
}

/// What makes reasons of nodes one: shortages of the same resources are, whatever the amounts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Cause {
    Short(Vec<String>),
    Taint(String),
    Cordoned,
    Other(String),
}

/// The groups, largest first.
pub fn groups(picture: &Picture, pod: &Pod, nodes: &BTreeMap<String, (String, Vec<String>)>) -> Vec<Group> {
    let requests = amounts::requests(pod);
    let mut found: BTreeMap<(String, Cause), Vec<(String, Amounts)>> = BTreeMap::new();
    for (name, (plugin, reasons)) in nodes {
        let node = picture.node(name);
        let (cause, short) = match (plugin.as_str(), node) {
            ("NodeResourcesFit", Some(node)) => {
                let left = amounts::free(node, picture.pods_on(name));
                let short = amounts::short(&requests, &left);
                match short.is_empty() {
                    true => (Cause::Other(reasons.join(", ")), short),
                    false => (Cause::Short(short.keys().cloned().collect()), short),
                }
            }
            ("TaintToleration", Some(node)) => match untolerated(node, pod) {
                Some(taint) => (Cause::Taint(taint), Amounts::new()),
                None => (Cause::Other(reasons.join(", ")), Amounts::new()),
            },
            ("NodeUnschedulable", _) => (Cause::Cordoned, Amounts::new()),
            _ => (Cause::Other(reasons.join(", ")), Amounts::new()),
        };
        found
            .entry((plugin.clone(), cause))
            .or_default()
            .push((name.clone(), short));
    }
    let mut groups: Vec<Group> = found
        .into_iter()
        .map(|((plugin, cause), members)| group(plugin, &cause, members, pod, &requests))
        .collect();
    groups.sort_by_key(|group| (std::cmp::Reverse(group.nodes.len()), group.reason.clone()));
    groups
}

fn group(plugin: String, cause: &Cause, members: Vec<(String, Amounts)>, pod: &Pod, requests: &Amounts) -> Group {
    let (reason, remedies) = match cause {
        Cause::Short(resources) => shortage(resources, &members, requests),
        Cause::Taint(taint) => (
            format!(
                "taint {} not tolerated",
                taint.rsplit_once(':').map_or(taint.as_str(), |(taint, _)| taint)
            ),
            vec![
                format!("give the pod a toleration for {taint}"),
                format!("take the taint away: kubectl taint nodes {} {taint}-", members[0].0),
            ],
        ),
        Cause::Cordoned => (
            "cordoned".to_owned(),
            vec![format!("make it schedulable again: kubectl uncordon {}", members[0].0)],
        ),
        Cause::Other(reasons) => (
            plain(&plugin, reasons, pod),
            remedies(&plugin).iter().map(|remedy| (*remedy).to_owned()).collect(),
        ),
    };
    Group {
        reason,
        plugin,
        nodes: members.into_iter().map(|(name, _)| name).collect(),
        remedies,
    }
}

/// The least that is missing on any of the nodes, and where.
fn shortage(resources: &[String], members: &[(String, Amounts)], requests: &Amounts) -> (String, Vec<String>) {
    let mut parts = Vec::new();
    let mut remedies = Vec::new();
    for resource in resources {
        let each = members
            .iter()
            .filter_map(|(name, short)| Some((name, short.get(resource)?)));
        let Some((node, least)) = each.min_by(|(_, a), (_, b)| a.sub(b).signum().cmp(&0)) else {
            continue;
        };
        parts.push(amounts::told(resource, least));
        if resource == "pods" {
            remedies.push(format!("let a pod of {node} go, or add a node"));
            continue;
        }
        let asked = requests
            .get(resource)
            .map(|asked| amounts::told(resource, asked))
            .unwrap_or_default();
        remedies.push(format!(
            "free {} on {node}, or add a node that has it",
            amounts::told(resource, least)
        ));
        let lower = requests.get(resource).map(|asked| asked.sub(least));
        if let Some(lower) = lower.filter(|lower| Quantity::signum(lower) > 0) {
            remedies.push(format!(
                "ask for {} instead of {asked}",
                amounts::told(resource, &lower)
            ));
        }
    }
    (format!("{} short", parts.join(" and ")), remedies)
}

/// `key=value:Effect` of the first taint that the pod does not tolerate.
fn untolerated(node: &Node, pod: &Pod) -> Option<String> {
    let taints: &[Taint] = node
        .spec
        .as_ref()
        .and_then(|spec| spec.taints.as_deref())
        .unwrap_or_default();
    let tolerations = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.tolerations.as_deref())
        .unwrap_or_default();
    let taint = placement::first_untolerated(taints, tolerations, &["NoSchedule", "NoExecute"])?;
    Some(match taint.value.as_deref().filter(|value| !value.is_empty()) {
        Some(value) => format!("{}={value}:{}", taint.key, taint.effect),
        None => format!("{}:{}", taint.key, taint.effect),
    })
}

/// What the pod asks for, where that says more than the scheduler's words.
fn plain(plugin: &str, reasons: &str, pod: &Pod) -> String {
    let spec = pod.spec.as_ref();
    let selector = spec
        .and_then(|spec| spec.node_selector.as_ref())
        .filter(|selector| !selector.is_empty());
    match (plugin, selector) {
        ("NodeAffinity", Some(selector)) => {
            let pairs: Vec<String> = selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!("node selector {} or affinity not matched", pairs.join(","))
        }
        ("NodeAffinity", None) => "node affinity not matched".to_owned(),
        _ => reasons.strip_prefix("node(s) ").unwrap_or(reasons).to_owned(),
    }
}

/// `3 of 5 nodes: 200m CPU short; 2: taint dedicated=db not tolerated`.
pub fn line(groups: &[Group], all: usize) -> String {
    let parts: Vec<String> = groups
        .iter()
        .enumerate()
        .map(|(at, group)| match at {
            0 => format!("{} of {all} nodes: {}", group.nodes.len(), group.reason),
            _ => format!("{}: {}", group.nodes.len(), group.reason),
        })
        .collect();
    parts.join("; ")
}
