//! The workloads of scheduler_perf, by their parameters: test/integration/scheduler_perf of v1.28
//! (config/performance-config.yaml) and of v1.37 (affinity, misc, topology_spreading, volumes).

use std::time::Duration;

use anyhow::{Result, bail};

use super::templates::{NodeTemplate, PodTemplate, Volumes};

/// The numbers of a workload; what a case does not use is zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Params {
    pub nodes: u32,
    pub init: u32,
    pub measure: u32,
    pub namespaces: u32,
    pub tainted: u32,
    pub gated: u32,
    pub deleting: u32,
}

/// A step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Nodes {
        count: u32,
        template: NodeTemplate,
        zones: &'static [&'static str],
        csi: Csi,
    },
    Namespaces {
        prefix: &'static str,
        count: u32,
    },
    Pods(Pods),
    /// Makes objects every now and then while the next steps run.
    Churn {
        what: Churn,
        every: Duration,
    },
    /// Deletes the pods of a namespace, so many a second, while the next steps run.
    Delete {
        namespace: &'static str,
        per_second: u32,
    },
}

/// What is known of nodes' CSI drivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Csi {
    None,
    Driver,
    Migrated,
}

/// What comes and goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Churn {
    /// A node, a large pod and a Service, made anew each time.
    Mixed,
    /// More and more pods.
    Pods(PodTemplate),
}

/// Pods that are created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pods {
    pub count: u32,
    pub template: PodTemplate,
    pub namespace: String,
    pub volumes: Option<Volumes>,
    pub role: Role,
}

/// Why pods are created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// They have to be bound before it goes on.
    Setup,
    /// Nobody waits for them.
    Background,
    /// Their scheduling is what is measured.
    Measured,
}

/// A case, and the sizes in which it is run.
pub struct Case {
    pub name: &'static str,
    plan: fn(&Params) -> Vec<Step>,
    sizes: &'static [(&'static str, Params)],
}

/// A case in one size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// `Case/Size`.
    pub name: String,
    pub steps: Vec<Step>,
}

impl Workload {
    /// Nodes of all steps.
    pub fn nodes(&self) -> u32 {
        let counts = self.steps.iter().map(|step| match step {
            Step::Nodes { count, .. } => *count,
            _ => 0,
        });
        counts.sum()
    }

    /// Pods that are measured.
    #[cfg(test)]
    pub fn measured(&self) -> u32 {
        let counts = self.steps.iter().map(|step| match step {
            Step::Pods(pods) if pods.role == Role::Measured => pods.count,
            _ => 0,
        });
        counts.sum()
    }
}

/// The workloads that are meant by `Case/Size`, `Case` (every size), `all/Size`, or `all` (5000Nodes).
///
/// # Errors
/// There is none of that name.
pub fn find(name: &str) -> Result<Vec<Workload>> {
    let name = if name == "all" { "all/5000Nodes" } else { name };
    let (case, size) = name
        .split_once('/')
        .map_or((name, None), |(case, size)| (case, Some(size)));
    let mut found = Vec::new();
    for known in CASES.iter().filter(|known| case == "all" || known.name == case) {
        for (known_size, params) in known.sizes {
            if size.is_none_or(|size| size == *known_size) {
                found.push(Workload {
                    name: format!("{}/{known_size}", known.name),
                    steps: (known.plan)(params),
                });
            }
        }
    }
    if found.is_empty() {
        bail!("there is no workload {name:?}; `--list` names all of them");
    }
    Ok(found)
}

/// The names of all workloads.
pub fn names() -> Vec<String> {
    let sizes = |case: &'static Case| case.sizes.iter().map(move |(size, _)| format!("{}/{size}", case.name));
    CASES.iter().flat_map(sizes).collect()
}

const NONE: Params = Params {
    nodes: 0,
    init: 0,
    measure: 0,
    namespaces: 0,
    tainted: 0,
    gated: 0,
    deleting: 0,
};

const fn of(nodes: u32, init: u32, measure: u32) -> Params {
    Params {
        nodes,
        init,
        measure,
        ..NONE
    }
}

const fn spread(nodes: u32, namespaces: u32, init: u32, measure: u32) -> Params {
    Params {
        nodes,
        init,
        measure,
        namespaces,
        ..NONE
    }
}

