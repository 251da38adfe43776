//! `skiff bench api`: load on any Kubernetes API server, as its clients make it.
//!
//! Knows nothing of skiff: a kubeconfig, and the process ids of the server for its CPU time and memory, are all it
//! takes. What it writes is in a namespace of its own that is deleted in the end.

mod beside;
mod connection;
mod figures;
mod load;
mod objects;
mod readers;
mod server;
mod watches;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

pub use connection::{Call, Connection, Http, Target};
use figures::Measured;
use load::{Action, Load, Mix};
use objects::{Encoding, Objects, Resource};
pub use server::{Server, own_cpu};

/// Options of `skiff bench api`.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// What to measure, in this order; else creates, gets, lists, patches, deletes, idle watches and events
    #[arg(value_enum)]
    workloads: Vec<Workload>,
    /// The cluster; else $KUBECONFIG or ~/.kube/config
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context
    #[arg(long)]
    context: Option<String>,
    /// Processes of the server (and its store), whose CPU time and memory are read from /proc
    #[arg(long, value_delimiter = ',')]
    server_pid: Vec<u32>,
    /// Another server, that gets the same load in turn: the figures of both, and their ratios, are medians of --runs
    #[arg(long)]
    peer: Option<PathBuf>,
    /// Processes of the other server and its store
    #[arg(long, value_delimiter = ',', requires = "peer")]
    peer_pid: Vec<u32>,
    /// How often each workload runs on either server
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// Requests under way at a time
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..))]
    clients: u16,
    /// Connections that the clients share over HTTP/2; over HTTP/1.1 each client has its own
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,
    /// The protocol
    #[arg(long, value_enum, default_value_t = Http::Two)]
    http: Http,
    /// The encoding of requests and answers
    #[arg(long, value_enum, default_value_t = Encoding::Json)]
    encoding: Encoding,
    /// How long each workload is measured
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// How long each workload runs before it is measured
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Requests a second, whether or not the server keeps up (open loop); else as fast as the clients get answers
    #[arg(long)]
    rate: Option<f64>,
    /// What is created, read and changed
    #[arg(long, value_enum, default_value_t = Resource::Pods)]
    resource: Resource,
    /// About how large an object is
    #[arg(long, default_value_t = 2000)]
    object_bytes: usize,
    /// Objects that exist for gets, patches and lists
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    objects: u32,
    /// Objects that a list gives at most; 0 is all
    #[arg(long, default_value_t = 0)]
    limit: u32,
    /// The shares of a mixed load
    #[arg(long, default_value = "get=60,list=5,create=15,patch=15,delete=5")]
    mix: Mix,
    /// Watches, idle or not
    #[arg(long, default_value_t = 1000)]
    watches: u32,
    /// Connections that the watches share
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
    watch_connections: u16,
    /// Updates a second while watches are measured
    #[arg(long, default_value_t = 100.0)]
    updates: f64,
    /// Clients that ask for the whole list and then read nothing
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    readers: u16,
    /// Leave the objects of `fill` and the namespace behind
    #[arg(long)]
    keep: bool,
    /// As one JSON document instead of a table
    #[arg(long, short = 'o', value_enum)]
    output: Option<super::Output>,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Workload {
    /// Create objects
    Create,
    /// Read single objects
    Get,
    /// List the namespace
    List,
    /// Change objects by merge patches
    Patch,
    /// Delete objects that are created meanwhile
    Delete,
    /// The mix of --mix
    Mix,
    /// Watches without events: the server's memory for each
    Watch,
    /// Watches of Leases with --updates changes a second: CPU for each delivered event; none lost, in order
    Events,
    /// Lists that nobody reads on: the server's memory for each of --readers
    Readers,
    /// Store --objects objects: the server's memory for them
    Fill,
}

impl Workload {
    fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    /// Whether it needs the objects of `fill`.
    fn reads(self) -> bool {
        use Workload::{Get, List, Mix, Patch, Readers};
        matches!(self, Get | List | Patch | Mix | Readers)
    }

    /// Whether it makes objects beside those of `fill`.
    fn creates(self) -> bool {
        matches!(self, Workload::Create | Workload::Delete | Workload::Mix)
    }
}

const ALL: [Workload; 7] = [
    Workload::Create,
    Workload::Get,
    Workload::List,
    Workload::Patch,
    Workload::Delete,
    Workload::Watch,
    Workload::Events,
];

