//! `componentstatuses`: never stored; the API server makes them up when they are asked for.

use api::Value;
use apiserver::Kind;
use apiserver::kind::{Column, Verb};

use crate::{cells, tree};

pub(crate) fn kind() -> Kind {
    Kind::cluster("", "v1", "ComponentStatus", "componentstatuses")
        .short_names(&["cs"])
        .verbs(&[Verb::Get, Verb::List])
        .deprecated("v1 ComponentStatus is deprecated in v1.19+")
        .table(
            vec![
                Column::name(),
                Column::string("Status", "Whether the component is healthy."),
                Column::string("Message", "What its check says."),
                Column::string("Error", "Why its check failed."),
            ],
            |object, _| row(object),
        )
}

fn row(object: &Value) -> Vec<Value> {
    let mut conditions = tree::list(object, "conditions").iter();
    let healthy = conditions.find(|condition| tree::text(condition, "type") == "Healthy");
    let status = match healthy.map(|condition| tree::text(condition, "status")) {
        None => "Unknown",
        Some("True") => "Healthy",
        Some(_) => "Unhealthy",
    };
    let text = |field| healthy.map_or("", |condition| tree::text(condition, field));
    vec![
        cells::name(object),
        status.into(),
        text("message").into(),
        text("error").into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rows_say_whether_it_is_healthy() {
        let object = |status: &str| json!({"metadata": {"name": "x"}, "conditions": [{"type": "Healthy", "status": status, "message": "ok"}]});
        assert_eq!(row(&object("True")), ["x", "Healthy", "ok", ""]);
        assert_eq!(row(&object("False"))[1], "Unhealthy");
        assert_eq!(row(&json!({"metadata": {"name": "x"}})), ["x", "Unknown", "", ""]);
    }
}
