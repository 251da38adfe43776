//! Spans of requests, sent by OTLP over gRPC (`--tracing-config-file`; `component-base/tracing`,
//! `apiserver/pkg/endpoints/filters/traces.go`).
//!
//! Without a configuration nothing is recorded and nothing is paid. A request is sampled by its chance.
//! Clients cannot choose what is sampled: the trace that one names is linked to, not continued. Spans wait
//! in a bounded queue; those that find it full, and those that the collector does not take, are lost.

mod otlp;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use api::Value;
use bytes::Bytes;
use http::header::{HeaderMap, USER_AGENT};
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::request::RequestInfo;

/// Spans that wait to be sent.
const QUEUE: usize = 2048;
/// Spans sent at a time, and how long the first waits for others (the OpenTelemetry SDK's defaults).
const BATCH: usize = 512;
const BATCH_WAIT: Duration = Duration::from_secs(5);
/// How long the collector may take.
const PATIENCE: Duration = Duration::from_secs(10);
const METHOD: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const DEFAULT_ENDPOINT: &str = "localhost:4317";
const MILLION: u64 = 1_000_000;

/// Where spans go, and of how many requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracingOptions {
    /// The collector, as host and port.
    pub endpoint: String,
    /// Of a million requests so many are sampled.
    pub sampling_rate_per_million: u64,
    /// How long the first span of a portion waits for others.
    pub batch_wait: Duration,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TracingError {
    /// It is no YAML or JSON.
    #[error("the tracing configuration cannot be read: {0}")]
    Syntax(String),
    /// It is something else.
    #[error("no TracingConfiguration of apiserver.config.k8s.io but {0:?}")]
    Kind(String),
    /// The rate is none.
    #[error("samplingRatePerMillion: Invalid value: {0}: sampling rate must be between 0 and one million")]
    Rate(String),
}

impl TracingOptions {
    /// Reads a `TracingConfiguration` of `apiserver.config.k8s.io`.
    ///
    /// # Errors
    /// If it is none, or has a rate that is none.
    pub fn parse(text: &str) -> Result<TracingOptions, TracingError> {
        let config: Value = serde_saphyr::from_str(text).map_err(|e| TracingError::Syntax(e.to_string()))?;
        let version = config["apiVersion"].as_str().unwrap_or_default();
        let known = ["v1", "v1beta1", "v1alpha1"].map(|v| format!("apiserver.config.k8s.io/{v}"));
        if config["kind"] != "TracingConfiguration" || !known.iter().any(|v| v == version) {
            let kind = config["kind"].as_str().unwrap_or_default();
            return Err(TracingError::Kind(format!("{version} {kind}")));
        }
        let rate = match &config["samplingRatePerMillion"] {
            Value::Null => Some(0),
            rate => rate.as_u64().filter(|rate| *rate <= MILLION),
        };
        let rate = rate.ok_or_else(|| TracingError::Rate(config["samplingRatePerMillion"].to_string()))?;
        Ok(TracingOptions {
            endpoint: config["endpoint"].as_str().unwrap_or(DEFAULT_ENDPOINT).to_owned(),
            sampling_rate_per_million: rate,
            batch_wait: BATCH_WAIT,
        })
    }
}

/// A trace and a span in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SpanContext {
    pub trace: [u8; 16],
    pub span: [u8; 8],
}

impl SpanContext {
    /// Reads W3C's `traceparent`: `00-<trace>-<span>-<flags>`.
    fn of(headers: &HeaderMap) -> Option<SpanContext> {
        let text = headers.get("traceparent")?.to_str().ok()?;
        let mut parts = text.split('-');
        let version = parts.next().filter(|version| version.len() == 2 && *version != "ff")?;
        let trace: [u8; 16] = hex(parts.next()?)?;
        let span: [u8; 8] = hex(parts.next()?)?;
        parts.next().filter(|flags| flags.len() == 2)?;
        let whole = version != "00" || parts.next().is_none();
        (whole && trace != [0; 16] && span != [0; 8]).then_some(SpanContext { trace, span })
    }
}

fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if text.len() != 2 * N || !digits(text) {
        return None;
    }
    let mut out = [0; N];
    for (at, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(out)
}

/// The time of a request.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub own: SpanContext,
    pub link: Option<SpanContext>,
    pub name: String,
    pub started: u64,
    pub ended: u64,
    pub code: u16,
    pub attributes: Vec<(&'static str, String)>,
}

/// The end for requests.
pub(crate) struct Spans {
    queue: mpsc::Sender<Span>,
    per_million: u64,
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

impl Spans {
    /// Starts the task that sends; it ends with the server.
    pub fn start(options: TracingOptions) -> Spans {
        let (queue, spans) = mpsc::channel(QUEUE);
        let per_million = options.sampling_rate_per_million;
        tokio::spawn(export(options, spans));
        Spans { queue, per_million }
    }

    /// Begins a request's span, if it is sampled.
    pub fn begin(&self, method: &Method, headers: &HeaderMap, info: &RequestInfo) -> Option<Span> {
        if rand::random_range(0..MILLION) >= self.per_million {
            return None;
        }
        let own = SpanContext {
            trace: rand::random(),
            span: rand::random(),
        };
        let mut attributes = vec![
            ("http.request.method", method.as_str().to_owned()),
            ("url.path", info.path.clone()),
        ];
        if let Some(agent) = headers.get(USER_AGENT).and_then(|v| v.to_str().ok()) {
            attributes.push(("user_agent.original", agent.to_owned()));
        }
        Some(Span {
            own,
            link: SpanContext::of(headers),
            name: name(method, info),
            started: now(),
            ended: 0,
            code: 0,
            attributes,
        })
    }

