//! Prefers nodes that have the pod's images.

use std::sync::Arc;

use crate::framework::{Context, MAX_SCORE, Plugin, Point, PreScore, Scorer};
use crate::node::NodeInfo;
use crate::pod::PodInfo;

/// Below this the images do not matter (upstream `minThreshold`), bytes.
const MIN_BYTES: i64 = 23 * 1024 * 1024;
/// Above this a container's images matter no more (upstream `maxContainerThreshold`), bytes.
const MAX_BYTES_PER_IMAGE: i64 = 1000 * 1024 * 1024;

pub(super) struct ImageLocality;

struct Images {
    pod: Arc<PodInfo>,
    /// The share of nodes that have each image.
    shares: Vec<f64>,
}

impl Scorer for Images {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "bytes of images"
    )]
    fn score(&self, node: &NodeInfo) -> i64 {
        if node.images.is_empty() {
            return 0;
        }
        let images = &self.pod.shape.images;
        // An image that few nodes have draws less: pods do not all heat one node (`scaledImageScore`).
        let held = images
            .iter()
            .zip(&self.shares)
            .filter_map(|(name, share)| Some((node.images.get(name)?, share)));
        let sum: i64 = held.map(|(size, share)| (*size as f64 * share) as i64).sum();
        let most = MAX_BYTES_PER_IMAGE * i64::try_from(images.len()).unwrap_or(1);
        (sum.clamp(MIN_BYTES, most) - MIN_BYTES) * MAX_SCORE / (most - MIN_BYTES)
    }
}

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        "ImageLocality"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Score]
    }

    #[expect(clippy::cast_precision_loss, reason = "numbers of nodes")]
    fn pre_score(&self, context: &Context, pod: &Arc<PodInfo>, _feasible: &[&NodeInfo]) -> PreScore {
        let total = context.cluster.node_count() as f64;
        let images = &pod.shape.images;
        let shares: Vec<f64> = images
            .iter()
            .map(|name| f64::from(context.cluster.nodes_with_image(name)) / total)
            .collect();
        // Images that no node has give every node zero.
        if shares.iter().all(|share| *share == 0.0) {
            return PreScore::Skip;
        }
        PreScore::run(Images {
            pod: pod.clone(),
            shares,
        })
    }
}
