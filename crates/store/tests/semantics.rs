//! What the store promises, one promise a test.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use store::{
    Batch, Compare, Error, Event, ManualClock, Op, OpResult, Options, Range, Store, Txn, WatchError, WatchStream,
    restore,
};

async fn put(store: &Store, key: &str, value: &str) -> i64 {
    let txn = Txn {
        success: vec![Op::put(key, value.to_owned())],
        ..Txn::default()
    };
    store.txn(txn).await.unwrap().revision
}

async fn delete(store: &Store, key: &str) -> i64 {
    let txn = Txn {
        success: vec![Op::delete(key)],
        ..Txn::default()
    };
    store.txn(txn).await.unwrap().revision
}

async fn value(store: &Store, key: &str) -> Option<Bytes> {
    store.get(key).await.unwrap().map(|kv| kv.value)
}

/// The events up to `revision` as text.
async fn events(watch: &mut WatchStream, revision: i64) -> Vec<String> {
    let mut seen = Vec::new();
    loop {
        watch.request_progress();
        let Batch {
            revision: reached,
            events,
        } = watch.next().await.unwrap();
        seen.extend(events.iter().map(show));
        if reached >= revision {
            return seen;
        }
    }
}

fn show(event: &Event) -> String {
    let text = |value: &Bytes| String::from_utf8_lossy(value).into_owned();
    let prev = event.prev().map_or(String::new(), |kv| {
        format!(" was {}@{}", text(&kv.value), kv.mod_revision)
    });
    match event {
        Event::Put { kv, .. } => format!("{} put {}={}{prev}", kv.mod_revision, kv.key, text(&kv.value)),
        Event::Delete { revision, prev: kv } => format!("{revision} delete {}{prev}", kv.key),
    }
}

#[tokio::test]
async fn revisions_versions_and_compares() {
    let store = Store::temporary().unwrap();
    assert_eq!(store.revision(), 1);
    let created = store.txn(Txn::create("/a", "1")).await.unwrap();
    assert!(created.succeeded && created.revision == 2);
    let again = store.txn(Txn::create("/a", "2")).await.unwrap();
    assert!(!again.succeeded);
    assert_eq!(again.revision, 2);
    assert!(matches!(&again.results[..], [OpResult::Get(Some(kv))] if kv.value == "1"));

    let stale = store.txn(Txn::update("/a", 1, "3")).await.unwrap();
    assert!(!stale.succeeded);
    let updated = store.txn(Txn::update("/a", 2, "3")).await.unwrap();
    assert!(updated.succeeded);
    let kv = store.get("/a").await.unwrap().unwrap();
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (2, 3, 2));

    assert!(store.txn(Txn::delete("/a", 3)).await.unwrap().succeeded);
    assert_eq!(store.get("/a").await.unwrap(), None);
    let created = store.txn(Txn::update("/a", 0, "4")).await.unwrap();
    assert!(created.succeeded, "revision 0 stands for absent");
    let kv = store.get("/a").await.unwrap().unwrap();
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (5, 5, 1));
    assert_eq!(delete(&store, "/absent").await, 5, "no change takes no revision");
}

fn unchanged(key: &str, revision: i64, since: i64, value: &str) -> Txn {
    let mut txn = Txn::create(key, value.to_owned());
    txn.compare = vec![Compare::Unchanged {
        key: key.to_owned(),
        revision,
        since,
    }];
    txn
}

#[tokio::test]
async fn what_was_seen_counts_until_it_changes() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let made = store.txn(unchanged("/a", 0, 1, "1")).await.unwrap();
    assert!(made.succeeded && made.revision == 2);
    let again = store.txn(unchanged("/a", 0, 1, "2")).await.unwrap();
    assert!(!again.succeeded, "it was made after it was seen to be absent");
    put(&store, "/b", "1").await;
    let updated = store.txn(unchanged("/a", 2, 3, "2")).await.unwrap();
    assert!(updated.succeeded && updated.revision == 4);
    assert!(!store.txn(unchanged("/a", 2, 3, "3")).await.unwrap().succeeded);
    drop(store);

    // Nothing is remembered of what was written before.
    let store = Store::open(dir.path()).unwrap();
    assert!(!store.txn(unchanged("/a", 0, 1, "3")).await.unwrap().succeeded);
    assert!(!store.txn(unchanged("/a", 2, 3, "3")).await.unwrap().succeeded);
    let updated = store.txn(unchanged("/a", 4, 4, "3")).await.unwrap();
    assert!(updated.succeeded);
    let kv = store.get("/a").await.unwrap().unwrap();
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (2, 5, 3));
    assert!(store.txn(unchanged("/c", 0, 4, "1")).await.unwrap().succeeded);
}

