//! Versions that another server serves (`test/e2e/apimachinery/aggregator.go`).

use std::sync::Arc;

use apiserver::FrontProxy;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::harness::{CRDS, Server, condition, crontabs, free, server};

const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";

struct Authority {
    key: rcgen::KeyPair,
    params: rcgen::CertificateParams,
    pem: String,
    der: CertificateDer<'static>,
}

fn authority() -> Authority {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let made = params.self_signed(&key).unwrap();
    Authority {
        pem: made.pem(),
        der: made.der().clone(),
        key,
        params,
    }
}

impl Authority {
    fn issue(&self, name: &str, host: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.extended_key_usages = vec![
            rcgen::ExtendedKeyUsagePurpose::ClientAuth,
            rcgen::ExtendedKeyUsagePurpose::ServerAuth,
        ];
        let issuer = rcgen::Issuer::from_params(&self.params, &self.key);
        let made = params.signed_by(&key, &issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        (vec![made.der().clone()], key)
    }

    fn verifier(&self) -> Arc<dyn rustls::server::danger::ClientCertVerifier> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .unwrap()
    }
}

/// Answers like an extension API server: discovery, and the headers of whatever else is asked.
fn answer(request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    let body = match path {
        "/apis/remote.example.com/v1" => json!({"kind": "APIResourceList", "groupVersion": "remote.example.com/v1",
            "resources": [{"name": "things", "singularName": "thing", "namespaced": true, "kind": "Thing",
                "verbs": ["get", "list"]}]}),
        "/openapi/v3" => json!({"paths": {"apis/remote.example.com/v1":
            {"serverRelativeURL": "/openapi/v3/apis/remote.example.com/v1?hash=7"}}}),
        "/openapi/v3/apis/remote.example.com/v1" => json!({"openapi": "3.0.0", "remote": true,
            "asked": request.uri().query()}),
        "/openapi/v2" => json!({"swagger": "2.0", "info": {"title": "x", "version": "1"}, "paths": {
            "/apis/": {"get": {"responses": {"200": {"schema": {"$ref": "#/definitions/List"}}}}},
            "/apis/remote.example.com/v1/things": {"get": {"responses": {"200": {"description": "OK",
                "schema": {"$ref": "#/definitions/com.example.Thing"}}}}}},
            "definitions": {"List": {"type": "object"},
                "com.example.Thing": {"type": "object", "description": "A thing of elsewhere.",
                    "properties": {"metadata": {"$ref": "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}},
                    "x-kubernetes-group-version-kind": [{"group": "remote.example.com", "kind": "Thing", "version": "v1"}]},
                "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta": {"type": "object", "description": "older"}}}),
        "/apis" => json!({"kind": "APIGroupList"}),
        _ => {
            let of = |name: &str| -> Vec<&str> {
                let values = request.headers().get_all(name).iter();
                values.filter_map(|v| v.to_str().ok()).collect()
            };
            json!({"path": path, "query": request.uri().query(), "user": of("x-remote-user"),
                "groups": of("x-remote-group"), "authorization": of("authorization")})
        }
    };
    let mut answer = Response::new(Full::new(Bytes::from(body.to_string())));
    *answer.status_mut() = StatusCode::OK;
    answer
        .headers_mut()
        .insert("content-type", "application/json".parse().unwrap());
    answer
}

/// A server that believes front proxies of `trusted`; its port and its authority.
async fn extension(trusted: &Authority) -> (u16, String) {
    let own = authority();
    let (chain, key) = own.issue("extension", "ext.ns.svc");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(trusted.verifier())
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else {
                    return;
                };
                let serve = service_fn(|request| async move { Ok::<_, hyper::Error>(answer(&request)) });
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), serve)
                    .await;
            });
        }
    });
    (port, own.pem)
}

fn base64(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}

fn api_service(port: u16, ca: &str) -> Value {
    json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": "v1.remote.example.com"},
        "spec": {"group": "remote.example.com", "version": "v1", "groupPriorityMinimum": 2000,
            "versionPriority": 10, "caBundle": base64(ca),
            "service": {"namespace": "ns", "name": "ext", "port": port}}})
}

