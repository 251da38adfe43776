//! `controllerrevisions`.

use api::field::{Error, Path};
use api::{GroupKind, GroupVersion, Value, meta};
use apiserver::Kind;
use apiserver::kind::Column;

use crate::{cells, checks, tree};

pub(crate) fn kind() -> Kind {
    Kind::namespaced("apps", "v1", "ControllerRevision", "controllerrevisions")
        .validate(revision)
        .validate_update(|new, old| {
            let mut errors = revision(new);
            errors.extend(checks::immutable(new, old, "data", &Path::new("data")));
            errors
        })
        .table(
            vec![
                Column::name(),
                Column::string("Controller", "The workload it belongs to."),
                Column::string("Revision", "Its number; newer ones are larger."),
                Column::age(),
            ],
            |object, now| {
                let controller = meta::controller_of(object).map(|owner| {
                    let group = GroupVersion::parse(owner.api_version).unwrap_or_default().group;
                    let kind = GroupKind::new(group, owner.kind).to_string().to_lowercase();
                    format!("{kind}/{}", owner.name)
                });
                vec![
                    cells::name(object),
                    controller.unwrap_or_else(|| "<none>".to_owned()).into(),
                    tree::count(object, "revision").into(),
                    cells::age(object, now),
                ]
            },
        )
}

fn revision(object: &Value) -> Vec<Error> {
    let mut errors = Vec::new();
    if tree::at(object, "data").is_none() {
        errors.push(Error::required(&Path::new("data"), "data is mandatory"));
    }
    errors.extend(checks::nonnegative(object, "revision", &Path::root()));
    errors
}
