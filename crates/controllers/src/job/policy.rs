//! What a failed pod, or a set of completed indexes, means by the Job's policies (upstream `pod_failure_policy.go`,
//! `success_policy.go`).

use k8s_openapi::api::batch::v1::{Job, PodFailurePolicyOnExitCodesRequirement};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::indexes::Indexes;
use crate::object::{name, namespace};

/// What a failure means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It counts against the limits.
    Count,
    /// It does not.
    Ignore,
    /// The pod's index has failed for good; counts as well.
    FailIndex,
    /// The Job has failed, for this reason; counts as well.
    FailJob(String),
}

/// By the first rule that the pod matches.
pub(super) fn judge(job: &Job, pod: &Pod) -> Verdict {
    let Some(policy) = &job.spec.as_ref().and_then(|spec| spec.pod_failure_policy.clone()) else {
        return Verdict::Count;
    };
    for (index, rule) in policy.rules.iter().enumerate() {
        let what = if let Some(codes) = &rule.on_exit_codes {
            exited(pod, codes).map(|(container, code)| {
                let pod = format!("{}/{}", namespace(pod), name(pod));
                format!("Container {container} for pod {pod} failed with exit code {code}")
            })
        } else {
            let patterns = rule.on_pod_conditions.iter().flatten();
            let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
            let matching = conditions.into_iter().find(|condition| {
                patterns.clone().any(|pattern| {
                    pattern.type_ == condition.type_ && pattern.status.as_deref().unwrap_or("True") == condition.status
                })
            });
            matching.map(|condition| format!("Pod {}/{} has condition {}", namespace(pod), name(pod), condition.type_))
        };
        let Some(what) = what else { continue };
        return match rule.action.as_str() {
            "Ignore" => Verdict::Ignore,
            "FailIndex" => Verdict::FailIndex,
            "FailJob" => Verdict::FailJob(format!("{what} matching FailJob rule at index {index}")),
            _ => Verdict::Count,
        };
    }
    Verdict::Count
}

/// The first container that ended with a code that the rule means.
fn exited<'p>(pod: &'p Pod, rule: &PodFailurePolicyOnExitCodesRequirement) -> Option<(&'p str, i32)> {
    let status = pod.status.as_ref()?;
    let all = status
        .container_statuses
        .iter()
        .flatten()
        .chain(status.init_container_statuses.iter().flatten());
    let code_of = |status: &ContainerStatus| Some(status.state.as_ref()?.terminated.as_ref()?.exit_code);
    all.into_iter().find_map(|status| {
        let code = code_of(status).filter(|code| *code != 0)?;
        let meant = match rule.operator.as_str() {
            "In" => rule.values.contains(&code),
            "NotIn" => !rule.values.contains(&code),
            _ => false,
        };
        let named = rule.container_name.as_ref().is_none_or(|name| *name == status.name);
        (meant && named).then_some((status.name.as_str(), code))
    })
}

/// Why the Job has succeeded already, if its success policy says so.
pub(super) fn success(job: &Job, completions: i32, succeeded: &Indexes) -> Option<String> {
    let policy = job.spec.as_ref()?.success_policy.as_ref()?;
    policy.rules.iter().enumerate().find_map(|(index, rule)| {
        let met = match (&rule.succeeded_indexes, rule.succeeded_count) {
            (Some(wanted), count) => {
                let wanted = Indexes::parse(wanted, completions);
                succeeded.common(&wanted) >= count.unwrap_or(wanted.total())
            }
            (None, Some(count)) => succeeded.total() >= count,
            (None, None) => false,
        };
        met.then(|| format!("Matched rules at index {index}"))
    })
}
