//! Facts about a Job's pods, and what they look like.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::policy::{Verdict, judge};
use super::{FINALIZER, Sync};
use crate::object::{annotation, controller_reference, created, is_deleting, name, namespace};
use crate::pod::{condition, phase};

pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";
const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
const IGNORED_FAILURES: &str = "batch.kubernetes.io/job-index-ignored-failure-count";
const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";
/// Generated names are cut to this length before the server's five characters (upstream `names.MaxGeneratedNameLength`).
const GENERATED_NAME: usize = 58;

/// A pod's completion index.
pub(super) fn index_of(pod: &Pod) -> Option<i32> {
    annotation(pod, INDEX)?.parse().ok().filter(|index| *index >= 0)
}

pub(super) fn is_tracked(pod: &Pod) -> bool {
    pod.metadata
        .finalizers
        .iter()
        .flatten()
        .any(|finalizer| finalizer == FINALIZER)
}

fn number(pod: &Pod, key: &str) -> i32 {
    annotation(pod, key)
        .and_then(|text| text.parse().ok())
        .filter(|count| *count >= 0)
        .unwrap_or(0)
}

/// Failures of the pod's index before it, that count.
pub(super) fn failures_before(pod: &Pod) -> i32 {
    number(pod, FAILURES)
}

/// Failures of the pod's index before it, all of them.
pub(super) fn all_failures_before(pod: &Pod) -> i32 {
    number(pod, FAILURES).saturating_add(number(pod, IGNORED_FAILURES))
}

/// When a pod ended (`getFinishedTime`).
pub(super) fn finished_at(pod: &Pod) -> Timestamp {
    let statuses = pod
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_deref())
        .unwrap_or_default();
    let ends = statuses.iter().map(|status| {
        let ended = status.state.as_ref()?.terminated.as_ref()?;
        ended.finished_at.as_ref().map(|time| time.0)
    });
    let last = ends
        .collect::<Option<Vec<Timestamp>>>()
        .and_then(|ends| ends.into_iter().max());
    let unready = condition(pod, "Ready").filter(|ready| ready.status == "False");
    let unready = unready.and_then(|ready| ready.last_transition_time.as_ref().map(|time| time.0));
    let grace = SignedDuration::from_secs(pod.metadata.deletion_grace_period_seconds.unwrap_or(0));
    let deleted = pod.metadata.deletion_timestamp.as_ref().map(|time| time.0 - grace);
    last.or(unready)
        .or(deleted)
        .or_else(|| created(pod))
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

impl Sync<'_> {
    /// Whether a pod counts as failed (`isPodFailed`).
    pub(super) fn is_failed(&self, pod: &Pod) -> bool {
        let only_failed = self.spec.pod_failure_policy.is_some() || self.only_replaces_failed();
        phase(pod) == "Failed" || !only_failed && is_deleting(pod) && phase(pod) != "Succeeded"
    }

    /// Whether a replacement waits until a terminating pod has ended.
    pub(super) fn only_replaces_failed(&self) -> bool {
        self.spec.pod_failure_policy.is_some() || self.spec.pod_replacement_policy.as_deref() == Some("Failed")
    }

    /// A new pod; `replaced` is the failed one of its index.
    pub(super) fn new_pod(&self, index: Option<i32>, replaced: Option<&Pod>) -> Pod {
        let template = &self.spec.template;
        let metadata = template.metadata.clone().unwrap_or_default();
        let mut finalizers = metadata.finalizers.unwrap_or_default();
        if finalizers.iter().all(|finalizer| finalizer != FINALIZER) {
            finalizers.push(FINALIZER.to_owned());
        }
        let mut labels = metadata.labels;
        let mut annotations = metadata.annotations;
        let mut spec = template.spec.clone().unwrap_or_default();
        let mut prefix = format!("{}-", name(self.job));
        if let Some(index) = index {
            let text = index.to_string();
            labels.get_or_insert_default().insert(INDEX.to_owned(), text.clone());
            let annotations = annotations.get_or_insert_default();
            annotations.insert(INDEX.to_owned(), text.clone());
            if self.spec.backoff_limit_per_index.is_some() {
                let (failures, ignored) = self.failures_with(replaced);
                annotations.insert(FAILURES.to_owned(), failures.to_string());
                if ignored > 0 {
                    annotations.insert(IGNORED_FAILURES.to_owned(), ignored.to_string());
                }
            }
            spec.hostname = Some(format!("{}-{text}", name(self.job)));
            let containers = spec
                .containers
                .iter_mut()
                .chain(spec.init_containers.iter_mut().flatten());
            containers.for_each(tell_index);
            let suffix = format!("-{text}-");
            let room = GENERATED_NAME.saturating_sub(suffix.len());
            prefix = format!("{}{suffix}", name(self.job).chars().take(room).collect::<String>());
        }
        Pod {
            metadata: ObjectMeta {
                generate_name: Some(prefix),
                namespace: Some(namespace(self.job).to_owned()),
                labels,
                annotations,
                finalizers: Some(finalizers),
                owner_references: Some(vec![controller_reference(self.job)]),
                ..ObjectMeta::default()
            },
            spec: Some(spec),
            status: None,
        }
    }

    fn failures_with(&self, replaced: Option<&Pod>) -> (i32, i32) {
        let Some(pod) = replaced else { return (0, 0) };
        match judge(self.job, pod) {
            Verdict::Ignore => (number(pod, FAILURES), number(pod, IGNORED_FAILURES) + 1),
            _ => (number(pod, FAILURES) + 1, number(pod, IGNORED_FAILURES)),
        }
    }
}

fn tell_index(container: &mut Container) {
    let env = container.env.get_or_insert_default();
    if env.iter().any(|variable| variable.name == INDEX_VARIABLE) {
        return;
    }
    env.push(EnvVar {
        name: INDEX_VARIABLE.to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: format!("metadata.labels['{INDEX}']"),
                api_version: None,
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    });
}
