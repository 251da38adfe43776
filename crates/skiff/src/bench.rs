//! `skiff bench`: measures this very program as a user meets it: from outside, over TLS.
//!
//! Everything happens in a cluster of its own in a temporary directory, removed by `skiff reset` in the end, whatever
//! happened. Bridge and rules are one for a host: no other `skiff up` may run meanwhile.

mod api;
mod cluster;
mod machine;
mod process;
mod report;
mod scheduler;
mod workload;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

pub use api::own_cpu;
use cluster::{Cluster, Start};
use report::{Figures, Idle};

/// Options of `skiff bench`.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// How fast `skiff up` starts, how fast its pods run, and what it takes when idle
    Up(UpOptions),
    /// Load on any Kubernetes API server: throughput, latencies, the server's CPU time and memory
    Api(Box<api::Options>),
    /// How fast pods are scheduled: scheduler_perf's workloads, end to end or the core alone
    Scheduler(Box<scheduler::Options>),
}

/// Options of `skiff bench up`.
#[derive(Debug, clap::Args)]
struct UpOptions {
    /// Starts on a new data directory, each followed by one on the same, then warm, directory
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// Deployments of one pod that are created, one after the other
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..))]
    deployments: u16,
    /// How long the idle cluster with the README's example is watched
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    idle_seconds: u64,
    /// Where the temporary data directory is made; else where temporary files are
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Port of the API server
    #[arg(long, default_value_t = 16443)]
    secure_port: u16,
    /// Port of the node's own API
    #[arg(long, default_value_t = 16250)]
    kubelet_port: u16,
    /// As one JSON document instead of a table
    #[arg(long, short = 'o', value_enum)]
    output: Option<Output>,
}

/// How results are written.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum Output {
    /// One JSON document.
    Json,
}

/// Measures and reports.
pub fn run(options: &Options) -> Result<()> {
    let options = match &options.what {
        What::Up(options) => options,
        What::Api(options) => return one_thread()?.block_on(api::run(options)),
        What::Scheduler(options) => return one_thread()?.block_on(scheduler::bench(options)),
    };
    if !nix::unistd::geteuid().is_root() {
        bail!("what is measured are real containers, and they need root: run this as root");
    }
    // One thread, so that measuring takes little from what is measured.
    one_thread()?.block_on(up(options))
}

fn one_thread() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

async fn up(options: &UpOptions) -> Result<()> {
    let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let parent = options.dir.clone().unwrap_or_else(std::env::temp_dir);
    let mut cluster = Cluster::new(&parent, options.secure_port, options.kubelet_port)?;
    let machine = machine::describe(&parent);
    let figures = tokio::select! {
        figures = measure(options, &mut cluster) => figures,
        _ = interrupt.recv() => Err(anyhow::anyhow!("interrupted")),
        _ = terminate.recv() => Err(anyhow::anyhow!("interrupted")),
    };
    let failed = figures.is_err();
    if failed {
        eprint!("{}", cluster.log_tail());
    }
    let removed = cluster.remove().await.context("clean up after the measurement");
    let figures = figures?;
    match options.output {
        Some(Output::Json) => println!("{:#}", report::json(&machine, &figures)),
        None => print!("{}", report::table(&machine, &figures)),
    }
    removed
}

async fn measure(options: &UpOptions, cluster: &mut Cluster) -> Result<Figures> {
    let mut figures = Figures::default();
    let mut client = None;
    for run in 1..=options.runs {
        if run > 1 {
            cluster.stop().await?;
            cluster.reset().await?;
        }
        let (start, _) = cluster.start().await.context("start on a new data directory")?;
        tell(&format!("run {run}/{}: new  {start}", options.runs));
        figures.new.push(start);
        cluster.stop().await?;
        let (start, warm_client) = cluster.start().await.context("start on a warm data directory")?;
        tell(&format!("run {run}/{}: warm {start}", options.runs));
        figures.warm.push(start);
        client = Some(warm_client);
    }
    let client = client.context("there is at least one run")?;
    for index in 1..=options.deployments {
        let took = workload::time_to_running(&client, index)
            .await
            .context("create a Deployment")?;
        tell(&format!(
            "deployment {index}/{}: Running after {:.0} ms",
            options.deployments,
            took.as_secs_f64() * 1e3
        ));
        figures.running.push(took);
    }
    workload::start_example(&client)
        .await
        .context("start the README's example")?;
    tell(&format!("the example runs; idle for {} s", options.idle_seconds));
    figures.idle = Some(idle(cluster, Duration::from_secs(options.idle_seconds)).await?);
    Ok(figures)
}

/// Lets the cluster settle, then watches what its processes take.
async fn idle(cluster: &Cluster, time: Duration) -> Result<Idle> {
    const SETTLE: Duration = Duration::from_secs(10);
    tokio::time::sleep(SETTLE).await;
    let before = cluster.processes()?;
    tokio::time::sleep(time).await;
    let after = cluster.processes()?;
    Idle::between(&before, &after, time)
}

/// Progress goes to standard error, the report to standard output.
fn tell(text: &str) {
    eprintln!("{text}");
}

/// Milliseconds with fractions.
fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

impl std::fmt::Display for Start {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "/readyz {:.0} ms, Node Ready {:.0} ms, it says {} ms",
            millis(self.readyz),
            millis(self.node_ready),
            self.ready_in_ms
        )
    }
}
