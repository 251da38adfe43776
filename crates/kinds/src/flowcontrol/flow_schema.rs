//! `flowschemas`.

use api::field::{Error, Path};
use api::{Value, meta, validate};
use apiserver::Kind;
use apiserver::kind::{Column, Subresource};

use super::{GROUP, bootstrap};
use crate::{cells, checks, tree};

const MAX_PRECEDENCE: i64 = 10_000;
const DISTINGUISHERS: &[&str] = &["ByNamespace", "ByUser"];
const SUBJECTS: &[&str] = &["Group", "ServiceAccount", "User"];
const VERBS: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "proxy",
    "update",
    "watch",
];

pub(crate) fn kind() -> Kind {
    Kind::cluster(GROUP, "v1", "FlowSchema", "flowschemas")
        .forbid_unconditional_update()
        .with_generation()
        .default(|schema| {
            if tree::at(schema, "spec").is_some() {
                tree::fill_zero(tree::child(schema, "spec"), "matchingPrecedence", 1000);
            }
        })
        .validate(schema)
        .subresource(Subresource::status().validate(|new, _| super::conditions(new)))
        .table(
            vec![
                Column::name(),
                Column::string("PriorityLevel", "The priority level of its requests."),
                Column::string("MatchingPrecedence", "Lower is asked first."),
                Column::string("DistinguisherMethod", "What tells flows apart."),
                Column::age(),
                Column::string(
                    "MissingPL",
                    "references a broken or non-existent PriorityLevelConfiguration",
                ),
            ],
            |schema, now| {
                let conditions = tree::list(schema, "status.conditions").iter();
                let dangling = conditions
                    .map(|condition| (tree::text(condition, "type"), tree::text(condition, "status")))
                    .find(|(kind, _)| *kind == "Dangling");
                let method = tree::at(schema, "spec.distinguisherMethod");
                vec![
                    cells::name(schema),
                    tree::text(schema, "spec.priorityLevelConfiguration.name").into(),
                    tree::count(schema, "spec.matchingPrecedence").into(),
                    method.map_or("<none>", |method| tree::text(method, "type")).into(),
                    cells::age(schema, now),
                    dangling.map_or("?", |(_, status)| status).into(),
                ]
            },
        )
}

fn schema(schema: &Value) -> Vec<Error> {
    let (path, name) = (Path::new("spec"), meta::name(schema));
    let mut errors = precedence(schema, name, &path.child("matchingPrecedence"));
    if let Some(method) = tree::at(schema, "spec.distinguisherMethod") {
        let kind = tree::text(method, "type");
        if !DISTINGUISHERS.contains(&kind) {
            let path = path.child("distinguisherMethod").child("type");
            errors.push(Error::not_supported(&path, kind, DISTINGUISHERS));
        }
    }
    let level_path = path.child("priorityLevelConfiguration").child("name");
    match tree::text(schema, "spec.priorityLevelConfiguration.name") {
        "" => errors.push(Error::required(&level_path, "must reference a priority level")),
        level => errors.extend(checks::dns_subdomain(level, &level_path)),
    }
    for (index, item) in tree::list(schema, "spec.rules").iter().enumerate() {
        errors.extend(rule(item, &path.child("rules").index(index)));
    }
    if let Some(spec) = bootstrap::mandatory_schema(name)
        && !tree::same(Some(&spec), tree::at(schema, "spec"))
    {
        let detail = format!("spec of '{name}' must equal the fixed value");
        errors.push(Error::invalid(
            &path,
            tree::at(schema, "spec").cloned().unwrap_or_default(),
            detail,
        ));
    }
    errors.extend(super::conditions(schema));
    errors
}

fn precedence(schema: &Value, name: &str, path: &Path) -> Vec<Error> {
    let precedence = tree::count(schema, "spec.matchingPrecedence");
    let mut errors = Vec::new();
    if precedence <= 0 {
        errors.push(Error::invalid(path, precedence, "must be a positive value"));
    }
    if precedence > MAX_PRECEDENCE {
        let detail = format!("must not be greater than {MAX_PRECEDENCE}");
        errors.push(Error::invalid(path, precedence, detail));
    }
    if precedence == 1 && name != "exempt" {
        let detail = "only the schema named 'exempt' may have matchingPrecedence 1";
        errors.push(Error::invalid(path, precedence, detail));
    }
    errors
}

