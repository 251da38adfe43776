//! Index functions for what components look up most.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::Object;

/// By UID of every owner reference; every cache has it.
pub const OWNER: &str = "owner";
/// Pods by node name; pods without a node are under the empty string.
pub const POD_NODE: &str = "node";
/// Endpoint slices by `namespace/service`.
pub const SLICE_SERVICE: &str = "service";

/// For [`OWNER`].
pub fn owner<K: Object>(object: &K) -> Vec<String> {
    let owners = object.metadata().owner_references.as_deref().unwrap_or_default();
    owners.iter().map(|owner| owner.uid.clone()).collect()
}

/// For [`POD_NODE`].
pub fn pod_node(pod: &Pod) -> Vec<String> {
    vec![
        pod.spec
            .as_ref()
            .and_then(|spec| spec.node_name.clone())
            .unwrap_or_default(),
    ]
}

/// For [`SLICE_SERVICE`].
pub fn slice_service(slice: &EndpointSlice) -> Vec<String> {
    let labels = slice.metadata.labels.as_ref();
    let Some(service) = labels.and_then(|labels| labels.get("kubernetes.io/service-name")) else {
        return Vec::new();
    };
    vec![format!(
        "{}/{service}",
        slice.metadata.namespace.as_deref().unwrap_or("")
    )]
}
