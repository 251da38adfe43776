//! What claims of devices use (upstream `pkg/quota/v1/evaluator/core/resource_claims.go`).

use api::Value;

use crate::amounts::{self, Amounts};
use crate::{list, text};

const COUNT: &str = "count/resourceclaims.resource.k8s.io";
const CLASS_SUFFIX: &str = ".deviceclass.resource.k8s.io/devices";
/// The most devices a claim can get: what a request for all of them is charged
/// (`AllocationResultsMaxSize`).
const MOST_DEVICES: i64 = 32;

pub(crate) fn matches_resource(name: &str) -> bool {
    name == COUNT || name.ends_with(CLASS_SUFFIX)
}

pub(crate) fn usage(claim: &Value) -> Amounts {
    let mut usage = Amounts::from([(COUNT.to_owned(), amounts::one())]);
    for request in list(claim, "spec.devices.requests") {
        let alternatives = list(request, "firstAvailable");
        let mut most = Amounts::new();
        if alternatives.is_empty() {
            // v1 has the request within `exactly`, the betas before had it in place.
            amounts::raise(&mut most, &devices(request.get("exactly").unwrap_or(request)));
        }
        for alternative in alternatives {
            amounts::raise(&mut most, &devices(alternative));
        }
        amounts::add(&mut usage, &most);
    }
    usage
}

fn devices(request: &Value) -> Amounts {
    let class = text(request, "deviceClassName");
    let count = match text(request, "allocationMode") {
        "" | "ExactCount" => request.get("count").and_then(Value::as_i64).unwrap_or(1),
        _ => MOST_DEVICES,
    };
    Amounts::from([(format!("{class}{CLASS_SUFFIX}"), amounts::number(count))])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_worst_alternative_counts() {
        let claim = json!({"spec": {"devices": {"requests": [
            {"name": "a", "exactly": {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 2}},
            {"name": "b", "exactly": {"deviceClassName": "nic", "allocationMode": "All"}},
            {"name": "c", "firstAvailable": [
                {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 3},
                {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1},
                {"deviceClassName": "fpga", "count": 1}]}]}}});
        assert_eq!(
            amounts::pretty(&usage(&claim)),
            "count/resourceclaims.resource.k8s.io=1,fpga.deviceclass.resource.k8s.io/devices=1,\
             gpu.deviceclass.resource.k8s.io/devices=5,nic.deviceclass.resource.k8s.io/devices=32"
        );
    }
}
