//! Where a pod may run: selectors, affinity, tolerations, spreading.

use api::field::{Error, Path};
use api::{Value, validate};

use crate::{checks, tree};

/// Effects of taints, in upstream's order.
pub const TAINT_EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// `affinity` of a pod.
pub fn affinity(spec: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let (required, preferred) = (
        "requiredDuringSchedulingIgnoredDuringExecution",
        "preferredDuringSchedulingIgnoredDuringExecution",
    );
    let path = path.child("affinity");
    if let Some(nodes) = tree::at(spec, "affinity.nodeAffinity") {
        let path = path.child("nodeAffinity");
        if let Some(selector) = tree::at(nodes, required) {
            errors.extend(node_selector(selector, &path.child(required)));
        }
        for (index, term) in tree::list(nodes, preferred).iter().enumerate() {
            let path = path.child(preferred).index(index);
            errors.extend(weight(term, &path));
            if let Some(preference) = tree::at(term, "preference") {
                let path = path.child("preference");
                errors.extend(node_selector_term(preference, Values::Any, &path));
            }
        }
    }
    for name in ["podAffinity", "podAntiAffinity"] {
        let Some(pods) = tree::at(spec, &format!("affinity.{name}")) else {
            continue;
        };
        let path = path.child(name);
        for (index, term) in tree::list(pods, required).iter().enumerate() {
            errors.extend(pod_affinity_term(term, &path.child(required).index(index)));
        }
        for (index, term) in tree::list(pods, preferred).iter().enumerate() {
            let path = path.child(preferred).index(index);
            errors.extend(weight(term, &path));
            let term = tree::at(term, "podAffinityTerm").unwrap_or(&Value::Null);
            errors.extend(pod_affinity_term(term, &path.child("podAffinityTerm")));
        }
    }
    errors
}

fn weight(term: &Value, path: &Path) -> Vec<Error> {
    match tree::count(term, "weight") {
        1..=100 => Vec::new(),
        weight => vec![Error::invalid(
            &path.child("weight"),
            weight,
            "must be in the range 1-100",
        )],
    }
}

/// Whether the values of a requirement must be such as labels can have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Values {
    /// They must.
    Checked,
    /// A preference may name what no node has.
    Any,
}

/// A node selector: at least one term.
pub fn node_selector(selector: &Value, path: &Path) -> Vec<Error> {
    let terms = tree::list(selector, "nodeSelectorTerms");
    let path = path.child("nodeSelectorTerms");
    if terms.is_empty() {
        return vec![Error::required(&path, "must have at least one node selector term")];
    }
    let errors = terms
        .iter()
        .enumerate()
        .map(|(index, term)| node_selector_term(term, Values::Checked, &path.index(index)));
    errors.flatten().collect()
}

fn node_selector_term(term: &Value, check: Values, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (index, requirement) in tree::list(term, "matchExpressions").iter().enumerate() {
        let path = path.child("matchExpressions").index(index);
        errors.extend(node_label(requirement, check, &path));
    }
    for (index, requirement) in tree::list(term, "matchFields").iter().enumerate() {
        errors.extend(node_field(requirement, &path.child("matchFields").index(index)));
    }
    errors
}