const fn tainted(nodes: u32, tainted: u32, measure: u32) -> Params {
    Params {
        nodes,
        measure,
        tainted,
        ..NONE
    }
}

const fn gated(gated: u32, deleting: u32, measure: u32) -> Params {
    Params {
        nodes: 1,
        measure,
        gated,
        deleting,
        ..NONE
    }
}

const ZONE1: &[&str] = &["zone1"];
const MOONS: &[&str] = &["moon-1", "moon-2", "moon-3"];

fn nodes(count: u32, zones: &'static [&'static str]) -> Step {
    Step::Nodes {
        count,
        template: NodeTemplate::Default,
        zones,
        csi: Csi::None,
    }
}

fn pods(count: u32, template: PodTemplate, namespace: &str, role: Role) -> Step {
    Step::Pods(Pods {
        count,
        template,
        namespace: namespace.to_owned(),
        volumes: None,
        role,
    })
}

fn with_volumes(count: u32, template: PodTemplate, volumes: Volumes, namespace: &str, role: Role) -> Step {
    Step::Pods(Pods {
        count,
        template,
        namespace: namespace.to_owned(),
        volumes: Some(volumes),
        role,
    })
}

/// Pods of one template, first some, then those that are measured.
fn plain(params: &Params, zones: &'static [&'static str], init: PodTemplate, measured: PodTemplate) -> Vec<Step> {
    vec![
        nodes(params.nodes, zones),
        pods(params.init, init, "init", Role::Setup),
        pods(params.measure, measured, "measured", Role::Measured),
    ]
}

/// The same in the two namespaces that affinity terms name.
fn in_two(params: &Params, zones: &'static [&'static str], init: PodTemplate, measured: PodTemplate) -> Vec<Step> {
    vec![
        nodes(params.nodes, zones),
        pods(params.init, init, "sched-0", Role::Setup),
        pods(params.measure, measured, "sched-1", Role::Measured),
    ]
}

fn in_selected(params: &Params, zones: &'static [&'static str], template: PodTemplate) -> Vec<Step> {
    let mut steps = vec![
        nodes(params.nodes, zones),
        Step::Namespaces {
            prefix: "init-ns",
            count: params.namespaces,
        },
        Step::Namespaces {
            prefix: "measure-ns",
            count: 1,
        },
    ];
    for namespace in 0..params.namespaces {
        steps.push(pods(
            params.init,
            template,
            &format!("init-ns-{namespace}"),
            Role::Setup,
        ));
    }
    steps.push(pods(params.measure, template, "measure-ns-0", Role::Measured));
    steps
}

fn volumes(params: &Params, csi: Csi, volumes: Volumes) -> Vec<Step> {
    vec![
        Step::Nodes {
            count: params.nodes,
            template: NodeTemplate::Default,
            zones: &[],
            csi,
        },
        with_volumes(params.init, PodTemplate::Default, volumes, "init", Role::Setup),
        with_volumes(
            params.measure,
            PodTemplate::Default,
            volumes,
            "measured",
            Role::Measured,
        ),
    ]
}

fn mixed(params: &Params) -> Vec<Step> {
    let kinds = [
        PodTemplate::Default,
        PodTemplate::Affinity,
        PodTemplate::AntiAffinity,
        PodTemplate::PreferredAffinity,
        PodTemplate::PreferredAntiAffinity,
    ];
    let mut steps = vec![nodes(params.nodes, ZONE1)];
    steps.extend(kinds.map(|kind| pods(params.init, kind, "sched-0", Role::Setup)));
    steps.push(pods(params.measure, PodTemplate::Default, "measured", Role::Measured));
    steps
}

fn preemption(params: &Params, disks: Option<Volumes>) -> Vec<Step> {
    vec![
        nodes(params.nodes, &[]),
        pods(params.init, PodTemplate::LowPriority, "init", Role::Setup),
        Step::Pods(Pods {
            count: params.measure,
            template: PodTemplate::HighPriority,
            namespace: "measured".to_owned(),
            volumes: disks,
            role: Role::Measured,
        }),
    ]
}

fn churning(params: &Params, init: PodTemplate, what: Churn, every: u64) -> Vec<Step> {
    let mut steps = plain(params, &[], init, PodTemplate::Default);
    let every = Duration::from_millis(every);
    steps.insert(2, Step::Churn { what, every });
    steps
}

