//! kube-scheduler's rules, written as plainly as they can be: every question looks at every pod of every node. Shares
//! nothing with the crate but the API's types.

use std::collections::{BTreeMap, HashMap, HashSet};

use k8s_openapi::api::core::v1::{
    Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodAffinityTerm, PodSpec, Taint, TopologySpreadConstraint,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

type Map = BTreeMap<String, String>;

/// The cluster: nodes in any order, pods with the node that each is on.
#[derive(Debug, Default, Clone)]
pub struct World {
    pub nodes: BTreeMap<String, Node>,
    pub pods: BTreeMap<String, (Pod, String)>,
    pub namespaces: BTreeMap<String, Map>,
}

pub fn labels(pod: &Pod) -> Map {
    pod.metadata.labels.clone().unwrap_or_default()
}

pub fn node_labels(node: &Node) -> Map {
    node.metadata.labels.clone().unwrap_or_default()
}

fn spec(pod: &Pod) -> &PodSpec {
    pod.spec.as_ref().unwrap()
}

fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap()
}

fn amount(
    list: Option<&BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>>,
    name: &str,
) -> Option<i64> {
    let quantity: api::Quantity = list?.get(name)?.0.parse().unwrap();
    Some(if name == "cpu" {
        quantity.milli_value()
    } else {
        quantity.value()
    })
}

pub fn request(pod: &Pod, name: &str) -> i64 {
    let containers = spec(pod).containers.iter();
    containers
        .map(|c| amount(c.resources.as_ref().and_then(|r| r.requests.as_ref()), name).unwrap_or(0))
        .sum()
}

fn nonzero(pod: &Pod, name: &str) -> i64 {
    let default = if name == "cpu" { 100 } else { 200 << 20 };
    let containers = spec(pod).containers.iter();
    containers
        .map(|c| amount(c.resources.as_ref().and_then(|r| r.requests.as_ref()), name).unwrap_or(default))
        .sum()
}

fn allocatable(node: &Node, name: &str) -> i64 {
    amount(node.status.as_ref().unwrap().allocatable.as_ref(), name).unwrap_or(0)
}

fn selects(selector: Option<&LabelSelector>, labels: &Map) -> bool {
    let Some(selector) = selector else { return false };
    let equal = selector
        .match_labels
        .iter()
        .flatten()
        .all(|(k, v)| labels.get(k) == Some(v));
    equal
        && selector.match_expressions.iter().flatten().all(|e| {
            let has = labels.get(&e.key);
            let among = has.is_some_and(|v| e.values.iter().flatten().any(|known| known == v));
            match e.operator.as_str() {
                "In" => among,
                "NotIn" => !among,
                "Exists" => has.is_some(),
                _ => has.is_none(),
            }
        })
}

fn term_matches(term: &NodeSelectorTerm, labels: &Map) -> bool {
    let one = |r: &NodeSelectorRequirement| {
        let among = labels
            .get(&r.key)
            .is_some_and(|v| r.values.iter().flatten().any(|known| known == v));
        match r.operator.as_str() {
            "In" => among,
            "NotIn" => !among,
            "Exists" => labels.contains_key(&r.key),
            _ => !labels.contains_key(&r.key),
        }
    };
    let all = term.match_expressions.iter().flatten();
    term.match_expressions.as_ref().is_some_and(|list| !list.is_empty()) && all.clone().all(one)
}

fn node_affinity_allows(pod: &Pod, node: &Node) -> bool {
    let labels = node_labels(node);
    let selector = spec(pod)
        .node_selector
        .iter()
        .flatten()
        .all(|(k, v)| labels.get(k) == Some(v));
    let required = spec(pod).affinity.as_ref().and_then(|a| {
        a.node_affinity
            .as_ref()?
            .required_during_scheduling_ignored_during_execution
            .as_ref()
    });
    selector && required.is_none_or(|r| r.node_selector_terms.iter().any(|t| term_matches(t, &labels)))
}

fn taints(node: &Node) -> Vec<Taint> {
    node.spec.as_ref().and_then(|s| s.taints.clone()).unwrap_or_default()
}

