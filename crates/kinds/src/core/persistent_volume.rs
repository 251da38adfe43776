//! `persistentvolumes`.

use api::field::{Error, Path};
use api::{Value, meta};
use apiserver::Kind;
use apiserver::kind::{Column, SelectableField, Subresource};
use jiff::Timestamp;
use serde_json::json;

use crate::pod_spec::defaults::legacy_volume;
use crate::pod_spec::scheduling;
use crate::pod_spec::volume_sources::{self, Owner};
use crate::pod_spec::warnings;
use crate::{cells, checks, tree};

const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
/// Volume types in upstream's order, and how the path of a surplus one ends.
const SOURCES: &[(&str, &str)] = &[
    ("hostPath", "hostPath"),
    ("gcePersistentDisk", "gcePersistentDisk"),
    ("awsElasticBlockStore", "awsElasticBlockStore"),
    ("glusterfs", "glusterfs"),
    ("flocker", "flocker"),
    ("nfs", "nfs"),
    ("rbd", "rbd"),
    ("quobyte", "quobyte"),
    ("cephfs", "cephFS"),
    ("iscsi", "iscsi"),
    ("cinder", "cinder"),
    ("fc", "fc"),
    ("flexVolume", ""),
    ("azureFile", "azureFile"),
    ("vsphereVolume", "vsphereVolume"),
    ("photonPersistentDisk", "photonPersistentDisk"),
    ("portworxVolume", "portworxVolume"),
    ("azureDisk", "azureDisk"),
    ("scaleIO", "scaleIO"),
    ("local", "local"),
    ("storageos", "storageos"),
    ("csi", "csi"),
];

