//! `logs`: of one container.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Result, bail};
use bytes::Bytes;
use http_body_util::BodyExt;
use serde_json::Value;

use crate::Session;
use crate::get::escape;

/// Options of `logs`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// POD or TYPE/NAME
    pod: String,
    /// Container
    container_name: Option<String>,
    /// Container
    #[arg(short, long)]
    container: Option<String>,
    /// Keep printing what comes
    #[arg(short, long)]
    follow: bool,
    /// Of the container's last instance
    #[arg(short, long)]
    previous: bool,
    /// A time before each line
    #[arg(long)]
    timestamps: bool,
    /// So many last lines
    #[arg(long)]
    tail: Option<i64>,
    /// No older than this, in seconds
    #[arg(long)]
    since_seconds: Option<i64>,
    /// No more bytes than this
    #[arg(long)]
    limit_bytes: Option<i64>,
}

pub(crate) async fn run(session: &Session, options: &Options) -> Result<ExitCode> {
    let pod = pod_of(session, &options.pod).await?;
    let container = options.container.clone().or_else(|| options.container_name.clone());
    let container = match container {
        Some(container) => container,
        None => default_container(&pod)?,
    };
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let mut query = vec![format!("container={}", escape(&container))];
    for (flag, set) in [
        ("follow", options.follow),
        ("previous", options.previous),
        ("timestamps", options.timestamps),
    ] {
        if set {
            query.push(format!("{flag}=true"));
        }
    }
    let numbers = [
        ("tailLines", options.tail.filter(|lines| *lines >= 0)),
        ("sinceSeconds", options.since_seconds),
        ("limitBytes", options.limit_bytes),
    ];
    query.extend(
        numbers
            .into_iter()
            .filter_map(|(flag, number)| Some(format!("{flag}={}", number?))),
    );
    let path = format!(
        "/api/v1/namespaces/{}/pods/{}/log?{}",
        session.namespace,
        escape(name),
        query.join("&")
    );
    let request = http::Request::get(path).body(Bytes::new())?;
    let mut body = session.client.request(request).await?.into_body();
    let mut stdout = std::io::stdout();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| anyhow::anyhow!("reading the log: {error}"))?;
        if let Some(data) = frame.data_ref() {
            stdout.write_all(data)?;
            stdout.flush()?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The pod of `POD`, `pod/POD`, or the first pod that a workload selects.
pub(crate) async fn pod_of(session: &Session, word: &str) -> Result<Value> {
    let pods = session.client.dynamic(&api::Gvr {
        group: String::new(),
        version: "v1".into(),
        resource: "pods".into(),
    });
    let (kind, name) = word.split_once('/').unwrap_or(("pod", word));
    if matches!(kind, "pod" | "pods" | "po") {
        return Ok(pods.get(&session.namespace, name).await?);
    }
    let resources = crate::resources::Resources::discover(session).await?;
    let resource = resources.find(kind)?;
    let owner = session
        .client
        .dynamic(&resource.gvr)
        .get(&session.namespace, name)
        .await?;
    let selector = &owner["spec"]["selector"];
    let labels = selector.get("matchLabels").unwrap_or(selector);
    let Some(labels) = labels.as_object().filter(|labels| !labels.is_empty()) else {
        bail!("cannot find the pods of {word}: it has no selector");
    };
    let terms: Vec<String> = labels
        .iter()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    let found = pods
        .list(&session.namespace, &client::ListParams::labels(terms.join(",")))
        .await?;
    let running = |pod: &&Value| pod["status"]["phase"] == "Running";
    let first = found.items.iter().find(running).or(found.items.first()).cloned();
    first.ok_or_else(|| anyhow::anyhow!("no pods of {word} were found"))
}

/// The annotated default container, else the first one.
pub(crate) fn default_container(pod: &Value) -> Result<String> {
    let annotated = pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"].as_str();
    let containers = pod["spec"]["containers"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let names: Vec<&str> = containers
        .iter()
        .filter_map(|container| container["name"].as_str())
        .collect();
    if let Some(name) = annotated.filter(|name| names.contains(name)) {
        return Ok(name.to_owned());
    }
    let Some(first) = names.first() else {
        bail!("the pod has no containers")
    };
    if names.len() > 1 {
        eprintln!("Defaulted container \"{first}\" out of: {}", names.join(", "));
    }
    Ok((*first).to_owned())
}
