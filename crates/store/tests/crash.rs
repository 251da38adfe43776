//! Processes that are killed, journals that are torn, disks that are full.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use proptest::test_runner::{RngAlgorithm, TestRng};
use store::{CommitPoint, Error, Event, Faults, Op, OpResult, Options, Range, Store, Txn};

const DIR: &str = "SKIFF_STORE_TEST_DIR";
const WRITERS: usize = 4;

/// Writes two keys at once, of which the second is the first one's copy.
fn pair(writer: usize, number: u64) -> Txn {
    let value = format!("{number} ").repeat(1 + usize::try_from(number % 997).unwrap() * 4);
    let puts = vec![
        Op::put(format!("/{writer}/a"), value.clone()),
        Op::put(format!("/{writer}/b"), value),
    ];
    Txn {
        success: puts,
        ..Txn::default()
    }
}

fn number(value: &[u8]) -> u64 {
    let text = std::str::from_utf8(value).unwrap();
    let number = text.split(' ').next().unwrap().parse().unwrap();
    assert_eq!(
        text,
        format!("{number} ").repeat(1 + usize::try_from(number % 997).unwrap() * 4)
    );
    number
}

/// The number that each writer's keys hold; every pair must be equal.
async fn numbers(store: &Store, revision: i64) -> BTreeMap<usize, u64> {
    let kvs = store.range(Range::default().at(revision)).await.unwrap().kvs;
    assert!(kvs.len() % 2 == 0);
    let pairs = kvs.chunks(2).map(|pair| {
        assert_eq!(
            (&pair[0].value, pair[0].mod_revision),
            (&pair[1].value, pair[1].mod_revision)
        );
        let writer = pair[0].key[1..].split('/').next().unwrap().parse().unwrap();
        (writer, number(&pair[0].value))
    });
    pairs.collect()
}

/// Runs a test of this binary as another process; the role does nothing when the tests are run.
fn role(name: &str, dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .stdout(Stdio::piped());
    command
}

#[test]
fn role_write_until_killed() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = Store::open(dir).unwrap();
        let known = numbers(&store, 0).await;
        println!();
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..WRITERS {
            let (store, mut number) = (store.clone(), known.get(&writer).copied().unwrap_or(0));
            writers.spawn(async move {
                while number < u64::MAX {
                    number += 1;
                    let revision = store.txn(pair(writer, number)).await.unwrap().revision;
                    // One write call a line, as a kill must not tear it.
                    io::stdout()
                        .write_all(format!("ack {writer} {number} {revision}\n").as_bytes())
                        .unwrap();
                }
            });
        }
        while let Some(ended) = writers.join_next().await {
            ended.unwrap();
        }
    });
}

