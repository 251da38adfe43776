//! `events`, in the core group and in `events.k8s.io`; both share one storage, as core/v1.

use std::time::Duration;

use api::field::{Error, Path};
use api::{Gvk, Value, meta, validate};
use apiserver::Kind;
use apiserver::kind::{Column, Deletion, NameRule, SelectableField};
use jiff::Timestamp;

use crate::{cells, checks, tree};

/// Events go away an hour after their last write.
const LIFETIME: Duration = Duration::from_secs(3600);

/// (core/v1 name, events.k8s.io/v1 name) of the fields that differ.
const RENAMED: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

pub(crate) fn core_kind() -> Kind {
    common(Kind::namespaced("", "v1", "Event", "events"))
        .name_rule(NameRule::PathSegment)
        .validate(|event| basics(event, "reportingComponent"))
        .validate_update(|new, _| basics(new, "reportingComponent"))
        .table(columns(), row)
}

pub(crate) fn events_kind() -> Kind {
    common(Kind::namespaced("events.k8s.io", "v1", "Event", "events"))
        .stored_as("", "events", Gvk::new("", "v1", "Event"))
        .converted(to_core, from_core)
        .validate(|event| {
            let event = as_core(event);
            let mut errors = basics(&event, "reportingController");
            errors.extend(strict(&event));
            errors
        })
        .validate_update(|new, old| {
            let (new, old) = (as_core(new), as_core(old));
            let mut errors = basics(&new, "reportingController");
            errors.extend(strict_changes(&new, &old));
            errors
        })
        .table(columns(), |event, now| row(&as_core(event), now))
}

fn common(kind: Kind) -> Kind {
    let mut kind = kind
        .short_names(&["ev"])
        .allow_create_on_update()
        .expires_after(LIFETIME)
        .deletion(Deletion {
            no_garbage_collection: true,
            ..Deletion::default()
        })
        .selectable_paths(&["reason", "type"])
        .selectable(SelectableField::new("source", |event| {
            let source = text_of(event, "source.component");
            if source.is_empty() {
                text_of(event, "reportingComponent")
            } else {
                source
            }
            .to_owned()
        }));
    for name in [
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reportingComponent",
    ] {
        kind = kind.selectable(SelectableField::new(name, move |event| text_of(event, name).to_owned()));
    }
    // events.k8s.io names some of them differently.
    if !kind.gvk.group.is_empty() {
        for name in [
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
            "regarding.apiVersion",
        ] {
            kind = kind.selectable(SelectableField::new(name, move |event| {
                let rest = name.strip_prefix("regarding.").unwrap_or(name);
                text_of(event, &format!("involvedObject.{rest}")).to_owned()
            }));
        }
        kind = kind.selectable(SelectableField::new("reportingController", |event| {
            text_of(event, "reportingComponent").to_owned()
        }));
    }
    kind
}

/// The string at a path with core/v1 names, in an event of either version.
fn text_of<'v>(event: &'v Value, path: &str) -> &'v str {
    let (head, rest) = path
        .split_once('.')
        .map_or((path, None), |(head, rest)| (head, Some(rest)));
    let renamed = RENAMED
        .iter()
        .find(|(core, _)| *core == head)
        .map(|(_, events)| *events);
    let value = event.get(head).or_else(|| event.get(renamed?));
    let value = value.and_then(|value| rest.map_or(Some(value), |rest| tree::at(value, rest)));
    value.and_then(Value::as_str).unwrap_or("")
}

fn to_core(event: &mut Value) {
    rename(event, |(core, events)| (events, core));
}

fn from_core(event: &mut Value) {
    rename(event, |(core, events)| (core, events));
}

fn rename(event: &mut Value, direction: fn((&'static str, &'static str)) -> (&'static str, &'static str)) {
    let Some(map) = event.as_object_mut() else { return };
    for (from, to) in RENAMED.iter().copied().map(direction) {
        if let Some(value) = map.remove(from) {
            map.insert(to.to_owned(), value);
        }
    }
}

/// The event with core/v1 names, whichever it has.
fn as_core(event: &Value) -> Value {
    let mut event = event.clone();
    to_core(&mut event);
    event
}

