//! Plugins, and the profile that puts them in order.

use crate::cluster::Cluster;
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::queue::ClusterEvent;

/// The largest score a plugin may give after normalisation (upstream `MaxNodeScore`).
pub const MAX_SCORE: i64 = 100;

/// Why a node cannot take a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// What to tell people, in upstream's words; several for several resources.
    pub reasons: Vec<String>,
    /// Whether evicting other pods could change that.
    pub resolvable: bool,
}

impl Rejection {
    /// A rejection that preemption might cure.
    #[must_use]
    pub fn unschedulable(reason: impl Into<String>) -> Rejection {
        Rejection {
            reasons: vec![reason.into()],
            resolvable: true,
        }
    }

    /// A rejection that evicting pods does not cure.
    #[must_use]
    pub fn unresolvable(reason: impl Into<String>) -> Rejection {
        Rejection {
            reasons: vec![reason.into()],
            resolvable: false,
        }
    }
}

/// A scheduling plugin. Every extension point is optional; the names are upstream's.
pub trait Plugin: Send + Sync {
    /// Upstream's name.
    fn name(&self) -> &'static str;

    /// Whether the pod may enter the active queue; otherwise why not (PreEnqueue).
    ///
    /// # Errors
    /// What keeps it out.
    fn pre_enqueue(&self, _pod: &PodInfo) -> Result<(), String> {
        Ok(())
    }

    /// Whether this plugin's filter has anything to say for the pod (PreFilter's Skip).
    fn filters(&self, _pod: &PodInfo) -> bool {
        false
    }

    /// Whether the node can take the pod (Filter).
    ///
    /// # Errors
    /// Why it cannot.
    fn filter(&self, _pod: &PodInfo, _node: &NodeInfo) -> Result<(), Rejection> {
        Ok(())
    }

    /// Whether this plugin scores nodes for the pod (PreScore's Skip).
    fn scores(&self, _pod: &PodInfo) -> bool {
        false
    }

    /// How well the node suits (Score); raw when [`Plugin::normalize`] is overridden.
    fn score(&self, _cluster: &Cluster, _pod: &PodInfo, _node: &NodeInfo) -> i64 {
        0
    }

    /// Brings the raw scores of all feasible nodes into `0..=MAX_SCORE`.
    fn normalize(&self, _scores: &mut [i64]) {}

    /// Whether `event` may make a pod schedulable that this plugin turned down (queueing hint).
    fn wakes_on(&self, event: ClusterEvent) -> bool;
}

/// Scales raw scores to `0..=MAX_SCORE` (upstream helper `DefaultNormalizeScore`).
pub fn default_normalize(scores: &mut [i64], order: Order) {
    let highest = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        let scaled = if highest == 0 { 0 } else { *score * MAX_SCORE / highest };
        *score = match order {
            Order::HighIsGood => scaled,
            Order::LowIsGood => MAX_SCORE - scaled,
        };
    }
}

/// What a raw score means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// More is better.
    HighIsGood,
    /// Less is better.
    LowIsGood,
}

/// The plugins of one scheduler name, with the weights of their scores.
pub struct Profile {
    /// `spec.schedulerName` of the pods that it serves.
    pub scheduler_name: String,
    /// In upstream's order.
    pub plugins: Vec<(Box<dyn Plugin>, i64)>,
    /// `percentageOfNodesToScore`; `None` adapts to the number of nodes.
    pub percentage_of_nodes_to_score: Option<usize>,
}

impl Profile {
    /// Why the pod must not be tried at all, if so.
    #[must_use]
    pub fn gate(&self, pod: &PodInfo) -> Option<String> {
        self.plugins
            .iter()
            .find_map(|(plugin, _)| plugin.pre_enqueue(pod).err())
    }

    /// Whether `event` may help a pod that the plugins `names` turned down.
    #[must_use]
    pub fn wakes<'n>(&self, names: impl IntoIterator<Item = &'n str>, event: ClusterEvent) -> bool {
        names.into_iter().any(|name| {
            let plugin = self.plugins.iter().find(|(plugin, _)| plugin.name() == name);
            plugin.is_none_or(|(plugin, _)| plugin.wakes_on(event))
        })
    }
}
