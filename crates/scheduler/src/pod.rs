//! A pod, reduced to what scheduling reads.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};

use crate::intern::Interner;
use crate::labels::Labels;
use crate::shape::PodShape;

/// Names one pod for as long as it lives. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodKey(Arc<PodId>);

/// Namespace, name and UID of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodId {
    /// UID: a pod made anew under the same name is another pod.
    pub uid: Box<str>,
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Box<str>,
}

impl PodKey {
    /// A key by its parts.
    #[must_use]
    pub fn new(namespace: &str, name: &str, uid: &str) -> PodKey {
        PodKey::in_namespace(namespace.into(), name, uid)
    }

    fn in_namespace(namespace: Arc<str>, name: &str, uid: &str) -> PodKey {
        let (uid, name) = (uid.into(), name.into());
        PodKey(Arc::new(PodId { uid, namespace, name }))
    }
}

impl Deref for PodKey {
    type Target = PodId;

    fn deref(&self) -> &PodId {
        &self.0
    }
}

impl fmt::Display for PodKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A pod, prepared. What all pods of a template share is in [`PodShape`].
#[derive(Debug, Clone, PartialEq)]
pub struct PodInfo {
    /// Which pod.
    pub key: PodKey,
    /// Everything that its specification asks for.
    pub shape: Arc<PodShape>,
    /// Its labels.
    pub labels: Arc<Labels>,
    /// The node it is bound to.
    pub node_name: Option<Arc<str>>,
    /// `status.nominatedNodeName`.
    pub nominated: Option<Arc<str>>,
    /// When it was started, or made when it was not started yet.
    pub started: Timestamp,
    /// The version of the object that this was read from.
    pub resource_version: Box<str>,
    /// Whether it will never run again and holds nothing on its node.
    pub finished: bool,
    /// Whether it is being deleted.
    pub terminating: bool,
    /// Whether a scheduler's preemption is why it ends.
    pub preempted: bool,
}

impl PodInfo {
    /// Prepares `pod`; `interner` lets pods of one template share what is the same.
    #[must_use]
    pub fn new(pod: &Pod, interner: &Interner) -> PodInfo {
        let metadata = &pod.metadata;
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let namespace = interner.text(metadata.namespace.as_deref().unwrap_or_default());
        let spec = pod.spec.as_ref();
        let status = pod.status.as_ref();
        let name_of = |name: Option<&String>| name.filter(|name| !name.is_empty()).map(|name| interner.text(name));
        let started = status.and_then(|status| status.start_time.as_ref());
        let since = started
            .or(metadata.creation_timestamp.as_ref())
            .map_or(Timestamp::UNIX_EPOCH, |time| time.0);
        PodInfo {
            key: PodKey::in_namespace(namespace.clone(), &text(&metadata.name), &text(&metadata.uid)),
            shape: interner.shape(PodShape::of(namespace, pod)),
            labels: interner.labels(Labels::of(metadata.labels.as_ref())),
            node_name: name_of(spec.and_then(|spec| spec.node_name.as_ref())),
            nominated: name_of(status.and_then(|status| status.nominated_node_name.as_ref())),
            started: since,
            resource_version: text(&metadata.resource_version).into(),
            finished: matches!(status.and_then(|s| s.phase.as_deref()), Some("Succeeded" | "Failed")),
            terminating: metadata.deletion_timestamp.is_some(),
            preempted: status.is_some_and(ends_by_preemption),
        }
    }

    /// Priority; zero when none is set.
    #[must_use]
    pub fn priority(&self) -> i32 {
        self.shape.priority
    }

    /// The node it is bound to.
    #[must_use]
    pub fn node_name(&self) -> Option<&str> {
        self.node_name.as_deref()
    }

    /// Whether both ask for the same, so that one's verdict is the other's.
    #[must_use]
    pub fn is_like(&self, other: &PodInfo) -> bool {
        Arc::ptr_eq(&self.shape, &other.shape) && Arc::ptr_eq(&self.labels, &other.labels)
    }
}

/// Upstream `podTerminatingByPreemption`.
fn ends_by_preemption(status: &PodStatus) -> bool {
    let mut targets = status
        .conditions
        .iter()
        .flatten()
        .filter(|c| c.type_ == "DisruptionTarget");
    targets
        .next()
        .is_some_and(|c| c.status == "True" && c.reason.as_deref() == Some("PreemptionByScheduler"))
}
