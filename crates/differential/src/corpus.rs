//! The cases that follow from a seed.

use schema::{Schema, TypeRef};
use serde_json::Value;

use crate::mutate::{Change, Edit, Part, Step, Templates, edits};
use crate::seeds::Seed;

/// The type of a seed's object.
pub fn type_of<'s>(schema: &'s Schema, seed: &Seed) -> Option<TypeRef<'s>> {
    let version = seed.object["apiVersion"].as_str()?;
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    schema.kind(group, version, seed.object["kind"].as_str()?)
}

/// Edits of what clients write on creation and update.
pub fn of_object(ty: TypeRef<'_>, seed: &Seed) -> Vec<Edit> {
    let templates = if seed.whole {
        Templates::Whole
    } else {
        Templates::Owners
    };
    let mut all = edits(ty, &seed.object, Part::Spec, templates);
    if seed.metadata {
        all.extend(edits(ty, &seed.object, Part::Metadata, templates));
    } else {
        for (label, name) in [
            ("empty", String::new()),
            ("upper", "Seed".to_owned()),
            ("dots", "a.b.c".to_owned()),
            ("slash", "a/b".to_owned()),
            ("long", "a".repeat(64)),
            ("huge", "a".repeat(300)),
        ] {
            all.push(set(&["metadata", "name"], label, Value::from(name)));
        }
    }
    for (label, version) in [("empty", ""), ("other", "v9"), ("group", "nothing.example.com/v1")] {
        all.push(set(&["apiVersion"], label, Value::from(version)));
    }
    for (label, kind) in [("empty", ""), ("other", "Nothing")] {
        all.push(set(&["kind"], label, Value::from(kind)));
    }
    all
}

/// Edits of a status.
pub fn of_status(ty: TypeRef<'_>, object: &Value) -> Vec<Edit> {
    edits(ty, object, Part::Status, Templates::Owners)
}

/// Edits of metadata that only updates can be asked about.
pub fn of_update() -> Vec<Edit> {
    let uid = "99999999-8888-7777-6666-555555555555";
    vec![
        set(&["metadata", "uid"], "other", Value::from(uid)),
        set(&["metadata", "resourceVersion"], "bad", Value::from("abc")),
        set(&["metadata", "resourceVersion"], "old", Value::from("1")),
        set(&["metadata", "resourceVersion"], "empty", Value::from("")),
        set(&["metadata", "namespace"], "other", Value::from("elsewhere")),
        set(&["metadata", "generation"], "other", Value::from(77)),
        set(&["metadata", "labels"], "added", serde_json::json!({"c": "d"})),
    ]
}

fn set(path: &[&str], label: &str, value: Value) -> Edit {
    Edit {
        id: format!("{}={label}", path.join(".")),
        path: path.iter().map(|key| Step::Key((*key).to_owned())).collect(),
        change: Change::Set(value),
    }
}
