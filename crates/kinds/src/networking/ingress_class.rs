//! `ingressclasses`.

use api::field::{Error, Path};
use api::{Value, validate};
use apiserver::Kind;
use apiserver::kind::Column;

use crate::{cells, checks, references, tree};

pub(crate) fn kind() -> Kind {
    Kind::cluster("networking.k8s.io", "v1", "IngressClass", "ingressclasses")
        .with_generation()
        .default(|class| {
            if let Some(parameters) = tree::at_mut(class, "spec.parameters") {
                tree::fill_absent(parameters, "scope", "Cluster");
            }
        })
        .validate(class)
        .validate_update(|new, old| {
            let path = Path::new("spec").child("controller");
            let mut errors = checks::immutable(new, old, "spec.controller", &path);
            errors.extend(class(new));
            errors
        })
        .table(
            vec![
                Column::name(),
                Column::string("Controller", "Who serves ingresses of this class."),
                Column::string("Parameters", "Its settings."),
                Column::age(),
            ],
            |class, now| {
                let parameters = tree::at(class, "spec.parameters").map(|parameters| {
                    let mut text = tree::text(parameters, "kind").to_owned();
                    if let Some(group) = tree::text_opt(parameters, "apiGroup") {
                        text = format!("{text}.{group}");
                    }
                    format!("{text}/{}", tree::text(parameters, "name"))
                });
                vec![
                    cells::name(class),
                    tree::text(class, "spec.controller").into(),
                    parameters.unwrap_or_else(|| "<none>".to_owned()).into(),
                    cells::age(class, now),
                ]
            },
        )
}

fn class(class: &Value) -> Vec<Error> {
    let path = Path::new("spec");
    let mut errors = Vec::new();
    let controller = tree::text(class, "spec.controller");
    if controller.len() > 250 {
        errors.push(Error::too_long(&path.child("controller"), 250));
    }
    errors.extend(references::domain_prefixed_path(controller, &path.child("controller")));
    let Some(parameters) = tree::at(class, "spec.parameters") else {
        return errors;
    };
    let path = path.child("parameters");
    errors.extend(typed_reference(parameters, &path));
    let namespace = tree::text_opt(parameters, "namespace");
    match (tree::text_opt(parameters, "scope"), namespace) {
        (None, _) => errors.push(Error::required(&path.child("scope"), "")),
        (Some("Namespace"), None) => {
            let detail = "`parameters.scope` is set to 'Namespace'";
            errors.push(Error::required(&path.child("namespace"), detail));
        }
        (Some("Namespace"), Some(namespace)) => {
            errors.extend(checks::dns_label(namespace, &path.child("namespace")));
        }
        (Some("Cluster"), Some(_)) => {
            let detail = "`parameters.scope` is set to 'Cluster'";
            errors.push(Error::forbidden(&path.child("namespace"), detail));
        }
        (Some("Cluster"), None) => {}
        (Some(scope), _) => {
            let known = &["Cluster", "Namespace"];
            errors.push(Error::not_supported(&path.child("scope"), scope, known));
        }
    }
    errors
}

/// A reference by group, kind and name.
pub(super) fn typed_reference(reference: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if let Some(group) = tree::text_opt(reference, "apiGroup") {
        errors.extend(checks::dns_subdomain(group, &path.child("apiGroup")));
    }
    for field in ["kind", "name"] {
        let (value, path) = (tree::text(reference, field), path.child(field));
        if value.is_empty() {
            errors.push(Error::required(&path, format!("{field} is required")));
        } else {
            errors.extend(checks::invalid_each(&path, value, validate::path_segment_name(value)));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn parameters_are_somewhere() {
        let fields = |object: Value| -> Vec<String> { class(&object).into_iter().map(|error| error.field).collect() };
        let good = json!({"spec": {"controller": "a.io/b", "parameters": {"kind": "K", "name": "n", "scope": "Namespace", "namespace": "x"}}});
        assert_eq!(fields(good), Vec::<String>::new());
        let bad = json!({"spec": {"controller": "a", "parameters": {"apiGroup": "", "kind": "a/b", "scope": "Cluster", "namespace": "x"}}});
        assert_eq!(
            fields(bad),
            [
                "spec.controller",
                "spec.parameters.apiGroup",
                "spec.parameters.kind",
                "spec.parameters.name",
                "spec.parameters.namespace"
            ]
        );
    }
}
