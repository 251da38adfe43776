//! A server in this process over a store in a temporary directory.

use apiserver::kind::{Deletion, Kind, NameRule, SelectableField};
use apiserver::{ApiServer, Body, Config, Peer, UserInfo, body};
use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};

pub struct Server {
    pub api: ApiServer,
    pub store: store::Store,
}

pub struct Answer {
    pub code: u16,
    pub headers: http::HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The JSON, if the code is as expected.
    #[track_caller]
    pub fn expect(&self, code: u16) -> Value {
        assert_eq!(self.code, code, "{}", self.text());
        self.json()
    }
}

/// Kinds enough to try the verbs: a plain one, namespaces, one with spec, status and scale, pods.
pub fn kinds() -> Vec<Kind> {
    let held = |o: &Value| o["spec"]["finalizers"].as_array().is_some_and(|f| !f.is_empty());
    vec![
        Kind::namespaced("", "v1", "ConfigMap", "configmaps").short_names(&["cm"]),
        Kind::cluster("", "v1", "Namespace", "namespaces")
            .with_status()
            .prepare_create(|_, o| {
                o["status"] = json!({"phase": "Active"});
                o["spec"] = json!({"finalizers": ["kubernetes"]});
            })
            .deletion(Deletion {
                held: Some(std::sync::Arc::new(held)),
                on_mark: Some(std::sync::Arc::new(|o| o["status"]["phase"] = json!("Terminating"))),
                returns_object: true,
                ..Deletion::default()
            }),
        Kind::namespaced("apps", "v1", "Deployment", "deployments")
            .with_status()
            .with_scale()
            .with_generation(),
        Kind::namespaced("", "v1", "Pod", "pods")
            .with_status()
            .selectable(SelectableField::path("spec.nodeName"))
            .selectable(SelectableField::path("status.phase"))
            .deletion(Deletion {
                grace: Some(std::sync::Arc::new(|o, asked| {
                    let scheduled = o["spec"]["nodeName"].as_str().is_some_and(|n| !n.is_empty());
                    scheduled.then(|| asked.unwrap_or(30))
                })),
                returns_object: true,
                ..Deletion::default()
            }),
    ]
}

pub async fn server() -> Server {
    server_of(kinds()).await
}

pub async fn server_of(kinds: Vec<Kind>) -> Server {
    server_with(kinds, |_| {}).await
}

/// A server of these kinds, with a changed configuration.
pub async fn server_with(kinds: Vec<Kind>, change: impl FnOnce(&mut Config)) -> Server {
    server_over(store::Store::temporary().unwrap(), kinds, change)
}

/// The same over a store that others may use too.
pub fn server_over(store: store::Store, kinds: Vec<Kind>, change: impl FnOnce(&mut Config)) -> Server {
    let mut config = Config {
        kinds,
        store: store.clone(),
        pools: Vec::new(),
        service_account: None,
        client_certificates: None,
        kubelet_tls: None,
        address: "127.0.0.1:6443".to_owned(),
        admission: apiserver::Admission::default(),
        audit: None,
        limits: apiserver::Limits::default(),
    };
    change(&mut config);
    Server {
        api: ApiServer::new(config).unwrap(),
        store,
    }
}

/// The kinds of RBAC.
pub fn rbac_kinds() -> Vec<Kind> {
    const GROUP: &str = "rbac.authorization.k8s.io";
    [
        Kind::cluster(GROUP, "v1", "ClusterRole", "clusterroles"),
        Kind::cluster(GROUP, "v1", "ClusterRoleBinding", "clusterrolebindings"),
        Kind::namespaced(GROUP, "v1", "Role", "roles"),
        Kind::namespaced(GROUP, "v1", "RoleBinding", "rolebindings"),
    ]
    .map(|kind| kind.name_rule(NameRule::PathSegment))
    .into()
}

/// A user without any rights of its own.
pub fn user(name: &str) -> Peer {
    Peer {
        address: None,
        user: Some(UserInfo::new(name, &[])),
        ..Peer::default()
    }
}

pub fn admin() -> Peer {
    Peer {
        address: None,
        user: Some(UserInfo::new("admin", &["system:masters"])),
        ..Peer::default()
    }
}

impl Server {
    pub async fn raw(&self, request: Request<Body>, peer: Peer) -> http::Response<Body> {
        self.api.handle(request, peer).await
    }

    pub async fn send(&self, request: Request<Body>, peer: Peer) -> Answer {
        let response = self.raw(request, peer).await;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer {
            code: parts.status.as_u16(),
            headers: parts.headers,
            body,
        }
    }

    pub async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        self.call_as(admin(), method, path, body, &[]).await
    }

    pub async fn call_as(
        &self,
        peer: Peer,
        method: &str,
        path: &str,
        content: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let content = content.map(|v| serde_json::to_vec(v).unwrap());
        let body = content.map_or_else(body::empty, body::full);
        self.send(request.body(body).unwrap(), peer).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, None).await
    }

    pub async fn post(&self, path: &str, object: &Value) -> Answer {
        self.call("POST", path, Some(object)).await
    }

    pub async fn put(&self, path: &str, object: &Value) -> Answer {
        self.call("PUT", path, Some(object)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.call("DELETE", path, None).await
    }

    pub async fn patch(&self, path: &str, media: &str, patch: &Value) -> Answer {
        self.call_as(admin(), "PATCH", path, Some(patch), &[("content-type", media)])
            .await
    }

    /// Makes a namespace.
    pub async fn namespace(&self, name: &str) {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        self.post("/api/v1/namespaces", &object).await.expect(201);
    }

    /// Starts a watch; its lines come from [`Lines::next`].
    pub async fn watch(&self, path: &str) -> Lines {
        let request = Request::builder().uri(path).body(body::empty()).unwrap();
        let response = self.raw(request, admin()).await;
        assert_eq!(response.status(), 200);
        Lines {
            body: response.into_body(),
            buffer: Vec::new(),
        }
    }
}

/// The JSON lines of a watch.
pub struct Lines {
    body: Body,
    buffer: Vec<u8>,
}

impl Lines {
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

pub fn config_map(name: &str, data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}