#[tokio::test]
async fn a_killed_process_has_lost_nothing_it_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged: BTreeMap<usize, u64> = BTreeMap::new();
    let mut newest = 1;
    for round in 0..8 {
        let mut child = role("role_write_until_killed", dir.path()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let wanted = 40 + round * 61;
        let mut seen = 0;
        for line in output.lines() {
            let line = line.unwrap();
            let Some(ack) = line.strip_prefix("ack ") else { continue };
            let fields: Vec<u64> = ack.split(' ').map(|field| field.parse().unwrap()).collect();
            acknowledged.insert(usize::try_from(fields[0]).unwrap(), fields[1]);
            newest = newest.max(i64::try_from(fields[2]).unwrap());
            seen += 1;
            if seen == wanted {
                // Lines that were written until then are still read.
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(seen >= wanted, "the writer ended by itself");
        let store = Store::open(dir.path()).unwrap();
        assert!(store.revision() >= newest);
        for (writer, number) in numbers(&store, 0).await {
            let acknowledged = acknowledged[&writer];
            // At most the one that was under way.
            assert!(
                (acknowledged..=acknowledged + 1).contains(&number),
                "{writer}: {number}, not {acknowledged}"
            );
        }
        let from = store.revision() - 20;
        let mut watch = store.watch("/", from).await.unwrap();
        let events = watch.next().await.unwrap().events;
        let revisions: Vec<_> = events.iter().map(Event::revision).collect();
        assert_eq!(
            revisions,
            (from..=store.revision())
                .flat_map(|revision| [revision; 2])
                .collect::<Vec<_>>()
        );
        newest = store.revision();
        acknowledged = numbers(&store, 0).await;
    }
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => copy_dir(&entry.path(), &to.join(entry.file_name())),
            false => drop(fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
}

fn debug_build_only() {
    let debug = cfg!(debug_assertions);
    assert!(debug, "only debug builds may panic");
}

fn journal(dir: &Path) -> PathBuf {
    let files = fs::read_dir(dir.join("kv")).unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|extension| extension == "jnl"))
        .max()
        .unwrap()
}

/// Cuts or damages the end of the journal at random places: what opens is a state that once was.
#[tokio::test]
async fn a_torn_journal_ends_at_a_whole_revision() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut states = vec![BTreeMap::new()];
    for n in 1..=40 {
        store.txn(pair(0, n)).await.unwrap();
        states.push([(0, n)].into());
    }
    drop(store);
    let bytes = fs::read(journal(dir.path())).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let mut random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut shortest = usize::MAX;
    for round in 0..60 {
        use proptest::prelude::Rng;
        let back = usize::try_from(random.next_u32()).unwrap() % (end / 2);
        let copy = tempfile::tempdir().unwrap();
        copy_dir(dir.path(), copy.path());
        let file = journal(copy.path());
        let opened = OpenOptions::new().write(true).open(&file).unwrap();
        match round % 3 {
            0 => opened.set_len(u64::try_from(end - back).unwrap()).unwrap(),
            1 => {
                // The size was written, the data was not.
                opened.set_len(u64::try_from(end - back).unwrap()).unwrap();
                opened.set_len(u64::try_from(end).unwrap()).unwrap();
            }
            _ => {
                let mut damaged = bytes[..end].to_vec();
                damaged[end - 1 - back] ^= 0x40;
                fs::write(&file, damaged).unwrap();
            }
        }
        drop(opened);
        if round % 3 != 2 {
            // The machine died before this note reached the disk.
            fs::remove_file(copy.path().join("newest-revision")).unwrap();
        }
        // fjall has an assertion against damage that only debug builds check.
        let Ok(opened) = std::panic::catch_unwind(|| Store::open(copy.path())) else {
            debug_build_only();
            continue;
        };
        // Damage to what was acknowledged is refused; it is never served, nor passed over.
        let Ok(store) = opened else {
            assert_eq!(round % 3, 2, "a torn end opens");
            continue;
        };
        assert!(round % 3 != 2 || store.revision() == 41);
        let revision = usize::try_from(store.revision()).unwrap();
        assert_eq!(numbers(&store, 0).await, states[revision - 1]);
        shortest = shortest.min(revision);
        let next = u64::try_from(revision).unwrap();
        assert_eq!(store.txn(pair(0, next)).await.unwrap().revision, store.revision());
        drop(store);
        let store = Store::open(copy.path()).unwrap();
        assert_eq!(numbers(&store, 0).await, BTreeMap::from([(0, next)]));
    }
    assert!(shortest < 30, "nothing was cut");
}

/// Fails commits on demand.
#[derive(Default)]
struct Switch(AtomicU8);

const GOOD: u8 = 0;
const FULL_BEFORE: u8 = 1;
const FULL_AFTER: u8 = 2;
const BROKEN: u8 = 3;

impl Switch {
    fn set(&self, to: u8) {
        self.0.store(to, Ordering::SeqCst);
    }
}

impl Faults for Switch {
    fn at(&self, point: CommitPoint) -> io::Result<()> {
        match (self.0.load(Ordering::SeqCst), point) {
            (FULL_BEFORE, CommitPoint::BeforeWrite) | (FULL_AFTER, CommitPoint::AfterWrite) => {
                Err(io::ErrorKind::StorageFull.into())
            }
            (BROKEN, CommitPoint::BeforeWrite) => Err(io::Error::other("input/output error")),
            _ => Ok(()),
        }
    }
}

fn switched(dir: &Path) -> (Arc<Switch>, Store) {
    let switch = Arc::new(Switch::default());
    let options = Options {
        faults: Some(switch.clone()),
        full_retry: Duration::ZERO,
        ..Options::default()
    };
    (switch, Store::open_with(dir, options).unwrap())
}

#[tokio::test]
async fn a_full_disk_refuses_writes_until_there_is_space() {
    let dir = tempfile::tempdir().unwrap();
    let (switch, store) = switched(dir.path());
    store.txn(pair(0, 1)).await.unwrap();
    let mut watch = store.watch("/", 0).await.unwrap();
    switch.set(FULL_BEFORE);
    for _ in 0..3 {
        let refused = store.txn(pair(0, 2)).await.unwrap_err();
        assert!(matches!(refused, Error::Full { .. }), "{refused}");
        assert!(refused.to_string().contains("free some space"));
        assert_eq!(numbers(&store, 0).await, BTreeMap::from([(0, 1)]));
    }
    assert!(matches!(store.compact(2).await, Err(Error::Full { .. })));
    switch.set(GOOD);
    assert_eq!(store.txn(pair(0, 3)).await.unwrap().revision, 3);
    let seen = watch.next().await.unwrap();
    assert_eq!((seen.revision, seen.events.len()), (3, 2));
}

