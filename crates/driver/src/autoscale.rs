//! Runs the horizontal pod autoscaler: asks `/scale` and the metrics APIs, and does what was decided.

use std::collections::HashMap;
use std::sync::Arc;

use api::{Gvr, Value, meta};
use client::{ClientError, WriteParams};
use controllers::autoscale::{Memory, PERIOD, Question, Scale, Settings, Sight, ask, conclude, decide, resource};
use controllers::garbage::Graph;
use controllers::{Key, World};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::execute::Executor;
use crate::hands::{FIELD_MANAGER, Live};
use crate::metadata::Metadata;
use crate::queue::Queue;
use crate::world::CacheWorld;

/// Autoscalers that are looked at at once (`--concurrent-horizontal-pod-autoscaler-syncs`).
const WORKERS: usize = 5;
/// Attempts at a target that somebody else changes, too.
const ATTEMPTS: u32 = 4;
/// Versions of the custom metrics API, the newest first.
const CUSTOM_VERSIONS: [&str; 2] = ["v1beta2", "v1beta1"];

struct Autoscaler {
    executor: Executor<Live>,
    metadata: Metadata,
    world: Arc<CacheWorld>,
    settings: Settings,
    /// What each autoscaler did lately, and its target's selector. A lock is right: it is never held across an await.
    known: Mutex<HashMap<Key, Known>>,
}

#[derive(Clone, Default)]
struct Known {
    memory: Memory,
    selector: String,
}

/// Scales until `stop`.
pub(crate) async fn run(world: Arc<CacheWorld>, metadata: Metadata, executor: Executor<Live>, stop: CancellationToken) {
    let queue: Arc<Queue<Key>> = Arc::default();
    let sink = queue.clone();
    let ours = resource();
    metadata.listen(move |of, change| {
        if (&of.gvr.group, &of.gvr.resource) != (&ours.group, &ours.resource) {
            return;
        }
        // Our own writes of the status are no news.
        let generation = |object: &Option<Arc<client::PartialObject>>| object.as_ref().map(|o| o.metadata.generation);
        if generation(&change.old) != generation(&change.new) {
            let metadata = &change.object().metadata;
            let namespace = metadata.namespace.clone().unwrap_or_default();
            sink.add(Key::new(namespace, metadata.name.clone().unwrap_or_default()));
        }
    });
    if stop.run_until_cancelled(world.pods_synced()).await.is_none() {
        return;
    }
    let autoscaler = Arc::new(Autoscaler {
        executor,
        metadata,
        world,
        settings: Settings::default(),
        known: Mutex::default(),
    });
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(_) = running.join_next(), if !running.is_empty() => {}
            key = queue.next(), if running.len() < WORKERS => {
                let (autoscaler, queue) = (autoscaler.clone(), queue.clone());
                running.spawn(async move {
                    if autoscaler.look(&key).await {
                        // Metrics cannot be watched.
                        queue.add_after(key.clone(), PERIOD.try_into().unwrap_or_default());
                    }
                    queue.done(&key);
                });
            }
        }
    }
    while running.join_next().await.is_some() {}
}

impl Autoscaler {
    /// One look at an autoscaler; whether there will be others.
    async fn look(&self, key: &Key) -> bool {
        let hpa = match self
            .executor
            .hands
            .client
            .dynamic(&resource())
            .get(&key.namespace, &key.name)
            .await
        {
            Ok(hpa) => hpa,
            Err(error) if error.is_not_found() => {
                self.known.lock().remove(key);
                return false;
            }
            Err(error) => {
                tracing::warn!(error = error.report(), %key, "cannot read an autoscaler; will retry");
                return true;
            }
        };
        let target = self.target(&hpa).await;
        let scale = match &target {
            Ok(target) => Ok(Scale::of(&target.object)),
            Err(error) => Err(error.clone()),
        };
        let answers = match &scale {
            Ok(scale) => self.answers(key, &ask(&hpa, scale)).await,
            Err(_) => Vec::new(),
        };
        let mut known = self.known.lock().get(key).cloned().unwrap_or_default();
        if let Ok(scale) = &scale {
            known.selector.clone_from(&scale.selector);
        }
        let others = self.others(key);
        let pods = self.world.pods().list(&key.namespace);
        let sight = Sight {
            hpa: &hpa,
            scale: scale.as_ref().map_err(|error| error.as_str()),
            answers: &answers,
            pods: &pods,
            others: &others,
            now: Timestamp::now(),
            settings: &self.settings,
        };
        let decision = decide(&sight, &mut known.memory);
        let outcome = match (&decision.rescale, target) {
            (Some(rescale), Ok(target)) => self.rescale(&key.namespace, target, rescale.replicas).await,
            _ => Ok(()),
        };
        let outcome = outcome.map_err(|error| error.report());
        let outcome = outcome.as_ref().copied().map_err(String::as_str);
        let plan = conclude(&sight, decision, outcome, &mut known.memory);
        self.known.lock().insert(key.clone(), known);
        self.executor.execute(plan).await;
        true
    }

    fn others(&self, key: &Key) -> Vec<(Key, String)> {
        let known = self.known.lock();
        let others = known
            .iter()
            .filter(|(other, known)| *other != key && other.namespace == key.namespace && !known.selector.is_empty());
        others
            .map(|(other, known)| (other.clone(), known.selector.clone()))
            .collect()
    }

