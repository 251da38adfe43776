//! The plugins, one file each.

pub mod default_preemption;
mod dynamic_resources;
mod image_locality;
mod inter_pod_affinity;
mod node_affinity;
mod node_name;
mod node_ports;
mod node_resources_balanced_allocation;
mod node_resources_fit;
mod node_unschedulable;
mod node_volume_limits;
mod pod_topology_spread;
mod queue_and_bind;
mod resource_scoring;
mod scheduling_gates;
mod taint_toleration;
mod volume_binding;
mod volume_restrictions;
mod volume_zone;

use std::sync::Arc;

use crate::config::args::PluginArgs;
use crate::framework::{Plugin, Profile};

/// Makes a plugin from its arguments.
pub type Factory = fn(&PluginArgs) -> Arc<dyn Plugin>;

/// A plugin that a configuration may name.
pub struct Registered {
    /// Upstream's name.
    pub name: &'static str,
    /// Its weight where it scores and no other is given; plugins of weight zero here count once.
    pub weight: i64,
    /// Makes it.
    pub make: Factory,
}

const fn entry(name: &'static str, weight: i64, make: Factory) -> Registered {
    Registered { name, weight, make }
}

/// All plugins that are enabled by default, in upstream's order and with its weights
/// (pkg/scheduler/apis/config/v1/default_plugins.go). **A new plugin is one line here.**
#[must_use]
pub fn registry() -> Vec<Registered> {
    vec![
        entry("SchedulingGates", 0, |_| Arc::new(scheduling_gates::SchedulingGates)),
        entry("PrioritySort", 0, |_| Arc::new(queue_and_bind::PrioritySort)),
        entry("NodeUnschedulable", 0, |_| {
            Arc::new(node_unschedulable::NodeUnschedulable)
        }),
        entry("NodeName", 0, |_| Arc::new(node_name::NodeName)),
        entry("TaintToleration", 3, |_| Arc::new(taint_toleration::TaintToleration)),
        entry("NodeAffinity", 2, |args| {
            Arc::new(node_affinity::NodeAffinity::new(args))
        }),
        entry("NodePorts", 0, |_| Arc::new(node_ports::NodePorts)),
        entry("NodeResourcesFit", 1, |args| {
            Arc::new(node_resources_fit::NodeResourcesFit::new(args))
        }),
        entry("VolumeRestrictions", 0, |_| {
            Arc::new(volume_restrictions::VolumeRestrictions)
        }),
        entry("NodeVolumeLimits", 0, |_| {
            Arc::new(node_volume_limits::NodeVolumeLimits)
        }),
        entry("VolumeBinding", 0, |args| {
            Arc::new(volume_binding::VolumeBinding::new(args))
        }),
        entry("VolumeZone", 0, |_| Arc::new(volume_zone::VolumeZone)),
        entry("DynamicResources", 0, |_| {
            Arc::new(dynamic_resources::DynamicResources::default())
        }),
        entry("PodTopologySpread", 2, |args| {
            Arc::new(pod_topology_spread::PodTopologySpread::new(args))
        }),
        entry("InterPodAffinity", 2, |args| {
            Arc::new(inter_pod_affinity::InterPodAffinity::new(args))
        }),
        entry("DefaultPreemption", 0, |args| {
            Arc::new(default_preemption::DefaultPreemption::new(args))
        }),
        entry("NodeResourcesBalancedAllocation", 1, |args| {
            Arc::new(node_resources_balanced_allocation::NodeResourcesBalancedAllocation::new(args))
        }),
        entry("ImageLocality", 1, |_| Arc::new(image_locality::ImageLocality)),
        entry("DefaultBinder", 0, |_| Arc::new(queue_and_bind::DefaultBinder)),
    ]
}

/// `default-scheduler` with upstream's plugins and weights.
#[must_use]
pub fn default_profile() -> Profile {
    default_profile_without(&[])
}

/// The same without some plugins: for worlds that lack what they look at.
#[must_use]
pub fn default_profile_without(names: &[&str]) -> Profile {
    let mut profile = Profile::new("default-scheduler");
    for registered in registry()
        .into_iter()
        .filter(|registered| !names.contains(&registered.name))
    {
        let plugin = (registered.make)(&PluginArgs::default());
        profile.add(plugin, registered.weight.max(1));
    }
    profile
}