async fn available(server: &Server, name: &str, status: &str) -> Value {
    let mut watch = server
        .watch(&format!("{SERVICES}?watch=1&fieldSelector=metadata.name%3D{name}"))
        .await;
    loop {
        let event = watch.next().await.expect("the watch goes on");
        let found = condition(&event["object"], "Available");
        if found["status"] == status {
            return found;
        }
    }
}

#[tokio::test]
async fn requests_are_passed_on_to_another_server() {
    let server = server().await;
    let proxies = authority();
    server.api.use_front_proxy(FrontProxy {
        identity: proxies.issue("front-proxy-client", "x"),
        verifier: proxies.verifier(),
        allowed_names: vec!["front-proxy-client".to_owned()],
        ca_pem: proxies.pem.clone(),
        client_ca_pem: "clients".to_owned(),
    });
    let (port, ca) = extension(&proxies).await;
    server.post(SERVICES, &api_service(port, &ca)).await.expect(201);
    let missing = available(&server, "v1.remote.example.com", "False").await;
    assert_eq!(missing["reason"], "ServiceNotFound");
    assert_eq!(missing["message"], "service/ext in \"ns\" is not present");
    let refused = server.get("/apis/remote.example.com/v1/namespaces/ns/things").await;
    assert_eq!(
        (refused.code, refused.text()),
        (503, "service unavailable\n".to_owned())
    );
    let stale = aggregated(&server).await;
    assert_eq!(stale["freshness"], "Stale");
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "ext"},
        "spec": {"type": "ExternalName", "externalName": "localhost"}});
    server
        .post("/api/v1/namespaces/ns/services", &service)
        .await
        .expect(201);
    let passed = available(&server, "v1.remote.example.com", "True").await;
    assert_eq!(
        (&passed["reason"], &passed["message"]),
        (&json!("Passed"), &json!("all checks passed"))
    );
    let headers = [("x-remote-user", "forged"), ("authorization", "Basic x")];
    let path = "/apis/remote.example.com/v1/namespaces/ns/things?limit=5";
    let echo = server.call("GET", path, None, &headers).await.expect(200);
    assert_eq!(echo["path"], "/apis/remote.example.com/v1/namespaces/ns/things");
    assert_eq!(echo["query"], "limit=5");
    assert_eq!(echo["user"], json!(["admin"]));
    assert_eq!(echo["groups"], json!(["system:masters", "system:authenticated"]));
    assert_eq!(echo["authorization"], json!([]));
    let found = aggregated(&server).await;
    assert_eq!(
        (&found["freshness"], &found["resources"][0]["resource"]),
        (&json!("Current"), &json!("things"))
    );
    let group = server.get("/apis/remote.example.com").await.expect(200);
    assert_eq!(group["preferredVersion"]["groupVersion"], "remote.example.com/v1");
    let index = server.get("/openapi/v3").await.expect(200);
    let url = index["paths"]["apis/remote.example.com/v1"]["serverRelativeURL"]
        .as_str()
        .unwrap()
        .to_owned();
    let document = server.get(&url).await.expect(200);
    assert_eq!(
        (&document["remote"], &document["asked"]),
        (&json!(true), &json!("hash=7"))
    );
    swagger_has_things(&server).await;
    let mut watch = server.watch(&format!("{SERVICES}?watch=1")).await;
    server
        .delete(&format!("{SERVICES}/v1.remote.example.com"))
        .await
        .expect(200);
    while watch.change().await != ("DELETED".to_owned(), "v1.remote.example.com".to_owned()) {}
    let map = server
        .get("/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication")
        .await;
    assert_eq!(map.code, 404, "there is no kube-system yet");
}

