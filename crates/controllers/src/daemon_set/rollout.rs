//! Rolling updates (upstream `pkg/controller/daemon/update.go`).

use std::collections::BTreeMap;
use std::sync::Arc;

use api::Rounding;
use k8s_openapi::api::core::v1::Pod;

use super::{Changes, Sync, pods};
use crate::object::{is_deleting, name};
use crate::portion::portion;

/// A node's pods that are not going: at most one of each.
struct OnNode<'a> {
    new: Option<&'a Arc<Pod>>,
    old: Option<&'a Arc<Pod>>,
}

impl Sync<'_> {
    fn rolling_update(&self) -> Option<&k8s_openapi::api::apps::v1::RollingUpdateDaemonSet> {
        self.set.spec.update_strategy.as_ref()?.rolling_update.as_ref()
    }

    pub(super) fn is_rolling(&self) -> bool {
        let strategy = self
            .set
            .spec
            .update_strategy
            .as_ref()
            .and_then(|strategy| strategy.type_.as_deref());
        strategy.unwrap_or("RollingUpdate") == "RollingUpdate"
    }

    pub(super) fn max_surge_is_set(&self) -> bool {
        self.is_rolling() && self.max_surge(100) > 0
    }

    fn max_surge(&self, desired: i32) -> i32 {
        portion(
            self.rolling_update().and_then(|rolling| rolling.max_surge.as_ref()),
            desired,
            Rounding::Up,
        )
    }

    fn max_unavailable(&self, desired: i32) -> i32 {
        portion(
            self.rolling_update()
                .and_then(|rolling| rolling.max_unavailable.as_ref()),
            desired,
            Rounding::Up,
        )
    }

    /// What the update does in this turn.
    pub(super) fn roll_out(&self) -> Changes {
        let mut by_node: BTreeMap<&str, &[Arc<Pod>]> = self
            .by_node
            .iter()
            .map(|(node, pods)| (node.as_str(), pods.as_slice()))
            .collect();
        let mut desired = 0;
        for node in self.nodes.iter().filter(|node| pods::verdict(self.set, node).run) {
            desired += 1;
            by_node.entry(name(&**node)).or_default();
        }
        let (surge, mut unavailable) = (self.max_surge(desired), self.max_unavailable(desired));
        if desired > 0 && surge == 0 && unavailable == 0 {
            unavailable = 1;
        }
        if surge == 0 {
            self.replace(&by_node, unavailable)
        } else {
            self.surge(&by_node, surge)
        }
    }

    /// Old pods go, as many as may be missing; new ones follow in a later turn.
    fn replace(&self, by_node: &BTreeMap<&str, &[Arc<Pod>]>, max_unavailable: i32) -> Changes {
        let (mut unavailable, mut free, mut candidates) = (0, Vec::new(), Vec::new());
        for pods in by_node.values() {
            match self.on_a_node(pods) {
                None => unavailable += 1,
                Some(OnNode {
                    new: Some(new),
                    old: None,
                }) => unavailable += i32::from(!self.is_available(new)),
                Some(OnNode {
                    new: None,
                    old: Some(old),
                }) if !self.is_available(old) => free.push(old.clone()),
                Some(OnNode {
                    new: None,
                    old: Some(old),
                }) => candidates.push(old.clone()),
                Some(_) => unavailable += 1,
            }
        }
        candidates.truncate(usize::try_from(max_unavailable - unavailable).unwrap_or(0));
        free.extend(candidates);
        Changes {
            create_on: Vec::new(),
            delete: free,
        }
    }

    /// New pods come beside old ones, as many as may be too many; old ones go when theirs is available.
    fn surge(&self, by_node: &BTreeMap<&str, &[Arc<Pod>]>, max_surge: i32) -> Changes {
        let (mut surging, mut changes, mut candidates) = (0, Changes::default(), Vec::new());
        for (node, pods) in by_node {
            match self.on_a_node(pods) {
                None => surging += 1,
                Some(OnNode { old: None, .. }) => {}
                Some(OnNode {
                    new: None,
                    old: Some(old),
                }) if !self.is_available(old) => {
                    changes.create_on.push((*node).to_owned());
                }
                Some(OnNode { new: None, .. }) => candidates.push((*node).to_owned()),
                Some(OnNode { new: Some(new), .. }) if !self.is_available(new) => surging += 1,
                Some(OnNode { old: Some(old), .. }) => changes.delete.push(old.clone()),
            }
        }
        candidates.truncate(usize::try_from(max_surge - surging).unwrap_or(0));
        changes.create_on.extend(candidates);
        changes
    }

    /// `None` if there are several of a kind (`findUpdatedPodsOnNode`).
    fn on_a_node<'p>(&self, pods: &'p [Arc<Pod>]) -> Option<OnNode<'p>> {
        let mut there = OnNode { new: None, old: None };
        for pod in pods.iter().filter(|pod| !is_deleting(&***pod)) {
            let place = if self.is_updated(pod) {
                &mut there.new
            } else {
                &mut there.old
            };
            if place.replace(pod).is_some() {
                return None;
            }
        }
        Some(there)
    }
}
