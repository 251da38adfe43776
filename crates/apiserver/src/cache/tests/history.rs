//! Random histories: every watch must tell exactly the difference between repeated lists.

use std::collections::BTreeMap;

use proptest::prelude::*;
use store::{Op, Store, Txn};

use super::*;

const APPS: [&str; 2] = ["red", "blue"];
const NODES: [&str; 3] = ["", "n1", "n2"];
const OBJECTS: [(&str, &str); 5] = [("a", "x"), ("a", "y"), ("a-b", "x"), ("b", "x"), ("b", "z")];

#[derive(Clone, Debug)]
enum Step {
    Put { object: usize, app: usize, node: usize },
    Delete { object: usize },
    Elsewhere,
    Watch { selection: usize, start: Start },
    Drain { watcher: usize },
    List { selection: usize, ago: i64, limit: usize },
    Compact { ago: i64 },
    Restart,
}

#[derive(Clone, Copy, Debug)]
enum Start {
    Ago(i64),
    Now,
    State,
    Initial,
}

fn step() -> impl Strategy<Value = Step> {
    let start = prop_oneof![
        3 => (0..8_i64).prop_map(Start::Ago),
        1 => Just(Start::Now),
        1 => Just(Start::State),
        1 => Just(Start::Initial),
    ];
    let put = (0..OBJECTS.len(), 0..APPS.len(), 0..NODES.len());
    prop_oneof![
        10 => put.prop_map(|(object, app, node)| Step::Put { object, app, node }),
        4 => (0..OBJECTS.len()).prop_map(|object| Step::Delete { object }),
        2 => Just(Step::Elsewhere),
        4 => (0..SELECTIONS, start).prop_map(|(selection, start)| Step::Watch { selection, start }),
        3 => any::<usize>().prop_map(|watcher| Step::Drain { watcher }),
        4 => (0..SELECTIONS, -1..9_i64, 0..3_usize).prop_map(|(selection, ago, limit)| Step::List { selection, ago, limit }),
        1 => (0..6_i64).prop_map(|ago| Step::Compact { ago }),
        1 => Just(Step::Restart),
    ]
}

const SELECTIONS: usize = 9;

fn selection(number: usize) -> Selection {
    let node = |node: &str| Some(("spec.nodeName".to_owned(), node.to_owned()));
    match number {
        0 => Selection::all(),
        1 => Selection::namespace("a"),
        2 => app("red"),
        3 => Selection {
            namespace: Some("a".into()),
            ..app("blue")
        },
        4 => Selection {
            field: node("n1"),
            ..Selection::all()
        },
        5 => Selection {
            field: node(""),
            ..app("red")
        },
        6 => Selection {
            name: Some("x".into()),
            ..Selection::namespace("a")
        },
        7 => Selection {
            name: Some("x".into()),
            ..Selection::all()
        },
        _ => Selection {
            field: node("n2"),
            ..Selection::namespace("b")
        },
    }
}

/// What is known of an object: application, node, revision.
type Known = (&'static str, &'static str, i64);
type State = BTreeMap<(&'static str, &'static str), Known>;

fn selected(number: usize, (namespace, name): (&str, &str), (app, node, _): Known) -> bool {
    match number {
        0 => true,
        1 => namespace == "a",
        2 => app == "red",
        3 => namespace == "a" && app == "blue",
        4 => node == "n1",
        5 => node.is_empty() && app == "red",
        6 => namespace == "a" && name == "x",
        7 => name == "x",
        _ => namespace == "b" && node == "n2",
    }
}

/// A list as each watch and each page must have it; key order is that of `<namespace>/<name>`.
fn listed(state: &State, number: usize) -> Vec<String> {
    let mut objects: Vec<_> = state
        .iter()
        .filter(|(key, known)| selected(number, **key, **known))
        .collect();
    objects.sort_by_key(|((namespace, name), _)| format!("{namespace}/{name}"));
    objects
        .iter()
        .map(|(key, known)| text("Added", **key, **known, known.2))
        .collect()
}

fn text(change: &str, (namespace, name): (&str, &str), (app, node, _): Known, revision: i64) -> String {
    format!("{change} {namespace}/{name} {app}{node}@{revision}")
}

/// The state after each revision from 1 on.
struct Model(Vec<State>);

