//! `prioritylevelconfigurations`.

use api::field::{Error, Path};
use api::{Value, meta};
use apiserver::Kind;
use apiserver::kind::{Column, Subresource};

use super::{GROUP, bootstrap};
use crate::{cells, tree};

const MAX_QUEUES: i64 = 10_000_000;
/// Bits of a hash that shuffle sharding may use up.
const MAX_HASH_BITS: f64 = 60.0;

pub(crate) fn kind() -> Kind {
    Kind::cluster(GROUP, "v1", "PriorityLevelConfiguration", "prioritylevelconfigurations")
        .forbid_unconditional_update()
        .with_generation()
        .default(default)
        .validate(level)
        .subresource(Subresource::status().validate(|new, _| super::conditions(new)))
        .table(
            vec![
                Column::name(),
                Column::string("Type", "Whether its requests are limited."),
                Column::string("NominalConcurrencyShares", "Its part of the server's seats."),
                Column::string("Queues", "How many queues it has."),
                Column::string("HandSize", "How many queues a flow is dealt."),
                Column::string("QueueLengthLimit", "How many requests a queue holds."),
                Column::age(),
            ],
            |level, now| {
                let cell = |path: &str| tree::at(level, path).cloned().unwrap_or_else(|| "<none>".into());
                vec![
                    cells::name(level),
                    tree::text(level, "spec.type").into(),
                    cell("spec.limited.nominalConcurrencyShares"),
                    cell("spec.limited.limitResponse.queuing.queues"),
                    cell("spec.limited.limitResponse.queuing.handSize"),
                    cell("spec.limited.limitResponse.queuing.queueLengthLimit"),
                    cells::age(level, now),
                ]
            },
        )
}

fn default(level: &mut Value) {
    let missing = |value: &mut Value, field: &str, number: i64| {
        if tree::int(value, field).is_none() {
            tree::set(value, field, number);
        }
    };
    if let Some(exempt) = tree::at_mut(level, "spec.exempt") {
        missing(exempt, "nominalConcurrencyShares", 0);
        missing(exempt, "lendablePercent", 0);
    }
    if let Some(limited) = tree::at_mut(level, "spec.limited") {
        missing(limited, "nominalConcurrencyShares", 30);
        missing(limited, "lendablePercent", 0);
    }
    if let Some(queuing) = tree::at_mut(level, "spec.limited.limitResponse.queuing") {
        tree::fill_zero(queuing, "handSize", 8);
        tree::fill_zero(queuing, "queues", 64);
        tree::fill_zero(queuing, "queueLengthLimit", 50);
    }
}

fn level(level: &Value) -> Vec<Error> {
    let (path, name) = (Path::new("spec"), meta::name(level));
    let kind = tree::text(level, "spec.type");
    let mut errors = Vec::new();
    if (name == "exempt") != (kind == "Exempt") {
        let detail = "type must be 'Exempt' if and only if name is 'exempt'";
        errors.push(Error::invalid(&path.child("type"), kind, detail));
    }
    let (limited, exempt) = (tree::at(level, "spec.limited"), tree::at(level, "spec.exempt"));
    match kind {
        "Exempt" => {
            if limited.is_some() {
                let detail = "must be nil if the type is not Limited";
                errors.push(Error::forbidden(&path.child("limited"), detail));
            }
            if let Some(exempt) = exempt {
                errors.extend(shares(exempt, &path.child("exempt")));
            }
        }
        "Limited" => {
            if exempt.is_some() {
                errors.push(Error::forbidden(
                    &path.child("exempt"),
                    "must be nil if the type is Limited",
                ));
            }
            match limited {
                None => {
                    let detail = "must not be empty when type is Limited";
                    errors.push(Error::required(&path.child("limited"), detail));
                }
                Some(limited) => errors.extend(self::limited(limited, &path.child("limited"))),
            }
        }
        other => errors.push(Error::not_supported(&path.child("type"), other, &["Exempt", "Limited"])),
    }
    errors.extend(mandatory(level, name, &path));
    errors.extend(super::conditions(level));
    errors
}

/// The mandatory levels are as they are; of the exempt one `spec.exempt` may change.
fn mandatory(level: &Value, name: &str, path: &Path) -> Option<Error> {
    let mut wanted = bootstrap::mandatory_level(name)?;
    let spec = tree::at(level, "spec").cloned().unwrap_or_default();
    let mut detail = format!("spec of '{name}' must equal the fixed value");
    if name == "exempt" {
        tree::keep(&mut wanted, &spec, "exempt");
        detail = format!("spec of '{name}' except the 'spec.exempt' field must equal the fixed value");
    }
    (!tree::same(Some(&wanted), Some(&spec))).then(|| Error::invalid(path, spec, detail))
}

