//! A folder and a PersistentVolume for a claim.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::{Value, json};

use super::super::{
    PROVISIONED_BY, PROVISIONER as ASKED, SELECTED_NODE, class_of_claim, request_of, tell, volume_name,
};
use super::{ENFORCED, FINALIZER, HOSTNAME, LocalVolumes, PROVISIONER, hostname};
use crate::object::{annotation, gvr_of, is_deleting, name, namespace, uid};
use crate::plan::{Action, Plan, Reference, Verb};
use crate::{Turn, World};

/// Makes what the claim asks for, if it asks here.
pub(super) fn provision(
    world: &dyn World,
    here: &LocalVolumes,
    claim: &PersistentVolumeClaim,
    turn: &Turn,
    plan: &mut Plan,
) {
    let asked = annotation(claim, ASKED) == Some(PROVISIONER) && volume_name(claim).is_empty() && !is_deleting(claim);
    let Some(class) = world.storage_classes().get("", class_of_claim(claim)).filter(|_| asked) else {
        return;
    };
    let called = format!("pvc-{}", uid(claim));
    let there = world.persistent_volumes().get("", &called).is_some();
    if there || class.provisioner != PROVISIONER || !is_chosen(world, here, claim, &class) {
        return;
    }
    let about = Reference::to(claim);
    if let Some(problem) = refusal(claim, &class) {
        let text = format!(
            "failed to provision volume with StorageClass {:?}: {problem}",
            name(&*class)
        );
        return tell(plan, turn, about, true, "ProvisioningFailed", &text);
    }
    let size = request_of(claim);
    let make = Action::new(Verb::MakeVolume {
        name: called.clone(),
        bytes: u64::try_from(size.value()).unwrap_or(0),
    });
    let failure = format!(
        "failed to provision volume with StorageClass {:?}: {{error}}",
        name(&*class)
    );
    let begin = format!(
        "External provisioner is provisioning volume for claim \"{}/{}\"",
        namespace(claim),
        name(claim)
    );
    plan.act(Action::event(about.clone(), "Provisioning", begin));
    plan.act(make.telling_failure(about.clone(), "ProvisioningFailed", failure.clone()));
    let create = Action::new(Verb::Create {
        resource: gvr_of::<k8s_openapi::api::core::v1::PersistentVolume>(),
        namespace: String::new(),
        object: volume(world, here, claim, &class, &called),
        if_absent: true,
    });
    let done = format!("Successfully provisioned volume {called}");
    plan.act(
        create
            .telling(about.clone(), "ProvisioningSucceeded", done)
            .or_telling("ProvisioningFailed", failure),
    );
    if !here.limits {
        let text = format!(
            "the file system of {} has no project quotas: nothing keeps the volume from growing beyond {size}",
            here.root
        );
        plan.act(Action::event(about, "SizeNotEnforced", text));
    }
}

/// Whether the volume is to be on this node: the scheduler says so, or, for a class that does not wait for a pod, it is
/// the first of all nodes.
fn is_chosen(world: &dyn World, here: &LocalVolumes, claim: &PersistentVolumeClaim, class: &StorageClass) -> bool {
    match annotation(claim, SELECTED_NODE) {
        Some(node) => node == here.node,
        None => {
            let nodes = world.nodes().list("");
            let first = nodes.iter().map(|node| name(&**node)).min();
            class.volume_binding_mode.as_deref() != Some("WaitForFirstConsumer") && first == Some(here.node.as_str())
        }
    }
}

/// Why a folder is not what the claim asks for.
fn refusal(claim: &PersistentVolumeClaim, class: &StorageClass) -> Option<String> {
    let spec = claim.spec.clone().unwrap_or_default();
    let modes = spec.access_modes.unwrap_or_default();
    if let Some(mode) = modes
        .iter()
        .find(|mode| !["ReadWriteOnce", "ReadWriteOncePod"].contains(&mode.as_str()))
    {
        return Some(format!(
            "a folder on one node cannot be {mode}, only ReadWriteOnce or ReadWriteOncePod"
        ));
    }
    if spec.volume_mode.as_deref() == Some("Block") {
        return Some("a folder is no block device: use volumeMode Filesystem".to_owned());
    }
    if spec.selector.is_some() {
        return Some("claim.Spec.Selector is not supported for dynamic provisioning".to_owned());
    }
    if spec.data_source.is_some() || spec.data_source_ref.is_some() {
        return Some("data sources are not supported".to_owned());
    }
    if spec.volume_attributes_class_name.is_some_and(|class| !class.is_empty()) {
        return Some("volume attributes classes are not supported".to_owned());
    }
    if class.mount_options.as_ref().is_some_and(|options| !options.is_empty()) {
        return Some("mount options are not supported".to_owned());
    }
    let parameter = class.parameters.iter().flatten().map(|(key, _)| key).next();
    parameter.map(|key| format!("the parameter {key:?} of the class is not known"))
}

fn volume(
    world: &dyn World,
    here: &LocalVolumes,
    claim: &PersistentVolumeClaim,
    class: &StorageClass,
    called: &str,
) -> Value {
    let policy = class.reclaim_policy.as_deref().unwrap_or("Delete");
    let modes = claim.spec.as_ref().and_then(|spec| spec.access_modes.clone());
    let mut volume = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": called,
            "annotations": {PROVISIONED_BY: PROVISIONER, ENFORCED: here.limits.to_string()},
        },
        "spec": {
            "accessModes": modes.unwrap_or_else(|| vec!["ReadWriteOnce".to_owned()]),
            "capacity": {"storage": request_of(claim).to_string()},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": namespace(claim),
                "name": name(claim),
                "uid": uid(claim),
                "resourceVersion": claim.metadata.resource_version,
            },
            "local": {"path": here.path(called)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": HOSTNAME, "operator": "In", "values": [hostname(world, here)]},
            ]}]}},
            "persistentVolumeReclaimPolicy": policy,
            "storageClassName": name(class),
            "volumeMode": "Filesystem",
        },
    });
    if policy == "Delete" {
        volume["metadata"]["finalizers"] = json!([FINALIZER]);
    }
    volume
}
