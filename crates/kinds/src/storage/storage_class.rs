//! `storageclasses`.

use api::field::{Error, Path};
use api::{Value, meta};
use apiserver::Kind;
use apiserver::kind::Column;

use crate::{cells, checks, tree};

const DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";

pub(crate) fn kind() -> Kind {
    Kind::cluster("storage.k8s.io", "v1", "StorageClass", "storageclasses")
        .short_names(&["sc"])
        .returns_deleted_object()
        .default(|class| {
            tree::fill(class, "reclaimPolicy", "Delete");
            tree::fill(class, "volumeBindingMode", "Immediate");
        })
        .validate(class)
        .validate_update(|new, old| {
            let mut errors = class(new);
            for field in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
                if !tree::same(new.get(field), old.get(field)) {
                    let detail = format!("updates to {field} are forbidden.");
                    errors.push(Error::forbidden(&Path::new(field), detail));
                }
            }
            errors
        })
        .table(
            vec![
                Column::name(),
                Column::string("Provisioner", "Who makes the volumes."),
                Column::string("ReclaimPolicy", "What becomes of released volumes."),
                Column::string("VolumeBindingMode", "When volumes are made."),
                Column::string("AllowVolumeExpansion", "Whether volumes can grow."),
                Column::age(),
            ],
            |class, now| {
                let is_default = meta::annotation(class, DEFAULT) == Some("true");
                let suffix = if is_default { " (default)" } else { "" };
                vec![
                    format!("{}{suffix}", meta::name(class)).into(),
                    tree::text(class, "provisioner").into(),
                    cells::or(tree::text(class, "reclaimPolicy"), "Delete"),
                    cells::or(tree::text(class, "volumeBindingMode"), "Immediate"),
                    tree::flag(class, "allowVolumeExpansion").into(),
                    cells::age(class, now),
                ]
            },
        )
}

fn class(class: &Value) -> Vec<Error> {
    let mut errors = Vec::new();
    let provisioner = tree::text(class, "provisioner");
    if provisioner.is_empty() {
        errors.push(Error::required(&Path::new("provisioner"), provisioner));
    } else {
        errors.extend(checks::qualified_name(
            &provisioner.to_lowercase(),
            &Path::new("provisioner"),
        ));
    }
    let parameters = tree::map(class, "parameters").cloned().unwrap_or_default();
    if parameters.len() > 512 {
        errors.push(Error::invalid(
            &Path::new("parameters"),
            "Provisioner Parameters exceeded max allowed",
            "must not have more than 512 parameters",
        ));
    }
    if parameters.keys().any(String::is_empty) {
        errors.push(Error::invalid(&Path::new("parameters"), "", "field can not be empty."));
    }
    for (field, known) in [
        ("reclaimPolicy", &["Delete", "Retain"][..]),
        ("volumeBindingMode", &["Immediate", "WaitForFirstConsumer"]),
    ] {
        let value = tree::text_opt(class, field);
        errors.extend(checks::optional_one_of(value, known, &Path::new(field)));
    }
    errors
}
