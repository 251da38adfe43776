//! Devices of a slice: attributes, capacities, taints, counters, and where they are.

use api::field::{Error, Path};
use api::{Value, validate};

use super::capacity::{Sharing, capacity};
use super::configuration::entries;
use super::{items, names, set, taints, text_key};
use crate::pod_spec::scheduling;
use crate::{checks, tree};

const MAX_ATTRIBUTES_AND_CAPACITIES: usize = 32;
const MAX_NAME_BYTES: usize = 63 + 1 + 32;
const MAX_VALUE_BYTES: usize = 64;
const MAX_TAINTS: usize = 16;
const MAX_COUNTER_CONSUMPTIONS: usize = 2;
const MAX_COUNTERS: usize = 32;
const MAX_BINDING_CONDITIONS: usize = 4;
const LABEL_BYTES: usize = 63;

/// A device; `old` is the stored one of that name. `per_device` says that each device names its
/// nodes itself.
pub(super) fn device(device: &Value, old: Option<&Value>, per_device: bool, path: &Path) -> Vec<Error> {
    let mut errors = checks::dns_label(tree::text(device, "name"), &path.child("name"));
    let (attributes, capacities) = (tree::map(device, "attributes"), tree::map(device, "capacity"));
    let total = attributes.map_or(0, |map| map.len()) + capacities.map_or(0, |map| map.len());
    if total > MAX_ATTRIBUTES_AND_CAPACITIES {
        let detail =
            format!("the total number of attributes and capacities must not exceed {MAX_ATTRIBUTES_AND_CAPACITIES}");
        errors.push(Error::invalid(path, total, detail));
    }
    for (name, value, path) in entries(attributes, MAX_NAME_BYTES, &path.child("attributes")) {
        errors.extend(names::qualified(name, &path));
        errors.extend(attribute(value, &path));
    }
    let sharing = if tree::flag(device, "allowMultipleAllocations") {
        Sharing::Multiple
    } else {
        Sharing::Single
    };
    for (name, value, path) in entries(capacities, MAX_NAME_BYTES, &path.child("capacity")) {
        errors.extend(names::qualified(name, &path));
        errors.extend(capacity(value, sharing, &path));
    }
    let list = tree::list(device, "taints");
    if old.is_none_or(|old| tree::list(old, "taints") != list) {
        errors.extend(items(list, MAX_TAINTS, &path.child("taints"), |taint, path| {
            taints::taint(taint, None, path)
        }));
    }
    errors.extend(set(
        tree::list(device, "consumesCounters"),
        MAX_COUNTER_CONSUMPTIONS,
        &path.child("consumesCounters"),
        text_key("counterSet"),
        |consumption, path| counters(consumption, "counterSet", path),
    ));
    errors.extend(nodes(device, per_device, path));
    errors.extend(binding_conditions(device, path));
    errors
}

fn attribute(attribute: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let fields = [
        "bool", "int", "string", "version", "bools", "ints", "strings", "versions",
    ];
    let held = fields
        .iter()
        .filter(|field| tree::at(attribute, field).is_some())
        .count();
    for (single, plural) in [("string", "strings"), ("version", "versions")] {
        let check = |text: &str, path: &Path| {
            let mut errors = Vec::new();
            if single == "version" && !is_semver(text) {
                let detail = "must be a string compatible with semver.org spec 2.0.0";
                errors.push(Error::invalid(path, text, detail));
            }
            if text.len() > MAX_VALUE_BYTES {
                errors.push(Error::too_long(path, MAX_VALUE_BYTES));
            }
            errors
        };
        if let Some(text) = tree::text_opt(attribute, single) {
            errors.extend(check(text, &path.child(single)));
        }
        for (index, text) in tree::strings(attribute, plural).into_iter().enumerate() {
            errors.extend(check(text, &path.child(plural).index(index)));
        }
    }
    match held {
        0 => errors.push(Error::invalid(path, "", "exactly one value must be specified")),
        1 => {}
        _ => errors.push(Error::invalid(
            path,
            attribute.clone(),
            "exactly one value must be specified",
        )),
    }
    errors
}

/// `1.2.3-pre.1+build`.
fn is_semver(text: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let number = |part: &str| digits(part) && (part == "0" || !part.starts_with('0'));
    let word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let (text, build) = text
        .split_once('+')
        .map_or((text, None), |(rest, build)| (rest, Some(build)));
    let (text, pre) = text
        .split_once('-')
        .map_or((text, None), |(rest, pre)| (rest, Some(pre)));
    let parts: Vec<&str> = text.split('.').collect();
    parts.len() == 3
        && parts.into_iter().all(number)
        && pre.is_none_or(|pre| pre.split('.').all(|part| word(part) && (!digits(part) || number(part))))
        && build.is_none_or(|build| build.split('.').all(word))
}

/// Counters with the name of their set.
pub(super) fn counters(holder: &Value, name: &str, path: &Path) -> Vec<Error> {
    let set = tree::text(holder, name);
    let mut errors = match set {
        "" => vec![Error::required(&path.child(name), "")],
        set => checks::dns_label(set, &path.child(name)),
    };
    let (map, path) = (tree::map(holder, "counters"), path.child("counters"));
    let count = map.map_or(0, |map| map.len());
    if count == 0 {
        errors.push(Error::required(&path, ""));
    } else if count > MAX_COUNTERS {
        errors.push(Error::too_many(&path, count, MAX_COUNTERS));
    } else {
        for (name, _, path) in entries(map, LABEL_BYTES, &path) {
            errors.extend(checks::dns_label(name, &path));
        }
    }
    errors
}

