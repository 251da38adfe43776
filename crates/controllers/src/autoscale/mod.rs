//! Horizontal pod autoscaling (upstream `pkg/controller/podautoscaler`).
//!
//! ```text
//!   HPA, /scale of its target ─► ask ─► Questions ─► (metrics APIs) ─► answers
//!   all of these, pods, Memory ─► decide ─► Decision ─► (PUT /scale) ─► conclude ─► Plan: status, events
//! ```
//!
//! Autoscalers are JSON: no other part needs them typed. What was recommended and done lately is in [`Memory`], as
//! upstream keeps it: it ends with the process, which may only make the next scaling faster.

mod behavior;
mod calculate;
mod metric;
mod status;
mod usage;

use std::sync::Arc;

use api::labels::Selector;
use api::{Gvr, Value};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

pub use behavior::Memory;
use status::Draft;

use crate::plan::{Action, Plan, Reference, Target, Text, Told, Verb};
use crate::{Key, object};

/// Its name, and the source of its events.
pub const NAME: &str = "horizontal-pod-autoscaler";
/// Between two looks (`--horizontal-pod-autoscaler-sync-period`).
pub const PERIOD: SignedDuration = SignedDuration::from_secs(15);

/// The resource.
pub fn resource() -> Gvr {
    Gvr::new("autoscaling", "v2", "horizontalpodautoscalers")
}

/// What a target's `/scale` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scale {
    /// Wanted replicas.
    pub wanted: i32,
    /// Replicas there are.
    pub present: i32,
    /// Which pods are its, as text.
    pub selector: String,
}

impl Scale {
    /// From an autoscaling/v1 Scale.
    pub fn of(scale: &Value) -> Self {
        Self {
            wanted: int(&scale["spec"]["replicas"]).unwrap_or(0),
            present: int(&scale["status"]["replicas"]).unwrap_or(0),
            selector: scale["status"]["selector"].as_str().unwrap_or("").to_owned(),
        }
    }
}

/// What a metrics API is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// `metrics.k8s.io`: the usage of all selected pods.
    Resources {
        /// Which pods.
        selector: String,
    },
    /// `custom.metrics.k8s.io`: a metric of all selected pods.
    Pods {
        /// Which pods.
        selector: String,
        /// Its name.
        metric: String,
        /// Which series of it.
        metric_selector: String,
    },
    /// `custom.metrics.k8s.io`: a metric of one object.
    Object {
        /// The object's apiVersion.
        api_version: String,
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
        /// The metric's name.
        metric: String,
        /// Which series of it.
        metric_selector: String,
    },
    /// `external.metrics.k8s.io`: all values of a metric.
    External {
        /// Its name.
        metric: String,
        /// Which series of it.
        metric_selector: String,
    },
    /// Nothing: the metric is not one that can be asked for.
    Nothing,
}

/// Settings of the controller, by upstream's flags.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// `--horizontal-pod-autoscaler-tolerance`
    pub tolerance: f64,
    /// `--horizontal-pod-autoscaler-downscale-stabilization`
    pub downscale_stabilization: SignedDuration,
    /// `--horizontal-pod-autoscaler-cpu-initialization-period`
    pub cpu_initialization: SignedDuration,
    /// `--horizontal-pod-autoscaler-initial-readiness-delay`
    pub initial_readiness_delay: SignedDuration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            tolerance: 0.1,
            downscale_stabilization: SignedDuration::from_secs(300),
            cpu_initialization: SignedDuration::from_secs(300),
            initial_readiness_delay: SignedDuration::from_secs(30),
        }
    }
}

/// All that a decision depends on.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    /// The autoscaler as the server has it.
    pub hpa: &'a Value,
    /// Its target's scale, or why there is none.
    pub scale: Result<&'a Scale, &'a str>,
    /// Answers to [`ask`]'s questions, in order.
    pub answers: &'a [Result<Value, String>],
    /// All pods of its namespace.
    pub pods: &'a [Arc<Pod>],
    /// The other autoscalers of its namespace, with the selectors of their targets.
    pub others: &'a [(Key, String)],
    /// The time.
    pub now: Timestamp,
    /// The settings.
    pub settings: &'a Settings,
}

