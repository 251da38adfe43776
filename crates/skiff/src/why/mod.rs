//! `skiff why POD`: why a pod is pending, in words, and what would have to change.
//!
//! The nodes are judged by the scheduler's own plugins over what the user may read; nothing is written, so it works
//! against any API server, and `--what-if` asks about clusters that do not exist.

mod amounts;
mod judge;
mod picture;
mod what_if;
mod words;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use client::{Client, Kubeconfig, Overrides};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use judge::{Answer, judge};
use picture::{Moved, Picture, is_finished, node_of};
use what_if::WhatIf;

/// Options of `skiff why`.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// The pod; with --what-if it may be left out
    #[arg(required_unless_present = "what_if")]
    pod: Option<String>,
    /// Its namespace; else the context's
    #[arg(long, short = 'n')]
    namespace: Option<String>,
    /// How it would be otherwise: drain=NODE, add-node=cpu=4,memory=16Gi or add-node=like=NODE, scale=deploy/NAME=N.
    /// Nothing is changed in the cluster
    #[arg(long, value_parser = clap::value_parser!(WhatIf))]
    what_if: Vec<WhatIf>,
    /// The cluster; else $KUBECONFIG or ~/.kube/config
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context
    #[arg(long)]
    context: Option<String>,
    /// As JSON
    #[arg(long, short = 'o', value_enum)]
    output: Option<crate::bench::Output>,
}

/// Answers.
pub fn run(options: &Options) -> Result<()> {
    let report = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(ask(options))?;
    match options.output {
        Some(crate::bench::Output::Json) => println!("{:#}", report.json()),
        None => print!("{}", report.text()),
    }
    Ok(())
}

async fn ask(options: &Options) -> Result<Report> {
    let kubeconfig = match &options.kubeconfig {
        Some(path) => Kubeconfig::read(path)?,
        None => Kubeconfig::load()?,
    };
    let overrides = Overrides {
        context: options.context.clone(),
        namespace: options.namespace.clone(),
        ..Overrides::default()
    };
    let config = kubeconfig.config(&overrides)?;
    let namespace = config.namespace.clone();
    let client = Client::https(config)?.with_user_agent("skiff-why");
    let mut picture = Picture::read(&client).await?;
    let mut moved = Vec::new();
    for what_if in &options.what_if {
        let deployment = match what_if {
            WhatIf::Scale { name, .. } => {
                let deployment: Deployment = client.get(&namespace, name).await?;
                Some(deployment)
            }
            WhatIf::Drain(_) | WhatIf::AddNode(_) => None,
        };
        moved.extend(picture.change(what_if, &namespace, deployment.as_ref())?);
    }
    let asked = options
        .pod
        .as_deref()
        .and_then(|name| picture.pod(&namespace, name))
        .cloned();
    let pods: Vec<Arc<Pod>> = moved.iter().map(|moved| moved.pod.clone()).chain(asked).collect();
    picture.read_for(&client, pods.iter().map(|pod| &**pod)).await;
    let asked = options.pod.as_deref().map(|pod| (namespace.as_str(), pod));
    let mut report = report(picture, moved, asked)?;
    if let (Some((namespace, name)), true) = (asked, options.what_if.is_empty()) {
        report.last = last_verdict(&client, namespace, name).await;
    }
    Ok(report)
}

/// What the scheduler itself said last, where it tells and the user may ask.
async fn last_verdict(client: &Client, namespace: &str, name: &str) -> Option<Value> {
    let path = format!("/scheduler/verdicts/{namespace}/{name}");
    let request = http::Request::get(path).body(bytes::Bytes::new()).ok()?;
    client.request_json(request).await.ok()
}

/// Finds nodes for what was moved, one after the other, then answers about the pod.
fn report(mut picture: Picture, moved: Vec<Moved>, pod: Option<(&str, &str)>) -> Result<Report> {
    let mut report = Report::default();
    let mut asked_found = false;
    for moved in moved {
        let told = Told::about(&picture, &moved.pod, moved.from);
        if let Answer::Fits { node, .. } = &told.answer {
            picture.bind(&moved.pod, node);
        }
        asked_found |= pod == Some((namespace_of(&moved.pod), name_of(&moved.pod)));
        report.pods.push(told);
    }
    let Some((namespace, name)) = pod.filter(|_| !asked_found) else {
        return Ok(report);
    };
    let pod = picture
        .pod(namespace, name)
        .with_context(|| format!("there is no pod {name:?} in namespace {namespace:?}"))?
        .clone();
    report.pods.push(Told::about(&picture, &pod, None));
    Ok(report)
}

#[derive(Debug, Default)]
struct Report {
    pods: Vec<Told>,
    /// The scheduler's own last verdict on the pod that was asked about.
    last: Option<Value>,
}

/// What is said of one pod.
#[derive(Debug)]
struct Told {
    pod: String,
    from: Option<String>,
    /// Where it is already, and in which phase.
    placed: Option<String>,
    answer: Answer,
    groups: Vec<words::Group>,
    nodes: usize,
}

