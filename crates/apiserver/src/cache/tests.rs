//! One promise a test; [`history`] checks them all together on random histories.
#![allow(clippy::unwrap_used)]

mod history;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use store::{Op, Options, Store, Txn};

use super::*;

const PREFIX: &str = "/registry/pods/";

pub(super) fn config() -> Config {
    let codec = Codec {
        index: Arc::new(|bytes| {
            let object: Value = serde_json::from_slice(bytes).unwrap();
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let labels = [("app".to_owned(), text(&object["metadata"]["labels"]["app"]))];
            let node = text(&object["spec"]["nodeName"]).into();
            Indexed::new(Arc::new(labels.into()), vec![("spec.nodeName".into(), node)])
        }),
        stamp: Arc::new(stamp_resource_version),
    };
    let mut config = Config::new(PREFIX, true, codec);
    config.indexed_fields = vec!["spec.nodeName".to_owned()];
    config
}

pub(super) fn key(namespace: &str, name: &str) -> String {
    format!("{PREFIX}{namespace}/{name}")
}

pub(super) fn object(name: &str, app: &str, node: &str) -> Bytes {
    let object = json!({
        "metadata": {"labels": {"app": app}, "name": name},
        "spec": {"nodeName": node},
    });
    object.to_string().into()
}

pub(super) fn app(app: &str) -> Selection {
    let app = app.to_owned();
    let matcher: Matcher = Arc::new(move |entry| entry.labels().get("app") == Some(&app));
    Selection {
        matcher: Some(matcher),
        ..Selection::default()
    }
}

async fn put(store: &Store, name: &str, app: &str, node: &str) -> i64 {
    let op = Op::put(key("ns", name), object(name, app, node));
    store
        .txn(Txn {
            success: vec![op],
            ..Txn::default()
        })
        .await
        .unwrap()
        .revision
}

async fn delete(store: &Store, name: &str) -> i64 {
    let op = Op::delete(key("ns", name));
    store
        .txn(Txn {
            success: vec![op],
            ..Txn::default()
        })
        .await
        .unwrap()
        .revision
}

async fn elsewhere(store: &Store) -> i64 {
    let op = Op::put("/registry/podtemplates/ns/x", "{}");
    store
        .txn(Txn {
            success: vec![op],
            ..Txn::default()
        })
        .await
        .unwrap()
        .revision
}

async fn watch(cache: &Cache, start: WatchStart, selection: Selection) -> Watcher {
    cache.watch(WatchParams { start, selection }).await.unwrap()
}

fn list(at: At, selection: Selection) -> ListParams {
    ListParams {
        at,
        selection,
        limit: 0,
        start_after: None,
    }
}

pub(super) fn show(event: &WatchEvent) -> String {
    let Some(entry) = &event.entry else {
        return format!("{:?}@{}", event.change, event.revision);
    };
    let object: Value = serde_json::from_slice(&entry.json).unwrap();
    let version = object["metadata"]["resourceVersion"].as_str().unwrap();
    assert_eq!(version, entry.revision.to_string());
    let (app, node) = (&object["metadata"]["labels"]["app"], &object["spec"]["nodeName"]);
    let (app, node) = (app.as_str().unwrap(), node.as_str().unwrap());
    format!(
        "{:?} {}/{} {app}{node}@{version}",
        event.change,
        entry.namespace(),
        entry.name()
    )
}

/// Everything up to the store's revision, and the bookmark after it.
pub(super) async fn drain(watcher: &mut Watcher, store: &Store) -> Vec<String> {
    let mut seen = Vec::new();
    loop {
        if watcher
            .bookmark()
            .await
            .unwrap()
            .is_some_and(|bookmark| bookmark >= store.revision())
        {
            return seen;
        }
        seen.extend(watcher.next().await.unwrap().iter().map(show));
    }
}

