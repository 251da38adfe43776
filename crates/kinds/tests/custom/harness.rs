//! A server of all built-in kinds in this process.

use apiserver::{ApiServer, Body, Config, Peer, Pool, UserInfo, Values, body};
use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};

pub const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

pub struct Server {
    pub api: ApiServer,
    _store: store::Store,
}

pub struct Answer {
    pub code: u16,
    pub headers: http::HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn expect(&self, code: u16) -> Value {
        assert_eq!(self.code, code, "{}", self.text());
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    #[track_caller]
    pub fn refused(&self, code: u16) -> String {
        self.expect(code)["message"].as_str().unwrap_or_default().to_owned()
    }
}

pub async fn server() -> Server {
    let store = store::Store::temporary().unwrap();
    let config = Config {
        kinds: kinds::all(),
        store: store.clone(),
        pools: vec![
            Pool {
                name: kinds::pools::SERVICE_IPV4.into(),
                values: Values::Addresses("10.96.0.0/16".parse().unwrap()),
            },
            Pool {
                name: kinds::pools::NODE_PORTS.into(),
                values: Values::Ports(30000..=32767),
            },
        ],
        service_account: None,
        kubelet_tls: None,
        client_certificates: None,
        address: "127.0.0.1:6443".to_owned(),
        admission: apiserver::Admission::default(),
        audit: None,
        limits: apiserver::Limits::default(),
    };
    let server = Server {
        api: ApiServer::new(config).unwrap(),
        _store: store,
    };
    server.api.ready().await;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ns"}});
    server.post("/api/v1/namespaces", &namespace).await.expect(201);
    server
}

pub fn admin() -> Peer {
    Peer {
        user: Some(UserInfo::new("admin", &["system:masters"])),
        ..Peer::default()
    }
}

impl Server {
    pub async fn raw(&self, request: Request<Body>) -> http::Response<Body> {
        self.api.handle(request, admin()).await
    }

    pub async fn call(&self, method: &str, path: &str, content: Option<&Value>, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let content = content.map(|v| serde_json::to_vec(v).unwrap());
        let body = content.map_or_else(body::empty, body::full);
        self.answer(request.body(body).unwrap(), admin()).await
    }

    /// The whole answer to a request.
    pub async fn answer(&self, request: Request<Body>, peer: Peer) -> Answer {
        let response = self.api.handle(request, peer).await;
        let (parts, body) = response.into_parts();
        Answer {
            code: parts.status.as_u16(),
            headers: parts.headers,
            body: body.collect().await.unwrap().to_bytes(),
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, None, &[]).await
    }

    pub async fn post(&self, path: &str, object: &Value) -> Answer {
        self.call("POST", path, Some(object), &[]).await
    }

    pub async fn put(&self, path: &str, object: &Value) -> Answer {
        self.call("PUT", path, Some(object), &[]).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.call("DELETE", path, None, &[]).await
    }

    pub async fn patch(&self, path: &str, media: &str, patch: &Value) -> Answer {
        self.call("PATCH", path, Some(patch), &[("content-type", media)]).await
    }

    pub async fn table(&self, path: &str) -> Value {
        let accept = "application/json;as=Table;v=v1;g=meta.k8s.io";
        self.call("GET", path, None, &[("accept", accept)]).await.expect(200)
    }

    /// Creates a definition and waits until it says that it is established.
    pub async fn define(&self, definition: &Value) -> Value {
        self.post(CRDS, definition).await.expect(201);
        let name = definition["metadata"]["name"].as_str().unwrap();
        self.definition_when(name, |object| condition(object, "Established")["status"] == "True")
            .await
    }

    /// The definition once something is true of it.
    pub async fn definition_when(&self, name: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let mut watch = self
            .watch(&format!("{CRDS}?watch=1&fieldSelector=metadata.name%3D{name}"))
            .await;
        loop {
            let event = watch.next().await.expect("the watch goes on");
            if event["type"] != "DELETED" && holds(&event["object"]) {
                return event["object"].clone();
            }
        }
    }

    pub async fn watch(&self, path: &str) -> Lines {
        let request = Request::builder().uri(path).body(body::empty()).unwrap();
        let response = self.raw(request).await;
        assert_eq!(response.status(), 200);
        Lines {
            body: response.into_body(),
            buffer: Vec::new(),
        }
    }
}

/// A condition of an object, or null.
pub fn condition(object: &Value, ty: &str) -> Value {
    let list = object["status"]["conditions"].as_array().into_iter().flatten();
    list.into_iter()
        .find(|c| c["type"] == ty)
        .cloned()
        .unwrap_or(Value::Null)
}

/// The JSON lines of a watch.
pub struct Lines {
    body: Body,
    buffer: Vec<u8>,
}

impl Lines {
    /// `None` when the watch has ended.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = self.body.frame().await?.unwrap();
            self.buffer.extend_from_slice(&frame.into_data().unwrap());
        }
    }

    /// (type, name) of the next event.
    pub async fn change(&mut self) -> (String, String) {
        let event = self.next().await.expect("the watch goes on");
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        (text(&event["type"]), text(&event["object"]["metadata"]["name"]))
    }
}

/// A definition of `crontabs.stable.example.com` with this schema for `spec`, in one version.
pub fn crontabs(spec: Value) -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "crontabs.stable.example.com"},
        "spec": {"group": "stable.example.com", "scope": "Namespaced",
            "names": {"plural": "crontabs", "kind": "CronTab", "shortNames": ["ct"], "categories": ["all"]},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema":
                {"type": "object", "properties": {"spec": spec, "status": {"type": "object",
                    "x-kubernetes-preserve-unknown-fields": true}}}}}]}})
}

pub const CRONTABS: &str = "/apis/stable.example.com/v1/namespaces/ns/crontabs";

pub fn crontab(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "stable.example.com/v1", "kind": "CronTab", "metadata": {"name": name}, "spec": spec})
}

/// An object of unknown members.
pub fn free() -> Value {
    json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}
