//! Taints keep pods away, or make a node less welcome.

use crate::cluster::Cluster;
use crate::framework::{Order, Plugin, Rejection, default_normalize};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::queue::ClusterEvent;
use placement::{first_untolerated, tolerates};

pub(super) struct TaintToleration;

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn filters(&self, _pod: &PodInfo) -> bool {
        true
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        match first_untolerated(node.taints(), pod.tolerations(), &["NoSchedule", "NoExecute"]) {
            None => Ok(()),
            Some(taint) => {
                let value = taint.value.as_deref().unwrap_or_default();
                let reason = format!("node(s) had untolerated taint {{{}: {value}}}", taint.key);
                Err(Rejection::unresolvable(reason))
            }
        }
    }

    fn scores(&self, _pod: &PodInfo) -> bool {
        true
    }

    fn score(&self, _cluster: &Cluster, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let tolerated = |taint| pod.tolerations().iter().any(|toleration| tolerates(toleration, taint));
        let disliked = node
            .taints()
            .iter()
            .filter(|taint| taint.effect == "PreferNoSchedule" && !tolerated(taint));
        i64::try_from(disliked.count()).unwrap_or(i64::MAX)
    }

    fn normalize(&self, scores: &mut [i64]) {
        default_normalize(scores, Order::LowIsGood);
    }

    fn wakes_on(&self, event: ClusterEvent) -> bool {
        event.is_node()
    }
}
