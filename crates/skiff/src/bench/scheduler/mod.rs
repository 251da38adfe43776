//! `skiff bench scheduler`: scheduler_perf's workloads, end to end: a client creates pods over HTTPS and a watch says
//! when they are bound.
//!
//! The API server is this program's own, started anew for each workload with the scheduler and the collectors that
//! scheduler_perf runs beside it, or any other (`--kubeconfig`). Nodes are objects without machines, as there.

mod cases;
mod core;
mod load;
mod own;
mod run;
mod templates;
mod watch;

use std::path::PathBuf;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::api::{Server, Target};
use super::{Output, machine, tell};
use cases::Workload;
use run::{Figures, Run};

/// Options of `skiff bench scheduler`.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Which workloads: `SchedulingBasic/5000Nodes`, a case in every size, `all/500Nodes`, or `all` (with 5000 nodes)
    #[arg(long, value_delimiter = ',', default_value = "SchedulingBasic/5000Nodes")]
    workload: Vec<String>,
    /// Name all workloads
    #[arg(long)]
    list: bool,
    /// The scheduler's decisions alone: no API server, no bindings
    #[arg(long)]
    core: bool,
    /// Nodes have heartbeats, and pods run once they are bound
    #[arg(long, conflicts_with = "core")]
    live: bool,
    /// Another cluster than one of this program's own; what is made there is removed again
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context
    #[arg(long, requires = "kubeconfig")]
    context: Option<String>,
    /// Processes of that cluster's server and scheduler, whose CPU time and memory are read from /proc
    #[arg(long, value_delimiter = ',', requires = "kubeconfig")]
    server_pid: Vec<u32>,
    /// Requests of the client under way at a time
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    clients: u16,
    /// Connections that they share
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,
    /// Seconds after which a step counts as failed
    #[arg(long, default_value_t = 600)]
    timeout: u64,
    /// Where the temporary data directory is made; else where temporary files are
    #[arg(long)]
    dir: Option<PathBuf>,
    /// As JSON instead of a table
    #[arg(long, short = 'o', value_enum)]
    output: Option<Output>,
}

/// Measures and reports.
pub async fn bench(options: &Options) -> Result<()> {
    if options.list {
        cases::names().iter().for_each(|name| println!("{name}"));
        return Ok(());
    }
    let mut workloads = Vec::new();
    for name in &options.workload {
        workloads.extend(cases::find(name)?);
    }
    let mut all = Vec::new();
    let mut failed = Vec::new();
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    for workload in &workloads {
        tell(&format!("{} …", workload.name));
        let measured = tokio::select! {
            measured = one(options, workload) => measured,
            // What was begun is dropped, and with it its server and directory.
            _ = tokio::signal::ctrl_c() => bail!("interrupted"),
            _ = terminate.recv() => bail!("interrupted"),
        };
        match measured {
            Ok(figures) => {
                tell(&line(workload, &figures));
                all.push(object(workload, &figures));
            }
            Err(error) => {
                tell(&format!("{} failed: {error:#}", workload.name));
                failed.push(workload.name.clone());
            }
        }
    }
    match options.output {
        Some(Output::Json) => println!("{:#}", Value::from(all)),
        None => {
            println!("{}", machine::describe(&std::env::temp_dir()));
            all.iter().for_each(|figures| println!("{}", row(figures)));
        }
    }
    if !failed.is_empty() {
        bail!(
            "{} of {} workloads failed: {}",
            failed.len(),
            workloads.len(),
            failed.join(", ")
        );
    }
    Ok(())
}

async fn one(options: &Options, workload: &Workload) -> Result<Figures> {
    if options.core {
        return core::measure(workload);
    }
    if let Some(kubeconfig) = &options.kubeconfig {
        let target = Target::load(Some(kubeconfig), options.context.as_deref())?;
        let server = Server::new(&options.server_pid)?;
        let run = Run::new(
            options,
            workload,
            target,
            server,
            kubeconfig,
            options.context.as_deref(),
        )?;
        let figures = run.all().await;
        run.clean_up().await?;
        return figures;
    }
    let parent = options.dir.clone().unwrap_or_else(std::env::temp_dir);
    let own = own::Own::start(&parent).await?;
    let kubeconfig = own.kubeconfig();
    let measured = async {
        let target = Target::load(Some(&kubeconfig), None)?;
        let server = Server::new(&[own.pid()])?;
        Run::new(options, workload, target, server, &kubeconfig, None)?
            .all()
            .await
    };
    let figures = measured.await;
    if figures.is_err() {
        eprint!("{}", own.log_tail());
    }
    own.remove().await?;
    figures
}

fn object(workload: &Workload, figures: &Figures) -> Value {
    json!({
        "workload": workload.name,
        "nodes": workload.nodes(),
        "pods": figures.pods,
        "pods_per_s": rounded(figures.pods_per_second()),
        "p50_ms": rounded(figures.latency_ms(0.50)),
        "p99_ms": rounded(figures.latency_ms(0.99)),
        "cpu_s": figures.cpu.map(|cpu| cpu.as_secs_f64()),
        "peak_rss_bytes": figures.peak_rss_bytes,
    })
}

fn rounded(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

fn line(workload: &Workload, figures: &Figures) -> String {
    format!(
        "{}: {} pods in {:.2} s, {:.0} a second",
        workload.name,
        figures.pods,
        figures.time.as_secs_f64(),
        figures.pods_per_second()
    )
}

fn row(figures: &Value) -> String {
    format!(
        "{:<60} {:>6} nodes {:>7} pods {:>9.0} pods/s  p50 {:>8.1} ms  p99 {:>8.1} ms  CPU {:>6.2} s  peak {:>5.0} MiB",
        figures["workload"].as_str().unwrap_or_default(),
        figures["nodes"],
        figures["pods"],
        figures["pods_per_s"].as_f64().unwrap_or_default(),
        figures["p50_ms"].as_f64().unwrap_or_default(),
        figures["p99_ms"].as_f64().unwrap_or_default(),
        figures["cpu_s"].as_f64().unwrap_or_default(),
        figures["peak_rss_bytes"].as_f64().unwrap_or_default() / 1024.0 / 1024.0,
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_json_has_the_agreed_members() {
        let workload = cases::find("SchedulingBasic/5Nodes").unwrap().remove(0);
        let figures = Figures {
            pods: 10,
            time: Duration::from_secs(2),
            latencies: (1..=100).map(Duration::from_millis).collect(),
            cpu: Some(Duration::from_millis(1500)),
            peak_rss_bytes: Some(7),
        };
        let expected = json!({
            "workload": "SchedulingBasic/5Nodes", "nodes": 5, "pods": 10, "pods_per_s": 5.0, "p50_ms": 51.0,
            "p99_ms": 100.0, "cpu_s": 1.5, "peak_rss_bytes": 7,
        });
        assert_eq!(object(&workload, &figures), expected);
        assert!(row(&expected).contains("5 pods/s"));
    }
}
