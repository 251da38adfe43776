//! The group `admissionregistration.k8s.io`: webhook configurations, and admission policies with
//! their bindings.
//!
//! CEL expressions are not compiled here, for this crate knows no CEL: that they are there, and how
//! long they are, is checked.

pub mod binding;
pub mod policy;
mod rules;
pub mod webhook;

pub(crate) const GROUP: &str = "admissionregistration.k8s.io";
