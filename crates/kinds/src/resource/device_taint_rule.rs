//! `devicetaintrules`.

use api::field::{Error, Path};
use api::{Value, time, validate};
use apiserver::Kind;
use apiserver::kind::{Column, Subresource};

use super::{GROUP, names, taints};
use crate::{cells, checks, parts, tree};

const MAX_CONDITIONS: usize = 8;

pub(crate) fn kind() -> Kind {
    Kind::cluster(GROUP, "v1", "DeviceTaintRule", "devicetaintrules")
        .with_generation()
        .prepare_create(|context, rule| stamp(rule, &time::format(context.now)))
        .prepare_update(|context, new, old| {
            // A taint with another effect is a new one.
            let effect = |rule: &Value| tree::text(rule, "spec.taint.effect").to_owned();
            let kept = tree::text(new, "spec.taint.timeAdded") == tree::text(old, "spec.taint.timeAdded");
            if effect(new) != effect(old) && kept {
                tree::unset(tree::child(tree::child(new, "spec"), "taint"), "timeAdded");
            }
            stamp(new, &time::format(context.now));
        })
        .validate(|new| rule(new, None))
        .validate_update(|new, old| rule(new, Some(old)))
        .subresource(
            Subresource::status()
                .prepare(|_, new, old| parts::status_only(new, old))
                .validate(|new, _| status(new)),
        )
        .table(vec![Column::name(), Column::age()], |rule, now| {
            vec![cells::name(rule), cells::age(rule, now)]
        })
}

fn stamp(rule: &mut Value, now: &str) {
    if tree::at(rule, "spec.taint").is_some() {
        tree::fill(tree::child(tree::child(rule, "spec"), "taint"), "timeAdded", now);
    }
}

fn rule(new: &Value, old: Option<&Value>) -> Vec<Error> {
    let path = Path::new("spec");
    let mut errors = Vec::new();
    if let Some(selector) = tree::at(new, "spec.deviceSelector") {
        let path = path.child("deviceSelector");
        for (field, check) in [
            ("driver", names::driver as fn(&str, &Path) -> Vec<Error>),
            ("pool", names::pool),
            ("device", checks::dns_label),
        ] {
            if let Some(name) = tree::text_opt(selector, field) {
                errors.extend(check(name, &path.child(field)));
            }
        }
    }
    let taint = tree::at(new, "spec.taint").unwrap_or(&Value::Null);
    let before = old.map(|old| tree::at(old, "spec.taint").unwrap_or(&Value::Null));
    errors.extend(taints::taint(taint, before, &path.child("taint")));
    errors
}

fn status(rule: &Value) -> Vec<Error> {
    let conditions = tree::list(rule, "status.conditions");
    let path = Path::new("status").child("conditions");
    let mut errors = validate::conditions(conditions, &path);
    if conditions.len() > MAX_CONDITIONS {
        errors.push(Error::too_many(&path, conditions.len(), MAX_CONDITIONS));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rules_taint_devices() {
        let mut good = json!({"spec": {"deviceSelector": {"driver": "a.io", "pool": "p", "device": "d"},
            "taint": {"key": "a", "effect": "NoExecute"}}});
        assert_eq!(rule(&good, None), []);
        stamp(&mut good, "2026-01-01T00:00:00Z");
        assert_eq!(good["spec"]["taint"]["timeAdded"], "2026-01-01T00:00:00Z");
        let bad = json!({"spec": {"deviceSelector": {"driver": "", "pool": "", "device": "A"}}});
        let fields: Vec<String> = rule(&bad, None).into_iter().map(|error| error.field).collect();
        assert_eq!(fields.first().map(String::as_str), Some("spec.deviceSelector.driver"));
        assert!(fields.contains(&"spec.deviceSelector.pool".to_owned()));
        assert_eq!(fields.last().map(String::as_str), Some("spec.taint.effect"));
    }
}
