//! Which nodes a pod's spec allows: node selectors, node affinity, taints and tolerations (upstream
//! `component-helpers/scheduling/corev1`). Shared by the scheduler and by controllers that place pods themselves.
//!
//! Pure; knows nothing of resources, other pods, or scores beyond the weights in the spec.

mod node_affinity;
mod taints;

pub use node_affinity::{PreferredTerms, RequiredTerms};
pub use taints::{first_untolerated, tolerates};