#[tokio::test]
async fn selectors_decide_on_the_object_before() {
    let store = Store::temporary().unwrap();
    let cache = Cache::start(store.clone(), config());
    let node = |node: &str| Selection {
        field: Some(("spec.nodeName".into(), node.into())),
        ..Selection::all()
    };
    let mut all = watch(&cache, WatchStart::Now, Selection::all()).await;
    let mut red = watch(&cache, WatchStart::Now, app("red")).await;
    let mut bound = watch(&cache, WatchStart::Now, node("n1")).await;
    let mut free = watch(&cache, WatchStart::Now, node("")).await;
    let mut other = watch(&cache, WatchStart::Now, Selection::namespace("other")).await;
    put(&store, "a", "red", "").await;
    put(&store, "a", "blue", "").await;
    put(&store, "a", "blue", "n1").await;
    put(&store, "a", "red", "n1").await;
    delete(&store, "a").await;
    let seen = drain(&mut all, &store).await;
    let expected = [
        "Added ns/a red@2",
        "Modified ns/a blue@3",
        "Modified ns/a bluen1@4",
        "Modified ns/a redn1@5",
        "Deleted ns/a redn1@6",
    ];
    assert_eq!(seen, expected);
    let expected = [
        "Added ns/a red@2",
        "Deleted ns/a red@3",
        "Added ns/a redn1@5",
        "Deleted ns/a redn1@6",
    ];
    assert_eq!(drain(&mut red, &store).await, expected);
    let expected = ["Added ns/a bluen1@4", "Modified ns/a redn1@5", "Deleted ns/a redn1@6"];
    assert_eq!(drain(&mut bound, &store).await, expected);
    let expected = ["Added ns/a red@2", "Modified ns/a blue@3", "Deleted ns/a blue@4"];
    assert_eq!(drain(&mut free, &store).await, expected);
    assert!(drain(&mut other, &store).await.is_empty());
}

#[tokio::test]
async fn reads_see_acknowledged_writes() {
    let store = Store::temporary().unwrap();
    let cache = Cache::start(store.clone(), config());
    for n in 0..50 {
        let name = format!("p{n}");
        let revision = put(&store, &name, "red", "").await;
        let entry = cache.get_latest(&key("ns", &name)).await.unwrap().unwrap();
        assert_eq!(
            (entry.revision, entry.name(), entry.namespace()),
            (revision, &*name, "ns")
        );
        let page = cache.list(list(At::Latest, Selection::all())).await.unwrap();
        assert_eq!((page.revision, page.entries.len()), (revision, n + 1));
        let revision = elsewhere(&store).await;
        let page = cache.list(list(At::Latest, app("red"))).await.unwrap();
        assert_eq!(
            (page.revision, page.entries.len()),
            (revision, n + 1),
            "a list has the store's revision"
        );
        cache.wait_until(revision).await.unwrap();
    }
}

#[tokio::test]
async fn the_future_is_too_large() {
    let store = Store::temporary().unwrap();
    let mut impatient = config();
    impatient.wait_limit = Duration::from_millis(5);
    let cache = Cache::start(store.clone(), impatient);
    let future = At::NotOlderThan(3);
    let refused = cache.list(list(future, Selection::all())).await;
    assert!(matches!(
        refused,
        Err(CacheError::TooLarge {
            requested: 3,
            current: 1
        })
    ));
    let refused = cache.wait_until(3).await.unwrap_err().to_string();
    assert_eq!(refused, "Too large resource version: 3, current: 1");
    let cache = Cache::start(store.clone(), config());
    let (listed, ()) = tokio::join!(cache.list(list(future, Selection::all())), async {
        put(&store, "a", "red", "").await;
        put(&store, "a", "red", "").await;
    });
    assert_eq!(listed.unwrap().revision, 3);
}

