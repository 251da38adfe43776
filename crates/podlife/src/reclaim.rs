//! What to remove to get space back: images, dead containers, pods.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container as Spec, EmptyDirVolumeSource, PodSpec, Volume};

use crate::observed::{Container, ContainerState};
use crate::{Qos, amount, resources, spec};

/// An image on the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageUse {
    /// Its id.
    pub id: String,
    /// Bytes.
    pub size: u64,
    /// When it was first seen.
    pub detected: Timestamp,
    /// When a container last used it.
    pub last_used: Timestamp,
    /// A container uses it now.
    pub in_use: bool,
    /// Never to be removed.
    pub pinned: bool,
}

/// When images are removed (upstream's defaults).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImagePolicy {
    /// Percent of the disk in use above which it begins.
    pub high_percent: u64,
    /// Percent of the disk in use at which it ends.
    pub low_percent: u64,
    /// Images younger than this stay.
    pub min_age: SignedDuration,
}

impl Default for ImagePolicy {
    fn default() -> ImagePolicy {
        ImagePolicy {
            high_percent: 85,
            low_percent: 80,
            min_age: SignedDuration::from_mins(2),
        }
    }
}

/// All images that nobody uses, for a disk that must get space back.
pub fn unused_images(all: &[ImageUse]) -> Vec<String> {
    let unused = all.iter().filter(|image| !image.in_use && !image.pinned);
    unused.map(|image| image.id.clone()).collect()
}

/// Images to remove, in this order, from a disk with these bytes (pkg/kubelet/images/image_gc_manager.go).
pub fn images(all: &[ImageUse], capacity: u64, available: u64, policy: ImagePolicy, now: Timestamp) -> Vec<String> {
    if capacity == 0 {
        return Vec::new();
    }
    let used = capacity.saturating_sub(available);
    if u128::from(used) * 100 < u128::from(capacity) * u128::from(policy.high_percent) {
        return Vec::new();
    }
    let keep_free = (u128::from(capacity) * u128::from(100 - policy.low_percent.min(100)) / 100) as u64;
    let mut to_free = keep_free.saturating_sub(available);
    let mut unused: Vec<&ImageUse> = all
        .iter()
        .filter(|image| !image.in_use && !image.pinned && now.duration_since(image.detected) >= policy.min_age)
        .collect();
    unused.sort_by_key(|image| (image.last_used, image.detected));
    let mut out = Vec::new();
    for image in unused {
        if to_free == 0 {
            break;
        }
        to_free = to_free.saturating_sub(image.size.max(1));
        out.push(image.id.clone());
    }
    out
}

/// Dead containers of a pod to remove: of every name the newest dead one stays, and whatever is newer than it.
/// `containers` newest first.
pub fn dead_containers(containers: &[Container]) -> Vec<String> {
    let mut kept: Vec<&str> = Vec::new();
    let mut out = Vec::new();
    for container in containers {
        let newer = kept.iter().filter(|name| **name == container.name).count();
        if container.state == ContainerState::Exited && newer >= 1 {
            out.push(container.id.clone());
        } else if container.state == ContainerState::Exited {
            kept.push(&container.name);
        }
    }
    out
}

/// Of a pod, what eviction looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodUse {
    /// Its UID.
    pub uid: String,
    /// Its class.
    pub qos: Qos,
    /// Its priority.
    pub priority: i32,
    /// Bytes in use.
    pub used: u64,
    /// Bytes requested.
    pub requested: u64,
    /// It is needed for the node to work.
    pub critical: bool,
}

/// The pod to evict first (`rankMemoryPressure` and `rankDiskPressureFunc`, pkg/kubelet/eviction/helpers.go): those above their requests, of
/// lower priority, further above.
pub fn first_to_evict(pods: &[PodUse]) -> Option<&PodUse> {
    let above = |pod: &PodUse| pod.used > pod.requested;
    let excess = |pod: &PodUse| i128::from(pod.used) - i128::from(pod.requested);
    pods.iter().filter(|pod| !pod.critical).min_by(|a, b| {
        let a_key = (!above(a), a.priority, -excess(a));
        a_key.cmp(&(!above(b), b.priority, -excess(b)))
    })
}
/// What a pod uses of the node's disk, bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StorageUse {
    /// By emptyDir volume.
    pub volumes: BTreeMap<String, u64>,
    /// By container: its writable layer and its logs.
    pub containers: BTreeMap<String, u64>,
}

const EPHEMERAL_STORAGE: &str = "ephemeral-storage";

/// Whether there is anything that [`over_local_storage`] could find.
pub fn is_limited(pod_spec: &PodSpec) -> bool {
    let volumes = pod_spec.volumes.iter().flatten();
    volumes.filter_map(on_disk).any(|empty| empty.size_limit.is_some())
        || spec::containers(pod_spec)
            .iter()
            .any(|(_, c)| resources::limit(c.resources.as_ref(), EPHEMERAL_STORAGE).is_some())
}

