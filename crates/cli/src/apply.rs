//! `apply`: create what is missing, change what differs.
//!
//! As kubectl's client-side apply: the manifest is kept in an annotation, and what stood there last
//! time but does not any more is deleted. The patch is the manifest itself as a strategic merge patch
//! (JSON merge patch for types that are not built in) with those deletions; the server decides
//! whether it changes anything.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use api::meta;
use client::{PatchKind, WriteParams};
use schema::TypeRef;
use serde_json::{Map, Value, json};

use crate::resources::{Resource, Resources};
use crate::session::explain;
use crate::{Session, manifest};

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Options of `apply`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Files, folders, or - for standard input
    #[arg(short, long = "filename", required = true)]
    file: Vec<PathBuf>,
    /// Let the server merge and keep track of who owns which field
    #[arg(long)]
    server_side: bool,
    /// With --server-side: take fields over from others
    #[arg(long)]
    force_conflicts: bool,
    /// With --server-side: on whose behalf
    #[arg(long, default_value = "kubectl")]
    field_manager: String,
}

pub(crate) async fn run(session: &Session, options: &Options) -> Result<ExitCode> {
    let objects = manifest::read(&options.file)?;
    let mut resources = Resources::discover(session).await?;
    let mut code = ExitCode::SUCCESS;
    for object in objects {
        let result = match one(session, options, &resources, &object).await {
            // A custom resource may have been defined by an earlier document.
            Err(error) if error.to_string().starts_with("no matches for kind") => {
                resources = Resources::discover(session).await?;
                one(session, options, &resources, &object).await
            }
            result => result,
        };
        match result {
            Ok(line) => println!("{line}"),
            Err(error) => {
                eprintln!("{}", explain(&error));
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

async fn one(session: &Session, options: &Options, resources: &Resources, object: &Value) -> Result<String> {
    let api_version = object["apiVersion"].as_str().unwrap_or_default();
    let resource = resources.of_kind(api_version, object["kind"].as_str().unwrap_or_default())?;
    let name = meta::name(object).to_owned();
    let namespace = match (resource.namespaced, meta::namespace(object)) {
        (false, _) => "",
        (true, "") => &session.namespace,
        (true, namespace) => namespace,
    };
    let title = resource.title(&name);
    if options.server_side {
        let params = WriteParams {
            force: options.force_conflicts,
            ..params(&options.field_manager)
        };
        let handle = session.client.dynamic(&resource.gvr);
        let _: Value = handle
            .patch(namespace, &name, PatchKind::Apply, object, &params)
            .await?;
        return Ok(format!("{title} serverside-applied"));
    }
    let word = client_side(session, resource, namespace, &name, object).await?;
    Ok(format!("{title} {word}"))
}

fn params(manager: &str) -> WriteParams {
    WriteParams {
        field_validation: "Strict".into(),
        ..WriteParams::manager(manager)
    }
}

async fn client_side(
    session: &Session,
    resource: &Resource,
    namespace: &str,
    name: &str,
    object: &Value,
) -> Result<&'static str> {
    let handle = session.client.dynamic(&resource.gvr);
    let params = params("kubectl-client-side-apply");
    let wanted = annotated(object, namespace);
    let live = match handle.get(namespace, name).await {
        Err(error) if error.is_not_found() => {
            handle.create(namespace, &wanted, &params).await?;
            return Ok("created");
        }
        live => live?,
    };
    let last = live["metadata"]["annotations"][LAST_APPLIED].as_str();
    let last: Value = last
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or(Value::Null);
    let gvk = &resource.gvr;
    let ty = schema::builtin().kind(&gvk.group, &gvk.version, &resource.kind);
    let mut patch = wanted;
    add_deletions(ty, &last, &mut patch);
    let kind = if ty.is_some() {
        PatchKind::Strategic
    } else {
        PatchKind::Merge
    };
    let answer: Value = handle.patch(namespace, name, kind, &patch, &params).await?;
    let unchanged = meta::resource_version(&answer) == meta::resource_version(&live);
    Ok(if unchanged { "unchanged" } else { "configured" })
}

/// The object with its own text in the annotation.
fn annotated(object: &Value, namespace: &str) -> Value {
    let mut object = object.clone();
    let metadata = &mut object["metadata"];
    if !metadata.is_object() {
        *metadata = json!({});
    }
    if !namespace.is_empty() {
        metadata["namespace"] = json!(namespace);
    }
    if let Some(annotations) = metadata["annotations"].as_object_mut() {
        annotations.remove(LAST_APPLIED);
    } else {
        metadata["annotations"] = json!({});
    }
    let text = format!("{object}\n");
    object["metadata"]["annotations"][LAST_APPLIED] = json!(text);
    object
}

/// Adds to `patch` the deletion of what `last` has and `patch` has not.
fn add_deletions(ty: Option<TypeRef<'_>>, last: &Value, patch: &mut Value) {
    let (Value::Object(last), Value::Object(patch)) = (last, patch) else {
        return;
    };
    let mut extra = Map::new();
    for (name, old) in last {
        let field = ty.and_then(|ty| ty.field(name));
        match patch.get_mut(name) {
            None => {
                extra.insert(name.clone(), Value::Null);
            }
            Some(Value::Array(new)) => {
                let Some(field) = field.filter(|field| field.patch_merge()) else {
                    continue;
                };
                let old = old.as_array().map(Vec::as_slice).unwrap_or_default();
                match field.merge_key() {
                    Some(key) => delete_elements(field.ty().elem(), key, old, new),
                    None => {
                        let gone: Vec<Value> = old.iter().filter(|item| !new.contains(item)).cloned().collect();
                        if !gone.is_empty() {
                            extra.insert(format!("$deleteFromPrimitiveList/{name}"), Value::Array(gone));
                        }
                    }
                }
            }
            Some(new) => {
                let inner = field.map(|field| field.ty()).or_else(|| ty.and_then(TypeRef::elem));
                add_deletions(inner, old, new);
            }
        }
    }
    patch.extend(extra);
}

fn delete_elements(ty: Option<TypeRef<'_>>, key: &str, old: &[Value], new: &mut Vec<Value>) {
    for item in old {
        match new.iter_mut().find(|candidate| candidate.get(key) == item.get(key)) {
            Some(candidate) => add_deletions(ty, item, candidate),
            None => {
                if let Some(id) = item.get(key) {
                    new.push(json!({"$patch": "delete", key: id}));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_from_the_manifest_is_deleted() {
        let ty = schema::builtin().kind("", "v1", "Pod");
        let last = json!({
            "metadata": {"labels": {"a": "1", "b": "2"}},
            "spec": {"containers": [{"name": "x", "image": "i", "args": ["1"]}, {"name": "y"}]},
        });
        let mut patch = json!({
            "metadata": {"labels": {"a": "1"}},
            "spec": {"containers": [{"name": "x", "image": "j"}]},
        });
        add_deletions(ty, &last, &mut patch);
        assert_eq!(
            patch,
            json!({
                "metadata": {"labels": {"a": "1", "b": null}},
                "spec": {"containers": [
                    {"name": "x", "image": "j", "args": null},
                    {"$patch": "delete", "name": "y"},
                ]},
            })
        );
    }

    #[test]
    fn the_annotation_does_not_hold_itself() {
        let once = annotated(&json!({"kind": "X", "metadata": {"name": "a"}}), "ns");
        let twice = annotated(&once, "ns");
        assert_eq!(once, twice);
    }
}
