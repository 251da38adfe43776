//! Extenders: webhooks that filter, prioritise, bind and preempt (upstream pkg/scheduler/extender.go and
//! k8s.io/kube-scheduler/extender/v1). The pure part: when one is asked, what it is sent, and what its answer means.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::cluster::Cluster;
use crate::cycle::Judge;
use crate::framework::{Code, MAX_SCORE, Rejection};
use crate::node::Slot;
use crate::plugins::default_preemption::Candidate;
use crate::pod::{PodInfo, PodKey};
use crate::queue::EXTENDER;
use crate::verdict::Verdict;

/// The largest score that an extender gives (upstream `MaxExtenderPriority`).
const MAX_EXTENDER_PRIORITY: i64 = 10;

/// An extender, as the file describes it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Extender {
    /// Where it answers.
    pub url_prefix: String,
    /// Appended to the address for filtering; empty for no filtering.
    pub filter_verb: String,
    /// For preemption.
    pub preempt_verb: String,
    /// For prioritising.
    pub prioritize_verb: String,
    /// What its scores are multiplied by.
    pub weight: i64,
    /// For binding.
    pub bind_verb: String,
    /// Whether HTTPS is used.
    #[serde(rename = "enableHTTPS")]
    pub enable_https: bool,
    /// TLS, as client-go has it.
    pub tls_config: Value,
    /// How long an answer may take, as a Go duration.
    pub http_timeout: Option<String>,
    /// Whether it knows nodes by name.
    pub node_cache_capable: bool,
    /// Only pods that ask for one of these are its business; with none, all are.
    pub managed_resources: Vec<ManagedResource>,
    /// Whether pods are scheduled without it when it fails.
    pub ignorable: bool,
}

/// A resource that an extender manages.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ManagedResource {
    /// Its name.
    pub name: String,
    /// Whether NodeResourcesFit leaves it to the extender.
    #[serde(default)]
    pub ignored_by_scheduler: bool,
}

/// Upstream `validateExtenders`.
pub(super) fn check(extenders: &[Extender], wrong: &mut Vec<String>) {
    let mut managed: Vec<&str> = Vec::new();
    for (at, extender) in extenders.iter().enumerate() {
        if !extender.prioritize_verb.is_empty() && extender.weight <= 0 {
            let why = "must have a positive weight applied to it";
            wrong.push(format!(
                "extenders[{at}].weight: Invalid value: {}: {why}",
                extender.weight
            ));
        }
        for (number, resource) in extender.managed_resources.iter().enumerate() {
            if managed.contains(&resource.name.as_str()) {
                let path = format!("extenders[{at}].managedResources[{number}].name");
                let name = &resource.name;
                wrong.push(format!(
                    "{path}: Invalid value: {name:?}: duplicate extender managed resource name"
                ));
            }
            managed.push(&resource.name);
        }
    }
    let binders = extenders
        .iter()
        .filter(|extender| !extender.bind_verb.is_empty())
        .count();
    if binders > 1 {
        let why = "only one extender can implement bind";
        wrong.push(format!(
            "extenders: Invalid value: \"found {binders} extenders implementing bind\": {why}"
        ));
    }
}

impl Extender {
    /// Whether the pod is its business (`IsInterested`).
    #[must_use]
    pub fn is_interested(&self, pod: &PodInfo) -> bool {
        let asks = |resource: &ManagedResource| pod.shape.requests.amount(&resource.name) > 0;
        self.managed_resources.is_empty() || self.managed_resources.iter().any(asks)
    }

    /// What is sent for filtering and prioritising (`ExtenderArgs`): the pod, and the nodes or their names.
    #[must_use]
    pub fn arguments(&self, pod: &Value, cluster: &Cluster, nodes: &[Slot]) -> Value {
        let nodes = nodes.iter().map(|slot| cluster.at(*slot));
        if self.node_cache_capable {
            let names: Vec<&str> = nodes.map(|node| node.name()).collect();
            return json!({"Pod": pod, "Nodes": null, "NodeNames": names});
        }
        let items: Vec<Value> = nodes
            .filter_map(|node| serde_json::to_value(node.node.as_deref()?).ok())
            .collect();
        json!({"Pod": pod, "Nodes": {"apiVersion": "v1", "kind": "NodeList", "metadata": {}, "items": items}, "NodeNames": null})
    }

