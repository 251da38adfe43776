//! `csinodes`.

use api::Value;
use api::field::{Error, Path};
use apiserver::Kind;
use apiserver::kind::Column;

use super::GROUP;
use crate::{cells, checks, references, tree};

const MAX_NODE_ID_CHARACTERS: usize = 256;

pub(crate) fn kind() -> Kind {
    Kind::cluster(GROUP, "v1", "CSINode", "csinodes")
        .returns_deleted_object()
        .forbid_unconditional_update()
        .validate(drivers)
        .validate_update(change)
        .table(
            vec![
                Column::name(),
                Column::integer("Drivers", "Drivers on the node."),
                Column::age(),
            ],
            |node, now| {
                vec![
                    cells::name(node),
                    tree::list(node, "spec.drivers").len().into(),
                    cells::age(node, now),
                ]
            },
        )
}

fn drivers(node: &Value) -> Vec<Error> {
    let list = tree::list(node, "spec.drivers");
    let path = Path::new("spec").child("drivers");
    let mut errors = Vec::new();
    for (index, driver) in list.iter().enumerate() {
        let (path, name) = (path.index(index), tree::text(driver, "name"));
        errors.extend(references::driver_name(name, &path.child("name")));
        let id = tree::text(driver, "nodeID");
        if id.is_empty() {
            errors.push(Error::required(&path.child("nodeID"), ""));
        }
        if id.len() > MAX_NODE_ID_CHARACTERS {
            let detail = format!("must be {MAX_NODE_ID_CHARACTERS} characters or less");
            errors.push(Error::invalid(&path.child("nodeID"), id, detail));
        }
        if let Some(allocatable) = tree::at(driver, "allocatable") {
            errors.extend(checks::nonnegative(allocatable, "count", &path.child("allocatable")));
        }
        if list[..index].iter().any(|other| tree::text(other, "name") == name) {
            errors.push(Error::duplicate(&path.child("name"), name));
        }
        let keys = tree::strings(driver, "topologyKeys");
        for (index, key) in keys.iter().enumerate() {
            if key.is_empty() {
                errors.push(Error::required(&path, ""));
            }
            if keys[..index].contains(key) {
                errors.push(Error::duplicate(&path, *key));
            }
            errors.extend(checks::qualified_name(key, &path));
        }
    }
    errors
}

/// A driver may come, go, and count anew what it can attach.
fn change(new: &Value, old: &Value) -> Vec<Error> {
    let before = tree::list(old, "spec.drivers");
    let mut errors = drivers(new);
    let fixed = |driver: &Value| {
        let mut driver = driver.clone();
        tree::unset(&mut driver, "allocatable");
        driver
    };
    for driver in before {
        let name = tree::text(driver, "name");
        for other in tree::list(new, "spec.drivers")
            .iter()
            .filter(|d| tree::text(d, "name") == name)
        {
            let (after, before) = (fixed(other), fixed(driver));
            if !tree::same(Some(&after), Some(&before)) {
                let path = Path::new("spec").child("drivers");
                errors.push(Error::invalid(&path, after, "field is immutable"));
            }
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn drivers_are_named_once_and_stay() {
        let object = |drivers: Value| json!({"spec": {"drivers": drivers}});
        let good =
            object(json!([{"name": "a.io", "nodeID": "n", "topologyKeys": ["zone"], "allocatable": {"count": 1}}]));
        assert_eq!(drivers(&good), []);
        let bad = object(
            json!([{"name": "a.io", "allocatable": {"count": -1}}, {"name": "a.io", "nodeID": "n", "topologyKeys": ["", "a", "a"]}]),
        );
        let fields: Vec<String> = drivers(&bad).into_iter().map(|e| e.field).collect();
        assert_eq!(
            fields[..3],
            [
                "spec.drivers[0].nodeID",
                "spec.drivers[0].allocatable.count",
                "spec.drivers[1].name"
            ]
        );
        let mut counted = good.clone();
        counted["spec"]["drivers"][0]["allocatable"]["count"] = 2.into();
        assert_eq!(change(&counted, &good), []);
        counted["spec"]["drivers"][0]["nodeID"] = "m".into();
        assert_eq!(change(&counted, &good).len(), 1);
        assert_eq!(change(&object(json!([])), &good), []);
    }
}
