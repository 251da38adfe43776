//! A small API server in memory: any resource, no schemas.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use client::{Body, BoxError, BoxFuture, ClientError, Transport, full_body};
use futures_util::stream;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;

type Key = (String, String, String);

#[derive(Default)]
struct State {
    revision: u64,
    objects: BTreeMap<Key, Value>,
    log: Vec<(u64, &'static str, String, Value)>,
    requests: Vec<String>,
}

pub struct Api {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

struct Path {
    resource: String,
    namespace: String,
    name: String,
    sub: String,
}

fn parse(path: &str) -> Path {
    let mut parts = path.trim_matches('/').split('/').peekable();
    let skip = if parts.next() == Some("api") { 1 } else { 2 };
    (0..skip).for_each(|_| {
        parts.next();
    });
    let mut namespace = String::new();
    if parts.peek() == Some(&"namespaces") && path.split('/').filter(|p| !p.is_empty()).count() > 4 {
        parts.next();
        namespace = parts.next().unwrap_or_default().to_string();
    }
    let mut next = || parts.next().unwrap_or_default().to_string();
    Path {
        resource: next(),
        namespace,
        name: next(),
        sub: next(),
    }
}

fn field<'a>(object: &'a Value, path: &str) -> &'a str {
    path.split('.')
        .fold(object, |at, key| &at[key])
        .as_str()
        .unwrap_or_default()
}

fn merge(into: &mut Value, patch: &Value) {
    let (Value::Object(target), Value::Object(changes)) = (&mut *into, patch) else {
        let mut patch = patch.clone();
        if let Value::Array(items) = &mut patch {
            items.retain(|item| item.get("$patch").is_none());
        }
        *into = patch;
        return;
    };
    for (key, value) in changes {
        match value {
            Value::Null => drop(target.remove(key)),
            _ => merge(target.entry(key.clone()).or_insert(Value::Null), value),
        }
    }
}

impl Api {
    pub fn new() -> Arc<Api> {
        Arc::new(Api {
            state: Mutex::default(),
            changed: watch::channel(0).0,
        })
    }