    /// Takes in the answer to filtering (`ExtenderFilterResult`).
    ///
    /// # Errors
    /// What the extender says went wrong.
    pub fn take_filtered(
        &self,
        answer: &Value,
        cluster: &Cluster,
        feasible: &mut Vec<Slot>,
        verdict: &mut Verdict,
    ) -> Result<(), String> {
        if let Some(error) = answer["Error"].as_str().filter(|error| !error.is_empty()) {
            return Err(error.to_owned());
        }
        let names = answer["NodeNames"].as_array().filter(|_| self.node_cache_capable);
        let passed: Vec<&str> = match (names, answer["Nodes"]["items"].as_array()) {
            (Some(names), _) => names.iter().filter_map(Value::as_str).collect(),
            (None, Some(items)) => items
                .iter()
                .filter_map(|item| item["metadata"]["name"].as_str())
                .collect(),
            (None, None) => Vec::new(),
        };
        let known: HashSet<&str> = feasible.iter().map(|slot| cluster.at(*slot).name()).collect();
        if let Some(stranger) = passed.iter().find(|name| !known.contains(*name)) {
            let url = &self.url_prefix;
            return Err(format!(
                "extender {url:?} claims a filtered node {stranger:?} which is not found in the input node list"
            ));
        }
        let passed: HashSet<&str> = passed.into_iter().collect();
        let reason = |name: &str| {
            let of = |field: &str| answer[field][name].as_str().map(str::to_owned);
            let unresolvable = of("FailedAndUnresolvableNodes").map(|reason| (Code::Unresolvable, vec![reason]));
            unresolvable.or_else(|| of("FailedNodes").map(|reason| (Code::Unschedulable, vec![reason])))
        };
        feasible.retain(|slot| {
            let name = cluster.at(*slot).name();
            let stays = passed.contains(name);
            if !stays {
                let (code, reasons) = reason(name).unwrap_or((Code::Unresolvable, Vec::new()));
                verdict.add(EXTENDER, Rejection::with(code, reasons), *slot);
            }
            stays
        });
        Ok(())
    }

    /// Adds the answer to prioritising (`HostPriorityList`) to scores.
    pub fn add_priorities(&self, answer: &Value, cluster: &Cluster, feasible: &[Slot], scores: &mut [i64]) {
        for entry in answer.as_array().into_iter().flatten() {
            let (Some(host), Some(score)) = (entry["Host"].as_str(), entry["Score"].as_i64()) else {
                continue;
            };
            if let Some(at) = feasible.iter().position(|slot| cluster.at(*slot).name() == host) {
                scores[at] += score * self.weight * (MAX_SCORE / MAX_EXTENDER_PRIORITY);
            }
        }
    }

    /// What is sent about evictions (`ExtenderPreemptionArgs`); `object` finds pods as the API has them.
    #[must_use]
    pub fn preemption_arguments(
        &self,
        pod: &Value,
        cluster: &Cluster,
        candidates: &[Candidate],
        object: &dyn Fn(&PodKey) -> Value,
    ) -> Value {
        let mut victims = Map::new();
        for candidate in candidates {
            let pods = candidate.victims.iter().map(|victim| match self.node_cache_capable {
                true => json!({"UID": &*victim.key.uid}),
                false => object(&victim.key),
            });
            let of_node = json!({"Pods": pods.collect::<Vec<_>>(), "NumPDBViolations": candidate.violations});
            victims.insert(cluster.at(candidate.slot).name().to_owned(), of_node);
        }
        match self.node_cache_capable {
            true => json!({"Pod": pod, "NodeNameToVictims": null, "NodeNameToMetaVictims": victims}),
            false => json!({"Pod": pod, "NodeNameToVictims": victims, "NodeNameToMetaVictims": null}),
        }
    }

