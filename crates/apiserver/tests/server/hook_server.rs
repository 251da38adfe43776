//! A webhook: a TLS server on the loopback that keeps what it is asked and answers as told.

use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What a webhook was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Path and query.
    pub uri: String,
    pub authorization: String,
    pub host: String,
    pub review: Value,
}

impl Asked {
    pub fn request(&self) -> &Value {
        &self.review["request"]
    }

    pub fn name(&self) -> &str {
        self.request()["name"].as_str().unwrap_or_default()
    }
}

type Answer = dyn Fn(&Asked) -> Option<Value> + Send + Sync;

pub struct HookServer {
    pub port: u16,
    /// The authority's certificate, base64 of PEM.
    pub ca: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl HookServer {
    /// A server whose reviews are answered by `answer`: the `response` without its uid, or nothing at
    /// all, ever.
    pub async fn start(answer: impl Fn(&Asked) -> Option<Value> + Send + Sync + 'static) -> HookServer {
        HookServer::raw(move |asked| {
            let mut response = answer(asked)?;
            if response.get("uid").is_none() {
                response["uid"] = asked.request()["uid"].clone();
            }
            Some(json!({
                "apiVersion": asked.review["apiVersion"], "kind": "AdmissionReview", "response": response,
            }))
        })
        .await
    }

    /// A server whose whole answers come from `answer`.
    pub async fn raw(answer: impl Fn(&Asked) -> Option<Value> + Send + Sync + 'static) -> HookServer {
        let (config, ca) = certificates();
        let acceptor = TlsAcceptor::from(config);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (kept, answer): (_, Arc<Answer>) = (asked.clone(), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, kept, answer) = (acceptor.clone(), kept.clone(), answer.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let service = service_fn(move |request| serve(request, kept.clone(), answer.clone()));
                    let served =
                        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                    drop(served.await);
                });
            }
        });
        HookServer { port, ca, asked }
    }

    /// What was asked since the last call.
    pub fn take(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    /// A client configuration by URL.
    pub fn client(&self, path: &str) -> Value {
        json!({"url": format!("https://127.0.0.1:{}{path}", self.port), "caBundle": self.ca})
    }

    /// A webhook for every write of config maps.
    pub fn hook(&self, name: &str, path: &str) -> Value {
        json!({
            "name": name, "clientConfig": self.client(path),
            "rules": [{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}],
            "admissionReviewVersions": ["v1"], "sideEffects": "None",
        })
    }
}

async fn serve(
    request: Request<Incoming>,
    kept: Arc<Mutex<Vec<Asked>>>,
    answer: Arc<Answer>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let header = |name: &str| {
        let value = request.headers().get(name).and_then(|v| v.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let (authorization, host, uri) = (header("authorization"), header("host"), request.uri().to_string());
    let body = request.into_body().collect().await?.to_bytes();
    let asked = Asked {
        uri,
        authorization,
        host,
        review: serde_json::from_slice(&body).unwrap(),
    };
    kept.lock().unwrap().push(asked.clone());
    let Some(answer) = answer(&asked) else {
        return std::future::pending().await;
    };
    let code = answer["code"].as_u64().unwrap_or(200) as u16;
    let body = match answer.get("text").and_then(Value::as_str) {
        Some(text) => text.as_bytes().to_vec(),
        None => serde_json::to_vec(&answer).unwrap(),
    };
    let response = Response::builder()
        .status(code)
        .header("content-type", "application/json");
    Ok(response.body(Full::new(Bytes::from(body))).unwrap())
}

fn certificates() -> (Arc<ServerConfig>, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = params.self_signed(&key).unwrap().pem();
    let issuer = rcgen::Issuer::new(params, key);
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["127.0.0.1".to_owned(), "hooks.ns.svc".to_owned()];
    let params = rcgen::CertificateParams::new(names).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .unwrap();
    (Arc::new(config), STANDARD.encode(ca))
}

/// A response that lets pass.
pub fn allow() -> Option<Value> {
    Some(json!({"allowed": true}))
}

/// A response that refuses with a message.
pub fn deny(message: &str) -> Option<Value> {
    Some(json!({"allowed": false, "status": {"message": message}}))
}

/// A response that changes the object.
pub fn patch(patch: &Value) -> Option<Value> {
    let patch = STANDARD.encode(serde_json::to_vec(patch).unwrap());
    Some(json!({"allowed": true, "patch": patch, "patchType": "JSONPatch"}))
}