fn columns() -> Vec<Column> {
    let mut name = Column::name();
    name.priority = 1;
    vec![
        Column::string("Last Seen", "When it happened last."),
        Column::string("Type", "Normal or Warning."),
        Column::string("Reason", "Why, in one word."),
        Column::string("Object", "What it is about."),
        Column::string("Subobject", "The part that it is about.").wide(),
        Column::string("Source", "Who reported it.").wide(),
        Column::string("Message", "What happened."),
        Column::string("First Seen", "When it happened first.").wide(),
        Column::string("Count", "How often it happened.").wide(),
        name,
    ]
}

fn row(event: &Value, now: Timestamp) -> Vec<Value> {
    let ago = |path| {
        let text = cells::since(cells::moment(event, path), now);
        (text != "<unknown>").then_some(text)
    };
    let unknown = || "<unknown>".to_owned();
    let first = ago("firstTimestamp")
        .or_else(|| ago("eventTime"))
        .unwrap_or_else(unknown);
    let mut last = ago("lastTimestamp").unwrap_or_else(|| first.clone());
    let mut count = tree::count(event, "count").max(0);
    if tree::at(event, "series").is_some() {
        last = ago("series.lastObservedTime").unwrap_or_else(unknown);
        count = tree::count(event, "series.count");
    } else if count == 0 {
        count = 1;
    }
    let kind = tree::text(event, "involvedObject.kind").to_lowercase();
    let target = match tree::text(event, "involvedObject.name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    let either = |a, b| {
        let first = tree::text(event, a);
        if first.is_empty() { tree::text(event, b) } else { first }
    };
    let mut source = either("source.component", "reportingComponent").to_owned();
    let host = either("source.host", "reportingInstance");
    if !host.is_empty() {
        source = format!("{source}, {host}");
    }
    vec![
        last.into(),
        tree::text(event, "type").into(),
        tree::text(event, "reason").into(),
        target.into(),
        tree::text(event, "involvedObject.fieldPath").into(),
        source.into(),
        tree::text(event, "message").trim().into(),
        first.into(),
        count.into(),
        cells::name(event),
    ]
}

/// What every event must be (`legacyValidateEvent`).
fn basics(event: &Value, reporter: &str) -> Vec<Error> {
    let mut errors = Vec::new();
    let namespace = meta::namespace(event);
    let involved = tree::text(event, "involvedObject.namespace");
    let is_new = !tree::text(event, "eventTime").is_empty();
    let agrees = match (is_new, involved) {
        (false, "") => matches!(namespace, "" | "default"),
        (false, involved) => involved == namespace,
        (true, "") => matches!(namespace, "default" | "kube-system"),
        (true, _) => true,
    };
    if !agrees {
        let path = Path::new("involvedObject").child("namespace");
        errors.push(Error::invalid(&path, involved, "does not match event.namespace"));
    }
    if is_new {
        let controller = tree::text(event, "reportingComponent");
        if controller.is_empty() {
            errors.push(Error::required(&Path::new(reporter), ""));
        }
        errors.extend(checks::qualified_name(controller, &Path::new(reporter)));
        for (field, limit, required) in [
            ("reportingInstance", 128, true),
            ("action", 128, true),
            ("reason", 128, true),
            ("message", 1024, false),
        ] {
            let text = tree::text(event, field);
            if required && text.is_empty() {
                errors.push(Error::required(&Path::new(field), ""));
            }
            if text.len() > limit {
                let detail = format!("can have at most {limit} characters");
                errors.push(Error::invalid(&Path::new(field), "", detail));
            }
        }
    }
    errors.extend(checks::invalid_each(
        &Path::new("namespace"),
        namespace,
        validate::dns1123_subdomain(namespace),
    ));
    errors
}

/// What `events.k8s.io/v1` asks of new events.
fn strict(event: &Value) -> Vec<Error> {
    let mut errors = series(event);
    if tree::text(event, "eventTime").is_empty() {
        errors.push(Error::required(&Path::new("eventTime"), ""));
    }
    let kind = tree::text(event, "type");
    if !matches!(kind, "Normal" | "Warning") {
        errors.push(Error::invalid(
            &Path::new("type"),
            "",
            format!("has invalid value: {kind}"),
        ));
    }
    let source = !tree::text(event, "source.component").is_empty() || !tree::text(event, "source.host").is_empty();
    for (field, set) in [
        ("firstTimestamp", !tree::text(event, "firstTimestamp").is_empty()),
        ("lastTimestamp", !tree::text(event, "lastTimestamp").is_empty()),
        ("count", tree::count(event, "count") != 0),
        ("source", source),
    ] {
        if set {
            errors.push(Error::invalid(&Path::new(field), "", "needs to be unset"));
        }
    }
    errors
}

