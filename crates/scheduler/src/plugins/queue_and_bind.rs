//! The two ends of a pod's way: PrioritySort orders the queue (by priority, then by age: see
//! [`crate::queue`]), DefaultBinder binds through the API.

use crate::framework::{Binding, Plugin, Point};
use crate::pod::PodInfo;

pub(super) struct PrioritySort;

impl Plugin for PrioritySort {
    fn name(&self) -> &'static str {
        "PrioritySort"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::QueueSort]
    }
}

pub(super) struct DefaultBinder;

impl Plugin for DefaultBinder {
    fn name(&self) -> &'static str {
        "DefaultBinder"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Bind]
    }

    fn bind(&self, _pod: &PodInfo) -> Option<Binding> {
        Some(Binding::Api)
    }
}
