//! Volumes of a pod and their mounts.

use api::field::{Error, Path};
use api::{Value, validate};

use super::env::{self, ContainerName, FILE_FIELDS};
use crate::{checks, tree};

const MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";
const ONE_TYPE: &str = "may not specify more than 1 volume type";
const HOST_PATH_TYPES: &[&str] = &[
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
];

/// Every volume type with the fields that it requires. Upstream's order, which decides which of
/// two types is reported as the surplus one.
const TYPES: &[(&str, &[&str])] = &[
    ("emptyDir", &[]),
    ("hostPath", &["path"]),
    ("gitRepo", &["repository"]),
    ("gcePersistentDisk", &["pdName"]),
    ("awsElasticBlockStore", &["volumeID"]),
    ("secret", &["secretName"]),
    ("nfs", &["server", "path"]),
    ("iscsi", &["targetPortal", "iqn"]),
    ("glusterfs", &["endpoints", "path"]),
    ("flocker", &[]),
    ("persistentVolumeClaim", &["claimName"]),
    ("rbd", &["monitors", "image"]),
    ("cinder", &["volumeID"]),
    ("cephfs", &["monitors"]),
    ("quobyte", &["registry", "volume"]),
    ("downwardAPI", &[]),
    ("fc", &[]),
    ("flexVolume", &["driver"]),
    ("configMap", &["name"]),
    ("azureFile", &["secretName", "shareName"]),
    ("vsphereVolume", &["volumePath"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("storageos", &["volumeName"]),
    ("projected", &[]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
    ("csi", &["driver"]),
    ("ephemeral", &["volumeClaimTemplate"]),
    ("image", &[]),
];

/// `volumes` of a pod. `pod_name` is empty for templates.
pub fn volumes(spec: &Value, pod_name: &str, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let volumes = tree::list(spec, "volumes");
    for (index, volume) in volumes.iter().enumerate() {
        let path = path.index(index);
        let name = tree::text(volume, "name");
        errors.extend(source(volume, pod_name, &path));
        let name_path = path.child("name");
        if name.is_empty() {
            errors.push(Error::required(&name_path, ""));
        } else {
            errors.extend(checks::dns_label(name, &name_path));
        }
        if volumes[..index].iter().any(|other| tree::text(other, "name") == name) {
            errors.push(Error::duplicate(&name_path, name));
        }
        let claim = tree::text(volume, "persistentVolumeClaim.claimName");
        let creates_it = |other: &Value| {
            tree::at(other, "ephemeral").is_some() && format!("{pod_name}-{}", tree::text(other, "name")) == claim
        };
        if !pod_name.is_empty() && volumes.iter().any(creates_it) {
            let detail = "must not reference a PVC that gets created for an ephemeral volume";
            errors.push(Error::invalid(
                &path.child("persistentVolumeClaim").child("claimName"),
                claim,
                detail,
            ));
        }
    }
    errors
}

fn source(volume: &Value, pod_name: &str, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut types = 0;
    for (name, required) in TYPES {
        let Some(source) = tree::at(volume, name) else { continue };
        types += 1;
        let path = path.child(name);
        if types > 1 {
            errors.push(Error::forbidden(&path, ONE_TYPE));
            continue;
        }
        for field in *required {
            let missing = source.get(*field).is_none_or(|value| !tree::is_set(Some(value)));
            if missing {
                errors.push(Error::required(&path.child(field), ""));
            }
        }
        errors.extend(details(name, source, &path));
    }
    let name = tree::text(volume, "name");
    if tree::at(volume, "ephemeral").is_some() && !pod_name.is_empty() && !name.is_empty() {
        let claim = format!("{pod_name}-{name}");
        for message in validate::dns1123_subdomain(&claim) {
            let detail = format!("PVC name \"{claim}\": {message}");
            errors.push(Error::invalid(&path.child("name"), name, detail));
        }
    }
    if types == 0 {
        errors.push(Error::required(path, "must specify a volume type"));
    }
    errors
}

fn details(kind: &str, source: &Value, path: &Path) -> Vec<Error> {
    match kind {
        "emptyDir" => match tree::at(source, "sizeLimit").and_then(tree::quantity) {
            Some(limit) if limit.signum() < 0 => {
                vec![Error::forbidden(
                    &path.child("sizeLimit"),
                    "SizeLimit field must be a valid resource quantity",
                )]
            }
            _ => Vec::new(),
        },
        "hostPath" => {
            let file = tree::text(source, "path");
            let mut errors = no_backsteps(file, &path.child("path"));
            let kind = tree::text_opt(source, "type");
            errors.extend(checks::optional_one_of(kind, HOST_PATH_TYPES, &path.child("type")));
            if file.is_empty() { Vec::new() } else { errors }
        }
        "gitRepo" => descending_path(tree::text(source, "directory"), &path.child("directory")),
        "nfs" if !tree::text(source, "path").starts_with('/') => {
            let file = tree::text(source, "path");
            vec![Error::invalid(&path.child("path"), file, "must be an absolute path")]
        }
        "secret" | "configMap" => {
            let mut errors = mode(source, "defaultMode", path);
            errors.extend(key_paths(source, path));
            errors
        }
        "downwardAPI" => {
            let mut errors = mode(source, "defaultMode", path);
            for file in tree::list(source, "items") {
                errors.extend(downward_file(file, path));
            }
            errors
        }
        "projected" => projected(source, path),
        "csi" => {
            let mut errors = csi_driver(tree::text(source, "driver"), &path.child("driver"));
            if let Some(secret) = tree::at(source, "nodePublishSecretRef")
                && tree::text(secret, "name").is_empty()
            {
                errors.push(Error::required(&path.child("nodePublishSecretRef").child("name"), ""));
            }
            errors
        }
        "ephemeral" => tree::at(source, "volumeClaimTemplate").map_or_else(Vec::new, |template| {
            let path = path.child("volumeClaimTemplate");
            let spec = tree::at(template, "spec").unwrap_or(&Value::Null);
            crate::core::persistent_volume_claim::spec(spec, &path.child("spec"))
        }),
        "image" => {
            let policy = tree::text_opt(source, "pullPolicy");
            let known = &["Always", "IfNotPresent", "Never"];
            checks::optional_one_of(policy, known, &path.child("pullPolicy"))
        }
        "iscsi" | "fc" => lun(source, path),
        _ => Vec::new(),
    }
}

fn lun(source: &Value, path: &Path) -> Vec<Error> {
    let lun = tree::count(source, "lun");
    let messages = validate::in_range(lun, 0, 255);
    messages
        .into_iter()
        .map(|text| Error::invalid(&path.child("lun"), lun, text))
        .collect()
}

/// The name of a CSI driver: at most 63 bytes, a subdomain in any case.
pub fn csi_driver(name: &str, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if name.len() > 63 {
        errors.push(Error::too_long(path, 63));
    }
    if !name.is_empty() {
        errors.extend(checks::invalid_each(
            path,
            name,
            validate::dns1123_subdomain(&name.to_lowercase()),
        ));
    }
    errors
}

fn mode(source: &Value, field: &str, path: &Path) -> Vec<Error> {
    match tree::int(source, field) {
        Some(mode) if !(0..=0o777).contains(&mode) => vec![Error::invalid(&path.child(field), mode, MODE)],
        _ => Vec::new(),
    }
}

/// `items` of a ConfigMap or Secret in a volume.
fn key_paths(source: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (index, item) in tree::list(source, "items").iter().enumerate() {
        let path = path.child("items").index(index);
        for field in ["key", "path"] {
            if tree::text(item, field).is_empty() {
                errors.push(Error::required(&path.child(field), ""));
            }
        }
        errors.extend(unreserved_path(tree::text(item, "path"), &path.child("path")));
        errors.extend(mode(item, "mode", &path));
    }
    errors
}

fn downward_file(file: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let name = tree::text(file, "path");
    if name.is_empty() {
        errors.push(Error::required(&path.child("path"), ""));
    }
    errors.extend(unreserved_path(name, &path.child("path")));
    let (field, resource) = (tree::at(file, "fieldRef"), tree::at(file, "resourceFieldRef"));
    match (field, resource) {
        (Some(field), resource) => {
            errors.extend(env::field_reference(field, FILE_FIELDS, &path.child("fieldRef")));
            if resource.is_some() {
                let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.push(Error::invalid(path, "resource", detail));
            }
        }
        (None, Some(resource)) => {
            let path = path.child("resourceFieldRef");
            errors.extend(env::resource_reference(resource, ContainerName::Required, &path));
        }
        (None, None) => errors.push(Error::required(
            path,
            "one of fieldRef and resourceFieldRef is required",
        )),
    }
    errors.extend(mode(file, "mode", path));
    errors
}

fn projected(source: &Value, path: &Path) -> Vec<Error> {
    let mut errors = mode(source, "defaultMode", path);
    let mut seen: Vec<String> = Vec::new();
    let mut conflict = |file: &str, shown: &str| -> Option<Error> {
        if file.is_empty() {
            return None;
        }
        if seen.iter().any(|other| other == file) {
            return Some(Error::invalid(path, shown, "conflicting duplicate paths"));
        }
        seen.push(file.to_owned());
        None
    };
    for (index, source) in tree::list(source, "sources").iter().enumerate() {
        let item = path.child("sources").index(index);
        let mut kinds = 0;
        for kind in ["secret", "configMap"] {
            let Some(part) = tree::at(source, kind) else { continue };
            kinds += 1;
            let name = tree::text(part, "name");
            if name.is_empty() {
                errors.push(Error::required(&item.child(kind).child("name"), ""));
            }
            errors.extend(key_paths(part, &item.child(kind)));
            for entry in tree::list(part, "items") {
                errors.extend(conflict(tree::text(entry, "path"), name));
            }
        }
        if let Some(part) = tree::at(source, "downwardAPI") {
            kinds += 1;
            for file in tree::list(part, "items") {
                errors.extend(downward_file(file, &item.child("downwardAPI")));
                let name = tree::text(file, "path");
                errors.extend(conflict(name, name));
            }
        }
        if let Some(token) = tree::at(source, "serviceAccountToken") {
            kinds += 1;
            errors.extend(token_projection(token, path, &item.child("serviceAccountToken")));
        }
        kinds += ["clusterTrustBundle", "podCertificate"]
            .iter()
            .filter(|kind| tree::at(source, kind).is_some())
            .count();
        if kinds > 1 {
            errors.push(Error::forbidden(&item, ONE_TYPE));
        }
    }
    errors
}

fn token_projection(token: &Value, volume: &Path, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let seconds = tree::count(token, "expirationSeconds");
    let seconds_path = path.child("expirationSeconds");
    if seconds < 600 {
        errors.push(Error::invalid(
            &seconds_path,
            seconds,
            "may not specify a duration less than 10 minutes",
        ));
    }
    if seconds > 1 << 32 {
        errors.push(Error::invalid(
            &seconds_path,
            seconds,
            "may not specify a duration larger than 2^32 seconds",
        ));
    }
    let file = tree::text(token, "path");
    if file.is_empty() {
        // Upstream reports it at the volume.
        errors.push(Error::required(&volume.child("path"), ""));
    } else {
        errors.extend(unreserved_path(file, &path.child("path")));
    }
    errors
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
fn unreserved_path(file: &str, path: &Path) -> Vec<Error> {
    let mut errors = descending_path(file, path);
    if file.starts_with("..") && !file.starts_with("../") {
        errors.push(Error::invalid(path, file, "must not start with '..'"));
    }
    errors
}

fn volume_named<'v>(spec: &'v Value, name: &str) -> Option<&'v Value> {
    tree::list(spec, "volumes")
        .iter()
        .find(|volume| tree::text(volume, "name") == name)
}

/// `volumeMounts` of a container.
pub fn mounts(spec: &Value, container: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let mounts = tree::list(container, "volumeMounts");
    let devices = tree::list(container, "volumeDevices");
    for (index, mount) in mounts.iter().enumerate() {
        let item = path.index(index);
        let (name, target) = (tree::text(mount, "name"), tree::text(mount, "mountPath"));
        if name.is_empty() {
            errors.push(Error::required(&item.child("name"), ""));
        }
        if volume_named(spec, name).is_none() {
            errors.push(Error::not_found(&item.child("name"), name));
        }
        if target.is_empty() {
            errors.push(Error::required(&item.child("mountPath"), ""));
        }
        if mounts[..index]
            .iter()
            .any(|other| tree::text(other, "mountPath") == target)
        {
            errors.push(Error::invalid(&item.child("mountPath"), target, "must be unique"));
        }
        if devices.iter().any(|device| tree::text(device, "name") == name) {
            errors.push(Error::invalid(
                &item.child("name"),
                name,
                "must not already exist in volumeDevices",
            ));
        }
        if devices.iter().any(|device| tree::text(device, "devicePath") == target) {
            let detail = "must not already exist as a path in volumeDevices";
            errors.push(Error::invalid(&item.child("mountPath"), target, detail));
        }
        errors.extend(sub_paths(mount, path, &item));
        errors.extend(propagation(mount, container, path));
        errors.extend(recursive_read_only(mount, &item));
    }
    errors
}

fn sub_paths(mount: &Value, list: &Path, item: &Path) -> Vec<Error> {
    let (plain, expanded) = (tree::text(mount, "subPath"), tree::text(mount, "subPathExpr"));
    let mut errors = descending_path(plain, &list.child("subPath"));
    if !expanded.is_empty() {
        if !plain.is_empty() {
            let detail = "subPathExpr and subPath are mutually exclusive";
            errors.push(Error::invalid(&item.child("subPathExpr"), expanded, detail));
        }
        errors.extend(descending_path(expanded, &list.child("subPathExpr")));
    }
    errors
}

fn propagation(mount: &Value, container: &Value, list: &Path) -> Vec<Error> {
    let value = tree::text_opt(mount, "mountPropagation");
    let path = list.child("mountPropagation");
    let known = &["Bidirectional", "HostToContainer", "None"];
    let mut errors = checks::optional_one_of(value, known, &path);
    if value == Some("Bidirectional") && !tree::flag(container, "securityContext.privileged") {
        let detail = "Bidirectional mount propagation is available only to privileged containers";
        errors.push(Error::forbidden(&path, detail));
    }
    errors
}

fn recursive_read_only(mount: &Value, item: &Path) -> Vec<Error> {
    let Some(value) = tree::text_opt(mount, "recursiveReadOnly") else {
        return Vec::new();
    };
    let path = item.child("recursiveReadOnly");
    let mut errors = checks::optional_one_of(Some(value), &["Disabled", "Enabled", "IfPossible"], &path);
    if matches!(value, "Enabled" | "IfPossible") {
        if !tree::flag(mount, "readOnly") {
            errors.push(Error::forbidden(&path, "may only be specified when readOnly is true"));
        }
        if !matches!(tree::text(mount, "mountPropagation"), "" | "None") {
            let detail = "may only be specified when mountPropagation is None or not specified";
            errors.push(Error::forbidden(&path, detail));
        }
    }
    errors
}

/// `volumeDevices` of a container.
pub fn devices(spec: &Value, container: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let devices = tree::list(container, "volumeDevices");
    let mounts = tree::list(container, "volumeMounts");
    for (index, device) in devices.iter().enumerate() {
        let item = path.index(index);
        let (name_path, file_path) = (item.child("name"), item.child("devicePath"));
        let (name, file) = (tree::text(device, "name"), tree::text(device, "devicePath"));
        let earlier = |field: &str, value: &str| devices[..index].iter().any(|other| tree::text(other, field) == value);
        if name.is_empty() {
            errors.push(Error::required(&name_path, ""));
        } else if earlier("name", name) {
            errors.push(Error::invalid(&name_path, name, "must be unique"));
        }
        match volume_named(spec, name) {
            None => errors.push(Error::not_found(&name_path, name)),
            Some(volume)
                if tree::at(volume, "persistentVolumeClaim").is_none() && tree::at(volume, "ephemeral").is_none() =>
            {
                let detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.push(Error::invalid(&name_path, name, detail));
            }
            Some(_) => {}
        }
        if file.is_empty() {
            errors.push(Error::required(&file_path, ""));
        } else if earlier("devicePath", file) {
            errors.push(Error::invalid(&file_path, file, "must be unique"));
        }
        if !no_backsteps(file, &file_path).is_empty() {
            errors.push(Error::invalid(&file_path, file, "can not contain backsteps ('..')"));
        }
        if mounts.iter().any(|mount| tree::text(mount, "name") == name) {
            errors.push(Error::invalid(
                &name_path,
                name,
                "must not already exist in volumeMounts",
            ));
        }
        if mounts.iter().any(|mount| tree::text(mount, "mountPath") == file) {
            errors.push(Error::invalid(
                &file_path,
                file,
                "must not already exist as a path in volumeMounts",
            ));
        }
    }
    errors
}
