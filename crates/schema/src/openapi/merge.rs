//! The v2 documents of other servers become part of ours (kube-openapi `pkg/aggregator`): what is there
//! already stays, definitions that differ get other names.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

const KINDS: &str = "x-kubernetes-group-version-kind";
/// Kinds of named things and where references to them begin.
const NAMED: [(&str, &str); 2] = [("definitions", "#/definitions/"), ("parameters", "#/parameters/")];

/// Keeps of a document the paths below `prefix`, and the definitions that they need.
#[must_use]
pub fn below(mut document: Value, prefix: &str) -> Value {
    keep_paths(&mut document, |path| path.starts_with(prefix));
    document
}

/// Definitions that only removed paths have used are removed too; those that none has used stay.
fn keep_paths(document: &mut Value, keep: impl Fn(&str) -> bool) {
    let used_before = reachable(document);
    if let Some(paths) = document.get_mut("paths").and_then(Value::as_object_mut) {
        paths.retain(|path, _| keep(path));
    }
    let used = reachable(document);
    if let Some(definitions) = document.get_mut("definitions").and_then(Value::as_object_mut) {
        definitions.retain(|name, _| used.contains(name) || !used_before.contains(name));
    }
}

/// The definitions that paths, parameters and responses refer to, and those that these refer to.
fn reachable(document: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&Value> = ["paths", "parameters", "responses"]
        .iter()
        .filter_map(|member| document.get(member))
        .collect();
    while let Some(value) = open.pop() {
        match value {
            Value::Object(map) => {
                let name = map.get("$ref").and_then(Value::as_str);
                if let Some(name) = name.and_then(|r| r.strip_prefix(NAMED[0].1))
                    && !found.contains(name)
                {
                    found.insert(name.to_owned());
                    open.extend(document["definitions"].get(name));
                }
                open.extend(map.values());
            }
            Value::Array(items) => open.extend(items),
            _ => {}
        }
    }
    found
}

/// Adds a document to `into`. Paths that are there already are left out of it; a definition or parameter
/// of a name that is taken by another gets a number after its name.
pub fn merge(into: &mut Value, mut from: Value) {
    let known = into["paths"].as_object().cloned_keys();
    let added = from["paths"].as_object().cloned_keys();
    if added.is_subset(&known) {
        return;
    }
    if !added.is_disjoint(&known) {
        keep_paths(&mut from, |path| !known.contains(path));
    }
    for (member, prefix) in NAMED {
        let renames = renames(into, &from, member);
        if !renames.is_empty() {
            rename(&mut from, member, prefix, &renames);
        }
    }
    for (member, _) in NAMED {
        for (name, value) in taken(&mut from, member) {
            let known = members(into, member);
            match known.get_mut(&name) {
                Some(known) => merge_kinds(known, &value),
                None => drop(known.insert(name, value)),
            }
        }
    }
    let paths = taken(&mut from, "paths");
    members(into, "paths").extend(paths);
}

trait Keys {
    fn cloned_keys(self) -> BTreeSet<String>;
}

impl Keys for Option<&Map<String, Value>> {
    fn cloned_keys(self) -> BTreeSet<String> {
        self.map(|map| map.keys().cloned().collect()).unwrap_or_default()
    }
}

fn taken(document: &mut Value, member: &str) -> Map<String, Value> {
    match document.get_mut(member).map(Value::take) {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

fn members<'d>(document: &'d mut Value, member: &str) -> &'d mut Map<String, Value> {
    let entry = &mut document[member];
    if !entry.is_object() {
        *entry = Value::Object(Map::new());
    }
    entry.as_object_mut().expect("made one above")
}

/// New names for what differs from what has its name already.
fn renames(into: &Value, from: &Value, member: &str) -> BTreeMap<String, String> {
    let nothing = Map::new();
    let known = into.get(member).and_then(Value::as_object).unwrap_or(&nothing);
    let added = from.get(member).and_then(Value::as_object).unwrap_or(&nothing);
    let mut renames = BTreeMap::new();
    let mut used = BTreeSet::new();
    for (name, value) in added {
        if known.get(name).is_none_or(|known| same(known, value)) {
            continue;
        }
        let fits = |name: &String| match known.get(name) {
            Some(known) => same(known, value),
            None => !added.contains_key(name) && !used.contains(name),
        };
        let new = (2..).map(|n| format!("{name}_v{n}")).find(fits);
        let new = new.expect("there is always another number");
        used.insert(new.clone());
        renames.insert(name.clone(), new);
    }
    renames
}

