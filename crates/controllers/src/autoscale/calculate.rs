//! How many replicas a usage asks for (upstream `podautoscaler/replica_calculator.go`).

use std::collections::{BTreeMap, BTreeSet};

use api::Quantity;
use k8s_openapi::api::core::v1::{Container, Pod};

use super::usage::{Sample, Samples};
use super::{Sight, pod_name};
use crate::object::is_deleting;
use crate::pod::{condition, is_ready, phase};

/// How far usage may be off without consequence.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tolerances {
    pub down: f64,
    pub up: f64,
}

impl Tolerances {
    /// The autoscaler's own, or the controller's.
    pub fn of(sight: &Sight<'_>) -> Self {
        let own = |direction: &str| {
            let value = &sight.hpa["spec"]["behavior"][direction]["tolerance"];
            Quantity::from_json(value).ok().filter(|_| !value.is_null())
        };
        let or_default = |quantity: Option<Quantity>| quantity.map_or(sight.settings.tolerance, |q| q.to_f64());
        Self {
            down: or_default(own("scaleDown")),
            up: or_default(own("scaleUp")),
        }
    }

    pub fn cover(self, ratio: f64) -> bool {
        1.0 - self.down <= ratio && ratio <= 1.0 + self.up
    }
}

/// Rounded up; what is too much for a count is the greatest count.
pub(super) fn ceiling(value: f64) -> i32 {
    value.ceil() as i32
}

const NO_PODS: &str = "no pods returned by selector while calculating replica count";
const NO_METRICS: &str = "did not receive metrics for targeted pods (pods might be unready)";

struct Groups {
    ready: usize,
    unready: BTreeSet<String>,
    missing: BTreeSet<String>,
}

/// Sorts pods, and takes the samples away that do not count.
fn group(pods: &[&Pod], samples: &mut Samples, resource: &str, sight: &Sight<'_>) -> Result<Groups, String> {
    if pods.is_empty() {
        return Err(NO_PODS.to_owned());
    }
    let mut groups = Groups {
        ready: 0,
        unready: BTreeSet::new(),
        missing: BTreeSet::new(),
    };
    for pod in pods {
        let name = pod_name(pod);
        if is_deleting(*pod) || phase(pod) == "Failed" {
            samples.remove(name);
        } else if phase(pod) == "Pending" {
            groups.unready.insert(name.to_owned());
        } else if let Some(sample) = samples.get(name) {
            if resource == "cpu" && is_unready(pod, sample, sight) {
                groups.unready.insert(name.to_owned());
            } else {
                groups.ready += 1;
            }
        } else {
            groups.missing.insert(name.to_owned());
        }
    }
    samples.retain(|name, _| !groups.unready.contains(name));
    if samples.is_empty() {
        return Err(NO_METRICS.to_owned());
    }
    Ok(groups)
}

/// CPU of pods that begin says nothing about what they will need.
fn is_unready(pod: &Pod, sample: &Sample, sight: &Sight<'_>) -> bool {
    let started = pod.status.as_ref().and_then(|status| status.start_time.as_ref());
    let (Some(ready), Some(started)) = (condition(pod, "Ready"), started) else {
        return true;
    };
    let since = ready.last_transition_time.as_ref().map(|time| time.0);
    let unready = ready.status == "False";
    let age = sight.now.duration_since(started.0);
    if age < sight.settings.cpu_initialization {
        let fresh = |since| {
            sample
                .time
                .is_none_or(|time| time.duration_since(since) < sample.window)
        };
        return unready || since.is_some_and(fresh);
    }
    let never_ready = |since: jiff::Timestamp| since.duration_since(started.0) < sight.settings.initial_readiness_delay;
    unready && since.is_none_or(never_ready)
}

/// What the usage is compared with.
enum Wanted<'a> {
    /// A percentage of what pods request.
    Utilization {
        percent: i32,
        requests: &'a BTreeMap<String, i64>,
    },
    /// An amount a pod.
    Amount(i64),
}

struct Ratio {
    ratio: f64,
    percent: i32,
    average: i64,
}

impl Wanted<'_> {
    fn ratio(&self, samples: &Samples) -> Result<Ratio, String> {
        match self {
            Self::Amount(target) => {
                let total: i64 = samples.values().map(|sample| sample.value).sum();
                let average = total / i64::try_from(samples.len().max(1)).unwrap_or(1);
                Ok(Ratio {
                    ratio: average as f64 / *target as f64,
                    percent: 0,
                    average,
                })
            }
            Self::Utilization { percent, requests } => {
                let known = samples
                    .iter()
                    .filter_map(|(name, sample)| Some((sample.value, *requests.get(name)?)));
                let (mut used, mut requested, mut count) = (0i64, 0i64, 0i64);
                for (value, request) in known {
                    used += value;
                    requested += request;
                    count += 1;
                }
                if requested == 0 {
                    return Err("no metrics returned matched known pods".to_owned());
                }
                let utilization = (used * 100 / requested) as i32;
                Ok(Ratio {
                    ratio: f64::from(utilization) / f64::from(*percent),
                    percent: utilization,
                    average: used / count.max(1),
                })
            }
        }
    }

    /// What a pod without a sample is taken to use when there are too many.
    fn cautious(&self, pod: &str) -> i64 {
        match self {
            Self::Amount(target) => *target,
            Self::Utilization { percent, requests } => {
                requests.get(pod).copied().unwrap_or(0) * i64::from((*percent).max(100)) / 100
            }
        }
    }
}