/// Where a device is, if devices say that themselves.
fn nodes(device: &Value, per_device: bool, path: &Path) -> Vec<Error> {
    const ONE: &str = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
    let (name, selector, all) = (
        tree::text_opt(device, "nodeName"),
        tree::at(device, "nodeSelector"),
        tree::flag_opt(device, "allNodes"),
    );
    if !per_device {
        if name.is_none() && selector.is_none() && all.is_none() {
            return Vec::new();
        }
        let detail = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
        return vec![Error::invalid(path, Value::Null, detail)];
    }
    let mut errors = Vec::new();
    let mut held = Vec::new();
    match name {
        Some("") => errors.push(Error::invalid(&path.child("nodeName"), "", "must not be empty")),
        Some(name) => {
            held.push("`nodeName`");
            errors.extend(checks::dns_subdomain(name, &path.child("nodeName")));
        }
        None => {}
    }
    if let Some(selector) = selector {
        held.push("`nodeSelector`");
        errors.extend(scheduling::node_selector(selector, &path.child("nodeSelector")));
    }
    match all {
        Some(true) => held.push("`allNodes`"),
        Some(false) => {
            let detail = "must be either unset or set to true";
            errors.push(Error::invalid(&path.child("allNodes"), false, detail));
        }
        None => {}
    }
    match held.len() {
        0 => errors.push(Error::required(path, ONE)),
        1 => {}
        _ => errors.push(Error::invalid(path, format!("{{{}}}", held.join(", ")), ONE)),
    }
    errors
}

/// Conditions that must come before a pod is bound, and those that mean that it cannot be.
pub(super) fn binding_conditions(holder: &Value, path: &Path) -> Vec<Error> {
    let (wanted, failed) = ("bindingConditions", "bindingFailureConditions");
    let mut errors = Vec::new();
    for field in [wanted, failed] {
        let list = tree::list(holder, field);
        errors.extend(items(list, MAX_BINDING_CONDITIONS, &path.child(field), |name, path| {
            validate::label_name(name.as_str().unwrap_or_default(), path)
        }));
    }
    let (conditions, failures) = (tree::strings(holder, wanted), tree::strings(holder, failed));
    for (index, name) in conditions.iter().enumerate() {
        if conditions[..index].contains(name) {
            errors.push(Error::duplicate(&path.child(wanted).index(index), *name));
        }
    }
    for (index, name) in failures.iter().enumerate() {
        let path = path.child(failed).index(index);
        if failures[..index].contains(name) {
            errors.push(Error::duplicate(&path, *name));
        }
        if conditions.contains(name) {
            let detail = "bindingFailureConditions must not overlap with bindingConditions";
            errors.push(Error::invalid(&path, *name, detail));
        }
    }
    for (one, other, list) in [(wanted, failed, &conditions), (failed, wanted, &failures)] {
        let other_is_empty = tree::list(holder, other).is_empty();
        if list.is_empty() && !other_is_empty {
            let detail = format!("{one} are required to use {other}");
            errors.push(Error::invalid(&path.child(one), list.clone(), detail));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(device: Value, per_device: bool) -> Vec<String> {
        let errors = self::device(&device, None, per_device, &Path::new("d"));
        errors.into_iter().map(|error| error.field).collect()
    }

    #[test]
    fn devices_are_described() {
        let good = json!({"name": "gpu-0", "attributes": {"model": {"string": "x"}, "a.io/version": {"version": "1.2.3-rc.1+b"}},
            "capacity": {"memory": {"value": "1Gi"}}, "taints": [{"key": "a", "effect": "NoSchedule"}],
            "consumesCounters": [{"counterSet": "s", "counters": {"c": {"value": "1"}}}]});
        assert_eq!(fields(good, false), Vec::<String>::new());
        let bad = json!({"name": "A", "attributes": {"model": {}, "two": {"int": 1, "bool": true}, "v": {"version": "01.2.3"}},
            "consumesCounters": [{}], "nodeName": "n", "bindingFailureConditions": ["a"]});
        assert_eq!(
            fields(bad, false),
            [
                "d.name",
                "d.attributes[model]",
                "d.attributes[two]",
                "d.attributes[v].version",
                "d.consumesCounters[0].counterSet",
                "d.consumesCounters[0].counters",
                "d",
                "d.bindingConditions",
            ]
        );
        assert_eq!(fields(json!({"name": "a"}), true), ["d"]);
        assert_eq!(
            fields(json!({"name": "a", "allNodes": true}), true),
            Vec::<String>::new()
        );
    }

    #[test]
    fn versions_are_semantic() {
        for (text, good) in [
            ("1.0.0", true),
            ("0.1.2-alpha", true),
            ("1.0.0-0", true),
            ("1.0", false),
            ("1.0.0-", false),
            ("1.0.0-01", false),
            ("v1.0.0", false),
        ] {
            assert_eq!(is_semver(text), good, "{text}");
        }
    }
}
