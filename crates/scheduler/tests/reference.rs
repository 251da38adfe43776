//! The scheduler against a plain model of kube-scheduler's rules, over random histories: the same nodes are turned
//! down by the same plugins, and the chosen node has the best score that the model knows.

#[path = "reference/chance.rs"]
mod chance;
#[path = "reference/model.rs"]
mod model;

use std::collections::BTreeMap;
use std::sync::Arc;

use chance::Chance;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use model::World;
use scheduler::cycle::{Attempt, Failure, NoJudge, admits, schedule};
use scheduler::framework::{Point, PostFilter, PostFilterContext};
use scheduler::plugins::default_profile;
use scheduler::{Cluster, PodInfo, Profile};

/// The same cluster twice.
struct Both {
    seed: u64,
    world: World,
    cluster: Cluster,
    profile: Profile,
    names: u64,
}

impl Both {
    fn new(seed: u64) -> Both {
        let mut profile = default_profile();
        profile.percentage_of_nodes_to_score = Some(100);
        Both {
            seed,
            world: World::default(),
            cluster: Cluster::default(),
            profile,
            names: 0,
        }
    }

    fn name(&mut self, kind: &str) -> String {
        self.names += 1;
        format!("{kind}{}", self.names)
    }

    fn set_namespace(&mut self, name: &str, team: bool) {
        let labels = if team {
            BTreeMap::from([("team".to_owned(), "t".to_owned())])
        } else {
            BTreeMap::new()
        };
        self.world.namespaces.insert(name.to_owned(), labels.clone());
        self.cluster.set_namespace(name, labels);
    }

    fn set_node(&mut self, name: &str, chance: &mut Chance) {
        let node = chance.node(name);
        self.world.nodes.insert(name.to_owned(), node.clone());
        self.cluster.set_node(Arc::new(node));
    }

    fn info(&self, pod: &Pod) -> Arc<PodInfo> {
        Arc::new(PodInfo::new(pod, self.cluster.interner()))
    }

    fn set_pod(&mut self, mut pod: Pod, node: &str) {
        pod.spec.as_mut().unwrap().node_name = Some(node.to_owned());
        self.cluster.set_pod(self.info(&pod));
        pod.spec.as_mut().unwrap().node_name = None;
        let name = pod.metadata.name.clone().unwrap();
        self.world.pods.insert(name, (pod, node.to_owned()));
    }

    fn remove_pod(&mut self, name: &str) {
        let (pod, _) = self.world.pods.remove(name).unwrap();
        self.cluster.remove_pod(&self.info(&pod).key);
    }

    fn some_pod(&self, chance: &mut Chance) -> Option<String> {
        let count = self.world.pods.len() as u64;
        let at = usize::try_from(chance.below(count.max(1))).unwrap();
        self.world.pods.keys().nth(at).cloned()
    }

    fn some_node(&self, chance: &mut Chance) -> Option<String> {
        let count = self.world.nodes.len() as u64;
        let at = usize::try_from(chance.below(count.max(1))).unwrap();
        self.world.nodes.keys().nth(at).cloned()
    }

    /// One step of history.
    fn disturb(&mut self, chance: &mut Chance) {
        match chance.below(12) {
            0 => {
                let name = self.name("node");
                self.set_node(&name, chance);
            }
            1 => {
                if let Some(name) = self.some_node(chance) {
                    self.set_node(&name, chance);
                }
            }
            2 if chance.once_in(2) => {
                if let Some(name) = self.some_node(chance) {
                    self.world.nodes.remove(&name);
                    self.cluster.remove_node(&name);
                }
            }
            3 | 4 => {
                if let Some(name) = self.some_pod(chance) {
                    self.remove_pod(&name);
                }
            }
            5 => {
                if let Some(name) = self.some_pod(chance) {
                    let (mut pod, node) = self.world.pods[&name].clone();
                    pod.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
                    self.set_pod(pod, &node);
                }
            }
            6 => {
                if let Some(name) = self.some_pod(chance) {
                    let (mut pod, node) = self.world.pods[&name].clone();
                    let app = chance.of(&["a", "b", "c"]).to_owned();
                    pod.metadata.labels.get_or_insert_default().insert("app".into(), app);
                    self.set_pod(pod, &node);
                }
            }
            7 => {
                let name = chance.of(&["one", "two", "three"]);
                let team = chance.once_in(2);
                self.set_namespace(name, team);
            }
            _ => {}
        }
    }