fn namespace_of(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or_default()
}

fn name_of(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

impl Told {
    fn about(picture: &Picture, pod: &Arc<Pod>, from: Option<String>) -> Told {
        let placed = node_of(pod).map(|node| match is_finished(pod) {
            true => format!("has ended on {node}"),
            false => format!("is on {node} already"),
        });
        let answer = match node_of(pod) {
            Some(node) => Answer::Fits {
                node: node.to_owned(),
                feasible: 1,
            },
            None => judge(picture, pod),
        };
        let groups = match &answer {
            Answer::Nowhere { nodes, .. } => words::groups(picture, pod, nodes),
            Answer::Fits { .. } | Answer::Gated(_) => Vec::new(),
        };
        Told {
            pod: format!("{}/{}", namespace_of(pod), name_of(pod)),
            from,
            placed,
            answer,
            groups,
            nodes: picture.nodes.len(),
        }
    }

    fn text(&self) -> String {
        let from = self
            .from
            .as_ref()
            .map(|from| format!(" (from {from})"))
            .unwrap_or_default();
        let pod = format!("{}{from}", self.pod);
        if let Some(placed) = &self.placed {
            return format!("{pod} {placed}\n");
        }
        match &self.answer {
            Answer::Fits { node, feasible } => {
                let others = match feasible {
                    1 => "the only one that will do".to_owned(),
                    many => format!("one of {many} that will do"),
                };
                format!("{pod} fits: {node} is {others}\n")
            }
            Answer::Gated(gate) => format!("{pod} is not tried: {gate}\n"),
            Answer::Nowhere { .. } if self.nodes == 0 => format!("{pod} fits nowhere: there are no nodes\n"),
            Answer::Nowhere { message, .. } if self.groups.is_empty() => format!("{pod} fits nowhere: {message}\n"),
            Answer::Nowhere { .. } => self.explained(&pod),
        }
    }

    fn explained(&self, pod: &str) -> String {
        let mut text = format!("{pod} fits nowhere.\n{}\n", words::line(&self.groups, self.nodes));
        text.push_str("One of these would have to change:\n");
        for group in &self.groups {
            let nodes = shortened(&group.nodes);
            for (at, remedy) in group.remedies.iter().enumerate() {
                let lead = if at == 0 { nodes.clone() } else { "or".to_owned() };
                text.push_str(&format!("  {lead}: {remedy}\n"));
            }
        }
        text
    }

    fn json(&self) -> Value {
        let (namespace, name) = self.pod.split_once('/').unwrap_or(("", &self.pod));
        let mut told = json!({"namespace": namespace, "name": name, "from": self.from, "nodes": self.nodes});
        match &self.answer {
            Answer::Fits { node, feasible } => {
                told["fits"] = json!(true);
                told["node"] = json!(node);
                told["feasible"] = json!(feasible);
                told["bound"] = json!(self.placed.is_some());
            }
            Answer::Gated(gate) => {
                told["fits"] = json!(false);
                told["message"] = json!(gate);
            }
            Answer::Nowhere { message, .. } => {
                told["fits"] = json!(false);
                told["message"] = json!(message);
                told["summary"] = json!(words::line(&self.groups, self.nodes));
                told["groups"] = self.groups.iter().map(words::Group::json).collect();
            }
        }
        told
    }
}

/// Where a pod waits, as the scheduler tells it.
fn in_queue(verdict: &Value) -> String {
    let queue = match verdict["queue"].as_str().unwrap_or_default() {
        "active" => "is next in the scheduler's queue",
        "backoff" => "is tried again after a back-off",
        "unschedulable" => "waits in the scheduler for something to change",
        "gated" => "is kept out of the scheduler's queue",
        _ => "is being scheduled",
    };
    let attempts = verdict["attempts"].as_u64().unwrap_or(0);
    let said = match verdict["message"].as_str().filter(|message| !message.is_empty()) {
        Some(message) => format!("; its last words: {message}"),
        None => String::new(),
    };
    format!("It {queue} (tried {attempts} times){said}\n")
}

/// A few names stand for many.
fn shortened(nodes: &[String]) -> String {
    const SHOWN: usize = 3;
    let mut text = nodes
        .iter()
        .take(SHOWN)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    if nodes.len() > SHOWN {
        text.push_str(&format!(" and {} more", nodes.len() - SHOWN));
    }
    text
}

impl Report {
    fn text(&self) -> String {
        let mut text: String = self.pods.iter().map(Told::text).collect();
        if let Some(last) = &self.last {
            text.push_str(&in_queue(last));
        }
        text
    }

    fn json(&self) -> Value {
        let mut told = json!({"pods": self.pods.iter().map(Told::json).collect::<Vec<_>>()});
        if let Some(last) = &self.last {
            told["scheduler"] = last.clone();
        }
        told
    }
}

#[cfg(test)]
mod tests;
