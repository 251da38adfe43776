//! `persistentvolumes`.

use api::field::{Error, Path};
use api::{Value, meta};
use apiserver::Kind;
use apiserver::kind::{Column, SelectableField, Subresource};
use jiff::Timestamp;
use serde_json::json;

use crate::pod_spec::defaults::legacy_volume;
use crate::pod_spec::{scheduling, volumes};
use crate::{cells, checks, tree};

const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
/// Volume types and the fields that they require.
const SOURCES: &[(&str, &[&str])] = &[
    ("hostPath", &["path"]),
    ("gcePersistentDisk", &["pdName"]),
    ("awsElasticBlockStore", &["volumeID"]),
    ("glusterfs", &["endpoints", "path"]),
    ("flocker", &[]),
    ("nfs", &["server", "path"]),
    ("rbd", &["monitors", "image"]),
    ("quobyte", &["registry", "volume"]),
    ("cephfs", &["monitors"]),
    ("iscsi", &["targetPortal", "iqn"]),
    ("cinder", &["volumeID"]),
    ("fc", &[]),
    ("flexVolume", &["driver"]),
    ("azureFile", &["secretName", "shareName"]),
    ("vsphereVolume", &["volumePath"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
    ("local", &["path"]),
    ("storageos", &["volumeName"]),
    ("csi", &["driver", "volumeHandle"]),
];

pub(crate) fn kind() -> Kind {
    Kind::cluster("", "v1", "PersistentVolume", "persistentvolumes")
        .short_names(&["pv"])
        .returns_deleted_object()
        .default(|volume| {
            tree::fill(tree::child(volume, "status"), "phase", "Pending");
            let spec = tree::child(volume, "spec");
            tree::fill(spec, "persistentVolumeReclaimPolicy", "Retain");
            tree::fill(spec, "volumeMode", "Filesystem");
            if let Some(path) = tree::at_mut(spec, "hostPath")
                && path.get("type").is_none_or(Value::is_null)
            {
                tree::set(path, "type", "");
            }
            legacy_volume(spec);
        })
        .prepare_create(|context, volume| {
            let now = api::time::format(context.now);
            tree::set(
                volume,
                "status",
                json!({"phase": "Pending", "lastPhaseTransitionTime": now}),
            );
        })
        .validate(volume)
        .validate_update(|new, old| {
            let mut errors = volume(new);
            errors.extend(changes(new, old));
            errors
        })
        .subresource(Subresource::status().prepare(|context, new, old| {
            tree::keep(new, old, "spec");
            stamp_phase(new, old, context.now);
        }))
        .selectable(SelectableField::new("name", |volume| meta::name(volume).to_owned()))
        .table(columns(), row)
}

/// A status that changes the phase without saying when has changed it now.
fn stamp_phase(new: &mut Value, old: &Value, now: Timestamp) {
    let time = |volume: &Value| tree::at(volume, "status.lastPhaseTransitionTime").cloned();
    let same_phase = tree::text(new, "status.phase") == tree::text(old, "status.phase");
    let (after, before) = (time(new), time(old));
    let status = tree::child(new, "status");
    match (same_phase, after, before) {
        (true, None, Some(before)) => tree::set(status, "lastPhaseTransitionTime", before),
        (false, after, before) if after.is_none() || after == before => {
            tree::set(status, "lastPhaseTransitionTime", api::time::format(now));
        }
        _ => {}
    }
}

fn columns() -> Vec<Column> {
    vec![
        Column::name(),
        Column::string("Capacity", "Its size."),
        Column::string("Access Modes", "How it may be mounted."),
        Column::string("Reclaim Policy", "What becomes of it when its claim goes."),
        Column::string("Status", "Whether it is free, bound or released."),
        Column::string("Claim", "The claim it is bound to."),
        Column::string("StorageClass", "Its class."),
        Column::string("VolumeAttributesClass", "Its attributes class."),
        Column::string("Reason", "Why it is in this state."),
        Column::age(),
        Column::string("VolumeMode", "File system or block device.").wide(),
    ]
}

fn row(volume: &Value, now: Timestamp) -> Vec<Value> {
    let claim = match tree::at(volume, "spec.claimRef") {
        Some(claim) => format!("{}/{}", tree::text(claim, "namespace"), tree::text(claim, "name")),
        None => String::new(),
    };
    let phase = if meta::is_deleting(volume) {
        "Terminating"
    } else {
        tree::text(volume, "status.phase")
    };
    let capacity = tree::map(volume, "spec.capacity").and_then(|list| list.get("storage"));
    vec![
        cells::name(volume),
        capacity.and_then(Value::as_str).unwrap_or("0").into(),
        modes_text(volume, "spec.accessModes").into(),
        tree::text(volume, "spec.persistentVolumeReclaimPolicy").into(),
        phase.into(),
        claim.into(),
        class(volume).into(),
        cells::or(tree::text(volume, "spec.volumeAttributesClassName"), "<unset>"),
        tree::text(volume, "status.reason").into(),
        cells::age(volume, now),
        cells::or(tree::text(volume, "spec.volumeMode"), "<unset>"),
    ]
}

/// The class of a volume or claim; old ones have it in an annotation.
pub(super) fn class(object: &Value) -> String {
    let class = tree::text(object, "spec.storageClassName");
    meta::annotation(object, OLD_CLASS).unwrap_or(class).to_owned()
}

/// Access modes as kubectl abbreviates them.
pub(super) fn modes_text(object: &Value, path: &str) -> String {
    let modes = tree::strings(object, path);
    let short = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let present = short
        .iter()
        .filter(|(mode, _)| modes.contains(mode))
        .map(|(_, short)| *short);
    present.collect::<Vec<_>>().join(",")
}

/// The access modes of a volume or claim spec.
pub(super) fn access_modes(spec: &Value, path: &Path) -> Vec<Error> {
    let known = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
    let modes = tree::strings(spec, "accessModes");
    let unknown = modes.iter().filter(|mode| !known.contains(mode));
    let mut errors: Vec<Error> = unknown.map(|mode| Error::not_supported(path, *mode, known)).collect();
    let alone = "ReadWriteOncePod";
    if modes.contains(&alone) && modes.iter().any(|mode| *mode != alone && known.contains(mode)) {
        errors.push(Error::forbidden(
            path,
            "may not use ReadWriteOncePod with other access modes",
        ));
    }
    errors
}

fn volume(volume: &Value) -> Vec<Error> {
    let path = Path::new("spec");
    let spec = tree::at(volume, "spec").unwrap_or(&Value::Null);
    let mut errors = Vec::new();
    if tree::list(spec, "accessModes").is_empty() {
        errors.push(Error::required(&path.child("accessModes"), ""));
    }
    errors.extend(access_modes(spec, &path.child("accessModes")));
    let capacity = tree::map(spec, "capacity").cloned().unwrap_or_default();
    let capacity_path = path.child("capacity");
    if capacity.is_empty() {
        errors.push(Error::required(&capacity_path, ""));
    }
    if !capacity.contains_key("storage") || capacity.len() > 1 {
        errors.push(Error::not_supported(&capacity_path, capacity.clone(), &["storage"]));
    }
    for (name, value) in &capacity {
        let amount = tree::quantity(value).unwrap_or_default();
        if amount.signum() <= 0 {
            let detail = "must be greater than zero";
            errors.push(Error::invalid(&capacity_path.key(name), amount.to_string(), detail));
        }
    }
    let policy = tree::text_opt(spec, "persistentVolumeReclaimPolicy");
    let known = &["Delete", "Recycle", "Retain"];
    errors.extend(checks::optional_one_of(
        policy,
        known,
        &path.child("persistentVolumeReclaimPolicy"),
    ));
    if let Some(selector) = tree::at(spec, "nodeAffinity.required") {
        errors.extend(scheduling::node_selector(
            selector,
            &path.child("nodeAffinity").child("required"),
        ));
    }
    errors.extend(source(spec, &path));
    let class = tree::text(spec, "storageClassName");
    if !class.is_empty() {
        errors.extend(checks::dns_subdomain(class, &path.child("storageClassName")));
    }
    let mode = tree::text_opt(spec, "volumeMode");
    errors.extend(checks::optional_one_of(
        mode,
        &["Block", "Filesystem"],
        &path.child("volumeMode"),
    ));
    errors
}

fn source(spec: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut types = 0;
    for (name, required) in SOURCES {
        let Some(source) = tree::at(spec, name) else { continue };
        types += 1;
        let item = path.child(name);
        if types > 1 {
            errors.push(Error::forbidden(&item, "may not specify more than 1 volume type"));
            continue;
        }
        for field in *required {
            if !tree::is_set(source.get(*field)) {
                errors.push(Error::required(&item.child(field), ""));
            }
        }
        match *name {
            "hostPath" | "local" => {
                errors.extend(volumes::no_backsteps(tree::text(source, "path"), &item.child("path")));
            }
            "csi" => errors.extend(volumes::csi_driver(tree::text(source, "driver"), &item.child("driver"))),
            _ => {}
        }
        if *name == "local" && tree::at(spec, "nodeAffinity.required").is_none() {
            errors.push(Error::required(
                &path.child("nodeAffinity"),
                "Local volume requires node affinity",
            ));
        }
        let recycles = tree::text(spec, "persistentVolumeReclaimPolicy") == "Recycle";
        if *name == "hostPath" && tree::text(source, "path").trim_end_matches('/').is_empty() && recycles {
            let path = path.child("persistentVolumeReclaimPolicy");
            errors.push(Error::forbidden(
                &path,
                "may not be 'recycle' for a hostPath mount of '/'",
            ));
        }
    }
    if types == 0 {
        errors.push(Error::required(path, "must specify a volume type"));
    }
    errors
}

fn changes(new: &Value, old: &Value) -> Vec<Error> {
    let mut errors = Vec::new();
    let sources = |volume: &Value| {
        let mut spec = tree::at(volume, "spec").cloned().unwrap_or_default();
        if let Some(csi) = tree::at_mut(&mut spec, "csi")
            && tree::at(old, "spec.csi.controllerExpandSecretRef").is_none()
        {
            tree::unset(csi, "controllerExpandSecretRef");
        }
        spec
    };
    let (after, before) = (sources(new), sources(old));
    if SOURCES
        .iter()
        .any(|(name, _)| !tree::same(after.get(*name), before.get(*name)))
    {
        let detail = "spec.persistentvolumesource is immutable after creation";
        errors.push(Error::forbidden(
            &Path::new("spec").child("persistentvolumesource"),
            detail,
        ));
    }
    errors.extend(checks::immutable(new, old, "spec.volumeMode", &Path::new("volumeMode")));
    if tree::at(old, "spec.nodeAffinity").is_some() {
        errors.extend(checks::immutable(
            new,
            old,
            "spec.nodeAffinity",
            &Path::new("nodeAffinity"),
        ));
    }
    errors
}
