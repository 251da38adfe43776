//! Validation of a definition (`apis/apiextensions/validation/validation.go`). Paths are those of
//! upstream's internal type, where what all versions have alike stands beside the versions.

use std::collections::BTreeSet;

use api::field::{Error, Path, go_quote};
use api::{meta, validate as check};
use schema::structural::check as structural;
use serde_json::Value;

use super::conversion;
use super::version;

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or_default()
}

pub(super) fn list<'v>(value: &'v Value, field: &str) -> &'v [Value] {
    value[field].as_array().map_or(&[], Vec::as_slice)
}

/// What an update may carry on doing because the old object did it (`validationOptions`).
pub(super) struct Leniency {
    /// Versions without a schema.
    schemas_missing: bool,
    /// Conversion reviews of unknown versions only.
    unknown_reviews: bool,
    /// Names may still change.
    names_open: bool,
    /// Schemas that are not structural.
    pub unstructured: bool,
}

/// Errors of a new definition.
pub(super) fn validate(object: &Value) -> Vec<Error> {
    let lenient = Leniency {
        schemas_missing: false,
        unknown_reviews: false,
        names_open: true,
        unstructured: false,
    };
    let spec = &object["spec"];
    let mut errors = Vec::new();
    let name = format!("{}.{}", text(&spec["names"], "plural"), text(spec, "group"));
    if meta::name(object) != name && !meta::name(object).is_empty() {
        let detail = "must be spec.names.plural+\".\"+spec.group";
        let path = Path::new("metadata").child("name");
        errors.push(Error::invalid(&path, meta::name(object), detail));
    }
    errors.extend(spec_errors(spec, &lenient));
    errors.extend(status_errors(object));
    errors.extend(stored_version_errors(object));
    errors.extend(approval_errors(object, None));
    errors.extend(preserve_errors(object, None));
    errors
}

/// Errors of a changed definition.
pub(super) fn validate_update(object: &Value, old: &Value) -> Vec<Error> {
    let (spec, before) = (&object["spec"], &old["spec"]);
    let reviews = list(&before["conversion"]["webhook"], "conversionReviewVersions");
    let lenient = Leniency {
        schemas_missing: list(before, "versions")
            .iter()
            .any(|v| !v["schema"]["openAPIV3Schema"].is_object()),
        unknown_reviews: !reviews.is_empty() && !reviews.iter().any(conversion::is_known_review),
        names_open: !is_established(old),
        unstructured: list(before, "versions").iter().any(|version| {
            let schema = &version["schema"]["openAPIV3Schema"];
            schema.is_object() && !structural::structural_errors(schema, &Path::root()).is_empty()
        }),
    };
    let mut errors = spec_errors(spec, &lenient);
    let path = Path::new("spec");
    let mut fixed = |field: &Path, new: &Value, old: &Value| {
        errors.extend(check::immutable(Some(new), Some(old), field));
    };
    let names = path.child("names");
    if !lenient.names_open {
        fixed(&path.child("scope"), &spec["scope"], &before["scope"]);
        fixed(&names.child("kind"), &spec["names"]["kind"], &before["names"]["kind"]);
    }
    fixed(&path.child("group"), &spec["group"], &before["group"]);
    fixed(
        &names.child("plural"),
        &spec["names"]["plural"],
        &before["names"]["plural"],
    );
    errors.extend(status_errors(object));
    errors.extend(stored_version_errors(object));
    errors.extend(approval_errors(object, Some(old)));
    errors.extend(preserve_errors(object, Some(old)));
    errors
}

fn is_established(object: &Value) -> bool {
    list(&object["status"], "conditions")
        .iter()
        .any(|c| c["type"] == "Established" && c["status"] == "True")
}

