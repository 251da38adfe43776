//! `get`: tables by the server, or the objects themselves.

use std::process::ExitCode;

use anyhow::{Result, bail};
use bytes::Bytes;
use client::{ListParams, WatchEvent, WatchParams};
use http::header::ACCEPT;
use serde_json::{Value, json};

use crate::resources::{Resource, Resources, Target, targets};
use crate::{Session, table};

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

/// Options of `get`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// TYPE[,TYPE…] [NAME…] or TYPE/NAME…
    #[arg(required = true)]
    what: Vec<String>,
    /// json, yaml, name or wide
    #[arg(short, long)]
    output: Option<String>,
    /// Label selector
    #[arg(short = 'l', long)]
    selector: Option<String>,
    /// Field selector
    #[arg(long)]
    field_selector: Option<String>,
    /// All namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Follow changes
    #[arg(short, long)]
    watch: bool,
    /// No column headers
    #[arg(long)]
    no_headers: bool,
    /// Missing objects are no error
    #[arg(long)]
    ignore_not_found: bool,
}

pub(crate) async fn run(session: &Session, options: &Options) -> Result<ExitCode> {
    let resources = Resources::discover(session).await?;
    let targets = targets(&resources, &options.what)?;
    if options.watch {
        let [target] = targets.as_slice() else {
            bail!("you may only specify a single resource type with --watch");
        };
        return watch(session, options, target).await;
    }
    match options.output.as_deref() {
        None | Some("wide") => tables(session, options, &targets).await,
        Some(format @ ("json" | "yaml" | "name")) => objects(session, options, &targets, format).await,
        Some(other) => bail!(
            "unable to match a printer suitable for the output format \"{other}\", allowed formats are: json,name,wide,yaml"
        ),
    }
}

impl Options {
    fn namespace<'s>(&self, session: &'s Session, resource: &Resource) -> &'s str {
        if resource.namespaced && !self.all_namespaces {
            &session.namespace
        } else {
            ""
        }
    }

    fn query(&self) -> ListParams {
        ListParams {
            label_selector: self.selector.clone().unwrap_or_default(),
            field_selector: self.field_selector.clone().unwrap_or_default(),
            ..ListParams::default()
        }
    }
}

fn uri(session: &Session, options: &Options, target: &Target) -> String {
    let handle = session.client.dynamic(&target.resource.gvr);
    let path = handle.path(
        options.namespace(session, &target.resource),
        target.name.as_deref().unwrap_or(""),
        "",
    );
    let mut query = Vec::new();
    for (name, value) in [
        ("labelSelector", &options.selector),
        ("fieldSelector", &options.field_selector),
    ] {
        if let Some(value) = value
            && target.name.is_none()
        {
            query.push(format!("{name}={}", escape(value)));
        }
    }
    if query.is_empty() {
        path
    } else {
        format!("{path}?{}", query.join("&"))
    }
}

pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => escaped.push(char::from(byte)),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