    async fn target(&self, hpa: &Value) -> Result<ScaleTarget, String> {
        let reference = &hpa["spec"]["scaleTargetRef"];
        let text = |field: &str| reference[field].as_str().unwrap_or("");
        let (api_version, kind, name) = (text("apiVersion"), text("kind"), text("name"));
        let group = api::GroupVersion::parse(api_version)
            .map_err(|error| error.to_string())?
            .group;
        let Some((resource, _)) = self.metadata.resource_of(api_version, kind) else {
            let quoted = (api::field::go_quote(kind), api::field::go_quote(&group));
            return Err(format!("no matches for kind {} in group {}", quoted.0, quoted.1));
        };
        let handle = self.executor.hands.client.dynamic(&resource);
        let object = handle.get_sub(meta::namespace(hpa), name, "scale").await;
        let object = object.map_err(|error| error.report())?;
        let name = name.to_owned();
        Ok(ScaleTarget { resource, name, object })
    }

    async fn rescale(&self, namespace: &str, mut target: ScaleTarget, replicas: i32) -> Result<(), ClientError> {
        let handle = self.executor.hands.client.dynamic(&target.resource);
        let mut attempt = 1;
        loop {
            target.object["spec"]["replicas"] = json!(replicas);
            let params = WriteParams::manager(FIELD_MANAGER);
            let put = handle
                .update_sub::<_, Value>(namespace, &target.name, "scale", &target.object, &params)
                .await;
            match put {
                Ok(_) => return Ok(()),
                Err(error) if error.is_conflict() && attempt < ATTEMPTS => {
                    attempt += 1;
                    target.object = handle.get_sub(namespace, &target.name, "scale").await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn answers(&self, key: &Key, questions: &[Question]) -> Vec<Result<Value, String>> {
        let mut answers: Vec<Result<Value, String>> = Vec::with_capacity(questions.len());
        for (index, question) in questions.iter().enumerate() {
            // Several metrics often come from one answer.
            let earlier = questions[..index].iter().position(|earlier| earlier == question);
            let answer = match earlier {
                Some(earlier) => answers[earlier].clone(),
                None => self.answer(&key.namespace, question).await,
            };
            answers.push(answer);
        }
        answers
    }

    async fn answer(&self, namespace: &str, question: &Question) -> Result<Value, String> {
        let path = match question {
            Question::Nothing => return Err("not asked for".to_owned()),
            Question::Resources { selector } => {
                let query = query(&[("labelSelector", selector)]);
                format!("/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods{query}")
            }
            Question::External {
                metric,
                metric_selector,
            } => {
                let query = query(&[("labelSelector", metric_selector)]);
                let metric = escape(metric);
                format!("/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}/{metric}{query}")
            }
            Question::Pods {
                selector,
                metric,
                metric_selector,
            } => {
                let version = self.custom_version().await?;
                let query = query(&[("labelSelector", selector), ("metricLabelSelector", metric_selector)]);
                let metric = escape(metric);
                format!("/apis/custom.metrics.k8s.io/{version}/namespaces/{namespace}/pods/*/{metric}{query}")
            }
            Question::Object {
                api_version,
                kind,
                name,
                metric,
                metric_selector,
            } => {
                let version = self.custom_version().await?;
                let query = query(&[("metricLabelSelector", metric_selector)]);
                let (metric, root) = (
                    escape(metric),
                    format!("/apis/custom.metrics.k8s.io/{version}/namespaces/{namespace}"),
                );
                if (api_version.as_str(), kind.as_str()) == ("v1", "Namespace") {
                    // Its own namespace, whatever its name: a reference does not lead out of it.
                    format!("{root}/metrics/{metric}{query}")
                } else {
                    let Some((resource, _)) = self.metadata.resource_of(api_version, kind) else {
                        return Err(format!("no matches for kind {}", api::field::go_quote(kind)));
                    };
                    let plural = resource.group_resource().to_string();
                    format!("{root}/{plural}/{}/{metric}{query}", escape(name))
                }
            }
        };
        self.executor
            .hands
            .client
            .get_json(&path)
            .await
            .map_err(|error| error.report())
    }

    /// The version of the custom metrics API that its server prefers, of those that are known here.
    async fn custom_version(&self) -> Result<&'static str, String> {
        let group: Value = self
            .executor
            .hands
            .client
            .get_json("/apis/custom.metrics.k8s.io")
            .await
            .map_err(|error| error.report())?;
        let served = |version: &&&str| {
            let mut versions = group["versions"].as_array().into_iter().flatten();
            group["preferredVersion"]["version"] == ***version || versions.any(|served| served["version"] == ***version)
        };
        let preferred = CUSTOM_VERSIONS
            .iter()
            .find(|known| group["preferredVersion"]["version"] == ***known);
        let version = preferred.or_else(|| CUSTOM_VERSIONS.iter().find(served));
        version
            .copied()
            .ok_or_else(|| "no known available metric versions found".to_owned())
    }
}

/// Something with a `/scale`.
struct ScaleTarget {
    resource: Gvr,
    name: String,
    object: Value,
}

fn query(parts: &[(&str, &str)]) -> String {
    let parts: Vec<String> = parts
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{name}={}", escape(value)))
        .collect();
    if parts.is_empty() {
        String::new()
    } else {
        format!("?{}", parts.join("&"))
    }
}

/// Percent-encoded, but for what is never special.
fn escape(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| {
            if plain(byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_escaped_and_empty_parts_left_out() {
        let text = query(&[("labelSelector", "app in (a,b)"), ("metricLabelSelector", "")]);
        assert_eq!(text, "?labelSelector=app%20in%20%28a%2Cb%29");
        assert_eq!(query(&[("a", "")]), "");
    }
}
