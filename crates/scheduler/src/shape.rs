//! What a pod's specification asks of the scheduler, the same for all pods of one template.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use api::labels::Selector;
use k8s_openapi::api::core::v1::{
    Container, Pod, PodAffinityTerm, PodResourceClaim, PodResourceClaimStatus, PodSpec, Toleration,
    TopologySpreadConstraint, Volume,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference};
use placement::{PreferredTerms, RequiredTerms};

use crate::labels::Labels;
use crate::resources::{self, Resources};

/// A port on the host that a pod takes for itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    /// Host address; `0.0.0.0` for all.
    pub ip: String,
    /// TCP, UDP or SCTP.
    pub protocol: String,
    /// Port.
    pub port: i32,
}

impl HostPort {
    /// Whether both cannot be had at once.
    #[must_use]
    pub fn conflicts(&self, other: &HostPort) -> bool {
        let wildcard = |ip: &str| ip == "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || wildcard(&self.ip) || wildcard(&other.ip))
    }
}

/// Which pods a term is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct PodSelector {
    /// In these namespaces,
    pub namespaces: Vec<String>,
    /// or in those with such labels.
    pub namespace_selector: Option<Selector>,
    /// Having these labels.
    pub labels: Selector,
}

impl PodSelector {
    /// Pods of one namespace.
    #[must_use]
    pub fn within(namespace: &str, labels: Selector) -> PodSelector {
        PodSelector {
            namespaces: vec![namespace.to_owned()],
            namespace_selector: None,
            labels,
        }
    }

    /// Whether a pod in `namespace` with these labels is meant.
    #[must_use]
    pub fn matches(&self, namespace: &str, labels: &Labels, namespaces: &Namespaces) -> bool {
        let in_namespace = self.namespaces.iter().any(|known| known == namespace)
            || self.namespace_selector.as_ref().is_some_and(|selector| {
                selector.is_everything()
                    || selector.matches(namespaces.get(namespace).map_or(&NO_LABELS, |known| &**known))
            });
        in_namespace && self.labels.matches(labels)
    }
}

/// The labels of each namespace.
pub type Namespaces = HashMap<Arc<str>, Arc<BTreeMap<String, String>>>;

static NO_LABELS: BTreeMap<String, String> = BTreeMap::new();

/// A term of pod affinity or anti-affinity.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Term {
    /// Which pods.
    pub pods: Arc<PodSelector>,
    /// What "together" means: the same value of this node label.
    pub topology_key: Arc<str>,
}

/// All terms of a pod's affinity to pods.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PodAffinity {
    /// Pods that must be near.
    pub required: Vec<Arc<Term>>,
    /// Pods that must not be near.
    pub required_anti: Vec<Arc<Term>>,
    /// Pods that had better be near, with weights.
    pub preferred: Vec<(i64, Arc<Term>)>,
    /// Pods that had better not be near, with weights.
    pub preferred_anti: Vec<(i64, Arc<Term>)>,
}

impl PodAffinity {
    /// Whether there are no terms.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.required.is_empty() && self.required_anti.is_empty() && !self.has_preferred()
    }

    /// All terms.
    pub fn terms(&self) -> impl Iterator<Item = &Arc<Term>> {
        let preferred = self.preferred.iter().chain(&self.preferred_anti).map(|(_, term)| term);
        self.required.iter().chain(&self.required_anti).chain(preferred)
    }

    /// Whether there are preferences.
    #[must_use]
    pub fn has_preferred(&self) -> bool {
        !self.preferred.is_empty() || !self.preferred_anti.is_empty()
    }
}

/// A topology spread constraint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spread {
    /// How uneven the domains may be.
    pub max_skew: i64,
    /// The node label whose values are the domains.
    pub topology_key: Arc<str>,
    /// Whether the pod must wait rather than break the constraint.
    pub required: bool,
    /// The pods that are counted.
    pub pods: Arc<PodSelector>,
    /// Labels whose values on the incoming pod the counted ones must share.
    pub match_label_keys: Vec<String>,
    /// With fewer domains, the least count is taken for zero.
    pub min_domains: i64,
    /// Whether only nodes count that the pod's node affinity allows.
    pub honors_affinity: bool,
    /// Whether only nodes count whose taints the pod tolerates.
    pub honors_taints: bool,
}