/// A new size for the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rescale {
    /// How many replicas.
    pub replicas: i32,
    /// Why.
    pub reason: String,
    from: i32,
}

/// What shall be done; the rest follows from what becomes of [`Decision::rescale`].
#[derive(Clone, Debug)]
pub struct Decision {
    /// The target gets this size, if any.
    pub rescale: Option<Rescale>,
    draft: Draft,
    replicas: i32,
    metrics: Metrics,
}

#[derive(Clone, Debug)]
enum Metrics {
    /// What was seen before stays in the status, and so do the wanted replicas.
    Kept,
    /// Nothing changes but conditions.
    Untouched,
    New(Vec<Value>),
}

/// The questions that have to be answered before [`decide`], one a metric; none if the answers would not matter.
pub fn ask(hpa: &Value, scale: &Scale) -> Vec<Question> {
    if fixed_size(hpa, scale).is_some() || scale.selector.is_empty() {
        return Vec::new();
    }
    let metrics = hpa["spec"]["metrics"].as_array().into_iter().flatten();
    metrics.map(|spec| metric::question(spec, scale)).collect()
}

/// The size that follows without any metric, with the reason; `None` as reason if scaling is off.
fn fixed_size(hpa: &Value, scale: &Scale) -> Option<(i32, Option<&'static str>)> {
    let (least, most) = bounds(hpa);
    let asleep = least == 0 || status::is_true(hpa, "ScaledToZero");
    if scale.wanted == 0 && !asleep {
        Some((0, None))
    } else if scale.wanted > most {
        Some((most, Some("Current number of replicas above Spec.MaxReplicas")))
    } else if scale.wanted < least {
        Some((least, Some("Current number of replicas below Spec.MinReplicas")))
    } else {
        None
    }
}

fn bounds(hpa: &Value) -> (i32, i32) {
    let spec = &hpa["spec"];
    (
        int(&spec["minReplicas"]).unwrap_or(1),
        int(&spec["maxReplicas"]).unwrap_or(0),
    )
}

/// Decides on the target's size (`reconcileAutoscaler`).
pub fn decide(sight: &Sight<'_>, memory: &mut Memory) -> Decision {
    let mut draft = Draft::of(sight.hpa, sight.now);
    let scale = match sight.scale {
        Ok(scale) => scale,
        Err(error) => {
            draft.warn("FailedGetScale", error);
            let message = format!("the HPA controller was unable to get the target's current scale: {error}");
            draft.set("AbleToScale", "False", "FailedGetScale", message);
            return Decision {
                rescale: None,
                draft,
                replicas: 0,
                metrics: Metrics::Untouched,
            };
        }
    };
    let message = "the HPA controller was able to get the target's current scale";
    draft.set("AbleToScale", "True", "SucceededGetScale", message);
    memory.begin(scale.wanted, sight.now);
    if let Some((replicas, reason)) = fixed_size(sight.hpa, scale) {
        if reason.is_none() {
            let message = "scaling is disabled since the replica count of the target is zero";
            draft.set("ScalingActive", "False", "ScalingDisabled", message);
        }
        return Decision {
            rescale: reason.map(|reason| Rescale {
                replicas,
                reason: reason.to_owned(),
                from: scale.wanted,
            }),
            draft,
            replicas: scale.wanted,
            metrics: Metrics::New(Vec::new()),
        };
    }
    let proposal = match propose(sight, scale, &mut draft) {
        Ok(proposal) => proposal,
        Err(error) => {
            draft.warn("FailedComputeMetricsReplicas", error);
            return Decision {
                rescale: None,
                draft,
                replicas: scale.wanted,
                metrics: Metrics::Kept,
            };
        }
    };
    let wanted = proposal.replicas.max(0);
    let reason = if wanted > scale.wanted {
        format!("{} above target", proposal.metric)
    } else {
        "All metrics below target".to_owned()
    };
    let replicas = behavior::normalize(sight, scale.wanted, wanted, memory, &mut draft);
    Decision {
        rescale: (replicas != scale.wanted).then_some(Rescale {
            replicas,
            // A limit may bring a change where the metrics want none.
            reason: if wanted == scale.wanted { String::new() } else { reason },
            from: scale.wanted,
        }),
        draft,
        replicas: scale.wanted,
        metrics: Metrics::New(proposal.statuses),
    }
}

