//! `resourceslices`.

use api::Value;
use api::field::{Error, Path};
use apiserver::Kind;
use apiserver::kind::{Column, SelectableField};

use super::{GROUP, device, names, set, text_key};
use crate::pod_spec::scheduling;
use crate::{cells, checks, tree};

const MAX_DEVICES: usize = 128;
/// Of devices with taints, or that consume counters.
const MAX_RICH_DEVICES: usize = 64;
const MAX_COUNTER_SETS: usize = 8;

pub(crate) fn kind() -> Kind {
    Kind::cluster(GROUP, "v1", "ResourceSlice", "resourceslices")
        .returns_deleted_object()
        .with_generation()
        .selectable(SelectableField::path("spec.nodeName"))
        .selectable(SelectableField::path("spec.driver"))
        .prepare_create(|context, slice| stamp(slice, None, &api::time::format(context.now)))
        .prepare_update(|context, new, old| stamp(new, Some(old), &api::time::format(context.now)))
        .validate(|new| slice(new, None))
        .validate_update(|new, old| slice(new, Some(old)))
        .table(
            vec![
                Column::name(),
                Column::string("Node", "The node of the devices."),
                Column::string("Driver", "The driver of the devices."),
                Column::string("Pool", "The pool of the devices."),
                Column::age(),
            ],
            |slice, now| {
                // Upstream's cell is the pointer itself: nothing where there is no name.
                let node = tree::text_opt(slice, "spec.nodeName");
                vec![
                    cells::name(slice),
                    node.map_or(Value::Null, Value::from),
                    tree::text(slice, "spec.driver").into(),
                    tree::text(slice, "spec.pool.name").into(),
                    cells::age(slice, now),
                ]
            },
        )
}

/// Gives new taints their time; a taint whose effect changed is a new one.
fn stamp(new: &mut Value, old: Option<&Value>, now: &str) {
    for device in tree::items_mut(new, "spec.devices") {
        let before = old.and_then(|old| stored(old, tree::text(device, "name")));
        for taint in tree::items_mut(device, "taints") {
            let same = |other: &&Value| {
                let fields = ["key", "value", "effect"];
                fields
                    .iter()
                    .all(|field| tree::text(other, field) == tree::text(taint, field))
            };
            let kept = before.and_then(|before| tree::list(before, "taints").iter().find(same));
            let at = kept.map_or(now, |other| tree::text(other, "timeAdded")).to_owned();
            tree::fill(taint, "timeAdded", at);
        }
    }
}

/// The stored device of a name.
fn stored<'v>(slice: &'v Value, name: &str) -> Option<&'v Value> {
    let mut devices = tree::list(slice, "spec.devices").iter();
    devices.find(|device| tree::text(device, "name") == name)
}

fn slice(new: &Value, old: Option<&Value>) -> Vec<Error> {
    let path = Path::new("spec");
    let mut errors = names::driver(tree::text(new, "spec.driver"), &path.child("driver"));
    errors.extend(pool(new, &path.child("pool")));
    if let Some(old) = old {
        for field in ["pool.name", "driver", "nodeName"] {
            let at = format!("spec.{field}");
            errors.extend(checks::immutable(new, old, &at, &Path::new(&at)));
        }
    }
    errors.extend(nodes(new, &path));
    let devices = tree::list(new, "spec.devices");
    let counters = tree::at(new, "spec.sharedCounters");
    if counters.is_some() && tree::at(new, "spec.devices").is_some() {
        let detail = "only one of `sharedCounters` or `devices` is allowed";
        errors.push(Error::invalid(&path, "", detail));
    }
    let is_rich = |device: &Value| {
        let lists = ["taints", "consumesCounters"];
        lists.iter().any(|list| !tree::list(device, list).is_empty())
    };
    let most = if devices.iter().any(is_rich) {
        MAX_RICH_DEVICES
    } else {
        MAX_DEVICES
    };
    let per_device = tree::flag(new, "spec.perDeviceNodeSelection");
    errors.extend(set(
        devices,
        most,
        &path.child("devices"),
        text_key("name"),
        |device, path| {
            let before = old.and_then(|old| stored(old, tree::text(device, "name")));
            self::device::device(device, before, per_device, path)
        },
    ));
    errors.extend(set(
        tree::list(new, "spec.sharedCounters"),
        MAX_COUNTER_SETS,
        &path.child("sharedCounters"),
        text_key("name"),
        |counters, path| device::counters(counters, "name", path),
    ));
    errors
}