#[tokio::test]
async fn a_transaction_is_one_revision_and_sees_itself() {
    let store = Store::temporary().unwrap();
    put(&store, "/a", "1").await;
    let txn = Txn {
        compare: vec![Compare::Exists("/a".into()), Compare::Absent("/b".into())],
        success: vec![Op::put("/b", "2"), Op::get("/b"), Op::delete("/a"), Op::get("/a")],
        failure: vec![],
    };
    let response = store.txn(txn).await.unwrap();
    assert!(response.succeeded && response.revision == 3);
    assert!(matches!(&response.results[1], OpResult::Get(Some(kv)) if kv.value == "2"));
    assert!(matches!(&response.results[3], OpResult::Get(None)));
    let mut watch = store.watch("/", 3).await.unwrap();
    assert_eq!(watch.next().await.unwrap().events.len(), 2);

    let twice = Txn {
        success: vec![Op::put("/c", ""), Op::delete("/c")],
        ..Txn::default()
    };
    assert!(matches!(store.txn(twice).await, Err(Error::DuplicateKey(key)) if key == "/c"));
    for bad in ["", "a\0b"] {
        let txn = Txn {
            success: vec![Op::put(bad, "")],
            ..Txn::default()
        };
        assert!(matches!(store.txn(txn).await, Err(Error::InvalidKey(_))));
    }
}

#[tokio::test]
async fn ranges_at_old_revisions_with_limits() {
    let store = Store::temporary().unwrap();
    for key in ["/p/a", "/p/b", "/p/c", "/q"] {
        put(&store, key, key).await;
    }
    delete(&store, "/p/b").await;
    put(&store, "/p/a", "new").await;
    let keys = |response: &store::RangeResponse| {
        response
            .kvs
            .iter()
            .map(|kv| format!("{}={}", kv.key, String::from_utf8_lossy(&kv.value)))
            .collect::<Vec<_>>()
    };
    let now = store.range(Range::prefix("/p/")).await.unwrap();
    assert_eq!(keys(&now), ["/p/a=new", "/p/c=/p/c"]);
    assert_eq!((now.revision, now.more, now.count), (7, false, 2));
    let old = store.range(Range::prefix("/p/").at(5).limit(2)).await.unwrap();
    assert_eq!(keys(&old), ["/p/a=/p/a", "/p/b=/p/b"]);
    assert!(old.more && old.revision == 5);
    let counted = Range {
        counted: true,
        ..Range::prefix("/p/").at(5).limit(2)
    };
    assert_eq!(store.range(counted).await.unwrap().count, 3);
    assert!(matches!(
        store.range(Range::prefix("/").at(8)).await,
        Err(Error::Future {
            requested: 8,
            current: 7
        })
    ));
    assert_eq!(store.get_at("/p/b", 3).await.unwrap().unwrap().mod_revision, 3);
    assert_eq!(store.get_at("/p/b", 2).await.unwrap(), None);
}

#[tokio::test]
async fn a_watch_joins_history_and_the_present() {
    let store = Store::temporary().unwrap();
    put(&store, "/p/a", "1").await;
    put(&store, "/q/a", "1").await;
    put(&store, "/p/a", "2").await;
    let mut all = store.watch("/p/", 2).await.unwrap();
    let mut later = store.watch("/p/", 5).await.unwrap();
    let mut now = store.watch("/p/", 0).await.unwrap();
    delete(&store, "/p/a").await;
    put(&store, "/q/b", "1").await;
    let history = ["2 put /p/a=1", "4 put /p/a=2 was 1@2", "5 delete /p/a was 2@4"];
    assert_eq!(events(&mut all, 6).await, history);
    assert_eq!(events(&mut later, 6).await, history[2..]);
    assert_eq!(events(&mut now, 6).await, history[2..]);
}

