//! The group `flowcontrol.apiserver.k8s.io`.

pub mod bootstrap;
pub mod flow_schema;
pub mod priority_level;

use api::Value;
use api::field::{Error, Path};

use crate::tree;

pub(crate) const GROUP: &str = "flowcontrol.apiserver.k8s.io";

/// Conditions have a type, each another.
fn conditions(object: &Value) -> Vec<Error> {
    let list = tree::list(object, "status.conditions");
    let mut errors = Vec::new();
    for (index, condition) in list.iter().enumerate() {
        let path = Path::new("status").child("conditions").index(index).child("type");
        let kind = tree::text(condition, "type");
        if list[..index].iter().any(|other| tree::text(other, "type") == kind) {
            errors.push(Error::duplicate(&path, kind));
        }
        if kind.is_empty() {
            errors.push(Error::required(&path, "must not be empty"));
        }
    }
    errors
}
