//! The built-in kinds: one file a kind, with its descriptor, what is special about it, its
//! validation and its table.
//!
//! A kind is a value of [`apiserver::Kind`]; everything that kinds have in common is derived from
//! it by the API server, which does not know this crate. Functions here get object trees that the
//! schema has decoded, so that fields have their types, and they treat what is absent as Go's
//! zero values.
//!
//! Invariants: defaulting is idempotent; validation reports every error, with upstream's paths,
//! reasons and wording (`pkg/apis/*/validation`); nothing here does I/O or knows the time but what
//! it is given.
//!
//! What it does not know: other objects. Checks that need them (quota, service accounts, RBAC
//! escalation, priority classes) are admission, which is the API server's.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod admissionregistration;
pub mod apiextensions;
pub mod apiregistration;
pub mod apps;
pub mod autoscaling;
pub mod batch;
pub mod bootstrap;
pub mod certificates;
pub mod coordination;
pub mod core;
pub mod discovery;
pub mod flowcontrol;
pub mod networking;
pub mod node;
pub mod pod_spec;
pub mod policy;
pub mod pools;
pub mod rbac;
pub mod resource;
pub mod scheduling;
pub mod storage;
pub mod storagemigration;

mod cells;
mod checks;
mod parts;
mod references;
mod tree;

use apiserver::Kind;

/// Every built-in kind, in the order of discovery: the core group, then the others by name.
pub fn all() -> Vec<Kind> {
    vec![
        core::component_status::kind(),
        core::config_map::kind(),
        core::endpoints::kind(),
        core::event::core_kind(),
        core::limit_range::kind(),
        core::namespace::kind(),
        core::node::kind(),
        core::persistent_volume_claim::kind(),
        core::persistent_volume::kind(),
        core::pod::kind(),
        core::pod_template::kind(),
        core::replication_controller::kind(),
        core::resource_quota::kind(),
        core::secret::kind(),
        core::service_account::kind(),
        core::service::kind(),
        admissionregistration::policy::mutating(),
        admissionregistration::binding::mutating(),
        admissionregistration::webhook::mutating(),
        admissionregistration::policy::validating(),
        admissionregistration::binding::validating(),
        admissionregistration::webhook::validating(),
        apiregistration::kind(),
        apiextensions::custom_resource_definition::kind(),
        apps::controller_revision::kind(),
        apps::daemon_set::kind(),
        apps::deployment::kind(),
        apps::replica_set::kind(),
        apps::stateful_set::kind(),
        autoscaling::horizontal_pod_autoscaler::v2(),
        autoscaling::horizontal_pod_autoscaler::v1(),
        batch::cron_job::kind(),
        batch::job::kind(),
        certificates::certificate_signing_request::kind(),
        certificates::cluster_trust_bundle::kind(),
        certificates::pod_certificate_request::kind(),
        coordination::lease::kind(),
        discovery::endpoint_slice::kind(),
        core::event::events_kind(),
        flowcontrol::flow_schema::kind(),
        flowcontrol::priority_level::kind(),
        networking::ingress_class::kind(),
        networking::ingress::kind(),
        networking::ip_address::kind(),
        networking::network_policy::kind(),
        networking::service_cidr::kind(),
        node::runtime_class::kind(),
        policy::pod_disruption_budget::kind(),
        rbac::cluster_role_binding::kind(),
        rbac::cluster_role::kind(),
        rbac::role_binding::kind(),
        rbac::role::kind(),
        resource::device_class::kind(),
        resource::device_taint_rule::kind(),
        resource::resource_claim::kind(),
        resource::resource_claim_template::kind(),
        resource::resource_slice::kind(),
        scheduling::priority_class::kind(),
        storage::csi_driver::kind(),
        storage::csi_node::kind(),
        storage::csi_storage_capacity::kind(),
        storage::storage_class::kind(),
        storage::volume_attachment::kind(),
        storage::volume_attributes_class::kind(),
        storagemigration::kind(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use serde_json::json;

    #[test]
    fn rows_fill_their_columns_even_for_empty_objects() {
        for kind in all() {
            let Some(row) = &kind.row else {
                assert!(kind.columns.is_empty(), "{}", kind.plural);
                continue;
            };
            for object in [json!({}), json!({"metadata": {"name": "x"}, "spec": {}, "status": {}})] {
                let row = row(&object, Timestamp::UNIX_EPOCH);
                assert_eq!(row.cells.len(), kind.columns.len(), "{}", kind.plural);
            }
        }
    }

    #[test]
    fn defaulting_and_validation_take_anything() {
        let odd = [
            json!({}),
            json!({"metadata": null, "spec": null, "status": null}),
            json!({"spec": {"template": null, "ports": [null], "containers": [null], "rules": [null], "limits": [null]}}),
            json!({"subsets": [null], "endpoints": [null], "subjects": [null], "data": null}),
        ];
        for kind in all() {
            for object in &odd {
                let mut object = object.clone();
                if let Some(default) = &kind.strategy.default {
                    default(&mut object);
                    let once = object.clone();
                    default(&mut object);
                    assert_eq!(object, once, "{} defaults twice", kind.plural);
                }
                if let Some(validate) = &kind.strategy.validate {
                    validate(&object);
                }
                if let Some(validate) = &kind.strategy.validate_update {
                    validate(&object, &json!({}));
                    validate(&json!({}), &object);
                }
            }
        }
    }

    #[test]
    fn names_are_unique() {
        let mut seen = std::collections::HashSet::new();
        for kind in all() {
            assert!(
                seen.insert((kind.gvk.clone(), kind.plural.clone())),
                "{} is listed twice",
                kind.plural
            );
        }
    }
}