    /// Takes in the answer about evictions (`ExtenderPreemptionResult`).
    ///
    /// # Errors
    /// A node or pod that is not there, or a node without victims.
    pub fn take_preempted(&self, answer: &Value, cluster: &Cluster) -> Result<Vec<Candidate>, String> {
        let url = &self.url_prefix;
        let mut candidates = Vec::new();
        for (name, meta) in answer["NodeNameToMetaVictims"].as_object().into_iter().flatten() {
            let node = cluster
                .node(name)
                .ok_or_else(|| format!("nodeinfo not found for node name {name:?}"))?;
            let mut victims = Vec::new();
            for uid in meta["Pods"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|pod| pod["UID"].as_str().unwrap_or_default())
            {
                let found = node.pods.iter().find(|pod| *pod.key.uid == *uid);
                victims.push(found.cloned().ok_or_else(|| {
                    format!(
                        "extender: {url} claims to preempt pod (UID: {uid}) on node: {name}, but the pod is not found \
                         on that node"
                    )
                })?);
            }
            if victims.is_empty() {
                if self.ignorable {
                    continue;
                }
                return Err(format!("expected at least one victim pod on node {name:?}"));
            }
            let violations = meta["NumPDBViolations"]
                .as_u64()
                .and_then(|count| usize::try_from(count).ok());
            candidates.push(Candidate {
                slot: node.slot,
                victims,
                violations: violations.unwrap_or(0),
            });
        }
        Ok(candidates)
    }
}

/// All extenders as one judge. Whoever makes it knows how they are reached.
pub struct Extenders<'e> {
    /// The extenders, in order.
    pub extenders: &'e [Extender],
    /// Sends something to a verb of an extender, by its number: the answer, or what failed.
    pub send: &'e dyn Fn(usize, &str, &Value) -> Result<Value, String>,
    /// A pod as the API has it.
    pub object: &'e dyn Fn(&PodKey) -> Value,
}

impl<'e> Extenders<'e> {
    fn asked<'p>(
        &self,
        pod: &'p PodInfo,
        verb: fn(&Extender) -> &str,
    ) -> impl Iterator<Item = (usize, &'e Extender)> + use<'e, 'p> {
        let all = self.extenders.iter().enumerate();
        all.filter(move |(_, extender)| !verb(extender).is_empty() && extender.is_interested(pod))
    }
}

impl Judge for Extenders<'_> {
    fn filter(
        &mut self,
        cluster: &Cluster,
        pod: &PodInfo,
        feasible: &mut Vec<Slot>,
        verdict: &mut Verdict,
    ) -> Result<(), String> {
        for (number, extender) in self.asked(pod, |extender| &extender.filter_verb) {
            if feasible.is_empty() {
                break;
            }
            let arguments = extender.arguments(&(self.object)(&pod.key), cluster, feasible);
            let taken = (self.send)(number, &extender.filter_verb, &arguments)
                .and_then(|answer| extender.take_filtered(&answer, cluster, feasible, verdict));
            if let (Err(error), false) = (taken, extender.ignorable) {
                return Err(error);
            }
        }
        Ok(())
    }

    fn prioritize(&mut self, cluster: &Cluster, pod: &PodInfo, feasible: &[Slot], scores: &mut [i64]) {
        for (number, extender) in self.asked(pod, |extender| &extender.prioritize_verb) {
            let arguments = extender.arguments(&(self.object)(&pod.key), cluster, feasible);
            // One that fails has no say.
            if let Ok(answer) = (self.send)(number, &extender.prioritize_verb, &arguments) {
                extender.add_priorities(&answer, cluster, feasible, scores);
            }
        }
    }

    fn preempt(&mut self, cluster: &Cluster, pod: &PodInfo, candidates: &mut Vec<Candidate>) -> Result<(), String> {
        for (number, extender) in self.asked(pod, |extender| &extender.preempt_verb) {
            if candidates.is_empty() {
                break;
            }
            let object = (self.object)(&pod.key);
            let arguments = extender.preemption_arguments(&object, cluster, candidates, self.object);
            let taken = (self.send)(number, &extender.preempt_verb, &arguments)
                .and_then(|answer| extender.take_preempted(&answer, cluster));
            match taken {
                Ok(left) => *candidates = left,
                Err(_) if extender.ignorable => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn filters(&self, pod: &PodInfo) -> bool {
        self.asked(pod, |extender| &extender.filter_verb).next().is_some()
    }

    fn prioritizes(&self, pod: &PodInfo) -> bool {
        self.asked(pod, |extender| &extender.prioritize_verb).next().is_some()
    }
}

#[cfg(test)]
mod tests;
