//! `cronjobs`.

use api::Value;
use api::field::{Error, Path};
use apiserver::Kind;
use apiserver::kind::{Column, Subresource};

use super::job;
use crate::{cells, checks, tree};

pub(crate) fn kind() -> Kind {
    Kind::namespaced("batch", "v1", "CronJob", "cronjobs")
        .short_names(&["cj"])
        .categories(&["all"])
        .with_generation()
        .name_rule(apiserver::kind::NameRule::Custom(name))
        .default(|object| {
            let spec = tree::child(object, "spec");
            tree::fill(spec, "concurrencyPolicy", "Allow");
            tree::fill(spec, "suspend", false);
            tree::fill(spec, "successfulJobsHistoryLimit", 3);
            tree::fill(spec, "failedJobsHistoryLimit", 1);
            crate::pod_spec::defaults::template(object, "spec.jobTemplate.spec.template");
        })
        .validate(cron_job)
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

/// Room is left for the suffix of the jobs' names.
fn name(name: &str) -> Vec<String> {
    let mut messages = api::validate::dns1123_subdomain(name);
    if name.len() > 52 {
        messages.push("must be no more than 52 characters".to_owned());
    }
    messages
}

fn cron_job(object: &Value) -> Vec<Error> {
    let path = Path::new("spec");
    let mut errors = Vec::new();
    let schedule = tree::text(object, "spec.schedule");
    if schedule.is_empty() {
        errors.push(Error::required(&path.child("schedule"), ""));
    } else {
        errors.extend(schedule_errors(schedule, &path.child("schedule")));
    }
    let known = &["Allow", "Forbid", "Replace"];
    let policy = tree::text(object, "spec.concurrencyPolicy");
    errors.extend(checks::one_of(policy, known, &path.child("concurrencyPolicy")));
    if let Some(zone) = tree::text_opt(object, "spec.timeZone") {
        let path = path.child("timeZone");
        if zone.is_empty() {
            errors.push(Error::invalid(&path, zone, "timeZone must be nil or non-empty string"));
        } else if zone.eq_ignore_ascii_case("local") {
            errors.push(Error::invalid(
                &path,
                zone,
                "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
            ));
        }
    }
    for field in [
        "startingDeadlineSeconds",
        "successfulJobsHistoryLimit",
        "failedJobsHistoryLimit",
    ] {
        errors.extend(checks::nonnegative(object, &format!("spec.{field}"), &Path::root()));
    }
    let template = tree::at(object, "spec.jobTemplate").unwrap_or(&Value::Null);
    errors.extend(job::job_spec(template, &path.child("jobTemplate").child("spec")));
    errors
}

/// A schedule is five fields or one of the `@` words.
fn schedule_errors(schedule: &str, path: &Path) -> Vec<Error> {
    let words = [
        "@yearly",
        "@annually",
        "@monthly",
        "@weekly",
        "@daily",
        "@midnight",
        "@hourly",
    ];
    if words.contains(&schedule)
        || schedule
            .strip_prefix("@every ")
            .is_some_and(|d| api::time::parse_go_duration(d).is_some())
    {
        return Vec::new();
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if fields
        .first()
        .is_some_and(|field| field.starts_with("TZ=") || field.starts_with("CRON_TZ="))
    {
        let detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        return vec![Error::invalid(path, schedule, detail)];
    }
    if fields.len() != 5 {
        let detail = format!(
            "expected exactly 5 fields, found {}: [{}]",
            fields.len(),
            fields.join(" ")
        );
        return vec![Error::invalid(path, schedule, detail)];
    }
    let bounds = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 6)];
    let names: [&[&str]; 5] = [
        &[],
        &[],
        &[],
        &[
            "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
        ],
        &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
    ];
    for ((field, (low, high)), names) in fields.iter().zip(bounds).zip(names) {
        if !field.split(',').all(|part| is_cron_part(part, low, high, names)) {
            let detail = format!("failed to parse field: {field}");
            return vec![Error::invalid(path, schedule, detail)];
        }
    }
    Vec::new()
}

fn is_cron_part(part: &str, low: u32, high: u32, names: &[&str]) -> bool {
    let (range, step) = part
        .split_once('/')
        .map_or((part, None), |(range, step)| (range, Some(step)));
    if step.is_some_and(|step| step.parse::<u32>().map_or(true, |step| step == 0)) {
        return false;
    }
    if matches!(range, "*" | "?") {
        return true;
    }
    let number = |text: &str| {
        let named = names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let number = named.map(|index| index as u32 + low).or_else(|| text.parse().ok())?;
        (low..=high).contains(&number).then_some(number)
    };
    match range.split_once('-') {
        Some((from, to)) => matches!((number(from), number(to)), (Some(from), Some(to)) if from <= to),
        None => number(range).is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_cron() {
        let path = Path::new("schedule");
        for good in [
            "* * * * *",
            "*/5 0 1,15 * mon-fri",
            "@daily",
            "@every 1h",
            "0 0 ? jan 0",
        ] {
            assert!(schedule_errors(good, &path).is_empty(), "{good}");
        }
        for bad in [
            "* * * *",
            "60 * * * *",
            "* * * * 8",
            "*/0 * * * *",
            "TZ=UTC * * * * *",
            "5-1 * * * *",
            "x",
        ] {
            assert_eq!(schedule_errors(bad, &path).len(), 1, "{bad}");
        }
    }
}
