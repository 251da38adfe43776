//! Random histories against a model: every old state is kept in memory and compared.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use proptest::prelude::*;
use store::{Compare, Error, Event, KeyValue, Op, Range, Store, Txn, WatchError};

const KEYS: [&str; 6] = ["/a", "/a/x", "/a/x\u{1}", "/a/y", "/b/x", "/b/\u{10FFFF}"];
const PREFIXES: [&str; 4] = ["/", "/a/", "/b/", "/a/x"];

#[derive(Clone, Debug)]
enum Step {
    /// Writes (value) or deletes (none) keys at once.
    Write(Vec<(usize, Option<u8>)>),
    /// Writes a key if its revision is the one of so many revisions ago.
    Swap(usize, i64, u8),
    Compact(i64),
    Restart,
    Read {
        prefix: usize,
        ago: i64,
        limit: usize,
    },
    Watch {
        prefix: usize,
        ago: i64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let write = prop::collection::vec((0..KEYS.len(), prop::option::weighted(0.7, any::<u8>())), 1..4);
    prop_oneof![
        8 => write.prop_map(Step::Write),
        2 => (0..KEYS.len(), 0..4_i64, any::<u8>()).prop_map(|(key, ago, value)| Step::Swap(key, ago, value)),
        1 => (0..6_i64).prop_map(Step::Compact),
        1 => Just(Step::Restart),
        3 => (0..PREFIXES.len(), 0..12_i64, 0..4_usize).prop_map(|(prefix, ago, limit)| Step::Read { prefix, ago, limit }),
        2 => (0..PREFIXES.len(), 0..12_i64).prop_map(|(prefix, ago)| Step::Watch { prefix, ago }),
    ]
}

type State = BTreeMap<String, KeyValue>;

/// The state after each revision, from revision 1 on.
struct Model {
    states: Vec<State>,
    compacted: i64,
}

impl Model {
    fn revision(&self) -> i64 {
        i64::try_from(self.states.len()).unwrap()
    }

    fn at(&self, revision: i64) -> &State {
        &self.states[usize::try_from(revision - 1).unwrap()]
    }

    fn write(&mut self, writes: &[(usize, Option<u8>)]) {
        let revision = self.revision() + 1;
        let mut state = self.at(self.revision()).clone();
        for (key, value) in writes {
            let key = KEYS[*key];
            let prev = state.remove(key);
            if let Some(value) = value {
                let kv = KeyValue {
                    key: key.into(),
                    value: vec![*value; usize::from(*value)].into(),
                    create_revision: prev.as_ref().map_or(revision, |prev| prev.create_revision),
                    mod_revision: revision,
                    version: prev.map_or(1, |prev| prev.version + 1),
                    expires_at_ms: None,
                };
                state.insert(key.to_owned(), kv);
            }
        }
        if state != *self.at(self.revision()) {
            self.states.push(state);
        }
    }

