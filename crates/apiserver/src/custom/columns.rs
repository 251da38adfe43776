//! Printer columns (`registry/customresource/tableconvertor`).

use api::{Value, meta};
use jiff::Timestamp;
use serde_json::json;

use super::jsonpath::JsonPath;
use crate::kind::{Column, Row};

/// The table of a version.
pub(crate) struct Columns {
    /// `TableColumnDefinition`s.
    pub headers: Vec<Value>,
    columns: Vec<(String, Option<JsonPath>)>,
}

impl Columns {
    /// From `additionalPrinterColumns`; without any there is an age.
    pub fn of(columns: &Value) -> Columns {
        let age = json!([{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp",
            "description": crate::kind::CREATED_AT}]);
        let columns = match columns.as_array() {
            Some(list) if !list.is_empty() => columns,
            _ => &age,
        };
        let name = Column::name();
        let mut headers = vec![json!({"name": name.name, "type": name.r#type, "format": name.format,
            "description": name.description, "priority": name.priority})];
        let mut made = Vec::new();
        for column in columns.as_array().into_iter().flatten() {
            let text = |field: &str| column[field].as_str().unwrap_or_default();
            let path = text("jsonPath");
            let description = match text("description") {
                "" => format!("Custom resource definition column (in JSONPath format): {path}"),
                text => text.to_owned(),
            };
            headers.push(
                json!({"name": text("name"), "type": text("type"), "format": text("format"),
                "description": description, "priority": column["priority"].as_i64().unwrap_or(0)}),
            );
            made.push((text("type").to_owned(), JsonPath::parse(path)));
        }
        Columns { headers, columns: made }
    }

    /// The cells of an object.
    pub fn row(&self, object: &Value, now: Timestamp) -> Row {
        let mut cells = vec![Value::from(meta::name(object))];
        for (ty, path) in &self.columns {
            let found = path.as_ref().and_then(|path| path.find(object).into_iter().next());
            cells.push(found.map_or(Value::Null, |value| cell(ty, value, now)));
        }
        Row::from(cells)
    }
}

fn cell(ty: &str, value: &Value, now: Timestamp) -> Value {
    match (ty, value) {
        ("string", Value::String(text)) => text.clone().into(),
        ("string", Value::Null) => "<nil>".into(),
        ("string", other) => other.to_string().into(),
        ("integer", Value::Number(number)) => match number.as_i64() {
            Some(whole) => whole.into(),
            #[expect(clippy::cast_possible_truncation, reason = "as Go's conversion")]
            None => number.as_f64().map_or(Value::Null, |f| (f as i64).into()),
        },
        ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => value.clone(),
        ("date", Value::String(text)) => match text.parse::<Timestamp>() {
            Ok(time) => api::time::short_human_duration(now.duration_since(time)).into(),
            Err(_) => "<invalid>".into(),
        },
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_follow_their_types() {
        let columns = Columns::of(&json!([
            {"name": "R", "type": "integer", "jsonPath": ".spec.replicas"},
            {"name": "S", "type": "string", "jsonPath": ".spec.list"},
            {"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"},
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
            {"name": "None", "type": "boolean", "jsonPath": ".spec.none"},
        ]));
        let object = json!({"metadata": {"name": "a", "creationTimestamp": "2024-01-01T00:00:00Z"},
            "spec": {"replicas": 3, "list": [1, 2]},
            "status": {"conditions": [{"type": "X", "status": "no"}, {"type": "Ready", "status": "True"}]}});
        let now: Timestamp = "2024-01-01T00:05:00Z".parse().unwrap();
        let row = columns.row(&object, now);
        assert_eq!(
            row.cells,
            [
                json!("a"),
                json!(3),
                json!("[1,2]"),
                json!("True"),
                json!("5m"),
                Value::Null
            ]
        );
        assert_eq!(columns.headers.len(), 6);
    }
}
