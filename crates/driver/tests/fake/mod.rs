//! A small API server in memory: enough verbs for controllers, no kind known.
#![allow(clippy::result_large_err, reason = "a test server's errors are rare")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use api::{GroupResource, Status, Value, meta};
use bytes::Bytes;
use client::{Body, BoxError, BoxFuture, ClientError, Transport, full_body};
use futures_util::stream;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::{mpsc, watch};

type Lines = mpsc::UnboundedSender<Bytes>;

#[derive(Default)]
struct Store {
    revision: u64,
    /// By resource (`group/plural`), namespace and name.
    objects: BTreeMap<(String, String, String), Value>,
    log: Vec<(u64, String, Value)>,
    watchers: Vec<(String, Lines)>,
}

/// The server.
pub struct FakeApi {
    store: Mutex<Store>,
    changed: watch::Sender<u64>,
    /// Pods are refused while this is set; how many were.
    pub quota_exceeded: AtomicBool,
    pub refused: AtomicUsize,
}

/// Group, plural, kind, namespaced.
const KINDS: [(&str, &str, &str, bool); 15] = [
    ("", "pods", "Pod", true),
    ("", "nodes", "Node", false),
    ("", "namespaces", "Namespace", false),
    ("", "services", "Service", true),
    ("", "endpoints", "Endpoints", true),
    ("", "serviceaccounts", "ServiceAccount", true),
    ("", "configmaps", "ConfigMap", true),
    ("", "secrets", "Secret", true),
    ("", "events", "Event", true),
    ("apps", "deployments", "Deployment", true),
    ("apps", "replicasets", "ReplicaSet", true),
    ("discovery.k8s.io", "endpointslices", "EndpointSlice", true),
    ("coordination.k8s.io", "leases", "Lease", true),
    ("rbac.authorization.k8s.io", "roles", "Role", true),
    ("rbac.authorization.k8s.io", "clusterroles", "ClusterRole", false),
];

struct Path {
    resource: String,
    namespace: String,
    name: String,
    sub: String,
}

fn parse(path: &str) -> Path {
    let mut parts = path.trim_start_matches('/').split('/');
    let group = if parts.next() == Some("apis") {
        parts.next().unwrap_or("").to_owned()
    } else {
        String::new()
    };
    let mut rest: Vec<&str> = parts.skip(1).collect();
    let mut namespace = String::new();
    if rest.first() == Some(&"namespaces") && rest.len() > 2 && !["finalize", "status"].contains(&rest[2]) {
        namespace = rest[1].to_owned();
        rest.drain(..2);
    }
    let part = |index: usize| rest.get(index).copied().unwrap_or("").to_owned();
    Path {
        resource: format!("{group}/{}", part(0)),
        namespace,
        name: part(1),
        sub: part(2),
    }
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            target.as_object_mut().expect("made one").remove(key);
        } else {
            merge(&mut target[key], value);
        }
    }
}

impl Store {
    fn tell(&mut self, resource: &str, kind: &str, object: &Value) {
        let line = json!({"type": kind, "object": object});
        self.log.push((self.revision, resource.to_owned(), line.clone()));
        let mut bytes = serde_json::to_vec(&line).expect("JSON");
        bytes.push(b'\n');
        let bytes = Bytes::from(bytes);
        self.watchers
            .retain(|(watched, lines)| watched != resource || lines.send(bytes.clone()).is_ok());
    }

    fn put(&mut self, path: &Path, mut object: Value, kind: &str) -> Value {
        self.revision += 1;
        meta::set_resource_version(&mut object, &self.revision.to_string());
        let finalizers = meta::finalizers(&object).len() + object["spec"]["finalizers"].as_array().map_or(0, Vec::len);
        let key = (path.resource.clone(), path.namespace.clone(), path.name.clone());
        if meta::is_deleting(&object) && finalizers == 0 {
            self.objects.remove(&key);
            self.tell(&path.resource, "DELETED", &object);
        } else {
            self.objects.insert(key, object.clone());
            self.tell(&path.resource, kind, &object);
        }
        object
    }