fn tolerated(pod: &Pod, taint: &Taint) -> bool {
    spec(pod).tolerations.iter().flatten().any(|t| {
        t.effect.as_ref().is_none_or(|e| *e == taint.effect)
            && t.key.as_ref().is_none_or(|k| *k == taint.key)
            && (t.operator.as_deref() == Some("Exists")
                || t.value.clone().unwrap_or_default() == taint.value.clone().unwrap_or_default())
    })
}

fn hard_taints_tolerated(pod: &Pod, node: &Node) -> bool {
    taints(node)
        .iter()
        .all(|t| t.effect == "PreferNoSchedule" || tolerated(pod, t))
}

fn ports(pod: &Pod) -> Vec<i32> {
    let containers = spec(pod).containers.iter();
    containers
        .flat_map(|c| c.ports.iter().flatten().filter_map(|p| p.host_port))
        .collect()
}

fn own_terms(pod: &Pod, anti: bool) -> Vec<PodAffinityTerm> {
    let affinity = spec(pod).affinity.clone().unwrap_or_default();
    if anti {
        affinity
            .pod_anti_affinity
            .and_then(|a| a.required_during_scheduling_ignored_during_execution)
            .unwrap_or_default()
    } else {
        affinity
            .pod_affinity
            .and_then(|a| a.required_during_scheduling_ignored_during_execution)
            .unwrap_or_default()
    }
}

fn soft_terms(pod: &Pod) -> Vec<(i64, PodAffinityTerm)> {
    let affinity = spec(pod).affinity.clone().unwrap_or_default();
    let near = affinity
        .pod_affinity
        .and_then(|a| a.preferred_during_scheduling_ignored_during_execution);
    let apart = affinity
        .pod_anti_affinity
        .and_then(|a| a.preferred_during_scheduling_ignored_during_execution);
    let near = near
        .into_iter()
        .flatten()
        .map(|t| (i64::from(t.weight), t.pod_affinity_term));
    near.chain(
        apart
            .into_iter()
            .flatten()
            .map(|t| (-i64::from(t.weight), t.pod_affinity_term)),
    )
    .collect()
}

impl World {
    fn on<'w>(&'w self, node: &'w str) -> impl Iterator<Item = &'w Pod> {
        self.pods.values().filter(move |(_, at)| at == node).map(|(pod, _)| pod)
    }

    /// Pods on nodes that exist.
    fn placed(&self) -> impl Iterator<Item = (&Pod, &Node)> {
        self.pods
            .values()
            .filter_map(|(pod, at)| Some((pod, self.nodes.get(at)?)))
    }

    /// Whether a term of `owner` means `other`.
    fn means(&self, term: &PodAffinityTerm, owner: &Pod, other: &Pod) -> bool {
        let listed = term.namespaces.clone().unwrap_or_default();
        let mut inside = listed.iter().any(|n| n == namespace(other));
        if let Some(selector) = &term.namespace_selector {
            inside |= selects(
                Some(selector),
                self.namespaces.get(namespace(other)).unwrap_or(&Map::new()),
            );
        } else if listed.is_empty() {
            inside |= namespace(owner) == namespace(other);
        }
        inside && selects(term.label_selector.as_ref(), &labels(other))
    }

    fn fits(&self, pod: &Pod, name: &str, node: &Node) -> bool {
        let enough = |resource: &str| {
            let used: i64 = self.on(name).map(|p| request(p, resource)).sum();
            request(pod, resource) == 0 || request(pod, resource) <= allocatable(node, resource) - used
        };
        let count = i64::try_from(self.on(name).count()).unwrap();
        count < allocatable(node, "pods") && ["cpu", "memory", "example.com/gpu"].into_iter().all(enough)
    }

    /// The constraints of one sort, with the pod's own values of `matchLabelKeys`.
    fn constraints(&self, pod: &Pod, hard: bool) -> Vec<TopologySpreadConstraint> {
        let own = spec(pod)
            .topology_spread_constraints
            .clone()
            .unwrap_or_default()
            .into_iter();
        let mut chosen: Vec<_> = own
            .filter(|c| (c.when_unsatisfiable == "DoNotSchedule") == hard)
            .collect();
        for constraint in &mut chosen {
            for key in constraint.match_label_keys.clone().unwrap_or_default() {
                if let (Some(value), Some(selector)) = (labels(pod).get(&key), &mut constraint.label_selector) {
                    selector.match_labels.get_or_insert_default().insert(key, value.clone());
                }
            }
        }
        chosen
    }