/// Measures and reports.
pub async fn run(options: &Options) -> Result<()> {
    let own = Bench::new(
        options,
        Target::load(options.kubeconfig.as_deref(), options.context.as_deref())?,
        &options.server_pid,
    )?;
    let peer = match &options.peer {
        Some(path) => Some(Bench::new(options, Target::load(Some(path), None)?, &options.peer_pid)?),
        None => None,
    };
    let measured = tokio::select! {
        report = report(&own, peer.as_ref()) => report,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    if !options.keep {
        for bench in [Some(&own), peer.as_ref()].into_iter().flatten() {
            let removed = bench.objects.remove(&bench.target).await;
            removed.context("delete the namespaces of the measurement")?;
        }
    }
    print!("{}", measured?);
    Ok(())
}

/// What is printed in the end.
async fn report(own: &Bench<'_>, peer: Option<&Bench<'_>>) -> Result<String> {
    let json = own.options.output.is_some();
    match peer {
        None => {
            let measured = own.all().await?;
            let workloads = measured.iter().map(Measured::json).collect();
            Ok(if json {
                format!("{:#}\n", own.json(workloads))
            } else {
                figures::table(&measured)
            })
        }
        Some(peer) => {
            let pairs = beside::run(own, peer).await?;
            let workloads = pairs.iter().map(beside::Pair::json).collect();
            let mut document = own.json(workloads);
            document["peer"] = json!({"url": peer.target.url(), "pids": own.options.peer_pid});
            Ok(if json {
                format!("{document:#}\n")
            } else {
                beside::table(&pairs)
            })
        }
    }
}

struct Bench<'a> {
    options: &'a Options,
    target: Target,
    server: Server,
    objects: Objects,
}

impl<'a> Bench<'a> {
    fn new(options: &'a Options, target: Target, pids: &[u32]) -> Result<Bench<'a>> {
        Ok(Bench {
            options,
            target,
            server: Server::new(pids)?,
            objects: Objects::new(options.resource, options.encoding, options.object_bytes),
        })
    }

    fn workloads(&self) -> &[Workload] {
        match &*self.options.workloads {
            [] => &ALL,
            chosen => chosen,
        }
    }

    async fn all(&self) -> Result<Vec<Measured>> {
        self.objects.prepare(&self.target).await?;
        let mut all = Vec::new();
        let mut filled = false;
        for workload in self.workloads() {
            if workload.reads() && !filled {
                self.fill().await?;
                filled = true;
            }
            super::tell(&format!("{workload:?} …"));
            let measured = self.one(*workload).await.with_context(|| format!("{workload:?}"))?;
            super::tell(&measured.line());
            filled |= *workload == Workload::Fill;
            all.push(measured);
        }
        Ok(all)
    }

    async fn one(&self, workload: Workload) -> Result<Measured> {
        let (options, target, server, objects) = (self.options, &self.target, &self.server, &self.objects);
        let action = match workload {
            Workload::Create => Mix::only(Action::Create),
            Workload::Get => Mix::only(Action::Get),
            Workload::List => Mix::only(Action::List),
            Workload::Patch => Mix::only(Action::Patch),
            Workload::Delete => Mix::only(Action::Delete),
            Workload::Mix => options.mix.clone(),
            Workload::Watch => return watches::idle(options, target, server, objects).await,
            Workload::Events => return watches::events(options, target, server, objects).await,
            Workload::Readers => return readers::stalled(options, target, server, objects).await,
            Workload::Fill => return self.fill().await,
        };
        self.load(action).run(target, objects, server, &workload.name()).await
    }

    fn load(&self, mix: Mix) -> Load {
        let options = self.options;
        Load {
            mix,
            clients: options.clients,
            connections: options.connections,
            http: options.http,
            warm_up: Duration::from_secs_f64(options.warm_up.max(0.0)),
            time: Duration::from_secs_f64(options.seconds.max(0.1)),
            rate: options.rate,
            known: options.objects,
            limit: options.limit,
        }
    }

    /// Makes the objects that are read.
    async fn fill(&self) -> Result<Measured> {
        let load = self.load(Mix::only(Action::Create));
        load.fill(&self.target, &self.objects, &self.server).await
    }

    fn json(&self, workloads: Vec<Value>) -> Value {
        let options = self.options;
        json!({
            "machine": super::machine::describe(&std::env::temp_dir()),
            "server": {"url": self.target.url(), "pids": options.server_pid},
            "options": {
                "clients": options.clients, "connections": options.connections,
                "http": format!("{:?}", options.http), "encoding": format!("{:?}", options.encoding),
                "resource": format!("{:?}", options.resource), "objectBytes": options.object_bytes,
                "objects": options.objects, "limit": options.limit, "seconds": options.seconds,
                "rate": options.rate, "watches": options.watches, "updates": options.updates,
                "readers": options.readers,
            },
            "workloads": workloads,
        })
    }
}
