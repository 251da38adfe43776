//! Volumes of a pod.

use api::field::{Error, Path};
use api::{Value, validate};

use super::projected;
use super::spec::Holder;
use super::volume_sources::{self, Owner};
use crate::{checks, tree};

pub(super) const MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";
const ONE_TYPE: &str = "may not specify more than 1 volume type";

/// Every volume type, in upstream's order, which decides which of two types is the surplus one;
/// and how the surplus one's path ends where upstream misspells it.
const TYPES: &[(&str, &str)] = &[
    ("emptyDir", "emptyDir"),
    ("hostPath", "hostPath"),
    ("gitRepo", "gitRepo"),
    ("gcePersistentDisk", "gcePersistentDisk"),
    ("awsElasticBlockStore", "awsElasticBlockStore"),
    ("secret", "secret"),
    ("nfs", "nfs"),
    ("iscsi", "iscsi"),
    ("glusterfs", "glusterfs"),
    ("flocker", "flocker"),
    ("persistentVolumeClaim", "persistentVolumeClaim"),
    ("rbd", "rbd"),
    ("cinder", "cinder"),
    ("cephfs", "cephFS"),
    ("quobyte", "quobyte"),
    ("downwardAPI", "downwarAPI"),
    ("fc", "fc"),
    ("flexVolume", "flexVolume"),
    ("configMap", "configMap"),
    ("azureFile", "azureFile"),
    ("vsphereVolume", "vsphereVolume"),
    ("photonPersistentDisk", "photonPersistentDisk"),
    ("portworxVolume", "portworxVolume"),
    ("azureDisk", "azureDisk"),
    ("storageos", "storageos"),
    ("projected", "projected"),
    ("scaleIO", "scaleIO"),
    ("csi", "csi"),
    ("ephemeral", "ephemeral"),
    ("image", "image"),
];

/// `volumes` of a pod: those that mounts may name, and every error.
pub fn volumes<'v>(spec: &'v Value, holder: Holder<'_>, path: &Path) -> (Vec<&'v Value>, Vec<Error>) {
    let pod_name = match holder {
        Holder::Pod(name) => name,
        Holder::Template => "",
    };
    let (mut usable, mut errors): (Vec<&Value>, Vec<Error>) = (Vec::new(), Vec::new());
    let volumes = tree::list(spec, "volumes");
    let creates = |claim: &str| {
        !pod_name.is_empty()
            && volumes.iter().any(|volume| {
                tree::at(volume, "ephemeral").is_some() && format!("{pod_name}-{}", tree::text(volume, "name")) == claim
            })
    };
    for (index, volume) in volumes.iter().enumerate() {
        let path = path.index(index);
        let (name, name_path) = (tree::text(volume, "name"), path.child("name"));
        let mut own = source(volume, holder, pod_name, &path);
        if name.is_empty() {
            own.push(Error::required(&name_path, ""));
        } else {
            own.extend(checks::dns_label(name, &name_path));
        }
        if usable.iter().any(|other| tree::text(other, "name") == name) {
            own.push(Error::duplicate(&name_path, name));
        }
        if own.is_empty() {
            usable.push(volume);
        }
        errors.extend(own);
        if let Some(claim) = tree::at(volume, "persistentVolumeClaim")
            && creates(tree::text(claim, "claimName"))
        {
            let detail = "must not reference a PVC that gets created for an ephemeral volume";
            let path = path.child("persistentVolumeClaim").child("claimName");
            errors.push(Error::invalid(&path, tree::text(claim, "claimName"), detail));
        }
    }
    (usable, errors)
}

fn source(volume: &Value, holder: Holder<'_>, pod_name: &str, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut types = 0;
    let name = tree::text(volume, "name");
    for (kind, surplus) in TYPES {
        let Some(source) = tree::at(volume, kind) else { continue };
        types += 1;
        if types > 1 {
            errors.push(Error::forbidden(&path.child(surplus), ONE_TYPE));
        } else {
            errors.extend(details(kind, source, holder, &path.child(kind)));
        }
        if *kind == "iscsi" && tree::at(source, "initiatorName").is_some() {
            let portal = tree::text(source, "targetPortal");
            errors.extend(volume_sources::initiator_length(
                name,
                portal,
                name,
                &path.child("name"),
            ));
        }
        if *kind == "ephemeral" && types == 1 && !pod_name.is_empty() && !name.is_empty() {
            let claim = format!("{pod_name}-{name}");
            for message in validate::dns1123_subdomain(&claim) {
                let detail = format!("PVC name {}: {message}", api::field::go_quote(&claim));
                errors.push(Error::invalid(&path.child("name"), name, detail));
            }
        }
    }
    if types == 0 {
        errors.push(Error::required(path, "must specify a volume type"));
    }
    errors
}

