//! `apiextensions.k8s.io`: definitions of custom resources
//! (`apiextensions-apiserver/pkg/{apis/apiextensions,registry/customresourcedefinition}`).

mod conversion;
pub mod custom_resource_definition;
mod spec;
mod version;
