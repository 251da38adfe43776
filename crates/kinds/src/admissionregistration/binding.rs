//! `validatingadmissionpolicybindings` and `mutatingadmissionpolicybindings`.

use api::field::{Error, Path};
use api::{Value, labels, validate};
use apiserver::Kind;
use apiserver::kind::Column;

use super::{GROUP, rules};
use crate::{cells, checks, tree};

const ACTIONS: &[&str] = &["Audit", "Deny", "Warn"];

pub(crate) fn validating() -> Kind {
    let kind = Kind::cluster(
        GROUP,
        "v1",
        "ValidatingAdmissionPolicyBinding",
        "validatingadmissionpolicybindings",
    );
    binding(kind).validate(|binding| {
        let mut errors = common(binding);
        errors.extend(actions(binding, &Path::new("spec").child("validationActions")));
        errors
    })
}

pub(crate) fn mutating() -> Kind {
    let kind = Kind::cluster(
        GROUP,
        "v1",
        "MutatingAdmissionPolicyBinding",
        "mutatingadmissionpolicybindings",
    );
    binding(kind).validate(common)
}

fn binding(kind: Kind) -> Kind {
    kind.categories(&["api-extensions"])
        .forbid_unconditional_update()
        .with_generation()
        .default(|binding| {
            if tree::at(binding, "spec").is_some() {
                rules::default_match_resources(tree::child(binding, "spec"), "matchResources");
            }
        })
        .table(
            vec![
                Column::name(),
                Column::string(
                    "PolicyName",
                    "PolicyName indicates the policy definition which the policy binding binded to",
                ),
                Column::string(
                    "ParamRef",
                    "ParamRef indicates the param resource which sets the configration param",
                ),
                Column::age(),
            ],
            |binding, now| {
                vec![
                    cells::name(binding),
                    tree::text(binding, "spec.policyName").into(),
                    param(binding).into(),
                    cells::age(binding, now),
                ]
            },
        )
}

/// The parameter by name, or by selector.
fn param(binding: &Value) -> String {
    let Some(reference) = tree::at(binding, "spec.paramRef") else {
        return "<unset>".to_owned();
    };
    let (namespace, name) = (tree::text(reference, "namespace"), tree::text(reference, "name"));
    match (namespace, name) {
        (_, "") => match tree::at(reference, "selector") {
            Some(selector) => labels::format_label_selector(Some(selector)),
            None => "<unset>".to_owned(),
        },
        ("", name) => format!("*/{name}"),
        (namespace, name) => format!("{namespace}/{name}"),
    }
}

fn common(binding: &Value) -> Vec<Error> {
    let path = Path::new("spec");
    let name = tree::text(binding, "spec.policyName");
    let mut errors = if name.is_empty() {
        vec![Error::required(&path.child("policyName"), "")]
    } else {
        checks::dns_subdomain(name, &path.child("policyName"))
    };
    if let Some(reference) = tree::at(binding, "spec.paramRef") {
        errors.extend(param_ref(reference, &path.child("paramRef")));
    }
    if let Some(resources) = tree::at(binding, "spec.matchResources") {
        // Upstream's path lacks a letter.
        errors.extend(rules::match_resources(resources, &path.child("matchResouces")));
    }
    errors
}

fn param_ref(reference: &Value, path: &Path) -> Vec<Error> {
    const EITHER: &str = "name and selector are mutually exclusive";
    let (name, selector) = (tree::text(reference, "name"), tree::at(reference, "selector"));
    let mut errors = Vec::new();
    if !name.is_empty() {
        errors.extend(checks::invalid_each(
            &path.child("name"),
            name,
            validate::path_segment_name(name),
        ));
        if selector.is_some() {
            errors.push(Error::forbidden(&path.child("name"), EITHER));
        }
    }
    if let Some(selector) = selector {
        errors.extend(validate::label_selector(selector, &path.child("selector")));
        if !name.is_empty() {
            errors.push(Error::forbidden(&path.child("selector"), EITHER));
        }
    }
    if name.is_empty() && selector.is_none() {
        errors.push(Error::required(path, "one of name or selector must be specified"));
    }
    errors.extend(checks::one_of(
        tree::text(reference, "parameterNotFoundAction"),
        &["Deny", "Allow"],
        &path.child("parameterNotFoundAction"),
    ));
    errors
}

fn actions(binding: &Value, path: &Path) -> Vec<Error> {
    let list = tree::strings(binding, "spec.validationActions");
    let mut errors = Vec::new();
    for (index, action) in list.iter().enumerate() {
        if !ACTIONS.contains(action) {
            errors.push(Error::not_supported(&path.index(index), *action, ACTIONS));
        }
        if list[..index].contains(action) {
            errors.push(Error::duplicate(&path.index(index), *action));
        }
    }
    if list.contains(&"Deny") && list.contains(&"Warn") {
        let detail = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
        errors.push(Error::invalid(path, list.clone(), detail));
    }
    if list.is_empty() {
        errors.push(Error::required(path, "at least one validation action is required"));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn bindings_name_policy_and_parameter() {
        let kind = validating();
        let check = kind.strategy.validate.unwrap();
        let good = json!({"spec": {"policyName": "p", "validationActions": ["Deny", "Audit"],
            "paramRef": {"name": "x", "namespace": "n", "parameterNotFoundAction": "Deny"}}});
        assert_eq!(check(&good), []);
        assert_eq!(param(&good), "n/x");
        let bad = json!({"spec": {"validationActions": ["Deny", "Warn", "Warn", "Odd"],
            "paramRef": {"name": "x", "selector": {}}}});
        let fields: Vec<String> = check(&bad).into_iter().map(|error| error.field).collect();
        assert_eq!(
            fields,
            [
                "spec.policyName",
                "spec.paramRef.name",
                "spec.paramRef.selector",
                "spec.paramRef.parameterNotFoundAction",
                "spec.validationActions[2]",
                "spec.validationActions[3]",
                "spec.validationActions",
            ]
        );
    }
}
