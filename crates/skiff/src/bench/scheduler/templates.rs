//! The objects of scheduler_perf's templates, by what they ask of the scheduler.

use serde_json::{Value, json};

/// A kind of pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodTemplate {
    /// 100m of CPU, 500Mi of memory.
    Default,
    /// Nothing but a container.
    Light,
    /// Like [`PodTemplate::Light`], and gated.
    Gated,
    /// No two with this label on one host.
    AntiAffinity,
    /// Labelled as what [`PodTemplate::AntiAffinity`] avoids.
    AntiAffinityLabel,
    /// Together in a zone.
    Affinity,
    PreferredAffinity,
    PreferredAntiAffinity,
    /// As above, of all namespaces with a label.
    AntiAffinityNamespaces,
    AffinityNamespaces,
    PreferredAntiAffinityNamespaces,
    PreferredAffinityNamespaces,
    /// Only in certain zones.
    NodeAffinity,
    /// Only on the node `scheduler-perf-node`.
    DaemonSet,
    /// Evenly over zones, strictly.
    Spreading,
    PreferredSpreading,
    /// Evenly over hosts, tainted ones left out.
    NodeInclusion,
    /// With a volume from a Secret.
    Secret,
    /// 900m of CPU, goes at once.
    LowPriority,
    /// 3 CPUs, before others.
    HighPriority,
    /// 9 CPUs: more than a node has.
    LargeCpu,
    /// 9 CPUs, before others.
    HighPriorityLargeCpu,
    /// One of an extended resource.
    ExtendedResource,
}

/// Pods of this class come before others.
pub const HIGH_PRIORITY: &str = "skiff-bench-high";

/// The label of everything that a measurement makes.
pub const MARK: &str = "skiff.dev/bench";

impl PodTemplate {
    /// The object.
    pub fn pod(self, namespace: &str, name: &str) -> Value {
        let mut labels = json!({MARK: "true"});
        if let Some((key, value)) = self.label() {
            labels[key] = json!(value);
        }
        let mut spec = self.spec();
        spec["automountServiceAccountToken"] = json!(false);
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": namespace, "name": name, "labels": labels},
            "spec": spec,
        })
    }

    fn label(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::AntiAffinity | Self::AntiAffinityLabel => Some(("color", "green")),
            Self::AntiAffinityNamespaces | Self::PreferredAntiAffinityNamespaces => Some(("color", "green")),
            Self::Affinity | Self::AffinityNamespaces | Self::Spreading | Self::PreferredSpreading => {
                Some(("color", "blue"))
            }
            Self::PreferredAffinity | Self::PreferredAffinityNamespaces => Some(("color", "red")),
            Self::PreferredAntiAffinity => Some(("color", "yellow")),
            Self::NodeInclusion => Some(("foo", "bar")),
            _ => None,
        }
    }

    fn spec(self) -> Value {
        let mut spec = json!({"containers": [self.container()]});
        match self {
            Self::Gated => spec["schedulingGates"] = json!([{"name": "test.k8s.io/hold"}]),
            Self::LowPriority => spec["terminationGracePeriodSeconds"] = json!(0),
            Self::HighPriority | Self::HighPriorityLargeCpu => spec["priorityClassName"] = json!(HIGH_PRIORITY),
            Self::Secret => spec["volumes"] = json!([{"name": "secret", "secret": {"secretName": "secret"}}]),
            Self::NodeAffinity => {
                let zones = json!({"key": ZONE, "operator": "In", "values": ["zone1", "zone2"]});
                spec["affinity"] = required_node(json!({"matchExpressions": [zones]}));
            }
            Self::DaemonSet => {
                let name = json!({"key": "metadata.name", "operator": "In", "values": [NAMED_NODE]});
                spec["affinity"] = required_node(json!({"matchFields": [name]}));
            }
            _ => {}
        }
        if let Some(affinity) = self.pod_affinity() {
            spec["affinity"] = affinity;
        }
        if let Some(constraint) = self.spreading() {
            spec["topologySpreadConstraints"] = json!([constraint]);
        }
        spec
    }

    fn container(self) -> Value {
        let resources = match self {
            Self::Light | Self::Gated => json!({}),
            Self::LargeCpu | Self::HighPriorityLargeCpu => json!({"requests": {"cpu": "9", "memory": "500Mi"}}),
            Self::LowPriority => limited(&json!({"cpu": "900m", "memory": "500Mi"})),
            Self::HighPriority => limited(&json!({"cpu": "3", "memory": "500Mi"})),
            Self::ExtendedResource => limited(&json!({EXTENDED: "1"})),
            _ => limited(&json!({"cpu": "100m", "memory": "500Mi"})),
        };
        json!({
            "name": "pause", "image": "registry.k8s.io/pause:3.9",
            "ports": [{"containerPort": 80}], "resources": resources,
        })
    }

    fn pod_affinity(self) -> Option<Value> {
        let term = |color: &str, key: &str| json!({"labelSelector": {"matchLabels": {"color": color}}, "topologyKey": key, "namespaces": ["sched-1", "sched-0"]});
        let anywhere = |color: &str, key: &str| {
            json!({"labelSelector": {"matchLabels": {"color": color}}, "topologyKey": key,
                "namespaceSelector": {"matchLabels": {"team": "devops"}}})
        };
        let required = |term: Value| json!({"requiredDuringSchedulingIgnoredDuringExecution": [term]});
        let preferred = |term: Value| json!({"preferredDuringSchedulingIgnoredDuringExecution": [{"podAffinityTerm": term, "weight": 1}]});
        Some(match self {
            Self::AntiAffinity => json!({"podAntiAffinity": required(term("green", HOST))}),
            Self::AntiAffinityNamespaces => json!({"podAntiAffinity": required(anywhere("green", HOST))}),
            Self::Affinity => json!({"podAffinity": required(term("blue", ZONE))}),
            Self::AffinityNamespaces => json!({"podAffinity": required(anywhere("blue", ZONE))}),
            Self::PreferredAffinity => json!({"podAffinity": preferred(term("red", HOST))}),
            Self::PreferredAffinityNamespaces => json!({"podAffinity": preferred(anywhere("red", HOST))}),
            Self::PreferredAntiAffinity => json!({"podAntiAffinity": preferred(term("yellow", HOST))}),
            Self::PreferredAntiAffinityNamespaces => json!({"podAntiAffinity": preferred(anywhere("green", HOST))}),
            _ => return None,
        })
    }

    fn spreading(self) -> Option<Value> {
        let constraint = |skew: u8, key: &str, unsatisfiable: &str, label: Value| {
            json!({"maxSkew": skew, "topologyKey": key, "whenUnsatisfiable": unsatisfiable,
                "labelSelector": {"matchLabels": label}})
        };
        Some(match self {
            Self::Spreading => constraint(5, ZONE, "DoNotSchedule", json!({"color": "blue"})),
            Self::PreferredSpreading => constraint(5, ZONE, "ScheduleAnyway", json!({"color": "blue"})),
            Self::NodeInclusion => {
                let mut constraint = constraint(1, HOST, "DoNotSchedule", json!({"foo": "bar"}));
                constraint["nodeAffinityPolicy"] = json!("Honor");
                constraint["nodeTaintsPolicy"] = json!("Honor");
                constraint
            }
            _ => return None,
        })
    }
}

