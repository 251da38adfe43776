//! `csidrivers`, `csinodes`, `csistoragecapacities` and `volumeattachments`: descriptors and
//! tables, without upstream's validation.

use api::Value;
use apiserver::Kind;
use apiserver::kind::{Column, Subresource};

use crate::{cells, tree};

const GROUP: &str = "storage.k8s.io";

pub(crate) fn driver() -> Kind {
    let boolean = |name, description| Column {
        r#type: "boolean",
        ..Column::string(name, description)
    };
    Kind::cluster(GROUP, "v1", "CSIDriver", "csidrivers")
        .returns_deleted_object()
        .forbid_unconditional_update()
        .with_generation()
        .default(|driver| {
            let spec = tree::child(driver, "spec");
            tree::fill(spec, "attachRequired", true);
            for field in ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"] {
                tree::fill(spec, field, false);
            }
            tree::fill(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
            if tree::list(spec, "volumeLifecycleModes").is_empty() {
                tree::set(spec, "volumeLifecycleModes", vec!["Persistent"]);
            }
        })
        .table(
            vec![
                Column::name(),
                boolean("AttachRequired", "Whether volumes are attached first."),
                boolean("PodInfoOnMount", "Whether the driver is told about the pod."),
                boolean("StorageCapacity", "Whether the driver reports capacity."),
                Column::string("TokenRequests", "Audiences of tokens it gets."),
                boolean("RequiresRepublish", "Whether it is called again and again."),
                Column::string("Modes", "Life cycles that it supports."),
                Column::age(),
            ],
            |driver, now| {
                let flag = |field: &str, absent| {
                    Value::from(tree::flag_opt(driver, &format!("spec.{field}")).unwrap_or(absent))
                };
                let requests = tree::at(driver, "spec.tokenRequests").map(|_| {
                    let requests = tree::list(driver, "spec.tokenRequests").iter();
                    requests
                        .map(|request| tree::text(request, "audience"))
                        .collect::<Vec<_>>()
                        .join(",")
                });
                vec![
                    cells::name(driver),
                    flag("attachRequired", true),
                    flag("podInfoOnMount", false),
                    flag("storageCapacity", false),
                    requests.unwrap_or_else(|| "<unset>".to_owned()).into(),
                    flag("requiresRepublish", false),
                    cells::or(&tree::strings(driver, "spec.volumeLifecycleModes").join(","), "<none>"),
                    cells::age(driver, now),
                ]
            },
        )
}

pub(crate) fn node() -> Kind {
    Kind::cluster(GROUP, "v1", "CSINode", "csinodes")
        .returns_deleted_object()
        .forbid_unconditional_update()
        .table(
            vec![
                Column::name(),
                Column::integer("Drivers", "Drivers on the node."),
                Column::age(),
            ],
            |node, now| {
                vec![
                    cells::name(node),
                    tree::list(node, "spec.drivers").len().into(),
                    cells::age(node, now),
                ]
            },
        )
}

pub(crate) fn storage_capacity() -> Kind {
    Kind::namespaced(GROUP, "v1", "CSIStorageCapacity", "csistoragecapacities")
        .forbid_unconditional_update()
        .table(
            vec![
                Column::name(),
                Column::string("StorageClassName", "The class it is about."),
                Column::string("Capacity", "How much is left."),
            ],
            |capacity, _| {
                let left = cells::or(tree::text(capacity, "capacity"), "<unset>");
                vec![
                    cells::name(capacity),
                    tree::text(capacity, "storageClassName").into(),
                    left,
                ]
            },
        )
}

pub(crate) fn volume_attachment() -> Kind {
    Kind::cluster(GROUP, "v1", "VolumeAttachment", "volumeattachments")
        .returns_deleted_object()
        .forbid_unconditional_update()
        .subresource(Subresource::status())
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
