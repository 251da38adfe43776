//! `mutatingwebhookconfigurations` and `validatingwebhookconfigurations`.

use api::field::{Error, Path};
use api::{Value, validate};
use apiserver::Kind;
use apiserver::kind::Column;
use serde_json::json;

use super::{GROUP, rules};
use crate::{cells, checks, references, tree};

const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];
const NO_SIDE_EFFECTS: &[&str] = &["None", "NoneOnDryRun"];
const SIDE_EFFECTS: &[&str] = &["None", "NoneOnDryRun", "Some", "Unknown"];

/// Whether the webhooks change objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Mutating,
    Validating,
}

/// What an update tolerates because the stored object has it already.
#[derive(Clone, Copy, Debug, Default)]
struct Tolerated {
    side_effects: bool,
    unknown_review_versions: bool,
    repeated_names: bool,
}

pub(crate) fn mutating() -> Kind {
    configuration(
        Kind::cluster(
            GROUP,
            "v1",
            "MutatingWebhookConfiguration",
            "mutatingwebhookconfigurations",
        ),
        Role::Mutating,
    )
}

pub(crate) fn validating() -> Kind {
    configuration(
        Kind::cluster(
            GROUP,
            "v1",
            "ValidatingWebhookConfiguration",
            "validatingwebhookconfigurations",
        ),
        Role::Validating,
    )
}

fn configuration(kind: Kind, role: Role) -> Kind {
    kind.categories(&["api-extensions"])
        .forbid_unconditional_update()
        .generation_when(|new, old| !tree::same(new.get("webhooks"), old.get("webhooks")))
        .default(move |configuration| {
            for webhook in tree::items_mut(configuration, "webhooks") {
                default(webhook, role);
            }
        })
        .validate(move |new| {
            let mut errors = webhooks(new, Tolerated::default(), role);
            errors.extend(apiserver::expression_errors(new));
            errors
        })
        .validate_update(move |new, old| {
            let mut errors = webhooks(new, tolerated(old), role);
            let before = apiserver::expression_errors(old);
            errors.extend(
                apiserver::expression_errors(new)
                    .into_iter()
                    .filter(|error| !before.contains(error)),
            );
            errors
        })
        .table(
            vec![
                Column::name(),
                Column::integer(
                    "Webhooks",
                    "Webhooks indicates the number of webhooks registered in this configuration",
                ),
                Column::age(),
            ],
            |configuration, now| {
                vec![
                    cells::name(configuration),
                    tree::list(configuration, "webhooks").len().into(),
                    cells::age(configuration, now),
                ]
            },
        )
}

fn default(webhook: &mut Value, role: Role) {
    tree::fill_absent(webhook, "failurePolicy", "Fail");
    tree::fill_absent(webhook, "matchPolicy", "Equivalent");
    for selector in ["namespaceSelector", "objectSelector"] {
        tree::fill(webhook, selector, json!({}));
    }
    if tree::int(webhook, "timeoutSeconds").is_none() {
        tree::set(webhook, "timeoutSeconds", 10);
    }
    if role == Role::Mutating {
        tree::fill_absent(webhook, "reinvocationPolicy", "Never");
    }
    if let Some(service) = tree::at_mut(webhook, "clientConfig.service")
        && tree::int(service, "port").is_none()
    {
        tree::set(service, "port", 443);
    }
    rules::default_rules(webhook, "rules");
}

fn tolerated(old: &Value) -> Tolerated {
    let list = tree::list(old, "webhooks");
    let names: Vec<&str> = list.iter().map(|webhook| tree::text(webhook, "name")).collect();
    Tolerated {
        side_effects: list
            .iter()
            .any(|webhook| !NO_SIDE_EFFECTS.contains(&tree::text(webhook, "sideEffects"))),
        unknown_review_versions: list.iter().any(|webhook| {
            let versions = tree::strings(webhook, "admissionReviewVersions");
            !versions.is_empty() && !versions.iter().any(|version| REVIEW_VERSIONS.contains(version))
        }),
        repeated_names: names
            .iter()
            .enumerate()
            .any(|(index, name)| names[..index].contains(name)),
    }
}

fn webhooks(configuration: &Value, tolerated: Tolerated, role: Role) -> Vec<Error> {
    let list = tree::list(configuration, "webhooks");
    let mut errors = Vec::new();
    for (index, item) in list.iter().enumerate() {
        let (path, name) = (Path::new("webhooks").index(index), tree::text(item, "name"));
        errors.extend(webhook(item, tolerated, role, &path));
        errors.extend(review_versions(item, tolerated, &path.child("admissionReviewVersions")));
        let repeated = list[..index].iter().any(|other| tree::text(other, "name") == name);
        if !tolerated.repeated_names && !name.is_empty() && repeated {
            errors.push(Error::duplicate(&path.child("name"), name));
        }
    }
    errors
}

