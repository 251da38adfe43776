//! Admission's numbers, by upstream's names (`admission/metrics/metrics.go`).

use std::sync::OnceLock;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::Operation;

/// Codes above this are counted as this, so that there are not too many.
const GREATEST_CODE: u16 = 600;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StepLabels {
    r#type: &'static str,
    operation: &'static str,
    rejected: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PluginLabels {
    name: &'static str,
    r#type: &'static str,
    operation: &'static str,
    rejected: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NamedLabels {
    name: String,
    r#type: &'static str,
    operation: &'static str,
    rejected: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    name: String,
    r#type: &'static str,
    operation: &'static str,
    code: u16,
    rejected: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RejectionLabels {
    name: String,
    r#type: &'static str,
    operation: &'static str,
    error_type: &'static str,
    rejection_code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OpenLabels {
    name: String,
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConditionLabels {
    name: String,
    kind: &'static str,
    r#type: &'static str,
    operation: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PolicyLabels {
    policy: String,
    policy_binding: String,
    error_type: &'static str,
    enforcement_action: &'static str,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// Admission's numbers.
pub(crate) struct AdmissionMetrics {
    steps: Histograms<StepLabels>,
    controllers: Histograms<PluginLabels>,
    webhooks: Histograms<NamedLabels>,
    requests: Family<RequestLabels, Counter>,
    rejections: Family<RejectionLabels, Gauge>,
    fail_open: Family<OpenLabels, Gauge>,
    condition_errors: Family<ConditionLabels, Counter>,
    condition_exclusions: Family<ConditionLabels, Counter>,
    validating_checks: Family<PolicyLabels, Counter>,
    validating_durations: Histograms<PolicyLabels>,
    mutating_checks: Family<PolicyLabels, Counter>,
    mutating_durations: Histograms<PolicyLabels>,
}

/// A finished call of a webhook.
pub(crate) struct WebhookCall<'a> {
    pub name: &'a str,
    pub step: &'static str,
    pub operation: &'static str,
    pub took: Duration,
}

/// A finished check of a policy.
pub(crate) struct PolicyCheck<'a> {
    pub kind: PolicyKind,
    pub policy: &'a str,
    pub binding: &'a str,
    pub error: &'static str,
    pub action: &'static str,
    pub took: Duration,
}

/// Which kind of policy was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PolicyKind {
    Validating,
    Mutating,
}

fn condition(name: &str, kind: &'static str, step: &'static str, operation: Operation) -> ConditionLabels {
    ConditionLabels {
        name: name.to_owned(),
        kind,
        r#type: step,
        operation: operation.as_str(),
    }
}

fn yes_no(yes: bool) -> &'static str {
    if yes { "true" } else { "false" }
}

fn step_histogram() -> Histogram {
    Histogram::new([0.005, 0.025, 0.1, 0.5, 1.0, 2.5])
}

fn webhook_histogram() -> Histogram {
    Histogram::new([0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0])
}

fn policy_histogram() -> Histogram {
    Histogram::new([0.000_000_5, 0.001, 0.01, 0.1, 1.0])
}

impl AdmissionMetrics {
    /// Makes and registers them.
    pub fn register(registry: &mut Registry) -> AdmissionMetrics {
        let metrics = AdmissionMetrics {
            steps: Family::new_with_constructor(step_histogram),
            controllers: Family::new_with_constructor(step_histogram),
            webhooks: Family::new_with_constructor(webhook_histogram),
            requests: Family::default(),
            rejections: Family::default(),
            fail_open: Family::default(),
            condition_errors: Family::default(),
            condition_exclusions: Family::default(),
            validating_checks: Family::default(),
            validating_durations: Family::new_with_constructor(policy_histogram),
            mutating_checks: Family::default(),
            mutating_durations: Family::new_with_constructor(policy_histogram),
        };
        macro_rules! register {
            ($($field:ident $name:literal $help:literal;)*) => {
                $(registry.register($name, $help, Family::clone(&metrics.$field));)*
            };
        }
        register! {
            steps "apiserver_admission_step_admission_duration_seconds" "Admission sub-step latency histogram in seconds, broken out for each operation and API resource and step type (validate or admit)";
            controllers "apiserver_admission_controller_admission_duration_seconds" "Admission controller latency histogram in seconds, identified by name and broken out for each operation and API resource and type (validate or admit)";
            webhooks "apiserver_admission_webhook_admission_duration_seconds" "Admission webhook latency histogram in seconds, identified by name and broken out for each operation and API resource and type (validate or admit)";
            requests "apiserver_admission_webhook_request" "Admission webhook request total, identified by name and broken out for each admission type (validating or mutating) and operation, with the HTTP status code and whether the request was rejected";
            rejections "apiserver_admission_webhook_rejection_count" "Admission webhook rejection count, identified by name and broken out for each admission type (validating or admit) and operation, with an error type and a rejection code";
            fail_open "apiserver_admission_webhook_fail_open_count" "Admission webhook fail open count, identified by name and broken out for each admission type (validating or mutating)";
            condition_errors "apiserver_admission_match_condition_evaluation_errors" "Admission match condition evaluation errors count";
            condition_exclusions "apiserver_admission_match_condition_exclusions" "Admission match condition evaluation exclusions count";
            validating_checks "apiserver_validating_admission_policy_check" "Validation admission policy check total, labeled by policy and further identified by binding and enforcement action taken";
            validating_durations "apiserver_validating_admission_policy_check_duration_seconds" "Validation admission latency for individual validation expressions in seconds, labeled by policy and further including binding and enforcement action taken";
            mutating_checks "apiserver_mutating_admission_policy_check" "Mutation admission policy check total, labeled by policy and further identified by binding";
            mutating_durations "apiserver_mutating_admission_policy_check_duration_seconds" "Mutation admission latency for individual mutation expressions in seconds, labeled by policy and binding";
        }
        metrics
    }

    /// A whole phase is done.
    pub fn step(&self, step: &'static str, operation: Operation, rejected: bool, took: Duration) {
        let labels = StepLabels {
            r#type: step,
            operation: operation.as_str(),
            rejected: yes_no(rejected),
        };
        self.steps.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// A webhook was called; `rejected` says why it kept the request from passing, if it did.
    pub fn webhook_called(&self, call: &WebhookCall<'_>, code: u16, rejected: Option<&'static str>) {
        let code = code.min(GREATEST_CODE);
        let labels = RequestLabels {
            name: call.name.to_owned(),
            r#type: call.step,
            operation: call.operation,
            code,
            rejected: yes_no(rejected.is_some()),
        };
        self.requests.get_or_create(&labels).inc();
        let labels = NamedLabels {
            name: call.name.to_owned(),
            r#type: call.step,
            operation: call.operation,
            rejected: yes_no(rejected.is_some()),
        };
        self.webhooks.get_or_create(&labels).observe(call.took.as_secs_f64());
        if let Some(error_type) = rejected {
            let labels = RejectionLabels {
                name: call.name.to_owned(),
                r#type: call.step,
                operation: call.operation,
                error_type,
                rejection_code: code,
            };
            self.rejections.get_or_create(&labels).inc();
        }
    }

    /// A policy was checked.
    pub fn policy_checked(&self, check: &PolicyCheck<'_>) {
        let labels = PolicyLabels {
            policy: check.policy.to_owned(),
            policy_binding: check.binding.to_owned(),
            error_type: check.error,
            enforcement_action: check.action,
        };
        let (checks, durations) = match check.kind {
            PolicyKind::Validating => (&self.validating_checks, &self.validating_durations),
            PolicyKind::Mutating => (&self.mutating_checks, &self.mutating_durations),
        };
        checks.get_or_create(&labels).inc();
        durations.get_or_create(&labels).observe(check.took.as_secs_f64());
    }

    /// Conditions could not be evaluated.
    pub fn condition_failed(&self, name: &str, kind: &'static str, step: &'static str, operation: Operation) {
        self.condition_errors
            .get_or_create(&condition(name, kind, step, operation))
            .inc();
    }

    /// Conditions kept something from being called.
    pub fn condition_excluded(&self, name: &str, kind: &'static str, step: &'static str, operation: Operation) {
        self.condition_exclusions
            .get_or_create(&condition(name, kind, step, operation))
            .inc();
    }

    /// A webhook failed and the request went on.
    pub fn webhook_failed_open(&self, call: &WebhookCall<'_>) {
        let labels = OpenLabels {
            name: call.name.to_owned(),
            r#type: call.step,
        };
        self.fail_open.get_or_create(&labels).inc();
    }
}

/// How long a plugin takes in a step: its series, each looked up once.
pub(super) struct Durations {
    step: &'static str,
    series: [[OnceLock<Histogram>; 2]; 4],
}

impl Durations {
    pub fn new(step: &'static str) -> Durations {
        Durations {
            step,
            series: Default::default(),
        }
    }

    /// The plugin is done.
    pub fn observe(
        &self,
        metrics: &AdmissionMetrics,
        name: &'static str,
        operation: Operation,
        rejected: bool,
        took: Duration,
    ) {
        let series = &self.series[operation as usize][usize::from(rejected)];
        let find = || {
            let labels = PluginLabels {
                name,
                r#type: self.step,
                operation: operation.as_str(),
                rejected: yes_no(rejected),
            };
            metrics.controllers.get_or_create(&labels).clone()
        };
        series.get_or_init(find).observe(took.as_secs_f64());
    }
}