#[tokio::test]
async fn a_commit_of_unknown_outcome_is_found_out() {
    let dir = tempfile::tempdir().unwrap();
    let (switch, store) = switched(dir.path());
    let mut watch = store.watch("/", 0).await.unwrap();
    switch.set(FULL_AFTER);
    assert!(matches!(store.txn(pair(0, 1)).await, Err(Error::Full { .. })));
    // It is not shown before it is known to have happened.
    assert_eq!((store.revision(), numbers(&store, 0).await.len()), (1, 0));
    switch.set(GOOD);
    let response = store
        .txn(Txn {
            success: vec![Op::get("/0/a")],
            ..Txn::default()
        })
        .await
        .unwrap();
    assert!(matches!(&response.results[0], OpResult::Get(Some(kv)) if kv.mod_revision == 2));
    assert_eq!(store.revision(), 2);
    let seen = watch.next().await.unwrap();
    assert_eq!((seen.revision, seen.events.len()), (2, 2));
    assert_eq!(store.txn(pair(0, 2)).await.unwrap().revision, 3);
}

#[tokio::test]
async fn a_broken_disk_makes_the_store_read_only() {
    let dir = tempfile::tempdir().unwrap();
    let (switch, store) = switched(dir.path());
    store.txn(pair(0, 1)).await.unwrap();
    switch.set(BROKEN);
    assert!(matches!(store.txn(pair(0, 2)).await, Err(Error::ReadOnly { .. })));
    switch.set(GOOD);
    let refused = store.txn(pair(0, 2)).await.unwrap_err().to_string();
    assert!(
        refused.contains("read-only") && refused.contains("input/output error"),
        "{refused}"
    );
    assert_eq!(numbers(&store, 0).await, BTreeMap::from([(0, 1)]));
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.txn(pair(0, 2)).await.unwrap().revision, 3);
}

/// A real small disk. Needs a mount namespace: root, or unprivileged user namespaces.
#[test]
fn a_real_full_disk_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let inside = role("role_fill_the_disk", dir.path());
    let script = r#"mount -t tmpfs -o size=40m none "$SKIFF_STORE_TEST_DIR" && exec "$0" "$@""#;
    let mut command = Command::new("unshare");
    command
        .args(["--map-root-user", "--mount", "sh", "-c", script])
        .arg(inside.get_program())
        .args(inside.get_args());
    let output = command.env(DIR, dir.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && text.contains("the disk was full and is not"),
        "{text}"
    );
}

#[test]
fn role_fill_the_disk() {
    let Some(dir) = std::env::var_os(DIR).map(PathBuf::from) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        fs::write(dir.join("ballast"), vec![1; 24 << 20]).unwrap();
        let options = || Options {
            full_retry: Duration::ZERO,
            ..Options::default()
        };
        let store = Store::open_with(dir.join("store"), options()).unwrap();
        let mut watch = store.watch("/", 0).await.unwrap();
        let big = |number: u64| Txn {
            success: vec![Op::put(format!("/{number}"), random(number))],
            ..Txn::default()
        };
        let mut written = Vec::new();
        let mut number = 0;
        let refused = loop {
            number += 1;
            match store.txn(big(number)).await {
                Ok(_) => written.push(number),
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, Error::Full { .. }), "{refused}");
        check(&store, &written, number).await;
        fs::remove_file(dir.join("ballast")).unwrap();
        for again in number + 1..number + 60 {
            store.txn(big(again)).await.unwrap();
            written.push(again);
        }
        check(&store, &written, number).await;
        let mut seen = Vec::new();
        while seen.last() != written.last() {
            let events = watch.next().await.unwrap().events;
            seen.extend(events.iter().map(|event| event.key()[1..].parse::<u64>().unwrap()));
        }
        seen.retain(|seen| *seen != number);
        assert_eq!(seen, written);
        drop((store, watch));
        let store = Store::open_with(dir.join("store"), options()).unwrap();
        check(&store, &written, number).await;
        println!("the disk was full and is not");
    });
}

/// Bytes that do not compress.
fn random(seed: u64) -> Vec<u8> {
    use proptest::prelude::Rng;
    let mut bytes = vec![0; 64 << 10];
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_be_bytes());
    TestRng::from_seed(RngAlgorithm::ChaCha, &key).fill_bytes(&mut bytes);
    bytes
}

/// All that was written is there, and nothing else but perhaps the one that was refused.
async fn check(store: &Store, written: &[u64], refused: u64) {
    let kvs = store.range(Range::default()).await.unwrap().kvs;
    let mut found: Vec<u64> = kvs.iter().map(|kv| kv.key[1..].parse().unwrap()).collect();
    found.sort_unstable();
    found.retain(|found| *found != refused);
    assert_eq!(found, written);
    assert!(kvs.iter().all(|kv| kv.value == random(kv.key[1..].parse().unwrap())));
}
