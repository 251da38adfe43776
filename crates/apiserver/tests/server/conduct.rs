//! How the server conducts itself: audit, priority and fairness, metrics, health.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use apiserver::audit::{LogMode, LogOptions, Options, Truncation, WebhookOptions};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

use crate::harness::{Server, admin, config_map, kinds, server, server_with, user};

const MAPS: &str = "/api/v1/namespaces/ns/configmaps";

const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
rules:
- level: None
  nonResourceURLs: [/livez]
- level: RequestResponse
  omitManagedFields: true
  resources:
  - resources: [configmaps]
- level: Metadata
";

/// The events in a log, once there are as many as wanted.
async fn events(path: &std::path::Path, count: usize) -> Vec<Value> {
    loop {
        let text = tokio::fs::read_to_string(path).await.unwrap_or_default();
        let lines: Vec<Value> = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        if lines.len() >= count {
            return lines;
        }
        tokio::task::yield_now().await;
    }
}

async fn audited(change: impl FnOnce(&mut Options)) -> Server {
    let mut options = Options {
        policy: POLICY.to_owned(),
        ..Options::default()
    };
    change(&mut options);
    server_with(kinds(), |config| config.audit = Some(options)).await
}

#[tokio::test]
async fn what_is_asked_and_answered_is_logged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let log = LogOptions {
        path: path.clone(),
        ..LogOptions::default()
    };
    let server = audited(|options| options.log = Some(log)).await;
    server.get("/livez").await;
    server.namespace("ns").await;
    server
        .post(MAPS, &config_map("a", &json!({"k": "v"})))
        .await
        .expect(201);
    server.get(&format!("{MAPS}/none")).await.expect(404);
    server.call_as(user("jane"), "GET", MAPS, None, &[]).await.expect(403);
    let events = events(&path, 8).await;
    let stages: Vec<(&str, &str)> = events
        .iter()
        .map(|event| (event["verb"].as_str().unwrap(), event["stage"].as_str().unwrap()))
        .collect();
    assert_eq!(
        stages[..2],
        [("create", "RequestReceived"), ("create", "ResponseComplete")]
    );
    let namespace = &events[1];
    assert_eq!(namespace["level"], "Metadata");
    assert_eq!(namespace.get("requestObject"), None);
    assert_eq!(namespace["annotations"]["authorization.k8s.io/decision"], "allow");
    let create = &events[3];
    assert_eq!(create["kind"], "Event");
    assert_eq!(create["user"]["username"], "admin");
    assert_eq!(create["requestURI"], MAPS);
    assert_eq!(create["objectRef"]["resource"], "configmaps");
    assert_eq!(create["objectRef"]["namespace"], "ns");
    assert_eq!(create["requestObject"]["data"]["k"], "v");
    assert_eq!(create["responseObject"]["metadata"]["name"], "a");
    assert_eq!(create["responseObject"]["metadata"].get("managedFields"), None);
    assert_eq!(create["responseStatus"]["code"], 201);
    let missing = &events[5];
    assert_eq!(missing["responseStatus"]["reason"], "NotFound");
    assert_eq!(missing["responseStatus"]["code"], 404);
    let forbidden = &events[7];
    assert_eq!(forbidden["annotations"]["authorization.k8s.io/decision"], "forbid");
    assert_eq!(forbidden["responseStatus"]["code"], 403);
}

/// Every line of the log as it is now.
fn logged(path: &std::path::Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn requests_wait_for_the_log_and_long_events_are_cut() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let log = LogOptions {
        path: path.clone(),
        truncation: Some(Truncation::default()),
        ..LogOptions::default()
    };
    let server = audited(|options| options.log = Some(log)).await;
    server.namespace("ns").await;
    let long = json!({"k": "x".repeat(200_000)});
    server.post(MAPS, &config_map("a", &long)).await.expect(201);
    let events = logged(&path);
    let last = events.last().unwrap();
    assert_eq!(
        (&last["stage"], &last["verb"]),
        (&json!("ResponseComplete"), &json!("create"))
    );
    assert_eq!(last["annotations"]["audit.k8s.io/truncated"], "true");
    assert_eq!((last.get("requestObject"), last.get("responseObject")), (None, None));
    assert_eq!(last["annotations"]["authorization.k8s.io/decision"], "allow");
    server
        .post(MAPS, &config_map("b", &json!({"k": "v"})))
        .await
        .expect(201);
    let events = logged(&path);
    assert_eq!(events.last().unwrap()["requestObject"]["data"]["k"], "v");
}

#[tokio::test]
async fn a_strict_log_that_cannot_be_written_stops_requests() {
    for (mode, code) in [(LogMode::Blocking, 200), (LogMode::BlockingStrict, 500)] {
        let log = LogOptions {
            path: "/dev/full".into(),
            mode,
            ..LogOptions::default()
        };
        let server = audited(|options| options.log = Some(log)).await;
        let answer = server.get("/api/v1/namespaces").await;
        assert_eq!(answer.code, code, "{}", answer.text());
        if code == 500 {
            let message = answer.json()["message"].as_str().unwrap().to_owned();
            assert!(message.contains("failed to store audit event"), "{message}");
        }
    }
}