/// The specification, reduced.
#[derive(Debug, Clone, PartialEq)]
pub struct PodShape {
    /// The pod's namespace: terms without one mean it.
    pub namespace: Arc<str>,
    /// Who schedules it.
    pub scheduler_name: String,
    /// Priority; zero when none is set.
    pub priority: i32,
    /// Whether it must not preempt (`preemptionPolicy: Never`).
    pub never_preempts: bool,
    /// What it asks for.
    pub requests: Resources,
    /// What scoring assumes that it uses.
    pub nonzero: Resources,
    /// Ports on the host.
    pub host_ports: Vec<HostPort>,
    /// What a node must have.
    pub required_nodes: RequiredTerms,
    /// What a node had better have.
    pub preferred_nodes: PreferredTerms,
    /// Names of the nodes that every required term of node affinity asks for by `metadata.name`.
    pub only_nodes: Option<Vec<String>>,
    /// Tolerations.
    pub tolerations: Vec<Toleration>,
    /// Affinity to pods.
    pub affinity: PodAffinity,
    /// Topology spread constraints.
    pub spread: Vec<Spread>,
    /// Scheduling gates.
    pub gates: Vec<String>,
    /// Images, with their tags, in order; one that two containers use counts twice.
    pub images: Vec<String>,
    /// Volumes that concern scheduling: claims, ephemeral ones, and disks that attach to one node.
    pub volumes: Vec<Volume>,
    /// Claims of devices.
    pub resource_claims: Vec<PodResourceClaim>,
    /// Claims that were made for it (`status.resourceClaimStatuses`).
    pub generated_claims: Vec<PodResourceClaimStatus>,
    /// The controller that owns it.
    pub controller: Option<OwnerReference>,
}

impl PodShape {
    /// Reads a pod's specification.
    #[must_use]
    pub fn of(namespace: Arc<str>, pod: &Pod) -> PodShape {
        static EMPTY: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);
        let spec = pod.spec.as_ref().unwrap_or(&EMPTY);
        PodShape {
            scheduler_name: spec
                .scheduler_name
                .clone()
                .filter(|name| !name.is_empty())
                .unwrap_or_else(|| "default-scheduler".into()),
            priority: spec.priority.unwrap_or(0),
            never_preempts: spec.preemption_policy.as_deref() == Some("Never"),
            requests: resources::requests(pod),
            nonzero: resources::nonzero_requests(pod),
            host_ports: host_ports(spec),
            required_nodes: RequiredTerms::of(spec),
            preferred_nodes: PreferredTerms::of(spec),
            only_nodes: only_nodes(spec),
            tolerations: spec.tolerations.clone().unwrap_or_default(),
            affinity: pod_affinity(&namespace, spec),
            spread: spread(&namespace, spec),
            gates: spec
                .scheduling_gates
                .iter()
                .flatten()
                .map(|gate| gate.name.clone())
                .collect(),
            images: images(spec),
            volumes: spec
                .volumes
                .iter()
                .flatten()
                .filter(|volume| concerns_scheduling(volume))
                .cloned()
                .collect(),
            resource_claims: spec.resource_claims.clone().unwrap_or_default(),
            generated_claims: generated_claims(pod),
            controller: controller(pod),
            namespace,
        }
    }

    /// A number that is the same for equal shapes.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.namespace, self.priority, &self.images, &self.host_ports).hash(&mut hasher);
        self.requests.hash(&mut hasher);
        self.controller.as_ref().map(|owner| &owner.uid).hash(&mut hasher);
        (self.tolerations.len(), self.spread.len(), &self.affinity.required_anti).hash(&mut hasher);
        for volume in &self.volumes {
            volume
                .persistent_volume_claim
                .as_ref()
                .map(|claim| &claim.claim_name)
                .hash(&mut hasher);
        }
        self.only_nodes.hash(&mut hasher);
        hasher.finish()
    }
}

impl Spread {
    /// Reads a constraint of a pod in `namespace`, with the API's defaults.
    #[must_use]
    pub fn of(namespace: &str, constraint: &TopologySpreadConstraint) -> Spread {
        Spread {
            max_skew: i64::from(constraint.max_skew),
            topology_key: constraint.topology_key.as_str().into(),
            required: constraint.when_unsatisfiable == "DoNotSchedule",
            pods: Arc::new(PodSelector::within(
                namespace,
                selector(constraint.label_selector.as_ref()),
            )),
            match_label_keys: constraint.match_label_keys.clone().unwrap_or_default(),
            min_domains: i64::from(constraint.min_domains.unwrap_or(1)),
            honors_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
            honors_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
        }
    }
}

/// A label selector; none selects nothing, and so does one that does not parse.
#[must_use]
pub fn selector(selector: Option<&LabelSelector>) -> Selector {
    let Some(selector) = selector else {
        return Selector::nothing();
    };
    let none = BTreeMap::new();
    let expressions = selector.match_expressions.iter().flatten().map(|expression| {
        let values = expression.values.clone().unwrap_or_default();
        (expression.key.as_str(), expression.operator.as_str(), values)
    });
    Selector::from_parts(selector.match_labels.as_ref().unwrap_or(&none), expressions)
        .unwrap_or_else(|_| Selector::nothing())
}

fn spread(namespace: &str, spec: &PodSpec) -> Vec<Spread> {
    let constraints = spec.topology_spread_constraints.iter().flatten();
    constraints
        .map(|constraint| Spread::of(namespace, constraint))
        .collect()
}

