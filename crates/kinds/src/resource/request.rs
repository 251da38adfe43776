//! What a claim asks for: requests, constraints, configurations.

use std::collections::{BTreeMap, BTreeSet};

use api::Value;
use api::field::{Error, Path};

use super::configuration::{Age, configuration};
use super::{items, names, set, taints, text_key};
use crate::{checks, tree};

pub(super) const MAX_REQUESTS: usize = 32;
const MAX_ALTERNATIVES: usize = 8;
const MAX_SELECTORS: usize = 32;
const MAX_CONSTRAINTS: usize = 32;
pub(super) const MAX_CONFIGURATIONS: usize = 32;
const MAX_EXPRESSION_BYTES: usize = 10 * 1024;
const MODES: &[&str] = &["All", "ExactCount"];

/// Names of requests with those of their alternatives.
pub(super) struct Names(BTreeMap<String, BTreeSet<String>>);

impl Names {
    pub fn of(claim_spec: &Value) -> Self {
        let requests = tree::list(claim_spec, "devices.requests").iter();
        let name = |value: &Value| tree::text(value, "name").to_owned();
        Names(
            requests
                .map(|request| {
                    let alternatives = tree::list(request, "firstAvailable").iter();
                    (name(request), alternatives.map(name).collect())
                })
                .collect(),
        )
    }

    fn has(&self, reference: &str) -> bool {
        match reference.split('/').collect::<Vec<_>>().as_slice() {
            [request] => self.0.contains_key(*request),
            [request, alternative] => self.0.get(*request).is_some_and(|all| all.contains(*alternative)),
            _ => false,
        }
    }

    /// A reference to a request, or to one of its alternatives.
    pub fn reference(&self, name: &str, path: &Path) -> Vec<Error> {
        const DETAIL: &str =
            "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
        let segments: Vec<&str> = name.split('/').collect();
        if segments.len() > 2 {
            return vec![Error::invalid(path, name, DETAIL)];
        }
        let mut errors: Vec<Error> = segments
            .into_iter()
            .flat_map(|segment| checks::dns_label(segment, path))
            .collect();
        if !self.has(name) {
            errors.push(Error::invalid(path, name, DETAIL));
        }
        errors
    }

    /// A list of references.
    pub fn references(&self, holder: &Value, path: &Path) -> Vec<Error> {
        let list = tree::list(holder, "requests");
        set(
            list,
            MAX_REQUESTS,
            &path.child("requests"),
            Value::clone,
            |name, path| self.reference(name.as_str().unwrap_or_default(), path),
        )
    }
}

/// The spec of a claim.
pub(super) fn claim_spec(spec: &Value, path: &Path) -> Vec<Error> {
    let path = path.child("devices");
    let names = Names::of(spec);
    let list = |field: &str| tree::list(spec, &format!("devices.{field}"));
    let mut errors = set(
        list("requests"),
        MAX_REQUESTS,
        &path.child("requests"),
        text_key("name"),
        request,
    );
    errors.extend(items(
        list("constraints"),
        MAX_CONSTRAINTS,
        &path.child("constraints"),
        |constraint, path| self::constraint(constraint, &names, path),
    ));
    errors.extend(items(
        list("config"),
        MAX_CONFIGURATIONS,
        &path.child("config"),
        |config, path| {
            let mut errors = names.references(config, path);
            errors.extend(configuration(config, Age::New, path));
            errors
        },
    ));
    errors
}

fn request(request: &Value, path: &Path) -> Vec<Error> {
    let mut errors = checks::dns_label(tree::text(request, "name"), &path.child("name"));
    let alternatives = tree::list(request, "firstAvailable");
    match (tree::at(request, "exactly"), alternatives.is_empty()) {
        (None, true) => {
            let detail = "exactly one of `exactly` or `firstAvailable` is required";
            errors.push(Error::required(path, detail));
        }
        (Some(_), false) => {
            let detail = "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set";
            errors.push(Error::invalid(path, Value::Null, detail));
        }
        (None, false) => errors.extend(set(
            alternatives,
            MAX_ALTERNATIVES,
            &path.child("firstAvailable"),
            text_key("name"),
            |alternative, path| {
                let mut errors = checks::dns_label(tree::text(alternative, "name"), &path.child("name"));
                errors.extend(asked(alternative, path));
                errors
            },
        )),
        (Some(exactly), true) => errors.extend(asked(exactly, &path.child("exactly"))),
    }
    errors
}