/// A collector of spans: HTTP/2 without TLS, as gRPC speaks it.
#[tokio::test]
async fn spans_of_requests_are_sent() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    let (sender, mut messages) = tokio::sync::mpsc::channel::<Vec<u8>>(4);
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let service = service_fn(move |request: http::Request<Incoming>| {
            let sender = sender.clone();
            async move {
                assert_eq!(request.headers()["content-type"], "application/grpc");
                assert_eq!(
                    request.uri().path(),
                    "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
                );
                let body = request.into_body().collect().await.unwrap().to_bytes();
                sender.send(body.to_vec()).await.unwrap();
                let mut answer = http::Response::new(http_body_util::Empty::<Bytes>::new());
                answer.headers_mut().insert("grpc-status", "0".parse().unwrap());
                Ok::<_, std::convert::Infallible>(answer)
            }
        });
        hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service)
            .await
            .unwrap();
    });
    let server = server().await;
    server.api.export_spans(apiserver::TracingOptions {
        endpoint,
        sampling_rate_per_million: 1_000_000,
        batch_wait: Duration::ZERO,
    });
    let parent = [("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")];
    for path in ["/api/v1/namespaces/a/pods/b", "/api/v1/namespaces/a/pods/b"] {
        server.call_as(admin(), "GET", path, None, &parent).await.expect(404);
        let message = messages.recv().await.unwrap();
        let length = u32::from_be_bytes(message[1..5].try_into().unwrap());
        assert_eq!((message[0], length as usize), (0, message.len() - 5));
        let has = |wanted: &[u8]| message.windows(wanted.len()).any(|part| part == wanted);
        for wanted in [
            "GET /api/v1/namespaces/{:namespace}/pods/{:name}",
            "service.name",
            "url.path",
            path,
            "audit-id",
        ] {
            assert!(has(wanted.as_bytes()), "{wanted}");
        }
        assert!(has(&[0x0a, 0xf7, 0x65, 0x19]), "the client's trace is linked to");
    }
}

#[tokio::test]
async fn a_watch_is_logged_when_it_begins_and_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let log = LogOptions {
        path: path.clone(),
        ..LogOptions::default()
    };
    let server = audited(|options| options.log = Some(log)).await;
    let watch = server.watch("/api/v1/namespaces?watch=1").await;
    let begun = events(&path, 2).await;
    assert_eq!(begun[1]["stage"], "ResponseStarted");
    drop(watch);
    assert_eq!(events(&path, 3).await[2]["stage"], "ResponseComplete");
}

