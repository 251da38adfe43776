//! Quality of service (pkg/apis/core/v1/helper/qos).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::{amount, spec};

/// A pod's class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Qos {
    /// Requests equal limits, for cpu and memory of every container.
    Guaranteed,
    /// Some request or limit.
    Burstable,
    /// None.
    BestEffort,
}

impl Qos {
    /// As `status.qosClass`.
    pub fn as_str(self) -> &'static str {
        match self {
            Qos::Guaranteed => "Guaranteed",
            Qos::Burstable => "Burstable",
            Qos::BestEffort => "BestEffort",
        }
    }

    /// As a folder of the control group tree.
    pub fn folder(self) -> &'static str {
        match self {
            Qos::Guaranteed => "guaranteed",
            Qos::Burstable => "burstable",
            Qos::BestEffort => "besteffort",
        }
    }
}

type List = BTreeMap<String, Quantity>;

/// The class of a pod.
pub fn class(pod_spec: &PodSpec) -> Qos {
    if let Some(resources) = pod_spec.resources.as_ref().filter(|r| has_any(r)) {
        return of_lists([Some(resources)].into_iter());
    }
    let all = spec::init_containers(pod_spec).iter().chain(&pod_spec.containers);
    of_lists(all.map(|c| c.resources.as_ref()))
}

fn has_any(resources: &ResourceRequirements) -> bool {
    nonzero(resources.requests.as_ref()).next().is_some() || nonzero(resources.limits.as_ref()).next().is_some()
}

/// cpu and memory that are more than nothing.
fn nonzero(list: Option<&List>) -> impl Iterator<Item = (&str, i64)> {
    let some = list
        .into_iter()
        .flatten()
        .map(|(name, quantity)| (name.as_str(), amount::milli(quantity)));
    some.filter(|(name, milli)| matches!(*name, "cpu" | "memory") && *milli > 0)
}

fn of_lists<'a>(all: impl Iterator<Item = Option<&'a ResourceRequirements>>) -> Qos {
    let (mut requests, mut limits) = (BTreeMap::new(), BTreeMap::new());
    let mut limited = true;
    for resources in all {
        for (name, milli) in nonzero(resources.and_then(|r| r.requests.as_ref())) {
            *requests.entry(name).or_insert(0i64) += milli;
        }
        let mut names = 0;
        for (name, milli) in nonzero(resources.and_then(|r| r.limits.as_ref())) {
            *limits.entry(name).or_insert(0i64) += milli;
            names += 1;
        }
        limited &= names == 2;
    }
    if requests.is_empty() && limits.is_empty() {
        return Qos::BestEffort;
    }
    let equal = requests.iter().all(|(name, milli)| limits.get(name) == Some(milli));
    if limited && equal && requests.len() == limits.len() {
        Qos::Guaranteed
    } else {
        Qos::Burstable
    }
}
