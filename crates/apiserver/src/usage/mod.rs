//! `metrics.k8s.io/v1beta1`: what nodes and pods use, asked from the node agents when a client asks
//! (kubernetes-sigs/metrics-server).
//!
//! ```text
//!   GET nodes, pods ─► agents' /metrics/resource (at most every ten seconds) ─► two samples a node ─► rates
//! ```
//!
//! # Invariants
//! - It is served only while no APIService of that version exists: who installs metrics-server gets metrics-server.
//! - It is not served by a server that cannot ask node agents.
//! - Nothing is asked of any node while nobody asks here.
//! - A node that does not answer is left out of the list, and so is what no two samples are known of.

mod exposition;
mod sample;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::{GroupResource, Quantity, Status, Value, fields, labels, meta, quantity};
use futures_util::StreamExt;
use serde_json::json;

use crate::cache::{At, ListParams, Selection};
use crate::call::Call;
use crate::resource::{Resource, cache_status};
use crate::respond::{self, Answer};
use crate::state::State;

pub(crate) use sample::Samples;
use sample::{Rate, Seen};

/// The group that is served.
pub(crate) const GROUP: &str = "metrics.k8s.io";
/// Its version.
pub(crate) const VERSION: &str = "v1beta1";
/// Nodes asked at once.
const AT_ONCE: usize = 32;

/// An entry of `versions` in aggregated discovery.
pub(crate) fn discovery() -> Value {
    let resource = |name: &str, kind: &str, scope: &str| {
        json!({"resource": name, "singularResource": "", "scope": scope, "verbs": ["get", "list"],
            "responseKind": {"group": GROUP, "version": VERSION, "kind": kind}})
    };
    json!({"version": VERSION, "resources": [
        resource("nodes", "NodeMetrics", "Cluster"),
        resource("pods", "PodMetrics", "Namespaced"),
    ]})
}

/// Answers an authorized request.
///
/// # Errors
/// There is no such resource or object, or the request makes no sense.
pub(crate) async fn answer(state: &Arc<State>, call: &Call) -> Result<Answer, Status> {
    let info = &call.info;
    if !info.is_resource {
        let list = legacy();
        return Ok(respond::encoded(200, "application/json", respond::json(&list, false)));
    }
    let (kind, plural) = match (info.resource.as_str(), info.subresource.as_str()) {
        ("nodes", "") if info.namespace.is_empty() => ("NodeMetrics", "nodes"),
        ("pods", "") => ("PodMetrics", "pods"),
        _ => return Err(Status::unknown_resource()),
    };
    if !matches!(info.verb.as_str(), "get" | "list") {
        return Err(Status::method_not_allowed());
    }
    let output = call.plain_output()?;
    let selection = Wanted::read(call)?;
    let Some(resource) = state.resource("", "v1", plural) else {
        return Err(Status::unknown_resource());
    };
    let objects = selection.of(&resource).await?;
    let mut items = if plural == "nodes" {
        of_nodes(state, objects).await
    } else {
        of_pods(state, objects).await?
    };
    let value = if info.named {
        let Some(mut item) = items.pop() else {
            return Err(Status::not_found(&GroupResource::new(GROUP, plural), &info.name));
        };
        item["kind"] = json!(kind);
        item["apiVersion"] = json!(format!("{GROUP}/{VERSION}"));
        item
    } else {
        json!({"kind": format!("{kind}List"), "apiVersion": format!("{GROUP}/{VERSION}"), "metadata": {}, "items": items})
    };
    Ok(respond::encoded(
        200,
        "application/json",
        respond::json(&value, output.pretty),
    ))
}

/// The version's document in the old form of discovery.
fn legacy() -> Value {
    let resource = |name: &str, kind: &str, namespaced: bool| json!({"name": name, "singularName": "", "namespaced": namespaced, "kind": kind, "verbs": ["get", "list"]});
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": format!("{GROUP}/{VERSION}"), "resources": [
        resource("nodes", "NodeMetrics", false), resource("pods", "PodMetrics", true),
    ]})
}

/// Which objects' usage is asked for.
struct Wanted {
    namespace: String,
    name: String,
    labels: labels::Selector,
    fields: fields::Selector,
}

impl Wanted {
    fn read(call: &Call) -> Result<Self, Status> {
        let text = |name: &str| call.query.get(name).unwrap_or_default().to_owned();
        let bad = |what: &str, error: String| Status::bad_request(format!("unable to parse {what} selector: {error}"));
        let parsed = labels::Selector::parse(&text("labelSelector")).map_err(|e| bad("label", e.to_string()))?;
        let fields = fields::Selector::parse(&text("fieldSelector")).map_err(|e| bad("field", e.to_string()))?;
        let named = call.info.named.then(|| call.info.name.clone());
        Ok(Self {
            namespace: call.info.namespace.clone(),
            name: named.unwrap_or_default(),
            labels: parsed,
            fields,
        })
    }

