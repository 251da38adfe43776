//! The extension points (upstream framework/interface.go).

use std::sync::Arc;

use api::Gvr;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::event::{Event, Registration, Resource, Shared};
use super::profile::{Point, Profile};
use super::rejection::Rejection;
use crate::cluster::Cluster;
use crate::cycle::{ActiveFilter, Judge};
use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::verdict::Verdict;

/// What a plugin decides on.
#[derive(Debug, Clone, Copy)]
pub struct Context<'c> {
    /// The cluster.
    pub cluster: &'c Cluster,
    /// The time.
    pub now: Timestamp,
}

/// A scheduling plugin. Every extension point is optional; the names are upstream's.
///
/// A plugin is shared by all pods. What it knows of the cluster beyond [`Cluster`] it gets through
/// [`Plugin::observe`] and keeps behind a lock of its own; what it works out for one pod is in the
/// [`Filter`] and [`Scorer`] that it returns, which live for one decision.
pub trait Plugin: Send + Sync {
    /// Upstream's name.
    fn name(&self) -> &'static str;

    /// The extension points that it has.
    fn points(&self) -> &'static [Point];

    /// The kinds that [`Plugin::observe`] wants to see, besides pods, nodes and namespaces.
    fn watches(&self) -> &'static [Resource] {
        &[]
    }

    /// Whether `pod` needs what [`Plugin::watches`] names. The first such pod starts the watches, and
    /// waits until they are complete.
    fn concerns(&self, _pod: &PodInfo) -> bool {
        true
    }

    /// An object of a watched kind came (no `old`), changed, or went (no `new`).
    fn observe(&self, _resource: Resource, _old: Option<&Shared>, _new: Option<&Shared>) {}

    /// Events that may let a pod in that this plugin turned down (`EventsToRegister`).
    fn events(&self) -> Vec<Registration> {
        Vec::new()
    }

    /// Whether this event, one of [`Plugin::events`], may let this pod in (`QueueingHintFn`).
    fn hint(&self, _context: &Context, _pod: &PodInfo, _event: &Event) -> bool {
        true
    }

    /// Whether the pod may enter the active queue (PreEnqueue).
    ///
    /// # Errors
    /// What keeps it out.
    fn pre_enqueue(&self, _context: &Context, _pod: &PodInfo) -> Result<(), String> {
        Ok(())
    }

    /// Works out what [`Filter::check`] needs (PreFilter).
    fn pre_filter(&self, _context: &Context, _pod: &Arc<PodInfo>) -> PreFilter {
        PreFilter::Skip
    }

    /// Makes room for a pod that no node could take (PostFilter).
    fn post_filter(&self, _context: &mut PostFilterContext, _pod: &Arc<PodInfo>) -> PostFilter {
        PostFilter::Unschedulable(String::new())
    }

    /// Works out what [`Scorer::score`] needs (PreScore).
    fn pre_score(&self, _context: &Context, _pod: &Arc<PodInfo>, _feasible: &[&NodeInfo]) -> PreScore {
        PreScore::Skip
    }

    /// The pod was placed: takes for it what it needs on the node (Reserve).
    ///
    /// # Errors
    /// Why that is not to be had.
    fn reserve(&self, _context: &Context, _pod: &Arc<PodInfo>, _node: &NodeInfo) -> Result<(), Rejection> {
        Ok(())
    }

    /// Gives back what [`Plugin::reserve`] took, also when that failed. Must bear being called twice.
    fn unreserve(&self, _context: &Context, _pod: &PodInfo) {}

    /// Whether the pod may be bound now (Permit). A pod that waits is asked about again whenever a pod
    /// is reserved or given up.
    fn permit(&self, _context: &Context, _pod: &Arc<PodInfo>, _node: &NodeInfo) -> Permit {
        Permit::Allow
    }

    /// What has to be written or waited for before the pod is bound (PreBind). It is asked again after
    /// its writes are done, and after each change that [`Plugin::observe`] saw, until it is done.
    fn pre_bind(&self, _context: &Context, _pod: &Arc<PodInfo>, _node: &str) -> PreBind {
        PreBind::Done
    }

    /// How the pod is bound (Bind); `None` leaves it to the next plugin.
    fn bind(&self, _pod: &PodInfo) -> Option<Binding> {
        None
    }

    /// The pod is bound (PostBind).
    fn post_bind(&self, _pod: &PodInfo) {}
}

