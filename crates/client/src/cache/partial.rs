//! Objects of any kind, of which only metadata is known.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{Metadata, NamespaceResourceScope, Resource};
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

typed::decoded!(PartialObject);

impl Resource for PartialObject {
    const API_VERSION: &'static str = "meta.k8s.io/v1";
    const GROUP: &'static str = "meta.k8s.io";
    const KIND: &'static str = "PartialObjectMetadata";
    const VERSION: &'static str = "v1";
    const URL_PATH_SEGMENT: &'static str = "";
    type Scope = NamespaceResourceScope;
}

impl Metadata for PartialObject {
    type Ty = ObjectMeta;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
