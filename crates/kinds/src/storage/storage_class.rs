//! `storageclasses`.

use std::collections::{BTreeMap, BTreeSet};

use api::field::{Error, Path};
use api::{Value, meta, validate};
use apiserver::Kind;
use apiserver::kind::Column;

use crate::{cells, checks, tree};

const DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";

pub(crate) fn kind() -> Kind {
    Kind::cluster("storage.k8s.io", "v1", "StorageClass", "storageclasses")
        .short_names(&["sc"])
        .returns_deleted_object()
        .default(|class| {
            tree::fill_absent(class, "reclaimPolicy", "Delete");
            tree::fill_absent(class, "volumeBindingMode", "Immediate");
        })
        .validate(class)
        .validate_update(changes)
        .table(
            vec![
                Column::name(),
                Column::string("Provisioner", "Who makes the volumes."),
                Column::string("ReclaimPolicy", "What becomes of released volumes."),
                Column::string("VolumeBindingMode", "When volumes are made."),
                Column::string("AllowVolumeExpansion", "Whether volumes can grow."),
                Column::age(),
            ],
            |class, now| {
                let is_default = meta::annotation(class, DEFAULT) == Some("true");
                let suffix = if is_default { " (default)" } else { "" };
                vec![
                    format!("{}{suffix}", meta::name(class)).into(),
                    tree::text(class, "provisioner").into(),
                    cells::or(tree::text(class, "reclaimPolicy"), "Delete"),
                    cells::or(tree::text(class, "volumeBindingMode"), "Immediate"),
                    tree::flag(class, "allowVolumeExpansion").into(),
                    cells::age(class, now),
                ]
            },
        )
}

/// The most parameters, and their size.
const MAX_PARAMETERS: usize = 512;
const MAX_PARAMETER_BYTES: usize = 256 * 1024;

/// Whether parameters may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parameters {
    Optional,
    Needed,
}

fn class(class: &Value) -> Vec<Error> {
    let mut errors = provisioner(tree::text(class, "provisioner"), &Path::new("provisioner"));
    errors.extend(parameters(class, Parameters::Optional, &Path::new("parameters")));
    let policy = tree::text(class, "reclaimPolicy");
    let known = &["Delete", "Retain"];
    if !policy.is_empty() && !known.contains(&policy) {
        errors.push(Error::not_supported(&Path::new("reclaimPolicy"), policy, known));
    }
    let (mode, path) = (
        tree::text_opt(class, "volumeBindingMode"),
        Path::new("volumeBindingMode"),
    );
    match mode {
        None => errors.push(Error::required(&path, "")),
        mode => errors.extend(checks::optional_one_of(
            mode,
            &["Immediate", "WaitForFirstConsumer"],
            &path,
        )),
    }
    errors.extend(topologies(class, &Path::new("allowedTopologies")));
    errors
}

/// The name of a driver, in any case.
pub(super) fn provisioner(name: &str, path: &Path) -> Vec<Error> {
    if name.is_empty() {
        return vec![Error::required(path, "")];
    }
    checks::qualified_name(&name.to_lowercase(), path)
}

/// What a driver is given.
pub(super) fn parameters(class: &Value, need: Parameters, path: &Path) -> Vec<Error> {
    let count = cells::size(tree::map(class, "parameters")) as usize;
    if count > MAX_PARAMETERS {
        return vec![Error::too_long(path, MAX_PARAMETERS)];
    }
    let mut errors = Vec::new();
    let mut bytes = 0;
    for (key, value) in tree::entries(class, "parameters") {
        if key.is_empty() {
            errors.push(Error::invalid(path, key, "field can not be empty."));
        }
        bytes += key.len() + value.as_str().map_or(0, str::len);
    }
    if bytes > MAX_PARAMETER_BYTES {
        errors.push(Error::too_long(path, MAX_PARAMETER_BYTES));
    }
    if need == Parameters::Needed && count == 0 {
        errors.push(Error::required(path, "must contain at least one key/value pair"));
    }
    errors
}

fn topologies(class: &Value, path: &Path) -> Vec<Error> {
    let terms = tree::list(class, "allowedTopologies");
    let mut errors = Vec::new();
    // Upstream compares with as many empty terms as there are terms, too.
    let mut seen: Vec<BTreeMap<&str, BTreeSet<&str>>> = vec![BTreeMap::new(); terms.len()];
    for (index, term) in terms.iter().enumerate() {
        let path = path.index(index).child("matchLabelExpressions");
        let expressions = tree::list(term, "matchLabelExpressions");
        let mut labels: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (index, expression) in expressions.iter().enumerate() {
            let (path, key) = (path.index(index), tree::text(expression, "key"));
            let values = tree::strings(expression, "values");
            if values.is_empty() {
                errors.push(Error::required(&path.child("values"), ""));
            }
            for (index, value) in values.iter().enumerate() {
                if values[..index].contains(value) {
                    errors.push(Error::duplicate(&path.child("values").index(index), *value));
                }
            }
            errors.extend(validate::label_name(key, &path.child("key")));
            if labels.insert(key, values.into_iter().collect()).is_some() {
                errors.push(Error::duplicate(&path.child("key"), key));
            }
        }
        for _ in seen.iter().filter(|other| **other == labels) {
            errors.push(Error::duplicate(&path, ""));
        }
        seen.push(labels);
    }
    errors
}

/// What may not change.
fn changes(new: &Value, old: &Value) -> Vec<Error> {
    let mut errors = class(new);
    for field in ["parameters", "provisioner", "reclaimPolicy"] {
        if !tree::same(new.get(field), old.get(field)) {
            let detail = format!("updates to {field} are forbidden.");
            errors.push(Error::forbidden(&Path::new(field), detail));
        }
    }
    let field = "volumeBindingMode";
    errors.extend(checks::immutable(new, old, field, &Path::new(field)));
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
    fn classes_are_checked_and_mostly_fixed() {
        let good = json!({"provisioner": "A.io/x", "reclaimPolicy": "Delete", "volumeBindingMode": "Immediate",
            "allowedTopologies": [{"matchLabelExpressions": [{"key": "zone", "values": ["a", "b"]}]}]});
        assert_eq!(class(&good), []);
        let bad = json!({"reclaimPolicy": "Recycle", "parameters": {"": "x"}, "allowedTopologies": [
            {"matchLabelExpressions": [{"key": "zone", "values": ["a", "a"]}, {"key": "zone", "values": []}]}, {}]});
        assert_eq!(
            fields(class(&bad)),
            [
                "provisioner",
                "parameters",
                "reclaimPolicy",
                "volumeBindingMode",
                "allowedTopologies[0].matchLabelExpressions[0].values[1]",
                "allowedTopologies[0].matchLabelExpressions[1].values",
                "allowedTopologies[0].matchLabelExpressions[1].key",
                "allowedTopologies[1].matchLabelExpressions",
                "allowedTopologies[1].matchLabelExpressions",
            ]
        );
        let mut other = good.clone();
        other["volumeBindingMode"] = "WaitForFirstConsumer".into();
        other["provisioner"] = "b".into();
        assert_eq!(fields(changes(&other, &good)), ["provisioner", "volumeBindingMode"]);
    }
}