    fn delete(&mut self, path: &Path, options: &Value) -> Result<Value, Status> {
        let mut object = self.get(path)?;
        if let Some(uid) = options["preconditions"]["uid"].as_str()
            && uid != meta::uid(&object)
        {
            return Err(Status::conflict(
                &GroupResource::new("", path.resource.as_str()),
                &path.name,
                "uid",
            ));
        }
        let mut finalizers: Vec<String> = meta::finalizers(&object).into_iter().map(str::to_owned).collect();
        match options["propagationPolicy"].as_str() {
            Some("Foreground") => finalizers.push("foregroundDeletion".into()),
            Some("Orphan") => finalizers.push("orphan".into()),
            _ => {}
        }
        if meta::is_deleting(&object) {
            return Ok(object);
        }
        meta::set_finalizers(&mut object, &finalizers);
        meta::set_deletion_timestamp(&mut object, Some(jiff::Timestamp::now()));
        Ok(self.put(path, object, "MODIFIED"))
    }

    fn get(&self, path: &Path) -> Result<Value, Status> {
        let key = (path.resource.clone(), path.namespace.clone(), path.name.clone());
        let missing = || Status::not_found(&GroupResource::new("", path.resource.as_str()), &path.name);
        self.objects.get(&key).cloned().ok_or_else(missing)
    }

    fn create(&mut self, mut path: Path, mut object: Value) -> Result<Value, Status> {
        if path.sub == "binding" {
            let mut pod = self.get(&path)?;
            pod["spec"]["nodeName"] = object["target"]["name"].clone();
            return Ok(self.put(&path, pod, "MODIFIED"));
        }
        if meta::name(&object).is_empty() {
            let name = format!("{}{}", meta::generate_name(&object), self.revision);
            meta::set_name(&mut object, &name);
        }
        path.name = meta::name(&object).to_owned();
        if self.get(&path).is_ok() {
            return Err(Status::already_exists(
                &GroupResource::new("", path.resource.as_str()),
                &path.name,
            ));
        }
        if !path.namespace.is_empty() {
            meta::set_namespace(&mut object, &path.namespace);
        }
        meta::set_uid(&mut object, &format!("uid-{}", self.revision));
        meta::set_creation_timestamp(&mut object, Some(jiff::Timestamp::now()));
        meta::set_generation(&mut object, 1);
        Ok(self.put(&path, object, "ADDED"))
    }

    fn patch(&mut self, path: &Path, patch: &Value) -> Result<Value, Status> {
        let mut object = self.get(path)?;
        for field in ["uid", "resourceVersion"] {
            let wanted = &patch["metadata"][field];
            if !wanted.is_null() && *wanted != object["metadata"][field] {
                return Err(Status::stale(
                    &GroupResource::new("", path.resource.as_str()),
                    &path.name,
                ));
            }
        }
        let before = object.clone();
        merge(&mut object, patch);
        if before == object {
            return Ok(object);
        }
        if before["spec"] != object["spec"] {
            let generation = meta::generation(&object) + 1;
            meta::set_generation(&mut object, generation);
        }
        Ok(self.put(path, object, "MODIFIED"))
    }
}