struct Proposal {
    replicas: i32,
    metric: String,
    statuses: Vec<Value>,
}

/// The greatest of what the metrics propose (`computeReplicasForMetrics`).
fn propose(sight: &Sight<'_>, scale: &Scale, draft: &mut Draft) -> Result<Proposal, String> {
    let selector = unique_selector(sight, scale, draft)?;
    let matching = |pod: &&Arc<Pod>| selector.matches(pod.metadata.labels.as_ref().unwrap_or(&NO_LABELS));
    let pods: Vec<&Pod> = sight.pods.iter().filter(matching).map(|pod| &**pod).collect();
    let specs = sight.hpa["spec"]["metrics"].as_array().map_or(&[][..], Vec::as_slice);
    let (mut replicas, mut name) = (0, String::new());
    let mut statuses = Vec::with_capacity(specs.len());
    let mut first: Option<metric::Failure> = None;
    let mut invalid = 0;
    for (index, spec) in specs.iter().enumerate() {
        let missing = Err("not asked for".to_owned());
        let answer = sight.answers.get(index).unwrap_or(&missing);
        match metric::compute(spec, answer, scale, &pods, sight) {
            Ok(found) => {
                if replicas == 0 || found.replicas > replicas {
                    (replicas, name) = (found.replicas, found.name);
                }
                statuses.push(found.status);
            }
            Err(failure) => {
                if !failure.reason.is_empty() {
                    draft.warn(failure.reason, failure.shown.clone());
                }
                statuses.push(json!({"type": ""}));
                invalid += 1;
                first.get_or_insert(failure);
            }
        }
    }
    if let Some(failure) = first
        && (invalid >= specs.len() || replicas < scale.wanted)
    {
        let message = format!("the HPA was unable to compute the replica count: {}", failure.shown);
        draft.set("ScalingActive", "False", failure.reason, message);
        let total = specs.len();
        return Err(format!(
            "invalid metrics ({invalid} invalid out of {total}), first error is: {}",
            failure.error
        ));
    }
    let message = format!("the HPA was able to successfully calculate a replica count from {name}");
    draft.set("ScalingActive", "True", "ValidMetricFound", message);
    Ok(Proposal {
        replicas,
        metric: name,
        statuses,
    })
}

static NO_LABELS: std::collections::BTreeMap<String, String> = std::collections::BTreeMap::new();

/// The selector, if no other autoscaler selects the same pods (`validateAndParseSelector`).
fn unique_selector(sight: &Sight<'_>, scale: &Scale, draft: &mut Draft) -> Result<Selector, String> {
    let text = &scale.selector;
    if text.is_empty() {
        let error = "selector is required";
        draft.warn("SelectorRequired", error);
        let message = "the HPA target's scale is missing a selector";
        draft.set("ScalingActive", "False", "InvalidSelector", message);
        return Err(error.to_owned());
    }
    let parsed = Selector::parse(text).map_err(|error| {
        let error = format!("couldn't convert selector into a corresponding internal selector object: {error}");
        draft.warn("InvalidSelector", error.clone());
        draft.set("ScalingActive", "False", "InvalidSelector", error.clone());
        error
    })?;
    let labels = |pod: &Arc<Pod>| pod.metadata.labels.clone().unwrap_or_default();
    let ours: Vec<_> = sight.pods.iter().map(labels).filter(|l| parsed.matches(l)).collect();
    let mut rivals: Vec<&Key> = Vec::new();
    for (key, other) in sight.others {
        let Ok(other) = Selector::parse(other) else { continue };
        if ours.iter().any(|labels| other.matches(labels)) {
            rivals.push(key);
        }
    }
    if rivals.is_empty() {
        return Ok(parsed);
    }
    let own = key_of(sight.hpa);
    rivals.push(&own);
    rivals.sort();
    let names: Vec<String> = rivals
        .iter()
        .map(|key| format!("{{{} {}}}", key.name, key.namespace))
        .collect();
    let error = format!(
        "pods by selector {text} are controlled by multiple HPAs: [{}]",
        names.join(" ")
    );
    draft.warn("AmbiguousSelector", error.clone());
    draft.set("ScalingActive", "False", "AmbiguousSelector", error.clone());
    Err(error)
}