    fn counts_for(&self, constraint: &TopologySpreadConstraint, pod: &Pod, node: &Node, keys: &[String]) -> bool {
        keys.iter().all(|key| node_labels(node).contains_key(key))
            && (constraint.node_affinity_policy.as_deref() == Some("Ignore") || node_affinity_allows(pod, node))
            && (constraint.node_taints_policy.as_deref() != Some("Honor") || hard_taints_tolerated(pod, node))
    }

    fn spread_counts(&self, constraint: &TopologySpreadConstraint, pod: &Pod, keys: &[String]) -> HashMap<String, i64> {
        let mut counts = HashMap::new();
        for (name, node) in &self.nodes {
            if !self.counts_for(constraint, pod, node, keys) {
                continue;
            }
            let matching = self.on(name).filter(|p| {
                p.metadata.deletion_timestamp.is_none()
                    && namespace(p) == namespace(pod)
                    && selects(constraint.label_selector.as_ref(), &labels(p))
            });
            *counts
                .entry(node_labels(node)[&constraint.topology_key].clone())
                .or_insert(0) += i64::try_from(matching.count()).unwrap();
        }
        counts
    }

    fn spreads(&self, pod: &Pod, node: &Node) -> bool {
        let constraints = self.constraints(pod, true);
        let keys: Vec<String> = constraints.iter().map(|c| c.topology_key.clone()).collect();
        constraints.iter().all(|constraint| {
            let Some(value) = node_labels(node).get(&constraint.topology_key).cloned() else {
                return false;
            };
            let counts = self.spread_counts(constraint, pod, &keys);
            let few = counts.len() < usize::try_from(constraint.min_domains.unwrap_or(1)).unwrap();
            let least = if few {
                0
            } else {
                counts.values().copied().min().unwrap_or(i64::from(i32::MAX))
            };
            let itself = i64::from(selects(constraint.label_selector.as_ref(), &labels(pod)));
            counts.get(&value).copied().unwrap_or(0) + itself - least <= i64::from(constraint.max_skew)
        })
    }

    fn near_and_apart(&self, pod: &Pod, node: &Node) -> bool {
        let here = node_labels(node);
        let together = |term: &PodAffinityTerm, other: &Node| {
            here.contains_key(&term.topology_key)
                && node_labels(other).get(&term.topology_key) == here.get(&term.topology_key)
        };
        let refused = self.placed().any(|(p, at)| {
            own_terms(p, true)
                .iter()
                .any(|t| self.means(t, p, pod) && together(t, at))
        });
        let apart = own_terms(pod, true)
            .iter()
            .any(|t| self.placed().any(|(p, at)| self.means(t, pod, p) && together(t, at)));
        let near = own_terms(pod, false);
        if near.iter().any(|t| !here.contains_key(&t.topology_key)) {
            return false;
        }
        let friend = |p: &Pod| near.iter().all(|t| self.means(t, pod, p));
        let all = near
            .iter()
            .all(|t| self.placed().any(|(p, at)| friend(p) && together(t, at)));
        let somewhere = self
            .placed()
            .any(|(p, at)| friend(p) && near.iter().any(|t| node_labels(at).contains_key(&t.topology_key)));
        let first = !somewhere && friend(pod);
        !refused && !apart && (near.is_empty() || all || first)
    }