impl Model {
    fn revision(&self) -> i64 {
        i64::try_from(self.0.len()).unwrap()
    }

    fn at(&self, revision: i64) -> &State {
        &self.0[usize::try_from(revision - 1).unwrap()]
    }

    /// What a watch of the selection sees in the revisions after `after`.
    fn changes(&self, after: i64, number: usize) -> Vec<String> {
        let mut seen = Vec::new();
        for revision in after + 1..=self.revision() {
            let (before, now) = (self.at(revision - 1), self.at(revision));
            for key in OBJECTS {
                let (was, is) = (before.get(&key), now.get(&key));
                if was == is {
                    continue;
                }
                let was = was.filter(|known| selected(number, key, **known));
                let is = is.filter(|known| selected(number, key, **known));
                seen.extend(match (was, is) {
                    (None, None) => None,
                    (None, Some(is)) => Some(text("Added", key, *is, revision)),
                    (Some(_), Some(is)) => Some(text("Modified", key, *is, revision)),
                    (Some(was), None) => Some(text("Deleted", key, *was, revision)),
                });
            }
        }
        seen
    }
}

struct Running {
    watcher: Watcher,
    number: usize,
    /// What it must still see, besides what happens after `through`.
    owed: Vec<String>,
    through: i64,
}

struct World {
    store: Store,
    cache: Cache,
    model: Model,
    watchers: Vec<Running>,
    ring: usize,
}

fn start_cache(store: &Store, ring: usize) -> Cache {
    let mut config = config();
    config.ring_limit = ring;
    Cache::start(store.clone(), config)
}

/// Opens the store as soon as the stopped cache's last read has let go of it.
async fn reopen(dir: &std::path::Path) -> Store {
    loop {
        match Store::open(dir) {
            Err(store::Error::InUse { .. }) => tokio::task::yield_now().await,
            opened => return opened.unwrap(),
        }
    }
}

impl World {
    async fn write(&mut self, op: Op, change: impl FnOnce(&mut State, i64)) {
        let next = self.model.revision() + 1;
        let response = self
            .store
            .txn(Txn {
                success: vec![op],
                ..Txn::default()
            })
            .await
            .unwrap();
        if response.revision == next {
            let mut state = self.model.at(next - 1).clone();
            change(&mut state, next);
            self.model.0.push(state);
        }
        assert_eq!(response.revision, self.model.revision());
    }

    async fn watch(&mut self, number: usize, start: Start) {
        let newest = self.model.revision();
        let from = |ago: i64| (newest - ago).max(1);
        let at = match start {
            Start::Ago(ago) => WatchStart::After(from(ago)),
            Start::Now => WatchStart::Now,
            Start::State => WatchStart::StateLatest,
            Start::Initial => WatchStart::InitialEvents {
                not_older_than: Some(newest),
            },
        };
        let started = self
            .cache
            .watch(WatchParams {
                start: at,
                selection: selection(number),
            })
            .await;
        let watcher = match started {
            Ok(watcher) => watcher,
            Err(error) => {
                let WatchStart::After(after) = at else {
                    panic!("{error}")
                };
                self.may_be_expired(&error, after);
                return;
            }
        };
        let (owed, through) = match start {
            Start::Ago(ago) => (Vec::new(), from(ago)),
            Start::Now => (Vec::new(), newest),
            Start::State => (listed(self.model.at(newest), number), newest),
            Start::Initial => {
                let mut owed = listed(self.model.at(newest), number);
                owed.push(format!("InitialEventsEnd@{newest}"));
                (owed, newest)
            }
        };
        self.watchers.push(Running {
            watcher,
            number,
            owed,
            through,
        });
    }

    fn may_be_expired(&self, error: &CacheError, after: i64) {
        let changes = self.model.changes(after, 0).len();
        let excused = changes > self.ring || after < self.store.compacted_revision();
        assert!(
            matches!(error, CacheError::Expired { .. }) && excused,
            "{error} after {after}"
        );
    }

    async fn drain(&mut self, which: usize) {
        if self.watchers.is_empty() {
            return;
        }
        let which = which % self.watchers.len();
        let running = &mut self.watchers[which];
        let mut expected = std::mem::take(&mut running.owed);
        expected.extend(self.model.changes(running.through, running.number));
        running.through = self.model.revision();
        assert_eq!(
            drain(&mut running.watcher, &self.store).await,
            expected,
            "selection {}",
            running.number
        );
    }

