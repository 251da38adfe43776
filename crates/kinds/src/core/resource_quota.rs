//! `resourcequotas`.

use api::field::{Error, Path};
use api::{Value, meta};
use apiserver::Kind;
use apiserver::kind::{Column, Subresource};

use crate::pod_spec::{defaults, resources};
use crate::{cells, tree};

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
                scopes.dedup();
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

/// A resource that quota counts (`ValidateResourceQuotaResourceName`).
fn quota_name(name: &str, path: &Path) -> Vec<Error> {
    let mut errors = resources::resource_name(name, path);
    if !name.contains('/') && !is_standard(name) {
        errors.push(Error::invalid(path, name, "must be a standard resource for quota"));
    }
    errors
}

fn is_standard(name: &str) -> bool {
    const COMPUTE: &[&str] = &["cpu", "memory", "ephemeral-storage", "storage"];
    let of = |prefix| name.strip_prefix(prefix).is_some_and(|rest| COMPUTE.contains(&rest));
    let pages = name.starts_with("hugepages-") || name.starts_with("requests.hugepages-");
    pages
        || of("requests.")
        || (of("limits.") && name != "limits.storage")
        || matches!(
            name,
            "cpu"
                | "memory"
                | "ephemeral-storage"
                | "pods"
                | "resourcequotas"
                | "services"
                | "replicationcontrollers"
                | "secrets"
                | "persistentvolumeclaims"
                | "configmaps"
                | "services.nodeports"
                | "services.loadbalancers"
        )
}

/// Whether a scope says anything about a resource (`IsResourceQuotaScopeValidForResource`).
fn scope_fits(scope: &str, name: &str) -> bool {
    let compute = matches!(
        name,
        "cpu" | "memory" | "limits.cpu" | "limits.memory" | "requests.cpu" | "requests.memory"
    );
    match scope {
        "Terminating" | "NotTerminating" | "NotBestEffort" | "PriorityClass" | "CrossNamespacePodAffinity" => {
            name == "pods" || compute
        }
        "BestEffort" => name == "pods",
        "VolumeAttributesClass" => matches!(name, "persistentvolumeclaims" | "requests.storage"),
        _ => true,
    }
}

fn quota(quota: &Value) -> Vec<Error> {
    let path = Path::new("spec");
    let mut errors = amounts(quota, "spec.hard");
    errors.extend(scopes(quota, &path.child("scopes")));
    if tree::at(quota, "spec.scopeSelector").is_some() {
        let path = path.child("scopeSelector").child("matchExpressions");
        errors.extend(scope_selector(quota, &path));
    }
    errors
}

/// Each resource that a scope says nothing about, as far as quota knows it.
fn misfits<'v>(quota: &'v Value, scope: &'v str) -> impl Iterator<Item = &'v str> {
    let names = tree::entries(quota, "spec.hard").map(|(name, _)| name);
    names.filter(move |name| is_standard(name) && !scope_fits(scope, name))
}

fn conflicts(names: &[&str]) -> usize {
    let pairs = [("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")];
    let both = |(a, b): &&(&str, &str)| names.contains(a) && names.contains(b);
    pairs.iter().filter(both).count()
}

fn scopes(quota: &Value, path: &Path) -> Vec<Error> {
    let scopes = tree::strings(quota, "spec.scopes");
    let refuse = |detail: &str| Error::invalid(path, scopes.clone(), detail);
    let mut errors = Vec::new();
    for scope in &scopes {
        if !SCOPES.contains(scope) {
            errors.push(refuse("unsupported scope"));
        }
        errors.extend(misfits(quota, scope).map(|_| refuse("unsupported scope applied to resource")));
    }
    errors.extend((0..conflicts(&scopes)).map(|_| refuse("conflicting scopes")));
    errors
}

/// Upstream reports every expression at the list.
fn scope_selector(quota: &Value, path: &Path) -> Vec<Error> {
    const EXISTS: &str = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
    let mut errors = Vec::new();
    let expressions = tree::list(quota, "spec.scopeSelector.matchExpressions");
    let mut names = Vec::new();
    for expression in expressions {
        let name = tree::text(expression, "scopeName");
        if !SCOPES.contains(&name) {
            errors.push(Error::invalid(&path.child("scopeName"), name, "unsupported scope"));
        }
        let selector = tree::at(quota, "spec.scopeSelector").cloned().unwrap_or_default();
        let misfit = |_| {
            let detail = "unsupported scope applied to resource";
            Error::invalid(path, selector.clone(), detail)
        };
        errors.extend(misfits(quota, name).map(misfit));
        let operator = tree::text(expression, "operator");
        let operator_path = path.child("operator");
        let only_exists = ["PriorityClass", "VolumeAttributesClass"];
        if SCOPES.contains(&name) && !only_exists.contains(&name) && operator != "Exists" {
            errors.push(Error::invalid(&operator_path, operator, EXISTS));
        }
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
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.push(Error::invalid(&operator_path, other, "not a valid selector operator")),
        }
        names.push(name);
    }
    let scopes = Value::from(tree::list(quota, "spec.scopes").to_vec());
    let conflict = |_| Error::invalid(path, scopes.clone(), "conflicting scopes");
    errors.extend((0..conflicts(&names)).map(conflict));
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn faults_of_quotas() {
        let check = |spec: Value, want: &[&str]| {
            let errors = quota(&json!({"spec": spec}));
            let got: Vec<String> = errors.iter().map(ToString::to_string).collect();
            assert_eq!(got, want);
        };
        check(
            json!({"hard": {"cpu": "1", "requests.nvidia.com/gpu": "1", "count/deployments.apps": "2", "requests.hugepages-2Mi": "2Mi"}}),
            &[],
        );
        check(
            json!({"hard": {"storage": "1", "pods": "1.5"}}),
            &[
                "spec.hard[pods]: Invalid value: \"1500m\": must be an integer",
                "spec.hard[storage]: Invalid value: \"storage\": must be a standard resource for quota",
            ],
        );
        check(
            json!({"hard": {"secrets": "1"}, "scopes": ["Terminating", "NotTerminating", "Odd"]}),
            &[
                r#"spec.scopes: Invalid value: ["Terminating","NotTerminating","Odd"]: unsupported scope applied to resource"#,
                r#"spec.scopes: Invalid value: ["Terminating","NotTerminating","Odd"]: unsupported scope applied to resource"#,
                r#"spec.scopes: Invalid value: ["Terminating","NotTerminating","Odd"]: unsupported scope"#,
                r#"spec.scopes: Invalid value: ["Terminating","NotTerminating","Odd"]: conflicting scopes"#,
            ],
        );
        check(
            json!({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In"}, {"scopeName": "PriorityClass", "operator": "X"}]}}),
            &[
                "spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
                "spec.scopeSelector.matchExpressions.operator: Invalid value: \"X\": not a valid selector operator",
            ],
        );
    }
}
