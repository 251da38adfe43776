//! What can be wrong with an object, from its schema.

use schema::{Shape, Struct, TypeRef};
use serde_json::{Value, json};

use crate::since;
use crate::values::{BAD_TEXT, holds_itself, nonsense, scalars, wrong};

/// A change of one place of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Edit {
    /// Path and label: the same at every run.
    pub id: String,
    /// Keys and indexes from the root.
    pub path: Vec<Step>,
    /// What happens there.
    pub change: Change,
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Member of an object.
    Key(String),
    /// Item of a list.
    Index(usize),
}

/// What happens at a place.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// It gets this value.
    Set(Value),
    /// It goes.
    Remove,
    /// It is a list, and its first item comes once more at its end.
    Repeat,
}

/// What of an object is walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Everything but metadata and status.
    Spec,
    /// Its status only.
    Status,
    /// Its metadata only.
    Metadata,
}

/// How much of pod templates is walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Templates {
    /// Everything.
    Whole,
    /// What depends on who holds the template.
    Owners,
}

/// Members of pod specifications that the holders of templates care about.
const OWNERS_CARE: &[&str] = &[
    "restartPolicy",
    "activeDeadlineSeconds",
    "containers",
    "ephemeralContainers",
    "terminationGracePeriodSeconds",
    "nodeName",
    "overhead",
];

impl Edit {
    /// Changes an object; nothing happens when the place is not there.
    pub fn apply(&self, object: &mut Value) {
        let Some((last, parents)) = self.path.split_last() else {
            return;
        };
        let mut place = object;
        for step in parents {
            let next = match step {
                Step::Key(key) => place.get_mut(key.as_str()),
                Step::Index(index) => place.get_mut(*index),
            };
            let Some(next) = next else { return };
            place = next;
        }
        match (&self.change, last, place) {
            (Change::Set(value), Step::Key(key), Value::Object(members)) => {
                members.insert(key.clone(), value.clone());
            }
            (Change::Set(value), Step::Index(index), Value::Array(items)) if *index < items.len() => {
                items[*index] = value.clone();
            }
            (Change::Remove, Step::Key(key), Value::Object(members)) => {
                members.remove(key);
            }
            (Change::Repeat, Step::Key(key), Value::Object(members)) => {
                if let Some(Value::Array(items)) = members.get_mut(key)
                    && let Some(first) = items.first().cloned()
                {
                    items.push(first);
                }
            }
            _ => {}
        }
    }
}

/// Every edit of an object of this type.
pub fn edits(ty: TypeRef<'_>, object: &Value, part: Part, templates: Templates) -> Vec<Edit> {
    let mut walk = Walk {
        edits: Vec::new(),
        path: Vec::new(),
        templates,
    };
    let Some(root) = ty.as_struct() else { return Vec::new() };
    for field in root.fields() {
        let wanted = match field.name() {
            "apiVersion" | "kind" => false,
            "metadata" => part == Part::Metadata,
            "status" => part == Part::Status,
            _ => part == Part::Spec,
        };
        if wanted && since::has(root.name(), field.name()) {
            walk.member(field.name(), field.ty(), object.get(field.name()));
        }
    }
    walk.edits
}

struct Walk {
    edits: Vec<Edit>,
    path: Vec<Step>,
    templates: Templates,
}

impl Walk {
    fn emit(&mut self, label: &str, change: Change) {
        let mut id = String::new();
        for step in &self.path {
            match step {
                Step::Key(key) => {
                    if !id.is_empty() {
                        id.push('.');
                    }
                    id.push_str(key);
                }
                Step::Index(index) => id.push_str(&format!("[{index}]")),
            }
        }
        self.edits.push(Edit {
            id: format!("{id}={label}"),
            path: self.path.clone(),
            change,
        });
    }

