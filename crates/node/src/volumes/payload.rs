//! What is in volumes of ConfigMaps, Secrets, fields and tokens (pkg/volume/{configmap,secret,projected,downwardapi}).

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, PodSpec, Secret, Volume, VolumeProjection,
};
use podlife::fields::{self, NodeFacts};

use super::VolumeError;
use super::atomic::{File, Files};
use crate::context::Context;

const DEFAULT_MODE: i32 = 0o644;

/// The files of a volume, and when they are to be looked at again.
pub(super) async fn of(
    ctx: &Arc<Context>,
    pod: &Pod,
    spec: &PodSpec,
    volume: &Volume,
) -> Result<(Files, Option<Timestamp>), VolumeError> {
    let mut files = Files::new();
    if let Some(source) = &volume.config_map {
        let items = Selection::new(&source.items, source.default_mode, source.optional);
        add_config_map(ctx, pod, &source.name, &items, &mut files).await?;
    } else if let Some(source) = &volume.secret {
        let items = Selection::new(&source.items, source.default_mode, source.optional);
        add_secret(
            ctx,
            pod,
            source.secret_name.as_deref().unwrap_or_default(),
            &items,
            &mut files,
        )
        .await?;
    } else if let Some(source) = &volume.downward_api {
        add_fields(
            ctx,
            pod,
            source.items.as_deref().unwrap_or_default(),
            source.default_mode,
            &mut files,
        )?;
    } else if let Some(source) = &volume.projected {
        let mut again: Option<Timestamp> = None;
        for part in source.sources.iter().flatten() {
            let due = add_projection(ctx, pod, spec, &volume.name, part, source.default_mode, &mut files).await?;
            again = [again, due].into_iter().flatten().min();
        }
        return Ok((files, again));
    }
    Ok((files, None))
}

async fn add_projection(
    ctx: &Arc<Context>,
    pod: &Pod,
    spec: &PodSpec,
    volume: &str,
    part: &VolumeProjection,
    mode: Option<i32>,
    files: &mut Files,
) -> Result<Option<Timestamp>, VolumeError> {
    if let Some(source) = &part.config_map {
        let items = Selection::new(&source.items, mode, source.optional);
        add_config_map(ctx, pod, &source.name, &items, files).await?;
    } else if let Some(source) = &part.secret {
        let items = Selection::new(&source.items, mode, source.optional);
        add_secret(ctx, pod, &source.name, &items, files).await?;
    } else if let Some(source) = &part.downward_api {
        add_fields(ctx, pod, source.items.as_deref().unwrap_or_default(), mode, files)?;
    } else if let Some(source) = &part.service_account_token {
        let token = ctx.tokens.get(ctx, pod, volume, source).await?;
        let owner = shared_user(spec);
        let narrow = owner.is_some() || super::fs_group(spec).is_some();
        let mode = if narrow {
            0o600
        } else {
            octal(mode.unwrap_or(DEFAULT_MODE))
        };
        files.insert(
            source.path.clone(),
            File {
                data: token.text.into_bytes(),
                mode,
                owner,
            },
        );
        return Ok(Some(token.refresh_at));
    } else if part.cluster_trust_bundle.is_some() {
        return Err(VolumeError::Unsupported("clusterTrustBundle"));
    }
    Ok(None)
}

/// The user of all containers, if it is the same for all.
fn shared_user(spec: &PodSpec) -> Option<u32> {
    let mut users = podlife::spec::containers(spec)
        .into_iter()
        .map(|(_, c)| podlife::security::effective(spec, &c).run_as_user);
    let first = users.next()??;
    users
        .all(|user| user == Some(first))
        .then(|| u32::try_from(first).ok())?
}

/// Which keys, under which paths.
struct Selection<'a> {
    items: &'a [KeyToPath],
    mode: u32,
    optional: bool,
}

impl<'a> Selection<'a> {
    fn new(items: &'a Option<Vec<KeyToPath>>, mode: Option<i32>, optional: Option<bool>) -> Selection<'a> {
        Selection {
            items: items.as_deref().unwrap_or_default(),
            mode: octal(mode.unwrap_or(DEFAULT_MODE)),
            optional: optional == Some(true),
        }
    }

    fn add(&self, kind: &'static str, data: BTreeMap<String, Vec<u8>>, files: &mut Files) -> Result<(), VolumeError> {
        if self.items.is_empty() {
            for (key, data) in data {
                files.insert(
                    key,
                    File {
                        data,
                        mode: self.mode,
                        owner: None,
                    },
                );
            }
            return Ok(());
        }
        for item in self.items {
            let Some(data) = data.get(&item.key) else {
                if self.optional {
                    continue;
                }
                return Err(VolumeError::NoKey {
                    kind,
                    key: item.key.clone(),
                });
            };
            let mode = item.mode.map_or(self.mode, octal);
            files.insert(
                item.path.clone(),
                File {
                    data: data.clone(),
                    mode,
                    owner: None,
                },
            );
        }
        Ok(())
    }
}

fn octal(mode: i32) -> u32 {
    (mode as u32) & 0o777
}

async fn add_config_map(
    ctx: &Context,
    pod: &Pod,
    name: &str,
    items: &Selection<'_>,
    files: &mut Files,
) -> Result<(), VolumeError> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    match ctx
        .sources
        .config_maps(namespace, &[name.to_string()])
        .await
        .remove(name)
    {
        Some(found) => items.add("config", config_map_data(found), files),
        None if items.optional => Ok(()),
        None => Err(VolumeError::NotFound {
            kind: "configmap",
            name: name.to_string(),
        }),
    }
}

fn config_map_data(found: ConfigMap) -> BTreeMap<String, Vec<u8>> {
    let text = found
        .data
        .unwrap_or_default()
        .into_iter()
        .map(|(key, text)| (key, text.into_bytes()));
    let binary = found
        .binary_data
        .unwrap_or_default()
        .into_iter()
        .map(|(key, bytes)| (key, bytes.0));
    text.chain(binary).collect()
}

async fn add_secret(
    ctx: &Context,
    pod: &Pod,
    name: &str,
    items: &Selection<'_>,
    files: &mut Files,
) -> Result<(), VolumeError> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    match ctx.sources.secrets(namespace, &[name.to_string()]).await.remove(name) {
        Some(found) => items.add("secret", secret_data(found), files),
        None if items.optional => Ok(()),
        None => Err(VolumeError::NotFound {
            kind: "secret",
            name: name.to_string(),
        }),
    }
}

fn secret_data(found: Secret) -> BTreeMap<String, Vec<u8>> {
    found
        .data
        .unwrap_or_default()
        .into_iter()
        .map(|(key, bytes)| (key, bytes.0))
        .collect()
}

fn add_fields(
    ctx: &Context,
    pod: &Pod,
    items: &[DownwardAPIVolumeFile],
    mode: Option<i32>,
    files: &mut Files,
) -> Result<(), VolumeError> {
    let allocatable = ctx.allocatable();
    let facts = NodeFacts {
        host_ips: &ctx.config.ips,
        pod_ips: &[],
        allocatable: Some(&allocatable),
    };
    for item in items {
        let text = if let Some(field) = &item.field_ref {
            fields::field(pod, &field.field_path, &facts)?
        } else if let Some(resource) = &item.resource_field_ref {
            fields::resource(pod, None, resource, &facts)?
        } else {
            continue;
        };
        let mode = octal(item.mode.or(mode).unwrap_or(DEFAULT_MODE));
        files.insert(
            item.path.clone(),
            File {
                data: text.into_bytes(),
                mode,
                owner: None,
            },
        );
    }
    Ok(())
}