/// The volume, if it is an emptyDir that lies on the disk.
fn on_disk(volume: &Volume) -> Option<&EmptyDirVolumeSource> {
    volume
        .empty_dir
        .as_ref()
        .filter(|empty| empty.medium.as_deref().unwrap_or_default().is_empty())
}

/// Why a pod is to be evicted that uses more of the disk than it may; `None` if it does not
/// (`localStorageEviction`, pkg/kubelet/eviction/eviction_manager.go).
pub fn over_local_storage(pod_spec: &PodSpec, used: &StorageUse) -> Option<String> {
    let bytes = |map: &BTreeMap<String, u64>, name: &str| map.get(name).copied().unwrap_or_default();
    let above = |used: u64, limit: i64| limit > 0 && u64::try_from(limit).is_ok_and(|limit| used > limit);
    let volumes = || pod_spec.volumes.iter().flatten();
    for volume in volumes() {
        let limit = on_disk(volume).and_then(|empty| empty.size_limit.as_ref());
        if let Some(limit) = limit.filter(|limit| above(bytes(&used.volumes, &volume.name), amount::value(limit))) {
            let (name, limit) = (&volume.name, &limit.0);
            return Some(format!(
                "Usage of EmptyDir volume {name:?} exceeds the limit {limit:?}. "
            ));
        }
    }
    let limits: Vec<(&Spec, Option<i64>)> = pod_spec
        .containers
        .iter()
        .map(|c| {
            (
                c,
                resources::limit(c.resources.as_ref(), EPHEMERAL_STORAGE).map(amount::value),
            )
        })
        .collect();
    // A container without a limit may take all there is, and so may its pod.
    let of_pod: Option<i64> = limits.iter().map(|(_, limit)| *limit).sum();
    let on_disks: u64 = volumes()
        .filter(|volume| on_disk(volume).is_some())
        .map(|volume| bytes(&used.volumes, &volume.name))
        .sum();
    let all = on_disks + used.containers.values().sum::<u64>();
    if let Some(limit) = of_pod.filter(|limit| above(all, *limit)) {
        return Some(format!(
            "Pod ephemeral local storage usage exceeds the total limit of containers {}. ",
            api::Quantity::bytes(limit)
        ));
    }
    let over = limits
        .into_iter()
        .find(|(c, limit)| limit.is_some_and(|limit| above(bytes(&used.containers, &c.name), limit)))?;
    let limit = resources::limit(over.0.resources.as_ref(), EPHEMERAL_STORAGE)?;
    Some(format!(
        "Container {} exceeded its local ephemeral storage limit {:?}. ",
        over.0.name, limit.0
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_of_the_disk_than_allowed() {
        let spec: PodSpec = serde_json::from_value(serde_json::json!({
            "volumes": [
                {"name": "small", "emptyDir": {"sizeLimit": "1Mi"}},
                {"name": "memory", "emptyDir": {"sizeLimit": "1Mi", "medium": "Memory"}},
                {"name": "open", "emptyDir": {}},
            ],
            "containers": [
                {"name": "a", "resources": {"limits": {"ephemeral-storage": "2Mi"}}},
                {"name": "b", "resources": {"limits": {"ephemeral-storage": "3Mi"}}},
            ],
        }))
        .unwrap();
        assert!(is_limited(&spec));
        assert!(!is_limited(&PodSpec::default()));
        let told = |volumes: &[(&str, u64)], containers: &[(&str, u64)]| {
            let map = |list: &[(&str, u64)]| list.iter().map(|(name, n)| ((*name).to_owned(), n << 10)).collect();
            let used = StorageUse {
                volumes: map(volumes),
                containers: map(containers),
            };
            over_local_storage(&spec, &used)
        };
        assert_eq!(
            told(&[("small", 1024), ("memory", 5000)], &[("a", 2048), ("b", 100)]),
            None
        );
        assert_eq!(
            told(&[("small", 1025)], &[]).as_deref(),
            Some("Usage of EmptyDir volume \"small\" exceeds the limit \"1Mi\". ")
        );
        assert_eq!(
            told(&[("open", 4000)], &[("a", 600), ("b", 600)]).as_deref(),
            Some("Pod ephemeral local storage usage exceeds the total limit of containers 5Mi. ")
        );
        assert_eq!(
            told(&[], &[("a", 2049)]).as_deref(),
            Some("Container a exceeded its local ephemeral storage limit \"2Mi\". ")
        );
        // One container without a limit lifts the pod's.
        let mut open = spec.clone();
        open.containers[1].resources = None;
        let used = StorageUse {
            containers: [("b".to_owned(), 1 << 40)].into(),
            ..StorageUse::default()
        };
        assert_eq!(over_local_storage(&open, &used), None);
    }
}