#[tokio::test]
async fn caught_up_says_so_only_when_nothing_is_pending() {
    let store = Store::temporary().unwrap();
    let mut watch = store.watch("/p/", 0).await.unwrap();
    let progress = watch.progress_requester();
    assert_eq!(progress.caught_up(1), Some(1));
    put(&store, "/q", "1").await;
    assert_eq!(progress.caught_up(1), Some(2));
    put(&store, "/p/a", "1").await;
    assert_eq!(progress.caught_up(2), None);
    assert_eq!(watch.next().await.unwrap().revision, 3);
    assert_eq!(progress.caught_up(3), Some(3));
    let replaying = store.watch("/p/", 2).await.unwrap();
    assert_eq!(replaying.progress_requester().caught_up(2), None);
}

#[tokio::test]
async fn a_slow_watch_is_ended_and_says_where() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        watch_queue: 3,
        ..Options::default()
    };
    let store = Store::open_with(dir.path(), options).unwrap();
    let mut slow = store.watch("/", 0).await.unwrap();
    put(&store, "/a", "1").await;
    assert_eq!(slow.next().await.unwrap().revision, 2);
    for _ in 0..4 {
        put(&store, "/a", "2").await;
    }
    for _ in 0..2 {
        assert!(matches!(slow.next().await, Err(WatchError::Lagged { delivered: 2 })));
    }
    let mut resumed = store.watch("/", 3).await.unwrap();
    assert_eq!(events(&mut resumed, 6).await.len(), 4);
}

#[tokio::test]
async fn closing_ends_watches() {
    let store = Store::temporary().unwrap();
    let mut watch = store.watch("/", 0).await.unwrap();
    drop(store);
    assert!(matches!(watch.next().await, Err(WatchError::Closed)));
}

#[tokio::test]
async fn compaction_ends_old_reads_and_watches_only() {
    let store = Store::temporary().unwrap();
    for value in ["1", "2", "3"] {
        put(&store, "/a", value).await;
    }
    delete(&store, "/a").await;
    put(&store, "/b", "1").await;
    store.compact(4).await.unwrap();
    assert_eq!(store.compacted_revision(), 4);
    assert!(matches!(store.get_at("/a", 3).await, Err(Error::Compacted(4))));
    assert!(matches!(
        store.watch("/", 4).await.err(),
        Some(WatchError::Compacted(4))
    ));
    assert_eq!(store.get_at("/a", 4).await.unwrap().unwrap().value, "3");
    let mut watch = store.watch("/", 5).await.unwrap();
    assert_eq!(events(&mut watch, 6).await, ["5 delete /a was 3@4", "6 put /b=1"]);
    assert!(matches!(store.compact(4).await, Err(Error::Compacted(4))));
    assert!(matches!(store.compact(7).await, Err(Error::Future { .. })));
    store.compact(6).await.unwrap();
    assert_eq!(value(&store, "/b").await.unwrap(), "1");
    assert_eq!(value(&store, "/a").await, None);
}

#[tokio::test]
async fn history_ends_by_age_and_by_number() {
    let clock = Arc::new(ManualClock::new(1_000_000));
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        clock: clock.clone(),
        max_history: 2_000,
        ..Options::default()
    };
    let store = Store::open_with(dir.path(), options).unwrap();
    put(&store, "/a", "1").await;
    clock.advance(Duration::from_secs(301));
    put(&store, "/a", "2").await;
    // Compaction follows the answer; the next one waits for it.
    store.expire_due().await.unwrap();
    assert_eq!(store.compacted_revision(), 2);
    assert_eq!(store.get_at("/a", 2).await.unwrap().unwrap().value, "1");

    for _ in 0..6 {
        let puts = (0..1_000).map(|n| Txn {
            success: vec![Op::put("/n", n.to_string())],
            ..Txn::default()
        });
        let running: Vec<_> = puts
            .map(|txn| (store.clone(), txn))
            .map(|(store, txn)| tokio::spawn(async move { store.txn(txn).await }))
            .collect();
        for txn in running {
            txn.await.unwrap().unwrap();
        }
    }
    store.expire_due().await.unwrap();
    let kept = store.revision() - store.compacted_revision();
    assert!((1_500..4_500).contains(&kept), "{kept}");
}

