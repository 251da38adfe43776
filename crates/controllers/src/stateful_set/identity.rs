//! Names of pods, and what a pod of a set looks like (upstream `stateful_set_utils.go`).

use api::Value;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use super::claims;
use crate::history::REVISION_HASH;
use crate::object::{controller_reference, name, namespace};

const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

fn split(pod: &Pod) -> Option<(&str, i32)> {
    let (parent, ordinal) = name(pod).rsplit_once('-')?;
    let digits = !ordinal.is_empty() && ordinal.bytes().all(|byte| byte.is_ascii_digit());
    Some((parent, ordinal.parse().ok().filter(|_| digits)?))
}

/// The set that a pod's name speaks of.
pub(super) fn parent_of(pod: &Pod) -> Option<&str> {
    split(pod).map(|(parent, _)| parent)
}

/// A pod's place.
pub(super) fn ordinal_of(pod: &Pod) -> Option<i32> {
    split(pod).map(|(_, ordinal)| ordinal)
}

/// A set's pod at a place.
pub(super) fn new_pod(set: &StatefulSet, template: &PodTemplateSpec, revision: &str, ordinal: i32) -> Pod {
    let metadata = template.metadata.clone().unwrap_or_default();
    let pod_name = format!("{}-{ordinal}", name(set));
    let mut labels = metadata.labels.unwrap_or_default();
    labels.insert(POD_NAME.to_owned(), pod_name.clone());
    labels.insert(POD_INDEX.to_owned(), ordinal.to_string());
    labels.insert(REVISION_HASH.to_owned(), revision.to_owned());
    let mut spec = template.spec.clone().unwrap_or_default();
    spec.hostname = Some(pod_name.clone());
    spec.subdomain = set.spec.service_name.clone().filter(|service| !service.is_empty());
    let claimed: Vec<Volume> = claims::templates(set)
        .map(|claim| Volume {
            name: name(claim).to_owned(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claims::name_of(set, claim, ordinal),
                read_only: None,
            }),
            ..Volume::default()
        })
        .collect();
    let others = spec.volumes.take().into_iter().flatten();
    let others = others
        .filter(|volume| claimed.iter().all(|claim| claim.name != volume.name))
        .collect::<Vec<_>>();
    spec.volumes = Some(claimed.iter().cloned().chain(others).collect::<Vec<_>>()).filter(|all| !all.is_empty());
    Pod {
        metadata: ObjectMeta {
            name: Some(pod_name),
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

/// The patch that gives a pod its labels back, if they are not there.
pub(super) fn mismatch(pod: &Pod) -> Option<Value> {
    let labels = pod.metadata.labels.as_ref();
    if labels.and_then(|labels| labels.get(POD_NAME)).map(String::as_str) == Some(name(pod)) {
        return None;
    }
    let index = ordinal_of(pod)?.to_string();
    Some(json!({"metadata": {"labels": {POD_NAME: name(pod), POD_INDEX: index}}}))
}
