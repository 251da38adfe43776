//! Tables: what `kubectl get` shows (`meta.k8s.io` Table; upstream `registry/rest/table.go`).

use api::field::{Error, Path};
use api::{Status, Value, meta};
use jiff::Timestamp;
use serde_json::json;

use crate::kind::{CREATED_AT, Column, Row};
use crate::negotiate::MetaVersion;
use crate::request::Query;
use crate::resource::Resource;

/// What a row carries beside its cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Include {
    Metadata,
    Object,
    None,
}

impl Include {
    /// Reads `includeObject`.
    ///
    /// # Errors
    /// 400 if it is none of the known values.
    pub fn read(query: &Query) -> Result<Include, Status> {
        match query.get("includeObject").unwrap_or("") {
            "" | "Metadata" => Ok(Include::Metadata),
            "Object" => Ok(Include::Object),
            "None" => Ok(Include::None),
            other => {
                let path = Path::new("includeObject");
                let detail = "must be 'Metadata', 'Object', 'None', or empty";
                Err(Status::bad_request(format!(
                    "Unable to convert to Table as requested: {}",
                    Error::invalid(&path, other, detail)
                )))
            }
        }
    }
}

/// A row of one object.
pub(crate) fn row(
    resource: &Resource,
    object: &Value,
    include: Include,
    version: MetaVersion,
    now: Timestamp,
) -> Value {
    let made = match &resource.kind.row {
        Some(row) => row(object, now),
        None => Row::from(vec![
            Value::from(meta::name(object)),
            object
                .get("metadata")
                .and_then(|m| m.get("creationTimestamp"))
                .cloned()
                .unwrap_or(Value::Null),
        ]),
    };
    let mut row = json!({"cells": made.cells});
    if !made.conditions.is_empty() {
        row["conditions"] = Value::Array(made.conditions);
    }
    row["object"] = match include {
        Include::None => Value::Null,
        Include::Object => object.clone(),
        Include::Metadata => super::output::partial(object, version).1,
    };
    row
}

/// The whole table.
pub(crate) fn table(
    resource: &Resource,
    version: MetaVersion,
    metadata: &Value,
    rows: Vec<Value>,
    query: &Query,
) -> Value {
    let columns = if query.flag("noHeaders") {
        Vec::new()
    } else {
        columns(resource)
    };
    json!({
        "kind": "Table",
        "apiVersion": version.api_version(),
        "metadata": metadata,
        "columnDefinitions": columns,
        "rows": rows,
    })
}

/// The columns; kinds without their own have a name and an age.
fn columns(resource: &Resource) -> Vec<Value> {
    if let Some(custom) = &resource.kind.custom {
        return custom.columns.headers.clone();
    }
    let name = Column::name();
    let created = Column {
        name: "Created At",
        r#type: "date",
        format: "",
        priority: 0,
        description: CREATED_AT,
    };
    let defaults = [name, created];
    let own = &resource.kind.columns;
    let columns: &[Column] = if own.is_empty() { &defaults } else { own };
    columns
        .iter()
        .map(|c| {
            json!({
                "name": c.name, "type": c.r#type, "format": c.format,
                "description": c.description, "priority": c.priority,
            })
        })
        .collect()
}
