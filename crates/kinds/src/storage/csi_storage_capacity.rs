//! `csistoragecapacities`.

use api::Value;
use api::field::{Error, Path};
use api::validate;
use apiserver::Kind;
use apiserver::kind::Column;

use super::GROUP;
use crate::{cells, checks, tree};

pub(crate) fn kind() -> Kind {
    Kind::namespaced(GROUP, "v1", "CSIStorageCapacity", "csistoragecapacities")
        .returns_deleted_object()
        .forbid_unconditional_update()
        .validate(capacity)
        .validate_update(|new, old| {
            let fields = ["nodeTopology", "storageClassName"];
            let mut errors = capacity(new);
            errors.extend(
                fields
                    .iter()
                    .flat_map(|field| checks::immutable(new, old, field, &Path::new(field))),
            );
            errors
        })
        .table(
            vec![
                Column::name(),
                Column::string("StorageClassName", "The class it is about."),
                Column::string("Capacity", "How much is left."),
            ],
            |capacity, _| {
                let left = cells::or(tree::text(capacity, "capacity"), "<unset>");
                vec![
                    cells::name(capacity),
                    tree::text(capacity, "storageClassName").into(),
                    left,
                ]
            },
        )
}

fn capacity(capacity: &Value) -> Vec<Error> {
    let mut errors = Vec::new();
    if let Some(topology) = tree::at(capacity, "nodeTopology") {
        errors.extend(validate::label_selector(topology, &Path::new("nodeTopology")));
    }
    let class = tree::text(capacity, "storageClassName");
    errors.extend(checks::dns_subdomain(class, &Path::new("storageClassName")));
    if let Some(quantity) = tree::at(capacity, "capacity").and_then(tree::quantity) {
        errors.extend(checks::nonnegative_quantity(&quantity, &Path::new("capacity")));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn capacities_belong_to_a_class() {
        assert_eq!(capacity(&json!({"storageClassName": "a", "capacity": "1Gi"})), []);
        let bad = json!({"capacity": "-1", "nodeTopology": {"matchLabels": {"a b": "c"}}});
        let fields: Vec<String> = capacity(&bad).into_iter().map(|error| error.field).collect();
        assert_eq!(fields, ["nodeTopology.matchLabels", "storageClassName", "capacity"]);
    }
}
