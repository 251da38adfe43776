//! `skiff hollow`: simulated nodes, and what becomes of pods on them, against any API server.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use client::{Client, Kubeconfig, Overrides};
use jiff::Timestamp;
use node::hollow::{Hollow, HollowConfig, Stages};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::logs;
use crate::up::nodes_ready;

/// Options of `skiff hollow`.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// How many nodes
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    nodes: u32,
    /// Transitions of pods a second at most; else as many as there are
    #[arg(long)]
    rate: Option<f64>,
    /// The cluster; else $KUBECONFIG or ~/.kube/config
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context
    #[arg(long)]
    context: Option<String>,
    /// What becomes of pods: a file of Stages; else they run, succeed if a Job made them, and go when they are deleted
    #[arg(long)]
    stages: Option<PathBuf>,
    /// The nodes' names, before their numbers
    #[arg(long, default_value = "hollow-")]
    prefix: String,
    /// Resources of each node: `cpu=32,memory=128Gi,pods=110`
    #[arg(long, value_delimiter = ',', value_parser = pair)]
    capacity: Vec<(String, String)>,
    /// Labels of each node: `a=b,c=d`
    #[arg(long, value_delimiter = ',', value_parser = pair)]
    labels: Vec<(String, String)>,
    /// Zones that the nodes are in, one after the other
    #[arg(long, value_delimiter = ',')]
    zones: Vec<String>,
    /// Taints of each node: `key=value:NoSchedule`
    #[arg(long, value_delimiter = ',', value_parser = taint)]
    taints: Vec<Value>,
    /// What is logged to standard error, as `tracing` filters it
    #[arg(long, env = "SKIFF_LOG", default_value = "warn")]
    log: String,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| format!("{text:?} is not key=value"))?;
    Ok((key.to_owned(), value.to_owned()))
}

fn taint(text: &str) -> Result<Value, String> {
    let usage = || format!("{text:?} is not key=value:Effect or key:Effect");
    let (key, effect) = text.rsplit_once(':').ok_or_else(usage)?;
    if !matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
        return Err(format!("{effect:?} is not NoSchedule, PreferNoSchedule or NoExecute"));
    }
    let (key, value) = key.split_once('=').unwrap_or((key, ""));
    if key.is_empty() {
        return Err(usage());
    }
    Ok(json!({"key": key, "value": value, "effect": effect}))
}

/// Runs until a signal.
pub fn run(options: &Options) -> Result<()> {
    logs::start(&options.log)?;
    let config = config(options)?;
    // One thread: one core has to do for a measurement.
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(simulate(options, config))
}

fn config(options: &Options) -> Result<HollowConfig> {
    let mut config = HollowConfig::new(options.nodes as usize);
    config.names = (0..options.nodes).map(|n| format!("{}{n}", options.prefix)).collect();
    config.capacity.extend(options.capacity.iter().cloned());
    config.labels = options.labels.iter().cloned().collect::<BTreeMap<_, _>>();
    config.zones.clone_from(&options.zones);
    config.taints.clone_from(&options.taints);
    config.rate = options.rate;
    if let Some(path) = &options.stages {
        config.stages = stages(path)?;
    }
    Ok(config)
}

fn stages(path: &Path) -> Result<Stages> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {} (--stages)", path.display()))?;
    let documents = documents(&text).with_context(|| format!("{} (--stages) is not YAML", path.display()))?;
    if documents.is_empty() {
        bail!("{} (--stages) has no Stage", path.display());
    }
    Stages::new(documents).with_context(|| format!("{} (--stages)", path.display()))
}

fn documents(text: &str) -> Result<Vec<Value>> {
    let mut documents = vec![String::new()];
    for line in text.lines() {
        if line.trim_end() == "---" {
            documents.push(String::new());
            continue;
        }
        if let Some(document) = documents.last_mut() {
            document.push_str(line);
            document.push('\n');
        }
    }
    let mut values = Vec::new();
    for document in documents {
        let value: Value = serde_saphyr::from_str::<Option<Value>>(&document)?.unwrap_or_default();
        match &value["items"] {
            Value::Array(items) => values.extend(items.iter().cloned()),
            _ if value.is_null() => {}
            _ => values.push(value),
        }
    }
    Ok(values)
}

async fn simulate(options: &Options, config: HollowConfig) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let kubeconfig = match &options.kubeconfig {
        Some(path) => Kubeconfig::read(path)?,
        None => Kubeconfig::load()?,
    };
    let overrides = Overrides {
        context: options.context.clone(),
        ..Overrides::default()
    };
    let client = Client::https(kubeconfig.config(&overrides)?)?.with_user_agent("skiff-hollow");
    let (since, started, shutdown) = (Instant::now(), Timestamp::now(), CancellationToken::new());
    let hollow = Hollow::start_with(client.clone(), config, shutdown.clone());
    let run = async {
        nodes_ready(&client, hollow.names(), started).await?;
        println!(
            "{} nodes are ready after {} ms",
            hollow.names().len(),
            since.elapsed().as_millis()
        );
        std::future::pending::<Result<()>>().await
    };
    let ended = tokio::select! {
        ended = run => ended,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    shutdown.cancel();
    println!("{} transitions of pods", hollow.transitions());
    tokio::select! {
        () = hollow.stopped() => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    ended
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn flags_say_how_the_nodes_are() {
        let flags = [
            "hollow",
            "--nodes=3",
            "--rate=2000",
            "--prefix=n",
            "--capacity=cpu=4,example.com/gpu=8",
            "--labels=a=b",
            "--zones=z1,z2",
            "--taints=dedicated=db:NoSchedule,x:NoExecute",
        ];
        let config = config(&Flags::try_parse_from(flags).unwrap().options).unwrap();
        assert_eq!(config.names, ["n0", "n1", "n2"]);
        assert_eq!(
            (config.capacity["cpu"].as_str(), config.capacity["pods"].as_str()),
            ("4", "110")
        );
        assert_eq!(
            config.taints[0],
            json!({"key": "dedicated", "value": "db", "effect": "NoSchedule"})
        );
        assert_eq!(config.taints[1]["key"], "x");
        for bad in [
            "--taints=x",
            "--taints=a=b:Never",
            "--taints=:NoSchedule",
            "--labels=a",
            "--nodes=0",
        ] {
            assert!(Flags::try_parse_from(["hollow", bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn stages_are_documents_of_yaml() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stages.yaml");
        let stage = "kind: Stage\nmetadata: {name: a}\nspec:\n  resourceRef: {apiGroup: v1, kind: Pod}\n  next: {phase: Running}\n";
        std::fs::write(&path, format!("# two\n{stage}---\n{stage}---\n")).unwrap();
        stages(&path).unwrap();
        std::fs::write(&path, "---\n").unwrap();
        assert!(format!("{:#}", stages(&path).unwrap_err()).contains("has no Stage"));
        std::fs::write(&path, "kind: Pod\n").unwrap();
        assert!(format!("{:#}", stages(&path).unwrap_err()).contains("not a Pod"));
    }
}