fn rule(rule: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let subjects = tree::list(rule, "subjects");
    if subjects.is_empty() {
        let detail = "subjects must contain at least one value";
        errors.push(Error::required(&path.child("subjects"), detail));
    }
    for (index, item) in subjects.iter().enumerate() {
        errors.extend(subject(item, &path.child("subjects").index(index)));
    }
    let (resources, urls) = (tree::list(rule, "resourceRules"), tree::list(rule, "nonResourceRules"));
    if resources.is_empty() && urls.is_empty() {
        let detail = "at least one of resourceRules and nonResourceRules has to be non-empty";
        errors.push(Error::required(path, detail));
    }
    for (index, item) in resources.iter().enumerate() {
        errors.extend(resource_rule(item, &path.child("resourceRules").index(index)));
    }
    for (index, item) in urls.iter().enumerate() {
        errors.extend(url_rule(item, &path.child("nonResourceRules").index(index)));
    }
    errors
}

fn subject(subject: &Value, path: &Path) -> Vec<Error> {
    let kind = tree::text(subject, "kind");
    let fields = [
        ("ServiceAccount", "serviceAccount"),
        ("User", "user"),
        ("Group", "group"),
    ];
    let Some((_, own)) = fields.iter().find(|(name, _)| *name == kind) else {
        return vec![Error::not_supported(&path.child("kind"), kind, SUBJECTS)];
    };
    let mut errors = Vec::new();
    let own_path = path.child(own);
    match tree::at(subject, own) {
        None => {
            let detail = format!("{own} is required when subject kind is '{kind}'");
            errors.push(Error::required(&own_path, detail));
        }
        Some(value) => {
            let name = tree::text(value, "name");
            if name.is_empty() {
                errors.push(Error::required(&own_path.child("name"), ""));
            } else if kind == "ServiceAccount" && name != "*" {
                errors.extend(checks::dns_subdomain(name, &own_path.child("name")));
            }
            if kind == "ServiceAccount" {
                match tree::text(value, "namespace") {
                    "" => {
                        let detail = "must specify namespace for service account";
                        errors.push(Error::required(&own_path.child("namespace"), detail));
                    }
                    namespace => errors.extend(checks::dns_label(namespace, &own_path.child("namespace"))),
                }
            }
        }
    }
    for (name, field) in fields.iter().filter(|(name, _)| *name != kind) {
        if tree::at(subject, field).is_some() {
            let detail = format!("{field} is forbidden when subject kind is not '{name}'");
            errors.push(Error::forbidden(&path.child(field), detail));
        }
    }
    errors
}

/// `*` stands alone; a list is not empty.
fn words<'v>(rule: &'v Value, field: &str, missing: &str, others: &str, path: &Path) -> (Vec<&'v str>, Vec<Error>) {
    let (list, path) = (tree::strings(rule, field), path.child(field));
    let errors = if list.is_empty() {
        vec![Error::required(&path, missing)]
    } else if list.len() > 1 && list.contains(&"*") {
        let detail = format!("if '*' is present, must not specify other {others}");
        vec![Error::invalid(&path, list.clone(), detail)]
    } else {
        Vec::new()
    };
    (list, errors)
}

fn verbs(rule: &Value, path: &Path) -> Vec<Error> {
    let (list, mut errors) = words(rule, "verbs", "verbs must contain at least one value", "verbs", path);
    if !list.contains(&"*") && list.iter().any(|verb| !VERBS.contains(verb)) {
        errors.push(Error::not_supported(&path.child("verbs"), list, VERBS));
    }
    errors
}

