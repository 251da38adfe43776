//! Requests, as fast as they are answered or at a rate.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{Method, StatusCode};

use super::connection::{Call, Connection, Http, Target};
use super::figures::{Latencies, Measured};
use super::objects::Objects;
use super::server::Server;

const MIB: f64 = 1024.0 * 1024.0;

/// One kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Create,
    Get,
    List,
    Patch,
    Delete,
}

/// Kinds of requests with their shares.
#[derive(Debug, Clone)]
pub struct Mix(Vec<(Action, u32)>);

impl Mix {
    pub fn only(action: Action) -> Mix {
        Mix(vec![(action, 1)])
    }

    /// The action of the nth request: shares are kept in every run of as many requests as they sum up to.
    fn nth(&self, number: u64) -> Action {
        let sum: u32 = self.0.iter().map(|(_, share)| share).sum();
        // A step that is coprime to most sums spreads the actions.
        let mut place = (number.wrapping_mul(7919) % u64::from(sum.max(1))) as u32;
        for (action, share) in &self.0 {
            if place < *share {
                return *action;
            }
            place -= share;
        }
        self.0[0].0
    }
}

impl FromStr for Mix {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Mix> {
        let mut shares = Vec::new();
        for part in text.split(',') {
            let (name, share) = part.split_once('=').context("a share is written as get=60")?;
            let action = match name.trim() {
                "create" => Action::Create,
                "get" => Action::Get,
                "list" => Action::List,
                "patch" => Action::Patch,
                "delete" => Action::Delete,
                other => bail!("{other} is none of create, get, list, patch, delete"),
            };
            shares.push((action, share.trim().parse()?));
        }
        if shares.iter().all(|(_, share)| *share == 0) {
            bail!("the mix is empty");
        }
        Ok(Mix(shares))
    }
}

/// A load.
#[derive(Clone)]
pub struct Load {
    pub mix: Mix,
    pub clients: u16,
    pub connections: u16,
    pub http: Http,
    pub warm_up: Duration,
    pub time: Duration,
    /// Requests a second, of all clients.
    pub rate: Option<f64>,
    /// Objects that exist.
    pub known: u32,
    pub limit: u32,
}

/// What the clients share.
struct Shared {
    objects_path: String,
    /// Where objects are made.
    new_path: String,
    number: AtomicU64,
    errors: AtomicU64,
    bytes: AtomicU64,
    from: Instant,
    until: Instant,
}

impl Load {
    /// Connections for every client.
    async fn connect(&self, target: &Target) -> Result<Vec<Connection>> {
        let mut made = Vec::new();
        let distinct = if self.http == Http::Two {
            self.connections.min(self.clients)
        } else {
            self.clients
        };
        for _ in 0..distinct {
            made.push(target.connect(self.http).await?);
        }
        for at in made.len()..usize::from(self.clients) {
            let shared = made[at % usize::from(distinct)].share();
            made.push(shared.context("only HTTP/2 connections are shared")?);
        }
        Ok(made)
    }

    /// Runs for the time, measures after the warm-up.
    pub async fn run(&self, target: &Target, objects: &Objects, server: &Server, name: &str) -> Result<Measured> {
        let connections = self.connect(target).await?;
        server.reset_peak();
        let from = Instant::now() + self.warm_up;
        let shared = Shared {
            objects_path: objects.path(),
            new_path: objects.new_path(),
            number: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            from,
            until: from + self.time,
        };
        let first = server.sample()?;
        let mut before = None;
        let clients = connections
            .into_iter()
            .enumerate()
            .map(|(at, connection)| self.client(at, connection, objects, &shared));
        let sampled = async {
            tokio::time::sleep_until(from.into()).await;
            before = Some((server.sample()?, super::server::own_cpu()?));
            tokio::time::sleep_until(shared.until.into()).await;
            Ok::<_, anyhow::Error>((server.sample()?, super::server::own_cpu()?))
        };
        let (latencies, sampled) = tokio::join!(futures_util::future::join_all(clients), sampled);
        let ((after, own_after), (before, own_before)) = (sampled?, before.context("the measurement has begun")?);
        let mut all = Latencies::default();
        for latencies in latencies {
            all.merge(latencies?);
        }
        let lists = self.mix.0.iter().all(|(action, _)| *action == Action::List);
        let whole = server.between(&first, &after).filter(|_| lists);
        let extra = whole.map(|used| {
            (
                "peakMibPerReader",
                used.peak_growth_bytes(&first) / f64::from(self.clients),
            )
        });
        Ok(Measured {
            name: name.to_owned(),
            time: self.time,
            errors: shared.errors.load(Ordering::Relaxed),
            bytes: shared.bytes.load(Ordering::Relaxed),
            latencies: all,
            server: server.between(&before, &after),
            own_cpu: own_after.saturating_sub(own_before),
            extra: extra.into_iter().map(|(name, bytes)| (name, bytes / MIB)).collect(),
        })
    }

