//! `/metrics`, with upstream's names and labels.

mod family;
mod process;
mod requests;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(crate) use family::{Counter, Family, Gauge, Histogram};
pub(crate) use requests::{Finished, request_kind};

use prometheus_client::registry::Registry;
use requests::Labels;

use crate::admission::AdmissionMetrics;
use crate::request::RequestInfo;

/// The media type of the text format.
pub(crate) const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

const REQUEST: &[&str] = &[
    "code",
    "component",
    "dry_run",
    "group",
    "resource",
    "scope",
    "subresource",
    "verb",
    "version",
];
const DURATION: &[&str] = &[
    "component",
    "dry_run",
    "group",
    "resource",
    "scope",
    "subresource",
    "verb",
    "version",
];
const PLAIN: &[&str] = &[
    "component",
    "group",
    "resource",
    "scope",
    "subresource",
    "verb",
    "version",
];
const LEVEL: &[&str] = &["priority_level"];
const FLOW: &[&str] = &["flow_schema", "priority_level"];

const DURATIONS: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
];
const SIZES: &[f64] = &[1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
const EVENT_SIZES: &[f64] = &[1024.0, 2048.0, 4096.0, 8192.0, 16384.0, 32768.0, 65536.0, 131_072.0];
const WAITS: &[f64] = &[0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0];
const SEATS: &[f64] = &[1.0, 2.0, 4.0, 10.0];
const QUEUE_LENGTHS: &[f64] = &[0.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0];
const CHECKS: &[f64] = &[
    0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384,
];
const EXPIRATIONS: &[f64] = &[
    0.0,
    1800.0,
    3600.0,
    7200.0,
    21600.0,
    43200.0,
    86400.0,
    172_800.0,
    345_600.0,
    604_800.0,
    2_592_000.0,
    7_776_000.0,
    15_552_000.0,
    31_104_000.0,
];

/// Declares every family once: its field, name, help and labels, and how its series are made.
macro_rules! families {
    ($($(#[$doc:meta])* $field:ident: $kind:ident($name:literal, $help:literal, $labels:expr $(, $bounds:expr)?);)*) => {
        /// The server's numbers.
        pub(crate) struct Metrics {
            started_at: f64,
            /// Of admission, in a registry of its own.
            pub admission: AdmissionMetrics,
            registry: Registry,
            $($(#[$doc])* pub $field: Family<$kind>,)*
        }

        impl Metrics {
            pub fn new() -> Metrics {
                let now = SystemTime::now().duration_since(UNIX_EPOCH);
                let mut registry = Registry::default();
                let metrics = Metrics {
                    started_at: now.map_or(0.0, |d| d.as_secs_f64()),
                    admission: AdmissionMetrics::register(&mut registry),
                    registry,
                    $($field: families!(@make $kind, $name, $help, $labels $(, $bounds)?),)*
                };
                metrics.begin();
                metrics
            }

            /// The text format.
            pub fn text(&self) -> String {
                let mut text = String::with_capacity(64 * 1024);
                $(self.$field.write(&mut text);)*
                process::write(&mut text, self.started_at);
                if let Err(error) = prometheus_client::encoding::text::encode(&mut text, &self.registry) {
                    tracing::warn!(%error, "cannot write metrics");
                }
                // Of OpenMetrics; the older format has no such line.
                text.truncate(text.trim_end_matches("# EOF\n").len());
                text
            }
        }
    };
    (@make Histogram, $name:literal, $help:literal, $labels:expr, $bounds:expr) => {
        Family::made_by($name, $help, $labels, || Histogram::new($bounds))
    };
    (@make $kind:ident, $name:literal, $help:literal, $labels:expr) => {
        Family::<$kind>::new($name, $help, $labels)
    };
}

families! {
    audit_events: Counter("apiserver_audit_event_total", "Counter of audit events generated and sent to the audit backend.", &[]);
    audit_rejected: Counter(
        "apiserver_audit_requests_rejected_total",
        "Counter of apiserver requests rejected due to an error in audit logging backend.", &[]);
    audit_levels: Counter("apiserver_audit_level_total", "Counter of policy levels for audit events (1 per request).", &["level"]);
    certificate_expiration: Histogram(
        "apiserver_client_certificate_expiration_seconds",
        "Distribution of the remaining lifetime on the certificate used to authenticate a request.", &[], EXPIRATIONS);
    inflight: Gauge(
        "apiserver_current_inflight_requests",
        "Maximal number of currently used inflight request limit of this apiserver per request kind in last second.",
        &["request_kind"]);
    inqueue: Gauge(
        "apiserver_current_inqueue_requests",
        "Maximal number of queued requests in this apiserver per request kind in last second.", &["request_kind"]);
    flow_executing: Gauge(
        "apiserver_flowcontrol_current_executing_requests",
        "Number of requests in initial (for a WATCH) or any (for a non-WATCH) execution stage in the API Priority and Fairness subsystem", FLOW);
    flow_executing_seats: Gauge(
        "apiserver_flowcontrol_current_executing_seats",
        "Concurrency (number of seats) occupied by the currently executing (initial stage for a WATCH, any stage otherwise) requests in the API Priority and Fairness subsystem",
        LEVEL);
    flow_queued: Gauge(
        "apiserver_flowcontrol_current_inqueue_requests",
        "Number of requests currently pending in queues of the API Priority and Fairness subsystem", FLOW);
    flow_limit: Gauge(
        "apiserver_flowcontrol_current_limit_seats",
        "current derived number of execution seats available to each priority level", LEVEL);
    flow_nominal: Gauge(
        "apiserver_flowcontrol_nominal_limit_seats",
        "Nominal number of execution seats configured for each priority level", LEVEL);
    flow_lower: Gauge(
        "apiserver_flowcontrol_lower_limit_seats",
        "Configured lower bound on number of execution seats available to each priority level", LEVEL);
    flow_upper: Gauge(
        "apiserver_flowcontrol_upper_limit_seats",
        "Configured upper bound on number of execution seats available to each priority level", LEVEL);
    flow_dispatched: Counter(
        "apiserver_flowcontrol_dispatched_requests_total",
        "Number of requests executed by API Priority and Fairness subsystem", FLOW);
    flow_rejected: Counter(
        "apiserver_flowcontrol_rejected_requests_total",
        "Number of requests rejected by API Priority and Fairness subsystem", &["flow_schema", "priority_level", "reason"]);
    flow_wait: Histogram(
        "apiserver_flowcontrol_request_wait_duration_seconds",
        "Length of time a request spent waiting in its queue", &["execute", "flow_schema", "priority_level"], WAITS);
    flow_execution: Histogram(
        "apiserver_flowcontrol_request_execution_seconds",
        "Duration of initial stage (for a WATCH) or any (for a non-WATCH) stage of request execution in the API Priority and Fairness subsystem",
        &["flow_schema", "priority_level", "type"], WAITS);
    flow_queue_length: Histogram(
        "apiserver_flowcontrol_request_queue_length_after_enqueue",
        "Length of queue in the API Priority and Fairness subsystem, as seen by each request after it is enqueued", FLOW, QUEUE_LENGTHS);
    flow_seats: Histogram(
        "apiserver_flowcontrol_work_estimated_seats",
        "Number of estimated seats (maximum of initial and final seats) associated with requests in API Priority and Fairness", FLOW, SEATS);
    long_running: Gauge(
        "apiserver_longrunning_requests",
        "Gauge of all active long-running apiserver requests broken out by verb, group, version, resource, scope and component. Not all requests are tracked this way.",
        PLAIN);
    durations: Histogram(
        "apiserver_request_duration_seconds",
        "Response latency distribution in seconds for each verb, dry run value, group, version, resource, subresource, scope and component.",
        DURATION, DURATIONS);
    sli_durations: Histogram(
        "apiserver_request_sli_duration_seconds",
        "Response latency distribution (not counting webhook duration and priority & fairness queue wait times) in seconds for each verb, group, version, resource, subresource, scope and component.",
        PLAIN, DURATIONS);
    terminations: Counter(
        "apiserver_request_terminations_total",
        "Number of requests which apiserver terminated in self-defense.",
        &["code", "component", "group", "resource", "scope", "subresource", "verb", "version"]);
    requests: Counter(
        "apiserver_request_total",
        "Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, component, and HTTP response code.",
        REQUEST);
    response_sizes: Histogram(
        "apiserver_response_sizes",
        "Response size distribution in bytes for each group, version, verb, resource, subresource, scope and component.", PLAIN, SIZES);
    storage_objects: Gauge(
        "apiserver_storage_objects",
        "Number of stored objects at the time of last check split by kind. In case of a fetching error, the value will be -1.", &["resource"]);
    storage_size: Gauge("apiserver_storage_size_bytes", "Size of the storage database file physically allocated in bytes.", &["storage_cluster_id"]);
    translated_streams: Counter("apiserver_stream_translator_requests_total", "Total number of requests that were handled by the StreamTranslatorProxy, which processes streaming RemoteCommand/V5", &["code"]);
    tunnelled_streams: Counter("apiserver_stream_tunnel_requests_total", "Total number of requests that were handled by the StreamTunnelProxy, which processes streaming PortForward/V2", &["code"]);
    handshake_errors: Counter("apiserver_tls_handshake_errors_total", "Number of requests dropped with 'TLS handshake error from' error", &[]);
    watch_events: Counter("apiserver_watch_events_total", "Number of events sent in watch clients", &["group", "resource", "version"]);
    watch_sizes: Histogram(
        "apiserver_watch_events_sizes", "Watch event size distribution in bytes", &["group", "resource", "version"], EVENT_SIZES);
    websocket_streams: Counter(
        "apiserver_websocket_streaming_requests_total", "Total number of WebSocket streaming requests (exec/attach/portforward) routed by the API server, labeled by subresource and proxy_type. proxy_type is proxied_to_kubelet when the kubelet handles the request directly; otherwise translated_at_apiserver.", &["proxy_type", "subresource"]);
    users: Counter(
        "authenticated_user_requests", "Counter of authenticated requests broken out by username.", &["username"]);
    authentications: Counter("authentication_attempts", "Counter of authenticated attempts.", &["result"]);
    authentication_times: Histogram(
        "authentication_duration_seconds", "Authentication duration in seconds broken out by result.", &["result"], CHECKS);
    authorizations: Counter("authorization_attempts_total", "Counter of authorization attempts broken down by result. It can be either 'allowed', 'denied', 'no-opinion' or 'error'.", &["result"]);
    authorization_times: Histogram(
        "authorization_duration_seconds", "Authorization duration in seconds broken out by result.", &["result"], CHECKS);
    build_info: Gauge(
        "kubernetes_build_info",
        "A metric with a constant '1' value labeled by major, minor, git version, git commit, git tree state, build date, Go version, and compiler from which Kubernetes was built, and platform on which it is running.",
        &["build_date", "compiler", "git_commit", "git_tree_state", "git_version", "go_version", "major", "minor", "platform"]);
}

const COMPONENT: &str = "apiserver";

impl Metrics {
    fn begin(&self) {
        let (major, minor, version) = crate::version::labels();
        let platform = crate::version::platform();
        let build = ["", "rustc", "", "", version, "", major, minor, &platform];
        self.build_info.of(&build).set(1);
        for kind in ["mutating", "readOnly"] {
            self.inflight.of(&[kind]);
            self.inqueue.of(&[kind]);
        }
        self.audit_events.of(&[]);
        self.audit_rejected.of(&[]);
        self.handshake_errors.of(&[]);
    }

    /// Counts a request in; dropping the guard counts it out.
    pub fn enter(&self, info: &RequestInfo) -> InFlight {
        InFlight::new(self.inflight.of(&[request_kind(info)]))
    }

    /// Counts a long-running request in, until the guard is dropped.
    pub fn enter_long_running(&self, info: &RequestInfo) -> InFlight {
        let l = Labels::of(info, true);
        let values = [
            COMPONENT,
            l.group,
            l.resource,
            l.scope,
            l.subresource,
            l.verb,
            l.version,
        ];
        InFlight::new(self.long_running.of(&values))
    }

    /// Records a finished request.
    pub fn record(&self, finished: &Finished<'_>) {
        let l = Labels::of(finished.info, finished.known);
        let dry_run = if finished.query.get("dryRun").is_some() {
            "All"
        } else {
            ""
        };
        let mut digits = [0; 3];
        let code = code_text(finished.code, &mut digits);
        let values = [
            code,
            COMPONENT,
            dry_run,
            l.group,
            l.resource,
            l.scope,
            l.subresource,
            l.verb,
            l.version,
        ];
        self.requests.of(&values).inc();
        if finished.info.is_long_running() {
            return;
        }
        self.durations.of(&values[1..]).observe_time(finished.took);
        let plain = [
            COMPONENT,
            l.group,
            l.resource,
            l.scope,
            l.subresource,
            l.verb,
            l.version,
        ];
        let own = finished.took.saturating_sub(finished.waited);
        self.sli_durations.of(&plain).observe_time(own);
        if let Some(length) = finished.length {
            self.response_sizes.of(&plain).observe(length as f64);
        }
    }

    /// Records a request that the server gave up to defend itself.
    pub fn record_termination(&self, info: &RequestInfo, known: bool, code: u16) {
        let l = Labels::of(info, known);
        let mut digits = [0; 3];
        let code = code_text(code, &mut digits);
        let values = [
            code,
            COMPONENT,
            l.group,
            l.resource,
            l.scope,
            l.subresource,
            l.verb,
            l.version,
        ];
        self.terminations.of(&values).inc();
    }

    /// Records who was found to send a request, and how long that took.
    pub fn record_authentication(&self, result: &'static str, user: &str, took: Duration) {
        self.authentications.of(&[result]).inc();
        self.authentication_times.of(&[result]).observe_time(took);
        if result == "success" {
            self.users.of(&[compressed(user)]).inc();
        }
    }

    /// Records an authorization.
    pub fn record_authorization(&self, allowed: bool, took: Duration) {
        let result = if allowed { "allowed" } else { "no-opinion" };
        self.authorizations.of(&[result]).inc();
        self.authorization_times.of(&[result]).observe_time(took);
    }
}

/// Users by class, so that names make no time series (`authentication/request` compressUsername).
fn compressed(user: &str) -> &str {
    match user {
        "admin" | "client" | "kube_proxy" | "kubelet" | "system:serviceaccount:kube-system:default" => user,
        _ if user.contains('@') => "email_id",
        _ => "other",
    }
}

fn code_text(code: u16, digits: &mut [u8; 3]) -> &str {
    for (place, divisor) in digits.iter_mut().zip([100, 10, 1]) {
        *place = b'0' + (code / divisor % 10) as u8;
    }
    std::str::from_utf8(digits).unwrap_or("000")
}

/// Something that is counted while it is there.
pub(crate) struct InFlight(Arc<Gauge>);

impl InFlight {
    fn new(gauge: Arc<Gauge>) -> InFlight {
        gauge.add(1);
        InFlight(gauge)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Query;

    #[test]
    fn requests_are_counted_by_what_they_name() {
        let metrics = Metrics::new();
        let query = Query::parse("dryRun=All");
        let info = RequestInfo::parse(&http::Method::POST, "/api/v1/namespaces/ns/pods", &query);
        let finished = Finished {
            info: &info,
            known: true,
            query: &query,
            code: 201,
            took: Duration::from_millis(7),
            waited: Duration::ZERO,
            length: Some(500),
        };
        metrics.record(&finished);
        metrics.record(&Finished {
            known: false,
            ..finished
        });
        let text = metrics.text();
        assert!(text.contains(
            "apiserver_request_total{code=\"201\",component=\"apiserver\",dry_run=\"All\",group=\"\",resource=\"pods\",scope=\"namespace\",subresource=\"\",verb=\"POST\",version=\"v1\"} 1"
        ));
        assert!(text.contains("resource=\"\",scope=\"\",subresource=\"\",verb=\"POST\",version=\"\"} 1"));
        assert!(text.contains("process_resident_memory_bytes"));
        assert!(text.contains("kubernetes_build_info{"));
    }
}
