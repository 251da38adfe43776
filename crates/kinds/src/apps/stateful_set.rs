//! `statefulsets`.

use api::Value;
use api::field::{Error, Path};
use apiserver::Kind;
use apiserver::kind::{Column, Subresource};
use serde_json::json;

use super::{at_most_replicas, selector, template, template_cells, with_age};
use crate::core::persistent_volume_claim;
use crate::core::pod::disabled;
use crate::pod_spec::defaults;
use crate::pod_spec::warnings::{self, Named};
use crate::{cells, checks, tree};

pub(crate) fn kind() -> Kind {
    Kind::namespaced("apps", "v1", "StatefulSet", "statefulsets")
        .short_names(&["sts"])
        .categories(&["all"])
        .with_generation()
        .default(default)
        .prepare_create(|_, object| disabled::template(object, None, "spec.template"))
        .prepare_update(|_, new, old| disabled::template(new, Some(old), "spec.template"))
        .warnings(warn)
        .validate(set)
        .validate_update(|new, old| {
            let mut errors = set(new);
            errors.extend(changes(new, old));
            errors
        })
        .subresource(Subresource::status().validate(status))
        .with_scale()
        .table(
            {
                let mut columns = vec![
                    Column::name(),
                    Column::string("Ready", "Ready pods of those wanted."),
                    Column::age(),
                ];
                columns.extend(cells::template_columns());
                columns
            },
            |object, now| {
                let count = |path| tree::count(object, path);
                let ready = format!("{}/{}", count("status.readyReplicas"), count("spec.replicas"));
                let mut cells = with_age(object, now, vec![ready.into()]);
                cells.extend(template_cells(object));
                cells
            },
        )
}

fn warn(new: &Value, old: Option<&Value>) -> Vec<String> {
    let mut all = warnings::workload(new, old, Named::No, "spec.template");
    for (index, claim) in tree::list(new, "spec.volumeClaimTemplates").iter().enumerate() {
        let path = Path::new("spec").child("volumeClaimTemplates").index(index);
        // Upstream's path differs between creates and updates.
        let path = if old.is_some() { path.child("Spec") } else { path };
        let spec = tree::at(claim, "spec").unwrap_or(&Value::Null);
        all.extend(warnings::claim_spec(spec, &path));
    }
    all
}

fn default(object: &mut Value) {
    defaults::template(object, "spec.template");
    let spec = tree::child(object, "spec");
    tree::fill(spec, "replicas", 1);
    tree::fill(spec, "revisionHistoryLimit", 10);
    tree::fill(spec, "podManagementPolicy", "OrderedReady");
    let strategy = tree::child(spec, "updateStrategy");
    if tree::is_unset(strategy, "type") {
        tree::set(strategy, "type", "RollingUpdate");
        let rolling = tree::child(strategy, "rollingUpdate");
        tree::fill(rolling, "partition", 0);
    } else if let Some(rolling) = tree::at_mut(strategy, "rollingUpdate") {
        tree::fill(rolling, "partition", 0);
    }
    let retention = tree::child(spec, "persistentVolumeClaimRetentionPolicy");
    for field in ["whenDeleted", "whenScaled"] {
        tree::fill(retention, field, "Retain");
    }
    for claim in tree::items_mut(spec, "volumeClaimTemplates") {
        tree::fill(claim, "apiVersion", "v1");
        tree::fill(claim, "kind", "PersistentVolumeClaim");
        persistent_volume_claim::defaults(claim);
    }
}

fn set(object: &Value) -> Vec<Error> {
    let path = Path::new("spec");
    let mut errors = Vec::new();
    let known = &["OrderedReady", "Parallel"];
    let policy = tree::text(object, "spec.podManagementPolicy");
    errors.extend(checks::one_of(policy, known, &path.child("podManagementPolicy")));
    errors.extend(strategy(object, &path.child("updateStrategy")));
    let retention = path.child("persistentVolumeClaimRetentionPolicy");
    for field in ["whenScaled", "whenDeleted"] {
        let value = tree::text(object, &format!("spec.persistentVolumeClaimRetentionPolicy.{field}"));
        if !matches!(value, "Retain" | "Delete") {
            errors.push(Error::not_supported(
                &retention.child(field),
                value,
                &["Retain", "Delete"],
            ));
        }
    }
    for field in ["spec.replicas", "spec.minReadySeconds", "spec.ordinals.start"] {
        errors.extend(checks::nonnegative(object, field, &Path::root()));
    }
    errors.extend(selector(object, "empty selector is invalid for statefulset"));
    errors.extend(template(object, "StatefulSet"));
    let service = tree::text(object, "spec.serviceName");
    if !service.is_empty() {
        errors.extend(checks::dns_subdomain(service, &path.child("serviceName")));
    }
    errors
}

fn strategy(object: &Value, path: &Path) -> Vec<Error> {
    let rolling = tree::at(object, "spec.updateStrategy.rollingUpdate");
    match (tree::text(object, "spec.updateStrategy.type"), rolling) {
        ("", _) => vec![Error::required(path, "")],
        ("OnDelete", Some(rolling)) => {
            let detail = "only allowed for updateStrategy 'RollingUpdate'";
            vec![Error::invalid(&path.child("rollingUpdate"), rolling.clone(), detail)]
        }
        ("OnDelete", None) | ("RollingUpdate", None) => Vec::new(),
        ("RollingUpdate", Some(rolling)) => {
            let path = path.child("rollingUpdate");
            let mut errors = checks::nonnegative(rolling, "partition", &path);
            let value = tree::at(rolling, "maxUnavailable");
            if value.is_some() {
                let path = path.child("maxUnavailable");
                errors.extend(checks::int_or_percent(value, &path));
                if checks::int_or_percent_value(value) == 0 {
                    errors.push(Error::invalid(&path, value.cloned().unwrap_or_default(), "cannot be 0"));
                }
                errors.extend(checks::at_most_100_percent(value, &path));
            }
            errors
        }
        _ => {
            let value = tree::at(object, "spec.updateStrategy")
                .cloned()
                .unwrap_or_else(|| json!({}));
            vec![Error::invalid(path, value, "must be 'RollingUpdate' or 'OnDelete'")]
        }
    }
}

const UPDATABLE: &[&str] = &[
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

fn changes(new: &Value, old: &Value) -> Vec<Error> {
    let mut after = tree::at(new, "spec").cloned().unwrap_or_default();
    let before = tree::at(old, "spec").cloned().unwrap_or_default();
    for field in UPDATABLE {
        tree::keep(&mut after, &before, field);
    }
    if tree::same(Some(&after), Some(&before)) {
        return Vec::new();
    }
    let detail = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
    vec![Error::forbidden(&Path::new("spec"), detail)]
}

fn status(new: &Value, old: &Value) -> Vec<Error> {
    let path = Path::new("status");
    let status = tree::at(new, "status").unwrap_or(&Value::Null);
    let counts = [
        "replicas",
        "readyReplicas",
        "currentReplicas",
        "updatedReplicas",
        "availableReplicas",
        "observedGeneration",
        "collisionCount",
    ];
    let mut errors = checks::all_nonnegative(status, &counts, &path);
    let parts = [
        "readyReplicas",
        "currentReplicas",
        "updatedReplicas",
        "availableReplicas",
    ];
    errors.extend(at_most_replicas(status, &parts, &path));
    let before = tree::at(old, "status").unwrap_or(&Value::Null);
    errors.extend(checks::not_decremented(status, before, "collisionCount", &path));
    errors
}
