//! A server of every built-in kind, in this process.

use apiserver::{ApiServer, Body, Config, Peer, UserInfo, body};
use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use serde_json::Value;

pub struct Server(ApiServer);

pub struct Answer {
    pub code: u16,
    pub body: Bytes,
}

impl Answer {
    /// The JSON, if the code is as expected.
    #[track_caller]
    pub fn expect(&self, code: u16) -> Value {
        assert_eq!(self.code, code, "{}", String::from_utf8_lossy(&self.body));
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }
}

pub async fn server() -> Server {
    let config = Config {
        kinds: kinds::all(),
        store: store::Store::temporary().unwrap(),
        pools: Vec::new(),
        service_account: None,
        client_certificates: None,
        kubelet_tls: None,
        address: "127.0.0.1:6443".to_owned(),
        admission: apiserver::Admission::default(),
        audit: None,
        limits: apiserver::Limits::default(),
    };
    let server = Server(ApiServer::new(config).unwrap());
    server.0.ready().await;
    server
}

impl Server {
    pub async fn call(&self, method: &str, path: &str, content: Option<&Value>, headers: &[(&str, &str)]) -> Answer {
        let response = self.0.handle(request(method, path, content, headers), admin()).await;
        let code = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        Answer { code, body }
    }

    pub async fn get(&self, path: &str) -> Value {
        self.call("GET", path, None, &[]).await.expect(200)
    }

    pub async fn post(&self, path: &str, content: &Value) -> Value {
        self.call("POST", path, Some(content), &[]).await.expect(201)
    }

    pub async fn put(&self, path: &str, content: &Value) -> Value {
        self.call("PUT", path, Some(content), &[]).await.expect(200)
    }

    /// The first events of a watch.
    pub async fn events(&self, path: &str, count: usize) -> Vec<Value> {
        let response = self.0.handle(request("GET", path, None, &[]), admin()).await;
        assert_eq!(response.status(), 200);
        let mut body = response.into_body();
        let mut text = Vec::new();
        while text.iter().filter(|byte| **byte == b'\n').count() < count {
            let frame = body.frame().await.expect("the watch goes on").unwrap();
            text.extend_from_slice(&frame.into_data().unwrap());
        }
        let lines = String::from_utf8(text).unwrap();
        lines
            .lines()
            .take(count)
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

fn admin() -> Peer {
    Peer {
        user: Some(UserInfo::new("admin", &["system:masters"])),
        ..Peer::default()
    }
}

fn request(method: &str, path: &str, content: Option<&Value>, headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    if content.is_some() && !headers.iter().any(|(name, _)| *name == "content-type") {
        request = request.header("content-type", "application/json");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let bytes = content.map(|value| value.to_string()).unwrap_or_default();
    request.body(body::full(bytes)).unwrap()
}
