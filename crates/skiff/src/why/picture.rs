//! The cluster as it is asked about: read once, and changed only in memory.

use std::sync::Arc;

use anyhow::{Context, bail};
use api::Gvr;
use client::{BoxFuture, Client, ClientError, ListParams, Object};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, PodSpec};
use k8s_openapi::api::storage::v1::{CSIDriver, StorageClass, VolumeAttachment};
use scheduler::framework::{Resource, Shared};
use scheduler::intern::Interner;
use scheduler::{PodInfo, plugins};

use super::what_if::{NewNode, WhatIf};

/// Page of a list.
const PAGE: u32 = 500;

/// Nodes, pods, namespaces, and what there is of volumes and devices.
#[derive(Debug, Clone, Default)]
pub struct Picture {
    pub nodes: Vec<Arc<Node>>,
    pub pods: Vec<Arc<Pod>>,
    pub namespaces: Vec<Arc<Namespace>>,
    /// What plugins see of other kinds.
    pub others: Vec<(Resource, Shared)>,
    /// Kinds that the user may not read, or that the server does not have: what plugins say of them is not told.
    pub unseen: Vec<Resource>,
}

/// Lists the objects of a kind as the scheduler's plugins see them.
type Lister = for<'c> fn(&'c Client) -> BoxFuture<'c, Result<Vec<Shared>, ClientError>>;

fn lister(resource: Resource) -> Option<Lister> {
    Some(match resource {
        Resource::PersistentVolume => |client| Box::pin(typed::<PersistentVolume>(client)),
        Resource::PersistentVolumeClaim => |client| Box::pin(typed::<PersistentVolumeClaim>(client)),
        Resource::StorageClass => |client| Box::pin(typed::<StorageClass>(client)),
        Resource::CsiDriver => |client| Box::pin(typed::<CSIDriver>(client)),
        Resource::VolumeAttachment => |client| Box::pin(typed::<VolumeAttachment>(client)),
        Resource::CsiNode => |client| Box::pin(values(client, "storage.k8s.io", "csinodes")),
        Resource::CsiStorageCapacity => |client| Box::pin(values(client, "storage.k8s.io", "csistoragecapacities")),
        Resource::ResourceClaim => |client| Box::pin(values(client, "resource.k8s.io", "resourceclaims")),
        Resource::ResourceSlice => |client| Box::pin(values(client, "resource.k8s.io", "resourceslices")),
        Resource::DeviceClass => |client| Box::pin(values(client, "resource.k8s.io", "deviceclasses")),
        Resource::DeviceTaintRule => |client| Box::pin(values(client, "resource.k8s.io", "devicetaintrules")),
        _ => return None,
    })
}

async fn typed<K: Object>(client: &Client) -> Result<Vec<Shared>, ClientError> {
    let listed = client.of::<K>().list_all("", &page()).await?;
    Ok(listed
        .items
        .into_iter()
        .map(|object| -> Shared { Arc::new(object) })
        .collect())
}

async fn values(client: &Client, group: &str, plural: &str) -> Result<Vec<Shared>, ClientError> {
    let listed = client
        .dynamic(&Gvr::new(group, "v1", plural))
        .list_all("", &page())
        .await?;
    Ok(listed
        .items
        .into_iter()
        .map(|object| -> Shared { Arc::new(object) })
        .collect())
}

fn page() -> ListParams {
    ListParams {
        limit: PAGE,
        ..ListParams::default()
    }
}

/// A pod that has no node (any more) in the changed picture, and the reason to ask about it.
#[derive(Debug, Clone)]
pub struct Moved {
    pub pod: Arc<Pod>,
    pub from: Option<String>,
}

impl Picture {
    /// Reads it with the user's own rights.
    pub async fn read(client: &Client) -> anyhow::Result<Picture> {
        let params = page();
        let (nodes, pods, namespaces) = tokio::try_join!(
            async { client.of::<Node>().list_all("", &params).await.context("list nodes") },
            async {
                client
                    .of::<Pod>()
                    .list_all("", &params)
                    .await
                    .context("list pods of all namespaces")
            },
            async {
                client
                    .of::<Namespace>()
                    .list_all("", &params)
                    .await
                    .context("list namespaces")
            },
        )?;
        Ok(Picture {
            nodes: nodes.items.into_iter().map(Arc::new).collect(),
            pods: pods.items.into_iter().map(Arc::new).collect(),
            namespaces: namespaces.items.into_iter().map(Arc::new).collect(),
            ..Picture::default()
        })
    }

