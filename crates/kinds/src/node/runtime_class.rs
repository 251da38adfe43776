//! `runtimeclasses`.

use api::field::{Error, Path};
use api::{Value, validate};
use apiserver::Kind;
use apiserver::kind::Column;

use crate::pod_spec::{resources, scheduling};
use crate::{cells, checks, tree};

pub(crate) fn kind() -> Kind {
    Kind::cluster("node.k8s.io", "v1", "RuntimeClass", "runtimeclasses")
        .allow_create_on_update()
        .forbid_unconditional_update()
        .validate(class)
        .validate_update(|new, old| {
            let mut errors = class(new);
            errors.extend(checks::immutable(new, old, "handler", &Path::new("handler")));
            errors
        })
        .table(
            vec![
                Column::name(),
                Column::string("Handler", "The runtime's own name for it."),
                Column::age(),
            ],
            |class, now| {
                vec![
                    cells::name(class),
                    tree::text(class, "handler").into(),
                    cells::age(class, now),
                ]
            },
        )
}

fn class(class: &Value) -> Vec<Error> {
    let mut errors = checks::dns_label(tree::text(class, "handler"), &Path::new("handler"));
    if let Some(overhead) = tree::at(class, "overhead.podFixed") {
        let amounts = serde_json::json!({"limits": overhead});
        errors.extend(resources::requirements(&amounts, &[], &Path::new("overhead")));
    }
    let path = Path::new("scheduling");
    let selector = tree::at(class, "scheduling.nodeSelector");
    errors.extend(validate::labels(selector, &path.child("nodeSelector")));
    let tolerations = tree::list(class, "scheduling.tolerations");
    let path = path.child("tolerations");
    // Upstream goes down twice.
    errors.extend(scheduling::tolerations(tolerations, &path.child("tolerations")));
    let repeated = |index: &usize| tolerations[..*index].contains(&tolerations[*index]);
    for index in (0..tolerations.len()).filter(repeated) {
        errors.push(Error::duplicate(&path.index(index), tolerations[index].clone()));
    }
    errors
}
