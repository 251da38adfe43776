//! Rolling and recreating (upstream `rolling.go`, `recreate.go`).

use super::Sync;
use super::sets::Set;
use crate::object::{is_controlled_by, uid};
use crate::plan::Plan;
use crate::pod::is_terminal;

impl Sync<'_> {
    pub(super) fn roll_rolling(&mut self, plan: &mut Plan) {
        self.sync_revision(true, plan);
        if self.sets.new_set().is_none() || self.scale_new_set() || self.scale_old_sets() {
            return;
        }
        self.clean_up_when_complete(plan);
    }

    pub(super) fn roll_recreate(&mut self, plan: &mut Plan) {
        self.sync_revision(false, plan);
        let (replicas, surge) = (self.replicas, self.max_surge());
        let mut scaled = false;
        for old in self.sets.old_mut().filter(|old| old.is_active()) {
            Self::resize(old, 0, replicas, surge);
            scaled = true;
        }
        if scaled || self.old_pods_remain() {
            return;
        }
        if self.sets.new_set().is_none() {
            self.sync_revision(true, plan);
        }
        let Some(new) = self.sets.new_set_mut() else { return };
        if new.replicas() != replicas {
            Self::resize(new, replicas, replicas, surge);
        }
        self.clean_up_when_complete(plan);
    }

    /// Any pod of an old set that has not ended.
    fn old_pods_remain(&self) -> bool {
        self.sets.old().any(|old| {
            let owner = uid(&old.set);
            let mut pods = self.world.pods().owned_by(owner).into_iter();
            old.actual() > 0 || pods.any(|pod| is_controlled_by(&*pod, owner) && !is_terminal(&pod))
        })
    }

    fn clean_up_when_complete(&self, plan: &mut Plan) {
        if self.is_complete(&self.status) {
            self.clean_up(plan);
        }
    }

    /// Whether the new set was resized.
    fn scale_new_set(&mut self) -> bool {
        let (replicas, surge) = (self.replicas, self.max_surge());
        let size = match self.sets.new_set().map_or(0, Set::replicas) {
            current if current == replicas => return false,
            current if current > replicas => replicas,
            _ => self.new_set_replicas(),
        };
        match self.sets.new_set_mut() {
            Some(new) if new.replicas() != size => {
                Self::resize(new, size, replicas, surge);
                true
            }
            _ => false,
        }
    }

    /// Whether old sets were resized: first their unhealthy pods go, then as many as may be
    /// unavailable, never counting on pods of the new set that are not available yet.
    fn scale_old_sets(&mut self) -> bool {
        if self.sets.old().map(Set::replicas).sum::<i32>() == 0 {
            return false;
        }
        let min_available = self.replicas - self.max_unavailable();
        let unavailable = self.sets.new_set().map_or(0, |new| new.replicas() - new.available());
        let most = self.sets.replicas() - min_available - unavailable;
        if most <= 0 {
            return false;
        }
        let cleaned = self.shrink_old(most, |old| old.replicas() - old.available());
        let spare = self.sets.available() - min_available;
        let shrunk = if spare > 0 {
            self.shrink_old(spare, Set::replicas)
        } else {
            0
        };
        cleaned + shrunk > 0
    }

    /// Takes up to `most` pods from the old sets, oldest first, up to `of` each.
    fn shrink_old(&mut self, most: i32, of: impl Fn(&Set) -> i32) -> i32 {
        let (replicas, surge) = (self.replicas, self.max_surge());
        let mut taken = 0;
        for old in self.sets.old_mut() {
            let take = of(old).min(old.replicas()).min(most - taken);
            if take > 0 {
                let size = old.replicas() - take;
                Self::resize(old, size, replicas, surge);
                taken += take;
            }
        }
        taken
    }
}