    /// The changes of a revision, in key order.
    fn events(&self, revision: i64, prefix: &str) -> Vec<Event> {
        let (before, after) = (self.at(revision - 1), self.at(revision));
        let changed = KEYS
            .iter()
            .filter(|key| key.starts_with(prefix) && before.get(**key) != after.get(**key));
        let mut events: Vec<_> = changed
            .map(|key| match (after.get(*key), before.get(*key)) {
                (Some(kv), prev) => Event::Put {
                    kv: kv.clone(),
                    prev: prev.cloned(),
                },
                (None, prev) => Event::Delete {
                    revision,
                    prev: prev.unwrap().clone(),
                },
            })
            .collect();
        events.sort_by(|a, b| a.key().cmp(b.key()));
        events
    }
}

async fn run(steps: Vec<Step>) {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let mut model = Model {
        states: vec![State::new()],
        compacted: 0,
    };
    let mut live = store.watch("/", 0).await.unwrap();
    let mut live_from = 2;
    for step in steps {
        match step {
            Step::Write(mut writes) => {
                writes.sort_by_key(|(key, _)| *key);
                writes.dedup_by_key(|(key, _)| *key);
                let op = |(key, value): &(usize, Option<u8>)| match value {
                    Some(value) => Op::put(KEYS[*key], vec![*value; usize::from(*value)]),
                    None => Op::delete(KEYS[*key]),
                };
                let txn = Txn {
                    success: writes.iter().map(op).collect(),
                    ..Txn::default()
                };
                let response = store.txn(txn).await.unwrap();
                model.write(&writes);
                assert_eq!(response.revision, model.revision());
            }
            Step::Swap(key, ago, value) => {
                let then = model.at((model.revision() - ago).max(1)).get(KEYS[key]);
                let revision = then.map_or(0, |kv| kv.mod_revision);
                let now = model
                    .at(model.revision())
                    .get(KEYS[key])
                    .map_or(0, |kv| kv.mod_revision);
                let txn = Txn {
                    compare: vec![Compare::ModRevision {
                        key: KEYS[key].into(),
                        revision,
                    }],
                    success: vec![Op::put(KEYS[key], vec![value; usize::from(value)])],
                    failure: vec![],
                };
                let response = store.txn(txn).await.unwrap();
                assert_eq!(response.succeeded, now == revision);
                if response.succeeded {
                    model.write(&[(key, Some(value))]);
                }
                assert_eq!(response.revision, model.revision());
            }
            Step::Compact(ago) => {
                let revision = (model.revision() - ago).max(1);
                match store.compact(revision).await {
                    Ok(()) => model.compacted = revision,
                    Err(error) => assert!(matches!(error, Error::Compacted(_)) && revision <= model.compacted),
                }
            }
            Step::Restart => {
                compare_watch(&mut live, &model, "/", live_from).await;
                drop(live);
                drop(store);
                store = Store::open(dir.path()).unwrap();
                assert_eq!(
                    (store.revision(), store.compacted_revision()),
                    (model.revision(), model.compacted)
                );
                live_from = model.compacted + 1;
                live = store.watch("/", live_from).await.unwrap();
            }
            Step::Read { prefix, ago, limit } => compare_range(&store, &model, PREFIXES[prefix], ago, limit).await,
            Step::Watch { prefix, ago } => {
                let from = (model.revision() + 1 - ago).max(2);
                match store.watch(PREFIXES[prefix], from).await {
                    Ok(mut watch) => compare_watch(&mut watch, &model, PREFIXES[prefix], from).await,
                    Err(error) => {
                        assert!(
                            matches!(error, WatchError::Compacted(_)) && from <= model.compacted,
                            "{error}"
                        );
                    }
                }
            }
        }
    }
    compare_watch(&mut live, &model, "/", live_from).await;
    for ago in 0..model.revision() {
        compare_range(&store, &model, "/", ago, 0).await;
    }
}

async fn compare_range(store: &Store, model: &Model, prefix: &str, ago: i64, limit: usize) {
    let revision = (model.revision() - ago).max(1);
    let range = Range {
        counted: true,
        ..Range::prefix(prefix).at(revision).limit(limit)
    };
    let response = match store.range(range).await {
        Ok(response) => response,
        Err(error) => {
            assert!(
                matches!(error, Error::Compacted(_)) && revision < model.compacted,
                "{error} at {revision}"
            );
            return;
        }
    };
    let all: Vec<_> = model
        .at(revision)
        .values()
        .filter(|kv| kv.key.starts_with(prefix))
        .cloned()
        .collect();
    let expected = if limit == 0 { all.len() } else { limit.min(all.len()) };
    assert_eq!(response.kvs, all[..expected], "{prefix} at {revision}");
    assert_eq!((response.count, response.more), (all.len(), expected < all.len()));
    for key in KEYS {
        assert_eq!(
            store.get_at(key, revision).await.unwrap().as_ref(),
            model.at(revision).get(key)
        );
    }
}

async fn compare_watch(watch: &mut store::WatchStream, model: &Model, prefix: &str, from: i64) {
    let mut seen = Vec::new();
    let mut reached = from - 1;
    while reached < model.revision() {
        watch.request_progress();
        let batch = watch.next().await;
        if let Err(WatchError::Compacted(_)) = batch {
            // History went away before this watch had read it.
            assert!(reached < model.compacted);
            return;
        }
        let batch = batch.unwrap();
        assert!(batch.revision > reached && batch.events.iter().all(|event| event.revision() <= batch.revision));
        reached = batch.revision;
        seen.extend(batch.events);
    }
    let revisions = from.max(2)..=model.revision();
    let expected: Vec<_> = revisions.flat_map(|revision| model.events(revision, prefix)).collect();
    assert_eq!(seen, expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_is_its_model(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(run(steps));
    }
}
