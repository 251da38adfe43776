//! The group `certificates.k8s.io`.

pub mod certificate_signing_request;
pub mod cluster_trust_bundle;
pub mod pod_certificate_request;

mod pem;
mod request;

pub(crate) const GROUP: &str = "certificates.k8s.io";