pub(crate) fn kind() -> Kind {
    Kind::cluster("", "v1", "PersistentVolume", "persistentvolumes")
        .short_names(&["pv"])
        .returns_deleted_object()
        .default(|volume| {
            tree::fill(tree::child(volume, "status"), "phase", "Pending");
            let spec = tree::child(volume, "spec");
            tree::fill(spec, "persistentVolumeReclaimPolicy", "Retain");
            tree::fill_absent(spec, "volumeMode", "Filesystem");
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
        .warnings(|new, _| warn(new))
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
        let shown = match capacity.is_empty() {
            true => "null".to_owned(),
            false => Value::from(capacity.clone()).to_string(),
        };
        errors.push(Error::not_supported(&capacity_path, capacity.clone(), &["storage"]).showing(shown));
    }
    for (name, value) in &capacity {
        let (path, amount) = (capacity_path.key(name), tree::quantity(value).unwrap_or_default());
        if amount.signum() < 0 {
            let detail = "must be a valid resource quantity";
            errors.push(Error::invalid(&path, amount.to_string(), detail));
        }
        errors.extend(checks::positive_quantity(&amount, &path));
    }
    let policy = tree::text_opt(spec, "persistentVolumeReclaimPolicy");
    let known = &["Delete", "Recycle", "Retain"];
    errors.extend(checks::optional_one_of(
        policy,
        known,
        &path.child("persistentVolumeReclaimPolicy"),
    ));
    if let Some(affinity) = tree::at(spec, "nodeAffinity") {
        let path = path.child("nodeAffinity").child("required");
        match tree::at(affinity, "required") {
            Some(selector) => errors.extend(scheduling::node_selector(selector, &path)),
            None => errors.push(Error::required(&path, "must specify required node constraints")),
        }
    }
    errors.extend(source(spec, meta::name(volume), &path));
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
    if let Some(class) = tree::text_opt(spec, "volumeAttributesClassName") {
        let class_path = path.child("volumeAttributesClassName");
        match class {
            "" => errors.push(Error::required(&class_path, "an empty string is disallowed")),
            class => errors.extend(checks::dns_subdomain(class, &class_path)),
        }
        if tree::at(spec, "csi").is_none() {
            let detail = "has to be specified when using volumeAttributesClassName";
            errors.push(Error::required(&path.child("csi"), detail));
        }
    }
    errors
}

fn source(spec: &Value, name: &str, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut types = 0;
    for (kind, surplus) in SOURCES {
        let Some(source) = tree::at(spec, kind) else { continue };
        types += 1;
        // Upstream does not ask whether this one is surplus.
        if types > 1 && *kind != "flexVolume" {
            let detail = "may not specify more than 1 volume type";
            errors.push(Error::forbidden(&path.child(surplus), detail));
            continue;
        }
        errors.extend(volume_sources::details(
            kind,
            source,
            Owner::Persistent(name),
            &path.child(kind),
        ));
        if *kind == "local" && tree::at(spec, "nodeAffinity").is_none() {
            let detail = "Local volume requires node affinity";
            errors.push(Error::required(&path.child("nodeAffinity"), detail));
        }
    }
    if types == 0 {
        errors.push(Error::required(path, "must specify a volume type"));
    }
    let recycles = tree::text(spec, "persistentVolumeReclaimPolicy") == "Recycle";
    if recycles && tree::at(spec, "hostPath").is_some_and(|source| is_root(tree::text(source, "path"))) {
        let path = path.child("persistentVolumeReclaimPolicy");
        let detail = "may not be 'recycle' for a hostPath mount of '/'";
        errors.push(Error::forbidden(&path, detail));
    }
    errors
}

/// Whether a path, cleaned, is `/`.
fn is_root(path: &str) -> bool {
    let mut depth = 0_usize;
    for step in path.split('/') {
        match step {
            "" | "." => {}
            ".." => depth = depth.saturating_sub(1),
            _ => depth += 1,
        }
    }
    path.starts_with('/') && depth == 0
}

/// What an update may not change (`ValidatePersistentVolumeUpdate`).
fn changes(new: &Value, old: &Value) -> Vec<Error> {
    let mut errors = Vec::new();
    let path = Path::new("spec");
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
    let changed = |(name, _): &&(&str, &str)| !tree::same(after.get(*name), before.get(*name));
    if let Some((name, _)) = SOURCES.iter().find(changed) {
        let detail = format!("spec.persistentvolumesource is immutable after creation\nchanged: spec.{name}");
        errors.push(Error::forbidden(&path.child("persistentvolumesource"), detail));
    }
    errors.extend(checks::immutable(new, old, "spec.volumeMode", &Path::new("volumeMode")));
    if tree::at(old, "spec.nodeAffinity").is_some() && !same_but_for_new_labels(new, old) {
        let affinity = tree::at(new, "spec.nodeAffinity").cloned().unwrap_or_default();
        let detail = "field is immutable, except for updating from beta label to GA";
        errors.push(Error::invalid(&Path::new("nodeAffinity"), affinity, detail));
    }
    let class = |volume| tree::at(volume, "spec.volumeAttributesClassName").is_some();
    if class(old) && !class(new) {
        let path = path.child("volumeAttributesClassName");
        let detail = "update from non-nil value to nil is forbidden";
        errors.push(Error::forbidden(&path, detail));
    }
    errors
}

/// Old labels in the node affinity may be replaced with those that superseded them.
fn same_but_for_new_labels(new: &Value, old: &Value) -> bool {
    let mut before = tree::at(old, "spec.nodeAffinity").cloned().unwrap_or_default();
    let after = tree::list(new, "spec.nodeAffinity.required.nodeSelectorTerms");
    for (term, wanted) in tree::items_mut(&mut before, "required.nodeSelectorTerms").zip(after) {
        let wanted = tree::list(wanted, "matchExpressions");
        for (expression, wanted) in tree::items_mut(term, "matchExpressions").zip(wanted) {
            let key = tree::text(wanted, "key");
            let replaced = match tree::text(expression, "key") {
                "failure-domain.beta.kubernetes.io/zone" => "topology.kubernetes.io/zone",
                "failure-domain.beta.kubernetes.io/region" => "topology.kubernetes.io/region",
                "beta.kubernetes.io/os" => "kubernetes.io/os",
                "beta.kubernetes.io/arch" => "kubernetes.io/arch",
                "beta.kubernetes.io/instance-type" => "node.kubernetes.io/instance-type",
                _ => continue,
            };
            if key == replaced {
                tree::set(expression, "key", key);
            }
        }
    }
    tree::same(tree::at(new, "spec.nodeAffinity"), Some(&before))
}

/// Old annotations, labels and volume types (`GetWarningsForPersistentVolume`).
fn warn(volume: &Value) -> Vec<String> {
    let mut all: Vec<String> = class_annotation(volume).into_iter().collect();
    let terms = Path::new("spec")
        .child("nodeAffinity")
        .child("required")
        .child("nodeSelectorTerms");
    let list = tree::list(volume, "spec.nodeAffinity.required.nodeSelectorTerms");
    for (index, term) in list.iter().enumerate() {
        all.extend(warnings::node_selector_term(term, &terms.index(index)));
    }
    for (field, shown, message) in [
        ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
        (
            "photonPersistentDisk",
            "photonPersistentDisk",
            "deprecated in v1.11, non-functional in v1.16+",
        ),
        ("scaleIO", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
        (
            "storageos",
            "storageOS",
            "deprecated in v1.22, non-functional in v1.25+",
        ),
        (
            "glusterfs",
            "glusterfs",
            "deprecated in v1.25, non-functional in v1.26+",
        ),
        ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
    ] {
        if tree::at(volume, &format!("spec.{field}")).is_some() {
            all.push(format!("spec.{shown}: {message}"));
        }
    }
    if tree::text(volume, "spec.persistentVolumeReclaimPolicy") == "Recycle" {
        let message = "The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.";
        all.push(format!("spec.persistentVolumeReclaimPolicy: {message}"));
    }
    all
}

/// The annotation that named the class before there was a field.
pub(super) fn class_annotation(object: &Value) -> Option<String> {
    meta::annotation(object, OLD_CLASS)?;
    let path = Path::new("metadata").child("annotations").key(OLD_CLASS);
    Some(format!(
        "{path}: deprecated since v1.8; use \"storageClassName\" attribute instead"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(errors: Vec<Error>, want: &[&str]) {
        let got: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(got, want);
    }

    #[test]
    fn faults_of_volumes() {
        check(
            volume(&json!({"spec": {}})),
            &[
                "spec.accessModes: Required value",
                "spec.capacity: Required value",
                "spec.capacity: Unsupported value: null: supported values: \"storage\"",
                "spec: Required value: must specify a volume type",
            ],
        );
        let good = json!({"spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "volumeMode": "Filesystem",
            "persistentVolumeReclaimPolicy": "Retain", "local": {"path": "/a"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "beta.kubernetes.io/os", "operator": "In", "values": ["linux"]}]}]}}}});
        check(volume(&good), &[]);
        let mut bad = good.clone();
        bad["spec"]["capacity"]["storage"] = json!("0");
        bad["spec"]["hostPath"] = json!({"path": "/a/.."});
        bad["spec"]["persistentVolumeReclaimPolicy"] = json!("Recycle");
        check(
            volume(&bad),
            &[
                "spec.capacity[storage]: Invalid value: \"0\": must be greater than zero",
                "spec.hostPath.path: Invalid value: \"/a/..\": must not contain '..'",
                "spec.local: Forbidden: may not specify more than 1 volume type",
                "spec.persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'",
            ],
        );
        let mut new = good.clone();
        new["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"][0]["matchExpressions"][0]["key"] =
            json!("kubernetes.io/os");
        check(changes(&new, &good), &[]);
        new["spec"]["local"]["path"] = json!("/b");
        new["spec"]["nodeAffinity"] = json!({"required": {"nodeSelectorTerms": []}});
        check(
            changes(&new, &good),
            &[
                "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation\nchanged: spec.local",
                "nodeAffinity: Invalid value: {\"required\":{\"nodeSelectorTerms\":[]}}: field is immutable, except for updating from beta label to GA",
            ],
        );
    }
}