/// What the other server says of its version is a part of our document.
async fn swagger_has_things(server: &Server) {
    let swagger = server.get("/openapi/v2").await.expect(200);
    assert!(swagger["paths"]["/apis/remote.example.com/v1/things"].is_object());
    assert!(swagger["paths"]["/api/v1/namespaces/{namespace}/pods"].is_object());
    let definitions = &swagger["definitions"];
    assert_eq!(definitions.get("List"), None);
    let meta = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
    assert_eq!(
        definitions["com.example.Thing"]["properties"]["metadata"]["$ref"],
        format!("#/definitions/{meta}_v2")
    );
    assert_eq!(definitions[format!("{meta}_v2")]["description"], "older");
    let accept = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let packed = server.call("GET", "/openapi/v2", None, &[("accept", accept)]).await;
    let text = String::from_utf8_lossy(&packed.body).into_owned();
    assert!(text.contains("A thing of elsewhere."));
}

async fn aggregated(server: &Server) -> Value {
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let document = server
        .call("GET", "/apis", None, &[("accept", accept)])
        .await
        .expect(200);
    let groups = document["items"].as_array().unwrap();
    let group = groups.iter().find(|g| g["metadata"]["name"] == "remote.example.com");
    group.map(|g| g["versions"][0].clone()).unwrap_or_default()
}

#[tokio::test]
async fn versions_of_custom_resources_have_local_services() {
    let server = server().await;
    let mut watch = server.watch(&format!("{SERVICES}?watch=1")).await;
    server.define(&crontabs(free())).await;
    while watch.change().await != ("ADDED".to_owned(), "v1.stable.example.com".to_owned()) {}
    let service = server
        .get(&format!("{SERVICES}/v1.stable.example.com"))
        .await
        .expect(200);
    assert_eq!(service["spec"]["groupPriorityMinimum"], 1000);
    assert_eq!(condition(&service, "Available")["reason"], "Local");
    server
        .delete(&format!("{CRDS}/crontabs.stable.example.com"))
        .await
        .expect(200);
    while watch.change().await != ("DELETED".to_owned(), "v1.stable.example.com".to_owned()) {}
}

#[tokio::test]
async fn other_servers_are_told_whom_to_believe() {
    let server = server().await;
    let proxies = authority();
    server.api.use_front_proxy(FrontProxy {
        identity: proxies.issue("front-proxy-client", "x"),
        verifier: proxies.verifier(),
        allowed_names: vec!["front-proxy-client".to_owned()],
        ca_pem: proxies.pem.clone(),
        client_ca_pem: "clients".to_owned(),
    });
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system"}});
    let maps = "/api/v1/namespaces/kube-system/configmaps";
    let mut watch = server.watch(&format!("{maps}?watch=1")).await;
    server.post("/api/v1/namespaces", &namespace).await.expect(201);
    while watch.change().await != ("ADDED".to_owned(), "extension-apiserver-authentication".to_owned()) {}
    let path = format!("{maps}/extension-apiserver-authentication");
    let map = server.get(&path).await.expect(200);
    assert_eq!(map["data"]["requestheader-client-ca-file"], *proxies.pem);
    assert_eq!(map["data"]["requestheader-allowed-names"], "[\"front-proxy-client\"]");
    server.delete(&path).await.expect(200);
    while watch.change().await != ("ADDED".to_owned(), "extension-apiserver-authentication".to_owned()) {}
}

#[tokio::test]
async fn a_front_proxy_names_the_user() {
    let server = server().await;
    let peer = |name: Option<&str>| apiserver::Peer {
        front_proxy: name.map(str::to_owned),
        bad_certificate: name.map(str::to_owned),
        ..apiserver::Peer::default()
    };
    let review = |peer, user: &'static str| {
        let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
        let request = Request::post("/apis/authentication.k8s.io/v1/selfsubjectreviews")
            .header("x-remote-user", user)
            .header("x-remote-group", "dev")
            .header("x-remote-group", "system:masters")
            .body(apiserver::body::full(body.to_string()))
            .unwrap();
        server.answer(request, peer)
    };
    let known = review(peer(Some("front-proxy-client")), "jane").await.expect(201);
    assert_eq!(known["status"]["userInfo"]["username"], "jane");
    assert_eq!(
        known["status"]["userInfo"]["groups"],
        json!(["dev", "system:masters", "system:authenticated"])
    );
    assert_eq!(review(peer(Some("front-proxy-client")), "").await.code, 401);
    let stranger = review(peer(None), "jane").await;
    assert_ne!(stranger.code, 201, "{}", stranger.text());
}
