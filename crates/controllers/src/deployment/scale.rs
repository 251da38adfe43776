//! Sizes: fenceposts, scaling events, proportional scaling (upstream `sync.go`,
//! `deployment_util.go`).

use api::Rounding;

use super::Sync;
use super::revision::{DESIRED_REPLICAS, MAX_REPLICAS};
use super::sets::{Set, older_first};
use crate::object::annotation;
use crate::portion::portion;

fn number(set: &Set, key: &str) -> Option<i32> {
    annotation(&set.set, key)?.parse().ok()
}

impl Sync<'_> {
    pub(super) fn is_rolling(&self) -> bool {
        let strategy = self
            .spec
            .strategy
            .as_ref()
            .and_then(|strategy| strategy.type_.as_deref());
        strategy != Some("Recreate")
    }

    /// maxSurge and maxUnavailable in pods; not both zero (`ResolveFenceposts`).
    fn fenceposts(&self) -> (i32, i32) {
        let rolling = self
            .spec
            .strategy
            .as_ref()
            .and_then(|strategy| strategy.rolling_update.as_ref());
        let surge = portion(rolling.and_then(|r| r.max_surge.as_ref()), self.replicas, Rounding::Up);
        let unavailable = portion(
            rolling.and_then(|r| r.max_unavailable.as_ref()),
            self.replicas,
            Rounding::Down,
        );
        if surge == 0 && unavailable == 0 {
            (0, 1)
        } else {
            (surge, unavailable)
        }
    }

    pub(super) fn max_surge(&self) -> i32 {
        if self.is_rolling() { self.fenceposts().0 } else { 0 }
    }

    pub(super) fn max_unavailable(&self) -> i32 {
        if !self.is_rolling() || self.replicas == 0 {
            return 0;
        }
        self.fenceposts().1.min(self.replicas)
    }

    /// How large the new set may be now (`NewRSNewReplicas`).
    pub(super) fn new_set_replicas(&self) -> i32 {
        let current = self.sets.new_set().map_or(0, Set::replicas);
        if !self.is_rolling() {
            return self.replicas;
        }
        let (total, most) = (self.sets.replicas(), self.replicas + self.max_surge());
        if total >= most {
            return current;
        }
        current + (most - total).min(self.replicas - current)
    }

    /// Whether the wanted number of pods has changed since the sets were last sized.
    pub(super) fn is_scaling_event(&self) -> bool {
        let mut active = self.sets.all.iter().filter(|set| set.is_active());
        active.any(|set| number(set, DESIRED_REPLICAS).is_some_and(|desired| desired != self.replicas))
    }

    /// Resizes a set and notes for which size of the deployment.
    pub(super) fn resize(set: &mut Set, size: i32, replicas: i32, surge: i32) {
        set.set_replicas(size);
        set.annotate(DESIRED_REPLICAS, &replicas.to_string());
        set.annotate(MAX_REPLICAS, &(replicas + surge).to_string());
    }

    /// Spreads a change of size over the sets, so that a rollout under way is not hastened.
    pub(super) fn scale_proportionally(&mut self) {
        let (replicas, surge) = (self.replicas, self.max_surge());
        let active = self.sets.all.iter().filter(|set| set.is_active()).count();
        if active <= 1 {
            if let Some(set) = self.active_or_latest()
                && set.replicas() != replicas
            {
                Self::resize(set, replicas, replicas, surge);
            }
            return;
        }
        if self.is_saturated() {
            for old in self.sets.old_mut().filter(|old| old.is_active()) {
                Self::resize(old, 0, replicas, surge);
            }
        } else if self.is_rolling() {
            self.spread(replicas, surge);
        }
    }

    fn active_or_latest(&mut self) -> Option<&mut Set> {
        if let Some(index) = self.sets.all.iter().position(Set::is_active) {
            return Some(&mut self.sets.all[index]);
        }
        if self.sets.new_set().is_some() {
            return self.sets.new_set_mut();
        }
        self.sets.all.last_mut()
    }

    /// Whether the new set has all pods, and they are available.
    fn is_saturated(&self) -> bool {
        self.sets.new_set().is_some_and(|new| {
            new.replicas() == self.replicas
                && number(new, DESIRED_REPLICAS) == Some(self.replicas)
                && new.available() == self.replicas
        })
    }

    fn spread(&mut self, replicas: i32, surge: i32) {
        let allowed = if replicas > 0 { replicas + surge } else { 0 };
        let mut order: Vec<usize> = (0..self.sets.all.len())
            .filter(|i| self.sets.all[*i].is_active())
            .collect();
        let total: i32 = order.iter().map(|index| self.sets.all[*index].replicas()).sum();
        let to_add = allowed - total;
        order.sort_by(|a, b| {
            let (a, b) = (&self.sets.all[*a], &self.sets.all[*b]);
            let by_age = older_first(&a.set, &b.set);
            b.replicas()
                .cmp(&a.replicas())
                .then(if to_add > 0 { by_age.reverse() } else { by_age })
        });
        let deployed = self.status.replicas.unwrap_or(0);
        let mut added = 0;
        let mut sizes = Vec::with_capacity(order.len());
        for index in &order {
            let set = &self.sets.all[*index];
            let share = proportion(set, replicas, surge, deployed, to_add, added);
            added += share;
            sizes.push(set.replicas() + share);
        }
        if let Some(largest) = sizes.first_mut() {
            *largest = (*largest + to_add - added).max(0);
        }
        for (index, size) in order.into_iter().zip(sizes) {
            Self::resize(&mut self.sets.all[index], size, replicas, surge);
        }
    }
}

/// A set's share of the pods to add or remove (`GetProportion`).
fn proportion(set: &Set, replicas: i32, surge: i32, deployed: i32, to_add: i32, added: i32) -> i32 {
    if set.replicas() == 0 || to_add == 0 || to_add == added {
        return 0;
    }
    let fraction = if replicas == 0 {
        -set.replicas()
    } else {
        let annotated = number(set, MAX_REPLICAS).unwrap_or(deployed);
        let size = f64::from(set.replicas()) * f64::from(replicas + surge) / f64::from(annotated);
        size.round() as i32 - set.replicas()
    };
    let allowed = to_add - added;
    if to_add > 0 {
        fraction.min(allowed)
    } else {
        fraction.max(allowed)
    }
}