fn spec_errors(spec: &Value, lenient: &Leniency) -> Vec<Error> {
    let path = Path::new("spec");
    let mut errors = Vec::new();
    let group = text(spec, "group");
    let at = path.child("group");
    if group.is_empty() {
        errors.push(Error::required(&at, ""));
    } else {
        let messages = check::dns1123_subdomain(group);
        if !messages.is_empty() {
            errors.push(Error::invalid(&at, group, messages.join(",")));
        } else if !group.contains('.') {
            errors.push(Error::invalid(&at, group, "should be a domain with at least one dot"));
        }
    }
    match text(spec, "scope") {
        "" => errors.push(Error::required(&path.child("scope"), "")),
        "Cluster" | "Namespaced" => {}
        other => errors.push(Error::not_supported(
            &path.child("scope"),
            other,
            &["Cluster", "Namespaced"],
        )),
    }
    versions(spec, lenient, &path, &mut errors);
    let names = path.child("names");
    for field in ["plural", "singular", "kind", "listKind"] {
        if text(&spec["names"], field).is_empty() {
            errors.push(Error::required(&names.child(field), ""));
        }
    }
    errors.extend(name_errors(&spec["names"], &names));
    let preserve = spec["preserveUnknownFields"] == Value::Bool(true);
    let strategy = text(&spec["conversion"], "strategy");
    if preserve && !strategy.is_empty() && strategy != "None" {
        let at = path.child("conversion").child("strategy");
        let detail = "must be None if spec.preserveUnknownFields is true";
        errors.push(Error::invalid(&at, strategy, detail));
    }
    let at = path.child("conversion");
    errors.extend(conversion::errors(&spec["conversion"], !lenient.unknown_reviews, &at));
    errors
}

fn versions(spec: &Value, lenient: &Leniency, path: &Path, errors: &mut Vec<Error>) {
    let versions = list(spec, "versions");
    let at = |i: usize| path.child("versions").index(i);
    let preserve = spec["preserveUnknownFields"] == Value::Bool(true);
    for (i, version) in versions.iter().enumerate() {
        if version["schema"]["openAPIV3Schema"].is_object() {
            continue;
        }
        let at = at(i).child("schema").child("openAPIV3Schema");
        if !lenient.schemas_missing {
            errors.push(Error::required(&at, "schemas are required"));
        } else if !preserve && version["served"] == Value::Bool(true) {
            errors.push(Error::required(&at, "because otherwise all fields are pruned"));
        }
    }
    let mut names = BTreeSet::new();
    let mut unique = true;
    for (i, version) in versions.iter().enumerate() {
        let name = text(version, "name");
        unique &= names.insert(name);
        let messages = check::dns1035_label(name);
        if !messages.is_empty() {
            errors.push(Error::invalid(&at(i).child("name"), name, messages.join(",")));
        }
        errors.extend(version::deprecation_errors(version, &at(i)));
    }
    // What all versions have alike stands beside them in upstream's internal type.
    let alike = |field: &str| versions.iter().all(|v| v[field] == versions[0][field]);
    let each = |field: &str, whole: &str| -> Vec<(&Value, Path)> {
        if versions.is_empty() {
            Vec::new()
        } else if alike(field) {
            vec![(&versions[0], path.child(whole))]
        } else {
            versions
                .iter()
                .enumerate()
                .map(|(i, v)| (v, at(i).child(field)))
                .collect()
        }
    };
    for (version, path) in each("schema", "validation") {
        errors.extend(version::schema_errors(version, &path, lenient));
    }
    for (version, path) in each("subresources", "subresources") {
        errors.extend(version::subresource_errors(&version["subresources"], &path));
    }
    for (version, path) in each("additionalPrinterColumns", "additionalPrinterColumns") {
        for (i, column) in list(version, "additionalPrinterColumns").iter().enumerate() {
            errors.extend(version::column_errors(column, &path.index(i)));
        }
    }
    for (version, path) in each("selectableFields", "selectableFields") {
        errors.extend(version::selectable_errors(version, &path));
    }
    let stored = versions.iter().filter(|v| v["storage"] == Value::Bool(true)).count();
    let all = || spec["versions"].clone();
    let at = path.child("versions");
    if !unique {
        errors.push(Error::invalid(&at, all(), "must contain unique version names"));
    }
    if stored != 1 {
        let detail = "must have exactly one version marked as storage version";
        errors.push(Error::invalid(&at, all(), detail));
    }
}

