//! Which time is due (upstream `mostRecentScheduleTime`).

use api::cron::Schedule;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::CronJob;

/// More missed times than this are worth a warning.
const MANY: i64 = 100;

/// A time that has come.
#[derive(Debug, PartialEq)]
pub(super) struct Due {
    pub time: Timestamp,
    pub too_many_missed: bool,
}

/// The latest time since the last one that was served (or the creation, or the deadline) that is not in the future.
pub(super) fn due(cron: &CronJob, now: Timestamp, schedule: &Schedule) -> Result<Option<Due>, &'static str> {
    let never = "time difference between two schedules is less than 1 second";
    let created = crate::object::created(cron).unwrap_or(now);
    let last = cron
        .status
        .as_ref()
        .and_then(|status| status.last_schedule_time.as_ref());
    let mut earliest = last.map_or(created, |last| last.0);
    if let Some(seconds) = cron.spec.starting_deadline_seconds {
        earliest = earliest.max(now - SignedDuration::from_secs(seconds));
    }
    let first = schedule.next(earliest).ok_or(never)?;
    if now < first {
        return Ok(None);
    }
    let second = schedule.next(first).ok_or(never)?;
    if now < second {
        return Ok(Some(Due {
            time: first,
            too_many_missed: false,
        }));
    }
    let between = second.duration_since(first).as_secs();
    if between < 1 {
        return Err(never);
    }
    let missed = now.duration_since(first).as_secs() / between + 1;
    let mut time = None;
    // Not one by one from the beginning: there may be years of them.
    let start = first + SignedDuration::from_secs((missed - 2).max(0) * between);
    let mut next = if missed > 2 { schedule.next(start) } else { Some(first) };
    while let Some(candidate) = next.filter(|candidate| *candidate <= now) {
        time = Some(candidate);
        next = schedule.next(candidate);
    }
    Ok(time.map(|time| Due {
        time,
        too_many_missed: missed > MANY,
    }))
}

/// Minutes since 1970: what tells a CronJob's Jobs apart.
pub(super) fn job_minutes(time: Timestamp) -> i64 {
    time.as_second() / 60
}