fn details(kind: &str, source: &Value, holder: Holder<'_>, path: &Path) -> Vec<Error> {
    let required = |field: &str| match tree::is_set(source.get(field)) {
        true => Vec::new(),
        false => vec![Error::required(&path.child(field), "")],
    };
    match kind {
        "emptyDir" => match tree::at(source, "sizeLimit").and_then(tree::quantity) {
            Some(limit) if limit.signum() < 0 => {
                let detail = "SizeLimit field must be a valid resource quantity";
                vec![Error::forbidden(&path.child("sizeLimit"), detail)]
            }
            _ => Vec::new(),
        },
        "gitRepo" => {
            let mut errors = required("repository");
            errors.extend(descending_path(
                tree::text(source, "directory"),
                &path.child("directory"),
            ));
            errors
        }
        "secret" | "configMap" => {
            let mut errors = required(if kind == "secret" { "secretName" } else { "name" });
            errors.extend(mode(source, "defaultMode", path));
            for (index, item) in tree::list(source, "items").iter().enumerate() {
                errors.extend(projected::key_path(item, &path.child("items").index(index)));
            }
            errors
        }
        "persistentVolumeClaim" => required("claimName"),
        "downwardAPI" => {
            let mut errors = mode(source, "defaultMode", path);
            for file in tree::list(source, "items") {
                errors.extend(projected::downward_file(file, path));
            }
            errors
        }
        "projected" => projected::projected(source, path),
        "ephemeral" => match tree::at(source, "volumeClaimTemplate") {
            None => vec![Error::required(&path.child("volumeClaimTemplate"), "")],
            Some(template) => claim_template(template, &path.child("volumeClaimTemplate")),
        },
        "image" => {
            let mut errors = match holder {
                Holder::Pod(_) => required("reference"),
                Holder::Template => Vec::new(),
            };
            let known = &["Always", "IfNotPresent", "Never"];
            let policy = tree::text(source, "pullPolicy");
            errors.extend(checks::one_of(policy, known, &path.child("pullPolicy")));
            errors
        }
        _ => volume_sources::details(kind, source, Owner::Pod, path),
    }
}

/// A claim that comes with its pod: labels, annotations and a spec, nothing else.
fn claim_template(template: &Value, path: &Path) -> Vec<Error> {
    let metadata = tree::at(template, "metadata").unwrap_or(&Value::Null);
    let own = path.child("metadata");
    let mut errors = validate::annotations(metadata.get("annotations"), &own.child("annotations"));
    errors.extend(validate::labels(metadata.get("labels"), &own.child("labels")));
    for (field, shown) in [
        ("name", "name"),
        ("generateName", "generateName"),
        ("namespace", "namespace"),
        ("selfLink", "selfLink"),
        ("uid", "uID"),
        ("resourceVersion", "resourceVersion"),
        ("generation", "generation"),
        ("creationTimestamp", "creationTimestamp"),
        ("deletionTimestamp", "deletionTimestamp"),
        ("deletionGracePeriodSeconds", "deletionGracePeriodSeconds"),
        ("ownerReferences", "ownerReferences"),
        ("finalizers", "finalizers"),
        ("managedFields", "managedFields"),
    ] {
        if tree::is_set(metadata.get(field)) {
            errors.push(Error::forbidden(&own.child(shown), "cannot be set"));
        }
    }
    let spec = tree::at(template, "spec").unwrap_or(&Value::Null);
    errors.extend(crate::core::persistent_volume_claim::spec(spec, &path.child("spec")));
    errors
}

pub(super) fn mode(source: &Value, field: &str, path: &Path) -> Vec<Error> {
    match tree::int(source, field) {
        Some(mode) if !(0..=0o777).contains(&mode) => vec![Error::invalid(&path.child(field), mode, MODE)],
        _ => Vec::new(),
    }
}

/// A relative path that does not leave its root.
pub fn descending_path(file: &str, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if file.starts_with('/') {
        errors.push(Error::invalid(path, file, "must be a relative path"));
    }
    errors.extend(no_backsteps(file, path));
    errors
}

/// A path without `..` steps.
pub fn no_backsteps(file: &str, path: &Path) -> Vec<Error> {
    if file.split('/').any(|step| step == "..") {
        return vec![Error::invalid(path, file, "must not contain '..'")];
    }
    Vec::new()
}

/// As [`descending_path`], and free of the names that volumes use for themselves.
pub(super) fn unreserved_path(file: &str, path: &Path) -> Vec<Error> {
    let mut errors = descending_path(file, path);
    if file.starts_with("..") && !file.starts_with("../") {
        errors.push(Error::invalid(path, file, "must not start with '..'"));
    }
    errors
}