impl FakeApi {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            store: Mutex::default(),
            changed: watch::Sender::new(0),
            quota_exceeded: AtomicBool::new(false),
            refused: AtomicUsize::new(0),
        })
    }

    /// All objects of `group/plural`.
    pub fn all(&self, resource: &str) -> Vec<Value> {
        let store = self.store.lock();
        store
            .objects
            .iter()
            .filter(|((of, ..), _)| of == resource)
            .map(|(_, object)| object.clone())
            .collect()
    }

    /// Resolves when something holds.
    pub async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let mut changed = self.changed.subscribe();
        let wait = async {
            while !holds(self) {
                changed.changed().await.expect("the server lives");
            }
        };
        if tokio::time::timeout(std::time::Duration::from_secs(3000), wait)
            .await
            .is_err()
        {
            let keys: Vec<_> = self.store.lock().objects.keys().cloned().collect();
            panic!("never: {what}; there are {keys:?}");
        }
    }

    fn discovery(&self, root: &str) -> Value {
        let mut groups: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
        for (group, plural, kind, namespaced) in KINDS {
            if (root == "/api") == group.is_empty() {
                groups.entry(group).or_default().push(json!({
                    "resource": plural, "responseKind": {"kind": kind}, "scope": if namespaced { "Namespaced" } else { "Cluster" },
                    "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
                }));
            }
        }
        let items = groups.into_iter().map(|(group, resources)| {
            json!({"metadata": {"name": group}, "versions": [{"version": "v1", "resources": resources}]})
        });
        json!({"kind": "APIGroupDiscoveryList", "items": items.collect::<Vec<_>>()})
    }

    fn watch(&self, path: &Path, query: &str) -> Body {
        let from: u64 = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("resourceVersion="))
            .and_then(|v| v.parse().ok())
            .unwrap_or(0);
        let only = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("fieldSelector=metadata.name%3D"))
            .map(str::to_owned);
        let (lines, receiver) = mpsc::unbounded_channel();
        let mut store = self.store.lock();
        for (revision, resource, line) in &store.log {
            if *revision > from && *resource == path.resource {
                let _ = lines.send(Bytes::from(format!("{line}\n")));
            }
        }
        store.watchers.push((path.resource.clone(), lines));
        let frames = stream::unfold((receiver, only), |(mut receiver, only)| async move {
            loop {
                let line: Bytes = receiver.recv().await?;
                let wanted = only.as_ref().is_none_or(|name| {
                    let event: Value = serde_json::from_slice(&line).expect("JSON");
                    meta::name(&event["object"]) == name
                });
                if wanted {
                    return Some((Ok::<_, BoxError>(http_body::Frame::data(line)), (receiver, only)));
                }
            }
        });
        StreamBody::new(frames).boxed_unsync()
    }

    fn answer(&self, request: &Request<Bytes>) -> Result<Body, Status> {
        let (path, query) = (parse(request.uri().path()), request.uri().query().unwrap_or(""));
        if ["/api", "/apis"].contains(&request.uri().path()) {
            return Ok(full_body(self.discovery(request.uri().path()).to_string()));
        }
        if query.contains("watch=true") {
            return Ok(self.watch(&path, query));
        }
        let body: Value = serde_json::from_slice(request.body()).unwrap_or(Value::Null);
        let mut store = self.store.lock();
        let answer = match *request.method() {
            Method::GET if path.name.is_empty() => {
                let ours = |(of, ns, _): &(String, String, String)| {
                    *of == path.resource && (path.namespace.is_empty() || *ns == path.namespace)
                };
                let items: Vec<&Value> = store
                    .objects
                    .iter()
                    .filter(|(key, _)| ours(key))
                    .map(|(_, o)| o)
                    .collect();
                let items: Vec<&Value> = match query
                    .split('&')
                    .find_map(|pair| pair.strip_prefix("fieldSelector=metadata.name%3D"))
                {
                    Some(name) => items.into_iter().filter(|object| meta::name(object) == name).collect(),
                    None => items,
                };
                json!({"kind": "List", "metadata": {"resourceVersion": store.revision.to_string()}, "items": items})
            }
            Method::GET => store.get(&path)?,
            Method::POST
                if path.resource == "/pods" && path.sub.is_empty() && self.quota_exceeded.load(Ordering::Relaxed) =>
            {
                self.refused.fetch_add(1, Ordering::Relaxed);
                return Err(Status::forbidden(
                    &GroupResource::new("", "pods"),
                    "web-",
                    "exceeded quota: q",
                ));
            }
            Method::POST => store.create(path, body)?,
            Method::PATCH => store.patch(&path, &body)?,
            Method::PUT => {
                let known = store.get(&path)?;
                if meta::resource_version(&known) != meta::resource_version(&body) {
                    return Err(Status::stale(
                        &GroupResource::new("", path.resource.as_str()),
                        &path.name,
                    ));
                }
                store.put(&path, body, "MODIFIED")
            }
            Method::DELETE if path.name.is_empty() => {
                let names: Vec<String> = store
                    .objects
                    .keys()
                    .filter(|(of, ns, _)| *of == path.resource && *ns == path.namespace)
                    .map(|(.., name)| name.clone())
                    .collect();
                for name in names {
                    store.delete(
                        &Path {
                            name,
                            resource: path.resource.clone(),
                            namespace: path.namespace.clone(),
                            sub: String::new(),
                        },
                        &body,
                    )?;
                }
                json!({"kind": "Status", "status": "Success"})
            }
            Method::DELETE => store.delete(&path, &body)?,
            _ => return Err(Status::method_not_allowed()),
        };
        self.changed.send_replace(store.revision);
        Ok(full_body(answer.to_string()))
    }
}

impl Transport for FakeApi {
    fn call(&self, request: Request<Bytes>) -> BoxFuture<'_, Result<Response<Body>, ClientError>> {
        Box::pin(async move {
            let (code, body) = match self.answer(&request) {
                Ok(body) => (200, body),
                Err(status) => (status.code, full_body(status.to_json())),
            };
            Ok(Response::builder().status(code).body(body).expect("a valid response"))
        })
    }
}
