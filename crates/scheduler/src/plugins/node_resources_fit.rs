//! What pods ask for must fit what the node has left; emptier nodes score higher (LeastAllocated).

use crate::cluster::Cluster;
use crate::framework::{MAX_SCORE, Plugin, Rejection};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::queue::ClusterEvent;

pub(super) struct NodeResourcesFit;

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn filters(&self, _pod: &PodInfo) -> bool {
        true
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let mut rejection = Rejection {
            reasons: Vec::new(),
            resolvable: true,
        };
        if node.pods.len() as i64 + 1 > node.allowed_pods {
            rejection.reasons.push("Too many pods".into());
        }
        let (need, have, used) = (&pod.requests, &node.allocatable, &node.requested);
        let scalar = need.scalar.iter().map(|(name, amount)| {
            let of = |list: &std::collections::BTreeMap<String, i64>| list.get(name).copied().unwrap_or(0);
            (name.as_str(), *amount, of(&have.scalar), of(&used.scalar))
        });
        let amounts = [
            ("cpu", need.milli_cpu, have.milli_cpu, used.milli_cpu),
            ("memory", need.memory, have.memory, used.memory),
            (
                "ephemeral-storage",
                need.ephemeral_storage,
                have.ephemeral_storage,
                used.ephemeral_storage,
            ),
        ];
        for (name, need, have, used) in amounts.into_iter().chain(scalar) {
            if need > 0 && need > have - used {
                rejection.reasons.push(format!("Insufficient {name}"));
                // More than the whole node has: no eviction makes room.
                rejection.resolvable &= need <= have;
            }
        }
        if rejection.reasons.is_empty() {
            Ok(())
        } else {
            Err(rejection)
        }
    }

    fn scores(&self, _pod: &PodInfo) -> bool {
        true
    }

    fn score(&self, _cluster: &Cluster, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let (need, have, used) = (&pod.nonzero, &node.allocatable, &node.nonzero_requested);
        let free_share = |have: i64, used: i64| {
            if have == 0 || used > have {
                0
            } else {
                (have - used) * MAX_SCORE / have
            }
        };
        let amounts = [
            (have.milli_cpu, used.milli_cpu + need.milli_cpu),
            (have.memory, used.memory + need.memory),
        ];
        let known: Vec<_> = amounts.into_iter().filter(|(have, _)| *have > 0).collect();
        if known.is_empty() {
            return 0;
        }
        known.iter().map(|(have, used)| free_share(*have, *used)).sum::<i64>() / known.len() as i64
    }

    fn wakes_on(&self, event: ClusterEvent) -> bool {
        event == ClusterEvent::PodRemoved || event.is_node()
    }
}
