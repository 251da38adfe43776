//! Conversion by a webhook.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::harness::{CRDS, CRONTABS, crontab, crontabs, free, server};

const V2: &str = "/apis/stable.example.com/v2/namespaces/ns/crontabs";

/// A webhook that answers each review by a function; with its certificate in PEM.
struct Hook {
    address: SocketAddr,
    ca: String,
    calls: Arc<AtomicUsize>,
}

async fn hook(answer: impl Fn(&Value) -> Value + Send + Sync + 'static) -> Hook {
    let names = ["127.0.0.1".to_owned(), "hook.ns.svc".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (answer, calls) = (Arc::new(answer), Arc::new(AtomicUsize::new(0)));
    let counted = calls.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, answer, calls) = (acceptor.clone(), answer.clone(), counted.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else {
                    return;
                };
                let serve = service_fn(move |request: Request<Incoming>| {
                    let (answer, calls) = (answer.clone(), calls.clone());
                    async move {
                        let body = request.into_body().collect().await?.to_bytes();
                        calls.fetch_add(1, Ordering::Relaxed);
                        let review: Value = serde_json::from_slice(&body).unwrap();
                        let bytes = serde_json::to_vec(&answer(&review)).unwrap();
                        Ok::<_, hyper::Error>(Response::new(Full::new(Bytes::from(bytes))))
                    }
                });
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), serve)
                    .await;
            });
        }
    });
    Hook {
        address,
        ca: made.cert.pem(),
        calls,
    }
}

fn base64(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// `spec.hostPort` in v1 is `spec.host` and `spec.port` in v2.
fn convert(review: &Value) -> Value {
    let wanted = review["request"]["desiredAPIVersion"].as_str().unwrap();
    let objects = review["request"]["objects"].as_array().unwrap().iter().map(|object| {
        let mut object = object.clone();
        let spec = object["spec"].clone();
        object["apiVersion"] = wanted.into();
        object["spec"] = if wanted.ends_with("v2") {
            let (host, port) = spec["hostPort"].as_str().unwrap().split_once(':').unwrap();
            json!({"host": host, "port": port})
        } else {
            json!({"hostPort": format!("{}:{}", spec["host"].as_str().unwrap(), spec["port"].as_str().unwrap())})
        };
        object["metadata"]["labels"] = json!({"converted": "yes"});
        object
    });
    json!({"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1", "response": {
        "uid": review["request"]["uid"], "result": {"status": "Success"},
        "convertedObjects": objects.collect::<Vec<_>>()}})
}

fn definition(hook: &Hook, client: Value) -> Value {
    let mut definition = crontabs(free());
    let mut second = definition["spec"]["versions"][0].clone();
    second["name"] = "v2".into();
    second["storage"] = false.into();
    let text = json!({"type": "string"});
    second["schema"]["openAPIV3Schema"]["properties"]["spec"] =
        json!({"type": "object", "properties": {"host": text, "port": text}});
    second["selectableFields"] = json!([{"jsonPath": ".spec.host"}]);
    definition["spec"]["versions"].as_array_mut().unwrap().push(second);
    definition["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {
        "conversionReviewVersions": ["v1"], "clientConfig": client}});
    definition["spec"]["conversion"]["webhook"]["clientConfig"]["caBundle"] = base64(&hook.ca).into();
    definition
}

#[tokio::test]
async fn objects_are_converted_by_a_url() {
    let server = server().await;
    let hook = hook(convert).await;
    let url = format!("https://127.0.0.1:{}/convert", hook.address.port());
    server.define(&definition(&hook, json!({"url": url}))).await;
    server
        .post(CRONTABS, &crontab("a", json!({"hostPort": "x:80"})))
        .await
        .expect(201);
    let read = server.get(&format!("{V2}/a")).await.expect(200);
    assert_eq!(read["spec"], json!({"host": "x", "port": "80"}));
    assert_eq!(read["metadata"]["labels"], json!({"converted": "yes"}));
    let calls = hook.calls.load(Ordering::Relaxed);
    server.get(&format!("{V2}/a")).await.expect(200);
    assert_eq!(hook.calls.load(Ordering::Relaxed), calls, "a conversion is remembered");
    let mut watch = server.watch(&format!("{V2}?watch=1&fieldSelector=spec.host%3Dy")).await;
    let mut two = crontab("b", json!({"host": "y", "port": "1"}));
    two["apiVersion"] = "stable.example.com/v2".into();
    server.post(V2, &two).await.expect(201);
    assert_eq!(watch.change().await, ("ADDED".into(), "b".into()));
    let list = server.get(CRONTABS).await.expect(200);
    assert_eq!(list["items"][1]["spec"], json!({"hostPort": "y:1"}));
    let both = server
        .get(&format!("{V2}?fieldSelector=spec.host%3Dx"))
        .await
        .expect(200);
    assert_eq!(both["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn objects_are_converted_by_a_service() {
    let server = server().await;
    let hook = hook(convert).await;
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hook"},
        "spec": {"ports": [{"port": 443, "targetPort": 9443, "name": "https"}]}});
    server
        .post("/api/v1/namespaces/ns/services", &service)
        .await
        .expect(201);
    let url = |port: u16| format!("https://127.0.0.1:{port}/convert");
    // The only endpoint is on this machine, which slices may not name: a name that resolves to it may.
    let external = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "out"},
        "spec": {"type": "ExternalName", "externalName": "localhost"}});
    server
        .post("/api/v1/namespaces/ns/services", &external)
        .await
        .expect(201);
    let client = json!({"service": {"namespace": "ns", "name": "hook", "path": "/convert"}});
    server.define(&definition(&hook, client)).await;
    server
        .post(CRONTABS, &crontab("a", json!({"hostPort": "x:80"})))
        .await
        .expect(201);
    let message = server.get(&format!("{V2}/a")).await.refused(500);
    assert_eq!(
        message,
        "conversion webhook for stable.example.com/v1, Kind=CronTab failed: Post \"https://hook.ns.svc:443/convert\": no endpoints available for service \"hook\""
    );
    assert!(url(1).starts_with("https"));
}

#[tokio::test]
async fn a_webhook_may_not_change_identities() {
    let server = server().await;
    let hook = hook(|review| {
        let mut answer = convert(review);
        answer["response"]["convertedObjects"][0]["metadata"]["name"] = "other".into();
        answer
    })
    .await;
    let url = format!("https://127.0.0.1:{}/", hook.address.port());
    server.define(&definition(&hook, json!({"url": url}))).await;
    let mut two = crontab("b", json!({"host": "y", "port": "1"}));
    two["apiVersion"] = "stable.example.com/v2".into();
    let message = server.post(V2, &two).await.refused(500);
    assert!(
        message.ends_with("returned invalid converted object at index 0: must have the same name: b != other"),
        "{message}"
    );
    assert_eq!(server.get(CRONTABS).await.expect(200)["items"], json!([]));
}

#[tokio::test]
async fn conversions_need_pruning_and_a_known_review() {
    let server = server().await;
    let hook = hook(convert).await;
    let mut bad = definition(&hook, json!({"url": "http://x/"}));
    bad["spec"]["conversion"]["webhook"]["conversionReviewVersions"] = json!(["v9"]);
    let message = server.post(CRDS, &bad).await.refused(422);
    assert!(
        message.contains(
            "spec.conversion.webhookClientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme"
        ),
        "{message}"
    );
    assert!(
        message.contains("must include at least one of v1, v1beta1"),
        "{message}"
    );
}
