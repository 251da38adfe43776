//! Labels that a node may not set on itself, as they steer workloads
//! (`kubelet/pkg/apis/well_known_labels.go`).

use std::collections::{BTreeMap, BTreeSet};

const RESTRICTED: &str = "node-restriction.kubernetes.io";
/// Labels of Kubernetes' own namespaces that a kubelet may set.
const KUBELET_LABELS: [&str; 12] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];
const KUBELET_NAMESPACES: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];

/// Labels that differ and may not, sorted.
pub(super) fn forbidden(new: &BTreeMap<String, String>, old: Option<&BTreeMap<String, String>>) -> Vec<String> {
    let empty = BTreeMap::new();
    let old = old.unwrap_or(&empty);
    let keys: BTreeSet<&String> = new.keys().chain(old.keys()).collect();
    keys.into_iter()
        .filter(|key| new.get(*key) != old.get(*key) && is_forbidden(key))
        .cloned()
        .collect()
}

fn is_forbidden(label: &str) -> bool {
    let Some((namespace, _)) = label.split_once('/') else {
        return false;
    };
    let within = |root: &str| namespace == root || namespace.strip_suffix(root).is_some_and(|rest| rest.ends_with('.'));
    if within(RESTRICTED) {
        return true;
    }
    (within("kubernetes.io") || within("k8s.io"))
        && !KUBELET_LABELS.contains(&label)
        && !KUBELET_NAMESPACES.iter().any(|root| within(root))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_steer_workloads() {
        for label in [
            "node-restriction.kubernetes.io/x",
            "a.node-restriction.kubernetes.io/x",
            "node-role.kubernetes.io/control-plane",
            "x.k8s.io/y",
        ] {
            assert!(is_forbidden(label), "{label}");
        }
        for label in [
            "kubernetes.io/hostname",
            "example.com/x",
            "plain",
            "x.node.kubernetes.io/y",
            "notkubernetes.io/x",
        ] {
            assert!(!is_forbidden(label), "{label}");
        }
    }

    #[test]
    fn only_changes_count() {
        let labels = |value: &str| BTreeMap::from([("x.k8s.io/y".to_owned(), value.to_owned())]);
        assert!(forbidden(&labels("a"), Some(&labels("a"))).is_empty());
        assert_eq!(forbidden(&labels("a"), Some(&labels("b"))), ["x.k8s.io/y"]);
        assert_eq!(forbidden(&BTreeMap::new(), Some(&labels("b"))), ["x.k8s.io/y"]);
    }
}
