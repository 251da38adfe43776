//! `resourceclaims`.

use api::field::{Error, Path};
use api::{Value, meta, validate};
use apiserver::Kind;
use apiserver::kind::{Column, Subresource};

use super::configuration::{Age, configuration, raw};
use super::request::{self, Names};
use super::{GROUP, device, items, names, set, text_key};
use crate::pod_spec::scheduling;
use crate::{cells, checks, parts, references, tree};

const MAX_CONSUMERS: usize = 256;
const MAX_RESULTS: usize = 32;
const MAX_ALLOCATED_CONFIGURATIONS: usize = 2 * request::MAX_CONFIGURATIONS;
const MAX_CONDITIONS: usize = 8;
const MAX_DATA_BYTES: usize = 10 * 1024;
const MAX_ADDRESSES: usize = 16;

pub(crate) fn kind() -> Kind {
    Kind::namespaced(GROUP, "v1", "ResourceClaim", "resourceclaims")
        .returns_deleted_object()
        .default(|claim| {
            if tree::at(claim, "spec").is_some() {
                request::default(tree::child(claim, "spec"));
            }
        })
        .validate(|claim| {
            let spec = tree::at(claim, "spec").unwrap_or(&Value::Null);
            request::claim_spec(spec, &Path::new("spec"))
        })
        // Nothing else can be wrong with what may not change.
        .validate_update(|new, old| checks::immutable(new, old, "spec", &Path::new("spec")))
        .subresource(
            Subresource::status()
                .prepare(|context, new, old| {
                    parts::keep_all_but_status(new, old);
                    parts::reset_metadata(new, old);
                    stamp(new, old, &api::time::format(context.now));
                })
                .validate(status),
        )
        .table(
            vec![
                Column::name(),
                Column::string(
                    "State",
                    "A summary of the current state (allocated, pending, reserved, etc.).",
                ),
                Column::age(),
            ],
            |claim, now| vec![cells::name(claim), state(claim).into(), cells::age(claim, now)],
        )
}

fn state(claim: &Value) -> String {
    let mut states = Vec::new();
    if meta::is_deleting(claim) {
        states.push("deleted");
    }
    match tree::at(claim, "status.allocation") {
        None if states.is_empty() => states.push("pending"),
        None => {}
        Some(_) => {
            states.push("allocated");
            if !tree::list(claim, "status.reservedFor").is_empty() {
                states.push("reserved");
            }
        }
    }
    states.join(",")
}

/// A new allocation gets the time; devices that are allocated no more lose their status.
fn stamp(new: &mut Value, old: &Value, now: &str) {
    if tree::at(new, "status.allocation").is_none() {
        if tree::at(old, "status.allocation").is_some() {
            tree::unset(tree::child(new, "status"), "devices");
        }
        return;
    }
    if tree::at(old, "status.allocation").is_none() {
        let allocation = tree::child(tree::child(new, "status"), "allocation");
        tree::fill(allocation, "allocationTimestamp", now);
    }
}

/// What tells an allocated device from all others.
fn device_key(device: &Value) -> Value {
    let parts = ["driver", "pool", "device"].map(|field| tree::text(device, field));
    let mut key = parts.join("/");
    let share = tree::text(device, "shareID");
    if !share.is_empty() {
        key = format!("{key}/{share}");
    }
    key.into()
}

fn status(new: &Value, old: &Value) -> Vec<Error> {
    let path = Path::new("status");
    let spec = tree::at(new, "spec").unwrap_or(&Value::Null);
    let names = Names::of(spec);
    let consumers = tree::list(new, "status.reservedFor");
    let consumers_path = path.child("reservedFor");
    let mut errors = set(consumers, MAX_CONSUMERS, &consumers_path, text_key("uid"), consumer);
    let allocation = tree::at(new, "status.allocation");
    let results = allocation.map(|a| tree::list(a, "devices.results")).unwrap_or_default();
    let allocated: Vec<Value> = results.iter().map(device_key).collect();
    let devices = tree::list(new, "status.devices");
    errors.extend(set(
        devices,
        usize::MAX,
        &path.child("devices"),
        device_key,
        |device, path| device_status(device, &allocated, path),
    ));
    if !consumers.is_empty() {
        if allocation.is_none() {
            let detail = "may not be specified when `allocated` is not set";
            errors.push(Error::forbidden(&consumers_path, detail));
        } else if meta::is_deleting(new) {
            let before = tree::list(old, "status.reservedFor");
            if consumers.iter().any(|consumer| !before.contains(consumer)) {
                let detail =
                    "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
                errors.push(Error::forbidden(&consumers_path, detail));
            }
        }
    }
    let allocation_path = path.child("allocation");
    match (allocation, tree::at(old, "status.allocation")) {
        (Some(_), Some(_)) => {
            let at = "status.allocation";
            errors.extend(checks::immutable(new, old, at, &allocation_path));
        }
        (Some(allocation), None) => errors.extend(self::allocation(allocation, &names, &allocation_path)),
        (None, _) => {}
    }
    errors
}

fn consumer(consumer: &Value, path: &Path) -> Vec<Error> {
    let missing = ["resource", "name", "uid"];
    missing
        .iter()
        .filter(|field| tree::text(consumer, field).is_empty())
        .map(|field| Error::required(&path.child(field), ""))
        .collect()
}

