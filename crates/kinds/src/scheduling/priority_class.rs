//! `priorityclasses`.

use api::field::{Error, Path};
use api::{Value, meta};
use apiserver::Kind;
use apiserver::kind::Column;

use crate::{cells, checks, tree};

/// The highest value that users may give.
const MAX_USER_VALUE: i64 = 1_000_000_000;
/// Prefix of names that are the system's.
const SYSTEM_PREFIX: &str = "system-";
/// The system's classes: name, value, description.
pub const SYSTEM_CLASSES: &[(&str, i64, &str)] = &[
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
];

pub(crate) fn kind() -> Kind {
    Kind::cluster("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses")
        .short_names(&["pc"])
        .with_generation()
        .default(|class| tree::fill_absent(class, "preemptionPolicy", "PreemptLowerPriority"))
        .validate(class)
        .validate_update(|new, old| {
            let mut errors = Vec::new();
            for (field, detail) in [
                ("value", "may not be changed in an update."),
                ("preemptionPolicy", "field is immutable"),
            ] {
                if !tree::same(new.get(field), old.get(field)) {
                    errors.push(match field {
                        "value" => Error::forbidden(&Path::new("value"), detail),
                        _ => Error::invalid(&Path::new(field), new[field].clone(), detail),
                    });
                }
            }
            errors
        })
        .table(
            vec![
                Column::name(),
                Column::integer("Value", "Higher goes first."),
                Column {
                    r#type: "boolean",
                    ..Column::string("Global-Default", "Whether pods without a class get it.")
                },
                Column::age(),
                Column::string("PreemptionPolicy", "Whether its pods make room for themselves."),
            ],
            |class, now| {
                vec![
                    cells::name(class),
                    tree::count(class, "value").into(),
                    tree::flag(class, "globalDefault").into(),
                    cells::age(class, now),
                    tree::text(class, "preemptionPolicy").into(),
                ]
            },
        )
}

fn class(class: &Value) -> Vec<Error> {
    let (name, value) = (meta::name(class), tree::count(class, "value"));
    let mut errors = Vec::new();
    if name.starts_with(SYSTEM_PREFIX) {
        let known = SYSTEM_CLASSES
            .iter()
            .any(|(known, wanted, _)| *known == name && *wanted == value && !tree::flag(class, "globalDefault"));
        if !known {
            let path = Path::new("metadata").child("name");
            let detail = "priority class names with 'system-' prefix are reserved for system use only. error: ";
            let why = format!("{detail}{name} is not a known system priority class");
            errors.push(Error::forbidden(&path, why));
        }
    } else if value > MAX_USER_VALUE {
        let detail = format!("maximum allowed value of a user defined priority is {MAX_USER_VALUE}");
        errors.push(Error::forbidden(&Path::new("value"), detail));
    }
    let policy = tree::text_opt(class, "preemptionPolicy");
    let known = &["PreemptLowerPriority", "Never"];
    let path = Path::new("preemptionPolicy");
    errors.extend(
        policy
            .into_iter()
            .flat_map(|policy| checks::one_of(policy, known, &path)),
    );
    errors
}