fn unschedulable(params: &Params) -> Vec<Step> {
    let mut steps = plain(params, &[], PodTemplate::LargeCpu, PodTemplate::Default);
    steps[1] = pods(params.init, PodTemplate::LargeCpu, "init", Role::Background);
    steps
}

fn node_inclusion(params: &Params) -> Vec<Step> {
    vec![
        nodes(params.nodes, &[]),
        Step::Nodes {
            count: params.tainted,
            template: NodeTemplate::Tainted,
            zones: &[],
            csi: Csi::None,
        },
        pods(params.measure, PodTemplate::NodeInclusion, "measured", Role::Measured),
    ]
}

fn daemon_set(params: &Params) -> Vec<Step> {
    vec![
        named_node(),
        nodes(params.nodes, &[]),
        pods(params.measure, PodTemplate::DaemonSet, "measured", Role::Measured),
    ]
}

fn named_node() -> Step {
    Step::Nodes {
        count: 1,
        template: NodeTemplate::Named,
        zones: &[],
        csi: Csi::None,
    }
}

fn while_gated(params: &Params) -> Vec<Step> {
    vec![
        named_node(),
        pods(params.gated, PodTemplate::Gated, "gated", Role::Background),
        pods(params.deleting, PodTemplate::Light, "deleting", Role::Setup),
        Step::Delete {
            namespace: "deleting",
            per_second: 50,
        },
        pods(params.measure, PodTemplate::Light, "measured", Role::Measured),
    ]
}

fn extended_resource(params: &Params) -> Vec<Step> {
    vec![
        Step::Nodes {
            count: params.nodes,
            template: NodeTemplate::ExtendedResource,
            zones: &[],
            csi: Csi::None,
        },
        pods(params.measure, PodTemplate::ExtendedResource, "test", Role::Measured),
    ]
}

const FIVE: (&str, Params) = ("5Nodes", of(5, 5, 10));
const HALF: (&str, Params) = ("500Nodes", of(500, 500, 1000));
const FULL: (&str, Params) = ("5000Nodes", of(5000, 5000, 1000));
const USUAL: &[(&str, Params)] = &[FIVE, HALF, FULL, ("5000Nodes_5000Pods", of(5000, 5000, 5000))];
const ZONED: &[(&str, Params)] = &[
    FIVE,
    ("500Nodes", of(500, 1000, 1000)),
    ("5000Nodes", of(5000, 5000, 2000)),
    ("5000Nodes_5000Pods", of(5000, 5000, 5000)),
];
const SELECTED: &[(&str, Params)] = &[
    ("10Nodes", spread(10, 2, 2, 6)),
    ("500Nodes", spread(500, 10, 4, 100)),
    ("5000Nodes", spread(5000, 100, 40, 1000)),
    ("5000Nodes_2000Pods", spread(6000, 100, 40, 2000)),
];
const TOGETHER: &[(&str, Params)] = &[
    ("10Nodes", spread(10, 2, 2, 6)),
    ("500Nodes", spread(500, 10, 4, 100)),
    ("5000Nodes", spread(5000, 100, 50, 1000)),
    ("5000Nodes_2000Pods", spread(5000, 100, 50, 2000)),
];
const PREEMPTION: &[(&str, Params)] = &[
    ("5Nodes", of(5, 20, 5)),
    ("500Nodes", of(500, 2000, 500)),
    ("1000Nodes", of(1000, 4000, 1000)),
    ("5000Nodes", of(5000, 20000, 5000)),
];

