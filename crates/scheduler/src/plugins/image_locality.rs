//! Prefers nodes that have the pod's images.

use crate::cluster::Cluster;
use crate::framework::{MAX_SCORE, Plugin};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::queue::ClusterEvent;

/// Below this the images do not matter (upstream `minThreshold`), bytes.
const MIN_BYTES: i64 = 23 * 1024 * 1024;
/// Above this a container's images matter no more (upstream `maxContainerThreshold`), bytes.
const MAX_BYTES_PER_CONTAINER: i64 = 1000 * 1024 * 1024;

pub(super) struct ImageLocality;

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        "ImageLocality"
    }

    fn scores(&self, _pod: &PodInfo) -> bool {
        true
    }

    fn score(&self, cluster: &Cluster, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let total = i64::try_from(cluster.node_count().max(1)).unwrap_or(i64::MAX);
        let spec = pod.spec();
        let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        let (mut sum, mut count) = (0, 0);
        for container in containers {
            count += 1;
            let name = normalized(container.image.as_deref().unwrap_or_default());
            if let Some(size) = node.images.get(&name) {
                // An image that most nodes have draws less (upstream `scaledImageScore`).
                let having = cluster.nodes().filter(|node| node.images.contains_key(&name)).count();
                sum += size * i64::try_from(having).unwrap_or(total) / total;
            }
        }
        let most = MAX_BYTES_PER_CONTAINER * i64::from(count.max(1));
        (sum.clamp(MIN_BYTES, most) - MIN_BYTES) * MAX_SCORE / (most - MIN_BYTES)
    }

    fn wakes_on(&self, _event: ClusterEvent) -> bool {
        false
    }
}

/// Adds `:latest` where neither tag nor digest is named.
fn normalized(name: &str) -> String {
    match name.rfind(':') {
        Some(colon) if name.rfind('/').is_none_or(|slash| colon > slash) => name.to_owned(),
        _ if name.contains('@') => name.to_owned(),
        _ => format!("{name}:latest"),
    }
}
