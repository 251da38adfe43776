//! The group `resource.k8s.io`: devices, classes of them, and claims on them.
//!
//! CEL selectors are not compiled here, for this crate knows no CEL: that they are there, and how
//! long they are, is checked (`pkg/apis/resource/validation`).

pub mod device_class;
pub mod device_taint_rule;
pub mod resource_claim;
pub mod resource_claim_template;
pub mod resource_slice;

mod capacity;
mod configuration;
mod device;
mod names;
mod request;
mod taints;

pub(crate) const GROUP: &str = "resource.k8s.io";

use api::Value;
use api::field::{Error, Path};

/// The errors of every item; a list that is too long has only that one.
fn items(list: &[Value], most: usize, path: &Path, check: impl Fn(&Value, &Path) -> Vec<Error>) -> Vec<Error> {
    if list.len() > most {
        return vec![Error::too_many(path, list.len(), most)];
    }
    let errors = list.iter().enumerate();
    errors
        .flat_map(|(index, item)| check(item, &path.index(index)))
        .collect()
}

/// As [`items`], and no key twice.
fn set(
    list: &[Value],
    most: usize,
    path: &Path,
    key: impl Fn(&Value) -> Value,
    check: impl Fn(&Value, &Path) -> Vec<Error>,
) -> Vec<Error> {
    let mut errors = items(list, most, path, check);
    if list.len() > most {
        return errors;
    }
    let keys: Vec<Value> = list.iter().map(key).collect();
    for (index, key) in keys.iter().enumerate() {
        if keys[..index].contains(key) {
            errors.push(Error::duplicate(&path.index(index), key.clone()));
        }
    }
    errors
}

/// The string at a field, as a key of [`set`].
fn text_key(field: &str) -> impl Fn(&Value) -> Value + '_ {
    move |item| crate::tree::text(item, field).into()
}
