//! `metadata.managedFields`: managers and their field sets.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Conflict;
use super::field_set::FieldSet;
use super::fields_v1;

/// Who writes, through what.
#[derive(Clone, Debug)]
pub struct Writer {
    /// The field manager's name.
    pub manager: String,
    /// The version of the request: `apps/v1`.
    pub api_version: String,
    /// The subresource, or empty.
    pub subresource: String,
}

/// What tells entries apart (upstream `BuildManagerIdentifier`). An applier is the same whatever
/// version it speaks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id {
    operation: &'static str,
    manager: String,
    subresource: String,
    api_version: String,
}

impl Writer {
    pub(super) fn update_id(&self) -> Id {
        self.id("Update", self.api_version.clone())
    }

    pub(super) fn apply_id(&self) -> Id {
        self.id("Apply", String::new())
    }

    fn id(&self, operation: &'static str, api_version: String) -> Id {
        Id {
            operation,
            manager: self.manager.clone(),
            subresource: self.subresource.clone(),
            api_version,
        }
    }
}

#[derive(Clone, Debug)]
struct Owned {
    api_version: String,
    time: String,
    set: FieldSet,
}

/// All managers of an object.
#[derive(Clone, Debug, Default)]
pub(super) struct Managers {
    entries: BTreeMap<Id, Owned>,
}

/// Whether a write asks to forget all managers: it sends an empty list, or one empty entry.
pub(super) fn asks_to_forget(object: &Value) -> bool {
    match object["metadata"].get("managedFields").and_then(Value::as_array) {
        Some(entries) => {
            entries.is_empty() || matches!(entries.as_slice(), [entry] if entry.as_object().is_some_and(Map::is_empty))
        }
        None => false,
    }
}

/// Drops the managed fields.
pub(super) fn remove(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
}

/// What an entry's manager does.
pub(super) fn operation(entry: &Value) -> &'static str {
    match entry.get("operation").and_then(Value::as_str) {
        Some("Apply") => "Apply",
        _ => "Update",
    }
}

impl Managers {
    /// Whether nobody owns anything.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Reads an object's managers.
    pub fn read(object: &Value) -> Managers {
        let mut managers = Managers::default();
        for entry in object["metadata"]["managedFields"].as_array().into_iter().flatten() {
            let text = |field: &str| entry[field].as_str().unwrap_or_default().to_owned();
            let operation = operation(entry);
            let id = Id {
                operation,
                manager: text("manager"),
                subresource: text("subresource"),
                api_version: if operation == "Apply" {
                    String::new()
                } else {
                    text("apiVersion")
                },
            };
            let set = fields_v1::decode(&entry["fieldsV1"]);
            managers.entries.insert(
                id,
                Owned {
                    api_version: text("apiVersion"),
                    time: text("time"),
                    set,
                },
            );
        }
        managers
    }

    /// What a client sent; nothing if it sent none, or any that is malformed (`DecodeManagedFields`).
    pub fn sent(object: &Value) -> Option<Managers> {
        let entries = object["metadata"].get("managedFields")?.as_array()?;
        let is_sound = |entry: &Value| {
            matches!(entry["operation"].as_str(), Some("Apply" | "Update"))
                && entry["apiVersion"].as_str().is_some_and(|version| !version.is_empty())
                && entry["fieldsType"] == "FieldsV1"
        };
        (!entries.is_empty() && entries.iter().all(is_sound)).then(|| Managers::read(object))
    }

    /// As they are written: appliers first, then by time, as upstream sorts.
    pub fn entries(&self) -> Vec<Value> {
        let mut entries: Vec<(&Id, &Owned)> = self.entries.iter().collect();
        entries.sort_by(|(a, x), (b, y)| {
            (a.operation, &x.time, &a.manager, &x.api_version).cmp(&(b.operation, &y.time, &b.manager, &y.api_version))
        });
        entries.into_iter().map(|(id, owned)| encode(id, owned)).collect()
    }

    /// Writes them into an object.
    pub fn write(&self, object: &mut Value) {
        let entries = self.entries();
        remove(object);
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut)
            && !entries.is_empty()
        {
            metadata.insert("managedFields".into(), Value::Array(entries));
        }
    }

    /// What a manager owns.
    pub fn set(&self, id: &Id) -> FieldSet {
        self.entries.get(id).map(|owned| owned.set.clone()).unwrap_or_default()
    }

    /// Makes `set` all that a manager owns; its time moves only when that changes something.
    pub fn put(&mut self, id: Id, writer: &Writer, set: FieldSet, now: &str) {
        if set.is_empty() {
            self.entries.remove(&id);
            return;
        }
        let api_version = writer.api_version.clone();
        match self.entries.get_mut(&id) {
            Some(owned) if owned.set == set => owned.api_version = api_version,
            _ => {
                self.entries.insert(
                    id,
                    Owned {
                        api_version,
                        time: now.to_owned(),
                        set,
                    },
                );
            }
        }
    }

    /// What all others own together.
    pub fn union_of_others(&self, id: &Id) -> FieldSet {
        let others = self.entries.iter().filter(|(other, _)| *other != id);
        others.fold(FieldSet::default(), |all, (_, owned)| all.union(&owned.set))
    }

    /// Others lose what was changed or removed.
    pub fn take_from_others(&mut self, id: &Id, changed: &FieldSet, removed: &FieldSet) {
        for (other, owned) in &mut self.entries {
            if other != id {
                owned.set = owned.set.difference(changed).difference(removed);
            }
        }
        self.entries.retain(|other, owned| other == id || !owned.set.is_empty());
    }

    /// What others own of the changed fields.
    pub fn conflicts(&self, id: &Id, changed: &FieldSet) -> Vec<Conflict> {
        let others = self.entries.iter().filter(|(other, _)| *other != id);
        others
            .flat_map(|(other, owned)| {
                let mut owner = format!("\"{}\"", other.manager);
                if !other.subresource.is_empty() {
                    owner.push_str(&format!(" with subresource \"{}\"", other.subresource));
                }
                if other.operation == "Update" {
                    owner.push_str(&format!(" using {}", owned.api_version));
                }
                let fields = owned.set.intersection(changed).paths();
                fields.into_iter().map(move |field| Conflict {
                    owner: owner.clone(),
                    field,
                })
            })
            .collect()
    }
}

fn encode(id: &Id, owned: &Owned) -> Value {
    let mut entry = json!({
        "manager": id.manager,
        "operation": id.operation,
        "apiVersion": owned.api_version,
        "time": owned.time,
        "fieldsType": "FieldsV1",
        "fieldsV1": fields_v1::encode(&owned.set),
    });
    if !id.subresource.is_empty() {
        entry["subresource"] = json!(id.subresource);
    }
    entry
}
