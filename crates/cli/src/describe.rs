//! `describe`: an object's fields as an outline, and its events.

use std::process::ExitCode;

use anyhow::Result;
use api::meta;
use client::ListParams;
use serde_json::Value;

use crate::get::hide_managed_fields;
use crate::resources::{Resources, targets};
use crate::{Session, table};

/// Options of `describe`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// TYPE [NAME…] or TYPE/NAME…
    #[arg(required = true)]
    what: Vec<String>,
}

pub(crate) async fn run(session: &Session, options: &Options) -> Result<ExitCode> {
    let resources = Resources::discover(session).await?;
    let mut objects = Vec::new();
    for target in targets(&resources, &options.what)? {
        let namespace = if target.resource.namespaced {
            session.namespace.as_str()
        } else {
            ""
        };
        let handle = session.client.dynamic(&target.resource.gvr);
        match &target.name {
            Some(name) => objects.push(handle.get(namespace, name).await?),
            None => objects.extend(handle.list_all(namespace, &ListParams::default()).await?.items),
        }
    }
    for (index, mut object) in objects.into_iter().enumerate() {
        if index > 0 {
            print!("\n\n");
        }
        let events = events(session, &object).await?;
        hide_managed_fields(&mut object);
        print!("{}", outline(&object));
        print!("{}", event_table(&events));
    }
    Ok(ExitCode::SUCCESS)
}

async fn events(session: &Session, object: &Value) -> Result<Vec<Value>> {
    let events = session.client.dynamic(&api::Gvr {
        group: String::new(),
        version: "v1".into(),
        resource: "events".into(),
    });
    let selector = format!(
        "involvedObject.name={},involvedObject.uid={}",
        meta::name(object),
        meta::uid(object)
    );
    let mut found = events
        .list_all(meta::namespace(object), &ListParams::fields(selector))
        .await?
        .items;
    found.sort_by_key(|event| event["lastTimestamp"].as_str().unwrap_or_default().to_owned());
    Ok(found)
}

fn event_table(events: &[Value]) -> String {
    if events.is_empty() {
        return "Events:  <none>\n".into();
    }
    let mut rows = vec![
        ["  Type", "Reason", "Age", "From", "Message"]
            .map(String::from)
            .to_vec(),
    ];
    rows.push(
        ["  ----", "------", "----", "----", "-------"]
            .map(String::from)
            .to_vec(),
    );
    let now = jiff::Timestamp::now();
    for event in events {
        let text = |field: &str| event[field].as_str().unwrap_or_default().to_owned();
        let last = [
            &event["lastTimestamp"],
            &event["eventTime"],
            &event["metadata"]["creationTimestamp"],
        ];
        let at: Option<jiff::Timestamp> = last.iter().find_map(|time| time.as_str()?.parse().ok());
        let age = at.map_or("<unknown>".into(), |at| {
            api::time::human_duration(now.duration_since(at))
        });
        let count = event["count"].as_i64().unwrap_or(1);
        let age = if count > 1 { format!("{age} (x{count})") } else { age };
        let from = event["source"]["component"]
            .as_str()
            .or(event["reportingComponent"].as_str())
            .unwrap_or_default();
        rows.push(vec![
            format!("  {}", text("type")),
            text("reason"),
            age,
            from.to_owned(),
            text("message"),
        ]);
    }
    format!("Events:\n{}", table::render(&rows))
}

/// Name, namespace, labels and annotations first, then the rest by name.
fn outline(object: &Value) -> String {
    let mut text = String::new();
    let metadata = &object["metadata"];
    for (title, field) in [("Name", "name"), ("Namespace", "namespace")] {
        if let Some(value) = metadata[field].as_str() {
            text.push_str(&format!("{:<14}{value}\n", format!("{title}:")));
        }
    }
    for (title, field) in [("Labels", "labels"), ("Annotations", "annotations")] {
        text.push_str(&format!("{:<14}", format!("{title}:")));
        let pairs = metadata[field].as_object().filter(|pairs| !pairs.is_empty());
        let separator = if field == "labels" { "=" } else { ": " };
        let lines: Vec<String> = pairs
            .into_iter()
            .flatten()
            .map(|(key, value)| format!("{key}{separator}{}", value.as_str().unwrap_or_default().trim_end()))
            .collect();
        text.push_str(&if lines.is_empty() {
            "<none>".into()
        } else {
            lines.join(&format!("\n{:14}", ""))
        });
        text.push('\n');
    }
    for (field, value) in object.as_object().into_iter().flatten() {
        if !matches!(field.as_str(), "metadata" | "apiVersion" | "kind") {
            branch(&mut text, field, value, 0);
        }
    }
    text
}

fn branch(text: &mut String, name: &str, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    let title = title(name);
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            text.push_str(&format!("{indent}{title}:\n"));
            for (field, value) in fields {
                branch(text, field, value, depth + 1);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            text.push_str(&format!("{indent}{title}:\n"));
            for item in items {
                let label = ["name", "type", "key", "ip"].iter().find_map(|key| item[*key].as_str());
                branch(text, label.unwrap_or("-"), item, depth + 1);
            }
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(table::cell).collect();
            text.push_str(&format!("{indent}{title}:  {}\n", items.join(", ")));
        }
        Value::Object(_) => text.push_str(&format!("{indent}{title}:  <none>\n")),
        scalar => text.push_str(&format!("{indent}{title}:  {}\n", table::cell(scalar))),
    }
}

/// `restartPolicy` becomes `Restart Policy`.
fn title(name: &str) -> String {
    let mut title = String::new();
    for (index, letter) in name.chars().enumerate() {
        if index == 0 {
            title.extend(letter.to_uppercase());
        } else {
            if letter.is_uppercase() && !title.ends_with(|last: char| last.is_uppercase() || !last.is_alphanumeric()) {
                title.push(' ');
            }
            title.push(letter);
        }
    }
    title
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn outlines() {
        let object = json!({
            "kind": "Pod",
            "metadata": {"name": "p", "namespace": "d", "labels": {"a": "1"}},
            "spec": {"restartPolicy": "Always", "containers": [{"name": "c", "image": "i"}]},
        });
        assert_eq!(
            outline(&object),
            "Name:         p\nNamespace:    d\nLabels:       a=1\nAnnotations:  <none>\nSpec:\n  Containers:\n    C:\n      Image:  i\n      Name:  c\n  Restart Policy:  Always\n"
        );
    }
}