/// Every case.
pub const CASES: &[Case] = &[
    Case {
        name: "SchedulingBasic",
        plan: |params| plain(params, &[], PodTemplate::Default, PodTemplate::Default),
        sizes: &[
            FIVE,
            HALF,
            ("5000Nodes", of(5000, 1000, 1000)),
            ("5000Nodes_10000Pods", of(5000, 1000, 10_000)),
            ("5000Nodes_50000Pods", of(5000, 5000, 50_000)),
            ("5000Nodes_100000Pods", of(5000, 0, 100_000)),
        ],
    },
    Case {
        name: "SchedulingPodAntiAffinity",
        plan: |params| in_two(params, &[], PodTemplate::AntiAffinity, PodTemplate::AntiAffinity),
        sizes: &[
            ("5Nodes", of(5, 1, 4)),
            ("500Nodes", of(500, 100, 400)),
            ("5000Nodes", of(5000, 1000, 1000)),
            ("5000Nodes_2000Pods", of(5000, 1000, 2000)),
        ],
    },
    Case {
        name: "SchedulingPodMatchingAntiAffinity",
        plan: |params| in_two(params, &[], PodTemplate::AntiAffinity, PodTemplate::AntiAffinityLabel),
        sizes: &[
            ("5Nodes", of(5, 1, 4)),
            ("500Nodes", of(500, 100, 400)),
            ("5000Nodes_5000Pods", of(5000, 1000, 5000)),
        ],
    },
    Case {
        name: "SchedulingSecrets",
        plan: |params| plain(params, &[], PodTemplate::Secret, PodTemplate::Secret),
        sizes: USUAL,
    },
    Case {
        name: "SchedulingInTreePVs",
        plan: |params| volumes(params, Csi::None, Volumes::InTree),
        sizes: USUAL,
    },
    Case {
        name: "SchedulingMigratedInTreePVs",
        plan: |params| volumes(params, Csi::Migrated, Volumes::InTree),
        sizes: USUAL,
    },
    Case {
        name: "SchedulingCSIPVs",
        plan: |params| volumes(params, Csi::Driver, Volumes::Csi),
        sizes: USUAL,
    },
    Case {
        name: "SchedulingPodAffinity",
        plan: |params| in_two(params, ZONE1, PodTemplate::Affinity, PodTemplate::Affinity),
        sizes: USUAL,
    },
    Case {
        name: "SchedulingPreferredPodAffinity",
        plan: |params| {
            in_two(
                params,
                &[],
                PodTemplate::PreferredAffinity,
                PodTemplate::PreferredAffinity,
            )
        },
        sizes: USUAL,
    },
    Case {
        name: "SchedulingPreferredPodAntiAffinity",
        plan: |params| {
            let kind = PodTemplate::PreferredAntiAffinity;
            in_two(params, &[], kind, kind)
        },
        sizes: USUAL,
    },
    Case {
        name: "SchedulingNodeAffinity",
        plan: |params| plain(params, ZONE1, PodTemplate::NodeAffinity, PodTemplate::NodeAffinity),
        sizes: &[FIVE, HALF, FULL, ("5000Nodes_10000Pods", of(5000, 5000, 10_000))],
    },
    Case {
        name: "TopologySpreading",
        plan: |params| plain(params, MOONS, PodTemplate::Default, PodTemplate::Spreading),
        sizes: ZONED,
    },
    Case {
        name: "PreferredTopologySpreading",
        plan: |params| plain(params, MOONS, PodTemplate::Default, PodTemplate::PreferredSpreading),
        sizes: ZONED,
    },
    Case {
        name: "MixedSchedulingBasePod",
        plan: mixed,
        sizes: &[
            ("5Nodes", of(5, 2, 10)),
            ("500Nodes", of(500, 200, 1000)),
            ("5000Nodes", of(5000, 2000, 1000)),
            ("5000Nodes_5000Pods", of(5000, 2000, 5000)),
        ],
    },
    Case {
        name: "PreemptionBasic",
        plan: |params| preemption(params, None),
        sizes: PREEMPTION,
    },
    Case {
        name: "PreemptionPVs",
        plan: |params| preemption(params, Some(Volumes::InTree)),
        sizes: PREEMPTION,
    },
    Case {
        name: "PreemptionAsync",
        plan: |params| {
            let what = Churn::Pods(PodTemplate::HighPriority);
            churning(params, PodTemplate::LowPriority, what, 200)
        },
        sizes: &[
            ("5Nodes", of(5, 20, 5)),
            ("500Nodes", of(500, 2000, 500)),
            ("5000Nodes", of(5000, 20_000, 5000)),
        ],
    },
    Case {
        name: "Unschedulable",
        plan: unschedulable,
        sizes: &[
            ("5Nodes/2InitPods", of(5, 2, 10)),
            ("500Nodes/200InitPods", of(500, 200, 1000)),
            ("5000Nodes/200InitPods", of(5000, 200, 5000)),
            ("5000Nodes/2000InitPods", of(5000, 2000, 5000)),
        ],
    },
    Case {
        name: "UnschedulableChurn",
        plan: |params| {
            let what = Churn::Pods(PodTemplate::HighPriorityLargeCpu);
            churning(params, PodTemplate::Default, what, 200)
        },
        sizes: &[
            ("5Nodes/1Init/10Pods", of(5, 1, 10)),
            ("500Nodes/10Init/1kPods", of(500, 10, 1000)),
            ("5kNodes/100Init/1kPods", of(5000, 100, 1000)),
            ("5kNodes/100Init/10kPods", of(5000, 100, 10_000)),
            ("5kNodes/20kInit/10kPods", of(5000, 20_000, 10_000)),
        ],
    },
    Case {
        name: "SchedulingWithMixedChurn",
        plan: |params| churning(params, PodTemplate::Default, Churn::Mixed, 1000),
        sizes: &[
            ("10Nodes", of(10, 0, 100)),
            ("1000Nodes", of(1000, 0, 1000)),
            ("5000Nodes", of(5000, 0, 2000)),
            ("5000Nodes_10000Pods", of(5000, 0, 10_000)),
        ],
    },
    Case {
        name: "SchedulingRequiredPodAntiAffinityWithNSSelector",
        plan: |params| in_selected(params, &[], PodTemplate::AntiAffinityNamespaces),
        sizes: SELECTED,
    },
    Case {
        name: "SchedulingPreferredAntiAffinityWithNSSelector",
        plan: |params| in_selected(params, &[], PodTemplate::PreferredAntiAffinityNamespaces),
        sizes: SELECTED,
    },
    Case {
        name: "SchedulingRequiredPodAffinityWithNSSelector",
        plan: |params| in_selected(params, ZONE1, PodTemplate::AffinityNamespaces),
        sizes: TOGETHER,
    },
    Case {
        name: "SchedulingPreferredAffinityWithNSSelector",
        plan: |params| in_selected(params, &[], PodTemplate::PreferredAffinityNamespaces),
        sizes: TOGETHER,
    },
    Case {
        name: "SchedulingWithNodeInclusionPolicy",
        plan: node_inclusion,
        sizes: &[
            ("5Nodes", tainted(4, 1, 4)),
            ("500Nodes", tainted(400, 100, 400)),
            ("5000Nodes", tainted(4000, 1000, 4000)),
        ],
    },
    Case {
        name: "SchedulingDaemonset",
        plan: daemon_set,
        sizes: &[("5Nodes", of(5, 0, 10)), ("15000Nodes", of(15_000, 0, 30_000))],
    },
    Case {
        name: "SchedulingWhileGated",
        plan: while_gated,
        sizes: &[
            ("1Node_10GatedPods", gated(10, 10, 10)),
            ("1Node_10000GatedPods", gated(10_000, 20_000, 20_000)),
        ],
    },
    Case {
        name: "SchedulingWithExtendedResource",
        plan: extended_resource,
        sizes: &[
            ("fast", of(10, 0, 10)),
            ("500pods_500nodes", of(500, 0, 500)),
            ("5000pods_5000nodes", of(5000, 0, 5000)),
        ],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workloads_are_found_by_case_and_size() {
        let one = find("TopologySpreading/5000Nodes").unwrap();
        assert_eq!((one.len(), one[0].nodes(), one[0].measured()), (1, 5000, 2000));
        assert_eq!(
            find("Unschedulable/5000Nodes/2000InitPods").unwrap()[0].measured(),
            5000
        );
        assert_eq!(find("PreemptionPVs").unwrap().len(), 4);
        assert!(find("all").unwrap().len() > 18);
        assert!(find("SchedulingBasic/7Nodes").is_err() && find("Nothing").is_err());
    }

    #[test]
    fn every_workload_measures_pods_that_its_nodes_can_hold() {
        for name in names() {
            let found = find(&name).unwrap();
            assert_eq!(found.len(), 1, "{name}");
            assert!(found[0].measured() > 0 && found[0].nodes() > 0, "{name}");
            let measured: Vec<_> = found[0]
                .steps
                .iter()
                .filter(|step| matches!(step, Step::Pods(pods) if pods.role == Role::Measured))
                .collect();
            assert_eq!(measured.len(), 1, "{name}");
        }
    }
}