fn webhook(webhook: &Value, tolerated: Tolerated, role: Role, path: &Path) -> Vec<Error> {
    let mut errors = references::fully_qualified_name(tree::text(webhook, "name"), &path.child("name"));
    for (index, rule) in tree::list(webhook, "rules").iter().enumerate() {
        errors.extend(rules::rule(rule, &path.child("rules").index(index)));
    }
    for (field, known) in [
        ("failurePolicy", rules::FAILURE_POLICIES),
        ("matchPolicy", rules::MATCH_POLICIES),
    ] {
        let value = tree::text_opt(webhook, field);
        errors.extend(checks::optional_one_of(value, known, &path.child(field)));
    }
    let allowed = if tolerated.side_effects {
        SIDE_EFFECTS
    } else {
        NO_SIDE_EFFECTS
    };
    let side_effects = path.child("sideEffects");
    match tree::text_opt(webhook, "sideEffects") {
        None => {
            let detail = format!("must specify one of {}", allowed.join(", "));
            errors.push(Error::required(&side_effects, detail));
        }
        value => errors.extend(checks::optional_one_of(value, allowed, &side_effects)),
    }
    if let Some(seconds) = tree::int(webhook, "timeoutSeconds")
        && !(1..=30).contains(&seconds)
    {
        let detail = "the timeout value must be between 1 and 30 seconds";
        errors.push(Error::invalid(&path.child("timeoutSeconds"), seconds, detail));
    }
    for field in ["namespaceSelector", "objectSelector"] {
        if let Some(selector) = tree::at(webhook, field) {
            errors.extend(validate::label_selector(selector, &path.child(field)));
        }
    }
    if role == Role::Mutating {
        let policy = tree::text_opt(webhook, "reinvocationPolicy");
        let known = &["IfNeeded", "Never"];
        errors.extend(checks::optional_one_of(
            policy,
            known,
            &path.child("reinvocationPolicy"),
        ));
    }
    let config = tree::at(webhook, "clientConfig").unwrap_or(&Value::Null);
    errors.extend(references::webhook_client_config(config, &path.child("clientConfig")));
    let conditions = tree::list(webhook, "matchConditions");
    errors.extend(rules::match_conditions(conditions, &path.child("matchConditions")));
    errors
}

fn review_versions(webhook: &Value, tolerated: Tolerated, path: &Path) -> Vec<Error> {
    let versions = tree::strings(webhook, "admissionReviewVersions");
    let known = REVIEW_VERSIONS.join(", ");
    if versions.is_empty() {
        return vec![Error::required(path, format!("must specify one of {known}"))];
    }
    let mut errors = Vec::new();
    for (index, version) in versions.iter().enumerate() {
        let path = path.index(index);
        if versions[..index].contains(version) {
            errors.push(Error::invalid(&path, *version, "duplicate version"));
            continue;
        }
        errors.extend(checks::invalid_each(&path, version, validate::dns1035_label(version)));
    }
    if !tolerated.unknown_review_versions && !versions.iter().any(|version| REVIEW_VERSIONS.contains(version)) {
        let detail = format!("must include at least one of {known}");
        errors.push(Error::invalid(path, versions, detail));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(errors: Vec<Error>) -> Vec<String> {
        errors.into_iter().map(|error| error.field).collect()
    }

    #[test]
    fn a_whole_configuration_is_accepted() {
        let mut good = json!({"webhooks": [{
            "name": "a.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"service": {"name": "s", "namespace": "n"}},
            "rules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]}],
        }]});
        for webhook in tree::items_mut(&mut good, "webhooks") {
            default(webhook, Role::Mutating);
        }
        assert_eq!(good["webhooks"][0]["clientConfig"]["service"]["port"], 443);
        assert_eq!(good["webhooks"][0]["rules"][0]["scope"], "*");
        assert_eq!(good["webhooks"][0]["reinvocationPolicy"], "Never");
        assert_eq!(webhooks(&good, Tolerated::default(), Role::Mutating), []);
    }

    #[test]
    fn faults_are_found_but_old_ones_tolerated() {
        let bad = json!({"webhooks": [
            {"name": "a", "timeoutSeconds": 31, "sideEffects": "Some", "admissionReviewVersions": ["v9"]},
            {"name": "a.b.c", "admissionReviewVersions": []},
            {"name": "a.b.c", "sideEffects": "None", "admissionReviewVersions": ["v1", "v1"], "clientConfig": {"url": "https://h"}},
        ]});
        assert_eq!(
            fields(webhooks(&bad, Tolerated::default(), Role::Validating)),
            [
                "webhooks[0].name",
                "webhooks[0].sideEffects",
                "webhooks[0].timeoutSeconds",
                "webhooks[0].clientConfig",
                "webhooks[0].admissionReviewVersions",
                "webhooks[1].sideEffects",
                "webhooks[1].clientConfig",
                "webhooks[1].admissionReviewVersions",
                "webhooks[2].admissionReviewVersions[1]",
                "webhooks[2].name",
            ]
        );
        let tolerated = fields(webhooks(&bad, tolerated(&bad), Role::Validating));
        assert!(!tolerated.contains(&"webhooks[0].sideEffects".to_owned()));
        assert!(!tolerated.contains(&"webhooks[2].name".to_owned()));
    }
}
