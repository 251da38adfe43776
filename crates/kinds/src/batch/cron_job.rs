//! `cronjobs`.

use api::Value;
use api::cron::{Schedule, zone_of};
use api::field::{Error, Path};
use apiserver::Kind;
use apiserver::kind::{Column, Subresource};

use super::job;
use crate::pod_spec::warnings::{self, Named};
use crate::{cells, checks, tree};

pub(crate) fn kind() -> Kind {
    Kind::namespaced("batch", "v1", "CronJob", "cronjobs")
        .short_names(&["cj"])
        .categories(&["all"])
        .with_generation()
        .default(|object| {
            let spec = tree::child(object, "spec");
            tree::fill(spec, "concurrencyPolicy", "Allow");
            tree::fill(spec, "suspend", false);
            tree::fill(spec, "successfulJobsHistoryLimit", 3);
            tree::fill(spec, "failedJobsHistoryLimit", 1);
            crate::pod_spec::defaults::template(object, "spec.jobTemplate.spec.template");
        })
        .warnings(|new, old| warnings::workload(new, old, Named::Yes, "spec.jobTemplate.spec.template"))
        .validate(create)
        .validate_update(|new, old| cron_job(new, Some(old)))
        .subresource(Subresource::status())
        .table(
            {
                let mut columns = vec![
                    Column::name(),
                    Column::string("Schedule", "When it runs."),
                    Column::string("Timezone", "The time zone of the schedule."),
                    Column {
                        r#type: "boolean",
                        ..Column::string("Suspend", "Whether it pauses.")
                    },
                    Column::integer("Active", "Jobs that are running."),
                    Column::string("Last Schedule", "When it ran last."),
                    Column::age(),
                ];
                columns.extend(cells::template_columns());
                columns.push(cells::selector_column());
                columns
            },
            |object, now| {
                let last = cells::moment(object, "status.lastScheduleTime");
                let template = "spec.jobTemplate.spec";
                let [names, images] = cells::containers(object, &format!("{template}.template.spec.containers"));
                let suspend = match tree::flag_opt(object, "spec.suspend") {
                    Some(true) => "True",
                    Some(false) => "False",
                    None => "<unset>",
                };
                vec![
                    cells::name(object),
                    tree::text(object, "spec.schedule").into(),
                    cells::or(tree::text(object, "spec.timeZone"), "<none>"),
                    suspend.into(),
                    tree::list(object, "status.active").len().into(),
                    last.map_or("<none>".to_owned(), |at| cells::since(Some(at), now))
                        .into(),
                    cells::age(object, now),
                    names,
                    images,
                    cells::selector(object, &format!("{template}.selector")),
                ]
            },
        )
}

fn create(object: &Value) -> Vec<Error> {
    let mut errors = cron_job(object, None);
    let name = api::meta::name(object);
    // The jobs' names have 11 characters more.
    if name.len() > 52 {
        let path = Path::new("metadata").child("name");
        errors.push(Error::invalid(&path, name, "must be no more than 52 characters"));
    }
    errors
}

fn cron_job(object: &Value, old: Option<&Value>) -> Vec<Error> {
    let path = Path::new("spec");
    let mut errors = Vec::new();
    let text = tree::text(object, "spec.schedule");
    if text.is_empty() {
        errors.push(Error::required(&path.child("schedule"), ""));
    } else {
        errors.extend(schedule(object, old, &path.child("schedule")));
    }
    let nonnegative = |field: &str| checks::nonnegative(tree::at(object, "spec").unwrap_or(&Value::Null), field, &path);
    errors.extend(nonnegative("startingDeadlineSeconds"));
    let zone = tree::text_opt(object, "spec.timeZone");
    if old.is_none_or(|old| tree::text_opt(old, "spec.timeZone") != zone) {
        errors.extend(
            zone.map(|zone| time_zone(zone, &path.child("timeZone")))
                .unwrap_or_default(),
        );
    }
    let known = &["Allow", "Forbid", "Replace"];
    let policy = tree::text(object, "spec.concurrencyPolicy");
    errors.extend(checks::one_of(policy, known, &path.child("concurrencyPolicy")));
    let template = tree::at(object, "spec.jobTemplate").unwrap_or(&Value::Null);
    let spec = path.child("jobTemplate").child("spec");
    errors.extend(job::validation::job_spec(template, &spec));
    if let Some(selector) = tree::at(template, "spec.selector") {
        let detail = "`selector` will be auto-generated";
        errors.push(Error::invalid(&spec.child("selector"), selector.clone(), detail));
    }
    if tree::flag(template, "spec.manualSelector") {
        let path = spec.child("manualSelector");
        errors.push(Error::not_supported(&path, true, &["nil", "false"]));
    }
    errors.extend(nonnegative("successfulJobsHistoryLimit"));
    errors.extend(nonnegative("failedJobsHistoryLimit"));
    errors
}