fn node_label(requirement: &Value, check: Values, path: &Path) -> Vec<Error> {
    let values = tree::list(requirement, "values");
    let values_path = path.child("values");
    let mut errors = match tree::text(requirement, "operator") {
        "In" | "NotIn" if values.is_empty() => {
            vec![Error::required(
                &values_path,
                "must be specified when `operator` is 'In' or 'NotIn'",
            )]
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            vec![Error::forbidden(&values_path, detail)]
        }
        "Gt" | "Lt" if values.len() != 1 => {
            let detail = "must be specified single value when `operator` is 'Lt' or 'Gt'";
            vec![Error::required(&values_path, detail)]
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => Vec::new(),
        other => vec![Error::invalid(
            &path.child("operator"),
            other,
            "not a valid selector operator",
        )],
    };
    errors.extend(validate::label_name(tree::text(requirement, "key"), &path.child("key")));
    if check == Values::Checked {
        for (index, value) in tree::strings(requirement, "values").into_iter().enumerate() {
            let path = values_path.index(index);
            errors.extend(checks::invalid_each(&path, value, validate::label_value(value)));
        }
    }
    errors
}

fn node_field(requirement: &Value, path: &Path) -> Vec<Error> {
    let values = tree::strings(requirement, "values");
    let mut errors = match tree::text(requirement, "operator") {
        "In" | "NotIn" if values.len() != 1 => {
            let detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
            vec![Error::required(&path.child("values"), detail)]
        }
        "In" | "NotIn" => Vec::new(),
        other => vec![Error::invalid(
            &path.child("operator"),
            other,
            "not a valid selector operator",
        )],
    };
    match tree::text(requirement, "key") {
        "metadata.name" => {
            for (index, value) in values.into_iter().enumerate() {
                errors.extend(checks::dns_subdomain(value, &path.child("values").index(index)));
            }
        }
        key => errors.push(Error::invalid(
            &path.child("key"),
            key,
            "not a valid field selector key",
        )),
    }
    errors
}

fn pod_affinity_term(term: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for name in ["labelSelector", "namespaceSelector"] {
        if let Some(selector) = tree::at(term, name) {
            errors.extend(validate::label_selector(selector, &path.child(name)));
        }
    }
    for name in tree::strings(term, "namespaces") {
        errors.extend(checks::dns_label(name, &path.child("namespace")));
    }
    errors.extend(label_keys(term, path));
    let key = tree::text(term, "topologyKey");
    if key.is_empty() {
        errors.push(Error::required(&path.child("topologyKey"), "can not be empty"));
    }
    errors.extend(validate::label_name(key, &path.child("topologyKey")));
    errors
}

/// Labels of the pod whose values narrow a selector
/// (`ValidateMatchLabelKeysAndMismatchLabelKeys`). The selector has the expressions that were made
/// of the keys by now, so that only a further mention of a key is the client's.
fn label_keys(holder: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let selector = tree::at(holder, "labelSelector");
    for field in ["matchLabelKeys", "mismatchLabelKeys"] {
        let (keys, path) = (tree::strings(holder, field), path.child(field));
        if !keys.is_empty() && selector.is_none() {
            let detail = "must not be specified when labelSelector is not set";
            errors.push(Error::forbidden(&path, detail));
            continue;
        }
        for (index, key) in keys.into_iter().enumerate() {
            errors.extend(validate::label_name(key, &path.index(index)));
        }
    }
    let keys = tree::strings(holder, "matchLabelKeys");
    if let Some(selector) = selector {
        let labels = tree::entries(selector, "matchLabels").map(|(key, _)| key);
        let mut mentioned: Vec<&str> = labels.collect();
        for expression in tree::list(selector, "matchExpressions") {
            let key = tree::text(expression, "key");
            if let Some(index) = keys.iter().position(|other| *other == key)
                && mentioned.contains(&key)
            {
                let detail = "exists in both matchLabelKeys and labelSelector";
                errors.push(Error::invalid(&path.index(index), key, detail));
            }
            mentioned.push(key);
        }
    }
    let mismatch = tree::strings(holder, "mismatchLabelKeys");
    for (index, key) in keys.iter().enumerate().filter(|(_, key)| mismatch.contains(key)) {
        let detail = "exists in both matchLabelKeys and mismatchLabelKeys";
        errors.push(Error::invalid(&path.child("matchLabelKeys").index(index), *key, detail));
    }
    errors
}

/// `tolerations` of a pod or runtime class.
pub fn tolerations(list: &[Value], path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (index, toleration) in list.iter().enumerate() {
        let path = path.index(index);
        let text = |name| tree::text(toleration, name);
        let (key, operator, value, effect) = (text("key"), text("operator"), text("value"), text("effect"));
        let operator_path = path.child("operator");
        if !key.is_empty() {
            errors.extend(validate::label_name(key, &path.child("key")));
        } else if operator != "Exists" {
            let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(Error::invalid(&operator_path, operator, detail));
        }
        if tree::at(toleration, "tolerationSeconds").is_some() && effect != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(Error::invalid(&path.child("effect"), effect, detail));
        }
        match operator {
            "" | "Equal" => {
                let messages = validate::label_value(value);
                if !messages.is_empty() {
                    errors.push(Error::invalid(&operator_path, value, messages.join(";")));
                }
            }
            "Exists" if !value.is_empty() => {
                let detail = "value must be empty when `operator` is 'Exists'";
                errors.push(Error::invalid(&operator_path, value, detail));
            }
            "Exists" => {}
            other => errors.push(Error::not_supported(&operator_path, other, &["Equal", "Exists"])),
        }
        if !effect.is_empty() && !TAINT_EFFECTS.contains(&effect) {
            errors.push(Error::not_supported(&path.child("effect"), effect, TAINT_EFFECTS));
        }
    }
    errors
}

/// `topologySpreadConstraints` of a pod.
pub fn spread_constraints(spec: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let list = tree::list(spec, "topologySpreadConstraints");
    for (index, constraint) in list.iter().enumerate() {
        let path = path.child("topologySpreadConstraints").index(index);
        let (key, action) = (
            tree::text(constraint, "topologyKey"),
            tree::text(constraint, "whenUnsatisfiable"),
        );
        let skew = tree::count(constraint, "maxSkew");
        if skew <= 0 {
            errors.push(Error::invalid(
                &path.child("maxSkew"),
                skew,
                "must be greater than zero",
            ));
        }
        if key.is_empty() {
            errors.push(Error::required(&path.child("topologyKey"), "can not be empty"));
        }
        if !matches!(action, "DoNotSchedule" | "ScheduleAnyway") {
            let known = &["DoNotSchedule", "ScheduleAnyway"];
            errors.push(Error::not_supported(&path.child("whenUnsatisfiable"), action, known));
        }
        let same =
            |other: &Value| tree::text(other, "topologyKey") == key && tree::text(other, "whenUnsatisfiable") == action;
        if list[index + 1..].iter().any(same) {
            let path = path.child("{topologyKey, whenUnsatisfiable}");
            errors.push(Error::duplicate(&path, format!("{{{key}, {action}}}")));
        }
        if let Some(domains) = tree::int(constraint, "minDomains") {
            let path = path.child("minDomains");
            if domains <= 0 {
                errors.push(Error::invalid(&path, domains, "must be greater than zero"));
            }
            if action != "DoNotSchedule" {
                let detail = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
                errors.push(Error::invalid(&path, domains, detail));
            }
        }
        for name in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            let value = tree::text_opt(constraint, name);
            errors.extend(checks::optional_one_of(value, &["Honor", "Ignore"], &path.child(name)));
        }
        errors.extend(label_keys(constraint, &path));
        if let Some(selector) = tree::at(constraint, "labelSelector") {
            errors.extend(validate::label_selector(selector, &path.child("labelSelector")));
        }
    }
    errors
}
