//! Table cells that many kinds share.

use api::{Map, Value, labels, meta, time};
use apiserver::kind::Column;
use jiff::Timestamp;

use crate::tree;

/// The object's name.
pub fn name(object: &Value) -> Value {
    meta::name(object).into()
}

/// The time since the object was made.
pub fn age(object: &Value, now: Timestamp) -> Value {
    since(meta::creation_timestamp(object), now).into()
}

/// The time since a moment, as kubectl prints it.
pub fn since(at: Option<Timestamp>, now: Timestamp) -> String {
    at.map_or_else(
        || "<unknown>".to_owned(),
        |at| time::human_duration(now.duration_since(at)),
    )
}

/// The moment at a path.
pub fn moment(object: &Value, path: &str) -> Option<Timestamp> {
    time::parse(tree::text(object, path)).ok()
}

/// Names and images of the containers at a path, each joined by commas.
pub fn containers(object: &Value, path: &str) -> [Value; 2] {
    let join = |field| {
        let items = tree::list(object, path).iter().map(|item| tree::text(item, field));
        Value::from(items.collect::<Vec<_>>().join(","))
    };
    [join("name"), join("image")]
}

/// A LabelSelector at a path.
pub fn selector(object: &Value, path: &str) -> Value {
    labels::format_label_selector(tree::at(object, path)).into()
}

/// A label map at a path.
pub fn label_map(object: &Value, path: &str) -> Value {
    labels::format_labels(&meta::string_map(tree::at(object, path))).into()
}

/// A string, or a stand-in when it is empty.
pub fn or(text: &str, empty: &str) -> Value {
    if text.is_empty() { empty.into() } else { text.into() }
}

/// The number of entries of a map.
pub fn size(map: Option<&Map<String, Value>>) -> i64 {
    map.map_or(0, |map| map.len() as i64)
}

/// The first items of a list, and how many more there are.
pub fn clipped(items: impl IntoIterator<Item = String>, max: usize, none: &str) -> String {
    let items: Vec<String> = items.into_iter().collect();
    let shown = items[..items.len().min(max)].join(",");
    if items.len() > max {
        return format!("{shown} + {} more...", items.len() - max);
    }
    if shown.is_empty() { none.to_owned() } else { shown }
}

/// The columns of a pod template, shown with `-o wide`.
pub fn template_columns() -> [Column; 2] {
    [
        Column::string("Containers", "Names of the containers in the template.").wide(),
        Column::string("Images", "Images of the containers in the template.").wide(),
    ]
}

/// The selector column, shown with `-o wide`.
pub fn selector_column() -> Column {
    Column::string("Selector", "Label selector of the pods.").wide()
}
