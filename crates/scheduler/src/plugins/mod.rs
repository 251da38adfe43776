//! The plugins, one file each.

mod image_locality;
mod node_affinity;
mod node_name;
mod node_ports;
mod node_resources_balanced_allocation;
mod node_resources_fit;
mod node_unschedulable;
mod scheduling_gates;
mod taint_toleration;

use crate::framework::{Plugin, Profile};

/// `default-scheduler` with upstream's plugins and weights
/// (pkg/scheduler/apis/config/v1/default_plugins.go).
#[must_use]
pub fn default_profile() -> Profile {
    let plugins: Vec<(Box<dyn Plugin>, i64)> = vec![
        (Box::new(scheduling_gates::SchedulingGates), 0),
        (Box::new(node_unschedulable::NodeUnschedulable), 0),
        (Box::new(node_name::NodeName), 0),
        (Box::new(taint_toleration::TaintToleration), 3),
        (Box::new(node_affinity::NodeAffinity), 2),
        (Box::new(node_ports::NodePorts), 0),
        (Box::new(node_resources_fit::NodeResourcesFit), 1),
        (
            Box::new(node_resources_balanced_allocation::NodeResourcesBalancedAllocation),
            1,
        ),
        (Box::new(image_locality::ImageLocality), 1),
    ];
    Profile {
        scheduler_name: "default-scheduler".into(),
        plugins,
        percentage_of_nodes_to_score: None,
    }
}
