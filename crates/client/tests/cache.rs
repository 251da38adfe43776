//! Caches against a scripted server.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use client::{Body, BoxError, BoxFuture, Cache, CacheOptions, Client, ClientError, Transport, full_body, index};
use futures_util::stream;
use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody};
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Answers lists with the scripted documents in turn, a Status with its code, and hands out each watch's sending end.
struct Script {
    lists: Mutex<VecDeque<Value>>,
    watches: mpsc::UnboundedSender<(String, mpsc::UnboundedSender<Value>)>,
}

impl Transport for Script {
    fn call(&self, request: Request<Bytes>) -> BoxFuture<'_, Result<Response<Body>, ClientError>> {
        Box::pin(async move {
            let query = request.uri().query().unwrap_or_default().to_owned();
            let mut code = 200;
            let body = if query.contains("watch=true") {
                let (lines, receiver) = mpsc::unbounded_channel::<Value>();
                self.watches.send((query, lines)).expect("the test listens");
                let frames = stream::unfold(receiver, |mut receiver| async move {
                    let mut line = serde_json::to_vec(&receiver.recv().await?).expect("JSON");
                    line.push(b'\n');
                    Some((Ok::<_, BoxError>(hyper::body::Frame::data(Bytes::from(line))), receiver))
                });
                StreamBody::new(frames).boxed_unsync()
            } else {
                let list = self.lists.lock().pop_front().expect("no more lists are scripted");
                code = list["code"].as_u64().map_or(200, |code| code as u16);
                full_body(serde_json::to_vec(&list).expect("JSON"))
            };
            let mut response = Response::new(body);
            *response.status_mut() = http::StatusCode::from_u16(code).expect("a status");
            Ok(response)
        })
    }
}

fn pod(name: &str, revision: u64, node: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "namespace": "ns", "name": name, "uid": format!("uid-{name}"), "resourceVersion": revision.to_string(),
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "owner"}],
            "managedFields": [{"manager": "m"}],
        },
        "spec": {"nodeName": node, "containers": []},
    })
}

fn list(revision: u64, items: Vec<Value>) -> Value {
    json!({"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": revision.to_string()}, "items": items})
}

fn event(kind: &str, object: Value) -> Value {
    json!({"type": kind, "object": object})
}

type Watches = mpsc::UnboundedReceiver<(String, mpsc::UnboundedSender<Value>)>;

fn start(lists: Vec<Value>) -> (Cache<Pod>, Watches) {
    let (watches, receiver) = mpsc::unbounded_channel();
    let client = Client::in_process(Arc::new(Script {
        lists: Mutex::new(lists.into()),
        watches,
    }));
    let cache = Cache::start(client.of::<Pod>(), CacheOptions::default(), &CancellationToken::new());
    cache.add_index(index::POD_NODE, index::pod_node);
    (cache, receiver)
}

#[tokio::test(start_paused = true)]
async fn it_follows_the_watch_and_keeps_its_indexes() {
    let (cache, mut watches) = start(vec![list(5, vec![pod("a", 3, "n1")])]);
    cache.synced().await;
    assert_eq!((cache.revision(), cache.len()), (5, 1));
    assert!(cache.get("ns", "a").expect("listed").metadata.managed_fields.is_none());
    let (query, watch) = watches.recv().await.expect("a watch");
    assert!(
        query.contains("resourceVersion=5") && query.contains("allowWatchBookmarks=true"),
        "{query}"
    );

    watch.send(event("ADDED", pod("b", 6, "n1"))).expect("open");
    watch.send(event("MODIFIED", pod("a", 7, "n2"))).expect("open");
    cache.wait_for(7).await;
    let on = |node: &str| cache.by_index(index::POD_NODE, node).len();
    assert_eq!((on("n1"), on("n2"), cache.owned_by("owner").len()), (1, 1, 2));

    watch.send(event("DELETED", pod("b", 8, "n1"))).expect("open");
    watch
        .send(event("BOOKMARK", json!({"metadata": {"resourceVersion": "20"}})))
        .expect("open");
    cache.wait_for(20).await;
    assert_eq!((on("n1"), cache.len()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_closed_watch_resumes_and_an_expired_one_lists_again() {
    let second = list(30, vec![pod("b", 25, "n1")]);
    let (cache, mut watches) = start(vec![list(5, vec![pod("a", 3, "n1")]), second]);
    let mut changes = cache.subscribe();
    let (_, watch) = watches.recv().await.expect("a watch");
    watch.send(event("MODIFIED", pod("a", 9, "n1"))).expect("open");
    drop(watch);
    let (query, watch) = watches.recv().await.expect("a second watch");
    assert!(query.contains("resourceVersion=9"), "{query}");
    let added = changes.next().await;
    assert!(
        added.old.is_none(),
        "two changes of one object are told as one: {added:?}"
    );
    assert_eq!(added.object().metadata.resource_version.as_deref(), Some("9"));

    let expired = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Expired", "code": 410});
    watch.send(event("ERROR", expired)).expect("open");
    let (query, _watch) = watches.recv().await.expect("a third watch");
    assert!(query.contains("resourceVersion=30"), "{query}");
    assert_eq!((cache.get("ns", "a"), cache.len(), cache.revision()), (None, 1, 30));
    let (gone, new) = (changes.next().await, changes.next().await);
    assert!(gone.new.is_none() && new.old.is_none());
}

#[tokio::test(start_paused = true)]
async fn an_object_that_was_replaced_is_told_as_gone_and_new() {
    let (cache, mut watches) = start(vec![list(5, vec![pod("a", 3, "n1")])]);
    let mut changes = cache.subscribe();
    let (_, watch) = watches.recv().await.expect("a watch");
    assert!(changes.next().await.old.is_none());
    let mut other = pod("a", 9, "n1");
    other["metadata"]["uid"] = json!("another");
    watch.send(event("DELETED", pod("a", 8, "n1"))).expect("open");
    watch.send(event("ADDED", other)).expect("open");
    cache.wait_for(9).await;
    let (gone, new) = (changes.next().await, changes.next().await);
    assert_eq!(gone.old.and_then(|p| p.metadata.uid.clone()).as_deref(), Some("uid-a"));
    assert_eq!(new.new.and_then(|p| p.metadata.uid.clone()).as_deref(), Some("another"));
    assert!(changes.try_next().is_none());
}

#[tokio::test(start_paused = true)]
async fn pages_are_followed() {
    let mut first = list(5, vec![pod("a", 3, "n1")]);
    first["metadata"]["continue"] = json!("token");
    let (cache, _watches) = start(vec![first, list(5, vec![pod("b", 4, "n1")])]);
    cache.synced().await;
    assert_eq!(cache.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_the_server_does_not_serve_is_empty_until_it_does() {
    let absent = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404,
        "message": "the server could not find the requested resource"});
    let (cache, mut watches) = start(vec![absent, list(5, vec![pod("a", 3, "n1")])]);
    cache.synced().await;
    assert_eq!((cache.revision(), cache.len()), (0, 0));
    watches.recv().await.expect("a watch, once it is served");
    assert_eq!((cache.revision(), cache.len()), (5, 1));
}
