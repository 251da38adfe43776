//! `namespaces`.

use api::field::{Error, Path};
use api::{Value, meta, validate};
use apiserver::Kind;
use apiserver::kind::{Column, Deletion, NameRule, Subresource, Verb};
use std::sync::Arc;

use crate::{cells, tree};

/// The finalizer that the namespace controller removes when the namespace is empty.
pub const FINALIZER: &str = "kubernetes";
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

pub(crate) fn kind() -> Kind {
    let deletion = Deletion {
        on_mark: Some(Arc::new(|namespace| {
            tree::set(tree::child(namespace, "status"), "phase", "Terminating")
        })),
        held: Some(Arc::new(|namespace| {
            !tree::list(namespace, "spec.finalizers").is_empty()
        })),
        returns_object: true,
        ..Deletion::default()
    };
    Kind::cluster("", "v1", "Namespace", "namespaces")
        .short_names(&["ns"])
        .verbs(&[
            Verb::Create,
            Verb::Delete,
            Verb::Get,
            Verb::List,
            Verb::Patch,
            Verb::Update,
            Verb::Watch,
        ])
        .name_rule(NameRule::Dns1123Label)
        .deletion(deletion)
        .default(|namespace| {
            tree::fill(tree::child(namespace, "status"), "phase", "Active");
            label_with_name(namespace);
        })
        .canonicalize(label_with_name)
        .prepare_create(|_, namespace| {
            let spec = tree::child(namespace, "spec");
            let mut finalizers = tree::list(spec, "finalizers").to_vec();
            if !finalizers.iter().any(|name| name == FINALIZER) {
                finalizers.push(FINALIZER.into());
            }
            tree::set(spec, "finalizers", finalizers);
            tree::set(tree::child(namespace, "status"), "phase", "Active");
        })
        .prepare_update(|_, new, old| {
            let finalizers = tree::at(old, "spec.finalizers").cloned();
            match finalizers {
                Some(finalizers) => tree::set(tree::child(new, "spec"), "finalizers", finalizers),
                None => tree::unset(tree::child(new, "spec"), "finalizers"),
            }
        })
        .validate(|namespace| finalizers(namespace, Indexed::No))
        .validate_update(|_, _| Vec::new())
        .subresource(Subresource::status().validate(|new, _| phase(new)))
        .subresource(
            Subresource::part("finalize", Default::default())
                .verbs(&[Verb::Update])
                .prepare(|_, new, old| tree::keep(new, old, "status"))
                .validate(|new, _| finalizers(new, Indexed::Yes)),
        )
        .selectable(apiserver::kind::SelectableField::path("status.phase"))
        .table(
            vec![
                Column::name(),
                Column::string("Status", "Whether the namespace is in use or going away."),
                Column::age(),
            ],
            |namespace, now| {
                let phase = tree::text(namespace, "status.phase");
                vec![cells::name(namespace), phase.into(), cells::age(namespace, now)]
            },
        )
}

/// Every namespace carries its name as a label, so that selectors can name it.
fn label_with_name(namespace: &mut Value) {
    let name = meta::name(namespace).to_owned();
    if !name.is_empty() {
        meta::set_label(namespace, NAME_LABEL, &name);
    }
}

enum Indexed {
    Yes,
    No,
}

fn finalizers(namespace: &Value, indexed: Indexed) -> Vec<Error> {
    let path = Path::new("spec").child("finalizers");
    let mut errors = Vec::new();
    for (index, name) in tree::strings(namespace, "spec.finalizers").into_iter().enumerate() {
        let path = match indexed {
            Indexed::Yes => path.index(index),
            Indexed::No => path.clone(),
        };
        errors.extend(validate::label_name(name, &path));
        let standard = [FINALIZER, meta::FINALIZER_ORPHAN, meta::FINALIZER_FOREGROUND];
        if !name.contains('/') && !standard.contains(&name) {
            let detail = "name is neither a standard finalizer name nor is it fully qualified";
            errors.push(Error::invalid(&path, name, detail));
        }
    }
    errors
}

fn phase(namespace: &Value) -> Vec<Error> {
    let phase = tree::text(namespace, "status.phase");
    let (want, detail) = if meta::is_deleting(namespace) {
        (
            "Terminating",
            "may only be 'Terminating' if `deletionTimestamp` is not empty",
        )
    } else {
        ("Active", "may only be 'Active' if `deletionTimestamp` is empty")
    };
    if phase == want {
        return Vec::new();
    }
    vec![Error::invalid(&Path::new("status").child("Phase"), phase, detail)]
}