    async fn of(&self, resource: &Resource) -> Result<Vec<Value>, Status> {
        let selection = Selection {
            namespace: Some(self.namespace.clone()).filter(|namespace| !namespace.is_empty()),
            name: Some(self.name.clone()).filter(|name| !name.is_empty()),
            ..Selection::default()
        };
        let params = ListParams {
            at: At::Latest,
            selection,
            limit: 0,
            start_after: None,
        };
        let page = resource.cache.list(params).await.map_err(cache_status)?;
        let chosen = page.entries.iter().filter(|entry| self.labels.matches(entry.labels()));
        let chosen = chosen.filter(|entry| {
            self.fields.matches_by(|field| match field {
                "metadata.name" => entry.name(),
                "metadata.namespace" => entry.namespace(),
                _ => "",
            })
        });
        Ok(chosen.map(|entry| resource.value(entry)).collect())
    }
}

async fn seen(state: &Arc<State>, nodes: Vec<Value>) -> BTreeMap<String, Seen> {
    let asked = futures_util::stream::iter(nodes).map(|node| {
        let state = state.clone();
        async move {
            let name = meta::name(&node).to_owned();
            let seen = state.usage.look(&state, &node).await;
            (name, seen)
        }
    });
    let mut all = BTreeMap::new();
    let mut asked = asked.buffer_unordered(AT_ONCE);
    while let Some((name, seen)) = asked.next().await {
        if let Some(seen) = seen {
            all.insert(name, seen);
        }
    }
    all
}

fn metadata(object: &Value, time: &str) -> Value {
    let mut metadata = json!({"name": meta::name(object), "creationTimestamp": time});
    if !meta::namespace(object).is_empty() {
        metadata["namespace"] = json!(meta::namespace(object));
    }
    if object["metadata"]["labels"].is_object() {
        metadata["labels"] = object["metadata"]["labels"].clone();
    }
    metadata
}

fn usage(rate: &Rate) -> Value {
    let cpu = format!("{}n", rate.nano_cores);
    let memory = Quantity::from_value((rate.memory_bytes / 1024) as i64 * 1024, quantity::Format::BinarySi);
    let memory = memory.to_string();
    json!({"cpu": if rate.nano_cores == 0 { "0".to_owned() } else { cpu }, "memory": memory})
}

fn window(millis: i64) -> String {
    api::time::go_duration(jiff::SignedDuration::from_millis(millis))
}

async fn of_nodes(state: &Arc<State>, nodes: Vec<Value>) -> Vec<Value> {
    let seen = seen(state, nodes.clone()).await;
    let items = nodes.iter().filter_map(|node| {
        let rate = seen.get(meta::name(node))?.node()?;
        let time = api::time::format(rate.time);
        Some(
            json!({"metadata": metadata(node, &time), "timestamp": time, "window": window(rate.window_millis),
            "usage": usage(&rate)}),
        )
    });
    items.collect()
}

async fn of_pods(state: &Arc<State>, pods: Vec<Value>) -> Result<Vec<Value>, Status> {
    let Some(nodes) = state.resource("", "v1", "nodes") else {
        return Ok(Vec::new());
    };
    let names: BTreeSet<&str> = pods.iter().filter_map(|pod| pod["spec"]["nodeName"].as_str()).collect();
    let mut objects = Vec::new();
    for name in names {
        if let Some(entry) = nodes.latest("", name).await? {
            objects.push(nodes.value(&entry));
        }
    }
    let seen = seen(state, objects).await;
    let items = pods.iter().filter_map(|pod| {
        let seen = seen.get(pod["spec"]["nodeName"].as_str()?)?;
        let rates = seen.pod(meta::namespace(pod), meta::name(pod))?;
        let oldest = rates.iter().min_by_key(|(_, rate)| rate.time)?.1;
        let time = api::time::format(oldest.time);
        let containers: Vec<Value> = rates
            .iter()
            .map(|(name, rate)| json!({"name": name, "usage": usage(rate)}))
            .collect();
        Some(
            json!({"metadata": metadata(pod, &time), "timestamp": time, "window": window(oldest.window_millis),
            "containers": containers}),
        )
    });
    Ok(items.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_and_usage_are_printed_as_go_does() {
        let cases = [
            (15_000, "15s"),
            (10_062, "10.062s"),
            (60_000, "1m0s"),
            (61_500, "1m1.5s"),
        ];
        for (millis, text) in cases {
            assert_eq!(window(millis), text);
        }
        let rate = Rate {
            nano_cores: 1_234,
            memory_bytes: 10 * 1024 * 1024 + 5,
            time: jiff::Timestamp::UNIX_EPOCH,
            window_millis: 1,
        };
        assert_eq!(usage(&rate), json!({"cpu": "1234n", "memory": "10Mi"}));
    }
}
