//! `metadata.managedFields` as they are written: an update changes few of them, and reads no more.
//!
//! A set is a `fieldsV1` object: what has no members, or has the member `.`, is in the set itself; the whole is not.

use serde_json::{Map, Value};

use super::managers::{self, Writer};

/// Takes what was changed and removed from all managers, and gives what was changed to the writer.
pub(super) fn update(
    entries: &mut Vec<Value>,
    writer: &Writer,
    changed: Map<String, Value>,
    removed: &Map<String, Value>,
    now: &str,
) {
    if changed.is_empty() && removed.is_empty() {
        return;
    }
    let mut mine = None;
    let mut at = 0;
    entries.retain_mut(|entry| {
        let is_mine = mine.is_none() && is_of(entry, writer);
        if is_mine {
            mine = Some(at);
        } else if let Some(fields) = fields_of(entry) {
            subtract(fields, &changed);
            subtract(fields, removed);
            if fields.is_empty() {
                return false;
            }
        }
        at += 1;
        true
    });
    match mine {
        Some(at) => {
            let entry = &mut entries[at];
            let Some(fields) = fields_of(entry) else { return };
            let before = fields.clone();
            subtract(fields, removed);
            unite(fields, &changed);
            if fields.is_empty() {
                entries.remove(at);
            } else if *fields != before {
                entry["time"] = now.into();
            }
        }
        None if changed.is_empty() => {}
        None => entries.push(new_entry(writer, changed, now)),
    }
    entries.sort_by(|a, b| order(a).cmp(&order(b)));
}

fn new_entry(writer: &Writer, fields: Map<String, Value>, now: &str) -> Value {
    let mut entry = Map::new();
    let mut put = |name: &str, value: Value| drop(entry.insert(name.to_owned(), value));
    put("manager", writer.manager.as_str().into());
    put("operation", "Update".into());
    put("apiVersion", writer.api_version.as_str().into());
    put("time", now.into());
    put("fieldsType", "FieldsV1".into());
    put("fieldsV1", Value::Object(fields));
    if !writer.subresource.is_empty() {
        put("subresource", writer.subresource.as_str().into());
    }
    Value::Object(entry)
}

fn text<'v>(entry: &'v Value, field: &str) -> &'v str {
    entry.get(field).and_then(Value::as_str).unwrap_or("")
}

/// Appliers first, then by time, as upstream sorts.
fn order(entry: &Value) -> (&str, &str, &str, &str) {
    let of = |field| text(entry, field);
    (managers::operation(entry), of("time"), of("manager"), of("apiVersion"))
}

fn is_of(entry: &Value, writer: &Writer) -> bool {
    managers::operation(entry) == "Update"
        && text(entry, "manager") == writer.manager
        && text(entry, "apiVersion") == writer.api_version
        && text(entry, "subresource") == writer.subresource
}

/// The set of an entry; one that is missing is made.
fn fields_of(entry: &mut Value) -> Option<&mut Map<String, Value>> {
    let fields = entry.as_object_mut()?.entry("fieldsV1").or_insert(Value::Null);
    if !fields.is_object() {
        *fields = Value::Object(Map::new());
    }
    fields.as_object_mut()
}

fn has_itself(set: &Map<String, Value>) -> bool {
    set.is_empty() || set.contains_key(".")
}

/// Forgets the paths of `other`.
pub(super) fn subtract(set: &mut Map<String, Value>, other: &Map<String, Value>) {
    for (name, theirs) in other {
        let (Some(theirs), Some(mine)) = (theirs.as_object(), set.get_mut(name).and_then(Value::as_object_mut)) else {
            continue;
        };
        if name == "." {
            continue;
        }
        let keeps_itself = has_itself(mine) && !has_itself(theirs);
        mine.remove(".");
        subtract(mine, theirs);
        match (keeps_itself, mine.is_empty()) {
            (true, false) => drop(mine.insert(".".to_owned(), Value::Object(Map::new()))),
            (false, true) => drop(set.remove(name)),
            _ => {}
        }
    }
}

/// Adds the paths of `other`; both are sets below the same path.
pub(super) fn unite(set: &mut Map<String, Value>, other: &Map<String, Value>) {
    for (name, theirs) in other.iter().filter(|(name, _)| *name != ".") {
        match set.get_mut(name).and_then(Value::as_object_mut) {
            None => drop(set.insert(name.clone(), theirs.clone())),
            Some(mine) => {
                let theirs_too = theirs.as_object().is_some_and(has_itself);
                let itself = has_itself(mine) || theirs_too;
                if let Some(theirs) = theirs.as_object() {
                    unite(mine, theirs);
                }
                if itself && !mine.is_empty() {
                    mine.insert(".".to_owned(), Value::Object(Map::new()));
                }
            }
        }
    }
}

/// Forgets a field and all below it.
pub(super) fn remove_branch(set: &mut Map<String, Value>, path: &[&str]) {
    let Some((first, rest)) = path.split_first() else {
        return;
    };
    let name = ["f:", first].concat();
    if rest.is_empty() {
        set.remove(&name);
    } else if let Some(below) = set.get_mut(&name).and_then(Value::as_object_mut)
        && !below.is_empty()
    {
        remove_branch(below, rest);
        if below.is_empty() {
            set.remove(&name);
        }
    }
}
