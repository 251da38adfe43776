//! What becomes of simulated pods, and when: stages, in the form of KWOK's `Stage`.
//!
//! A stage selects pods by what their objects say, waits, and brings the pod into another state. A pod for which several
//! stages are due takes one of them, chosen by weight.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::path::Path;

/// A file of stages that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// Not of a stage's form.
    #[error("stage {name}: {source}")]
    Decode {
        /// Its name, or its number.
        name: String,
        /// Why.
        source: serde_json::Error,
    },
    /// Something in it cannot be used.
    #[error("stage {name}: {reason}")]
    Unusable {
        /// Its name.
        name: String,
        /// What, and what to do instead.
        reason: String,
    },
}

/// All stages of pods, in the order of the file.
#[derive(Clone, Debug)]
pub struct Stages(Vec<Stage>);

/// How pods go on.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    pub(super) name: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    expressions: Vec<Expression>,
    weight: u32,
    delay: Duration,
    /// The longest delay, when delays differ.
    longest: Option<Duration>,
    since: Option<Path>,
    pub(super) next: Next,
}

/// What the stage does.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Next {
    /// The pod's status becomes what a kubelet writes for a pod in this phase.
    pub(super) phase: Option<Phase>,
    /// Merged over the status (a strategic merge patch).
    #[serde(default)]
    pub(super) status: Value,
    /// What happens to the finalizers.
    pub(super) finalizers: Option<Finalizers>,
    /// The pod goes.
    #[serde(default)]
    pub(super) delete: bool,
}

