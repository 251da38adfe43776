//! The group `admissionregistration.k8s.io`: webhook configurations, and admission policies with
//! their bindings.
//!
//! CEL expressions are compiled by the API server, which says what is wrong with them; that they are
//! there, and how long they are, is checked here.

pub mod binding;
pub mod policy;
mod rules;
pub mod webhook;

pub(crate) const GROUP: &str = "admissionregistration.k8s.io";