    async fn list(&self, number: usize, ago: i64, limit: usize) {
        let newest = self.model.revision();
        let revision = if ago < 0 { newest } else { (newest - ago).max(1) };
        let at = if ago < 0 { At::Latest } else { At::Exact(revision) };
        let mut params = ListParams {
            at,
            selection: selection(number),
            limit,
            start_after: None,
        };
        let mut seen = Vec::new();
        loop {
            let page = match self.cache.list(params.clone()).await {
                Ok(page) => page,
                Err(error) => {
                    let compacted = self.store.compacted_revision();
                    assert!(
                        matches!(error, CacheError::Expired { .. }) && revision < compacted,
                        "{error}"
                    );
                    return;
                }
            };
            assert_eq!(page.revision, revision);
            let added = |entry: &Arc<Entry>| WatchEvent {
                change: ChangeType::Added,
                revision: entry.revision,
                entry: Some(Arc::clone(entry)),
            };
            seen.extend(page.entries.iter().map(|entry| show(&added(entry))));
            if !page.more {
                break;
            }
            assert_eq!(page.entries.len(), limit);
            params.at = At::Exact(page.revision);
            params.start_after = page.entries.last().map(|entry| entry.key().to_string());
        }
        assert_eq!(
            seen,
            listed(self.model.at(revision), number),
            "selection {number} at {revision}"
        );
    }

    /// Stops everything, starts again, and resumes every watch where it had come to.
    async fn restart(mut self, dir: &std::path::Path) -> Self {
        for which in 0..self.watchers.len() {
            self.drain(which).await;
        }
        let watchers: Vec<_> = self
            .watchers
            .drain(..)
            .map(|running| (running.number, running.through))
            .collect();
        let Self {
            store,
            cache,
            model,
            ring,
            ..
        } = self;
        drop((store, cache));
        let store = reopen(dir).await;
        let mut world = Self {
            cache: start_cache(&store, ring),
            store,
            model,
            watchers: Vec::new(),
            ring,
        };
        for (number, through) in watchers {
            let params = WatchParams {
                start: WatchStart::After(through),
                selection: selection(number),
            };
            match world.cache.watch(params).await {
                Ok(watcher) => world.watchers.push(Running {
                    watcher,
                    number,
                    owed: Vec::new(),
                    through,
                }),
                Err(error) => world.may_be_expired(&error, through),
            }
        }
        world
    }
}

async fn run(steps: Vec<Step>, ring: usize) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let cache = start_cache(&store, ring);
    let mut world = World {
        store,
        cache,
        model: Model(vec![State::new()]),
        watchers: Vec::new(),
        ring,
    };
    for step in steps {
        match step {
            Step::Put {
                object: which,
                app,
                node,
            } => {
                let (id, app, node) = (OBJECTS[which], APPS[app], NODES[node]);
                let op = Op::put(key(id.0, id.1), object(id.1, app, node));
                world
                    .write(op, |state, revision| {
                        state.insert(id, (app, node, revision));
                    })
                    .await;
            }
            Step::Delete { object: which } => {
                let id = OBJECTS[which];
                world
                    .write(Op::delete(key(id.0, id.1)), |state, _| {
                        state.remove(&id);
                    })
                    .await;
            }
            Step::Elsewhere => world.write(Op::put("/registry/podx/a/x", "{}"), |_, _| ()).await,
            Step::Watch { selection, start } => world.watch(selection, start).await,
            Step::Drain { watcher } => world.drain(watcher).await,
            Step::List { selection, ago, limit } => world.list(selection, ago, limit).await,
            Step::Compact { ago } => {
                // Refused if it is compacted already.
                let _ = world.store.compact((world.model.revision() - ago).max(1)).await;
            }
            Step::Restart => world = world.restart(dir.path()).await,
        }
    }
    for which in 0..world.watchers.len() {
        world.drain(which).await;
    }
    for number in 0..SELECTIONS {
        world.list(number, -1, 2).await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn watches_are_repeated_lists(steps in prop::collection::vec(step(), 1..80), ring in prop_oneof![Just(4_usize), Just(1_000)]) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(run(steps, ring));
    }
}