async fn tables(session: &Session, options: &Options, targets: &[Target]) -> Result<ExitCode> {
    let mut printed = 0;
    let by_type: Vec<&[Target]> = targets.chunk_by(|a, b| a.resource == b.resource).collect();
    let several = by_type.len() > 1;
    for same_type in by_type {
        let mut rows: Vec<Vec<String>> = Vec::new();
        for target in same_type {
            let request = http::Request::get(uri(session, options, target))
                .header(ACCEPT, TABLE)
                .body(Bytes::new())?;
            let answer = match session.client.request_json::<Value>(request).await {
                Err(error) if options.ignore_not_found && error.is_not_found() => continue,
                answer => answer?,
            };
            append(&mut rows, &answer, options, &target.resource, several);
        }
        let headers = usize::from(!options.no_headers);
        if rows.len() > headers {
            if printed > 0 {
                println!();
            }
            table::print(&rows);
            printed += 1;
        }
    }
    if printed == 0 && !options.ignore_not_found {
        match targets.first() {
            Some(target) if target.resource.namespaced && !options.all_namespaces => {
                eprintln!("No resources found in {} namespace.", session.namespace);
            }
            _ => eprintln!("No resources found"),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Adds a server's table to the rows, with headers if they are the first.
fn append(rows: &mut Vec<Vec<String>>, answer: &Value, options: &Options, resource: &Resource, several: bool) {
    let wide = options.output.as_deref() == Some("wide");
    let columns: Vec<usize> = answer["columnDefinitions"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
        .filter(|(_, column)| wide || column["priority"].as_i64().unwrap_or(0) == 0)
        .map(|(index, _)| index)
        .collect();
    let namespaces = options.all_namespaces && resource.namespaced;
    if rows.is_empty() && !options.no_headers {
        let names = columns.iter().map(|index| {
            answer["columnDefinitions"][index]["name"]
                .as_str()
                .unwrap_or_default()
                .to_uppercase()
        });
        rows.push(
            namespaces
                .then(|| "NAMESPACE".to_owned())
                .into_iter()
                .chain(names)
                .collect(),
        );
    }
    for row in answer["rows"].as_array().into_iter().flatten() {
        let mut cells: Vec<String> = columns.iter().map(|index| table::cell(&row["cells"][index])).collect();
        if several && let Some(first) = cells.first_mut() {
            *first = resource.title(first);
        }
        if namespaces {
            cells.insert(
                0,
                row["object"]["metadata"]["namespace"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
            );
        }
        rows.push(cells);
    }
}

async fn objects(session: &Session, options: &Options, targets: &[Target], format: &str) -> Result<ExitCode> {
    let mut found: Vec<(Resource, Value)> = Vec::new();
    let single = matches!(targets, [Target { name: Some(_), .. }]);
    for target in targets {
        let handle = session.client.dynamic(&target.resource.gvr);
        let namespace = options.namespace(session, &target.resource);
        match &target.name {
            Some(name) => match handle.get(namespace, name).await {
                Err(error) if options.ignore_not_found && error.is_not_found() => {}
                answer => found.push((target.resource.clone(), answer?)),
            },
            None => {
                for mut item in handle.list_all(namespace, &options.query()).await?.items {
                    item["apiVersion"] = json!(api_version(&target.resource));
                    item["kind"] = json!(target.resource.kind);
                    found.push((target.resource.clone(), item));
                }
            }
        }
    }
    if format == "name" {
        for (resource, object) in &found {
            println!(
                "{}",
                resource.title(object["metadata"]["name"].as_str().unwrap_or_default())
            );
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut objects: Vec<Value> = found.into_iter().map(|(_, object)| object).collect();
    objects.iter_mut().for_each(hide_managed_fields);
    let answer = match objects.as_mut_slice() {
        [object] if single => object.take(),
        [] if single => return Ok(ExitCode::SUCCESS),
        _ => json!({"apiVersion": "v1", "items": objects, "kind": "List", "metadata": {"resourceVersion": ""}}),
    };
    match format {
        "json" => println!("{}", pretty(&answer)?),
        _ => print!("{}", yaml(&answer)?),
    }
    Ok(ExitCode::SUCCESS)
}

fn api_version(resource: &Resource) -> String {
    let gvr = &resource.gvr;
    if gvr.group.is_empty() {
        gvr.version.clone()
    } else {
        format!("{}/{}", gvr.group, gvr.version)
    }
}

pub(crate) fn hide_managed_fields(object: &mut Value) {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
}

fn pretty(value: &Value) -> Result<String> {
    use serde_json::ser::{PrettyFormatter, Serializer};
    let mut text = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(b"    "));
    serde::Serialize::serialize(value, &mut serializer)?;
    Ok(String::from_utf8(text)?)
}

fn yaml(value: &Value) -> Result<String> {
    Ok(serde_saphyr::to_string(value)?)
}

async fn watch(session: &Session, options: &Options, target: &Target) -> Result<ExitCode> {
    let mut list_target = target.clone();
    let mut field_selector = options.field_selector.clone().unwrap_or_default();
    if let Some(name) = list_target.name.take() {
        field_selector = format!("metadata.name={name}");
    }
    let namespace = options.namespace(session, &target.resource);
    let handle = session.client.dynamic(&target.resource.gvr);
    let query = ListParams {
        field_selector: field_selector.clone(),
        ..options.query()
    };
    let list = handle.list(namespace, &query).await?;
    for item in &list.items {
        watched(session, options, target, item).await?;
    }
    let params = WatchParams {
        label_selector: options.selector.clone().unwrap_or_default(),
        field_selector,
        resource_version: list.metadata.resource_version.clone().unwrap_or_default(),
        ..WatchParams::default()
    };
    let mut events = handle.watch(namespace, &params).await?;
    while let Some(event) = events.next().await {
        match event? {
            WatchEvent::Added(object) | WatchEvent::Modified(object) | WatchEvent::Deleted(object) => {
                watched(session, options, target, &object).await?;
            }
            _ => {}
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints one line for an object: its table row, asked of the server while it exists.
async fn watched(session: &Session, options: &Options, target: &Target, object: &Value) -> Result<()> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
    match options.output.as_deref() {
        Some("yaml") => print!("---\n{}", yaml(object)?),
        Some("json") => println!("{}", pretty(object)?),
        Some("name") => println!("{}", target.resource.title(name)),
        _ => {
            let path = session.client.dynamic(&target.resource.gvr).path(namespace, name, "");
            let request = http::Request::get(path).header(ACCEPT, TABLE).body(Bytes::new())?;
            match session.client.request_json::<Value>(request).await {
                Err(error) if error.is_not_found() => println!("{name}   (deleted)"),
                answer => {
                    let mut rows = Vec::new();
                    append(&mut rows, &answer?, options, &target.resource, false);
                    table::print(&rows);
                }
            }
        }
    }
    Ok(())
}
