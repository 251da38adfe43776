//! What a pod refers to by name (`pkg/api/pod/util.go`, VisitPodSecretNames and its like).

use api::Value;

use crate::kind::value_at;

fn set<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    value_at(value, path).filter(|found| !found.is_null())
}

fn list<'v>(value: &'v Value, path: &str) -> &'v [Value] {
    set(value, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The containers of all three lists.
fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["spec.initContainers", "spec.containers", "spec.ephemeralContainers"]
        .into_iter()
        .flat_map(|path| list(pod, path))
}

/// Whether a container's environment, or a volume, is made of something at one of these paths.
fn any(pod: &Value, env: [&str; 2], volumes: &[&str], projected: &str) -> bool {
    let in_env = containers(pod).any(|container| {
        list(container, "envFrom")
            .iter()
            .any(|from| set(from, env[0]).is_some())
            || list(container, "env").iter().any(|var| set(var, env[1]).is_some())
    });
    let in_volumes = list(pod, "spec.volumes").iter().any(|volume| {
        volumes.iter().any(|path| set(volume, path).is_some())
            || list(volume, "projected.sources")
                .iter()
                .any(|source| set(source, projected).is_some())
    });
    in_env || in_volumes
}

/// Whether it refers to a Secret.
pub(super) fn secrets(pod: &Value) -> bool {
    const VOLUMES: [&str; 11] = [
        "azureFile.secretName",
        "cephfs.secretRef",
        "cinder.secretRef",
        "flexVolume.secretRef",
        "rbd.secretRef",
        "secret",
        "scaleIO.secretRef",
        "iscsi.secretRef",
        "storageos.secretRef",
        "csi.nodePublishSecretRef",
        "glusterfs.secretRef",
    ];
    !list(pod, "spec.imagePullSecrets").is_empty()
        || any(pod, ["secretRef", "valueFrom.secretKeyRef"], &VOLUMES, "secret")
}

/// Whether it refers to a ConfigMap.
pub(super) fn config_maps(pod: &Value) -> bool {
    any(
        pod,
        ["configMapRef", "valueFrom.configMapKeyRef"],
        &["configMap"],
        "configMap",
    )
}

/// Whether one of its volumes projects such a thing: `serviceAccountToken`, `clusterTrustBundle`.
pub(super) fn projects(pod: &Value, source: &str) -> bool {
    list(pod, "spec.volumes")
        .iter()
        .flat_map(|volume| list(volume, "projected.sources"))
        .any(|projected| set(projected, source).is_some())
}

/// Whether one of its volumes is a PersistentVolumeClaim.
pub(super) fn volume_claims(pod: &Value) -> bool {
    list(pod, "spec.volumes")
        .iter()
        .any(|volume| set(volume, "persistentVolumeClaim").is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn references_are_found_wherever_they_are() {
        let pod = |spec: Value| json!({"spec": spec});
        let with_secret = [
            json!({"imagePullSecrets": [{"name": "a"}]}),
            json!({"containers": [{"env": [{"name": "x", "valueFrom": {"secretKeyRef": {"name": "a"}}}]}]}),
            json!({"ephemeralContainers": [{"envFrom": [{"secretRef": {"name": "a"}}]}]}),
            json!({"volumes": [{"secret": {"secretName": "a"}}]}),
            json!({"volumes": [{"projected": {"sources": [{"secret": {"name": "a"}}]}}]}),
            json!({"volumes": [{"csi": {"driver": "d", "nodePublishSecretRef": {"name": "a"}}}]}),
        ];
        for spec in with_secret {
            assert!(secrets(&pod(spec.clone())) && !config_maps(&pod(spec)));
        }
        let spec = json!({"volumes": [{"projected": {"sources": [
            {"configMap": {"name": "a"}}, {"serviceAccountToken": {"path": "p"}}]}},
            {"persistentVolumeClaim": {"claimName": "c"}}]});
        let pod = pod(spec);
        assert!(config_maps(&pod) && volume_claims(&pod) && projects(&pod, "serviceAccountToken"));
        assert!(!secrets(&pod) && !projects(&pod, "clusterTrustBundle"));
    }
}
