//! Table columns and rows (`meta.k8s.io/v1` Table), what `kubectl get` prints.

use std::sync::Arc;

use api::Value;
use jiff::Timestamp;

/// One column (upstream `TableColumnDefinition`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// The heading.
    pub name: &'static str,
    /// An OpenAPI type: `string`, `integer`, `boolean`, `date`.
    pub r#type: &'static str,
    /// An OpenAPI format, or `name` for the column that holds the object's name; mostly empty.
    pub format: &'static str,
    /// 0 is shown always, more only with `-o wide`.
    pub priority: i32,
    /// What a person should know about it.
    pub description: &'static str,
}

impl Column {
    /// A string column with priority 0.
    pub const fn string(name: &'static str, description: &'static str) -> Self {
        Column {
            name,
            r#type: "string",
            format: "",
            priority: 0,
            description,
        }
    }

    /// An integer column with priority 0.
    pub const fn integer(name: &'static str, description: &'static str) -> Self {
        Column {
            name,
            r#type: "integer",
            format: "",
            priority: 0,
            description,
        }
    }

    /// The `Name` column every kind starts with.
    pub const fn name() -> Self {
        Column {
            name: "Name",
            r#type: "string",
            format: "name",
            priority: 0,
            description: NAME,
        }
    }

    /// The `Age` column (a string made of the creation time).
    pub const fn age() -> Self {
        Column::string("Age", AGE)
    }

    /// The same column, shown only with `-o wide`.
    pub const fn wide(mut self) -> Self {
        self.priority = 1;
        self
    }
}

/// Upstream's description of metadata.name, which discovery and tables repeat.
const NAME: &str = "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically. Name is primarily intended for creation idempotence and configuration definition. Cannot be updated. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names";
/// Upstream's description of metadata.creationTimestamp.
const AGE: &str = "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";
/// Description of the creation column of the default table.
pub(crate) const CREATED_AT: &str = AGE;

/// One row: a cell for each column, and upstream's row conditions (`Completed` of pods).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// As many as there are columns, in their order.
    pub cells: Vec<Value>,
    /// `TableRowCondition` objects; mostly empty.
    pub conditions: Vec<Value>,
}

impl From<Vec<Value>> for Row {
    fn from(cells: Vec<Value>) -> Self {
        Row {
            cells,
            conditions: Vec::new(),
        }
    }
}

/// Makes the row of an object; the time is for ages.
pub type RowFn = Arc<dyn Fn(&Value, Timestamp) -> Row + Send + Sync>;