    /// Ends it.
    pub fn end(&self, mut span: Span, code: u16, audit_id: &str) {
        span.ended = now();
        span.code = code;
        span.attributes.push(("audit-id", audit_id.to_owned()));
        if self.queue.try_send(span).is_err() {
            tracing::debug!("a span is lost: the queue is full");
        }
    }
}

/// Names of objects are not part of it (`getSpanNameFromRequestInfo`).
fn name(method: &Method, info: &RequestInfo) -> String {
    if !info.is_resource {
        return method.to_string();
    }
    let mut name = match info.group.as_str() {
        "" => format!("{method} /api/{}", info.version),
        group => format!("{method} /apis/{group}/{}", info.version),
    };
    if !info.namespace.is_empty() {
        name.push_str("/namespaces/{:namespace}");
    }
    name.push_str(&format!("/{}", info.resource));
    if !info.name.is_empty() {
        name.push_str("/{:name}");
    }
    if !info.subresource.is_empty() {
        name.push_str(&format!("/{}", info.subresource));
    }
    name
}

async fn export(options: TracingOptions, mut spans: mpsc::Receiver<Span>) {
    let mut connection = None;
    loop {
        let mut batch = Vec::new();
        let Some(first) = spans.recv().await else { return };
        batch.push(first);
        let more = async { while batch.len() < BATCH && spans.recv_many(&mut batch, BATCH).await > 0 {} };
        let _ = timeout(options.batch_wait, more).await;
        let body = otlp::framed(&batch);
        let sent = timeout(PATIENCE, send(&options.endpoint, &mut connection, body)).await;
        let error = match sent {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => error,
            Err(_) => "no answer in time".to_owned(),
        };
        connection = None;
        tracing::warn!(
            endpoint = options.endpoint,
            error,
            spans = batch.len(),
            "spans could not be sent and are lost"
        );
    }
}

/// One call; the connection is kept for the next.
async fn send(endpoint: &str, connection: &mut Option<SendRequest<Full<Bytes>>>, body: Vec<u8>) -> Result<(), String> {
    let sender = match connection.take().filter(|sender| !sender.is_closed()) {
        Some(sender) => sender,
        None => connect(endpoint).await?,
    };
    let sender = connection.insert(sender);
    let request = Request::post(format!("http://{endpoint}{METHOD}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::from(body))
        .map_err(|e| e.to_string())?;
    let answer = sender.send_request(request).await.map_err(|e| e.to_string())?;
    let (parts, body) = answer.into_parts();
    let status = |headers: &HeaderMap| headers.get("grpc-status").cloned();
    let at_once = status(&parts.headers);
    let rest = body.collect().await.map_err(|e| e.to_string())?;
    let code = at_once.or_else(|| rest.trailers().and_then(status));
    match code {
        Some(code) if code == "0" => Ok(()),
        code => Err(format!("the collector answers {} {code:?}", parts.status)),
    }
}

async fn connect(endpoint: &str) -> Result<SendRequest<Full<Bytes>>, String> {
    let stream = TcpStream::connect(endpoint).await.map_err(|e| e.to_string())?;
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .map_err(|e| e.to_string())?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to the collector of spans ended badly");
        }
    });
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Query;

    #[test]
    fn configurations() {
        let parse = |rest: &str| {
            TracingOptions::parse(&format!(
                "apiVersion: apiserver.config.k8s.io/v1\nkind: TracingConfiguration\n{rest}"
            ))
        };
        let options = parse("endpoint: collector:4317\nsamplingRatePerMillion: 100").unwrap();
        assert_eq!(
            (&*options.endpoint, options.sampling_rate_per_million),
            ("collector:4317", 100)
        );
        let options = parse("").unwrap();
        assert_eq!(
            (&*options.endpoint, options.sampling_rate_per_million),
            (DEFAULT_ENDPOINT, 0)
        );
        assert!(parse("samplingRatePerMillion: 1000001").is_err());
        assert!(parse("samplingRatePerMillion: -1").is_err());
        assert!(TracingOptions::parse("apiVersion: v1\nkind: Pod").is_err());
        assert!(TracingOptions::parse("[").is_err());
    }

    #[test]
    fn names_have_no_names_of_objects() {
        let of = |path: &str| name(&Method::GET, &RequestInfo::parse(&Method::GET, path, &Query::default()));
        assert_eq!(of("/version"), "GET");
        assert_eq!(
            of("/api/v1/namespaces/a/pods/b/log"),
            "GET /api/v1/namespaces/{:namespace}/pods/{:name}/log"
        );
        assert_eq!(of("/apis/apps/v1/deployments"), "GET /apis/apps/v1/deployments");
    }

    #[test]
    fn parents() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("traceparent", text.parse().unwrap());
            SpanContext::of(&headers)
        };
        let good = of("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").unwrap();
        assert_eq!((good.trace[0], good.span[7]), (0x0a, 0x31));
        for bad in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
        ] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
