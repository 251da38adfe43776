//! `resourcequotas`.

use api::field::{Error, Path};
use api::{Value, meta};
use apiserver::Kind;
use apiserver::kind::{Column, Subresource};

use crate::pod_spec::{defaults, resources};
use crate::{cells, checks, tree};

const SCOPES: &[&str] = &[
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];

pub(crate) fn kind() -> Kind {
    Kind::namespaced("", "v1", "ResourceQuota", "resourcequotas")
        .short_names(&["quota"])
        .returns_deleted_object()
        .default(|quota| {
            if let Some(spec) = tree::at_mut(quota, "spec") {
                defaults::round_up(spec, "hard");
            }
        })
        .validate(quota)
        .validate_update(|new, old| {
            let mut errors = quota(new);
            let scopes = |quota: &Value| {
                let mut scopes: Vec<String> = tree::strings(quota, "spec.scopes")
                    .into_iter()
                    .map(str::to_owned)
                    .collect();
                scopes.sort();
                scopes
            };
            if scopes(new) != scopes(old) {
                let detail = "field is immutable";
                errors.push(Error::invalid(&Path::new("spec").child("scopes"), scopes(new), detail));
            }
            errors
        })
        .subresource(Subresource::status().validate(|new, _| {
            let mut errors = amounts(new, "status.hard");
            errors.extend(amounts(new, "status.used"));
            errors
        }))
        .table(
            vec![
                Column::name(),
                Column::age(),
                Column::string("Request", "Used and allowed requests."),
                Column::string("Limit", "Used and allowed limits."),
            ],
            |quota, now| {
                let list = |limits: bool| {
                    let used = tree::map(quota, "status.used");
                    let entries =
                        tree::entries(quota, "status.hard").filter(|(name, _)| name.starts_with("limits.") == limits);
                    let shown = entries.map(|(name, hard)| {
                        let used = used
                            .and_then(|used| used.get(name))
                            .and_then(Value::as_str)
                            .unwrap_or("0");
                        format!("{name}: {used}/{}", hard.as_str().unwrap_or("0"))
                    });
                    Value::from(shown.collect::<Vec<_>>().join(", "))
                };
                vec![
                    meta::name(quota).into(),
                    cells::age(quota, now),
                    list(false),
                    list(true),
                ]
            },
        )
}

fn amounts(quota: &Value, at: &str) -> Vec<Error> {
    let mut errors = Vec::new();
    for (name, value) in tree::entries(quota, at) {
        let path = Path::new(at).key(name);
        errors.extend(quota_name(name, &path));
        errors.extend(resources::quantity_value(name, value, &path));
    }
    errors
}

fn quota_name(name: &str, path: &Path) -> Vec<Error> {
    let mut errors = resources::resource_name(name, path);
    if !name.contains('/') && name == "hugepages" {
        errors.push(Error::invalid(path, name, "must be a standard resource for quota"));
    }
    errors
}

fn quota(quota: &Value) -> Vec<Error> {
    let path = Path::new("spec");
    let mut errors = amounts(quota, "spec.hard");
    let scopes = tree::strings(quota, "spec.scopes");
    let scopes_path = path.child("scopes");
    for scope in &scopes {
        if !SCOPES.contains(scope) {
            errors.push(Error::invalid(&scopes_path, scopes.clone(), "unsupported scope"));
        }
    }
    for (a, b) in [("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")] {
        if scopes.contains(&a) && scopes.contains(&b) {
            errors.push(Error::invalid(&scopes_path, scopes.clone(), "conflicting scopes"));
        }
    }
    let path = path.child("scopeSelector").child("matchExpressions");
    for (index, expression) in tree::list(quota, "spec.scopeSelector.matchExpressions")
        .iter()
        .enumerate()
    {
        let path = path.index(index);
        let name = tree::text(expression, "scopeName");
        if !SCOPES.contains(&name) {
            errors.push(Error::invalid(&path.child("scopeName"), name, "unsupported scope"));
        }
        let operator = tree::text(expression, "operator");
        let values = tree::list(expression, "values");
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                let detail = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                errors.push(Error::required(&path.child("values"), detail));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                errors.push(Error::invalid(&path.child("values"), values.to_vec(), detail));
            }
            _ => {}
        }
        let known = &["In", "NotIn", "Exists", "DoesNotExist"];
        errors.extend(checks::one_of(operator, known, &path.child("operator")));
    }
    errors
}