fn name_errors(names: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for field in ["plural", "singular"] {
        let name = text(names, field);
        let messages = check::dns1035_label(name);
        if !name.is_empty() && !messages.is_empty() {
            errors.push(Error::invalid(&path.child(field), name, messages.join(",")));
        }
    }
    for field in ["kind", "listKind"] {
        let name = text(names, field);
        let messages = check::dns1035_label(&name.to_lowercase());
        if !name.is_empty() && !messages.is_empty() {
            let detail = format!(
                "may have mixed case, but should otherwise match: {}",
                messages.join(",")
            );
            errors.push(Error::invalid(&path.child(field), name, detail));
        }
    }
    let each = |field: &str, errors: &mut Vec<Error>| {
        for (i, name) in list(names, field).iter().filter_map(Value::as_str).enumerate() {
            let messages = check::dns1035_label(name);
            if !messages.is_empty() {
                errors.push(Error::invalid(&path.child(field).index(i), name, messages.join(",")));
            }
        }
    };
    each("shortNames", &mut errors);
    let (kind, list_kind) = (text(names, "kind"), text(names, "listKind"));
    if !kind.is_empty() && kind == list_kind {
        let detail = "kind and listKind may not be the same";
        errors.push(Error::invalid(&path.child("listKind"), list_kind, detail));
    }
    each("categories", &mut errors);
    errors
}

/// Errors of the status alone.
pub(super) fn status_errors(object: &Value) -> Vec<Error> {
    name_errors(
        &object["status"]["acceptedNames"],
        &Path::new("status").child("acceptedNames"),
    )
}

fn stored_version_errors(object: &Value) -> Vec<Error> {
    let stored = list(&object["status"], "storedVersions");
    let path = Path::new("status").child("storedVersions");
    let value = || Value::Array(stored.to_vec());
    if stored.is_empty() {
        return vec![Error::invalid(&path, value(), "must have at least one stored version")];
    }
    let versions = list(&object["spec"], "versions");
    let mut errors = Vec::new();
    for version in versions {
        if version["storage"] == Value::Bool(true) && !stored.contains(&version["name"]) {
            let detail = format!("must have the storage version {}", text(version, "name"));
            errors.push(Error::invalid(&path, value(), detail));
        }
    }
    for (i, version) in stored.iter().enumerate() {
        if !versions.iter().any(|v| v["name"] == *version) {
            let detail = "must appear in spec.versions";
            errors.push(Error::invalid(&path.index(i), version.clone(), detail));
        }
    }
    errors
}

const APPROVED: &str = "api-approved.kubernetes.io";

/// `None` for groups that need no approval; else what the annotation says and, if that is no good, why.
fn approval(object: &Value) -> Option<(&'static str, Option<String>)> {
    let group = text(&object["spec"], "group");
    let guarded = |suffix: &str| group == suffix || group.ends_with(&format!(".{suffix}"));
    if !guarded("k8s.io") && !guarded("kubernetes.io") {
        return None;
    }
    let see = "see https://github.com/kubernetes/enhancements/pull/1111";
    let quoted = go_quote(APPROVED);
    let is_url = |text: &str| {
        text.split_once("://")
            .is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty() && !rest.starts_with('/'))
    };
    Some(match meta::annotation(object, APPROVED) {
        None | Some("") => (
            "missing",
            Some(format!(
                "protected groups must have approval annotation {quoted}, {see}"
            )),
        ),
        Some(text) if text.starts_with("unapproved") => ("bypassed", None),
        Some(text) if is_url(text) => ("approved", None),
        Some(_) => (
            "invalid",
            Some(format!(
                "protected groups must have approval annotation {quoted} with either a URL or a reason starting with \"unapproved\", {see}"
            )),
        ),
    })
}

fn approval_errors(object: &Value, old: Option<&Value>) -> Vec<Error> {
    let Some((state, Some(why))) = approval(object) else {
        return Vec::new();
    };
    if old.and_then(approval).is_some_and(|(before, _)| before == state) {
        return Vec::new();
    }
    let path = Path::new("metadata").child("annotations").key(APPROVED);
    vec![if state == "missing" {
        Error::required(&path, why)
    } else {
        let value = meta::annotation(object, APPROVED).unwrap_or_default();
        Error::invalid(&path, value, why)
    }]
}