fn generated_claims(pod: &Pod) -> Vec<PodResourceClaimStatus> {
    pod.status
        .as_ref()
        .and_then(|status| status.resource_claim_statuses.clone())
        .unwrap_or_default()
}

fn controller(pod: &Pod) -> Option<OwnerReference> {
    let mut owners = pod.metadata.owner_references.iter().flatten();
    owners.find(|owner| owner.controller == Some(true)).cloned()
}

fn term(namespace: &str, term: &PodAffinityTerm) -> Arc<Term> {
    let mut namespaces = term.namespaces.clone().unwrap_or_default();
    if namespaces.is_empty() && term.namespace_selector.is_none() {
        namespaces.push(namespace.to_owned());
    }
    namespaces.sort();
    Arc::new(Term {
        pods: Arc::new(PodSelector {
            namespaces,
            namespace_selector: term.namespace_selector.as_ref().map(|s| selector(Some(s))),
            labels: selector(term.label_selector.as_ref()),
        }),
        topology_key: term.topology_key.as_str().into(),
    })
}

fn pod_affinity(namespace: &str, spec: &PodSpec) -> PodAffinity {
    let Some(affinity) = &spec.affinity else {
        return PodAffinity::default();
    };
    let near = affinity.pod_affinity.as_ref();
    let apart = affinity.pod_anti_affinity.as_ref();
    let all = |terms: Option<&Vec<PodAffinityTerm>>| terms.into_iter().flatten().map(|t| term(namespace, t)).collect();
    let near_soft = near.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
    let apart_soft = apart.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
    let weighted = |weight: i32, t: &PodAffinityTerm| (i64::from(weight), term(namespace, t));
    PodAffinity {
        required: all(near.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref())),
        required_anti: all(apart.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref())),
        preferred: near_soft
            .into_iter()
            .flatten()
            .map(|t| weighted(t.weight, &t.pod_affinity_term))
            .collect(),
        preferred_anti: apart_soft
            .into_iter()
            .flatten()
            .map(|t| weighted(t.weight, &t.pod_affinity_term))
            .collect(),
    }
}

/// Nodes named by `metadata.name` in every required term (upstream NodeAffinity `PreFilter`); `None`
/// when a term leaves the name open.
fn only_nodes(spec: &PodSpec) -> Option<Vec<String>> {
    let affinity = spec.affinity.as_ref()?.node_affinity.as_ref()?;
    let required = affinity.required_during_scheduling_ignored_during_execution.as_ref()?;
    if required.node_selector_terms.is_empty() {
        return None;
    }
    let mut names = std::collections::BTreeSet::new();
    for term in &required.node_selector_terms {
        let mut wanted: Option<std::collections::BTreeSet<String>> = None;
        for field in term.match_fields.iter().flatten() {
            if field.key == "metadata.name" && field.operator == "In" {
                let values = field.values.iter().flatten().cloned().collect();
                wanted = Some(match wanted {
                    None => values,
                    Some(known) => known.intersection(&values).cloned().collect(),
                });
            }
        }
        names.extend(wanted?);
    }
    Some(names.into_iter().collect())
}

fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let restarts = |container: &&Container| container.restart_policy.as_deref() == Some("Always");
    let sidecars = spec.init_containers.iter().flatten().filter(restarts);
    let ports = spec
        .containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let ip = port.host_ip.clone().filter(|ip| !ip.is_empty());
            Some(HostPort {
                ip: ip.unwrap_or_else(|| "0.0.0.0".into()),
                protocol: port.protocol.clone().unwrap_or_else(|| "TCP".into()),
                port: port.host_port.filter(|port| *port > 0)?,
            })
        })
        .collect()
}

fn images(spec: &PodSpec) -> Vec<String> {
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let mounted = spec
        .volumes
        .iter()
        .flatten()
        .filter_map(|volume| volume.image.as_ref()?.reference.as_deref());
    containers
        .map(|container| container.image.as_deref().unwrap_or_default())
        .chain(mounted)
        .map(with_tag)
        .collect()
}

/// Adds `:latest` where no tag is named (upstream `normalizedImageName`).
fn with_tag(name: &str) -> String {
    match (name.rfind(':'), name.rfind('/')) {
        (Some(colon), slash) if slash.is_none_or(|slash| colon > slash) => name.to_owned(),
        _ => format!("{name}:latest"),
    }
}

fn concerns_scheduling(volume: &Volume) -> bool {
    volume.persistent_volume_claim.is_some()
        || volume.ephemeral.is_some()
        || volume.gce_persistent_disk.is_some()
        || volume.aws_elastic_block_store.is_some()
        || volume.azure_disk.is_some()
        || volume.cinder.is_some()
        || volume.iscsi.is_some()
        || volume.rbd.is_some()
        || volume.csi.is_some()
        || volume.portworx_volume.is_some()
}