fn resource_rule(rule: &Value, path: &Path) -> Vec<Error> {
    let mut errors = verbs(rule, path);
    let missing = "resource rules must supply at least one api group";
    errors.extend(words(rule, "apiGroups", missing, "api groups", path).1);
    let missing = "resource rules must supply at least one resource";
    errors.extend(words(rule, "resources", missing, "resources", path).1);
    let namespaces = tree::strings(rule, "namespaces");
    if namespaces.is_empty() && tree::flag(rule, "clusterScope") {
        return errors;
    }
    let missing = "resource rules that are not cluster scoped must supply at least one namespace";
    errors.extend(words(rule, "namespaces", missing, "namespaces", path).1);
    if !namespaces.contains(&"*") {
        for (index, namespace) in namespaces.into_iter().enumerate() {
            let path = path.child("namespaces").index(index);
            for message in validate::dns1123_label(namespace) {
                let detail = format!("each member of this list must be '*' or a DNS-1123 label; {message}");
                errors.push(Error::invalid(&path, namespace, detail));
            }
        }
    }
    errors
}

fn url_rule(rule: &Value, path: &Path) -> Vec<Error> {
    let mut errors = verbs(rule, path);
    let missing = "nonResourceURLs must contain at least one value";
    let (urls, more) = words(rule, "nonResourceURLs", missing, "non-resource URLs", path);
    errors.extend(more);
    if !urls.contains(&"*") {
        for (index, url) in urls.into_iter().enumerate() {
            let path = path.child("nonResourceURLs").index(index);
            errors.extend(url_fault(url).map(|detail| Error::invalid(&path, url, detail)));
        }
    }
    errors
}

fn url_fault(url: &str) -> Option<&'static str> {
    let wildcards = url.matches('*').count();
    match url {
        "" => Some("must not be empty"),
        "/" => None,
        _ if !url.starts_with('/') => Some("must start with slash"),
        _ if url.contains(' ') => Some("must not contain white-space"),
        _ if url.contains("//") => Some("must not contain double slash"),
        _ if wildcards > 1 || (wildcards == 1 && !url.ends_with("/*")) => Some("wildcard can only do suffix matching"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_mandatory_ones_stay_as_they_are() {
        for object in bootstrap::flow_schemas() {
            assert_eq!(schema(&object), [], "{}", meta::name(&object));
        }
        let mut changed = bootstrap::flow_schemas().remove(0);
        changed["spec"]["rules"] = json!([]);
        let fields: Vec<String> = schema(&changed).into_iter().map(|error| error.field).collect();
        assert_eq!(fields, ["spec"]);
    }

    #[test]
    fn faults_have_their_paths() {
        let bad = json!({"metadata": {"name": "x"}, "spec": {"matchingPrecedence": 1, "distinguisherMethod": {"type": "ByMoon"},
            "rules": [{}, {"subjects": [{"kind": "User", "group": {"name": "g"}}, {"kind": "ServiceAccount", "serviceAccount": {"name": "A"}}],
                "resourceRules": [{"verbs": ["get", "*"], "apiGroups": ["*", "a"], "resources": ["r"], "namespaces": ["A"]}],
                "nonResourceRules": [{"verbs": ["fly"], "nonResourceURLs": ["a", "/a*"]}]}]}});
        let fields: Vec<String> = schema(&bad).into_iter().map(|error| error.field).collect();
        assert_eq!(
            fields,
            [
                "spec.matchingPrecedence",
                "spec.distinguisherMethod.type",
                "spec.priorityLevelConfiguration.name",
                "spec.rules[0].subjects",
                "spec.rules[0]",
                "spec.rules[1].subjects[0].user",
                "spec.rules[1].subjects[0].group",
                "spec.rules[1].subjects[1].serviceAccount.name",
                "spec.rules[1].subjects[1].serviceAccount.namespace",
                "spec.rules[1].resourceRules[0].verbs",
                "spec.rules[1].resourceRules[0].apiGroups",
                "spec.rules[1].resourceRules[0].namespaces[0]",
                "spec.rules[1].nonResourceRules[0].verbs",
                "spec.rules[1].nonResourceRules[0].nonResourceURLs[0]",
                "spec.rules[1].nonResourceRules[0].nonResourceURLs[1]",
            ]
        );
    }
}
