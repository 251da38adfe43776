//! Measures the store: durable commits a second, latency, opening, memory and bytes written.
//!
//! `cargo run --release -p store --example engines [DIRECTORY]`; the numbers in
//! docs/adr/0001-store-engine.md are from it.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use store::{Op, Range, Store, Txn};

const VALUE_BYTES: usize = 2048;
const BATCHES: [usize; 3] = [1, 16, 64];
/// The argument of the process that opens one store.
const OPEN: &str = "--open";
const RUN: Duration = Duration::from_secs(3);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    if std::env::args().nth(1).is_some_and(|argument| argument == OPEN) {
        let dir = std::env::args().nth(2).ok_or("no directory")?;
        return runtime.block_on(open_one(Path::new(&dir)));
    }
    let parent = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = tempfile::Builder::new().prefix("skiff-engines-").tempdir_in(parent)?;
    println!(
        "{VALUE_BYTES} bytes a value, {} s a line, in {}",
        RUN.as_secs(),
        dir.path().display()
    );
    println!("\nengine                 batch   commits/s    values/s   written/byte   p50 ms   p99 ms");
    runtime.block_on(async {
        for batch in BATCHES {
            // Next to each other, so that both have the same machine.
            append(&dir.path().join(format!("append-{batch}")), batch)?;
            transactions(&dir.path().join(format!("store-{batch}")), batch).await?;
        }
        for clients in [16, 64] {
            clients_at_once(&dir.path().join(format!("clients-{clients}")), clients).await?;
        }
        opening(dir.path()).await
    })
}

/// Values that do not compress, as those of a busy cluster mostly do not repeat.
fn value(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..VALUE_BYTES / 8).flat_map(step).collect()
}

struct Run {
    started: Instant,
    written: u64,
    latencies: Vec<Duration>,
}

impl Run {
    fn start() -> Self {
        Self {
            started: Instant::now(),
            written: bytes_written(),
            latencies: Vec::new(),
        }
    }

    fn running(&self) -> bool {
        self.started.elapsed() < RUN
    }

    fn report(mut self, engine: &str, batch: usize, values_each: usize) {
        let seconds = self.started.elapsed().as_secs_f64();
        let commits = self.latencies.len() as f64;
        let values = commits * values_each as f64;
        let written = (bytes_written() - self.written) as f64 / (values * VALUE_BYTES as f64);
        self.latencies.sort_unstable();
        let percentile = |percent: usize| {
            let at = (self.latencies.len() * percent / 100).min(self.latencies.len() - 1);
            self.latencies[at].as_secs_f64() * 1e3
        };
        let (p50, p99) = (percentile(50), percentile(99));
        let (commits, values) = (commits / seconds, values / seconds);
        println!("{engine:<22} {batch:>5} {commits:>11.0} {values:>11.0} {written:>14.2} {p50:>8.2} {p99:>8.2}");
    }
}

/// What this process has caused to be written to disks.
fn bytes_written() -> u64 {
    let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// The least that durability costs: append to a file and fdatasync.
fn append(path: &Path, batch: usize) -> Result<(), Box<dyn std::error::Error>> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    let mut run = Run::start();
    let mut seed = 0;
    while run.running() {
        let began = Instant::now();
        let mut bytes = Vec::with_capacity(batch * VALUE_BYTES);
        for _ in 0..batch {
            seed += 1;
            bytes.extend(value(seed));
        }
        file.write_all(&bytes)?;
        file.sync_data()?;
        run.latencies.push(began.elapsed());
    }
    run.report("append + fdatasync", batch, batch);
    Ok(())
}

/// One client, transactions of so many puts.
async fn transactions(dir: &Path, batch: usize) -> Result<(), Box<dyn std::error::Error>> {
    let store = Store::open(dir)?;
    let mut run = Run::start();
    let mut seed = 0;
    while run.running() {
        let began = Instant::now();
        let put = |n: u64| Op::put(format!("/registry/pods/default/pod-{}", n % 10_000), value(n));
        let success = (seed..seed + batch as u64).map(put).collect();
        seed += batch as u64;
        store
            .txn(Txn {
                success,
                ..Txn::default()
            })
            .await?;
        run.latencies.push(began.elapsed());
    }
    run.report("store, one txn", batch, batch);
    Ok(())
}

/// So many clients that create, compare and swap one object at a time: group commit at work.
async fn clients_at_once(dir: &Path, clients: usize) -> Result<(), Box<dyn std::error::Error>> {
    let store = Store::open(dir)?;
    let mut run = Run::start();
    let started = run.started;
    let tasks: Vec<_> = (0..clients)
        .map(|client| (client, store.clone()))
        .map(|(client, store)| {
            tokio::spawn(async move {
                let key = format!("/registry/pods/default/client-{client}");
                let (mut latencies, mut revision, mut seed) = (Vec::new(), 0, client as u64 * 1_000_000);
                while started.elapsed() < RUN {
                    seed += 1;
                    let began = Instant::now();
                    revision = store.txn(Txn::update(&*key, revision, value(seed))).await?.revision;
                    latencies.push(began.elapsed());
                }
                Ok::<_, store::Error>(latencies)
            })
        })
        .collect();
    for task in tasks {
        run.latencies.extend(task.await??);
    }
    run.report("store, clients at once", clients, 1);
    Ok(())
}

/// Opening stores of several sizes, and what an idle one takes; each in a process of its own.
async fn opening(dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    println!("\nobjects   open ms   resident MiB   bytes written in 5 idle s   range of all ms");
    for objects in [0_u64, 1_000, 30_000] {
        let dir = dir.join(format!("open-{objects}"));
        let store = Store::open(&dir)?;
        for first in (0..objects).step_by(500) {
            let put = |n: u64| Op::put(format!("/registry/pods/default/pod-{n}"), value(n));
            let success = (first..objects.min(first + 500)).map(put).collect();
            store
                .txn(Txn {
                    success,
                    ..Txn::default()
                })
                .await?;
        }
        drop(store);
        Command::new(std::env::current_exe()?).arg(OPEN).arg(&dir).status()?;
    }
    Ok(())
}

async fn open_one(dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let began = Instant::now();
    let store = Store::open(dir)?;
    let open_ms = began.elapsed().as_secs_f64() * 1e3;
    let resident = resident_mib();
    let written = bytes_written();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let written = bytes_written() - written;
    let began = Instant::now();
    let found = store.range(Range::default()).await?.kvs.len();
    let range_ms = began.elapsed().as_secs_f64() * 1e3;
    println!("{found:>7} {open_ms:>9.1} {resident:>14.1} {written:>27} {range_ms:>17.1}");
    Ok(())
}

fn resident_mib() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: f64 = line
        .and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0.0);
    kib / 1024.0
}