    pub fn put(&self, resource: &str, object: Value) -> Value {
        let mut state = self.state.lock();
        let mut object = object;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
        let key = (
            resource.to_string(),
            text(&object["metadata"]["namespace"]),
            text(&object["metadata"]["name"]),
        );
        state.revision += 1;
        let revision = state.revision;
        object["metadata"]["resourceVersion"] = json!(revision.to_string());
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = json!(format!("uid-{revision}"));
        }
        let kind = if state.objects.insert(key, object.clone()).is_some() {
            "MODIFIED"
        } else {
            "ADDED"
        };
        state.log.push((revision, kind, resource.to_string(), object.clone()));
        drop(state);
        self.changed.send_replace(revision);
        object
    }

    pub fn remove(&self, resource: &str, namespace: &str, name: &str) {
        let mut state = self.state.lock();
        let key = (resource.to_string(), namespace.to_string(), name.to_string());
        let Some(mut object) = state.objects.remove(&key) else {
            return;
        };
        state.revision += 1;
        let revision = state.revision;
        object["metadata"]["resourceVersion"] = json!(revision.to_string());
        state.log.push((revision, "DELETED", resource.to_string(), object));
        drop(state);
        self.changed.send_replace(revision);
    }

    pub fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        let key = (resource.to_string(), namespace.to_string(), name.to_string());
        self.state.lock().objects.get(&key).cloned()
    }

    pub fn list(&self, resource: &str) -> Vec<Value> {
        let state = self.state.lock();
        state
            .objects
            .iter()
            .filter(|((r, _, _), _)| r == resource)
            .map(|(_, object)| object.clone())
            .collect()
    }

    pub fn requests(&self) -> Vec<String> {
        self.state.lock().requests.clone()
    }

    /// Waits until the resource's objects are as wanted.
    pub async fn until<T>(&self, what: &str, mut look: impl FnMut(&Api) -> Option<T>) -> T {
        let mut changed = self.changed.subscribe();
        let wait = async {
            loop {
                changed.mark_unchanged();
                if let Some(found) = look(self) {
                    return found;
                }
                changed.changed().await.unwrap();
            }
        };
        match tokio::time::timeout(std::time::Duration::from_secs(3600), wait).await {
            Ok(found) => found,
            Err(_) => panic!(
                "never: {what}\npods: {:#?}\nevents: {:#?}",
                self.list("pods"),
                self.messages()
            ),
        }
    }

    /// `reason: message` of all events.
    pub fn messages(&self) -> Vec<String> {
        let text = |event: &Value| format!("{}: {}", field(event, "reason"), field(event, "message"));
        let mut events = self.list("events");
        events.sort_by_key(|event| field(event, "metadata.name").rsplit('.').next().map(String::from));
        events.iter().map(text).collect()
    }

    fn selected(query: &[(String, String)], path: &Path, object: &Value) -> bool {
        let selector = query
            .iter()
            .find(|(key, _)| key == "fieldSelector")
            .map(|(_, value)| value.as_str());
        let fits = |part: &str| {
            part.split_once('=')
                .is_none_or(|(key, value)| field(object, key) == value)
        };
        selector
            .unwrap_or_default()
            .split(',')
            .filter(|p| !p.is_empty())
            .all(fits)
            && (path.namespace.is_empty() || field(object, "metadata.namespace") == path.namespace)
    }

    fn watch(self: &Arc<Self>, path: Path, query: Vec<(String, String)>) -> Body {
        let from: u64 = query
            .iter()
            .find(|(k, _)| k == "resourceVersion")
            .and_then(|(_, v)| v.parse().ok())
            .unwrap_or(0);
        let api = self.clone();
        let receiver = self.changed.subscribe();
        let start = api
            .state
            .lock()
            .log
            .iter()
            .position(|(r, ..)| *r > from)
            .unwrap_or(usize::MAX);
        let start = start.min(api.state.lock().log.len());
        let frames = stream::unfold(
            (api, receiver, start, path, query),
            |(api, mut receiver, mut at, path, query)| async move {
                loop {
                    receiver.mark_unchanged();
                    let next = api.state.lock().log.get(at).cloned();
                    match next {
                        Some((_, kind, resource, object)) => {
                            at += 1;
                            if resource == path.resource && Api::selected(&query, &path, &object) {
                                let line = format!("{}\n", json!({"type": kind, "object": object}));
                                let frame = hyper::body::Frame::data(Bytes::from(line));
                                return Some((Ok::<_, BoxError>(frame), (api, receiver, at, path, query)));
                            }
                        }
                        None => receiver.changed().await.ok()?,
                    }
                }
            },
        );
        StreamBody::new(frames).boxed_unsync()
    }

    fn answer(self: &Arc<Self>, request: Request<Bytes>) -> (u16, Value) {
        let path = parse(request.uri().path());
        let key = (path.resource.clone(), path.namespace.clone(), path.name.clone());
        let found = self.state.lock().objects.get(&key).cloned();
        let body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
        let missing = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound",
            "code": 404, "message": format!("{} {:?} not found", path.resource, path.name)});
        match (request.method().clone(), found) {
            (Method::POST, _) if path.sub == "token" => (
                201,
                json!({"kind": "TokenRequest", "status": {
                "token": format!("token-{}", self.state.lock().requests.len()),
                "expirationTimestamp": self.state.lock().objects.get(&("clock".into(), "".into(), "expiry".into()))
                    .map_or(json!("2100-01-01T00:00:00Z"), |o| o["at"].clone())}}),
            ),
            (Method::POST, _) => {
                let mut object = body;
                if !path.namespace.is_empty() {
                    object["metadata"]["namespace"] = json!(path.namespace);
                }
                let exists = self
                    .get(&path.resource, &path.namespace, field(&object, "metadata.name"))
                    .is_some();
                if exists {
                    return (
                        409,
                        json!({"kind": "Status", "status": "Failure", "reason": "AlreadyExists", "code": 409}),
                    );
                }
                (201, self.put(&path.resource, object))
            }
            (_, None) => (404, missing),
            (Method::GET, Some(found)) => (200, found),
            (Method::PATCH, Some(mut found)) => {
                let uid = &body["metadata"]["uid"];
                if !uid.is_null() && *uid != found["metadata"]["uid"] {
                    return (
                        409,
                        json!({"kind": "Status", "status": "Failure", "reason": "Conflict", "code": 409}),
                    );
                }
                merge(&mut found, &body);
                (200, self.put(&path.resource, found))
            }
            (Method::DELETE, Some(found)) => {
                assert_eq!(body["gracePeriodSeconds"], json!(0), "the node deletes at once");
                assert_eq!(body["preconditions"]["uid"], found["metadata"]["uid"]);
                self.remove(&path.resource, &path.namespace, &path.name);
                (200, json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}))
            }
            (method, _) => panic!("unexpected {method} {}", request.uri()),
        }
    }
}

pub struct ApiTransport(pub Arc<Api>);

impl Transport for ApiTransport {
    fn call(&self, request: Request<Bytes>) -> BoxFuture<'_, Result<Response<Body>, ClientError>> {
        Box::pin(async move {
            let api = &self.0;
            api.state
                .lock()
                .requests
                .push(format!("{} {}", request.method(), request.uri()));
            let decode = |text: &str| text.replace("%3D", "=").replace("%2C", ",").replace("%2F", "/");
            let query: Vec<(String, String)> = request
                .uri()
                .query()
                .unwrap_or_default()
                .split('&')
                .filter_map(|pair| pair.split_once('='))
                .map(|(key, value)| (key.to_string(), decode(value)))
                .collect();
            let path = parse(request.uri().path());
            if query
                .iter()
                .any(|(key, value)| key == "watch" && (value == "true" || value == "1"))
            {
                return Ok(Response::new(api.watch(path, query)));
            }
            if request.method() == Method::GET && path.name.is_empty() {
                let revision = api.state.lock().revision.to_string();
                let items: Vec<Value> = api
                    .list(&path.resource)
                    .into_iter()
                    .filter(|o| Api::selected(&query, &path, o))
                    .collect();
                let list = json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": revision}, "items": items});
                return Ok(Response::new(full_body(list.to_string())));
            }
            let (code, body) = api.answer(request);
            Ok(Response::builder()
                .status(code)
                .body(full_body(body.to_string()))
                .unwrap())
        })
    }
}