/// The key of an autoscaler.
pub fn key_of(hpa: &Value) -> Key {
    Key::new(api::meta::namespace(hpa), api::meta::name(hpa))
}

/// Status and events, after the target got its new size or did not (`Err`).
pub fn conclude(sight: &Sight<'_>, decision: Decision, outcome: Result<(), &str>, memory: &mut Memory) -> Plan {
    let Decision {
        rescale,
        mut draft,
        replicas,
        metrics,
    } = decision;
    let mut desired = replicas;
    let mut metrics = metrics;
    let mut scaled = false;
    if let Some(rescale) = rescale {
        let size = rescale.replicas;
        match outcome {
            Ok(()) => {
                let message = format!("the HPA controller was able to update the target scale to {size}");
                draft.set("AbleToScale", "True", "SucceededRescale", message);
                let told = format!("New size: {size}; reason: {}", rescale.reason);
                draft.tell("SuccessfulRescale", told);
                memory.scaled(sight.hpa, rescale.from, size, sight.now);
                (desired, scaled) = (size, true);
            }
            Err(error) => {
                let told = format!("New size: {size}; reason: {}; error: {error}", rescale.reason);
                draft.warn("FailedRescale", told);
                let message = format!("the HPA controller was unable to update the target scale: {error}");
                draft.set("AbleToScale", "False", "FailedUpdateScale", message);
                metrics = Metrics::Kept;
            }
        }
    }
    if scaled && (bounds(sight.hpa).0 == 0 || status::is_true(sight.hpa, "ScaledToZero")) {
        draft.zero(replicas > 0 && desired == 0);
    }
    match metrics {
        Metrics::Untouched => {}
        Metrics::Kept => draft.keep(replicas),
        Metrics::New(statuses) => draft.replace(replicas, desired, statuses, scaled),
    }
    plan(sight.hpa, draft)
}

fn plan(hpa: &Value, draft: Draft) -> Plan {
    let mut plan = Plan::nothing();
    let about = Reference {
        api_version: "autoscaling/v2".to_owned(),
        kind: "HorizontalPodAutoscaler".to_owned(),
        namespace: api::meta::namespace(hpa).to_owned(),
        name: api::meta::name(hpa).to_owned(),
        uid: api::meta::uid(hpa).to_owned(),
        resource_version: api::meta::resource_version(hpa).to_owned(),
    };
    for event in draft.events {
        let text = Text {
            reason: event.reason,
            message: event.message,
        };
        plan.finally(Action {
            verb: Verb::Tell,
            confirm: Vec::new(),
            told: Some(Told {
                about: about.clone(),
                success: Some(text),
                failure: None,
                warning: event.warning,
            }),
        });
    }
    if draft.status != hpa["status"] {
        let mut object = hpa.clone();
        object["status"] = draft.status;
        let verb = Verb::Replace {
            target: Target {
                resource: resource(),
                namespace: about.namespace.clone(),
                name: about.name.clone(),
                uid: Some(about.uid.clone()),
                resource_version: Some(about.resource_version.clone()),
            },
            subresource: "status",
            object,
        };
        plan.finally(Action::new(verb).telling_failure(about, "FailedUpdateStatus", "{error}"));
    }
    plan
}

fn int(value: &Value) -> Option<i32> {
    Some(value.as_i64()?.clamp(i32::MIN.into(), i32::MAX.into()) as i32)
}

fn pod_name(pod: &Pod) -> &str {
    object::name(pod)
}

#[cfg(test)]
mod tests;
