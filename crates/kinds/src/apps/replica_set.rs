//! `replicasets`.

use api::Value;
use api::field::{Error, Path};
use apiserver::Kind;
use apiserver::kind::{Column, Subresource};

use super::{replicas_status, selector, selector_is_kept, template, wide_cells, wide_columns, with_age};
use crate::core::pod::disabled;
use crate::pod_spec::defaults;
use crate::pod_spec::warnings::{self, Named};
use crate::{checks, tree};

pub(crate) fn kind() -> Kind {
    Kind::namespaced("apps", "v1", "ReplicaSet", "replicasets")
        .short_names(&["rs"])
        .categories(&["all"])
        .with_generation()
        .default(|object| {
            defaults::template(object, "spec.template");
            tree::fill(tree::child(object, "spec"), "replicas", 1);
        })
        .prepare_create(|_, object| disabled::template(object, None, "spec.template"))
        .prepare_update(|_, new, old| disabled::template(new, Some(old), "spec.template"))
        .warnings(|new, old| warnings::workload(new, old, Named::Yes, "spec.template"))
        .validate(set)
        .validate_update(|new, old| {
            let mut errors = set(new);
            errors.extend(selector_is_kept(new, old));
            errors
        })
        .subresource(Subresource::status().validate(|new, _| replicas_status(new)))
        .with_scale()
        .table(
            wide_columns(vec![
                Column::name(),
                Column::integer("Desired", "Wanted number of pods."),
                Column::integer("Current", "Present number of pods."),
                Column::integer("Ready", "Ready pods."),
                Column::age(),
            ]),
            |object, now| {
                let counts = ["spec.replicas", "status.replicas", "status.readyReplicas"];
                let own = counts.iter().map(|path| tree::count(object, path).into()).collect();
                wide_cells(object, with_age(object, now, own))
            },
        )
}

fn set(object: &Value) -> Vec<Error> {
    let mut errors = checks::nonnegative(object, "spec.replicas", &Path::root());
    errors.extend(checks::nonnegative(object, "spec.minReadySeconds", &Path::root()));
    errors.extend(selector(object, "empty selector is invalid for deployment"));
    errors.extend(template(object, "ReplicaSet"));
    errors
}
