//! `replicationcontrollers`.

use api::field::{Error, Path};
use api::{Value, labels, meta};
use apiserver::Kind;
use apiserver::kind::{Column, SelectableField, Subresource};

use crate::apps::replicas_status;
use crate::core::pod::disabled;
use crate::pod_spec::warnings::{self, Named};
use crate::pod_spec::{defaults, spec};
use crate::{cells, checks, tree};

pub(crate) fn kind() -> Kind {
    Kind::namespaced("", "v1", "ReplicationController", "replicationcontrollers")
        .short_names(&["rc"])
        .categories(&["all"])
        .with_generation()
        .orphans_by_default()
        .default(|object| {
            defaults::template(object, "spec.template");
            if let Some(labels) = tree::at(object, "spec.template.metadata.labels").cloned() {
                let is_empty = |value: &Value, path: &str| tree::map(value, path).is_none_or(|map| map.is_empty());
                if is_empty(object, "spec.selector") {
                    tree::set(tree::child(object, "spec"), "selector", labels.clone());
                }
                if is_empty(object, "metadata.labels") {
                    tree::set(tree::child(object, "metadata"), "labels", labels);
                }
            }
            tree::fill(tree::child(object, "spec"), "replicas", 1);
        })
        .prepare_create(|_, object| disabled::template(object, None, "spec.template"))
        .prepare_update(|_, new, old| disabled::template(new, Some(old), "spec.template"))
        .warnings(|new, old| warnings::workload(new, old, Named::Yes, "spec.template"))
        .validate(controller)
        .subresource(Subresource::status().validate(|new, _| replicas_status(new)))
        .with_scale()
        .selectable(SelectableField::path_or("status.replicas", "0"))
        .table(
            {
                let mut columns = vec![
                    Column::name(),
                    Column::integer("Desired", "Wanted number of pods."),
                    Column::integer("Current", "Present number of pods."),
                    Column::integer("Ready", "Ready pods."),
                    Column::age(),
                ];
                columns.extend(cells::template_columns());
                columns.push(cells::selector_column());
                columns
            },
            |object, now| {
                let [names, images] = cells::containers(object, "spec.template.spec.containers");
                vec![
                    cells::name(object),
                    tree::count(object, "spec.replicas").into(),
                    tree::count(object, "status.replicas").into(),
                    tree::count(object, "status.readyReplicas").into(),
                    cells::age(object, now),
                    names,
                    images,
                    cells::label_map(object, "spec.selector"),
                ]
            },
        )
}

fn controller(object: &Value) -> Vec<Error> {
    let path = Path::new("spec");
    let mut errors = Vec::new();
    let labels = meta::string_map(tree::at(object, "spec.selector"));
    if labels.is_empty() {
        errors.push(Error::required(&path.child("selector"), ""));
    }
    let selector = labels::Selector::from_map(&labels);
    errors.extend(spec::workload_template(
        object,
        &selector,
        "ReplicationController",
        &path.child("template"),
    ));
    // Upstream declares these, and checks what is declared last.
    for field in ["spec.replicas", "spec.minReadySeconds"] {
        errors.extend(checks::nonnegative(object, field, &Path::root()));
    }
    errors
}