    /// Reads what the scheduler's plugins need to judge these pods, and is not read yet.
    pub async fn read_for<'p>(&mut self, client: &Client, pods: impl Iterator<Item = &'p Pod>) {
        let (profile, interner) = (plugins::default_profile(), Interner::default());
        let mut needs: Vec<Resource> = Vec::new();
        for pod in pods {
            let info = PodInfo::new(pod, &interner);
            let concerned = profile.plugins().iter().filter(|plugin| plugin.concerns(&info));
            needs.extend(concerned.flat_map(|plugin| plugin.watches()));
        }
        needs.sort_unstable();
        needs.dedup();
        for (resource, list) in needs.into_iter().filter_map(|need| Some((need, lister(need)?))) {
            match list(client).await {
                Ok(objects) => self.others.extend(objects.into_iter().map(|object| (resource, object))),
                Err(_) => self.unseen.push(resource),
            }
        }
    }

    pub fn pod(&self, namespace: &str, name: &str) -> Option<&Arc<Pod>> {
        self.pods.iter().find(|pod| {
            pod.metadata.name.as_deref() == Some(name) && pod.metadata.namespace.as_deref() == Some(namespace)
        })
    }

    pub fn node(&self, name: &str) -> Option<&Arc<Node>> {
        self.nodes
            .iter()
            .find(|node| node.metadata.name.as_deref() == Some(name))
    }

    /// Pods that count on a node.
    pub fn pods_on<'p>(&'p self, node: &'p str) -> impl Iterator<Item = &'p Pod> {
        let pods = self.pods.iter().map(|pod| &**pod);
        pods.filter(move |pod| node_of(pod) == Some(node) && !is_finished(pod))
    }

    /// Puts a pod onto a node.
    pub fn bind(&mut self, pod: &Arc<Pod>, node: &str) {
        let mut bound = Pod::clone(pod);
        bound.spec.get_or_insert_with(PodSpec::default).node_name = Some(node.to_owned());
        self.pods.retain(|known| known.metadata.uid != pod.metadata.uid);
        self.pods.push(Arc::new(bound));
    }

    /// Changes the picture; what has to find a node then, in the order in which it is tried.
    pub fn change(
        &mut self,
        what_if: &WhatIf,
        namespace: &str,
        deployment: Option<&Deployment>,
    ) -> anyhow::Result<Vec<Moved>> {
        match what_if {
            WhatIf::Drain(node) => self.drain(node),
            WhatIf::AddNode(node) => self.add_node(node).map(|()| Vec::new()),
            WhatIf::Scale { name, replicas } => {
                let deployment = deployment.with_context(|| format!("deployment {name}"))?;
                Ok(self.scale(deployment, namespace, *replicas))
            }
        }
    }

    fn drain(&mut self, name: &str) -> anyhow::Result<Vec<Moved>> {
        let Some(node) = self
            .nodes
            .iter_mut()
            .find(|node| node.metadata.name.as_deref() == Some(name))
        else {
            bail!("there is no node {name:?}");
        };
        Arc::make_mut(node).spec.get_or_insert_default().unschedulable = Some(true);
        let mut moved = Vec::new();
        for pod in &mut self.pods {
            if node_of(pod) != Some(name) || is_finished(pod) || stays(pod) {
                continue;
            }
            let changed = Arc::make_mut(pod);
            changed.spec.get_or_insert_default().node_name = None;
            moved.push(Moved {
                pod: pod.clone(),
                from: Some(name.to_owned()),
            });
        }
        // As the scheduler would take them: the most important first, then by age.
        moved.sort_by_key(|moved| {
            let spec = moved.pod.spec.as_ref();
            let priority = spec.and_then(|spec| spec.priority).unwrap_or(0);
            let created = moved.pod.metadata.creation_timestamp.clone();
            (std::cmp::Reverse(priority), created, moved.pod.metadata.name.clone())
        });
        Ok(moved)
    }

    fn add_node(&mut self, new: &NewNode) -> anyhow::Result<()> {
        let mut name = "what-if-1".to_owned();
        let mut number = 1;
        while self.node(&name).is_some() {
            number += 1;
            name = format!("what-if-{number}");
        }
        let like = match &new.like {
            None => None,
            Some(like) => Some(self.node(like).with_context(|| format!("there is no node {like:?}"))?),
        };
        let node = new.build(&name, like.map(|node| &**node))?;
        self.nodes.push(Arc::new(node));
        Ok(())
    }

    fn scale(&mut self, deployment: &Deployment, namespace: &str, replicas: u32) -> Vec<Moved> {
        let name = deployment.metadata.name.clone().unwrap_or_default();
        let spec = deployment.spec.clone();
        let now = spec
            .replicas
            .and_then(|replicas| u32::try_from(replicas).ok())
            .unwrap_or(1);
        let template = spec.template;
        let added = (now..replicas.max(now)).map(|number| {
            let mut pod = Pod {
                metadata: template.metadata.clone().unwrap_or_default(),
                spec: template.spec.clone(),
                status: None,
            };
            pod.metadata.name = Some(format!("{name}-what-if-{}", number + 1 - now));
            pod.metadata.namespace = Some(namespace.to_owned());
            pod.metadata.uid = pod.metadata.name.clone();
            Moved {
                pod: Arc::new(pod),
                from: None,
            }
        });
        let added: Vec<Moved> = added.collect();
        self.pods.extend(added.iter().map(|moved| moved.pod.clone()));
        added
    }
}

/// Draining leaves what its DaemonSet or the node itself would make again.
fn stays(pod: &Pod) -> bool {
    let owners = pod.metadata.owner_references.iter().flatten();
    let of_daemon_set = owners
        .clone()
        .any(|owner| owner.kind == "DaemonSet" && owner.controller == Some(true));
    let annotations = pod.metadata.annotations.as_ref();
    of_daemon_set || annotations.is_some_and(|annotations| annotations.contains_key("kubernetes.io/config.mirror"))
}

pub fn node_of(pod: &Pod) -> Option<&str> {
    let name = pod.spec.as_ref()?.node_name.as_deref();
    name.filter(|name| !name.is_empty())
}

pub fn is_finished(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}