    /// The plugin that turns the node down, if one does.
    pub fn rejected_by(&self, pod: &Pod, name: &str) -> Option<&'static str> {
        let node = &self.nodes[name];
        let cordoned = node.spec.as_ref().and_then(|s| s.unschedulable).unwrap_or(false);
        let taken: HashSet<i32> = self.on(name).flat_map(ports).collect();
        if cordoned {
            Some("NodeUnschedulable")
        } else if !hard_taints_tolerated(pod, node) {
            Some("TaintToleration")
        } else if !node_affinity_allows(pod, node) {
            Some("NodeAffinity")
        } else if ports(pod).iter().any(|port| taken.contains(port)) {
            Some("NodePorts")
        } else if !self.fits(pod, name, node) {
            Some("NodeResourcesFit")
        } else if !self.spreads(pod, node) {
            Some("PodTopologySpread")
        } else if !self.near_and_apart(pod, node) {
            Some("InterPodAffinity")
        } else {
            None
        }
    }

    fn least_allocated(&self, pod: &Pod, name: &str) -> i64 {
        let node = &self.nodes[name];
        let share = |resource: &str| {
            let have = allocatable(node, resource);
            let used = self.on(name).map(|p| nonzero(p, resource)).sum::<i64>() + nonzero(pod, resource);
            if used > have { 0 } else { (have - used) * 100 / have }
        };
        (share("cpu") + share("memory")) / 2
    }

    fn balanced(&self, pod: &Pod, name: &str) -> i64 {
        if request(pod, "cpu") == 0 && request(pod, "memory") == 0 {
            return 0;
        }
        let share = |resource: &str, with: bool| {
            let used: i64 = self.on(name).map(|p| request(p, resource)).sum();
            let more = if with { request(pod, resource) } else { 0 };
            ((used + more) as f64 / allocatable(&self.nodes[name], resource) as f64).min(1.0)
        };
        let score = |with: bool| ((1.0 - ((share("cpu", with) - share("memory", with)) / 2.0).abs()) * 100.0) as i64;
        50 + (50 + score(true) - score(false)) / 2
    }

    fn taint_scores(&self, pod: &Pod, names: &[String]) -> Vec<i64> {
        let bad = |name: &String| {
            taints(&self.nodes[name])
                .iter()
                .filter(|t| t.effect == "PreferNoSchedule" && !tolerated(pod, t))
                .count() as i64
        };
        let counts: Vec<i64> = names.iter().map(bad).collect();
        let most = counts.iter().copied().max().unwrap();
        counts
            .iter()
            .map(|count| if most == 0 { 100 } else { 100 - 100 * count / most })
            .collect()
    }

    fn node_affinity_scores(&self, pod: &Pod, names: &[String]) -> Vec<i64> {
        let terms = spec(pod)
            .affinity
            .clone()
            .and_then(|a| a.node_affinity?.preferred_during_scheduling_ignored_during_execution)
            .unwrap_or_default();
        let sum = |name: &String| {
            terms
                .iter()
                .filter(|t| term_matches(&t.preference, &node_labels(&self.nodes[name])))
                .map(|t| i64::from(t.weight))
                .sum()
        };
        let sums: Vec<i64> = names.iter().map(sum).collect();
        let most = sums.iter().copied().max().unwrap();
        sums.iter()
            .map(|sum| if most == 0 { 0 } else { 100 * sum / most })
            .collect()
    }

    fn image_scores(&self, pod: &Pod, names: &[String]) -> Vec<i64> {
        let size = |node: &Node, image: &str| {
            let images = node.status.as_ref().unwrap().images.iter().flatten();
            images
                .filter(|i| i.names.iter().flatten().any(|n| n == image))
                .map(|i| i.size_bytes.unwrap())
                .next()
        };
        let images: Vec<String> = spec(pod)
            .containers
            .iter()
            .map(|c| format!("{}:latest", c.image.clone().unwrap_or_default()))
            .collect();
        let score = |name: &String| {
            let mut sum = 0;
            for image in &images {
                let having = self.nodes.values().filter(|n| size(n, image).is_some()).count();
                if let Some(bytes) = size(&self.nodes[name], image) {
                    sum += (bytes as f64 * (having as f64 / self.nodes.len() as f64)) as i64;
                }
            }
            let (least, most) = (23 << 20, (1000 << 20) * images.len() as i64);
            100 * (sum.clamp(least, most) - least) / (most - least)
        };
        names.iter().map(score).collect()
    }

    fn spread_scores(&self, pod: &Pod, names: &[String]) -> Vec<i64> {
        let constraints = self.constraints(pod, false);
        if constraints.is_empty() {
            return vec![0; names.len()];
        }
        let keys: Vec<String> = constraints.iter().map(|c| c.topology_key.clone()).collect();
        let ignored = |name: &String| keys.iter().any(|key| !node_labels(&self.nodes[name]).contains_key(key));
        let scored: Vec<&String> = names.iter().filter(|name| !ignored(name)).collect();
        let raw = |name: &String| {
            let mut score = 0.0;
            for constraint in &constraints {
                let here = &node_labels(&self.nodes[name])[&constraint.topology_key];
                let hostname = constraint.topology_key == "kubernetes.io/hostname";
                let domains: HashSet<String> = scored
                    .iter()
                    .map(|n| node_labels(&self.nodes[*n])[&constraint.topology_key].clone())
                    .collect();
                let size = if hostname { scored.len() } else { domains.len() };
                let count = if hostname {
                    let like = |p: &&Pod| {
                        p.metadata.deletion_timestamp.is_none()
                            && namespace(p) == namespace(pod)
                            && selects(constraint.label_selector.as_ref(), &labels(p))
                    };
                    self.on(name).filter(like).count() as i64
                } else {
                    self.spread_counts(constraint, pod, &keys)
                        .get(here)
                        .copied()
                        .unwrap_or(0)
                };
                score += count as f64 * ((size + 2) as f64).ln() + f64::from(constraint.max_skew - 1);
            }
            score.round() as i64
        };
        let raws: Vec<Option<i64>> = names.iter().map(|name| (!ignored(name)).then(|| raw(name))).collect();
        let least = raws.iter().flatten().copied().min().unwrap_or(0);
        let most = raws.iter().flatten().copied().max().unwrap_or(0);
        let normal = |raw: &Option<i64>| match raw {
            None => 0,
            Some(_) if most == 0 => 100,
            Some(raw) => 100 * (most + least - raw) / most,
        };
        raws.iter().map(normal).collect()
    }

    fn affinity_scores(&self, pod: &Pod, names: &[String]) -> Vec<i64> {
        let mut worth: HashMap<(String, String), i64> = HashMap::new();
        let mut add = |term: &PodAffinityTerm, at: &Node, weight: i64| {
            if let Some(value) = node_labels(at).get(&term.topology_key) {
                *worth.entry((term.topology_key.clone(), value.clone())).or_insert(0) += weight;
            }
        };
        for (other, at) in self.placed() {
            soft_terms(pod)
                .iter()
                .filter(|(_, t)| self.means(t, pod, other))
                .for_each(|(w, t)| add(t, at, *w));
            soft_terms(other)
                .iter()
                .filter(|(_, t)| self.means(t, other, pod))
                .for_each(|(w, t)| add(t, at, *w));
            own_terms(other, false)
                .iter()
                .filter(|t| self.means(t, other, pod))
                .for_each(|t| add(t, at, 1));
        }
        let raw = |name: &String| {
            node_labels(&self.nodes[name])
                .into_iter()
                .map(|pair| worth.get(&pair).copied().unwrap_or(0))
                .sum()
        };
        let raws: Vec<i64> = names.iter().map(raw).collect();
        let (least, most) = (raws.iter().copied().min().unwrap(), raws.iter().copied().max().unwrap());
        let normal = |raw: &i64| {
            if most > least {
                (100.0 * ((raw - least) as f64 / (most - least) as f64)) as i64
            } else {
                0
            }
        };
        raws.iter().map(normal).collect()
    }

    /// The weighted sum of all scores of each node.
    pub fn scores(&self, pod: &Pod, names: &[String]) -> Vec<i64> {
        let lists = [
            (3, self.taint_scores(pod, names)),
            (2, self.node_affinity_scores(pod, names)),
            (1, names.iter().map(|name| self.least_allocated(pod, name)).collect()),
            (2, self.spread_scores(pod, names)),
            (2, self.affinity_scores(pod, names)),
            (1, names.iter().map(|name| self.balanced(pod, name)).collect()),
            (1, self.image_scores(pod, names)),
        ];
        (0..names.len())
            .map(|at| lists.iter().map(|(weight, list)| weight * list[at]).sum())
            .collect()
    }
}