fn preserve_errors(object: &Value, old: Option<&Value>) -> Vec<Error> {
    let preserves = |object: &Value| object["spec"]["preserveUnknownFields"] == Value::Bool(true);
    if !preserves(object) || old.is_some_and(preserves) {
        return Vec::new();
    }
    let detail =
        "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
    let path = Path::new("spec").child("preserveUnknownFields");
    vec![Error::invalid(&path, true, detail)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn definition() -> Value {
        json!({"metadata": {"name": "crons.g.io"}, "spec": {"group": "g.io", "scope": "Namespaced",
            "names": {"plural": "crons", "singular": "cron", "kind": "Cron", "listKind": "CronList"},
            "conversion": {"strategy": "None"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema":
                {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object"}}}}}]},
            "status": {"storedVersions": ["v1"]}})
    }

    fn texts(object: &Value) -> Vec<String> {
        validate(object).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_good_one_passes() {
        assert_eq!(texts(&definition()), Vec::<String>::new());
    }

    #[test]
    fn what_is_wrong_is_named_where_upstream_names_it() {
        let mut object = definition();
        object["metadata"]["name"] = "x".into();
        object["spec"]["group"] = "g".into();
        object["spec"]["scope"] = "Odd".into();
        object["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"] = json!({});
        object["spec"]["versions"][0]["additionalPrinterColumns"] =
            json!([{"name": "A", "type": "x", "jsonPath": "a"}]);
        assert_eq!(
            texts(&object),
            [
                "metadata.name: Invalid value: \"x\": must be spec.names.plural+\".\"+spec.group",
                "spec.group: Invalid value: \"g\": should be a domain with at least one dot",
                "spec.scope: Unsupported value: \"Odd\": supported values: \"Cluster\", \"Namespaced\"",
                "spec.validation.openAPIV3Schema.properties[spec].type: Required value: must not be empty for specified object fields",
                "spec.additionalPrinterColumns[0].type: Invalid value: \"x\": must be one of boolean,date,integer,number,string",
                "spec.additionalPrinterColumns[0].JSONPath: Invalid value: \"a\": must be a simple json path starting with .",
            ]
        );
    }

    #[test]
    fn names_of_an_established_definition_stay() {
        let mut old = definition();
        old["status"]["conditions"] = json!([{"type": "Established", "status": "True"}]);
        let mut new = old.clone();
        new["spec"]["names"]["kind"] = "Other".into();
        new["spec"]["scope"] = "Cluster".into();
        let errors = validate_update(&new, &old);
        assert_eq!(errors.len(), 2, "{errors:?}");
        assert!(errors[0].to_string().ends_with("field is immutable"));
    }

    #[test]
    fn versions() {
        let mut object = definition();
        let mut second = object["spec"]["versions"][0].clone();
        second["deprecationWarning"] = "x".into();
        object["spec"]["versions"].as_array_mut().unwrap().push(second);
        let found = texts(&object);
        assert!(
            found[0].contains("can only be set for deprecated versions"),
            "{found:?}"
        );
        assert!(found.iter().any(|t| t.ends_with("must contain unique version names")));
        assert!(
            found
                .iter()
                .any(|t| t.ends_with("must have exactly one version marked as storage version"))
        );
    }

    #[test]
    fn selectable_fields_lead_to_scalars() {
        let mut object = definition();
        let version = &mut object["spec"]["versions"][0];
        version["schema"]["openAPIV3Schema"]["properties"]["spec"] =
            json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "object"}}});
        version["selectableFields"] = json!([{"jsonPath": ".spec.a"}, {"jsonPath": ".spec.b"}, {"jsonPath": ".spec.c"},
            {"jsonPath": ".spec.a"}, {"jsonPath": ".metadata.name"}]);
        let found = texts(&object);
        assert_eq!(found.len(), 4, "{found:?}");
        assert!(
            found[0].starts_with("spec.selectableFields[1]: Invalid value: \".spec.b\": must point to a field of type")
        );
        assert!(
            found[1].starts_with("spec.selectableFields[2].jsonPath: Invalid value: \".spec.c\": is an invalid path")
        );
        assert!(found[2].starts_with("spec.selectableFields[3]: Duplicate value"));
    }
}