/// What PreFilter found.
pub enum PreFilter {
    /// The plugin has nothing to say about this pod.
    Skip,
    /// No node can take it.
    Reject(Rejection),
    /// Nodes are to be asked.
    Run {
        /// What asks a node; `None` when only `nodes` matter.
        filter: Option<Box<dyn Filter>>,
        /// Names of the only nodes that come into question.
        nodes: Option<Vec<String>>,
    },
}

impl PreFilter {
    /// Asks every node.
    pub fn run(filter: impl Filter + 'static) -> PreFilter {
        PreFilter::Run {
            filter: Some(Box::new(filter)),
            nodes: None,
        }
    }
}

/// Asks nodes about one pod. It must own or share what it needs, and not look at the cluster again.
pub trait Filter: Send {
    /// Whether the node can take the pod (Filter).
    ///
    /// # Errors
    /// Why not.
    fn check(&self, node: &NodeInfo) -> Result<(), Rejection>;

    /// As if `pod` were on `node` too (`AddPod`).
    fn add_pod(&mut self, _pod: &PodInfo, _node: &NodeInfo) {}

    /// As if `pod` were not on `node` (`RemovePod`); undoes [`Filter::add_pod`], and the other way round.
    fn remove_pod(&mut self, _pod: &PodInfo, _node: &NodeInfo) {}
}

/// What PreScore found.
pub enum PreScore {
    /// The plugin has nothing to say about this pod.
    Skip,
    /// Nodes are to be scored.
    Run(Box<dyn Scorer>),
}

impl PreScore {
    /// Scores every node.
    pub fn run(scorer: impl Scorer + 'static) -> PreScore {
        PreScore::Run(Box::new(scorer))
    }
}

/// Scores nodes for one pod.
pub trait Scorer: Send {
    /// How good the node is (Score).
    fn score(&self, node: &NodeInfo) -> i64;

    /// Brings all scores into 0..=100 (`NormalizeScore`).
    fn normalize(&self, _scores: &mut [i64], _nodes: &[&NodeInfo]) {}
}

/// What PostFilter works with.
pub struct PostFilterContext<'c> {
    /// The cluster.
    pub cluster: &'c Cluster,
    /// The profile whose filters turned the pod down.
    pub profile: &'c Profile,
    /// The filters, as they were for the pod.
    pub filters: &'c mut [ActiveFilter],
    /// What they said.
    pub verdict: &'c Verdict,
    /// Extenders.
    pub judge: &'c mut dyn Judge,
    /// A random number.
    pub random: u64,
    /// The time.
    pub now: Timestamp,
}

/// What PostFilter found.
#[derive(Debug, Clone, PartialEq)]
pub enum PostFilter {
    /// No way, in words (empty for nothing to say).
    Unschedulable(String),
    /// Once these pods are gone, the pod fits on the node.
    Preempt {
        /// The node.
        node: Arc<str>,
        /// The pods.
        victims: Vec<Arc<PodInfo>>,
    },
    /// Writes that may help, and what to say.
    Act(Vec<Write>, String),
}

/// What Permit says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Permit {
    /// Go on.
    Allow,
    /// Not on this node, now.
    Reject(Rejection),
    /// Not yet; after this long the pod is turned down.
    Wait(SignedDuration),
}

/// What PreBind says.
#[derive(Debug, Clone, PartialEq)]
pub enum PreBind {
    /// The pod can be bound.
    Done,
    /// Do these writes, then wait for changes; give up at the time named.
    Wait {
        /// Writes, in order; a failure turns the pod down.
        writes: Vec<Write>,
        /// The end of patience.
        until: Option<Timestamp>,
    },
    /// It cannot be bound there.
    Reject(Rejection),
}

/// How an object is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Made.
    Create,
    /// Replaced, at the resource version that the body has.
    Update,
    /// Patched with a merge patch.
    MergePatch,
    /// Deleted.
    Delete,
}

/// A write to the API.
#[derive(Debug, Clone, PartialEq)]
pub struct Write {
    /// What is done.
    pub verb: Verb,
    /// The kind of object.
    pub resource: Gvr,
    /// Its namespace; empty for none.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// A subresource; empty for none.
    pub subresource: &'static str,
    /// The object or the patch.
    pub body: Value,
}

/// Who binds a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binding {
    /// The scheduler, through the API.
    Api,
    /// The extender of this number in the configuration.
    Extender(usize),
}
