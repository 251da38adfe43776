//! The group `autoscaling`: `horizontalpodautoscalers` in versions 1 and 2, stored as version 2.

pub mod horizontal_pod_autoscaler;

mod conversion;
mod metrics;
