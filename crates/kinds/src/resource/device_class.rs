//! `deviceclasses`.

use api::Value;
use api::field::{Error, Path};
use apiserver::Kind;
use apiserver::kind::Column;

use super::configuration::{Age, configuration};
use super::{GROUP, items, request};
use crate::pod_spec::resources;
use crate::{cells, tree};

pub(crate) fn kind() -> Kind {
    Kind::cluster(GROUP, "v1", "DeviceClass", "deviceclasses")
        .with_generation()
        .validate(|new| class(new, None))
        .validate_update(|new, old| class(new, Some(old)))
        .table(vec![Column::name(), Column::age()], |class, now| {
            vec![cells::name(class), cells::age(class, now)]
        })
}

fn class(new: &Value, old: Option<&Value>) -> Vec<Error> {
    let path = Path::new("spec");
    let mut errors = request::selectors(tree::list(new, "spec.selectors"), &path.child("selectors"));
    let kept = old.is_some_and(|old| tree::same(tree::at(new, "spec.config"), tree::at(old, "spec.config")));
    let age = if kept { Age::Stored } else { Age::New };
    errors.extend(items(
        tree::list(new, "spec.config"),
        request::MAX_CONFIGURATIONS,
        &path.child("config"),
        |config, path| configuration(config, age, path),
    ));
    if let Some(name) = tree::text_opt(new, "spec.extendedResourceName")
        && !resources::is_extended(name)
    {
        let detail = "must be a valid extended resource name";
        errors.push(Error::invalid(&path.child("extendedResourceName"), name, detail));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn classes_select_and_configure() {
        let good =
            json!({"spec": {"selectors": [{"cel": {"expression": "true"}}], "extendedResourceName": "a.io/gpu"}});
        assert_eq!(class(&good, None), []);
        let bad = json!({"spec": {"selectors": [{}], "config": [{}], "extendedResourceName": "cpu"}});
        let fields: Vec<String> = class(&bad, None).into_iter().map(|error| error.field).collect();
        assert_eq!(
            fields,
            [
                "spec.selectors[0].cel",
                "spec.config[0].opaque",
                "spec.extendedResourceName"
            ]
        );
    }
}