/// A proposal, with the usage it comes from.
pub(super) struct Replicas {
    pub replicas: i32,
    pub percent: i32,
    pub average: i64,
}

/// `GetResourceReplicas`
pub(super) fn by_utilization(
    mut samples: Samples,
    pods: &[&Pod],
    (resource, container, percent): (&str, &str, i32),
    current: i32,
    sight: &Sight<'_>,
) -> Result<Replicas, String> {
    let groups = group(pods, &mut samples, resource, sight)?;
    let requests = requests(pods, container, resource)?;
    let requests = &requests;
    weigh(
        samples,
        &groups,
        &Wanted::Utilization { percent, requests },
        current,
        sight,
    )
}

/// `calcPlainMetricReplicas`
pub(super) fn by_amount(
    mut samples: Samples,
    pods: &[&Pod],
    (resource, target): (&str, i64),
    current: i32,
    sight: &Sight<'_>,
) -> Result<Replicas, String> {
    let groups = group(pods, &mut samples, resource, sight)?;
    weigh(samples, &groups, &Wanted::Amount(target), current, sight)
}

fn weigh(
    mut samples: Samples,
    groups: &Groups,
    wanted: &Wanted<'_>,
    current: i32,
    sight: &Sight<'_>,
) -> Result<Replicas, String> {
    let tolerances = Tolerances::of(sight);
    let Ratio {
        ratio,
        percent,
        average,
    } = wanted.ratio(&samples)?;
    let propose = |replicas| {
        Ok(Replicas {
            replicas,
            percent,
            average,
        })
    };
    let up_with_unready = !groups.unready.is_empty() && ratio > 1.0;
    if !up_with_unready && groups.missing.is_empty() {
        if tolerances.cover(ratio) {
            return propose(current);
        }
        return propose(ceiling(ratio * groups.ready as f64));
    }
    for pod in &groups.missing {
        if ratio < 1.0 {
            samples.insert(pod.clone(), Sample::assumed(wanted.cautious(pod)));
        } else if ratio > 1.0 {
            samples.insert(pod.clone(), Sample::assumed(0));
        }
    }
    if up_with_unready {
        let idle = groups.unready.iter().map(|pod| (pod.clone(), Sample::assumed(0)));
        samples.extend(idle);
    }
    let again = wanted.ratio(&samples)?.ratio;
    let turned = (ratio < 1.0 && again > 1.0) || (ratio > 1.0 && again < 1.0);
    if tolerances.cover(again) || turned {
        return propose(current);
    }
    let replicas = ceiling(again * samples.len() as f64);
    let backwards = (again < 1.0 && replicas > current) || (again > 1.0 && replicas < current);
    propose(if backwards { current } else { replicas })
}

/// What each pod requests (`calculateRequests`).
fn requests(pods: &[&Pod], container: &str, resource: &str) -> Result<BTreeMap<String, i64>, String> {
    let of_pod = |pod: &&Pod| Ok((pod_name(pod).to_owned(), request(pod, container, resource)?));
    pods.iter().map(of_pod).collect()
}

fn request(pod: &Pod, container: &str, resource: &str) -> Result<i64, String> {
    let name = pod_name(pod);
    let Some(spec) = &pod.spec else { return Ok(0) };
    let milli = |text: &str| text.parse::<Quantity>().map_or(0, |quantity| quantity.milli_value());
    let whole = spec
        .resources
        .as_ref()
        .and_then(|resources| resources.requests.as_ref());
    if container.is_empty()
        && let Some(whole) = whole.filter(|whole| !whole.is_empty())
        && let Some(request) = whole.get(resource)
    {
        return Ok(milli(&request.0));
    }
    let sidecar = |one: &&Container| one.restart_policy.as_deref() == Some("Always");
    let sidecars = spec.init_containers.iter().flatten().filter(sidecar);
    let mut total = 0i64;
    for one in spec.containers.iter().chain(sidecars) {
        if !container.is_empty() && container != one.name {
            continue;
        }
        let requests = one.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        let Some(request) = requests.and_then(|requests| requests.get(resource)) else {
            return Err(format!(
                "missing request for {resource} in container {} of Pod {name}",
                one.name
            ));
        };
        total = total.saturating_add(milli(&request.0));
        if container == one.name {
            return Ok(total);
        }
    }
    if !container.is_empty() {
        return Err(format!("container {container} not found in Pod {name}"));
    }
    Ok(total)
}

/// A metric of the whole (`getUsageRatioReplicaCount`).
pub(super) fn by_ratio(ratio: f64, current: i32, pods: &[&Pod], sight: &Sight<'_>) -> Result<i32, String> {
    if current == 0 {
        return Ok(ceiling(ratio));
    }
    if Tolerances::of(sight).cover(ratio) {
        return Ok(current);
    }
    if pods.is_empty() {
        return Err(format!("unable to calculate ready pods: {NO_PODS}"));
    }
    let ready = pods
        .iter()
        .filter(|pod| phase(pod) == "Running" && is_ready(pod))
        .count();
    Ok(ceiling(ratio * ready as f64))
}

/// A metric that is shared by the pods; answers with what each of them has, too.
pub(super) fn by_share(usage: i64, target: i64, present: i32, sight: &Sight<'_>) -> (i32, i64) {
    let ratio = usage as f64 / (target as f64 * f64::from(present));
    let replicas = if Tolerances::of(sight).cover(ratio) {
        present
    } else {
        ceiling(usage as f64 / target as f64)
    };
    (replicas, (usage as f64 / f64::from(present)).ceil() as i64)
}