fn shares(holder: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let shares = tree::count(holder, "nominalConcurrencyShares");
    if shares < 0 {
        let detail = "must be a non-negative integer";
        errors.push(Error::invalid(&path.child("nominalConcurrencyShares"), shares, detail));
    }
    errors.extend(lendable(holder, path));
    errors
}

fn lendable(holder: &Value, path: &Path) -> Option<Error> {
    let percent = tree::int(holder, "lendablePercent").filter(|percent| !(0..=100).contains(percent))?;
    let detail = "must be between 0 and 100, inclusive";
    Some(Error::invalid(&path.child("lendablePercent"), percent, detail))
}

fn limited(limited: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let shares = tree::count(limited, "nominalConcurrencyShares");
    if shares < 0 {
        let detail = "must be a non-negative integer";
        errors.push(Error::invalid(&path.child("nominalConcurrencyShares"), shares, detail));
    }
    let response = path.child("limitResponse");
    let queues = tree::at(limited, "limitResponse.queuing");
    match (tree::text(limited, "limitResponse.type"), queues) {
        ("Reject", Some(_)) => {
            let detail = "must be nil if limited.limitResponse.type is not Limited";
            errors.push(Error::forbidden(&response.child("queuing"), detail));
        }
        ("Reject", None) => {}
        ("Queue", None) => {
            let detail = "must not be empty if limited.limitResponse.type is Limited";
            errors.push(Error::required(&response.child("queuing"), detail));
        }
        ("Queue", Some(queues)) => errors.extend(queuing(queues, &response.child("queuing"))),
        (other, _) => {
            let known = &["Queue", "Reject"];
            errors.push(Error::not_supported(&response.child("type"), other, known));
        }
    }
    errors.extend(lendable(limited, path));
    if let Some(percent) = tree::int(limited, "borrowingLimitPercent")
        && percent < 0
    {
        let detail = "if specified, must be a non-negative integer";
        errors.push(Error::invalid(&path.child("borrowingLimitPercent"), percent, detail));
    }
    errors
}

fn queuing(queuing: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let (queues, hand) = (tree::count(queuing, "queues"), tree::count(queuing, "handSize"));
    let length = tree::count(queuing, "queueLengthLimit");
    if length <= 0 {
        errors.push(Error::invalid(
            &path.child("queueLengthLimit"),
            length,
            "must be positive",
        ));
    }
    let queues_path = path.child("queues");
    if queues <= 0 {
        errors.push(Error::invalid(&queues_path, queues, "must be positive"));
    } else if queues > MAX_QUEUES {
        let detail = format!("must not be greater than {MAX_QUEUES}");
        errors.push(Error::invalid(&queues_path, queues, detail));
    }
    let path = path.child("handSize");
    let entropy = || (queues as f64).log2() * hand as f64;
    if hand <= 0 {
        errors.push(Error::invalid(&path, hand, "must be positive"));
    } else if hand > queues {
        let detail = format!("should not be greater than queues ({queues})");
        errors.push(Error::invalid(&path, hand, detail));
    } else if entropy().ceil() > MAX_HASH_BITS {
        let detail = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {MAX_HASH_BITS}"
        );
        errors.push(Error::invalid(&path, hand, detail));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(errors: Vec<Error>) -> Vec<String> {
        errors.into_iter().map(|error| error.field).collect()
    }

    #[test]
    fn bootstrap_levels_are_valid_and_mandatory() {
        for object in bootstrap::priority_levels() {
            assert_eq!(level(&object), [], "{}", meta::name(&object));
        }
        let mut exempt = bootstrap::priority_levels().pop().unwrap();
        exempt["spec"]["exempt"]["nominalConcurrencyShares"] = 5.into();
        assert_eq!(level(&exempt), []);
        let mut rest = bootstrap::priority_levels().remove(0);
        rest["spec"]["limited"]["lendablePercent"] = 5.into();
        assert_eq!(fields(level(&rest)), ["spec"]);
    }

    #[test]
    fn hands_are_dealt_from_queues() {
        let mut object = json!({"metadata": {"name": "x"}, "spec": {"type": "Limited",
            "limited": {"limitResponse": {"type": "Queue", "queuing": {}}}}});
        default(&mut object);
        assert_eq!(object["spec"]["limited"]["limitResponse"]["queuing"]["queues"], 64);
        assert_eq!(level(&object), []);
        object["spec"]["limited"]["limitResponse"]["queuing"] =
            json!({"queues": 1_000_000, "handSize": 8, "queueLengthLimit": -1});
        assert_eq!(
            fields(level(&object)),
            [
                "spec.limited.limitResponse.queuing.queueLengthLimit",
                "spec.limited.limitResponse.queuing.handSize"
            ]
        );
    }
}