/// Whether two definitions are the same but for the kinds that they stand for.
fn same(a: &Value, b: &Value) -> bool {
    match (a.as_object(), b.as_object()) {
        (Some(a), Some(b)) => {
            let rest = |map: &Map<String, Value>| map.keys().filter(|k| *k != KINDS).count();
            rest(a) == rest(b) && a.iter().all(|(k, v)| k == KINDS || b.get(k) == Some(v))
        }
        _ => a == b,
    }
}

fn rename(document: &mut Value, member: &str, prefix: &str, renames: &BTreeMap<String, String>) {
    let renamed = taken(document, member)
        .into_iter()
        .map(|(name, value)| (renames.get(&name).cloned().unwrap_or(name), value))
        .collect();
    document[member] = Value::Object(renamed);
    let mut open = vec![document];
    while let Some(value) = open.pop() {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(reference)) = map.get_mut("$ref")
                    && let Some(new) = reference.strip_prefix(prefix).and_then(|name| renames.get(name))
                {
                    *reference = format!("{prefix}{new}");
                }
                open.extend(map.values_mut());
            }
            Value::Array(items) => open.extend(items),
            _ => {}
        }
    }
}

/// The kinds of both, in order.
fn merge_kinds(known: &mut Value, other: &Value) {
    let Some(others) = other.get(KINDS).and_then(Value::as_array) else {
        return;
    };
    let kinds = &mut known[KINDS];
    let mut all = kinds.as_array().cloned().unwrap_or_default();
    let before = all.len();
    for kind in others {
        if !all.contains(kind) {
            all.push(kind.clone());
        }
    }
    if all.len() > before {
        let text = |kind: &Value, member: &str| kind[member].as_str().unwrap_or_default().to_owned();
        all.sort_by_key(|k| format!("{}/{}.{}", text(k, "group"), text(k, "version"), text(k, "kind")));
        *kinds = all.into();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn remote() -> Value {
        json!({"swagger": "2.0", "info": {"title": "remote"},
        "paths": {
            "/apis/": {"get": {"responses": {"200": {"schema": {"$ref": "#/definitions/List"}}}}},
            "/apis/a/v1/things": {"get": {"responses": {"200": {"schema": {"$ref": "#/definitions/Thing"}}}}},
            "/version/": {"get": {}},
        },
        "definitions": {
            "List": {"type": "object"},
            "Thing": {"type": "object", "properties": {"metadata": {"$ref": "#/definitions/Meta"}}},
            "Meta": {"type": "object", "description": "older", KINDS: [{"group": "a", "version": "v1", "kind": "M"}]},
            "Unused": {"type": "string"},
        }})
    }

    #[test]
    fn only_what_paths_need_is_kept() {
        let kept = below(remote(), "/apis/a/v1/");
        assert_eq!(kept["paths"].as_object().map(Map::len), Some(1));
        let names: Vec<&String> = kept["definitions"].as_object().expect("a map").keys().collect();
        assert_eq!(names, ["Meta", "Thing", "Unused"]);
    }

    #[test]
    fn what_differs_gets_another_name() {
        let mut ours = json!({"paths": {"/apis/": {"get": {"ours": true}}},
            "definitions": {"Meta": {"type": "object"}, "Meta_v2": {"type": "string"}, "Unused": {"type": "string"}}});
        merge(&mut ours, remote());
        assert_eq!(ours["paths"]["/apis/"]["get"]["ours"], true, "what is there stays");
        assert_eq!(ours["definitions"]["Meta"], json!({"type": "object"}));
        assert_eq!(ours["definitions"]["Meta_v3"]["description"], "older");
        assert_eq!(
            ours["definitions"]["Thing"]["properties"]["metadata"]["$ref"],
            "#/definitions/Meta_v3"
        );
        assert_eq!(
            ours["definitions"].get("List"),
            None,
            "only the path that stays out used it"
        );
        let before = ours.clone();
        merge(&mut ours, remote());
        assert_eq!(ours, before, "a second time changes nothing");
    }

    #[test]
    fn kinds_of_the_same_definition_are_joined() {
        let kind = |group: &str| json!({"group": group, "version": "v1", "kind": "K"});
        let document = |path: &str, group: &str| json!({"paths": {path: {}}, "definitions": {"O": {"type": "object", KINDS: [kind(group)]}}});
        let mut ours = document("/b", "b");
        merge(&mut ours, document("/a", "a"));
        assert_eq!(ours["definitions"]["O"][KINDS], json!([kind("a"), kind("b")]));
        assert_eq!(ours["definitions"].as_object().map(Map::len), Some(1));
    }
}