/// What a request and an alternative have in common.
fn asked(asked: &Value, path: &Path) -> Vec<Error> {
    let class = tree::text(asked, "deviceClassName");
    let mut errors = match class {
        "" => vec![Error::required(&path.child("deviceClassName"), "")],
        class => checks::dns_subdomain(class, &path.child("deviceClassName")),
    };
    let list = tree::list(asked, "selectors");
    errors.extend(selectors(list, &path.child("selectors")));
    let count = tree::count(asked, "count");
    match tree::text(asked, "allocationMode") {
        "All" if count != 0 => {
            let detail = "must not be specified when allocationMode is 'All'";
            errors.push(Error::invalid(&path.child("count"), count, detail));
        }
        "ExactCount" if count <= 0 => {
            errors.push(Error::invalid(&path.child("count"), count, "must be greater than zero"));
        }
        "All" | "ExactCount" => {}
        other => errors.push(Error::not_supported(&path.child("allocationMode"), other, MODES)),
    }
    for (index, item) in tree::list(asked, "tolerations").iter().enumerate() {
        errors.extend(taints::toleration(item, &path.child("tolerations").index(index)));
    }
    errors
}

/// Selectors of devices.
pub(super) fn selectors(list: &[Value], path: &Path) -> Vec<Error> {
    items(list, MAX_SELECTORS, path, |selector, path| {
        let path = path.child("cel");
        let Some(cel) = tree::at(selector, "cel") else {
            return vec![Error::required(&path, "")];
        };
        let (expression, path) = (tree::text(cel, "expression"), path.child("expression"));
        if expression.len() > MAX_EXPRESSION_BYTES {
            return vec![Error::too_long(&path, MAX_EXPRESSION_BYTES)];
        }
        if expression.trim().is_empty() {
            return vec![Error::required(&path, "")];
        }
        Vec::new()
    })
}

fn constraint(constraint: &Value, names: &Names, path: &Path) -> Vec<Error> {
    let mut errors = names.references(constraint, path);
    let attribute = |field: &'static str| tree::text_opt(constraint, field).map(|name| (field, name));
    match attribute("matchAttribute").or_else(|| attribute("distinctAttribute")) {
        Some((field, name)) => errors.extend(names::fully_qualified(name, &path.child(field))),
        None => {
            let detail =
                "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set";
            errors.push(Error::required(path, detail));
        }
    }
    errors
}

/// Defaults of the requests of a claim.
pub(super) fn default(spec: &mut Value) {
    for request in tree::items_mut(spec, "devices.requests") {
        if let Some(exactly) = tree::at_mut(request, "exactly") {
            default_asked(exactly);
        }
        for alternative in tree::items_mut(request, "firstAvailable") {
            default_asked(alternative);
        }
    }
}

fn default_asked(asked: &mut Value) {
    tree::fill(asked, "allocationMode", "ExactCount");
    if tree::text(asked, "allocationMode") == "ExactCount" {
        tree::fill_zero(asked, "count", 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(spec: &Value) -> Vec<String> {
        claim_spec(spec, &Path::new("spec"))
            .into_iter()
            .map(|error| error.field)
            .collect()
    }

    #[test]
    fn a_whole_claim_is_accepted() {
        let mut good = json!({"devices": {
            "requests": [{"name": "a", "exactly": {"deviceClassName": "gpu", "selectors": [{"cel": {"expression": "true"}}]}},
                {"name": "b", "firstAvailable": [{"name": "x", "deviceClassName": "gpu"}, {"name": "y", "deviceClassName": "gpu"}]}],
            "constraints": [{"requests": ["a", "b/x"], "matchAttribute": "a.io/model"}],
            "config": [{"requests": ["a"], "opaque": {"driver": "a.io", "parameters": {}}}]}});
        default(&mut good);
        assert_eq!(good["devices"]["requests"][0]["exactly"]["count"], 1);
        assert_eq!(fields(&good), Vec::<String>::new());
    }

    #[test]
    fn faults_have_their_paths() {
        let bad = json!({"devices": {
            "requests": [{"name": "A"}, {"name": "a", "exactly": {"allocationMode": "All", "count": 1, "selectors": [{}]}}, {"name": "a", "exactly": {}, "firstAvailable": [{}]}],
            "constraints": [{"requests": ["z", "a", "a"]}, {"matchAttribute": "model"}],
            "config": [{}]}});
        assert_eq!(
            fields(&bad),
            [
                "spec.devices.requests[0].name",
                "spec.devices.requests[0]",
                "spec.devices.requests[1].exactly.deviceClassName",
                "spec.devices.requests[1].exactly.selectors[0].cel",
                "spec.devices.requests[1].exactly.count",
                "spec.devices.requests[2]",
                "spec.devices.requests[2]",
                "spec.devices.constraints[0].requests[0]",
                "spec.devices.constraints[0].requests[2]",
                "spec.devices.constraints[0]",
                "spec.devices.constraints[1].matchAttribute",
                "spec.devices.config[0].opaque",
            ]
        );
    }
}
