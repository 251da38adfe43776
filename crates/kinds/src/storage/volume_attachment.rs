//! `volumeattachments`.

use api::Value;
use api::field::{Error, Path};
use apiserver::Kind;
use apiserver::kind::{Column, Subresource};

use super::GROUP;
use crate::{cells, checks, parts, references, tree};

const MAX_METADATA_BYTES: usize = 256 * (1 << 10);
const MAX_MESSAGE_BYTES: usize = 1024;

pub(crate) fn kind() -> Kind {
    Kind::cluster(GROUP, "v1", "VolumeAttachment", "volumeattachments")
        .returns_deleted_object()
        .forbid_unconditional_update()
        .validate(|new| {
            let mut errors = attachment(new);
            // Of version 1 only: upstream's older versions allowed more.
            errors.extend(names(new));
            errors
        })
        .validate_update(|new, old| {
            let mut errors = attachment(new);
            errors.extend(checks::immutable(new, old, "spec", &Path::new("spec")));
            errors
        })
        .subresource(
            Subresource::status()
                .prepare(|_, new, old| {
                    parts::keep_all_but_status(new, old);
                    parts::reset_metadata(new, old);
                })
                .validate(|new, _| attachment(new)),
        )
        .table(
            vec![
                Column::name(),
                Column {
                    format: "name",
                    ..Column::string("Attacher", "Who attaches it.")
                },
                Column::string("PV", "The volume."),
                Column::string("Node", "The node."),
                Column {
                    r#type: "boolean",
                    ..Column::string("Attached", "Whether it is attached.")
                },
                Column::age(),
            ],
            |attachment, now| {
                vec![
                    cells::name(attachment),
                    tree::text(attachment, "spec.attacher").into(),
                    tree::text(attachment, "spec.source.persistentVolumeName").into(),
                    tree::text(attachment, "spec.nodeName").into(),
                    tree::flag(attachment, "status.attached").into(),
                    cells::age(attachment, now),
                ]
            },
        )
}

fn attachment(attachment: &Value) -> Vec<Error> {
    let path = Path::new("spec");
    let mut errors = Vec::new();
    if tree::text(attachment, "spec.attacher").is_empty() {
        errors.push(Error::required(&path.child("attacher"), ""));
    }
    let source = path.child("source");
    let name = tree::text_opt(attachment, "spec.source.persistentVolumeName");
    let inline = tree::at(attachment, "spec.source.inlineVolumeSpec");
    let detail = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (inline, name) {
        (None, None) => errors.push(Error::required(&source, detail)),
        (Some(_), Some(_)) => errors.push(Error::forbidden(&source, detail)),
        (None, Some("")) => {
            let detail = "must specify non empty persistentVolumeName";
            errors.push(Error::required(&source.child("persistentVolumeName"), detail));
        }
        (None, Some(_)) => {}
        (Some(inline), None) => errors.extend(inline_volume(inline, &source.child("inlineVolumeSpec"))),
    }
    let node = tree::text(attachment, "spec.nodeName");
    errors.extend(checks::dns_subdomain(node, &path.child("nodeName")));
    errors.extend(status(attachment));
    errors
}

/// Only CSI volumes can be attached without a PersistentVolume.
fn inline_volume(volume: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if tree::list(volume, "accessModes").is_empty() {
        errors.push(Error::required(&path.child("accessModes"), ""));
    }
    match tree::at(volume, "csi") {
        None => errors.push(Error::required(&path.child("csi"), "")),
        Some(csi) => {
            errors.extend(references::driver_name(
                tree::text(csi, "driver"),
                &path.child("csi").child("driver"),
            ));
            if tree::text(csi, "volumeHandle").is_empty() {
                errors.push(Error::required(&path.child("csi").child("volumeHandle"), ""));
            }
        }
    }
    errors
}

fn names(attachment: &Value) -> Vec<Error> {
    let attacher = tree::text(attachment, "spec.attacher");
    let mut errors = references::driver_name(attacher, &Path::new("spec.attacher"));
    if let Some(name) = tree::text_opt(attachment, "spec.source.persistentVolumeName") {
        let path = Path::new("spec.source.persistentVolumeName");
        errors.extend(checks::dns_subdomain(name, &path));
    }
    errors
}

fn status(attachment: &Value) -> Vec<Error> {
    let path = Path::new("status");
    let mut errors = Vec::new();
    let entries = tree::entries(attachment, "status.attachmentMetadata");
    let bytes: usize = entries
        .map(|(key, value)| key.len() + value.as_str().map_or(0, str::len))
        .sum();
    if bytes > MAX_METADATA_BYTES {
        errors.push(Error::too_long(&path.child("attachmentMetadata"), MAX_METADATA_BYTES));
    }
    for field in ["attachError", "detachError"] {
        let Some(error) = tree::at(attachment, &format!("status.{field}")) else {
            continue;
        };
        let path = path.child(field);
        if tree::text(error, "message").len() > MAX_MESSAGE_BYTES {
            // Upstream names the wrong limit.
            errors.push(Error::too_long(&path.child("message"), MAX_METADATA_BYTES));
        }
        if let Some(code) = tree::int(error, "errorCode").filter(|code| *code < 0) {
            let detail = api::validate::inclusive_range_error(0, i64::from(i32::MAX));
            errors.push(Error::invalid(&path.child("errorCode"), code, detail));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn attachments_have_one_source() {
        let good = json!({"spec": {"attacher": "a.io", "nodeName": "n", "source": {"persistentVolumeName": "v"}}});
        assert_eq!(attachment(&good), []);
        let bad =
            json!({"spec": {"source": {}}, "status": {"attachError": {"message": "x".repeat(2000), "errorCode": -1}}});
        let fields: Vec<String> = attachment(&bad).into_iter().map(|error| error.field).collect();
        assert_eq!(
            fields,
            [
                "spec.attacher",
                "spec.source",
                "spec.nodeName",
                "status.attachError.message",
                "status.attachError.errorCode"
            ]
        );
    }
}
