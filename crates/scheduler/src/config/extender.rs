//! Extenders: webhooks that filter, prioritise, bind and preempt (upstream pkg/scheduler/extender.go and
//! k8s.io/kube-scheduler/extender/v1). The pure part: when one is asked, what it is sent, and what its answer means.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::framework::{Code, MAX_SCORE, Rejection};
use crate::node::Slot;
use crate::pod::PodInfo;
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
        let named = answer["NodeNames"]
            .as_array()
            .map(|names| names.iter().filter_map(Value::as_str).collect());
        let listed = || {
            answer["Nodes"]["items"].as_array().map(|items| {
                items
                    .iter()
                    .filter_map(|item| item["metadata"]["name"].as_str())
                    .collect()
            })
        };
        let passed: Option<Vec<&str>> = if self.node_cache_capable { named } else { listed() };
        let reason = |name: &str| {
            let of = |field: &str| answer[field][name].as_str().map(str::to_owned);
            let unresolvable = of("FailedAndUnresolvableNodes").map(|reason| (Code::Unresolvable, reason));
            unresolvable.or_else(|| of("FailedNodes").map(|reason| (Code::Unschedulable, reason)))
        };
        feasible.retain(|slot| {
            let name = cluster.at(*slot).name();
            let stays = passed.as_ref().is_none_or(|passed| passed.contains(&name)) && reason(name).is_none();
            if !stays {
                let (code, reason) =
                    reason(name).unwrap_or((Code::Unschedulable, "filtered out by an extender".to_owned()));
                verdict.add("Extender", Rejection::with(code, vec![reason]), *slot);
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
}