#[tokio::test]
async fn keys_expire_across_restarts() {
    let clock = Arc::new(ManualClock::new(1_000_000));
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        Store::open_with(
            dir.path(),
            Options {
                clock: clock.clone(),
                ..Options::default()
            },
        )
        .unwrap()
    };
    let store = open();
    let ttl = Duration::from_secs(60);
    let puts = vec![
        Op::put_ttl("/e/1", "1", ttl),
        Op::put_ttl("/e/2", "2", ttl),
        Op::put_ttl("/e/3", "3", ttl),
    ];
    store
        .txn(Txn {
            success: puts,
            ..Txn::default()
        })
        .await
        .unwrap();
    put(&store, "/e/2", "stays").await;
    delete(&store, "/e/3").await;
    clock.advance(Duration::from_secs(59));
    assert_eq!(store.expire_due().await.unwrap(), 0);
    drop(store);

    clock.advance(Duration::from_secs(5));
    let store = open();
    // The writer does it by itself; either way it is done when this returns.
    store.expire_due().await.unwrap();
    assert_eq!(value(&store, "/e/1").await, None);
    assert_eq!(value(&store, "/e/2").await.unwrap(), "stays");
    let mut watch = store.watch("/e/", 5).await.unwrap();
    assert_eq!(events(&mut watch, 5).await, ["5 delete /e/1 was 1@2"]);
    assert_eq!(store.revision(), 5);
}

#[tokio::test]
async fn keys_expire_by_themselves() {
    let store = Store::temporary().unwrap();
    let mut watch = store.watch("/", 0).await.unwrap();
    let txn = Txn {
        success: vec![Op::put_ttl("/e", "1", Duration::from_millis(1))],
        ..Txn::default()
    };
    store.txn(txn).await.unwrap();
    assert_eq!(events(&mut watch, 3).await, ["2 put /e=1", "3 delete /e was 1@2"]);
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    put(&store, "/a", "1").await;
    put(&store, "/a", "2").await;
    store.compact(2).await.unwrap();
    let before = store.range(Range::default()).await.unwrap();
    let in_use = Store::open(dir.path()).unwrap_err().to_string();
    assert!(
        in_use.contains(&format!("already in use by pid {}", std::process::id())),
        "{in_use}"
    );
    drop(store);

    let store = Store::open(dir.path()).unwrap();
    assert_eq!((store.revision(), store.compacted_revision()), (3, 2));
    assert_eq!(store.range(Range::default()).await.unwrap(), before);
    let mut watch = store.watch("/", 3).await.unwrap();
    assert_eq!(events(&mut watch, 3).await, ["3 put /a=2 was 1@2"]);
}

#[tokio::test]
async fn the_revision_outlives_its_history() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    put(&store, "/a", "1").await;
    let newest = delete(&store, "/a").await;
    store.compact(newest).await.unwrap();
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.revision(), newest);
    assert_eq!(put(&store, "/a", "2").await, newest + 1);
}

#[tokio::test]
async fn a_backup_makes_an_equal_store() {
    let store = Store::temporary().unwrap();
    let ttl = Duration::from_secs(3600);
    for n in 0..1_200 {
        let txn = Txn {
            success: vec![Op::put_ttl(format!("/k/{n}"), vec![7; n], ttl)],
            ..Txn::default()
        };
        store.txn(txn).await.unwrap();
    }
    put(&store, "/k/5", "changed").await;
    delete(&store, "/k/6").await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("skiff.backup");
    let revision = store.backup(&file).await.unwrap();
    assert_eq!(revision, store.revision());

    let restored = restore(&file, &dir.path().join("new")).unwrap();
    assert_eq!((restored.backup_revision, restored.keys), (revision, 1_199));
    let copy = Store::open(dir.path().join("new")).unwrap();
    assert_eq!(copy.revision(), restored.revision);
    assert_eq!(
        copy.range(Range::default()).await.unwrap().kvs,
        store.range(Range::default()).await.unwrap().kvs
    );
    assert!(matches!(
        copy.watch("/", revision + 1).await.err(),
        Some(WatchError::Compacted(_))
    ));
    assert!(put(&copy, "/k/5", "again").await > restored.revision);
    drop(copy);
    assert!(matches!(
        restore(&file, &dir.path().join("new")),
        Err(Error::Unwritable { .. })
    ));

    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    assert!(matches!(
        restore(&file, &dir.path().join("other")),
        Err(Error::Backup { .. })
    ));
    std::fs::write(&file, &bytes[..middle]).unwrap();
    assert!(matches!(
        restore(&file, &dir.path().join("other")),
        Err(Error::Backup { .. })
    ));
}
