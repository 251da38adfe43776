//! Watches: what an idle one costs, and what a delivered event costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::Options;
use super::connection::{Call, Connection, Http, Target};
use super::figures::{Latencies, Measured};
use super::objects::{Encoding, Objects, Resource};
use super::server::{Server, own_cpu};

const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
/// Leases that are updated in turn.
const LEASES: u32 = 10;
/// How long the last events may take.
const SETTLE: Duration = Duration::from_secs(5);

fn get(path: &str) -> Call<'_> {
    Call {
        method: Method::GET,
        path,
        content_type: "",
        accept: JSON,
        body: Bytes::new(),
    }
}

/// Opens the watches, spread over the connections.
async fn open(options: &Options, target: &Target, path: &str) -> Result<(Vec<Connection>, Vec<Incoming>)> {
    let mut connections = Vec::new();
    for _ in 0..options.watch_connections {
        connections.push(target.connect(Http::Two).await?);
    }
    let mut bodies = Vec::new();
    for at in 0..options.watches as usize {
        let place = at % connections.len();
        let answer = connections[place].start(get(path)).await?;
        if !answer.status().is_success() {
            bail!("a watch was refused: {}", answer.status());
        }
        bodies.push(answer.into_body());
    }
    Ok((connections, bodies))
}

/// The revision of the collection now.
async fn revision(target: &Target, path: &str) -> Result<String> {
    let mut connection = target.connect(Http::One).await?;
    let (code, body) = connection.fetch(get(&format!("{path}?limit=1"))).await?;
    let list: serde_json::Value = serde_json::from_slice(&body)?;
    let revision = list["metadata"]["resourceVersion"].as_str();
    revision
        .map(str::to_owned)
        .with_context(|| format!("list {path}: {code}"))
}

/// Watches on which nothing happens.
pub async fn idle(options: &Options, target: &Target, server: &Server, objects: &Objects) -> Result<Measured> {
    let path = objects.path();
    let from = revision(target, &path).await?;
    let (before, own) = (server.sample()?, own_cpu()?);
    let since = Instant::now();
    let watch = format!("{path}?watch=1&allowWatchBookmarks=true&resourceVersion={from}");
    let (connections, bodies) = open(options, target, &watch).await?;
    let opened = since.elapsed();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = server.sample()?;
    let used = server.between(&before, &after);
    let count = f64::from(options.watches.max(1));
    let mut extra = vec![
        ("watches", count),
        ("openMicrosEach", opened.as_secs_f64() * 1e6 / count),
    ];
    if let Some(used) = &used {
        extra.push(("kibEach", used.grown_bytes as f64 / 1024.0 / count));
    }
    drop((connections, bodies));
    Ok(Measured {
        name: "watch".to_owned(),
        time: since.elapsed(),
        errors: 0,
        bytes: 0,
        latencies: Latencies::default(),
        server: used,
        own_cpu: own_cpu()?.saturating_sub(own),
        extra,
    })
}

/// What the watches' readers count.
#[derive(Default)]
struct Seen {
    events: AtomicU64,
    bytes: AtomicU64,
    disorder: AtomicU64,
    /// When one of the watches has seen which revision.
    times: Mutex<Vec<(u64, Instant)>>,
}

