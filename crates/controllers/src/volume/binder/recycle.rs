//! Empties a volume by a pod (`recycleVolumeOperation`, `pkg/volume/util/recyclerclient`). The policy is deprecated, and
//! only volumes of type hostPath and nfs have it.

use k8s_openapi::api::core::v1::{PersistentVolume, Pod};
use serde_json::{Value, json};

use super::super::{capacity_of, claim_ref, spec_of, tell};
use super::reclaim::fail;
use super::volume::unbind;
use crate::object::{gvr_of, is_deleting, name, namespace, to_value};
use crate::plan::{Action, Plan, Reference, Verb};
use crate::world::BY_VOLUME_CLAIM;
use crate::{Turn, World};

/// Names of the pods that empty volumes begin so.
pub(super) const PREFIX: &str = "recycler-for-";
/// Where they run.
pub(super) const NAMESPACE: &str = "default";
const IMAGE: &str = "registry.k8s.io/debian-base:v2.0.0";
const SCRUB: &str = "test -e /scrub && find /scrub -mindepth 1 -delete && test -z \"$(ls -A /scrub)\" || exit 1";
const GIB: i64 = 1 << 30;

pub(super) fn recycle(world: &dyn World, volume: &PersistentVolume, turn: &Turn, plan: &mut Plan) {
    let Some((home, called, _)) = claim_ref(volume) else {
        return;
    };
    let about = Reference::to(volume);
    let used = users(world, home, called);
    if !used.is_empty() && world.persistent_volume_claims().get(home, called).is_none() {
        let text = format!("Volume is used by pods: {}", used.join(","));
        return tell(plan, turn, about, false, "VolumeFailedRecycle", &text);
    }
    let Some((source, minimum, each)) = source(volume) else {
        let text = "No recycler plugin found for the volume!";
        return fail(volume, "VolumeFailedRecycle", text, plan);
    };
    let pod_name = format!("{PREFIX}{}", name(volume));
    let Some(pod) = world.pods().get(NAMESPACE, &pod_name) else {
        let deadline = capacity_of(volume)
            .map_or(0, |size| size.value() / GIB * each)
            .max(minimum);
        return plan.act(Action::new(Verb::Create {
            resource: gvr_of::<Pod>(),
            namespace: NAMESPACE.to_owned(),
            object: scrubber(&pod_name, deadline, source),
            if_absent: true,
        }));
    };
    if is_deleting(&*pod) {
        return;
    }
    match crate::pod::phase(&pod) {
        "Succeeded" => {
            plan.act(Action::delete(&*pod));
            plan.act(Action::event(about, "VolumeRecycled", "Volume recycled"));
            unbind(volume, plan);
        }
        "Failed" => {
            let message = pod.status.as_ref().and_then(|status| status.message.as_deref());
            let message = message.unwrap_or("pod failed, pod.Status.Message unknown");
            let text = format!("Recycle failed: failed to recycle volume: {message}");
            fail(volume, "VolumeFailedRecycle", &text, plan);
            // Another pod tries again when this one is gone.
            plan.act(Action::delete(&*pod));
        }
        _ => {}
    }
}

fn users(world: &dyn World, home: &str, called: &str) -> Vec<String> {
    let pods = world.pods().by_index(BY_VOLUME_CLAIM, &format!("{home}/{called}"));
    let running = pods.iter().filter(|pod| !crate::pod::is_terminal(pod));
    let mut names: Vec<String> = running
        .map(|pod| format!("{}/{}", namespace(&**pod), name(&**pod)))
        .collect();
    names.sort();
    names
}

/// The volume as the pod mounts it; the least time it gets, and how many seconds more for each GiB.
fn source(volume: &PersistentVolume) -> Option<(Value, i64, i64)> {
    let spec = spec_of(volume);
    match (spec.host_path, spec.nfs) {
        (Some(source), _) => Some((json!({"name": "vol", "hostPath": {"path": source.path}}), 60, 30)),
        (_, Some(source)) => Some((json!({"name": "vol", "nfs": to_value(&source)}), 300, 30)),
        (None, None) => None,
    }
}

fn scrubber(name: &str, deadline: i64, volume: Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "activeDeadlineSeconds": deadline,
            "restartPolicy": "Never",
            "volumes": [volume],
            "containers": [{
                "name": "pv-recycler",
                "image": IMAGE,
                "command": ["/bin/sh"],
                "args": ["-c", SCRUB],
                "volumeMounts": [{"name": "vol", "mountPath": "/scrub"}],
            }],
        },
    })
}
