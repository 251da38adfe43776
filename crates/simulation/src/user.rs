//! Carries out what users do, and remembers what they made.

use std::collections::BTreeMap;

use api::{Status, Value, meta};
use apiserver::rules;
use serde_json::json;

use crate::history::{Op, PodOp};
use crate::hollow::Hollow;
use crate::registry::{Resource, registry};
use crate::server::Change;
use crate::world::Shared;

/// An object that a user made and has not deleted.
#[derive(Clone, Debug)]
pub struct Mine {
    /// Its resource.
    pub resource: Resource,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its spec, as the user last wrote it.
    pub spec: Value,
}

/// The users.
#[derive(Default)]
pub struct Users {
    /// What they made, by UID.
    pub made: BTreeMap<String, Mine>,
}

impl Users {
    /// Does one thing. An error means that it is to be tried again.
    ///
    /// # Errors
    /// The server's.
    pub fn act(&mut self, world: &mut Shared, hollow: &mut Hollow, op: &Op) -> Result<(), Status> {
        match op {
            Op::Create(group, resource, namespace, object) => {
                let resource = registry().known(group, resource);
                let made = world.server.create(resource, namespace, object)?;
                self.remember(resource, &made);
            }
            Op::Patch(group, resource, namespace, name, patch) => {
                let resource = registry().known(group, resource);
                match world.server.update(resource, namespace, name, "", Change::Merge(patch)) {
                    Ok(changed) => self.remember(resource, &changed),
                    // What it was about was finished or deleted meanwhile.
                    Err(error) if error.is_not_found() || error.is_invalid() => {}
                    Err(error) => return Err(error),
                }
            }
            Op::Delete(group, resource, namespace, name, policy) => {
                let resource = registry().known(group, resource);
                self.delete(world, resource, namespace, name, *policy)?;
            }
            Op::Pod(namespace, app, op, pick) => pod(world, namespace, app, *op, *pick)?,
            Op::Silence(node) => hollow.silence(world, node),
            Op::Revive(node) => hollow.revive(world, node),
            Op::Remove(node) => {
                hollow.remove(world, node);
                let nodes = registry().known("", "nodes");
                world.server.delete(nodes, "", node, &rules::DeleteOptions::default())?;
            }
            Op::Add(node, zone) => hollow.add(world, node, zone),
            Op::Taint(node, effect) => taint(world, node, Some(effect))?,
            Op::Untaint(node) => taint(world, node, None)?,
        }
        Ok(())
    }

    fn remember(&mut self, resource: Resource, object: &Value) {
        let mine = Mine {
            resource,
            namespace: meta::namespace(object).to_owned(),
            name: meta::name(object).to_owned(),
            spec: object["spec"].clone(),
        };
        self.made.insert(meta::uid(object).to_owned(), mine);
    }

    fn delete(
        &mut self,
        world: &mut Shared,
        resource: Resource,
        namespace: &str,
        name: &str,
        policy: char,
    ) -> Result<(), Status> {
        let options = rules::DeleteOptions {
            propagation: Some(match policy {
                'o' => rules::Propagation::Orphan,
                'f' => rules::Propagation::Foreground,
                _ => rules::Propagation::Background,
            }),
            ..rules::DeleteOptions::default()
        };
        let gone = match world.server.delete(resource, namespace, name, &options) {
            Ok(gone) => gone,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
        };
        self.made.remove(meta::uid(&gone));
        if registry().kinds[resource].plural == "namespaces" {
            self.made.retain(|_, mine| mine.namespace != name);
        }
        Ok(())
    }
}

fn pod(world: &mut Shared, namespace: &str, app: &str, op: PodOp, pick: usize) -> Result<(), Status> {
    let pods = registry().known("", "pods");
    let all = world.server.store.list(pods, namespace, u64::MAX);
    let running: Vec<String> = all
        .iter()
        .map(|pod| &pod.value)
        .filter(|pod| meta::label(pod, "app") == Some(app) && pod["status"]["phase"] == "Running")
        .filter(|pod| !meta::is_deleting(pod))
        .map(|pod| meta::name(pod).to_owned())
        .collect();
    if running.is_empty() {
        return Err(Status::service_unavailable("no pod runs"));
    }
    let name = &running[pick % running.len()];
    match op {
        PodOp::Delete => world
            .server
            .delete(pods, namespace, name, &rules::DeleteOptions::default())
            .map(drop),
        PodOp::Evict => world.server.evict(namespace, name),
        PodOp::Release => {
            let patch = json!({"metadata": {"labels": {"app": format!("{app}-released")}}});
            world
                .server
                .update(pods, namespace, name, "", Change::Merge(&patch))
                .map(drop)
        }
    }
}

fn taint(world: &mut Shared, node: &str, effect: Option<&str>) -> Result<(), Status> {
    let nodes = registry().known("", "nodes");
    let Ok(found) = world.server.get(nodes, "", node) else {
        return Ok(());
    };
    let kept = found["spec"]["taints"].as_array().into_iter().flatten();
    let mut taints: Vec<Value> = kept.filter(|taint| taint["key"] != "user").cloned().collect();
    taints.extend(effect.map(|effect| json!({"key": "user", "value": "x", "effect": effect})));
    let patch = json!({"spec": {"taints": taints}});
    world
        .server
        .update(nodes, "", node, "", Change::Merge(&patch))
        .map(drop)
}
