//! Numbers given as such or as a percentage.

use api::{IntOrString, Rounding};
use k8s_openapi::apimachinery::pkg::util::intstr;

/// A number, or that percentage of `total`; nothing, or nonsense, is 0.
pub(crate) fn portion(value: Option<&intstr::IntOrString>, total: i32, rounding: Rounding) -> i32 {
    let value = match value {
        None => return 0,
        Some(intstr::IntOrString::Int(number)) => IntOrString::Int(*number),
        Some(intstr::IntOrString::String(text)) => IntOrString::String(text.clone()),
    };
    let scaled = value.scaled(total.into(), rounding).unwrap_or(0);
    i32::try_from(scaled).unwrap_or(i32::MAX)
}
