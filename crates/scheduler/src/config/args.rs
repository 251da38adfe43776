//! Arguments of plugins (`pluginConfig`), with upstream's defaults (apis/config/v1/defaults.go) and
//! checks (apis/config/validation/validation_pluginargs.go).

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{NodeAffinity, TopologySpreadConstraint};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::shape::Spread;

/// A resource that nodes are scored by.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceSpec {
    /// Its name.
    pub name: String,
    /// How much it counts.
    #[serde(default)]
    pub weight: i64,
}

/// How NodeResourcesFit scores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScoringStrategy {
    /// Emptier nodes are better.
    LeastAllocated,
    /// Fuller nodes are better.
    MostAllocated,
    /// By points of utilisation (0 to 100) and score (0 to 10).
    RequestedToCapacityRatio(Vec<(i64, i64)>),
}

/// The arguments of all plugins of one profile.
#[derive(Debug, Clone)]
pub struct PluginArgs {
    /// DefaultPreemption: at least this share of the nodes is tried.
    pub min_candidate_nodes_percentage: usize,
    /// DefaultPreemption: at least so many nodes are tried.
    pub min_candidate_nodes_absolute: usize,
    /// InterPodAffinity: what a required term of an existing pod is worth.
    pub hard_pod_affinity_weight: i64,
    /// InterPodAffinity: whether preferences of existing pods do not count.
    pub ignore_preferred_terms_of_existing_pods: bool,
    /// NodeAffinity: affinity of all pods of the profile.
    pub added_affinity: Option<NodeAffinity>,
    /// NodeResourcesBalancedAllocation: what is balanced.
    pub balanced_resources: Vec<ResourceSpec>,
    /// NodeResourcesFit: resources that are not filtered by.
    pub ignored_resources: Vec<String>,
    /// NodeResourcesFit: prefixes of such resources.
    pub ignored_resource_groups: Vec<String>,
    /// NodeResourcesFit: how it scores.
    pub scoring_strategy: ScoringStrategy,
    /// NodeResourcesFit: what it scores.
    pub fit_resources: Vec<ResourceSpec>,
    /// PodTopologySpread: constraints of pods without any; `None` for the system's.
    pub spread_defaults: Option<Vec<Spread>>,
    /// VolumeBinding: seconds that binding volumes may take.
    pub bind_timeout_seconds: i64,
    /// VolumeBinding: points of utilisation (0 to 100) and score (0 to 10).
    pub volume_shape: Vec<(i64, i64)>,
    /// Arguments of plugins that read their own, by plugin name.
    pub others: HashMap<String, Value>,
}

fn default_resources() -> Vec<ResourceSpec> {
    let spec = |name: &str| ResourceSpec {
        name: name.to_owned(),
        weight: 1,
    };
    vec![spec("cpu"), spec("memory")]
}