fn schedule(object: &Value, old: Option<&Value>, path: &Path) -> Vec<Error> {
    let text = tree::text(object, "spec.schedule");
    let mut errors = Vec::new();
    if let Err(why) = Schedule::parse(text) {
        errors.push(Error::invalid(path, text, why.to_string()));
    }
    let had_zone = old.is_some_and(|old| tree::text(old, "spec.schedule").contains("TZ"));
    if text.contains("TZ") {
        if !had_zone {
            let detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
            errors.push(Error::invalid(path, text, detail));
        } else if tree::text_opt(object, "spec.timeZone").is_some() {
            let detail = "cannot use both timeZone field and TZ or CRON_TZ in schedule";
            errors.push(Error::invalid(path, text, detail));
        }
    }
    errors
}

fn time_zone(zone: &str, path: &Path) -> Vec<Error> {
    if zone.is_empty() {
        let detail = "timeZone must be nil or non-empty string";
        return vec![Error::invalid(path, zone, detail)];
    }
    let good = |part: &str| {
        let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+');
        !matches!(part, "." | "..")
            && !part.starts_with('-')
            && (1..=14).contains(&part.len())
            && part.chars().all(known)
    };
    let unknown = format!("unknown time zone {zone}");
    if !zone.split('/').all(good) {
        return vec![Error::invalid(path, zone, unknown)];
    }
    let mut errors = Vec::new();
    let local = zone.eq_ignore_ascii_case("local");
    if local {
        let detail = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errors.push(Error::invalid(path, zone, detail));
    }
    // To Go, `Local` is a zone that there is.
    if zone != "Local" && zone_of(zone).is_none() {
        errors.push(Error::invalid(path, zone, unknown));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(spec: Value, old: Option<Value>) -> Vec<String> {
        let mut object = json!({"spec": {"concurrencyPolicy": "Allow"}});
        for (key, value) in spec.as_object().unwrap() {
            object["spec"][key] = value.clone();
        }
        let old = old.map(|spec| json!({"spec": spec}));
        let errors = cron_job(&object, old.as_ref());
        let own = errors.iter().filter(|error| !error.field.contains("jobTemplate"));
        own.map(ToString::to_string).collect()
    }

    #[test]
    fn schedules_and_zones() {
        assert_eq!(told(json!({"schedule": "*/5 0 1,15 * mon-fri"}), None), [""; 0]);
        let zoned = json!({"schedule": "CRON_TZ=UTC 0 0 * * *"});
        let detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        let refused = format!("spec.schedule: Invalid value: \"CRON_TZ=UTC 0 0 * * *\": {detail}");
        assert_eq!(told(zoned.clone(), None), [refused]);
        assert_eq!(told(zoned.clone(), Some(zoned)), [""; 0]);
        assert_eq!(
            told(json!({"schedule": "61 * * * *"}), None),
            ["spec.schedule: Invalid value: \"61 * * * *\": end of range (61) above maximum (59): 61"]
        );
        for (zone, detail) in [
            ("", "timeZone must be nil or non-empty string"),
            ("-x", "unknown time zone -x"),
            ("No/Where", "unknown time zone No/Where"),
            (
                "Local",
                "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
            ),
        ] {
            let line = format!("spec.timeZone: Invalid value: \"{zone}\": {detail}");
            assert_eq!(told(json!({"schedule": "@daily", "timeZone": zone}), None), [line]);
        }
    }
}