#[tokio::test]
async fn events_are_posted_together() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, mut posts) = tokio::sync::mpsc::channel::<Value>(4);
    let refusals = Arc::new(Mutex::new(1));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (sender, refusals) = (sender.clone(), refusals.clone());
            let service = service_fn(move |request: http::Request<Incoming>| {
                let (sender, refusals) = (sender.clone(), refusals.clone());
                async move {
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    let refuse = std::mem::take(&mut *refusals.lock().unwrap()) > 0;
                    let mut answer = http::Response::new(Full::new(Bytes::new()));
                    if refuse {
                        *answer.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
                    } else {
                        sender.send(serde_json::from_slice(&body).unwrap()).await.unwrap();
                    }
                    Ok::<_, std::convert::Infallible>(answer)
                }
            });
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::spawn(connection);
        }
    });
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let mut webhook = WebhookOptions::new(format!("http://{address}/audit").parse().unwrap(), tls.into());
    webhook.batch_size = 4;
    webhook.batch_wait = Duration::from_secs(60);
    webhook.first_pause = Duration::from_millis(1);
    let server = audited(|options| options.webhook = Some(webhook)).await;
    server.namespace("a").await;
    server.namespace("b").await;
    let list = posts.recv().await.unwrap();
    assert_eq!(list["kind"], "EventList");
    assert_eq!(list["apiVersion"], "audit.k8s.io/v1");
    assert_eq!(list["items"].as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn answers_name_their_priority_level() {
    let kinds = {
        let mut kinds = kinds();
        let group = "flowcontrol.apiserver.k8s.io";
        kinds.push(apiserver::Kind::cluster(group, "v1", "FlowSchema", "flowschemas"));
        kinds.push(apiserver::Kind::cluster(
            group,
            "v1",
            "PriorityLevelConfiguration",
            "prioritylevelconfigurations",
        ));
        kinds
    };
    let server = server_with(kinds, |config| config.limits.in_flight = 1).await;
    server.api.ready().await;
    let unset = server.get("/api/v1/namespaces").await;
    assert_eq!(unset.headers["x-kubernetes-pf-flowschema-uid"], "");
    let mut uids = std::collections::BTreeMap::new();
    for object in apiserver::flow_control_defaults() {
        let plural = match object["kind"].as_str().unwrap() {
            "FlowSchema" => "flowschemas",
            _ => "prioritylevelconfigurations",
        };
        let path = format!("/apis/flowcontrol.apiserver.k8s.io/v1/{plural}");
        let made = server.post(&path, &object).await.expect(201);
        let name = made["metadata"]["name"].as_str().unwrap().to_owned();
        uids.insert((plural, name), made["metadata"]["uid"].as_str().unwrap().to_owned());
    }
    let wanted = &uids[&("flowschemas", "exempt".to_owned())];
    loop {
        let answer = server.get("/api/v1/namespaces").await;
        if answer.headers["x-kubernetes-pf-flowschema-uid"] == wanted.as_str() {
            let level = &uids[&("prioritylevelconfigurations", "exempt".to_owned())];
            assert_eq!(answer.headers["x-kubernetes-pf-prioritylevel-uid"], level.as_str());
            break;
        }
        tokio::task::yield_now().await;
    }
    let refused = server.call_as(user("jane"), "GET", MAPS, None, &[]).await;
    let schema = &uids[&("flowschemas", "global-default".to_owned())];
    assert_eq!(refused.code, 403);
    assert_eq!(refused.headers["x-kubernetes-pf-flowschema-uid"], schema.as_str());
    let dump = server
        .get("/debug/api_priority_and_fairness/dump_priority_levels")
        .await;
    assert!(
        dump.text().contains("global-default, 0, true, false, 0, 0, 1, 0, 0, 0"),
        "{}",
        dump.text()
    );
}

#[tokio::test]
async fn metrics_have_upstreams_names() {
    let server = server().await;
    server.namespace("ns").await;
    server.post(MAPS, &config_map("a", &json!({}))).await.expect(201);
    // Objects are counted as the cache has them; a list waits until that has come so far.
    server.get(MAPS).await.expect(200);
    server.get("/api/v1/namespaces/ns/cakes").await;
    let text = server.get("/metrics").await;
    assert_eq!(text.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let text = text.text();
    for line in [
        "apiserver_request_total{code=\"201\",component=\"apiserver\",dry_run=\"\",group=\"\",resource=\"configmaps\",scope=\"namespace\",subresource=\"\",verb=\"POST\",version=\"v1\"} 1",
        "apiserver_storage_objects{resource=\"configmaps\"} 1",
        "apiserver_current_inflight_requests{request_kind=\"readOnly\"} 1",
        "apiserver_flowcontrol_nominal_limit_seats{priority_level=\"system\"} 74",
        "authentication_attempts{result=\"success\"}",
        "authorization_attempts_total{result=\"allowed\"}",
        "apiserver_request_sli_duration_seconds_count{component=\"apiserver\",group=\"\",resource=\"configmaps\",scope=\"namespace\",subresource=\"\",verb=\"POST\",version=\"v1\"} 1",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    assert!(!text.contains("cakes"));
    // Every line is a comment or a sample.
    for line in text.lines() {
        let sample = line
            .rsplit_once(' ')
            .is_some_and(|(_, value)| value.parse::<f64>().is_ok());
        assert!(line.starts_with("# ") || sample, "{line}");
    }
}

#[tokio::test]
async fn health_is_told_check_by_check() {
    let server = server().await;
    server.api.ready().await;
    for endpoint in ["livez", "readyz", "healthz"] {
        let plain = server.get(&format!("/{endpoint}")).await;
        assert_eq!((plain.code, &*plain.text()), (200, "ok"));
        let verbose = server.get(&format!("/{endpoint}?verbose")).await.text();
        assert!(verbose.starts_with("[+]ping ok\n[+]log ok\n[+]etcd ok\n"), "{verbose}");
        assert!(verbose.ends_with(&format!("{endpoint} check passed\n")), "{verbose}");
        for hook in [
            "poststarthook/generic-apiserver-start-informers",
            "poststarthook/start-apiextensions-controllers",
            "autoregister-completion",
        ] {
            assert!(verbose.contains(&format!("\n[+]{hook} ok\n")), "{verbose}");
        }
        assert_eq!(server.get(&format!("/{endpoint}/ping")).await.text(), "ok");
        assert_eq!(server.get(&format!("/{endpoint}/cake")).await.code, 404);
    }
    let excluded = server.get("/readyz?verbose&exclude=etcd&exclude=cake").await.text();
    assert!(excluded.contains("[+]etcd excluded: ok\n"));
    assert!(excluded.contains("warn: some health checks cannot be excluded: no matches for \"cake\""));
    server.api.drain();
    assert_eq!(server.get("/livez").await.code, 200);
    let unready = server.get("/readyz").await;
    assert_eq!(unready.code, 500);
    assert!(unready.text().contains("[-]shutdown failed: reason withheld"));
}