    /// One client, until the time is over.
    async fn client(
        &self,
        at: usize,
        mut connection: Connection,
        objects: &Objects,
        shared: &Shared,
    ) -> Result<Latencies> {
        let mut latencies = Latencies::default();
        let start = Instant::now();
        let pause = self
            .rate
            .map(|rate| Duration::from_secs_f64(f64::from(self.clients) / rate.max(0.001)));
        let mut turn = 0_u32;
        loop {
            // In an open loop the wait for a free client counts: latencies are from when the request was due.
            let due = match pause {
                None => Instant::now(),
                Some(pause) => {
                    let due = start + pause.mul_f64(f64::from(turn) + at as f64 / f64::from(self.clients));
                    tokio::time::sleep_until(due.into()).await;
                    due
                }
            };
            turn += 1;
            if due >= shared.until {
                return Ok(latencies);
            }
            let number = shared.number.fetch_add(1, Ordering::Relaxed);
            let (code, bytes) = self.request(&mut connection, objects, shared, number).await?;
            let now = Instant::now();
            if now >= shared.from && now < shared.until {
                latencies.add(now - due);
                shared.bytes.fetch_add(bytes, Ordering::Relaxed);
                if !code.is_success() {
                    shared.errors.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    async fn request(
        &self,
        connection: &mut Connection,
        objects: &Objects,
        shared: &Shared,
        number: u64,
    ) -> Result<(StatusCode, u64)> {
        let media = objects.media_type();
        let path = &shared.objects_path;
        let plain = |method, path| Call {
            method,
            path,
            content_type: "",
            accept: media,
            body: Bytes::new(),
        };
        let known = || {
            format!(
                "{path}/{}",
                Objects::known((number.wrapping_mul(7919) % u64::from(self.known)) as u32)
            )
        };
        match self.mix.nth(number) {
            Action::Create => {
                let name = objects.next_name();
                self.create(connection, objects, &shared.new_path, &name).await
            }
            Action::Get => connection.send(plain(Method::GET, &known())).await,
            Action::List => {
                let path = match self.limit {
                    0 => path.clone(),
                    limit => format!("{path}?limit={limit}"),
                };
                connection.send(plain(Method::GET, &path)).await
            }
            Action::Patch => {
                let patch = format!("{{\"metadata\":{{\"annotations\":{{\"bench/number\":\"{number}\"}}}}}}");
                let mut call = plain(Method::PATCH, "");
                let path = known();
                call.path = &path;
                call.content_type = "application/merge-patch+json";
                call.body = patch.into();
                connection.send(call).await
            }
            Action::Delete => {
                // Only what exists can be deleted: every other request makes it.
                let (name, path) = (objects.next_name(), &shared.new_path);
                let (code, bytes) = self.create(connection, objects, path, &name).await?;
                if !code.is_success() {
                    return Ok((code, bytes));
                }
                connection.send(plain(Method::DELETE, &format!("{path}/{name}"))).await
            }
        }
    }

    async fn create(
        &self,
        connection: &mut Connection,
        objects: &Objects,
        path: &str,
        name: &str,
    ) -> Result<(StatusCode, u64)> {
        let media = objects.media_type();
        let call = Call {
            method: Method::POST,
            path,
            content_type: media,
            accept: media,
            body: objects.body(name),
        };
        connection.send(call).await
    }

    /// Makes the objects that are read.
    pub async fn fill(&self, target: &Target, objects: &Objects, server: &Server) -> Result<Measured> {
        let connections = self.connect(target).await?;
        let (before, own) = (server.sample()?, super::server::own_cpu()?);
        let since = Instant::now();
        let next = Arc::new(AtomicU32::new(0));
        let path = objects.path();
        let clients = connections.into_iter().map(|mut connection| {
            let (next, path) = (next.clone(), path.clone());
            async move {
                let mut latencies = Latencies::default();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= self.known {
                        return Ok::<_, anyhow::Error>(latencies);
                    }
                    let sent = Instant::now();
                    let (code, _) = self
                        .create(&mut connection, objects, &path, &Objects::known(number))
                        .await?;
                    if !code.is_success() && code != StatusCode::CONFLICT {
                        bail!("an object was not created: {code}");
                    }
                    latencies.add(sent.elapsed());
                }
            }
        });
        let mut all = Latencies::default();
        for latencies in futures_util::future::join_all(clients).await {
            all.merge(latencies?);
        }
        let after = server.sample()?;
        let stored = (self.known as usize * objects.body(&Objects::known(0)).len()) as f64;
        let used = server.between(&before, &after);
        let mut extra = vec![("objectBytes", stored)];
        if let Some(used) = &used {
            extra.push(("rssOverObjectBytes", used.rss_bytes as f64 / stored));
        }
        Ok(Measured {
            name: "fill".to_owned(),
            time: since.elapsed(),
            errors: 0,
            bytes: 0,
            latencies: all,
            server: used,
            own_cpu: super::server::own_cpu()?.saturating_sub(own),
            extra,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_kept() {
        let mix: Mix = "get=3,list=1,delete=0".parse().unwrap();
        let actions: Vec<Action> = (0..400).map(|number| mix.nth(number)).collect();
        assert_eq!(actions.iter().filter(|a| **a == Action::Get).count(), 300);
        assert_eq!(actions.iter().filter(|a| **a == Action::List).count(), 100);
        assert!("get=0".parse::<Mix>().is_err());
        assert!("cook=1".parse::<Mix>().is_err());
    }
}