/// Watches of Leases that change.
pub async fn events(options: &Options, target: &Target, server: &Server, objects: &Objects) -> Result<Measured> {
    let mut leases = Objects::new(Resource::Leases, Encoding::Json, 0);
    leases.namespace.clone_from(&objects.namespace);
    let path = leases.path();
    let mut updater = target.connect(Http::Two).await?;
    for number in 0..LEASES {
        let call = Call {
            method: Method::POST,
            path: &path,
            content_type: JSON,
            accept: JSON,
            body: leases.body(&format!("lease-{number}")),
        };
        updater.send(call).await?;
    }
    let from = revision(target, &path).await?;
    let watch = format!("{path}?watch=1&resourceVersion={from}");
    let (connections, bodies) = open(options, target, &watch).await?;
    let seen = Arc::new(Seen::default());
    let mut readers = JoinSet::new();
    for (at, body) in bodies.into_iter().enumerate() {
        readers.spawn(read(body, seen.clone(), at == 0));
    }
    let (before, own) = (server.sample()?, own_cpu()?);
    let since = Instant::now();
    let time = Duration::from_secs_f64(options.seconds.max(0.1));
    let sent = update(options, &mut updater, &path, time).await?;
    let expected = sent.len() as u64 * u64::from(options.watches);
    let settled = Instant::now() + SETTLE;
    while seen.events.load(Ordering::Relaxed) < expected && Instant::now() < settled {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let took = since.elapsed();
    let used = server.between(&before, &server.sample()?);
    let own_cpu = own_cpu()?.saturating_sub(own);
    readers.abort_all();
    drop(connections);
    let delivered = seen.events.load(Ordering::Relaxed);
    let mut latencies = Latencies::default();
    let times = std::mem::take(&mut *seen.times.lock());
    for (revision, at) in times {
        if let Some((_, began)) = sent.iter().find(|(sent, _)| *sent == revision) {
            latencies.add(at.saturating_duration_since(*began));
        }
    }
    let mut extra = vec![
        ("updates", sent.len() as f64),
        ("delivered", delivered as f64),
        ("lost", expected.saturating_sub(delivered) as f64),
        ("disorder", seen.disorder.load(Ordering::Relaxed) as f64),
    ];
    if let Some(used) = &used {
        let each = used.cpu.as_secs_f64() * 1e6 / delivered.max(1) as f64;
        extra.push(("cpuMicrosPerEvent", each));
    }
    Ok(Measured {
        name: "events".to_owned(),
        time: took,
        errors: 0,
        bytes: seen.bytes.load(Ordering::Relaxed),
        latencies,
        server: used,
        own_cpu,
        extra,
    })
}

/// Updates Leases at the rate; what revision each has got, and when it was sent.
async fn update(
    options: &Options,
    updater: &mut Connection,
    path: &str,
    time: Duration,
) -> Result<Vec<(u64, Instant)>> {
    let since = Instant::now();
    let pause = Duration::from_secs_f64(1.0 / options.updates.max(0.001));
    let mut sent = Vec::new();
    for number in 0_u32.. {
        let due = since + pause * number;
        if due >= since + time {
            break;
        }
        tokio::time::sleep_until(due.into()).await;
        let body = format!("{{\"spec\":{{\"holderIdentity\":\"bench-{number}\"}}}}");
        let lease = format!("{path}/lease-{}", number % LEASES);
        let call = Call {
            method: Method::PATCH,
            path: &lease,
            content_type: MERGE,
            accept: JSON,
            body: body.into(),
        };
        let began = Instant::now();
        let (code, body) = updater.fetch(call).await?;
        if !code.is_success() {
            bail!("a Lease was not updated: {code}: {}", String::from_utf8_lossy(&body));
        }
        sent.push((revision_in(&body).context("an object has a revision")?, began));
    }
    Ok(sent)
}

/// Counts a watch's events, and looks at their order.
async fn read(mut body: Incoming, seen: Arc<Seen>, timed: bool) {
    let mut line = Vec::new();
    let mut last = 0;
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        seen.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        for piece in data.split_inclusive(|byte| *byte == b'\n') {
            line.extend_from_slice(piece);
            if !line.ends_with(b"\n") {
                continue;
            }
            let revision = revision_in(&line).unwrap_or(0);
            if revision <= last {
                seen.disorder.fetch_add(1, Ordering::Relaxed);
            }
            last = revision;
            seen.events.fetch_add(1, Ordering::Relaxed);
            if timed {
                seen.times.lock().push((revision, Instant::now()));
            }
            line.clear();
        }
    }
}

/// The first resourceVersion in a text.
fn revision_in(text: &[u8]) -> Option<u64> {
    const KEY: &[u8] = b"\"resourceVersion\":\"";
    let at = text.windows(KEY.len()).position(|window| window == KEY)? + KEY.len();
    let digits: Vec<u8> = text[at..].iter().copied().take_while(u8::is_ascii_digit).collect();
    std::str::from_utf8(&digits).ok()?.parse().ok()
}
