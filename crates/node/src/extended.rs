//! Extended resources that others announce in a Node's capacity: the node lets pods have all of them
//! (`setNodeStatusMachineInfo` of pkg/kubelet/nodestatus/setters.go).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// Whether a resource is none of the node's own: its name has a domain which is not Kubernetes'.
pub(crate) fn is_extended(name: &str) -> bool {
    name.split_once('/')
        .is_some_and(|(domain, _)| domain != "kubernetes.io" && !domain.ends_with(".kubernetes.io"))
}

/// What a patch of `status.allocatable` has to say of extended resources: those in the capacity as they are there, a
/// null for those that are not there any more. Nothing if all is as it should be.
pub(crate) fn changes<Q: PartialEq + serde::Serialize>(
    capacity: Option<&BTreeMap<String, Q>>,
    allocatable: Option<&BTreeMap<String, Q>>,
) -> Map<String, Value> {
    let of = |map: Option<&BTreeMap<String, Q>>, name: &str| map.and_then(|map| map.get(name)).map(|q| json!(q));
    let names = capacity.into_iter().chain(allocatable).flat_map(BTreeMap::keys);
    names
        .filter(|name| is_extended(name))
        .map(|name| (name, of(capacity, name), of(allocatable, name)))
        .filter(|(_, there, here)| there != here)
        .map(|(name, there, _)| (name.clone(), there.unwrap_or(Value::Null)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_capacity_has_pods_may_have() {
        let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        let capacity = map(&[
            ("cpu", "4"),
            ("a.io/gpu", "2"),
            ("a.io/fpga", "1"),
            ("kubernetes.io/x", "1"),
        ]);
        let allocatable = map(&[("cpu", "3"), ("a.io/fpga", "1"), ("b.io/old", "7")]);
        assert_eq!(
            Value::Object(changes(Some(&capacity), Some(&allocatable))),
            json!({"a.io/gpu": "2", "b.io/old": null})
        );
        assert!(changes(Some(&capacity), Some(&map(&[("a.io/gpu", "2"), ("a.io/fpga", "1")]))).is_empty());
        assert!(changes::<String>(None, None).is_empty());
    }
}