fn pool(slice: &Value, path: &Path) -> Vec<Error> {
    let mut errors = names::pool(tree::text(slice, "spec.pool.name"), &path.child("name"));
    let slices = tree::count(slice, "spec.pool.resourceSliceCount");
    if slices <= 0 {
        let path = path.child("resourceSliceCount");
        errors.push(Error::invalid(&path, slices, "must be greater than zero"));
    }
    let generation = tree::count(slice, "spec.pool.generation");
    if generation < 0 {
        let detail = "must be greater than or equal to zero";
        errors.push(Error::invalid(&path.child("generation"), generation, detail));
    }
    errors
}

/// Which nodes can use the devices: said in exactly one way.
fn nodes(slice: &Value, path: &Path) -> Vec<Error> {
    const ONE: &str = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    let mut errors = Vec::new();
    let mut held = Vec::new();
    match tree::text_opt(slice, "spec.nodeName") {
        Some("") => {
            let detail = "must be either unset or set to a non-empty string";
            errors.push(Error::invalid(&path.child("nodeName"), "", detail));
        }
        Some(name) => {
            held.push("`nodeName`");
            errors.extend(checks::dns_subdomain(name, &path.child("nodeName")));
        }
        None => {}
    }
    if let Some(selector) = tree::at(slice, "spec.nodeSelector") {
        held.push("`nodeSelector`");
        let path = path.child("nodeSelector");
        errors.extend(scheduling::node_selector(selector, &path));
        let terms = tree::list(selector, "nodeSelectorTerms");
        if terms.len() != 1 {
            let detail = "must have exactly one node selector term";
            errors.push(Error::invalid(&path.child("nodeSelectorTerms"), terms.to_vec(), detail));
        }
    }
    for (field, shown) in [
        ("allNodes", "`allNodes`"),
        ("perDeviceNodeSelection", "`perDeviceNodeSelection`"),
    ] {
        match tree::flag_opt(slice, &format!("spec.{field}")) {
            Some(true) => held.push(shown),
            Some(false) => {
                let detail = "must be either unset or set to true";
                errors.push(Error::invalid(&path.child(field), false, detail));
            }
            None => {}
        }
    }
    match held.len() {
        0 => errors.push(Error::required(path, ONE)),
        1 => {}
        _ => {
            let detail = format!("{ONE}, but multiple fields are set");
            errors.push(Error::invalid(path, format!("{{{}}}", held.join(", ")), detail));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(errors: Vec<Error>) -> Vec<String> {
        errors.into_iter().map(|error| error.field).collect()
    }

    #[test]
    fn slices_belong_to_a_pool_of_nodes() {
        let good = json!({"spec": {"driver": "a.io", "pool": {"name": "p", "resourceSliceCount": 1}, "nodeName": "n",
            "devices": [{"name": "a"}, {"name": "b"}]}});
        assert_eq!(slice(&good, None), []);
        let bad = json!({"spec": {"pool": {"generation": -1}, "nodeName": "", "allNodes": false, "devices": [{"name": "a"}, {"name": "a"}]}});
        let found = fields(slice(&bad, None));
        assert_eq!(
            found[found.len() - 7..],
            [
                "spec.pool.name",
                "spec.pool.resourceSliceCount",
                "spec.pool.generation",
                "spec.nodeName",
                "spec.allNodes",
                "spec",
                "spec.devices[1]"
            ]
        );
        let mut moved = good.clone();
        moved["spec"]["nodeName"] = "m".into();
        assert_eq!(fields(slice(&moved, Some(&good))), ["spec.nodeName"]);
    }

    #[test]
    fn taints_keep_their_time() {
        let object =
            |effect: &str| json!({"spec": {"devices": [{"name": "a", "taints": [{"key": "k", "effect": effect}]}]}});
        let mut old = object("NoSchedule");
        stamp(&mut old, None, "2026-01-01T00:00:00Z");
        for (effect, want) in [
            ("NoSchedule", "2026-01-01T00:00:00Z"),
            ("NoExecute", "2026-01-02T00:00:00Z"),
        ] {
            let mut new = object(effect);
            stamp(&mut new, Some(&old), "2026-01-02T00:00:00Z");
            assert_eq!(new["spec"]["devices"][0]["taints"][0]["timeAdded"], want);
        }
    }
}
