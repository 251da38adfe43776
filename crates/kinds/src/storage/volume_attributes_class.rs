//! `volumeattributesclasses`.

use api::Value;
use api::field::{Error, Path};
use apiserver::Kind;
use apiserver::kind::Column;

use super::storage_class::{Parameters, parameters, provisioner};
use crate::{cells, tree};

pub(crate) fn kind() -> Kind {
    Kind::cluster(
        "storage.k8s.io",
        "v1",
        "VolumeAttributesClass",
        "volumeattributesclasses",
    )
    .short_names(&["vac"])
    .returns_deleted_object()
    .validate(class)
    .validate_update(|new, old| {
        let mut errors = Vec::new();
        for field in ["driverName", "parameters"] {
            if !tree::same(new.get(field), old.get(field)) {
                let detail = format!("updates to {field} are forbidden.");
                errors.push(Error::forbidden(&Path::new(field), detail));
            }
        }
        errors.extend(class(new));
        errors
    })
    .table(
        vec![
            Column::name(),
            Column::string("DriverName", "The driver whose volumes it is about."),
            Column::age(),
        ],
        |class, now| {
            vec![
                cells::name(class),
                tree::text(class, "driverName").into(),
                cells::age(class, now),
            ]
        },
    )
}

fn class(class: &Value) -> Vec<Error> {
    let mut errors = provisioner(tree::text(class, "driverName"), &Path::new("driverName"));
    errors.extend(parameters(class, Parameters::Needed, &Path::new("parameters")));
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_class_says_what_it_sets() {
        assert_eq!(class(&json!({"driverName": "a.io", "parameters": {"iops": "5"}})), []);
        let fields: Vec<String> = class(&json!({})).into_iter().map(|error| error.field).collect();
        assert_eq!(fields, ["driverName", "parameters"]);
    }
}
