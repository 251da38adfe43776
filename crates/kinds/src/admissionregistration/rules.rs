//! What webhooks and policies match: rules, resources, conditions.

use std::collections::HashSet;

use api::field::{Error, Path};
use api::{Value, validate};
use serde_json::json;

use crate::{checks, tree};

pub(super) const FAILURE_POLICIES: &[&str] = &["Fail", "Ignore"];
pub(super) const MATCH_POLICIES: &[&str] = &["Equivalent", "Exact"];
const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const SCOPES: &[&str] = &["*", "Cluster", "Namespaced"];
const MAX_CONDITIONS: usize = 64;

/// The scope of rules without one.
pub(super) fn default_rules(holder: &mut Value, field: &str) {
    for rule in tree::items_mut(holder, field) {
        tree::fill_absent(rule, "scope", "*");
    }
}

/// Defaults of `matchConstraints` and `matchResources`.
pub(super) fn default_match_resources(spec: &mut Value, field: &str) {
    let Some(resources) = tree::at_mut(spec, field) else {
        return;
    };
    tree::fill_absent(resources, "matchPolicy", "Equivalent");
    for selector in ["namespaceSelector", "objectSelector"] {
        tree::fill(resources, selector, json!({}));
    }
    default_rules(resources, "resourceRules");
    default_rules(resources, "excludeResourceRules");
}

fn has_wildcard(list: &[&str]) -> bool {
    list.contains(&"*")
}

/// A rule with its operations.
pub(super) fn rule(rule: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let operations = tree::strings(rule, "operations");
    let operations_path = path.child("operations");
    if operations.is_empty() {
        errors.push(Error::required(&operations_path, ""));
    }
    if operations.len() > 1 && has_wildcard(&operations) {
        let detail = "if '*' is present, must not specify other operations";
        errors.push(Error::invalid(&operations_path, operations.clone(), detail));
    }
    for (index, operation) in operations.iter().enumerate() {
        if !OPERATIONS.contains(operation) {
            errors.push(Error::not_supported(
                &operations_path.index(index),
                *operation,
                OPERATIONS,
            ));
        }
    }
    for (field, what) in [("apiGroups", "API groups"), ("apiVersions", "API versions")] {
        let list = tree::strings(rule, field);
        let path = path.child(field);
        if list.is_empty() {
            errors.push(Error::required(&path, ""));
        }
        if list.len() > 1 && has_wildcard(&list) {
            let detail = format!("if '*' is present, must not specify other {what}");
            errors.push(Error::invalid(&path, list.clone(), detail));
        }
        if field == "apiVersions" {
            let empty = list.iter().enumerate().filter(|(_, version)| version.is_empty());
            errors.extend(empty.map(|(index, _)| Error::required(&path.index(index), "")));
        }
    }
    errors.extend(resources(&tree::strings(rule, "resources"), &path.child("resources")));
    let scope = tree::text_opt(rule, "scope");
    errors.extend(checks::optional_one_of(scope, SCOPES, &path.child("scope")));
    errors
}

fn resources(list: &[&str], path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if list.is_empty() {
        errors.push(Error::required(path, ""));
    }
    let (mut all_subresources, mut of_all_resources) = (HashSet::new(), HashSet::new());
    let mut plain = false;
    for (index, entry) in list.iter().enumerate() {
        let path = path.index(index);
        if entry.is_empty() {
            errors.push(Error::required(&path, ""));
            continue;
        }
        let Some((resource, subresource)) = entry.split_once('/') else {
            plain = *entry != "*";
            continue;
        };
        if all_subresources.contains(resource) {
            let detail = format!("if '{resource}/*' is present, must not specify {entry}");
            errors.push(Error::invalid(&path, *entry, detail));
        }
        if of_all_resources.contains(subresource) {
            let detail = format!("if '*/{subresource}' is present, must not specify {entry}");
            errors.push(Error::invalid(&path, *entry, detail));
        }
        if subresource == "*" {
            all_subresources.insert(resource);
        }
        if resource == "*" {
            of_all_resources.insert(subresource);
        }
    }
    if list.len() > 1 && list.contains(&"*/*") {
        let detail = "if '*/*' is present, must not specify other resources";
        errors.push(Error::invalid(path, list.to_vec(), detail));
    }
    if list.contains(&"*") && plain {
        let detail = "if '*' is present, must not specify other resources without subresources";
        errors.push(Error::invalid(path, list.to_vec(), detail));
    }
    errors
}