#[tokio::test]
async fn pages_are_of_one_state() {
    let store = Store::temporary().unwrap();
    let mut small = config();
    small.ring_limit = 2;
    let cache = Cache::start(store.clone(), small);
    for name in ["a", "b", "c", "d", "e"] {
        put(&store, name, "red", "").await;
    }
    let mut params = ListParams {
        at: At::Latest,
        selection: Selection::namespace("ns"),
        limit: 2,
        start_after: None,
    };
    let first = cache.list(params.clone()).await.unwrap();
    assert_eq!((first.revision, first.more, first.remaining), (6, true, Some(3)));
    for name in ["c", "d", "e"] {
        delete(&store, name).await;
    }
    params.at = At::Exact(6);
    params.start_after = Some(first.entries[1].key().to_string());
    let names = |page: &ListPage| {
        page.entries
            .iter()
            .map(|entry| entry.name().to_owned())
            .collect::<Vec<_>>()
    };
    for _ in 0..2 {
        let second = cache.list(params.clone()).await.unwrap();
        assert_eq!(
            (names(&second), second.revision, second.remaining),
            (vec!["c".into(), "d".into()], 6, Some(1))
        );
    }
    // Not pinned, not in the ring, but in the store.
    let old = cache.list(list(At::Exact(4), Selection::all())).await.unwrap();
    assert_eq!(names(&old), ["a", "b", "c"]);
    store.compact(8).await.unwrap();
    let gone = cache.list(list(At::Exact(4), Selection::all())).await;
    assert!(matches!(
        gone,
        Err(CacheError::Expired {
            requested: 4,
            oldest: 8
        })
    ));
    assert!(
        cache.list(params).await.is_ok(),
        "a list that was begun can be finished"
    );
}

#[tokio::test]
async fn initial_events_then_a_mark_then_changes() {
    let store = Store::temporary().unwrap();
    let cache = Cache::start(store.clone(), config());
    put(&store, "a", "red", "").await;
    put(&store, "b", "blue", "").await;
    put(&store, "c", "red", "").await;
    let newest = elsewhere(&store).await;
    let start = WatchStart::InitialEvents { not_older_than: None };
    let mut watcher = watch(&cache, start, app("red")).await;
    delete(&store, "a").await;
    assert_eq!(watcher.bookmark().await.unwrap(), None, "not among initial events");
    let seen: Vec<_> = watcher.next().await.unwrap().iter().map(show).collect();
    assert_eq!(
        seen,
        [
            "Added ns/a red@2",
            "Added ns/c red@4",
            &format!("InitialEventsEnd@{newest}")
        ]
    );
    assert_eq!(drain(&mut watcher, &store).await, ["Deleted ns/a red@6"]);
    let mut state = watch(&cache, WatchStart::StateLatest, Selection::all()).await;
    assert_eq!(
        drain(&mut state, &store).await,
        ["Added ns/b blue@3", "Added ns/c red@4"]
    );
    let mut none = watch(&cache, start, app("green")).await;
    assert_eq!(
        none.next().await.unwrap().iter().map(show).collect::<Vec<_>>(),
        ["InitialEventsEnd@6"]
    );
}

#[tokio::test]
async fn a_bookmark_is_not_ahead_of_what_was_returned() {
    let store = Store::temporary().unwrap();
    let cache = Cache::start(store.clone(), config());
    let mut watcher = watch(&cache, WatchStart::Now, Selection::all()).await;
    put(&store, "a", "red", "").await;
    assert_eq!(watcher.bookmark().await.unwrap(), Some(1));
    watcher.next().await.unwrap();
    let newest = elsewhere(&store).await;
    assert_eq!(
        watcher.bookmark().await.unwrap(),
        Some(newest),
        "quiet watches move on too"
    );
}

