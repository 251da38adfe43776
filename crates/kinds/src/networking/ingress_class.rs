//! `ingressclasses`.

use api::Value;
use api::field::{Error, Path};
use apiserver::Kind;
use apiserver::kind::Column;

use crate::{cells, checks, tree};

pub(crate) fn kind() -> Kind {
    Kind::cluster("networking.k8s.io", "v1", "IngressClass", "ingressclasses")
        .with_generation()
        .default(|class| {
            if let Some(parameters) = tree::at_mut(class, "spec.parameters") {
                tree::fill(parameters, "scope", "Cluster");
            }
        })
        .validate(class)
        .validate_update(|new, old| {
            let mut errors = class(new);
            let path = Path::new("spec").child("controller");
            errors.extend(checks::immutable(new, old, "spec.controller", &path));
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
    match controller.split_once('/') {
        _ if controller.is_empty() => errors.push(Error::required(&path.child("controller"), "")),
        Some((host, rest)) if !host.is_empty() && !rest.is_empty() => {
            errors.extend(checks::dns_subdomain(host, &path.child("controller")));
        }
        _ => {
            let detail = "must be a domain-prefixed path (such as \"acme.io/foo\")";
            errors.push(Error::invalid(&path.child("controller"), controller, detail));
        }
    }
    let Some(parameters) = tree::at(class, "spec.parameters") else {
        return errors;
    };
    let path = path.child("parameters");
    for field in ["kind", "name"] {
        if tree::text(parameters, field).is_empty() {
            errors.push(Error::required(&path.child(field), ""));
        }
    }
    let namespace = tree::text(parameters, "namespace");
    match tree::text(parameters, "scope") {
        "Namespace" if namespace.is_empty() => {
            errors.push(Error::required(
                &path.child("namespace"),
                "`parameters.scope` is set to 'Namespace'",
            ));
        }
        "Namespace" => errors.extend(checks::dns_label(namespace, &path.child("namespace"))),
        "Cluster" if !namespace.is_empty() => {
            errors.push(Error::forbidden(
                &path.child("namespace"),
                "`parameters.scope` is set to 'Cluster'",
            ));
        }
        "Cluster" => {}
        scope => errors.extend(checks::one_of(scope, &["Cluster", "Namespace"], &path.child("scope"))),
    }
    errors
}
