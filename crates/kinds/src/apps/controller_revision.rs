//! `controllerrevisions`.

use api::field::{Error, Path};
use api::{GroupKind, GroupVersion, Value, meta};
use apiserver::Kind;
use apiserver::kind::Column;

use crate::{cells, checks, tree};

pub(crate) fn kind() -> Kind {
    Kind::namespaced("apps", "v1", "ControllerRevision", "controllerrevisions")
        .validate(|object| {
            let mut errors = revision(object);
            errors.extend(data(object));
            errors
        })
        .validate_update(|new, old| {
            let mut errors = revision(new);
            errors.extend(data(new));
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
    checks::nonnegative(object, "revision", &Path::root())
}

/// The data of a new revision is an object.
fn data(object: &Value) -> Option<Error> {
    let detail = match tree::at(object, "data") {
        None => "data is mandatory",
        Some(data) if !data.is_object() => "data must be a valid JSON object",
        Some(_) => return None,
    };
    Some(Error::required(&Path::new("data"), detail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn data_is_an_object() {
        for (object, want) in [
            (json!({"data": {}}), None),
            (json!({}), Some("data: Required value: data is mandatory")),
            (
                json!({"data": [1]}),
                Some("data: Required value: data must be a valid JSON object"),
            ),
        ] {
            assert_eq!(
                data(&object).map(|error| error.to_string()).as_deref(),
                want,
                "{object}"
            );
        }
        let errors = revision(&json!({"revision": -1}));
        assert_eq!(
            errors[0].to_string(),
            "revision: Invalid value: -1: must be greater than or equal to 0"
        );
    }
}
