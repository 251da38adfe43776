//! How full a node would be, as a score (upstream noderesources/resource_allocation.go and its
//! strategies).

use std::sync::Arc;

use crate::config::args::ResourceSpec;
use crate::framework::MAX_SCORE;
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::resources::Resources;

/// A resource that is scored.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Which {
    Cpu,
    Memory,
    EphemeralStorage,
    Scalar(Arc<str>),
}

/// One resource, with what the pod at hand asks of it.
#[derive(Debug, Clone)]
pub(super) struct Scored {
    which: Which,
    weight: i64,
    request: i64,
}

/// What a node has of a resource, what of it is taken, and what would be with the pod.
pub(super) struct Level {
    pub(super) weight: i64,
    pub(super) capacity: i64,
    pub(super) before: i64,
    pub(super) after: i64,
}

/// The resources that count for a pod: an extended one only when the pod asks for it.
pub(super) fn scored(specs: &[ResourceSpec], requests: &Resources) -> Vec<Scored> {
    let all = specs.iter().map(|spec| Scored {
        which: match spec.name.as_str() {
            "cpu" => Which::Cpu,
            "memory" => Which::Memory,
            "ephemeral-storage" => Which::EphemeralStorage,
            name => Which::Scalar(name.into()),
        },
        weight: spec.weight,
        request: requests.amount(&spec.name),
    });
    all.filter(|scored| scored.request > 0 || !matches!(scored.which, Which::Scalar(_)))
        .collect()
}

impl Scored {
    /// The node's level; `None` where it has none of the resource. `used` is what its pods take of CPU
    /// and memory; the rest is always counted exactly.
    pub(super) fn level(&self, node: &NodeInfo, used: &Resources) -> Option<Level> {
        let (capacity, before) = match &self.which {
            Which::Cpu => (node.allocatable.milli_cpu, used.milli_cpu),
            Which::Memory => (node.allocatable.memory, used.memory),
            Which::EphemeralStorage => (node.allocatable.ephemeral_storage, node.requested.ephemeral_storage),
            Which::Scalar(name) => (node.allocatable.scalar(name), node.requested.scalar(name)),
        };
        (capacity != 0).then_some(Level {
            weight: self.weight,
            capacity,
            before,
            after: before + self.request,
        })
    }

    pub(super) fn request(&self) -> i64 {
        self.request
    }
}

/// A scoring strategy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Strategy {
    LeastAllocated,
    MostAllocated,
    /// Points of utilisation and score, both of 0..=100, in order.
    RequestedToCapacityRatio(Vec<(i64, i64)>),
}

impl Strategy {
    pub(super) fn score(&self, levels: impl Iterator<Item = Level>) -> i64 {
        let (mut sum, mut weights) = (0, 0);
        for level in levels {
            let score = match self {
                Strategy::LeastAllocated if level.after > level.capacity => 0,
                Strategy::LeastAllocated => (level.capacity - level.after) * MAX_SCORE / level.capacity,
                Strategy::MostAllocated => level.after.min(level.capacity) * MAX_SCORE / level.capacity,
                Strategy::RequestedToCapacityRatio(shape) => {
                    let utilisation = match level.after > level.capacity {
                        true => 100,
                        false => level.after * 100 / level.capacity,
                    };
                    let score = broken_line(shape, utilisation);
                    // A resource that scores nothing does not dilute the others.
                    if score <= 0 {
                        continue;
                    }
                    score
                }
            };
            sum += score * level.weight;
            weights += level.weight;
        }
        match (self, weights) {
            (_, 0) => 0,
            (Strategy::RequestedToCapacityRatio(_), _) => rounded(sum, weights),
            _ => sum / weights,
        }
    }
}

#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "scores")]
pub(super) fn rounded(sum: i64, weights: i64) -> i64 {
    (sum as f64 / weights as f64).round() as i64
}

/// Linear between the points, level outside (upstream `BuildBrokenLinearFunction`).
pub(super) fn broken_line(shape: &[(i64, i64)], at: i64) -> i64 {
    let Some(next) = shape.iter().position(|(x, _)| at <= *x) else {
        return shape.last().map_or(0, |(_, y)| *y);
    };
    if next == 0 {
        return shape[0].1;
    }
    let ((x0, y0), (x1, y1)) = (shape[next - 1], shape[next]);
    y0 + (y1 - y0) * (at - x0) / (x1 - x0)
}

/// One minus the standard deviation of the shares in use, as a score (upstream `balancedResourceScore`).
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "shares between 0 and 1"
)]
pub(super) fn balance(levels: &[Level], used: impl Fn(&Level) -> i64) -> i64 {
    let share = |level: &Level| (used(level) as f64 / level.capacity as f64).min(1.0);
    let deviation = match levels {
        [one, two] => ((share(one) - share(two)) / 2.0).abs(),
        [] | [_] => 0.0,
        _ => {
            let shares: Vec<f64> = levels.iter().map(share).collect();
            let count = shares.len() as f64;
            let mean = shares.iter().sum::<f64>() / count;
            (shares.iter().map(|share| (share - mean) * (share - mean)).sum::<f64>() / count).sqrt()
        }
    };
    ((1.0 - deviation) * MAX_SCORE as f64) as i64
}

/// What the pod asks for, of all resources that count.
pub(super) fn asks_for_any(scored: &[Scored]) -> bool {
    scored.iter().any(|scored| scored.request() > 0)
}

/// What the pod is taken to use of CPU and memory, and asks for of the rest.
pub(super) fn assumed_requests(pod: &PodInfo) -> &Resources {
    &pod.shape.nonzero
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(capacity: i64, after: i64) -> Level {
        Level {
            weight: 1,
            capacity,
            before: 0,
            after,
        }
    }

    #[test]
    fn strategies() {
        let ratio = Strategy::RequestedToCapacityRatio(vec![(0, 0), (100, 100)]);
        let cases = [
            (
                Strategy::LeastAllocated,
                vec![level(4000, 3000), level(10_000, 5000)],
                37,
            ),
            (Strategy::LeastAllocated, vec![level(4000, 5000)], 0),
            (
                Strategy::MostAllocated,
                vec![level(4000, 3000), level(10_000, 5000)],
                62,
            ),
            (Strategy::MostAllocated, vec![level(4000, 5000)], 100),
            (ratio.clone(), vec![level(4000, 3000), level(10_000, 5000)], 63),
            (ratio, vec![level(4000, 0), level(10_000, 5000)], 50),
            (Strategy::LeastAllocated, vec![], 0),
        ];
        for (strategy, levels, expected) in cases {
            assert_eq!(strategy.score(levels.into_iter()), expected, "{strategy:?}");
        }
    }

    #[test]
    fn broken_lines() {
        let shape = [(0, 0), (50, 80), (100, 20)];
        for (at, expected) in [(0, 0), (25, 40), (50, 80), (75, 50), (100, 20), (120, 20)] {
            assert_eq!(broken_line(&shape, at), expected, "{at}");
        }
    }

    #[test]
    fn balances() {
        assert_eq!(balance(&[level(10, 5), level(100, 50)], |level| level.after), 100);
        assert_eq!(balance(&[level(10, 10), level(100, 0)], |level| level.after), 50);
        assert_eq!(balance(&[level(10, 3)], |level| level.after), 100);
        assert_eq!(
            balance(&[level(10, 6), level(10, 3), level(10, 0)], |level| level.after),
            75
        );
    }
}