fn device_status(device: &Value, allocated: &[Value], path: &Path) -> Vec<Error> {
    let mut errors = names::driver(tree::text(device, "driver"), &path.child("driver"));
    errors.extend(names::pool(tree::text(device, "pool"), &path.child("pool")));
    errors.extend(checks::dns_label(tree::text(device, "device"), &path.child("device")));
    if let Some(share) = tree::text_opt(device, "shareID") {
        errors.extend(names::uid(share, &path.child("shareID")));
    }
    let key = device_key(device);
    if !allocated.contains(&key) {
        errors.push(Error::invalid(path, key, "must be an allocated device in the claim"));
    }
    let conditions = tree::list(device, "conditions");
    let conditions_path = path.child("conditions");
    if conditions.len() > MAX_CONDITIONS {
        errors.push(Error::too_many(&conditions_path, conditions.len(), MAX_CONDITIONS));
    }
    errors.extend(validate::conditions(conditions, &conditions_path));
    if let Some(data) = tree::at(device, "data") {
        errors.extend(raw(Some(data), Age::New, MAX_DATA_BYTES, &path.child("data")));
    }
    if let Some(network) = tree::at(device, "networkData") {
        errors.extend(network_data(network, &path.child("networkData")));
    }
    errors
}

fn network_data(network: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (field, longest) in [("interfaceName", 256), ("hardwareAddress", 128)] {
        if tree::text(network, field).len() > longest {
            errors.push(Error::too_long(&path.child(field), longest));
        }
    }
    let addresses = tree::list(network, "ips");
    errors.extend(set(
        addresses,
        MAX_ADDRESSES,
        &path.child("ips"),
        Value::clone,
        |address, path| {
            let text = address.as_str().unwrap_or_default();
            let Some((address, bits)) = references::parse_cidr(text) else {
                let detail = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)";
                return vec![Error::invalid(path, text, detail)];
            };
            let canonical = format!("{address}/{bits}");
            if canonical == text {
                return Vec::new();
            }
            let detail = format!("must be in canonical form ({})", api::field::go_quote(&canonical));
            vec![Error::invalid(path, text, detail)]
        },
    ));
    errors
}

fn allocation(allocation: &Value, names: &Names, path: &Path) -> Vec<Error> {
    let devices = path.child("devices");
    let results = tree::list(allocation, "devices.results");
    let mut errors = items(results, MAX_RESULTS, &devices.child("results"), |result, path| {
        let mut errors = names.reference(tree::text(result, "request"), &path.child("request"));
        errors.extend(names::driver(tree::text(result, "driver"), &path.child("driver")));
        errors.extend(names::pool(tree::text(result, "pool"), &path.child("pool")));
        errors.extend(checks::dns_label(tree::text(result, "device"), &path.child("device")));
        errors.extend(device::binding_conditions(result, path));
        if let Some(share) = tree::text_opt(result, "shareID") {
            errors.extend(self::names::uid(share, &path.child("shareID")));
        }
        errors
    });
    errors.extend(items(
        tree::list(allocation, "devices.config"),
        MAX_ALLOCATED_CONFIGURATIONS,
        &devices.child("config"),
        |config, path| {
            let known = &["FromClaim", "FromClass"];
            let mut errors = checks::one_of(tree::text(config, "source"), known, &path.child("source"));
            errors.extend(names.references(config, path));
            errors.extend(configuration(config, Age::New, path));
            errors
        },
    ));
    if let Some(selector) = tree::at(allocation, "nodeSelector") {
        errors.extend(scheduling::node_selector(selector, &path.child("nodeSelector")));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn claim() -> Value {
        json!({"spec": {"devices": {"requests": [{"name": "a", "exactly": {"deviceClassName": "gpu"}}]}}})
    }

    fn allocated() -> Value {
        let mut claim = claim();
        claim["status"] = json!({"allocation": {"devices": {"results": [
            {"request": "a", "driver": "a.io", "pool": "p", "device": "d"}]}},
            "reservedFor": [{"resource": "pods", "name": "x", "uid": "1"}],
            "devices": [{"driver": "a.io", "pool": "p", "device": "d", "networkData": {"ips": ["10.0.0.1/24"]}}]});
        claim
    }

    #[test]
    fn allocations_are_checked_once_and_kept() {
        assert_eq!(status(&allocated(), &claim()), []);
        assert_eq!(state(&allocated()), "allocated,reserved");
        assert_eq!(state(&claim()), "pending");
        let mut moved = allocated();
        moved["status"]["allocation"]["devices"]["results"][0]["device"] = "e".into();
        moved["status"]["devices"] = json!([]);
        let fields: Vec<String> = status(&moved, &allocated()).into_iter().map(|e| e.field).collect();
        assert_eq!(fields, ["status.allocation"]);
        let mut freed = allocated();
        tree::unset(tree::child(&mut freed, "status"), "allocation");
        let fields: Vec<String> = status(&freed, &allocated()).into_iter().map(|e| e.field).collect();
        assert_eq!(fields, ["status.devices[0]", "status.reservedFor"]);
    }

    #[test]
    fn times_are_stamped() {
        let mut new = allocated();
        stamp(&mut new, &claim(), "2026-01-01T00:00:00Z");
        assert_eq!(
            new["status"]["allocation"]["allocationTimestamp"],
            "2026-01-01T00:00:00Z"
        );
    }

    #[test]
    fn odd_results_have_their_paths() {
        let mut bad = claim();
        bad["status"] = json!({"allocation": {"devices": {"results": [{"request": "z", "shareID": "x"}], "config": [{"source": "Moon"}]}}});
        let fields: Vec<String> = status(&bad, &claim()).into_iter().map(|e| e.field).collect();
        assert_eq!(
            fields.first().map(String::as_str),
            Some("status.allocation.devices.results[0].request")
        );
        assert!(fields.contains(&"status.allocation.devices.results[0].shareID".to_owned()));
        assert_eq!(
            fields[fields.len() - 2..],
            [
                "status.allocation.devices.config[0].source",
                "status.allocation.devices.config[0].opaque"
            ]
        );
    }
}
