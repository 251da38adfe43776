//! `nodes`.

use std::collections::BTreeSet;

use api::field::{Error, Path};
use api::{Value, meta, validate};
use apiserver::Kind;
use apiserver::kind::{Column, Connect, SelectableField, Subresource};
use jiff::Timestamp;

use crate::pod_spec::{resources, scheduling};
use crate::{cells, checks, tree};

pub(crate) fn kind() -> Kind {
    Kind::cluster("", "v1", "Node", "nodes")
        .short_names(&["no"])
        .default(|node| {
            if let Some(status) = tree::at_mut(node, "status")
                && tree::at(status, "allocatable").is_none()
                && let Some(capacity) = tree::at(status, "capacity").cloned()
            {
                tree::set(status, "allocatable", capacity);
            }
            one_range_first(node);
        })
        .keeps_status_on_create()
        .prepare_create(|_, node| {
            drop_config(node, "spec", "configSource");
            drop_config(node, "spec", "podPreemptionPolicy");
            drop_config(node, "status", "config");
        })
        .prepare_update(|_, new, old| {
            for field in ["configSource", "podPreemptionPolicy"] {
                if tree::at(old, &format!("spec.{field}")).is_none() {
                    drop_config(new, "spec", field);
                }
            }
        })
        .warnings(|new, _| {
            let mut all = Vec::new();
            if tree::at(new, "spec.configSource").is_some() {
                all.push("spec.configSource: the feature is removed".to_owned());
            }
            if !tree::text(new, "spec.externalID").is_empty() {
                all.push("spec.externalID: this field is deprecated, and is unused by Kubernetes".to_owned());
            }
            all
        })
        .validate(node)
        .validate_update(|new, old| {
            let mut errors = node(new);
            errors.extend(changes(new, old));
            errors
        })
        .subresource(
            Subresource::status()
                .prepare(|_, new, old| {
                    tree::keep(new, old, "spec");
                    if tree::at(old, "status.config").is_none() {
                        drop_config(new, "status", "config");
                    }
                })
                .validate(changes),
        )
        .subresource(Subresource::connect(Connect::NodeProxy))
        .selectable(SelectableField::path_or("spec.unschedulable", "false"))
        .table(columns(), row)
}

fn columns() -> Vec<Column> {
    vec![
        Column::name(),
        Column::string("Status", "Whether the node is ready and takes new pods."),
        Column::string("Roles", "Roles named by the node's labels."),
        Column::age(),
        Column::string("Version", "Version of the node agent."),
        Column::string("Internal-IP", "First address inside the cluster.").wide(),
        Column::string("External-IP", "First address outside the cluster.").wide(),
        Column::string("OS-Image", "Operating system.").wide(),
        Column::string("Kernel-Version", "Version of the kernel.").wide(),
        Column::string("Container-Runtime", "Name and version of the container runtime.").wide(),
    ]
}

