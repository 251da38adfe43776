//! `leases`.

use api::Value;
use api::field::{Error, Path};
use apiserver::Kind;
use apiserver::kind::Column;

use crate::{cells, checks, tree};

pub(crate) fn kind() -> Kind {
    Kind::namespaced("coordination.k8s.io", "v1", "Lease", "leases")
        .allow_create_on_update()
        .forbid_unconditional_update()
        .validate(lease)
        .table(
            vec![
                Column::name(),
                Column::string("Holder", "Who holds the lease."),
                Column::age(),
            ],
            |lease, now| {
                vec![
                    cells::name(lease),
                    tree::text(lease, "spec.holderIdentity").into(),
                    cells::age(lease, now),
                ]
            },
        )
}

fn lease(lease: &Value) -> Vec<Error> {
    let path = Path::new("spec");
    let mut errors = Vec::new();
    if let Some(seconds) = tree::int(lease, "spec.leaseDurationSeconds")
        && seconds <= 0
    {
        errors.push(Error::invalid(
            &path.child("leaseDurationSeconds"),
            seconds,
            "must be greater than 0",
        ));
    }
    let transitions = tree::count(lease, "spec.leaseTransitions");
    if transitions < 0 {
        let detail = "must be greater than or equal to 0";
        errors.push(Error::invalid(&path.child("leaseTransitions"), transitions, detail));
    }
    let strategy = tree::text_opt(lease, "spec.strategy");
    if let Some(strategy) = strategy {
        errors.extend(checks::qualified_name(strategy, &path.child("strategy")));
    }
    let preferred = tree::text(lease, "spec.preferredHolder");
    if !preferred.is_empty() && strategy.unwrap_or("").is_empty() {
        let detail = "may only be specified if `strategy` is defined";
        errors.push(Error::forbidden(&path.child("preferredHolder"), detail));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_are_checked() {
        let object = json!({"spec": {"leaseDurationSeconds": 0, "leaseTransitions": -1, "preferredHolder": "x"}});
        let fields: Vec<String> = lease(&object).into_iter().map(|error| error.field).collect();
        assert_eq!(
            fields,
            [
                "spec.leaseDurationSeconds",
                "spec.leaseTransitions",
                "spec.preferredHolder"
            ]
        );
        assert!(lease(&json!({"spec": {"leaseDurationSeconds": 15}})).is_empty());
    }
}
