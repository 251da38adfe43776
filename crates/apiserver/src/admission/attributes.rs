//! The request as admission sees it (upstream `admission/attributes.go`).

use api::{Gvk, Status, Value};
use schema::TypeRef;
use serde_json::{Map, json};

use super::Trace;
use crate::call::Call;
use crate::resource::Resource;
use crate::verbs::options::{DeleteOptions, Propagation, WriteOptions};

/// What is done to the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

impl Operation {
    /// As webhook rules write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Connect => "CONNECT",
        }
    }
}

/// The options of the request.
#[derive(Clone, Copy)]
pub(crate) enum Options<'a> {
    /// Of a create, update or patch.
    Write(&'a WriteOptions),
    /// Of a delete.
    Delete(&'a DeleteOptions),
    /// Connections have none.
    None,
}

/// The request as admission sees it.
#[derive(Clone)]
pub(crate) struct Attributes<'a> {
    pub operation: Operation,
    pub resource: &'a Resource,
    pub subresource: &'a str,
    /// The kind of the object in the request: of some subresources one of their own (`Scale`).
    pub gvk: &'a Gvk,
    /// The namespace; of a Namespace its own name.
    pub namespace: &'a str,
    /// The name; empty while it is not generated yet.
    pub name: &'a str,
    /// User, time, warnings and audit annotations of the request.
    pub call: &'a Call,
    /// The object before, in an update or delete.
    pub old: Option<&'a Value>,
    pub options: Options<'a>,
    pub trace: &'a Trace,
}

impl<'a> Attributes<'a> {
    /// A request for what the call's path names.
    pub fn new(operation: Operation, resource: &'a Resource, call: &'a Call, trace: &'a Trace) -> Attributes<'a> {
        Attributes {
            operation,
            resource,
            subresource: "",
            gvk: &resource.kind.gvk,
            namespace: namespace_of(resource, &call.info.namespace, &call.info.name),
            name: &call.info.name,
            call,
            old: None,
            options: Options::None,
            trace,
        }
    }

    /// By way of a subresource, whose objects may be of another kind.
    pub fn subresource(mut self, name: &'a str) -> Self {
        self.subresource = name;
        let found = self.resource.kind.find_subresource(name);
        self.gvk = found.and_then(|s| s.gvk.as_ref()).unwrap_or(&self.resource.kind.gvk);
        self
    }

    /// Whether it is about this resource itself, not a subresource.
    pub fn is(&self, group: &str, plural: &str) -> bool {
        let kind = &self.resource.kind;
        self.subresource.is_empty() && kind.gvk.group == group && kind.plural == plural
    }

    /// Whether nothing will be stored.
    pub fn dry_run(&self) -> bool {
        match self.options {
            Options::Write(options) => options.dry_run,
            Options::Delete(options) => options.dry_run,
            Options::None => false,
        }
    }

    /// Adds to the request's audit event, unless the key is taken.
    pub fn annotate(&self, key: &str, value: impl Into<String>) {
        self.call.annotations.add(key, value);
    }

    /// 403 for this request (`admission.NewForbidden`).
    pub fn forbid(&self, why: impl std::fmt::Display) -> Status {
        Status::forbidden(&self.resource.group_resource(), self.name, why)
    }

    /// The type of the request's object.
    pub fn object_type(&self) -> Option<TypeRef<'_>> {
        let kind = &self.resource.kind;
        if *self.gvk == kind.gvk {
            return Some(kind.schema.get(kind.root));
        }
        schema::builtin().kind(&self.gvk.group, &self.gvk.version, &self.gvk.kind)
    }

    /// The options as webhooks and policies see them; null if there are none.
    pub fn options_object(&self) -> Value {
        match self.options {
            Options::Write(options) => self.write_options(options),
            Options::Delete(options) => delete_options(options),
            Options::None => Value::Null,
        }
    }

    fn write_options(&self, options: &WriteOptions) -> Value {
        let kind = match self.operation {
            Operation::Create => "CreateOptions",
            _ => "UpdateOptions",
        };
        let mut map = start(kind, options.dry_run);
        for field in ["fieldManager", "fieldValidation"] {
            if let Some(text) = self.call.query.non_empty(field) {
                map.insert(field.to_owned(), text.into());
            }
        }
        map.into()
    }
}

/// The namespace of a request; of a Namespace its own name.
pub(super) fn namespace_of<'a>(resource: &Resource, namespace: &'a str, name: &'a str) -> &'a str {
    let kind = &resource.kind;
    if kind.gvk.group.is_empty() && kind.plural == "namespaces" {
        name
    } else {
        namespace
    }
}

fn start(kind: &str, dry_run: bool) -> Map<String, Value> {
    let mut map = Map::new();
    map.insert("apiVersion".to_owned(), "meta.k8s.io/v1".into());
    map.insert("kind".to_owned(), kind.into());
    if dry_run {
        map.insert("dryRun".to_owned(), json!(["All"]));
    }
    map
}

fn delete_options(options: &DeleteOptions) -> Value {
    let mut map = start("DeleteOptions", options.dry_run);
    let mut put = |field: &str, value: Option<Value>| {
        if let Some(value) = value {
            map.insert(field.to_owned(), value);
        }
    };
    put("gracePeriodSeconds", options.grace_period_seconds.map(Value::from));
    put("orphanDependents", options.orphan_dependents.map(Value::from));
    put(
        "propagationPolicy",
        options.propagation.map(|policy| {
            match policy {
                Propagation::Orphan => "Orphan",
                Propagation::Background => "Background",
                Propagation::Foreground => "Foreground",
            }
            .into()
        }),
    );
    let mut preconditions = Map::new();
    for (field, value) in [("uid", &options.uid), ("resourceVersion", &options.resource_version)] {
        if let Some(text) = value {
            preconditions.insert(field.to_owned(), text.clone().into());
        }
    }
    put(
        "preconditions",
        (!preconditions.is_empty()).then(|| preconditions.into()),
    );
    map.into()
}