impl Default for PluginArgs {
    fn default() -> Self {
        PluginArgs {
            min_candidate_nodes_percentage: 10,
            min_candidate_nodes_absolute: 100,
            hard_pod_affinity_weight: 1,
            ignore_preferred_terms_of_existing_pods: false,
            added_affinity: None,
            balanced_resources: default_resources(),
            ignored_resources: Vec::new(),
            ignored_resource_groups: Vec::new(),
            scoring_strategy: ScoringStrategy::LeastAllocated,
            fit_resources: default_resources(),
            spread_defaults: None,
            bind_timeout_seconds: 600,
            volume_shape: vec![(0, 10), (100, 0)],
            others: HashMap::new(),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PreemptionArgs {
    min_candidate_nodes_percentage: Option<i64>,
    min_candidate_nodes_absolute: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AffinityArgs {
    hard_pod_affinity_weight: Option<i64>,
    ignore_preferred_terms_of_existing_pods: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NodeAffinityArgs {
    added_affinity: Option<NodeAffinity>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct BalancedArgs {
    resources: Vec<ResourceSpec>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct FitArgs {
    ignored_resources: Vec<String>,
    ignored_resource_groups: Vec<String>,
    scoring_strategy: Option<StrategyArgs>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct StrategyArgs {
    r#type: String,
    resources: Vec<ResourceSpec>,
    requested_to_capacity_ratio: Option<RatioArgs>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RatioArgs {
    shape: Vec<PointArgs>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PointArgs {
    utilization: i64,
    score: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SpreadArgs {
    default_constraints: Vec<TopologySpreadConstraint>,
    defaulting_type: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct VolumeArgs {
    bind_timeout_seconds: Option<i64>,
    shape: Vec<PointArgs>,
}

fn decode<T: DeserializeOwned + Default>(path: &str, args: &Value, wrong: &mut Vec<String>) -> T {
    if args.is_null() {
        return T::default();
    }
    serde_json::from_value(args.clone()).unwrap_or_else(|error| {
        wrong.push(format!("{path}: {error}"));
        T::default()
    })
}

fn check_range(path: &str, value: i64, range: std::ops::RangeInclusive<i64>, wrong: &mut Vec<String>) -> i64 {
    if !range.contains(&value) {
        let (least, most) = range.into_inner();
        wrong.push(format!(
            "{path}: Invalid value: {value}: not in valid range [{least}, {most}]"
        ));
    }
    value
}

/// Weights that are not given are one.
fn resources(path: &str, specs: Vec<ResourceSpec>, most: i64, wrong: &mut Vec<String>) -> Vec<ResourceSpec> {
    if specs.is_empty() {
        return default_resources();
    }
    let mut all: Vec<ResourceSpec> = Vec::new();
    for (at, mut spec) in specs.into_iter().enumerate() {
        if spec.weight == 0 {
            spec.weight = 1;
        }
        if all.iter().any(|known| known.name == spec.name) {
            wrong.push(format!("{path}[{at}].name: Duplicate value: {:?}", spec.name));
        }
        if spec.weight < 0 || spec.weight > most {
            let why = match most {
                1 => "must be 1".to_owned(),
                _ => format!("resource weight of {} not in valid range (0, 100]", spec.name),
            };
            wrong.push(format!("{path}[{at}].weight: Invalid value: {}: {why}", spec.weight));
        }
        all.push(spec);
    }
    all
}

impl PluginArgs {
    /// Takes in the arguments of one plugin.
    pub(super) fn read(&mut self, path: &str, plugin: &str, args: &Value, wrong: &mut Vec<String>) {
        match plugin {
            "DefaultPreemption" => self.read_preemption(path, &decode(path, args, wrong), wrong),
            "InterPodAffinity" => {
                let own: AffinityArgs = decode(path, args, wrong);
                let weight = own.hard_pod_affinity_weight.unwrap_or(1);
                let field = format!("{path}.hardPodAffinityWeight");
                self.hard_pod_affinity_weight = check_range(&field, weight, 0..=100, wrong);
                self.ignore_preferred_terms_of_existing_pods = own.ignore_preferred_terms_of_existing_pods;
            }
            "NodeAffinity" => self.added_affinity = decode::<NodeAffinityArgs>(path, args, wrong).added_affinity,
            "NodeResourcesBalancedAllocation" => {
                let own: BalancedArgs = decode(path, args, wrong);
                self.balanced_resources = resources(&format!("{path}.resources"), own.resources, 1, wrong);
            }
            "NodeResourcesFit" => self.read_fit(path, decode(path, args, wrong), wrong),
            "PodTopologySpread" => self.read_spread(path, &decode(path, args, wrong), wrong),
            "VolumeBinding" => {
                let own: VolumeArgs = decode(path, args, wrong);
                if !own.shape.is_empty() {
                    self.volume_shape = own.shape.iter().map(|point| (point.utilization, point.score)).collect();
                    check_shape(&format!("{path}.shape"), &self.volume_shape, wrong);
                }
                self.bind_timeout_seconds = own.bind_timeout_seconds.unwrap_or(600);
                if self.bind_timeout_seconds < 0 {
                    let why = "invalid BindTimeoutSeconds, should not be a negative value";
                    let value = self.bind_timeout_seconds;
                    wrong.push(format!("{path}.bindTimeoutSeconds: Invalid value: {value}: {why}"));
                }
            }
            _ => {}
        }
        self.others.insert(plugin.to_owned(), args.clone());
    }

    fn read_preemption(&mut self, path: &str, own: &PreemptionArgs, wrong: &mut Vec<String>) {
        let percentage = own.min_candidate_nodes_percentage.unwrap_or(10);
        let absolute = own.min_candidate_nodes_absolute.unwrap_or(100);
        check_range(
            &format!("{path}.minCandidateNodesPercentage"),
            percentage,
            0..=100,
            wrong,
        );
        if absolute < 0 {
            let why = "not in valid range [0, inf)";
            wrong.push(format!(
                "{path}.minCandidateNodesAbsolute: Invalid value: {absolute}: {why}"
            ));
        }
        if percentage == 0 && absolute == 0 {
            let why = "cannot be zero at the same time as minCandidateNodesAbsolute";
            wrong.push(format!("{path}.minCandidateNodesPercentage: Invalid value: 0: {why}"));
        }
        self.min_candidate_nodes_percentage = usize::try_from(percentage).unwrap_or(0);
        self.min_candidate_nodes_absolute = usize::try_from(absolute).unwrap_or(0);
    }

    fn read_fit(&mut self, path: &str, own: FitArgs, wrong: &mut Vec<String>) {
        for (at, group) in own.ignored_resource_groups.iter().enumerate() {
            if group.contains('/') {
                let why = "resource group name can't contain '/'";
                wrong.push(format!(
                    "{path}.ignoredResourceGroups[{at}]: Invalid value: {group:?}: {why}"
                ));
            }
        }
        self.ignored_resources = own.ignored_resources;
        self.ignored_resource_groups = own.ignored_resource_groups;
        let Some(strategy) = own.scoring_strategy else { return };
        let path = format!("{path}.scoringStrategy");
        self.fit_resources = resources(&format!("{path}.resources"), strategy.resources, 100, wrong);
        self.scoring_strategy = match strategy.r#type.as_str() {
            "LeastAllocated" => ScoringStrategy::LeastAllocated,
            "MostAllocated" => ScoringStrategy::MostAllocated,
            "RequestedToCapacityRatio" => {
                let shape = strategy.requested_to_capacity_ratio.unwrap_or_default().shape;
                let shape: Vec<(i64, i64)> = shape.iter().map(|point| (point.utilization, point.score)).collect();
                check_shape(&format!("{path}.requestedToCapacityRatio.shape"), &shape, wrong);
                ScoringStrategy::RequestedToCapacityRatio(shape)
            }
            other => {
                let known = "supported values: \"LeastAllocated\", \"MostAllocated\", \"RequestedToCapacityRatio\"";
                wrong.push(format!("{path}.type: Unsupported value: {other:?}: {known}"));
                ScoringStrategy::LeastAllocated
            }
        };
    }

    fn read_spread(&mut self, path: &str, own: &SpreadArgs, wrong: &mut Vec<String>) {
        match own.defaulting_type.as_deref().unwrap_or("System") {
            "System" if own.default_constraints.is_empty() => return,
            "System" => {
                let why = "when .defaultConstraints are not empty";
                wrong.push(format!("{path}.defaultingType: Invalid value: \"System\": {why}"));
            }
            "List" => {}
            other => {
                let known = "supported values: \"System\", \"List\"";
                wrong.push(format!("{path}.defaultingType: Unsupported value: {other:?}: {known}"));
            }
        }
        for (at, constraint) in own.default_constraints.iter().enumerate() {
            let path = format!("{path}.defaultConstraints[{at}]");
            if constraint.max_skew <= 0 {
                let skew = constraint.max_skew;
                wrong.push(format!(
                    "{path}.maxSkew: Invalid value: {skew}: not in valid range (0, inf)"
                ));
            }
            if constraint.topology_key.is_empty() {
                wrong.push(format!("{path}.topologyKey: Required value: can not be empty"));
            }
            if !["DoNotSchedule", "ScheduleAnyway"].contains(&constraint.when_unsatisfiable.as_str()) {
                let known = "supported values: \"DoNotSchedule\", \"ScheduleAnyway\"";
                let value = &constraint.when_unsatisfiable;
                wrong.push(format!(
                    "{path}.whenUnsatisfiable: Unsupported value: {value:?}: {known}"
                ));
            }
            if constraint.label_selector.is_some() {
                let why = "constraint must not define a selector, as they deduced for each pod";
                wrong.push(format!("{path}.labelSelector: Forbidden: {why}"));
            }
        }
        self.spread_defaults = Some(
            own.default_constraints
                .iter()
                .map(|constraint| Spread::of("", constraint))
                .collect(),
        );
    }
}

/// Upstream `validateFunctionShape`.
fn check_shape(path: &str, shape: &[(i64, i64)], wrong: &mut Vec<String>) {
    if shape.is_empty() {
        wrong.push(format!("{path}: Required value: at least one point must be specified"));
    }
    if let Some(at) = shape.windows(2).position(|pair| pair[0].0 >= pair[1].0) {
        let why = "utilization values must be sorted in increasing order";
        let value = shape[at + 1].0;
        wrong.push(format!("{path}[{}].utilization: Invalid value: {value}: {why}", at + 1));
    }
    for (at, (utilization, score)) in shape.iter().enumerate() {
        check_range(&format!("{path}[{at}].utilization"), *utilization, 0..=100, wrong);
        check_range(&format!("{path}[{at}].score"), *score, 0..=10, wrong);
    }
}
