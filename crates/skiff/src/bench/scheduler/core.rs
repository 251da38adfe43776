//! The scheduler's decisions alone: a snapshot in memory, no API server, nobody who binds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use scheduler::cycle::{ActiveFilter, Attempt, Failure, NoJudge, schedule};
use scheduler::framework::{Point, PostFilter, PostFilterContext};
use scheduler::{Cluster, PodInfo, Profile, Verdict, plugins};
use serde_json::{Value, json};
use typed::Decoded;

use super::super::api::{Server, own_cpu};
use super::cases::{Pods, Role, Step, Workload};
use super::run::{Figures, pod_name};
use super::templates::{HIGH_PRIORITY, NAMED_NODE, NodeTemplate};

/// Decides on all pods of a workload; the figures of the measured ones.
pub fn measure(workload: &Workload) -> Result<Figures> {
    let server = Server::new(&[std::process::id()])?;
    server.reset_peak();
    let mut core = Core {
        cluster: Cluster::default(),
        profile: plugins::default_profile(),
        start: 0,
        nodes: 0,
    };
    for step in &workload.steps {
        match step {
            Step::Nodes {
                count, template, zones, ..
            } => core.make_nodes(*count, *template, zones)?,
            Step::Namespaces { .. } | Step::Churn { .. } | Step::Delete { .. } => {}
            Step::Pods(pods) if pods.volumes.is_some() => {
                bail!("volumes are not part of --core; measure {} end to end", workload.name)
            }
            Step::Pods(pods) => {
                let infos = infos(pods, &core.cluster)?;
                let cpu = own_cpu()?;
                let before = server.sample()?;
                let start = Instant::now();
                let latencies = core.decide(infos, pods.role)?;
                let time = start.elapsed();
                if pods.role == Role::Measured {
                    let used = server.between(&before, &server.sample()?);
                    return Ok(Figures {
                        pods: pods.count as usize,
                        time,
                        latencies,
                        cpu: Some(own_cpu()?.saturating_sub(cpu)),
                        peak_rss_bytes: used.map(|used| used.peak_bytes),
                    });
                }
            }
        }
    }
    bail!("the workload measures nothing")
}

struct Core {
    cluster: Cluster,
    profile: Profile,
    start: usize,
    nodes: u32,
}

impl Core {
    fn make_nodes(&mut self, count: u32, template: NodeTemplate, zones: &[&str]) -> Result<()> {
        for index in 0..count {
            let name = match template {
                NodeTemplate::Named => NAMED_NODE.to_owned(),
                _ => format!("scheduler-perf-{}", self.nodes + index),
            };
            let zone = (index as usize).checked_rem(zones.len()).map(|at| zones[at]);
            let node = Node::from_tree(&template.node(&name, zone)).context("a node's template")?;
            self.cluster.set_node(Arc::new(node));
        }
        self.nodes += count;
        Ok(())
    }

    fn decide(&mut self, pods: Vec<Arc<PodInfo>>, role: Role) -> Result<Vec<Duration>> {
        let mut latencies = Vec::with_capacity(pods.len());
        // Ties are broken as they are by chance, but each time alike.
        let mut random: u64 = 0x9e37_79b9_7f4a_7c15;
        self.cluster.settle();
        for pod in pods {
            let since = Instant::now();
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let attempt = Attempt {
                cluster: &self.cluster,
                profile: &self.profile,
                start: self.start,
                random,
                now: Timestamp::UNIX_EPOCH,
                timings: None,
            };
            match schedule(&attempt, &pod, &mut NoJudge) {
                Ok(placement) => {
                    self.start = placement.next_start;
                    self.cluster.assume(pod, &placement.node);
                }
                Err(_) if role == Role::Background => {}
                Err(Failure::Unfit(verdict, filters)) => self.preempt(&pod, &verdict, filters, random)?,
                Err(Failure::Error(error)) => bail!("{} cannot be scheduled: {error}", pod.key.name),
            }
            latencies.push(since.elapsed());
        }
        Ok(latencies)
    }

    /// Makes room for a pod, as the plugin says, and places it there.
    fn preempt(
        &mut self,
        pod: &Arc<PodInfo>,
        verdict: &Verdict,
        mut filters: Vec<ActiveFilter>,
        random: u64,
    ) -> Result<()> {
        let now = Timestamp::UNIX_EPOCH;
        let mut context = PostFilterContext {
            cluster: &self.cluster,
            profile: &self.profile,
            filters: &mut filters,
            verdict,
            judge: &mut NoJudge,
            random,
            now,
        };
        let found =
            self.profile
                .at(Point::PostFilter)
                .find_map(|(_, plugin, _)| match plugin.post_filter(&mut context, pod) {
                    PostFilter::Preempt { node, victims } => Some((node, victims)),
                    PostFilter::Act(..) | PostFilter::Unschedulable(_) => None,
                });
        let Some((node, victims)) = found else {
            bail!("{} cannot be scheduled: {}", pod.key.name, verdict.message(pod));
        };
        for victim in victims {
            self.cluster.remove_pod(&victim.key);
        }
        self.cluster.nominate(pod, Some(&node));
        let attempt = Attempt {
            cluster: &self.cluster,
            profile: &self.profile,
            start: self.start,
            random,
            now,
            timings: None,
        };
        let Ok(placement) = schedule(&attempt, pod, &mut NoJudge) else {
            bail!("{} does not fit where room was made for it", pod.key.name);
        };
        self.cluster.nominate(pod, None);
        self.cluster.assume(pod.clone(), &placement.node);
        Ok(())
    }
}

fn infos(pods: &Pods, cluster: &Cluster) -> Result<Vec<Arc<PodInfo>>> {
    let each = (0..pods.count).map(|index| {
        let name = pod_name(index);
        let mut object = pods.template.pod(&pods.namespace, &name);
        object["metadata"]["uid"] = json!(format!("{}/{name}", pods.namespace));
        if object["spec"]["priorityClassName"] == HIGH_PRIORITY {
            object["spec"]["priority"] = json!(10);
        }
        info(object, cluster)
    });
    each.collect()
}

fn info(object: Value, cluster: &Cluster) -> Result<Arc<PodInfo>> {
    let pod = Pod::from_tree(&object).context("a pod's template")?;
    Ok(Arc::new(PodInfo::new(&pod, cluster.interner())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::scheduler::cases;

    #[test]
    fn a_small_workload_is_decided() {
        let workload = cases::find("SchedulingBasic/5Nodes").unwrap().remove(0);
        let figures = measure(&workload).unwrap();
        assert_eq!((figures.pods, figures.latencies.len()), (10, 10));
        assert!(figures.peak_rss_bytes.unwrap() > 0);
    }

    #[test]
    fn a_small_preemption_is_decided() {
        let workload = cases::find("PreemptionBasic/5Nodes").unwrap().remove(0);
        let figures = measure(&workload).unwrap();
        assert_eq!(figures.pods, figures.latencies.len());
    }
}
