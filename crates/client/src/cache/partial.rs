//! Objects of any kind, of which only metadata is known.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

/// `meta.k8s.io/v1 PartialObjectMetadata`. Its kind and group are the handle's, not its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PartialObject {
    /// The metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
}

impl PartialObject {
    /// Forgets all that garbage collection does not look at.
    pub fn trim_to_ownership(&mut self) {
        let metadata = &mut self.metadata;
        metadata.managed_fields = None;
        metadata.labels = None;
        metadata.annotations = None;
        metadata.generate_name = None;
        metadata.self_link = None;
    }
}

typed::object_of_any_kind!(PartialObject);
