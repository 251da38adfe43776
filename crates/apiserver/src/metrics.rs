//! `/metrics`, with upstream's names.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::admission::AdmissionMetrics;
use crate::request::{Query, RequestInfo};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    verb: String,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: &'static str,
    component: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CountLabels {
    verb: String,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: &'static str,
    component: &'static str,
    code: u16,
    dry_run: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    request_kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    major: &'static str,
    minor: &'static str,
    git_version: &'static str,
    platform: &'static str,
}

type HistogramFamily = Family<RequestLabels, Histogram, fn() -> Histogram>;

/// The server's numbers.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<CountLabels, Counter>,
    durations: HistogramFamily,
    inflight: Family<KindLabel, Gauge>,
    pub admission: AdmissionMetrics,
}

/// Upstream's bounds of `apiserver_request_duration_seconds`.
const BOUNDS: [f64; 22] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0,
];

impl Metrics {
    pub fn new() -> Metrics {
        let mut registry = Registry::default();
        let requests = Family::default();
        let durations: HistogramFamily =
            Family::new_with_constructor(|| Histogram::new(BOUNDS.into_iter().chain([60.0])));
        let inflight = Family::default();
        let build: Family<BuildLabels, Gauge<i64, std::sync::atomic::AtomicI64>> = Family::default();
        let version = crate::version::labels();
        build
            .get_or_create(&BuildLabels {
                major: version.0,
                minor: version.1,
                git_version: version.2,
                platform: "linux/amd64",
            })
            .set(1);
        registry.register(
            "apiserver_request",
            "Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, component, and HTTP response code",
            Family::clone(&requests),
        );
        registry.register(
            "apiserver_request_duration_seconds",
            "Response latency distribution in seconds for each verb, dry run value, group, version, resource, subresource, scope and component",
            Family::clone(&durations),
        );
        registry.register(
            "apiserver_current_inflight_requests",
            "Maximal number of currently used inflight request limit of this apiserver per request kind in last second",
            Family::clone(&inflight),
        );
        registry.register(
            "kubernetes_build_info",
            "A metric with a constant '1' value labeled by version",
            build,
        );
        let uptime: Gauge<f64, AtomicU64> = Gauge::default();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        uptime.set(now.map_or(0.0, |d| d.as_secs_f64()));
        registry.register(
            "process_start_time_seconds",
            "Start time of the process since unix epoch in seconds",
            uptime,
        );
        let admission = AdmissionMetrics::register(&mut registry);
        Metrics {
            admission,
            registry,
            requests,
            durations,
            inflight,
        }
    }

    /// Counts a request in; dropping the guard counts it out.
    pub fn enter(&self, info: &RequestInfo) -> InFlight {
        let mutating = matches!(
            info.verb.as_str(),
            "create" | "update" | "patch" | "delete" | "deletecollection"
        );
        let request_kind = if mutating { "mutating" } else { "readOnly" };
        let gauge = self.inflight.get_or_create(&KindLabel { request_kind }).clone();
        gauge.inc();
        InFlight(gauge)
    }

    /// Records a finished request; what names nothing that is served is counted without names.
    pub fn record(&self, info: &RequestInfo, known: bool, query: &Query, code: u16, took: Duration) {
        let labels = if known {
            labels(info)
        } else {
            labels(&RequestInfo::default())
        };
        let count = CountLabels {
            verb: labels.verb.clone(),
            group: labels.group.clone(),
            version: labels.version.clone(),
            resource: labels.resource.clone(),
            subresource: labels.subresource.clone(),
            scope: labels.scope,
            component: labels.component,
            code,
            dry_run: if query.get("dryRun").is_some() { "All" } else { "" }.to_owned(),
        };
        self.requests.get_or_create(&count).inc();
        if !info.is_long_running() {
            self.durations.get_or_create(&labels).observe(took.as_secs_f64());
        }
    }

    /// The text format.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if let Err(error) = prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            tracing::warn!(%error, "cannot write metrics");
        }
        text
    }
}

/// A request that is being answered.
pub(crate) struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn labels(info: &RequestInfo) -> RequestLabels {
    let verb = match info.verb.as_str() {
        "create" => "POST",
        "update" => "PUT",
        "deletecollection" => "DELETECOLLECTION",
        "get" | "list" | "watch" | "patch" | "delete" => &info.verb.to_uppercase(),
        _ => "other",
    };
    let known = info.is_resource;
    let text = |value: &str| if known { value.to_owned() } else { String::new() };
    RequestLabels {
        verb: verb.to_owned(),
        group: text(&info.group),
        version: text(&info.version),
        resource: text(&info.resource),
        // What clients may write freely must not make new time series.
        subresource: if known {
            info.subresource.clone()
        } else {
            root_path(&info.path)
        },
        scope: match (known, info.named, info.namespace.is_empty()) {
            (false, _, _) => "",
            (_, true, _) => "resource",
            (_, _, false) => "namespace",
            _ => "cluster",
        },
        component: "apiserver",
    }
}

fn root_path(path: &str) -> String {
    const KNOWN: [&str; 9] = [
        "/livez",
        "/readyz",
        "/healthz",
        "/metrics",
        "/version",
        "/openapi/v2",
        "/openapi/v3",
        "/api",
        "/apis",
    ];
    KNOWN
        .iter()
        .find(|known| path == **known)
        .map(|p| (*p).to_owned())
        .unwrap_or_default()
}
