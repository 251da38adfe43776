//! `delete`: by name, label or file, and waits until it is gone.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use api::meta;
use client::{DeleteParams, ListParams, Preconditions, Propagation, WatchEvent, WatchParams};
use serde_json::Value;

use crate::resources::{Resource, Resources, targets};
use crate::session::explain;
use crate::{Session, manifest};

/// Options of `delete`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// TYPE NAME… or TYPE/NAME…
    what: Vec<String>,
    /// Files, folders, or - for standard input
    #[arg(short, long = "filename")]
    file: Vec<PathBuf>,
    /// Label selector
    #[arg(short = 'l', long)]
    selector: Option<String>,
    /// All of the type in the namespace
    #[arg(long)]
    all: bool,
    /// background, foreground or orphan
    #[arg(long, default_value = "background")]
    cascade: String,
    /// Seconds given to end; 0 with --force
    #[arg(long, default_value_t = -1)]
    grace_period: i64,
    /// With --grace-period=0: do not wait for the node's word
    #[arg(long)]
    force: bool,
    /// Missing objects are no error
    #[arg(long)]
    ignore_not_found: bool,
    /// Wait until the objects are gone
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    wait: bool,
}

/// One object to delete.
struct Doomed {
    resource: Resource,
    namespace: String,
    name: String,
}

pub(crate) async fn run(session: &Session, options: &Options) -> Result<ExitCode> {
    let resources = Resources::discover(session).await?;
    let doomed = find(session, options, &resources).await?;
    if doomed.is_empty() {
        println!("No resources found");
        return Ok(ExitCode::SUCCESS);
    }
    let params = DeleteParams {
        grace_period_seconds: match (options.force, options.grace_period) {
            (true, -1) => Some(0),
            (_, -1) => None,
            (_, seconds) => Some(seconds),
        },
        propagation_policy: Some(match options.cascade.as_str() {
            "background" | "true" => Propagation::Background,
            "foreground" => Propagation::Foreground,
            "orphan" | "false" => Propagation::Orphan,
            other => bail!("invalid cascade value ({other}). Must be \"background\", \"foreground\", or \"orphan\""),
        }),
        ..DeleteParams::default()
    };
    let mut code = ExitCode::SUCCESS;
    let mut deleted = Vec::new();
    for object in doomed {
        let handle = session.client.dynamic(&object.resource.gvr);
        // What is waited for is this object, not one made anew under its name.
        let before = handle.get(&object.namespace, &object.name).await;
        let params = DeleteParams {
            preconditions: before.as_ref().ok().map(|object| Preconditions {
                uid: Some(meta::uid(object).to_owned()),
                resource_version: None,
            }),
            ..params.clone()
        };
        match handle.delete(&object.namespace, &object.name, &params).await {
            Ok(_) => {
                let title = object.resource.qualified(&object.resource.kind.to_lowercase());
                let forced = if options.force { "force " } else { "" };
                println!("{title} \"{}\" {forced}deleted", object.name);
                deleted.push((object, before?));
            }
            Err(error) if options.ignore_not_found && error.is_not_found() => {}
            Err(error) => {
                eprintln!("{}", explain(&error.into()));
                code = ExitCode::FAILURE;
            }
        }
    }
    if options.wait {
        for (object, before) in &deleted {
            gone(session, object, meta::uid(before)).await?;
        }
    }
    Ok(code)
}

async fn find(session: &Session, options: &Options, resources: &Resources) -> Result<Vec<Doomed>> {
    let mut doomed = Vec::new();
    if !options.file.is_empty() {
        for object in manifest::read(&options.file)? {
            let api_version = object["apiVersion"].as_str().unwrap_or_default();
            let resource = resources.of_kind(api_version, object["kind"].as_str().unwrap_or_default())?;
            let namespace = match meta::namespace(&object) {
                _ if !resource.namespaced => "",
                "" => &session.namespace,
                namespace => namespace,
            };
            let (namespace, name) = (namespace.to_owned(), meta::name(&object).to_owned());
            doomed.push(Doomed {
                resource: resource.clone(),
                namespace,
                name,
            });
        }
        return Ok(doomed);
    }
    for target in targets(resources, &options.what)? {
        let namespace = if target.resource.namespaced {
            session.namespace.clone()
        } else {
            String::new()
        };
        if let Some(name) = target.name {
            doomed.push(Doomed {
                resource: target.resource,
                namespace,
                name,
            });
            continue;
        }
        if !options.all && options.selector.is_none() {
            bail!("resource(s) were provided, but no name was specified");
        }
        let handle = session.client.dynamic(&target.resource.gvr);
        let selected = ListParams::labels(options.selector.clone().unwrap_or_default());
        for item in handle.list_all(&namespace, &selected).await?.items {
            let name = meta::name(&item).to_owned();
            doomed.push(Doomed {
                resource: target.resource.clone(),
                namespace: namespace.clone(),
                name,
            });
        }
    }
    Ok(doomed)
}

/// Waits until the object with this UID is gone.
async fn gone(session: &Session, object: &Doomed, uid: &str) -> Result<()> {
    let handle = session.client.dynamic(&object.resource.gvr);
    loop {
        let live: Value = match handle.get(&object.namespace, &object.name).await {
            Err(error) if error.is_not_found() => return Ok(()),
            live => live?,
        };
        if meta::uid(&live) != uid {
            return Ok(());
        }
        let params = WatchParams {
            field_selector: format!("metadata.name={}", object.name),
            resource_version: meta::resource_version(&live).to_owned(),
            ..WatchParams::default()
        };
        let mut events = handle.watch(&object.namespace, &params).await?;
        while let Some(Ok(event)) = events.next().await {
            if matches!(event, WatchEvent::Deleted(_)) {
                return Ok(());
            }
        }
    }
}
