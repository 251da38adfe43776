//! What a quota's objects use in truth (upstream `apiserver/pkg/quota/v1/resources.go`
//! CalculateUsage, `pkg/controller/resourcequota`).

use api::{GroupResource, Value};
use jiff::Timestamp;

use crate::amounts::{self, Amounts};
use crate::{Evaluator, Requirement, at};

/// Adds up what a namespace's objects use of one quota.
#[derive(Clone, Debug)]
pub struct Tally {
    hard: Amounts,
    scopes: Vec<Requirement>,
    sum: Amounts,
    now: Timestamp,
}

impl Tally {
    /// Of a `ResourceQuota`, with nothing counted yet.
    pub fn of(quota: &Value, now: Timestamp) -> Self {
        Self {
            hard: amounts::read(at(quota, "spec.hard")),
            scopes: Requirement::of_quota(quota),
            sum: Amounts::new(),
            now,
        }
    }

    /// Whether objects of that resource have to be counted.
    pub fn wants(&self, resource: &GroupResource) -> bool {
        let evaluator = Evaluator::of(resource);
        self.hard.keys().any(|name| evaluator.matches_resource(name))
    }

    /// Counts all of a resource's objects.
    pub fn count<'v>(&mut self, resource: &GroupResource, objects: impl IntoIterator<Item = &'v Value>) {
        let evaluator = Evaluator::of(resource);
        self.seen(&evaluator);
        for object in objects {
            let within = self
                .scopes
                .iter()
                .all(|requirement| evaluator.matches_scope(requirement, object));
            if within {
                let usage = evaluator.usage(object, self.now);
                amounts::add(&mut self.sum, &usage);
            }
        }
    }

    /// Counts objects of which no more is known than how many there are. Scopes exclude them all, as
    /// no object that is only counted is ever within one.
    pub fn count_number(&mut self, resource: &GroupResource, number: usize) {
        let evaluator = Evaluator::of(resource);
        self.seen(&evaluator);
        if let (Evaluator::Count { name, alias }, true) = (&evaluator, self.scopes.is_empty()) {
            let number = amounts::number(i64::try_from(number).unwrap_or(i64::MAX));
            for name in [Some(name.as_str()), *alias].into_iter().flatten() {
                amounts::add(&mut self.sum, &Amounts::from([(name.to_owned(), number.clone())]));
            }
        }
    }

    /// What was counted is zero where there is none.
    fn seen(&mut self, evaluator: &Evaluator) {
        for name in self.hard.keys().filter(|name| evaluator.matches_resource(name)) {
            self.sum.entry(name.clone()).or_insert_with(|| amounts::number(0));
        }
    }

    /// The `status` that the quota should have: what was not counted stays as it was.
    pub fn status(&self, quota: &Value) -> (Amounts, Amounts) {
        let mut used = amounts::read(at(quota, "status.used"));
        used.extend(self.sum.clone());
        (self.hard.clone(), amounts::mask(&used, self.hard.keys()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_status_from_what_there_is() {
        let quota = json!({"spec": {"hard": {"pods": "5", "requests.cpu": "2", "count/deployments.apps": "3",
                "secrets": "9", "unknown.example.com/x": "1"}},
            "status": {"used": {"unknown.example.com/x": "1", "memory": "1", "pods": "9"}}});
        let mut tally = Tally::of(&quota, Timestamp::UNIX_EPOCH);
        let pods = GroupResource::new("", "pods");
        assert!(tally.wants(&pods) && !tally.wants(&GroupResource::new("", "services")));
        let pod = |phase: &str| {
            json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "500m"}}}]},
                "status": {"phase": phase}})
        };
        tally.count(&pods, &[pod("Running"), pod("Pending"), pod("Failed")]);
        tally.count_number(&GroupResource::new("apps", "deployments"), 2);
        tally.count_number(&GroupResource::new("", "secrets"), 0);
        let (hard, used) = tally.status(&quota);
        assert_eq!(hard.len(), 5);
        assert_eq!(
            amounts::pretty(&used),
            "count/deployments.apps=2,pods=2,requests.cpu=1,secrets=0,unknown.example.com/x=1"
        );
    }

    #[test]
    fn scopes_leave_objects_out() {
        let quota = json!({"spec": {"hard": {"pods": "5", "secrets": "2"}, "scopes": ["BestEffort"]}});
        let mut tally = Tally::of(&quota, Timestamp::UNIX_EPOCH);
        let pods = [
            json!({"spec": {"containers": [{"name": "a"}]}}),
            json!({"spec": {"containers": [{"name": "a", "resources": {"limits": {"memory": "1"}}}]}}),
        ];
        tally.count(&GroupResource::new("", "pods"), &pods);
        tally.count_number(&GroupResource::new("", "secrets"), 4);
        assert_eq!(amounts::pretty(&tally.status(&quota).1), "pods=1,secrets=0");
    }
}
