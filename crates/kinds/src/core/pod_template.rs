//! `podtemplates`.

use api::field::Path;
use api::{Value, labels, meta};
use apiserver::Kind;
use apiserver::kind::Column;

use crate::core::pod::disabled;
use crate::pod_spec::warnings::{self, Named};
use crate::pod_spec::{defaults, spec};
use crate::{cells, tree};

pub(crate) fn kind() -> Kind {
    Kind::namespaced("", "v1", "PodTemplate", "podtemplates")
        .returns_deleted_object()
        .with_generation()
        .default(|object| defaults::template(object, "template"))
        .prepare_create(|_, object| disabled::template(object, None, "template"))
        .prepare_update(|_, new, old| disabled::template(new, Some(old), "template"))
        .warnings(|new, old| warnings::workload(new, old, Named::No, "template"))
        .validate(|object| {
            let template = tree::at(object, "template").unwrap_or(&Value::Null);
            spec::template(template, &Path::new("template"))
        })
        .table(
            vec![
                Column::name(),
                Column::string("Containers", "Names of the containers in the template."),
                Column::string("Images", "Images of the containers in the template."),
                Column::string("Pod Labels", "Labels of the template."),
            ],
            |object, _| {
                let [names, images] = cells::containers(object, "template.spec.containers");
                let pod_labels = meta::string_map(tree::at(object, "template.metadata.labels"));
                vec![
                    cells::name(object),
                    names,
                    images,
                    labels::format_labels(&pod_labels).into(),
                ]
            },
        )
}
