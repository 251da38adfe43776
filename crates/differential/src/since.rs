//! Fields that the recorded version does not have: the corpus leaves them out.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use schema::Schema;
use serde_json::Value;

const ABSENT: &str = include_str!("../data/fields-since-v1.28.txt");

static SET: LazyLock<BTreeSet<&'static str>> = LazyLock::new(|| ABSENT.lines().collect());

/// Whether the recorded version has this field of this struct (by its OpenAPI name).
pub(crate) fn has(structure: &str, field: &str) -> bool {
    !SET.contains(format!("{structure} {field}").as_str())
}

/// Fields of the schema that an OpenAPI v2 document does not have, as `data/fields-since-v1.28.txt`
/// lists them. Structs that the document does not have at all are left out.
pub fn absent_fields(schema: &Schema, document: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, id) in schema.structs() {
        let (Some(known), Some(structure)) = (document["definitions"].get(name), schema.get(id).as_struct()) else {
            continue;
        };
        for field in structure.fields() {
            if known["properties"].get(field.name()).is_none() {
                lines.push(format!("{name} {}", field.name()));
            }
        }
    }
    lines
}