    /// Decides on a pod both ways, and places it.
    fn decide(&mut self, pod: Pod, random: u64) {
        self.cluster.settle();
        let info = self.info(&pod);
        let attempt = Attempt {
            cluster: &self.cluster,
            profile: &self.profile,
            start: 0,
            random,
            now: Timestamp::UNIX_EPOCH,
            timings: None,
        };
        let case = format!("seed {}, pod {}", self.seed, serde_json::to_string(&pod).unwrap());
        let verdicts: BTreeMap<&String, Option<&'static str>> = self
            .world
            .nodes
            .keys()
            .map(|name| (name, self.world.rejected_by(&pod, name)))
            .collect();
        let feasible: Vec<String> = verdicts
            .iter()
            .filter(|(_, by)| by.is_none())
            .map(|(name, _)| (*name).clone())
            .collect();
        match schedule(&attempt, &info, &mut NoJudge) {
            Ok(placement) => {
                assert_eq!(placement.feasible, feasible.len(), "{case}: {verdicts:?}");
                if feasible.len() > 1 {
                    let scores = self.world.scores(&pod, &feasible);
                    let at = feasible.iter().position(|name| **name == *placement.node).unwrap();
                    let best = scores.iter().copied().max().unwrap();
                    assert_eq!(
                        (placement.score, scores[at]),
                        (best, best),
                        "{case}: {feasible:?} {scores:?}"
                    );
                }
                let node = placement.node.to_string();
                self.set_pod(pod, &node);
            }
            Err(Failure::Unfit(verdict, mut filters)) => {
                assert_eq!(feasible, Vec::<String>::new(), "{case}: {}", verdict.message(&info));
                for (name, by) in &verdicts {
                    let slot = self.cluster.node(name).unwrap().slot;
                    assert_eq!(verdict.of(slot).map(|group| group.plugin), *by, "{case}: {name}");
                }
                self.make_room(&pod, &info, &verdict, &mut filters, random, &case);
            }
            Err(Failure::Error(error)) => panic!("{case}: {error}"),
        }
    }

    /// Preemption names pods of lower priority without which the model lets the pod in, and none too many; and it
    /// leaves the filters as they were.
    fn make_room(
        &self,
        pod: &Pod,
        info: &Arc<PodInfo>,
        verdict: &scheduler::Verdict,
        filters: &mut [scheduler::cycle::ActiveFilter],
        random: u64,
        case: &str,
    ) {
        let mut context = PostFilterContext {
            cluster: &self.cluster,
            profile: &self.profile,
            filters,
            verdict,
            random,
            now: Timestamp::UNIX_EPOCH,
            judge: &mut NoJudge,
        };
        let (_, plugin, _) = self.profile.at(Point::PostFilter).next().unwrap();
        let found = plugin.post_filter(&mut context, info);
        for node in self.cluster.nodes() {
            let said = admits(&self.cluster, info, node, filters)
                .err()
                .map(|(plugin, _)| plugin);
            assert_eq!(
                said,
                verdict.of(node.slot).map(|group| group.plugin),
                "{case}: filters changed"
            );
        }
        let PostFilter::Preempt { node, victims } = found else {
            return;
        };
        let mut emptier = self.world.clone();
        for victim in &victims {
            assert!(victim.priority() < info.priority(), "{case}");
            let (_, at) = emptier.pods.remove(&*victim.key.name).unwrap();
            assert_eq!(at, *node, "{case}");
        }
        assert_eq!(emptier.rejected_by(pod, &node), None, "{case}: {victims:?}");
        // Pods that the pod must be near to may be put back too late for another to stay.
        if info.shape.affinity.required.is_empty() {
            let least = victims.last().unwrap();
            let mut fuller = emptier.clone();
            fuller
                .pods
                .insert(least.key.name.to_string(), self.world.pods[&*least.key.name].clone());
            assert_ne!(
                fuller.rejected_by(pod, &node),
                None,
                "{case}: {} need not go",
                least.key
            );
        }
    }
}

#[test]
fn decisions_are_those_of_the_model() {
    for seed in 0..100 {
        let mut chance = Chance::new(seed);
        let mut both = Both::new(seed);
        both.set_namespace("one", true);
        both.set_namespace("two", false);
        for _ in 0..3 + chance.below(8) {
            let name = both.name("node");
            both.set_node(&name, &mut chance);
        }
        for _ in 0..60 {
            both.disturb(&mut chance);
            let name = both.name("pod");
            let pod = chance.pod(&name);
            both.decide(pod, chance.below(1 << 30));
        }
    }
}

#[test]
fn indexes_that_grew_are_those_made_at_once() {
    for seed in 1000..1030 {
        let mut chance = Chance::new(seed);
        let mut both = Both::new(seed);
        both.set_namespace("one", true);
        for _ in 0..6 {
            let name = both.name("node");
            both.set_node(&name, &mut chance);
        }
        for _ in 0..40 {
            both.disturb(&mut chance);
            let name = both.name("pod");
            let pod = chance.pod(&name);
            both.decide(pod, chance.below(1 << 30));
        }
        // A cluster that sees everything for the first time decides the same.
        let mut fresh = Both::new(seed);
        fresh.names = both.names;
        for (name, labels) in &both.world.namespaces {
            fresh.cluster.set_namespace(name, labels.clone());
        }
        for node in both.world.nodes.values() {
            fresh.cluster.set_node(Arc::new(node.clone()));
        }
        fresh.world = both.world.clone();
        for (pod, node) in both.world.pods.values() {
            fresh.set_pod(pod.clone(), node);
        }
        for _ in 0..20 {
            let name = both.name("pod");
            let pod = chance.pod(&name);
            fresh.decide(pod.clone(), 1);
            both.decide(pod, 1);
        }
    }
}