    fn member(&mut self, name: &str, ty: TypeRef<'_>, value: Option<&Value>) {
        self.path.push(Step::Key(name.to_owned()));
        match value {
            Some(value) => {
                self.emit("absent", Change::Remove);
                self.emit("null", Change::Set(Value::Null));
                self.present(ty, value);
            }
            None => self.absent(ty),
        }
        self.path.pop();
    }

    fn absent(&mut self, ty: TypeRef<'_>) {
        match ty.kind() {
            Shape::Struct(_) => {
                self.emit("zero", Change::Set(json!({})));
                self.nonsense(ty);
            }
            Shape::List(list) => {
                if matches!(list.elem().kind(), Shape::Struct(_)) {
                    self.emit("item", Change::Set(json!([{}])));
                }
                self.nonsense(ty);
            }
            Shape::Map(_) => self.nonsense(ty),
            Shape::Any => {}
            _ => self.scalar(ty),
        }
    }

    /// Of a type that holds itself it would be gigabytes, and a server says no more than that it is too much.
    fn nonsense(&mut self, ty: TypeRef<'_>) {
        if !holds_itself(ty, &mut Vec::new()) {
            self.emit("nonsense", Change::Set(nonsense(ty)));
        }
    }

    fn scalar(&mut self, ty: TypeRef<'_>) {
        for (label, value) in scalars(ty) {
            self.emit(label, Change::Set(value));
        }
        let Some(allowed) = ty.enum_values() else { return };
        for value in allowed {
            self.emit(value, Change::Set(json!(value)));
        }
    }

    fn present(&mut self, ty: TypeRef<'_>, value: &Value) {
        if let Some(value) = wrong(ty) {
            self.emit("wrong", Change::Set(value));
        }
        match ty.kind() {
            Shape::Struct(structure) => self.structure(structure, value),
            Shape::List(_) => {
                self.emit("none", Change::Set(json!([])));
                self.emit("repeat", Change::Repeat);
                self.items(ty, value);
            }
            Shape::Map(map) => {
                self.emit("none", Change::Set(json!({})));
                let Some(members) = value.as_object() else { return };
                for (key, member) in members {
                    self.path.push(Step::Key(key.clone()));
                    self.present(map.value(), member);
                    self.path.pop();
                }
                let sample = members
                    .values()
                    .next()
                    .cloned()
                    .unwrap_or_else(|| nonsense(map.value()));
                for (label, key) in [("badkey", BAD_TEXT), ("emptykey", "")] {
                    self.path.push(Step::Key(key.to_owned()));
                    self.emit(label, Change::Set(sample.clone()));
                    self.path.pop();
                }
            }
            Shape::Any => {}
            _ => self.scalar(ty),
        }
    }

    fn items(&mut self, ty: TypeRef<'_>, value: &Value) {
        let (Some(elem), Some(items)) = (ty.elem(), value.as_array()) else {
            return;
        };
        for (index, item) in items.iter().enumerate() {
            self.path.push(Step::Index(index));
            if matches!(elem.kind(), Shape::Struct(_)) {
                self.emit("zero", Change::Set(json!({})));
            }
            self.present(elem, item);
            self.path.pop();
        }
    }

    fn structure(&mut self, structure: Struct<'_>, value: &Value) {
        let owners = self.templates == Templates::Owners && structure.name().ends_with("core.v1.PodSpec");
        for field in structure.fields() {
            let name = field.name();
            if !since::has(structure.name(), name) || (owners && !OWNERS_CARE.contains(&name)) {
                continue;
            }
            if owners && name == "containers" {
                self.path.push(Step::Key(name.to_owned()));
                self.emit("absent", Change::Remove);
                self.path.push(Step::Index(0));
                self.emit("zero", Change::Set(json!({})));
                self.path.pop();
                self.path.pop();
                continue;
            }
            self.member(name, field.ty(), value.get(name));
        }
        self.path.push(Step::Key("unknownField".to_owned()));
        self.emit("unknown", Change::Set(json!(1)));
        self.path.pop();
    }
}
