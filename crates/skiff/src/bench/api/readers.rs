//! Lists whose readers stop reading: what the server holds for each of them.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt;

use super::Options;
use super::connection::{Call, Http, Target};
use super::figures::{Latencies, Measured};
use super::objects::Objects;
use super::server::{Server, own_cpu};

const MIB: f64 = 1024.0 * 1024.0;
/// How long the readers read nothing.
const STALL: Duration = Duration::from_secs(2);

/// Each reader, on a connection of its own, takes the first piece of the list of everything, nothing for a while, and
/// then the rest.
pub async fn stalled(options: &Options, target: &Target, server: &Server, objects: &Objects) -> Result<Measured> {
    let path = objects.path();
    let mut connections = Vec::new();
    for _ in 0..options.readers {
        connections.push(target.connect(Http::One).await?);
    }
    server.reset_peak();
    let (before, own) = (server.sample()?, own_cpu()?);
    let since = Instant::now();
    let mut bodies = Vec::new();
    let mut bytes = 0;
    for connection in &mut connections {
        let call = Call {
            method: Method::GET,
            path: &path,
            content_type: "",
            accept: objects.media_type(),
            body: Bytes::new(),
        };
        let answer = connection.start(call).await?;
        if !answer.status().is_success() {
            bail!("a list was refused: {}", answer.status());
        }
        let mut body = answer.into_body();
        if let Some(frame) = body.frame().await {
            bytes += frame?.data_ref().map_or(0, |data| data.len() as u64);
        }
        bodies.push(body);
    }
    tokio::time::sleep(STALL).await;
    let stalled = server.sample()?;
    let held = server.between(&before, &stalled);
    let mut latencies = Latencies::default();
    for mut body in bodies {
        while let Some(frame) = body.frame().await {
            bytes += frame?.data_ref().map_or(0, |data| data.len() as u64);
        }
        latencies.add(since.elapsed());
    }
    let used = server.between(&before, &server.sample()?);
    let readers = f64::from(options.readers);
    let mut extra = vec![("readers", readers)];
    if let Some(held) = held {
        extra.push(("heldMibPerReader", held.grown_bytes as f64 / MIB / readers));
        extra.push(("peakMibPerReader", held.peak_growth_bytes(&before) / MIB / readers));
    }
    Ok(Measured {
        name: "readers".to_owned(),
        time: since.elapsed(),
        errors: 0,
        bytes,
        latencies,
        server: used,
        own_cpu: own_cpu()?.saturating_sub(own),
        extra,
    })
}
