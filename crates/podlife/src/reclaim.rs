//! What to remove to get space back: images, dead containers, pods.

use jiff::{SignedDuration, Timestamp};

use crate::Qos;
use crate::observed::{Container, ContainerState};

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

/// The pod to evict first (`rankMemoryPressure`, pkg/kubelet/eviction/helpers.go): those above their requests, of
/// lower priority, further above.
pub fn first_to_evict(pods: &[PodUse]) -> Option<&PodUse> {
    let above = |pod: &PodUse| pod.used > pod.requested;
    let excess = |pod: &PodUse| i128::from(pod.used) - i128::from(pod.requested);
    pods.iter().filter(|pod| !pod.critical).min_by(|a, b| {
        let a_key = (!above(a), a.priority, -excess(a));
        a_key.cmp(&(!above(b), b.priority, -excess(b)))
    })
}