#[tokio::test]
async fn a_slow_watcher_is_ended_and_others_are_not() {
    let store = Store::temporary().unwrap();
    let mut small = config();
    small.watcher_queue = 3;
    let cache = Cache::start(store.clone(), small);
    let mut slow = watch(&cache, WatchStart::Now, Selection::all()).await;
    let mut other = watch(&cache, WatchStart::Now, app("blue")).await;
    put(&store, "a", "red", "").await;
    cache.wait_until(2).await.unwrap();
    slow.next().await.unwrap();
    for _ in 0..4 {
        put(&store, "a", "red", "").await;
    }
    cache.wait_until(6).await.unwrap();
    for _ in 0..2 {
        assert!(matches!(slow.next().await, Err(CacheError::Lagged { delivered: 2 })));
    }
    put(&store, "b", "blue", "").await;
    assert_eq!(drain(&mut other, &store).await, ["Added ns/b blue@7"]);
    let mut resumed = watch(&cache, WatchStart::After(2), app("red")).await;
    assert_eq!(drain(&mut resumed, &store).await.len(), 4);
}

#[tokio::test]
async fn too_old_a_start_is_expired() {
    let store = Store::temporary().unwrap();
    let mut small = config();
    small.ring_limit = 2;
    let cache = Cache::start(store.clone(), small);
    cache.ready().await.unwrap();
    for _ in 0..4 {
        put(&store, "a", "red", "").await;
    }
    cache.wait_until(5).await.unwrap();
    let params = |revision| WatchParams {
        start: WatchStart::After(revision),
        selection: Selection::all(),
    };
    let refused = cache.watch(params(2)).await.unwrap_err();
    assert_eq!(refused.to_string(), "too old resource version: 2 (3)");
    assert_eq!(drain(&mut cache.watch(params(3)).await.unwrap(), &store).await.len(), 2);
}

#[tokio::test]
async fn a_cache_that_lags_behind_the_store_catches_up() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        watch_queue: 2,
        ..Options::default()
    };
    let store = Store::open_with(dir.path(), options).unwrap();
    let cache = Cache::start(store.clone(), config());
    let mut watcher = watch(&cache, WatchStart::Now, Selection::all()).await;
    for round in 0..5 {
        // One transaction is one burst: more than the queue holds.
        let puts = (0..20).map(|n| Op::put(key("ns", &format!("p{n}")), object("p", &format!("r{round}"), "")));
        store
            .txn(Txn {
                success: puts.collect(),
                ..Txn::default()
            })
            .await
            .unwrap();
    }
    assert_eq!(drain(&mut watcher, &store).await.len(), 100);
    assert_eq!(cache.list(list(At::Latest, app("r4"))).await.unwrap().entries.len(), 20);
}

#[tokio::test]
async fn watches_resume_across_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    put(&store, "a", "red", "").await;
    put(&store, "a", "blue", "").await;
    delete(&store, "a").await;
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    let cache = Cache::start(store.clone(), config());
    let mut resumed = watch(&cache, WatchStart::After(2), app("red")).await;
    assert_eq!(drain(&mut resumed, &store).await, ["Deleted ns/a red@3"]);
}

#[tokio::test]
async fn an_encoding_is_made_once() {
    let store = Store::temporary().unwrap();
    let cache = Cache::start(store.clone(), config());
    put(&store, "a", "red", "").await;
    let made = AtomicUsize::new(0);
    for _ in 0..3 {
        let entry = cache.get_latest(&key("ns", "a")).await.unwrap().unwrap();
        let bytes = entry.encoded(Encoding::Protobuf, |entry| {
            made.fetch_add(1, Ordering::SeqCst);
            entry.json.slice(..1)
        });
        assert_eq!(bytes, "{");
    }
    assert_eq!(made.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn closing_the_store_ends_everything() {
    let store = Store::temporary().unwrap();
    let cache = Cache::start(store.clone(), config());
    let mut watcher = watch(&cache, WatchStart::Now, Selection::all()).await;
    let weak = Arc::downgrade(&cache.inner);
    drop(cache);
    assert!(weak.upgrade().is_some(), "a watcher keeps its cache");
    let waiting = tokio::time::timeout(Duration::from_millis(1), watcher.next()).await;
    assert!(waiting.is_err());
    drop(watcher);
    tokio::task::yield_now().await;
    assert!(weak.upgrade().is_none());
}