fn strict_changes(new: &Value, old: &Value) -> Vec<Error> {
    let mut errors = Vec::new();
    if !tree::same(new.get("series"), old.get("series")) {
        errors.extend(series(new));
    }
    for (field, shown) in [
        ("involvedObject", "involvedObject"),
        ("reason", "reason"),
        ("message", "message"),
        ("source", "source"),
        ("firstTimestamp", "firstTimestamp"),
        ("lastTimestamp", "lastTimestamp"),
        ("count", "count"),
        ("type", "type"),
        ("eventTime", "eventTime"),
        ("action", "action"),
        ("related", "related"),
        ("reportingComponent", "reportingController"),
        ("reportingInstance", "reportingInstance"),
    ] {
        errors.extend(checks::immutable(new, old, field, &Path::new(shown)));
    }
    errors
}

fn series(event: &Value) -> Vec<Error> {
    let mut errors = Vec::new();
    let Some(series) = tree::at(event, "series") else {
        return errors;
    };
    if tree::count(series, "count") < 2 {
        errors.push(Error::invalid(&Path::new("series.count"), "", "should be at least 2"));
    }
    if tree::text(series, "lastObservedTime").is_empty() {
        errors.push(Error::required(&Path::new("series.lastObservedTime"), ""));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_two_versions_convert_into_each_other() {
        let core = json!({"involvedObject": {"name": "p"}, "message": "m", "count": 2, "source": {"component": "c"}});
        let mut event = core.clone();
        from_core(&mut event);
        assert_eq!(
            event,
            json!({"regarding": {"name": "p"}, "note": "m", "deprecatedCount": 2, "deprecatedSource": {"component": "c"}})
        );
        to_core(&mut event);
        assert_eq!(event, core);
    }

    #[test]
    fn both_versions_are_selected_alike() {
        let core = json!({"involvedObject": {"name": "p"}, "reportingComponent": "r"});
        let mut event = core.clone();
        from_core(&mut event);
        for event in [&core, &event] {
            assert_eq!(
                (
                    text_of(event, "involvedObject.name"),
                    text_of(event, "reportingComponent")
                ),
                ("p", "r")
            );
            assert_eq!(text_of(event, "source.component"), "");
        }
    }

    #[test]
    fn rows_say_who_when_and_what() {
        let event = json!({
            "metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec.x"},
            "type": "Normal", "reason": "Pulled", "message": " done \n",
            "source": {"component": "kubelet", "host": "n"},
            "firstTimestamp": "1970-01-01T00:00:00Z", "lastTimestamp": "1970-01-01T00:01:00Z", "count": 3,
        });
        let row = row(&event, Timestamp::from_second(120).unwrap());
        assert_eq!(
            row,
            [
                json!("60s"),
                json!("Normal"),
                json!("Pulled"),
                json!("pod/p"),
                json!("spec.x"),
                json!("kubelet, n"),
                json!("done"),
                json!("2m"),
                json!(3),
                json!("e")
            ]
        );
    }

    #[test]
    fn new_events_need_more_than_old_ones() {
        let fields = |errors: Vec<Error>| errors.into_iter().map(|e| e.field).collect::<Vec<_>>();
        let old = json!({"metadata": {"namespace": "a"}, "involvedObject": {"namespace": "b"}});
        assert_eq!(fields(basics(&old, "reportingComponent")), ["involvedObject.namespace"]);
        let new = json!({"metadata": {"namespace": "a"}, "involvedObject": {"namespace": "a"}, "eventTime": "t"});
        assert_eq!(
            fields(basics(&new, "reportingController")),
            [
                "reportingController",
                "reportingController",
                "reportingController",
                "reportingInstance",
                "action",
                "reason"
            ]
        );
        assert_eq!(
            fields(strict(&json!({"count": 1, "series": {}}))),
            ["series.count", "series.lastObservedTime", "eventTime", "type", "count"]
        );
    }
}
