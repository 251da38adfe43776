//! Where a set's pods belong, and what they look like (upstream `NodeShouldRunDaemonPod`, `util.CreatePodTemplate`).

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{
    Affinity, Node, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, Toleration,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use placement::{RequiredTerms, first_untolerated};

use crate::history::REVISION_HASH;
use crate::object::{annotation, controller_reference, name, namespace};
use crate::pod::node_name;

const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";
pub(super) const TEMPLATE_GENERATION_LABEL: &str = "pod-template-generation";
const NODE_NAME_FIELD: &str = "metadata.name";

/// Whether a set's pod should come to a node, and whether one that is there may stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    pub run: bool,
    pub stay: bool,
}

pub(super) fn verdict(set: &DaemonSet, node: &Node) -> Verdict {
    let Some(spec) = &set.spec.template.spec else {
        return Verdict::default();
    };
    let wanted = spec.node_name.as_deref().unwrap_or("");
    let labels = node.metadata.labels.clone().unwrap_or_default();
    if !wanted.is_empty() && wanted != name(node) || !RequiredTerms::of(spec).matches(name(node), &labels) {
        return Verdict::default();
    }
    let taints = node
        .spec
        .as_ref()
        .and_then(|spec| spec.taints.as_deref())
        .unwrap_or_default();
    let tolerations = tolerations(spec);
    let tolerated = |effects: &[&str]| first_untolerated(taints, &tolerations, effects).is_none();
    Verdict {
        run: tolerated(&["NoSchedule", "NoExecute"]),
        stay: tolerated(&["NoExecute"]),
    }
}

/// The template's tolerations and those that every daemon has (`AddOrUpdateDaemonPodTolerations`).
fn tolerations(spec: &PodSpec) -> Vec<Toleration> {
    let mut all = spec.tolerations.clone().unwrap_or_default();
    let mut add = |key: &str, effect: &str| {
        let toleration = Toleration {
            key: Some(format!("node.kubernetes.io/{key}")),
            operator: Some("Exists".to_owned()),
            effect: Some(effect.to_owned()),
            ..Toleration::default()
        };
        let same = |other: &Toleration| {
            other.key == toleration.key && other.effect == toleration.effect && other.operator == toleration.operator
        };
        match all.iter().position(same) {
            Some(index) => all[index] = toleration,
            None => all.push(toleration),
        }
    };
    add("not-ready", "NoExecute");
    add("unreachable", "NoExecute");
    add("disk-pressure", "NoSchedule");
    add("memory-pressure", "NoSchedule");
    add("pid-pressure", "NoSchedule");
    add("unschedulable", "NoSchedule");
    if spec.host_network == Some(true) {
        add("network-unavailable", "NoSchedule");
    }
    all
}

/// The generation that a set of the API's beginnings counted its templates with.
pub(super) fn template_generation(set: &DaemonSet) -> Option<&str> {
    annotation(set, TEMPLATE_GENERATION).filter(|generation| generation.parse::<i64>().is_ok())
}

/// The pod for a node.
pub(super) fn pod_for(set: &DaemonSet, node: &str, hash: &str) -> Pod {
    let template = &set.spec.template;
    let metadata = template.metadata.clone().unwrap_or_default();
    let mut labels = metadata.labels.unwrap_or_default();
    labels.insert(REVISION_HASH.to_owned(), hash.to_owned());
    if let Some(generation) = template_generation(set) {
        labels.insert(TEMPLATE_GENERATION_LABEL.to_owned(), generation.to_owned());
    }
    let mut spec = template.spec.clone().unwrap_or_default();
    spec.tolerations = Some(tolerations(&spec));
    spec.affinity = Some(bound_to(spec.affinity.take(), node));
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", name(set))),
            namespace: Some(namespace(set).to_owned()),
            labels: Some(labels),
            annotations: metadata.annotations,
            finalizers: metadata.finalizers,
            owner_references: Some(vec![controller_reference(set)]),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        status: None,
    }
}

/// The affinity with what it required of nodes replaced by the node's name (`ReplaceDaemonSetPodNodeNameNodeAffinity`).
fn bound_to(affinity: Option<Affinity>, node: &str) -> Affinity {
    let mut affinity = affinity.unwrap_or_default();
    let by_name = NodeSelectorRequirement {
        key: NODE_NAME_FIELD.to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.to_owned()]),
    };
    let node_affinity: &mut NodeAffinity = affinity.node_affinity.get_or_insert_default();
    node_affinity.required_during_scheduling_ignored_during_execution = Some(NodeSelector {
        node_selector_terms: vec![NodeSelectorTerm {
            match_expressions: None,
            match_fields: Some(vec![by_name]),
        }],
    });
    affinity
}

/// The node that a daemon's pod is on, or for (`GetTargetNodeName`).
pub(super) fn target_node(pod: &Pod) -> Option<&str> {
    if !node_name(pod).is_empty() {
        return Some(node_name(pod));
    }
    let affinity = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
    let required = affinity.required_during_scheduling_ignored_during_execution.as_ref()?;
    let fields = required
        .node_selector_terms
        .iter()
        .flat_map(|term| term.match_fields.iter().flatten());
    let mut named = fields.filter(|field| field.key == NODE_NAME_FIELD && field.operator == "In");
    match named.next()?.values.as_deref() {
        Some([node]) => Some(node),
        _ => None,
    }
}