/// What a policy or binding applies to.
pub(super) fn match_resources(resources: &Value, path: &Path) -> Vec<Error> {
    let mut errors = checks::one_of(
        tree::text(resources, "matchPolicy"),
        MATCH_POLICIES,
        &path.child("matchPolicy"),
    );
    // The second selector is named after an older field in upstream's messages.
    for (field, shown) in [
        ("namespaceSelector", "namespaceSelector"),
        ("objectSelector", "labelSelector"),
    ] {
        match tree::at(resources, field) {
            None => errors.push(Error::required(&path.child(shown), "")),
            Some(selector) => errors.extend(validate::label_selector(selector, &path.child(shown))),
        }
    }
    for field in ["resourceRules", "excludeResourceRules"] {
        for (index, item) in tree::list(resources, field).iter().enumerate() {
            let path = path.child(field).index(index);
            let names = tree::strings(item, "resourceNames");
            for (index, name) in names.iter().enumerate() {
                let path = path.child("resourceNames").index(index);
                errors.extend(checks::invalid_each(&path, name, validate::path_segment_name(name)));
                if names[..index].contains(name) {
                    errors.push(Error::duplicate(&path, *name));
                }
            }
            errors.extend(rule(item, &path));
        }
    }
    errors
}

/// Conditions beside the rules.
pub(super) fn match_conditions(list: &[Value], path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if list.len() > MAX_CONDITIONS {
        errors.push(Error::too_many(path, list.len(), MAX_CONDITIONS));
    }
    for (index, condition) in list.iter().enumerate() {
        let (path, name) = (path.index(index), tree::text(condition, "name"));
        if tree::text(condition, "expression").trim().is_empty() {
            errors.push(Error::required(&path.child("expression"), ""));
        }
        if name.is_empty() {
            errors.push(Error::required(&path.child("name"), ""));
            continue;
        }
        errors.extend(checks::qualified_name(name, &path.child("name")));
        if list[..index].iter().any(|other| tree::text(other, "name") == name) {
            errors.push(Error::duplicate(&path.child("name"), name));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_say_what_they_match() {
        let fields = |value: Value| -> Vec<String> {
            rule(&value, &Path::new("r"))
                .into_iter()
                .map(|error| error.field)
                .collect()
        };
        let good = json!({"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods", "pods/status"], "scope": "*"});
        assert_eq!(fields(good), Vec::<String>::new());
        assert_eq!(
            fields(json!({})),
            ["r.operations", "r.apiGroups", "r.apiVersions", "r.resources"]
        );
        let odd = json!({"operations": ["*", "ODD"], "apiGroups": ["*", "a"], "apiVersions": ["", "v1"],
            "resources": ["pods/*", "pods/status", "*", "nodes"], "scope": "Odd"});
        assert_eq!(
            fields(odd),
            [
                "r.operations",
                "r.operations[1]",
                "r.apiGroups",
                "r.apiVersions[0]",
                "r.resources[1]",
                "r.resources",
                "r.scope"
            ]
        );
    }

    #[test]
    fn conditions_have_names_and_expressions() {
        let list = [
            json!({"name": "a", "expression": "true"}),
            json!({"name": "a"}),
            json!({"expression": "x"}),
        ];
        let fields: Vec<String> = match_conditions(&list, &Path::new("c"))
            .into_iter()
            .map(|e| e.field)
            .collect();
        assert_eq!(fields, ["c[1].expression", "c[1].name", "c[2].name"]);
    }
}
