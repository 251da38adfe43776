//! What counts as failure, and when a job has succeeded.

use std::collections::HashSet;

use api::Value;
use api::field::{Error, Path, go_quote};
use serde_json::json;

use super::indexes;
use crate::{checks, tree};

const MAX_RULES: usize = 20;
const MAX_EXIT_CODES: usize = 255;
const MAX_CONDITIONS: usize = 20;
const MAX_INDEXES: usize = 64 * 1024;
const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];
const OPERATORS: [&str; 2] = ["In", "NotIn"];
const STATUSES: [&str; 3] = ["False", "True", "Unknown"];

/// A value that must be one of these; its absence is told with them.
fn one_of(value: &str, known: &[&str], path: &Path) -> Vec<Error> {
    if value.is_empty() {
        let known: Vec<String> = known.iter().map(|known| go_quote(known)).collect();
        return vec![Error::required(path, format!("valid values: [{}]", known.join(" ")))];
    }
    checks::one_of(value, known, path)
}

pub(super) fn failure(spec: &Value, path: &Path) -> Vec<Error> {
    let rules = tree::list(spec, "podFailurePolicy.rules");
    let path = path.child("rules");
    let mut errors = Vec::new();
    if rules.len() > MAX_RULES {
        errors.push(Error::too_many(&path, rules.len(), MAX_RULES));
    }
    let mut names = HashSet::new();
    for field in ["template.spec.containers", "template.spec.initContainers"] {
        names.extend(
            tree::list(spec, field)
                .iter()
                .map(|container| tree::text(container, "name")),
        );
    }
    for (index, rule) in rules.iter().enumerate() {
        errors.extend(failure_rule(spec, rule, &path.index(index), &names));
    }
    errors
}

fn failure_rule(spec: &Value, rule: &Value, path: &Path, names: &HashSet<&str>) -> Vec<Error> {
    let action = tree::text(rule, "action");
    let action_path = path.child("action");
    let mut errors = if action == "FailIndex" {
        let set = tree::int(spec, "backoffLimitPerIndex").is_some();
        let detail = "requires the backoffLimitPerIndex to be set";
        (!set)
            .then(|| Error::invalid(&action_path, action, detail))
            .into_iter()
            .collect()
    } else {
        one_of(action, &ACTIONS, &action_path)
    };
    let codes = tree::at(rule, "onExitCodes");
    let conditions = tree::list(rule, "onPodConditions");
    if let Some(codes) = codes {
        errors.extend(exit_codes(codes, &path.child("onExitCodes"), names));
    }
    let conditions_path = path.child("onPodConditions");
    if conditions.len() > MAX_CONDITIONS {
        errors.push(Error::too_many(&conditions_path, conditions.len(), MAX_CONDITIONS));
    }
    for (index, pattern) in conditions.iter().enumerate() {
        let path = conditions_path.index(index);
        errors.extend(checks::qualified_name(tree::text(pattern, "type"), &path.child("type")));
        errors.extend(one_of(tree::text(pattern, "status"), &STATUSES, &path.child("status")));
    }
    match (codes.is_some(), conditions.is_empty()) {
        (true, false) => errors.push(checks::invalid_whole(
            path,
            "specifying both OnExitCodes and OnPodConditions is not supported",
        )),
        (false, true) => errors.push(checks::invalid_whole(
            path,
            "specifying one of OnExitCodes and OnPodConditions is required",
        )),
        _ => {}
    }
    errors
}

fn exit_codes(codes: &Value, path: &Path, names: &HashSet<&str>) -> Vec<Error> {
    let operator = tree::text(codes, "operator");
    let mut errors = one_of(operator, &OPERATORS, &path.child("operator"));
    if let Some(name) = tree::text_opt(codes, "containerName").filter(|name| !names.contains(name)) {
        let detail = "must be one of the container or initContainer names in the pod template";
        errors.push(Error::invalid(&path.child("containerName"), name, detail));
    }
    let path = path.child("values");
    let values = tree::list(codes, "values");
    if values.is_empty() {
        errors.push(Error::invalid(&path, json!([]), "at least one value is required"));
    } else if values.len() > MAX_EXIT_CODES {
        errors.push(Error::too_many(&path, values.len(), MAX_EXIT_CODES));
    }
    let numbers: Vec<i64> = values.iter().filter_map(Value::as_i64).collect();
    let mut seen = HashSet::new();
    for (index, code) in numbers.iter().enumerate() {
        let path = path.index(index);
        if operator == "In" && *code == 0 {
            errors.push(Error::invalid(&path, *code, "must not be 0 for the In operator"));
        }
        if !seen.insert(*code) {
            errors.push(Error::duplicate(&path, *code));
        }
    }
    if !numbers.is_sorted() {
        errors.push(Error::invalid(&path, values.to_vec(), "must be ordered"));
    }
    errors
}

pub(super) fn success(spec: &Value, path: &Path) -> Vec<Error> {
    let rules = tree::list(spec, "successPolicy.rules");
    let path = path.child("rules");
    let mut errors = Vec::new();
    if rules.is_empty() {
        let detail = "at least one rules must be specified when the successPolicy is specified";
        errors.push(Error::required(&path, detail));
    }
    if rules.len() > MAX_RULES {
        errors.push(Error::too_many(&path, rules.len(), MAX_RULES));
    }
    let completions = tree::count(spec, "completions");
    for (index, rule) in rules.iter().enumerate() {
        errors.extend(success_rule(rule, completions, &path.index(index)));
    }
    errors
}

fn success_rule(rule: &Value, completions: i64, path: &Path) -> Vec<Error> {
    let (list, wanted) = (
        tree::text_opt(rule, "succeededIndexes"),
        tree::int(rule, "succeededCount"),
    );
    let mut errors = Vec::new();
    if list.is_none() && wanted.is_none() {
        let detail = "at least one of succeededCount or succeededIndexes must be specified";
        errors.push(Error::required(path, detail));
    }
    let mut total = 0;
    if let Some(list) = list {
        let path = path.child("succeededIndexes");
        if list.len() > MAX_INDEXES {
            errors.push(Error::too_long(&path, MAX_INDEXES));
        }
        match indexes::count(list, completions) {
            Ok(count) => total = count,
            Err(why) => {
                let detail = format!("error parsing succeededIndexes: {why}");
                errors.push(Error::invalid(&path, list, detail));
            }
        }
    }
    if let Some(wanted) = wanted {
        errors.extend(checks::nonnegative(rule, "succeededCount", path));
        let path = path.child("succeededCount");
        if wanted > completions {
            let detail = format!("must be less than or equal to {completions} (the number of specified completions)");
            errors.push(Error::invalid(&path, wanted, detail));
        }
        if list.is_some() && wanted > total {
            let detail = format!(
                "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
            );
            errors.push(Error::invalid(&path, wanted, detail));
        }
    }
    errors
}