const ZONE: &str = "topology.kubernetes.io/zone";
const HOST: &str = "kubernetes.io/hostname";
const EXTENDED: &str = "example.com/gpu";
/// The node that [`PodTemplate::DaemonSet`] asks for.
pub const NAMED_NODE: &str = "scheduler-perf-node";

fn limited(resources: &Value) -> Value {
    json!({"limits": resources, "requests": resources})
}

fn required_node(term: Value) -> Value {
    json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}})
}

/// A kind of node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeTemplate {
    /// 4 CPUs, 32Gi of memory, 110 pods.
    Default,
    /// Tainted.
    Tainted,
    /// Called `scheduler-perf-node`, with room for very many pods.
    Named,
    /// With an extended resource.
    ExtendedResource,
    /// No room for pods at all.
    Full,
}

impl NodeTemplate {
    /// The object.
    pub fn node(self, name: &str, zone: Option<&str>) -> Value {
        let mut capacity = json!({"pods": "110", "cpu": "4", "memory": "32Gi"});
        match self {
            Self::Default | Self::Tainted => {}
            Self::Named => capacity = json!({"pods": "90000", "cpu": "4000", "memory": "9000Gi"}),
            Self::ExtendedResource => capacity[EXTENDED] = json!("8"),
            Self::Full => capacity = json!({"pods": "0"}),
        }
        let mut labels = json!({MARK: "true", HOST: name});
        if let Some(zone) = zone {
            labels[ZONE] = json!(zone);
        }
        let spec = match self {
            Self::Tainted => json!({"taints": [{"key": "foo", "effect": "NoSchedule"}]}),
            _ => json!({}),
        };
        json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}, "spec": spec,
            "status": {
                "capacity": capacity, "allocatable": capacity,
                "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
            },
        })
    }
}

/// Where the volumes of pods come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Volumes {
    /// A disk of AWS, of the built-in kind.
    InTree,
    /// A disk of AWS by its CSI driver.
    Csi,
}

/// The driver of [`Volumes::Csi`].
pub const CSI_DRIVER: &str = "ebs.csi.aws.com";

impl Volumes {
    /// A volume that is bound to a claim, and the claim.
    pub fn pair(self, namespace: &str, name: &str) -> (Value, Value) {
        let volume = format!("pv-{namespace}-{name}");
        let mut spec = json!({
            "accessModes": ["ReadOnlyMany"], "capacity": {"storage": "1Gi"},
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": namespace, "name": name},
        });
        match self {
            Self::InTree => spec["awsElasticBlockStore"] = json!({"volumeID": volume}),
            Self::Csi => spec["csi"] = json!({"driver": CSI_DRIVER, "volumeHandle": volume}),
        }
        let labels = json!({MARK: "true"});
        let bound = json!({"pv.kubernetes.io/bind-completed": "true"});
        let pv = json!({
            "apiVersion": "v1", "kind": "PersistentVolume",
            "metadata": {"name": volume, "labels": labels, "annotations": {"pv.kubernetes.io/bound-by-controller": "true"}},
            "spec": spec,
        });
        let claim = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"namespace": namespace, "name": name, "labels": labels, "annotations": bound},
            "spec": {
                "accessModes": ["ReadOnlyMany"], "resources": {"requests": {"storage": "1Gi"}},
                "volumeName": volume, "storageClassName": "",
            },
        });
        (pv, claim)
    }

    /// Puts the claim into a pod.
    pub fn attach(pod: &mut Value, claim: &str) {
        pod["spec"]["volumes"] = json!([{"name": "vol", "persistentVolumeClaim": {"claimName": claim}}]);
    }
}

/// What a node's drivers can do: 39 volumes of [`CSI_DRIVER`].
pub fn csi_node(name: &str, migrated: bool) -> Value {
    let mut annotations = json!({});
    if migrated {
        annotations["storage.alpha.kubernetes.io/migrated-plugins"] = json!("kubernetes.io/aws-ebs");
    }
    json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "CSINode",
        "metadata": {"name": name, "annotations": annotations, "labels": {MARK: "true"}},
        "spec": {"drivers": [{"name": CSI_DRIVER, "nodeID": name, "allocatable": {"count": 39}}]},
    })
}