fn row(node: &Value, now: Timestamp) -> Vec<Value> {
    let conditions = tree::list(node, "status.conditions");
    let ready = conditions
        .iter()
        .rev()
        .find(|condition| tree::text(condition, "type") == "Ready");
    let mut status = match ready.map(|condition| tree::text(condition, "status")) {
        Some("True") => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if tree::flag(node, "spec.unschedulable") {
        status.push_str(",SchedulingDisabled");
    }
    let address = |kind| {
        let addresses = tree::list(node, "status.addresses");
        let address = addresses.iter().find(|address| tree::text(address, "type") == kind);
        cells::or(address.map_or("", |address| tree::text(address, "address")), "<none>")
    };
    let info = |field: &str| tree::text(node, &format!("status.nodeInfo.{field}")).to_owned();
    vec![
        cells::name(node),
        status.into(),
        cells::or(&roles(node), "<none>"),
        cells::age(node, now),
        info("kubeletVersion").into(),
        address("InternalIP"),
        address("ExternalIP"),
        cells::or(&info("osImage"), "<unknown>"),
        cells::or(&info("kernelVersion"), "<unknown>"),
        cells::or(&info("containerRuntimeVersion"), "<unknown>"),
    ]
}

fn roles(node: &Value) -> String {
    let labels = meta::labels(node);
    let roles: BTreeSet<&str> = labels
        .iter()
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => Some(role),
            None if key == "kubernetes.io/role" => Some(value.as_str()),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.into_iter().collect::<Vec<_>>().join(",")
}

/// `podCIDR` is the first of `podCIDRs`; where they differ it counts, for old clients know no list
/// (`Convert_v1_NodeSpec_To_core_NodeSpec`).
fn one_range_first(node: &mut Value) {
    let Some(spec) = tree::at_mut(node, "spec") else { return };
    let first = tree::strings(spec, "podCIDRs").first().map(|range| (*range).to_owned());
    let alone = tree::text(spec, "podCIDR").to_owned();
    match first {
        Some(first) if alone.is_empty() => tree::set(spec, "podCIDR", first),
        first if !alone.is_empty() && first.as_ref() != Some(&alone) => tree::set(spec, "podCIDRs", vec![alone]),
        _ => {}
    }
}

/// Configuration by ConfigMaps is gone; its fields stay where they are.
fn drop_config(node: &mut Value, part: &str, field: &str) {
    if let Some(part) = tree::at_mut(node, part) {
        tree::unset(part, field);
    }
}

fn node(node: &Value) -> Vec<Error> {
    // Upstream names the paths of taints and swap so.
    let metadata = Path::new("metadata");
    let mut errors = taints(node, &metadata.child("taints"));
    errors.extend(amounts(node));
    if let Some(capacity) = tree::int(node, "status.nodeInfo.swap.capacity")
        && capacity <= 0
    {
        let path = metadata.child("nodeSwapStatus").child("capacity");
        errors.push(Error::invalid(&path, capacity, "must be greater than zero"));
    }
    errors.extend(declared_features(node));
    let path = Path::new("spec").child("podCIDRs");
    let ranges = tree::strings(node, "spec.podCIDRs");
    for (index, range) in ranges.iter().enumerate() {
        errors.extend(validate::legacy_cidr(&path.index(index), range));
    }
    if ranges.len() > 1 && (ranges.len() > 2 || !checks::is_dual_stack(&ranges)) {
        let detail = "may specify no more than one CIDR for each IP family";
        errors.push(Error::invalid(&path, ranges.clone(), detail));
    }
    for (index, range) in ranges
        .iter()
        .enumerate()
        .filter(|(index, range)| ranges[..*index].contains(range))
    {
        errors.push(Error::duplicate(&path.index(index), *range));
    }
    errors
}

/// Names of features in UpperCamelCase segments, sorted and each once.
fn declared_features(node: &Value) -> Vec<Error> {
    let path = Path::new("status").child("declaredFeatures");
    let features = tree::strings(node, "status.declaredFeatures");
    let mut errors = Vec::new();
    for (index, feature) in features.iter().enumerate() {
        let quoted = api::field::go_quote(feature);
        let mut segments = feature.split('/');
        let upper = segments.next().is_some_and(|first| {
            first.starts_with(|c: char| c.is_ascii_uppercase()) && first.chars().all(|c| c.is_ascii_alphanumeric())
        });
        let rest = segments.all(|segment| !segment.is_empty() && segment.chars().all(|c| c.is_ascii_alphanumeric()));
        let detail = if feature.len() > 253 {
            Some(format!(
                "invalid feature name {quoted}: must be no more than 253 characters"
            ))
        } else if !upper || !rest {
            Some(format!(
                "invalid feature name {quoted}: must start with an UpperCamelCase segment, with subsequent segments separated by '/' (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric characters and slashes"
            ))
        } else {
            None
        };
        errors.extend(detail.map(|detail| Error::invalid(&path.index(index), *feature, detail)));
        match features.get(index + 1) {
            Some(next) if next == feature => errors.push(Error::duplicate(&path.index(index + 1), *next)),
            Some(next) if feature > next => {
                let detail = "list must be sorted alphabetically";
                errors.push(Error::invalid(&path.index(index + 1), *next, detail));
            }
            _ => {}
        }
    }
    errors
}

fn amounts(node: &Value) -> Vec<Error> {
    let mut errors = Vec::new();
    for list in ["capacity", "allocatable"] {
        for (name, value) in tree::entries(node, &format!("status.{list}")) {
            let path = Path::new("status").child(list).child(name);
            errors.extend(resources::quantity_value(name, value, &path));
        }
    }
    errors
}

/// What an update may not change (`ValidateNodeUpdate`).
fn changes(new: &Value, old: &Value) -> Vec<Error> {
    let mut errors = amounts(new);
    errors.extend(declared_features(new));
    let addresses = tree::list(new, "status.addresses");
    for (index, address) in addresses.iter().enumerate() {
        if addresses[..index].contains(address) {
            let path = Path::new("status").child("addresses").index(index);
            let shown = checks::go_struct(address, &["Type=type", "Address=address"]);
            errors.push(Error::duplicate(&path, address.clone()).showing(shown));
        }
    }
    let path = Path::new("spec");
    let cleared = "field cannot be cleared once set";
    let (after, before) = (tree::list(new, "spec.podCIDRs"), tree::list(old, "spec.podCIDRs"));
    if !before.is_empty() && after.is_empty() {
        errors.push(Error::invalid(&path.child("podCIDRs"), Value::Null, cleared));
    } else if !before.is_empty() && before != after {
        let detail = "node updates may not change podCIDR except from \"\" to valid";
        errors.push(Error::forbidden(&path.child("podCIDRs"), detail));
    }
    let text = |node, field: &str| tree::text(node, &format!("spec.{field}")).to_owned();
    let (after, before) = (text(new, "providerID"), text(old, "providerID"));
    if !before.is_empty() && before != after {
        let detail = match after.is_empty() {
            true => cleared,
            false => "field cannot be modified once set",
        };
        errors.push(Error::invalid(&path.child("providerID"), Value::Null, detail));
    }
    errors.extend(taints(new, &Path::new("metadata").child("taints")));
    if text(new, "externalID") != text(old, "externalID") {
        errors.push(Error::forbidden(&path.child("externalID"), "may not be updated"));
    }
    errors
}

fn taints(node: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let taints = tree::list(node, "spec.taints");
    for (index, taint) in taints.iter().enumerate() {
        let path = path.index(index);
        errors.extend(validate::label_name(tree::text(taint, "key"), &path.child("key")));
        let messages = validate::label_value(tree::text(taint, "value"));
        if !messages.is_empty() {
            let value = tree::text(taint, "value");
            errors.push(Error::invalid(&path.child("value"), value, messages.join(";")));
        }
        errors.extend(checks::one_of(
            tree::text(taint, "effect"),
            scheduling::TAINT_EFFECTS,
            &path.child("effect"),
        ));
        let same = |other: &Value| {
            ["key", "effect"]
                .iter()
                .all(|field| tree::text(other, field) == tree::text(taint, field))
        };
        if taints[..index].iter().any(same) {
            let shown = checks::go_struct(
                taint,
                &["Key=key", "Value=value", "Effect=effect", "TimeAdded?timeAdded"],
            );
            let mut error = Error::duplicate(&path, taint.clone()).showing(shown);
            error.detail = "taints must be unique by key and effect pair".to_owned();
            errors.push(error);
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rows_tell_readiness_and_roles() {
        let object = json!({
            "metadata": {"name": "n", "labels": {"node-role.kubernetes.io/control-plane": "", "kubernetes.io/role": "x"}},
            "spec": {"unschedulable": true},
            "status": {"conditions": [{"type": "Ready", "status": "True"}],
                "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
                "nodeInfo": {"kubeletVersion": "v1.37.0"}},
        });
        let row = row(&object, Timestamp::UNIX_EPOCH);
        assert_eq!(row[1], "Ready,SchedulingDisabled");
        assert_eq!(row[2], "control-plane,x");
        assert_eq!(
            (&row[4], &row[5], &row[6], &row[7]),
            (
                &json!("v1.37.0"),
                &json!("10.0.0.1"),
                &json!("<none>"),
                &json!("<unknown>")
            )
        );
        assert_eq!(columns().len(), row.len());
    }

    #[test]
    fn nodes_are_checked() {
        let object = json!({
            "spec": {"podCIDRs": ["10.0.0.0/24", "10.0.1.0/24"], "taints": [
                {"key": "a b", "effect": "NoSchedule"}, {"key": "k", "effect": ""},
                {"key": "z", "effect": "NoExecute"}, {"key": "z", "effect": "NoExecute", "value": "-"},
            ]},
            "status": {"capacity": {"cpu": "-1", "pods": "1.5"}},
        });
        let errors = node(&object);
        let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "metadata.taints[0].key",
                "metadata.taints[1].effect",
                "metadata.taints[3].value",
                "metadata.taints[3]",
                "status.capacity.cpu",
                "status.capacity.pods",
                "spec.podCIDRs",
            ]
        );
        let old = json!({"spec": {"podCIDRs": ["10.0.0.0/24"], "providerID": "a"}});
        assert_eq!(changes(&json!({"spec": {}}), &old).len(), 2);
    }
}
