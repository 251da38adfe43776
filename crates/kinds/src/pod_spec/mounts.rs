//! Mounts and block devices of a container.

use api::Value;
use api::field::{Error, Path};

use super::containers::Surroundings;
use super::volumes::{descending_path, no_backsteps};
use crate::{checks, tree};

/// `volumeMounts` of a container.
pub fn mounts(around: &Surroundings<'_>, container: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let mounts = tree::list(container, "volumeMounts");
    let devices = tree::list(container, "volumeDevices");
    for (index, mount) in mounts.iter().enumerate() {
        let item = path.index(index);
        let (name_path, target_path) = (item.child("name"), item.child("mountPath"));
        let (name, target) = (tree::text(mount, "name"), tree::text(mount, "mountPath"));
        if name.is_empty() {
            errors.push(Error::required(&name_path, ""));
        }
        if around.volume(name).is_none() {
            errors.push(Error::not_found(&name_path, name));
        }
        if target.is_empty() {
            errors.push(Error::required(&target_path, ""));
        }
        let same = |other: &Value| tree::text(other, "mountPath") == target;
        if mounts[..index].iter().any(same) {
            errors.push(Error::invalid(&target_path, target, "must be unique"));
        }
        if devices.iter().any(|device| tree::text(device, "name") == name) {
            let detail = "must not already exist in volumeDevices";
            errors.push(Error::invalid(&name_path, name, detail));
        }
        if devices.iter().any(|device| tree::text(device, "devicePath") == target) {
            let detail = "must not already exist as a path in volumeDevices";
            errors.push(Error::invalid(&target_path, target, detail));
        }
        errors.extend(sub_paths(mount, path, &item));
        errors.extend(propagation(mount, container, &path.child("mountPropagation")));
        errors.extend(recursive_read_only(mount, &path.child("recursiveReadOnly")));
    }
    errors
}

/// Upstream reports malformed sub paths at the list.
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

fn propagation(mount: &Value, container: &Value, path: &Path) -> Vec<Error> {
    let value = tree::text_opt(mount, "mountPropagation");
    let known = &["Bidirectional", "HostToContainer", "None"];
    let mut errors = checks::optional_one_of(value, known, path);
    if value == Some("Bidirectional") && !tree::flag(container, "securityContext.privileged") {
        let detail = "Bidirectional mount propagation is available only to privileged containers";
        errors.push(Error::forbidden(path, detail));
    }
    errors
}

fn recursive_read_only(mount: &Value, path: &Path) -> Vec<Error> {
    let value = tree::text_opt(mount, "recursiveReadOnly");
    let mut errors = checks::optional_one_of(value, &["Disabled", "Enabled", "IfPossible"], path);
    if matches!(value, Some("Enabled" | "IfPossible")) {
        if !tree::flag(mount, "readOnly") {
            errors.push(Error::forbidden(path, "may only be specified when readOnly is true"));
        }
        if !matches!(tree::text_opt(mount, "mountPropagation"), None | Some("None")) {
            let detail = "may only be specified when mountPropagation is None or not specified";
            errors.push(Error::forbidden(path, detail));
        }
    }
    errors
}

/// `volumeDevices` of a container.
pub fn devices(around: &Surroundings<'_>, container: &Value, path: &Path) -> Vec<Error> {
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
        match around.volume(name) {
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
        }
        if earlier("devicePath", file) {
            errors.push(Error::invalid(&file_path, file, "must be unique"));
        }
        if !no_backsteps(file, &file_path).is_empty() {
            let detail = "can not contain backsteps ('..')";
            errors.push(Error::invalid(&file_path, file, detail));
        }
        if mounts.iter().any(|mount| tree::text(mount, "name") == name) {
            let detail = "must not already exist in volumeMounts";
            errors.push(Error::invalid(&name_path, name, detail));
        }
        if mounts.iter().any(|mount| tree::text(mount, "mountPath") == file) {
            let detail = "must not already exist as a path in volumeMounts";
            errors.push(Error::invalid(&file_path, file, detail));
        }
    }
    errors
}