/// Phases that a simulated pod can be brought into.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub(super) enum Phase {
    Running,
    Succeeded,
    Failed,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Finalizers {
    #[serde(default)]
    pub(super) add: Vec<Finalizer>,
    #[serde(default)]
    pub(super) remove: Vec<Finalizer>,
    #[serde(default)]
    pub(super) empty: bool,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
pub(super) struct Finalizer {
    pub(super) value: String,
}

#[derive(Clone, Debug)]
struct Expression {
    key: Path,
    operator: Operator,
    values: Vec<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    metadata: Named,
    spec: Spec,
}

#[derive(Default, Deserialize)]
struct Named {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Spec {
    resource_ref: ResourceRef,
    #[serde(default)]
    selector: Selector,
    weight: Option<u32>,
    #[serde(default)]
    delay: Delay,
    #[serde(default)]
    next: Next,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ResourceRef {
    #[serde(default)]
    api_group: String,
    kind: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Selector {
    #[serde(default)]
    match_labels: BTreeMap<String, String>,
    #[serde(default)]
    match_annotations: BTreeMap<String, String>,
    #[serde(default)]
    match_expressions: Vec<MatchExpression>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MatchExpression {
    key: String,
    operator: Operator,
    #[serde(default)]
    values: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Delay {
    #[serde(default)]
    duration_milliseconds: u64,
    jitter_duration_milliseconds: Option<u64>,
    duration_from: Option<From>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct From {
    expression_from: String,
}

impl Default for Stages {
    /// Pods run at once; those of Jobs succeed after a second; pods that are deleted end at once.
    fn default() -> Stages {
        let alive = json!({"key": ".metadata.deletionTimestamp", "operator": "DoesNotExist"});
        let in_phase = |phases: &[&str]| json!({"key": ".status.phase", "operator": "In", "values": phases});
        let stage = |name: &str, expressions: Value, delay: u64, next: Value| {
            json!({"metadata": {"name": name}, "spec": {"resourceRef": {"kind": "Pod"},
                "selector": {"matchExpressions": expressions}, "delay": {"durationMilliseconds": delay}, "next": next}})
        };
        let unborn = json!({"key": ".status.phase", "operator": "NotIn", "values": ["Running", "Succeeded", "Failed"]});
        let deleted = json!({"key": ".metadata.deletionTimestamp", "operator": "Exists"});
        let of_job = json!({"key": ".metadata.ownerReferences.[].kind", "operator": "In", "values": ["Job"]});
        // What has been deleted for good waits for finalizers, which are others' concern.
        let graceful = json!({"key": ".metadata.deletionGracePeriodSeconds", "operator": "NotIn", "values": ["0"]});
        let held = json!({"key": ".metadata.finalizers", "operator": "Exists"});
        let documents = vec![
            stage("pod-ready", json!([alive, unborn]), 0, json!({"phase": "Running"})),
            stage(
                "pod-complete",
                json!([alive, in_phase(&["Running"]), of_job]),
                1000,
                json!({"phase": "Succeeded"}),
            ),
            stage(
                "pod-terminate",
                json!([deleted, held, in_phase(&["Running"])]),
                0,
                json!({"phase": "Failed"}),
            ),
            stage("pod-delete", json!([deleted, graceful]), 0, json!({"delete": true})),
        ];
        Stages::new(documents).expect("these stages are well-formed")
    }
}

impl Stages {
    /// The stages of pods among `documents`.
    ///
    /// # Errors
    /// A document is no stage, or is about something else than pods.
    pub fn new(documents: Vec<Value>) -> Result<Stages, StageError> {
        let stages = documents.into_iter().enumerate();
        stages
            .map(|(index, document)| Stage::new(index, document))
            .collect::<Result<_, _>>()
            .map(Stages)
    }

    /// What is due for a pod: which stage, and in what time. `random` decides what is left to chance.
    pub(super) fn due(&self, pod: &Value, now: Timestamp, random: u64) -> Option<(&Stage, Duration)> {
        let due: Vec<&Stage> = self.0.iter().filter(|stage| stage.selects(pod)).collect();
        let total: u64 = due.iter().map(|stage| u64::from(stage.weight)).sum();
        let mut chosen = random % total.max(1);
        // Stages of weight zero are for when nothing else is due: the first of them.
        let stage = due
            .iter()
            .find(|stage| {
                let here = chosen < u64::from(stage.weight);
                chosen = chosen.saturating_sub(u64::from(stage.weight));
                here
            })
            .or(due.first())?;
        Some((stage, stage.wait(pod, now, random.rotate_left(32))))
    }
}

impl Stage {
    fn new(index: usize, document: Value) -> Result<Stage, StageError> {
        let name = document["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let name = if name.is_empty() {
            format!("number {}", index + 1)
        } else {
            name
        };
        let unusable = |reason: String| StageError::Unusable {
            name: name.clone(),
            reason,
        };
        if let Some(kind) = document["kind"].as_str().filter(|kind| *kind != "Stage") {
            return Err(unusable(format!("a Stage is expected, not a {kind}")));
        }
        if document["spec"]["next"].get("statusTemplate").is_some() || document["spec"]["next"].get("patches").is_some()
        {
            let reason = "templates are not supported: name the phase (next.phase) or what is merged (next.status)";
            return Err(unusable(reason.to_owned()));
        }
        let decoded: Document = serde_json::from_value(document).map_err(|source| StageError::Decode {
            name: name.clone(),
            source,
        })?;
        let spec = decoded.spec;
        if spec.resource_ref.kind != "Pod" || !matches!(spec.resource_ref.api_group.as_str(), "" | "v1") {
            return Err(unusable(format!(
                "only pods have stages, not {}",
                spec.resource_ref.kind
            )));
        }
        let path = |text: &str| {
            Path::parse(text).ok_or_else(|| unusable(format!("{text:?} is no path such as .status.phase")))
        };
        let mut expressions = Vec::new();
        for expression in spec.selector.match_expressions {
            expressions.push(Expression {
                key: path(&expression.key)?,
                operator: expression.operator,
                values: expression.values,
            });
        }
        let since = spec
            .delay
            .duration_from
            .map(|from| path(&from.expression_from))
            .transpose()?;
        let delay = Duration::from_millis(spec.delay.duration_milliseconds);
        Ok(Stage {
            name: if decoded.metadata.name.is_empty() {
                name
            } else {
                decoded.metadata.name
            },
            labels: spec.selector.match_labels,
            annotations: spec.selector.match_annotations,
            expressions,
            weight: spec.weight.unwrap_or(1),
            delay,
            longest: spec.delay.jitter_duration_milliseconds.map(Duration::from_millis),
            since,
            next: spec.next,
        })
    }

    fn selects(&self, pod: &Value) -> bool {
        let has = |wanted: &BTreeMap<String, String>, field: &str| {
            let found = &pod["metadata"][field];
            wanted
                .iter()
                .all(|(key, value)| found[key.as_str()].as_str() == Some(value))
        };
        has(&self.labels, "labels")
            && has(&self.annotations, "annotations")
            && self.expressions.iter().all(|expression| expression.holds(pod))
    }

    /// Between the delay and the longest delay; from a time in the object, if the stage names one.
    fn wait(&self, pod: &Value, now: Timestamp, random: u64) -> Duration {
        let spread = self
            .longest
            .map_or(Duration::ZERO, |longest| longest.saturating_sub(self.delay));
        let portion = (random % 1_000_000) as f64 / 1e6;
        let wait = self.longest.map_or(self.delay, |longest| self.delay.min(longest)) + spread.mul_f64(portion);
        let begun = self
            .since
            .as_ref()
            .and_then(|path| path.text(pod)?.parse::<Timestamp>().ok());
        match begun {
            Some(begun) => {
                let passed = now.duration_since(begun);
                let left = jiff::SignedDuration::try_from(wait).unwrap_or_default() - passed;
                Duration::try_from(left).unwrap_or_default()
            }
            None => wait,
        }
    }
}

impl Expression {
    fn holds(&self, pod: &Value) -> bool {
        let found = self.key.values(pod);
        let is_one = || {
            found.iter().any(|value| match value {
                Value::String(text) => self.values.contains(text),
                other => self.values.contains(&other.to_string()),
            })
        };
        match self.operator {
            Operator::In => is_one(),
            Operator::NotIn => !is_one(),
            Operator::Exists => !found.is_empty(),
            Operator::DoesNotExist => found.is_empty(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-01-01T00:00:10Z";

    fn due(stages: &Stages, pod: &Value, random: u64) -> Option<(String, u128)> {
        let found = stages.due(pod, NOW.parse().unwrap(), random);
        found.map(|(stage, wait)| (stage.name.clone(), wait.as_millis()))
    }

    #[test]
    fn the_default_stages_lead_a_pod_through_its_life() {
        let stages = Stages::default();
        let job = json!([{"kind": "Job"}]);
        let at = "2026-01-01T00:00:00Z";
        let table = [
            (json!({"status": {"phase": "Pending"}}), Some(("pod-ready", 0))),
            (json!({}), Some(("pod-ready", 0))),
            (json!({"status": {"phase": "Running"}}), None),
            (
                json!({"metadata": {"ownerReferences": job}, "status": {"phase": "Running"}}),
                Some(("pod-complete", 1000)),
            ),
            (
                json!({"metadata": {"ownerReferences": job}, "status": {"phase": "Succeeded"}}),
                None,
            ),
            (
                json!({"metadata": {"deletionTimestamp": at, "deletionGracePeriodSeconds": 30}, "status": {"phase": "Running"}}),
                Some(("pod-delete", 0)),
            ),
            (
                json!({"metadata": {"deletionTimestamp": at, "deletionGracePeriodSeconds": 0, "finalizers": ["a/b"]},
                    "status": {"phase": "Failed"}}),
                None,
            ),
        ];
        for (pod, expected) in table {
            let expected = expected.map(|(name, wait)| (name.to_owned(), wait));
            assert_eq!(due(&stages, &pod, 0), expected, "{pod}");
        }
    }

    #[test]
    fn weights_and_jitter_decide_by_the_random_number() {
        let stage = |name: &str, weight: u32| {
            json!({"apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": "Stage", "metadata": {"name": name}, "spec": {
                "resourceRef": {"apiGroup": "v1", "kind": "Pod"}, "weight": weight,
                "delay": {"durationMilliseconds": 100, "jitterDurationMilliseconds": 300}, "next": {"phase": "Failed"}}})
        };
        let stages = Stages::new(vec![stage("a", 1), stage("b", 3)]).unwrap();
        let names: Vec<_> = (0..4).map(|n| due(&stages, &json!({}), n).unwrap().0).collect();
        assert_eq!(names, ["a", "b", "b", "b"]);
        for random in [0, 7 << 32, u64::MAX] {
            let (_, wait) = due(&stages, &json!({}), random).unwrap();
            assert!((100..300).contains(&wait), "{wait}");
        }
    }

    #[test]
    fn delays_may_begin_at_a_time_in_the_object() {
        let stage = json!({"metadata": {"name": "late"}, "spec": {"resourceRef": {"kind": "Pod"},
            "delay": {"durationMilliseconds": 15000, "durationFrom": {"expressionFrom": ".status.startTime"}},
            "next": {"delete": true}}});
        let stages = Stages::new(vec![stage]).unwrap();
        let started = |at: &str| json!({"status": {"startTime": at}});
        assert_eq!(due(&stages, &started("2026-01-01T00:00:00Z"), 0).unwrap().1, 5000);
        assert_eq!(due(&stages, &started("2025-01-01T00:00:00Z"), 0).unwrap().1, 0);
        assert_eq!(due(&stages, &json!({}), 0).unwrap().1, 15000);
    }

    #[test]
    fn what_cannot_be_done_is_refused_with_words() {
        let with = |next: Value, kind: &str| {
            Stages::new(vec![
                json!({"metadata": {"name": "x"}, "spec": {"resourceRef": {"kind": kind}, "next": next}}),
            ])
            .unwrap_err()
            .to_string()
        };
        assert!(with(json!({"statusTemplate": "phase: {{ 1 }}"}), "Pod").contains("next.phase"));
        assert!(with(json!({"phase": "Dancing"}), "Pod").contains("unknown variant"));
        assert!(with(json!({}), "Node").contains("only pods"));
        let bad = json!({"spec": {"resourceRef": {"kind": "Pod"}, "selector": {"matchExpressions":
            [{"key": "phase", "operator": "Exists"}]}}});
        assert!(Stages::new(vec![bad]).unwrap_err().to_string().contains("no path"));
    }
}
