//! `poddisruptionbudgets`.

use api::field::{Error, Path};
use api::{IntOrString, Value, validate};
use apiserver::Kind;
use apiserver::kind::{Column, NameRule, Subresource};

use crate::{cells, checks, tree};

pub(crate) fn kind() -> Kind {
    Kind::namespaced("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets")
        .short_names(&["pdb"])
        .name_rule(NameRule::PathSegment)
        .with_generation()
        .forbid_unconditional_update()
        .validate(budget)
        .subresource(Subresource::status().validate(|new, _| status(new)))
        .table(
            vec![
                Column::name(),
                Column::string("Min Available", "Pods that must stay."),
                Column::string("Max Unavailable", "Pods that may be missing."),
                Column::integer("Allowed Disruptions", "Pods that may go now."),
                Column::age(),
            ],
            |budget, now| {
                let bound = |field: &str| {
                    let value = tree::at(budget, &format!("spec.{field}")).and_then(IntOrString::from_json);
                    Value::from(value.map_or("N/A".to_owned(), |value| value.to_string()))
                };
                vec![
                    cells::name(budget),
                    bound("minAvailable"),
                    bound("maxUnavailable"),
                    tree::count(budget, "status.disruptionsAllowed").into(),
                    cells::age(budget, now),
                ]
            },
        )
}

fn status(budget: &Value) -> Vec<Error> {
    let path = Path::new("status");
    let conditions = tree::list(budget, "status.conditions");
    let mut errors = checks::conditions(conditions, &path.child("conditions"));
    for field in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
        let value = tree::count(budget, &format!("status.{field}"));
        errors.extend(validate::nonnegative(value, &path.child(field)));
    }
    errors
}

fn budget(budget: &Value) -> Vec<Error> {
    let path = Path::new("spec");
    let mut errors = Vec::new();
    let (least, most) = (
        tree::at(budget, "spec.minAvailable"),
        tree::at(budget, "spec.maxUnavailable"),
    );
    if least.is_some() && most.is_some() {
        let value = tree::at(budget, "spec").cloned().unwrap_or_default();
        errors.push(Error::invalid(
            &path,
            value,
            "minAvailable and maxUnavailable cannot be both set",
        ));
    }
    for (field, value) in [("minAvailable", least), ("maxUnavailable", most)] {
        errors.extend(checks::int_or_percent(value, &path.child(field)));
        errors.extend(checks::at_most_100_percent(value, &path.child(field)));
    }
    if let Some(selector) = tree::at(budget, "spec.selector") {
        errors.extend(validate::label_selector(selector, &path.child("selector")));
    }
    let policy = tree::text_opt(budget, "spec.unhealthyPodEvictionPolicy");
    let known = &["AlwaysAllow", "IfHealthyBudget"];
    errors.extend(checks::optional_one_of(
        policy,
        known,
        &path.child("unhealthyPodEvictionPolicy"),
    ));
    errors
}
