//! Patches that need to know types. JSON patch and JSON merge patch do not: the `json-patch` crate
//! does them.

pub mod strategic;

use serde_json::Value;

/// Why a patch cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// A list of objects is merged by a key that an element does not have.
    #[error("map: {element} does not contain declared merge key: {key}")]
    NoMergeKey {
        /// The element.
        element: Value,
        /// The key.
        key: String,
    },
    /// A `$patch` directive is none of `replace`, `merge`, `delete`.
    #[error("unknown patch type: {directive} in map: {element}")]
    UnknownDirective {
        /// The directive's value.
        directive: Value,
        /// The map that holds it.
        element: Value,
    },
    /// `$retainKeys` does not list all keys of the patch.
    #[error("invalid patch format of retainKeys")]
    RetainKeys,
    /// `$setElementOrder` does not fit the patch list beside it.
    #[error("invalid patch format of setElementOrder list: {0}")]
    ElementOrder(String),
    /// `$deleteFromPrimitiveList` is not beside a list of scalars.
    #[error("invalid patch format of primitive list")]
    PrimitiveList,
    /// A list holds objects and scalars, or lists.
    #[error("list element types are not identical: {0}")]
    MixedList(String),
    /// A list of objects is to be merged, but the schema has no merge key for it.
    #[error("cannot merge lists without merge key for {0}")]
    Unmergeable(String),
    /// The patch is not an object.
    #[error("the patch is not a JSON object")]
    NotAnObject,
}
