//! Cron schedules, as `robfig/cron` v3's `ParseStandard` reads them and upstream's CronJobs use them: five fields,
//! names, steps, `@hourly` and the like, `@every`, and a time zone in front (`TZ=…` or `CRON_TZ=…`).

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan, Unit, Zoned, ZonedRound};

/// Why a text is no schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum CronError {
    #[error("empty spec string")]
    Empty,
    #[error("expected exactly 5 fields, found {}: [{}]", .0, .1.join(" "))]
    Fields(usize, Vec<String>),
    #[error("unrecognized descriptor: {0}")]
    Descriptor(String),
    #[error("failed to parse duration {0}")]
    Duration(String),
    #[error("provided bad location {0}: unknown time zone {0}")]
    Location(String),
    #[error("too many hyphens: {0}")]
    Hyphens(String),
    #[error("too many slashes: {0}")]
    Slashes(String),
    #[error("failed to parse int from {0}: strconv.Atoi: parsing \"{0}\": invalid syntax")]
    Number(String),
    #[error("beginning of range ({0}) below minimum ({1}): {2}")]
    Below(u32, u32, String),
    #[error("end of range ({0}) above maximum ({1}): {2}")]
    Above(u32, u32, String),
    #[error("beginning of range ({0}) beyond end of range ({1}): {2}")]
    Backwards(u32, u32, String),
    #[error("step of range should be a positive number: {0}")]
    Step(String),
}

/// Times that return.
#[derive(Clone, Debug)]
pub struct Schedule {
    zone: TimeZone,
    times: Times,
}

#[derive(Clone, Debug)]
enum Times {
    Every(SignedDuration),
    Fields(Box<Fields>),
}

/// The values of each field, as bits; [`STAR`] if all were meant.
#[derive(Clone, Debug)]
struct Fields {
    minute: u64,
    hour: u64,
    day_of_month: u64,
    month: u64,
    day_of_week: u64,
}

const STAR: u64 = 1 << 63;
const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

struct Bounds {
    min: u32,
    max: u32,
    names: &'static [&'static str],
}

const BOUNDS: [Bounds; 5] = [
    Bounds {
        min: 0,
        max: 59,
        names: &[],
    },
    Bounds {
        min: 0,
        max: 23,
        names: &[],
    },
    Bounds {
        min: 1,
        max: 31,
        names: &[],
    },
    Bounds {
        min: 1,
        max: 12,
        names: &MONTHS,
    },
    Bounds {
        min: 0,
        max: 6,
        names: &DAYS,
    },
];

impl Schedule {
    /// Reads a schedule. Without a zone of its own it is in UTC.
    pub fn parse(text: &str) -> Result<Self, CronError> {
        let mut text = text;
        let mut zone = TimeZone::UTC;
        if let Some(rest) = text.strip_prefix("TZ=").or_else(|| text.strip_prefix("CRON_TZ=")) {
            let (name, spec) = rest.split_once(' ').ok_or(CronError::Empty)?;
            zone = zone_of(name).ok_or_else(|| CronError::Location(name.to_owned()))?;
            text = spec.trim();
        }
        if text.is_empty() {
            return Err(CronError::Empty);
        }
        let times = if text.starts_with('@') {
            descriptor(text)?
        } else {
            fields(text)?
        };
        Ok(Self { zone, times })
    }

    /// The same in another zone.
    pub fn in_zone(mut self, zone: TimeZone) -> Self {
        self.zone = zone;
        self
    }

    /// The first time after `after`; `None` if there is none within five years.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        match &self.times {
            Times::Every(duration) => {
                let whole = Timestamp::from_second(after.as_second()).ok()?;
                whole.checked_add(*duration).ok()
            }
            Times::Fields(fields) => fields.next(after.to_zoned(self.zone.clone())),
        }
    }
}

/// A time zone by its IANA name (`time.LoadLocation`).
pub fn zone_of(name: &str) -> Option<TimeZone> {
    match name {
        "" | "UTC" => Some(TimeZone::UTC),
        _ => TimeZone::get(name).ok(),
    }
}

fn descriptor(text: &str) -> Result<Times, CronError> {
    let spec = match text {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        _ => {
            let every = text
                .strip_prefix("@every ")
                .ok_or_else(|| CronError::Descriptor(text.to_owned()))?;
            let duration = go_duration(every).ok_or_else(|| CronError::Duration(text.to_owned()))?;
            return Ok(Times::Every(SignedDuration::from_secs(duration.as_secs().max(1))));
        }
    };
    fields(spec)
}

/// A duration as Go writes it: `1h30m`, `1.5s`.
fn go_duration(text: &str) -> Option<SignedDuration> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(SignedDuration::ZERO);
    }
    let mut seconds = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let units = [
            ("ns", 1e-9),
            ("us", 1e-6),
            ("µs", 1e-6),
            ("ms", 1e-3),
            ("s", 1.0),
            ("m", 60.0),
            ("h", 3600.0),
        ];
        let (unit, scale) = units.into_iter().find(|(unit, _)| {
            rest.strip_prefix(unit)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(|c: char| c.is_ascii_digit()))
        })?;
        seconds += number * scale;
        rest = &rest[unit.len()..];
    }
    SignedDuration::try_from_secs_f64(if negative { -seconds } else { seconds }).ok()
}

fn fields(text: &str) -> Result<Times, CronError> {
    let all: Vec<&str> = text.split_whitespace().collect();
    let [minute, hour, day_of_month, month, day_of_week] = all.as_slice() else {
        return Err(CronError::Fields(
            all.len(),
            all.into_iter().map(str::to_owned).collect(),
        ));
    };
    let read = |text: &str, index: usize| field(text, &BOUNDS[index]);
    Ok(Times::Fields(Box::new(Fields {
        minute: read(minute, 0)?,
        hour: read(hour, 1)?,
        day_of_month: read(day_of_month, 2)?,
        month: read(month, 3)?,
        day_of_week: read(day_of_week, 4)?,
    })))
}

fn field(text: &str, bounds: &Bounds) -> Result<u64, CronError> {
    let mut bits = 0;
    for part in text.split(',').filter(|part| !part.is_empty()) {
        bits |= range(part, bounds)?;
    }
    Ok(bits)
}

fn range(text: &str, bounds: &Bounds) -> Result<u64, CronError> {
    let mut slashes = text.split('/');
    let ends = slashes.next().unwrap_or("");
    let step_text = slashes.next();
    if slashes.next().is_some() {
        return Err(CronError::Slashes(text.to_owned()));
    }
    let mut hyphens = ends.split('-');
    let first = hyphens.next().unwrap_or("");
    let last = hyphens.next();
    if hyphens.next().is_some() {
        return Err(CronError::Hyphens(text.to_owned()));
    }
    let (start, mut end, mut extra) = if first == "*" || first == "?" {
        (bounds.min, bounds.max, STAR)
    } else {
        let start = value(first, bounds)?;
        (start, last.map_or(Ok(start), |last| value(last, bounds))?, 0)
    };
    let mut step = 1;
    if let Some(text) = step_text {
        step = number(text)?;
        if last.is_none() && extra == 0 {
            end = bounds.max;
        }
        if step > 1 {
            extra = 0;
        }
    }
    if start < bounds.min {
        return Err(CronError::Below(start, bounds.min, text.to_owned()));
    }
    if end > bounds.max {
        return Err(CronError::Above(end, bounds.max, text.to_owned()));
    }
    if start > end {
        return Err(CronError::Backwards(start, end, text.to_owned()));
    }
    if step == 0 {
        return Err(CronError::Step(text.to_owned()));
    }
    let bits = (start..=end)
        .step_by(step as usize)
        .fold(0, |bits, value| bits | 1 << value);
    Ok(bits | extra)
}

fn value(text: &str, bounds: &Bounds) -> Result<u32, CronError> {
    let lower = text.to_lowercase();
    match bounds.names.iter().position(|name| *name == lower) {
        Some(index) => Ok(bounds.min + u32::try_from(index).expect("twelve at most")),
        None => number(text),
    }
}

fn number(text: &str) -> Result<u32, CronError> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|_| digits)
        .ok_or_else(|| CronError::Number(text.to_owned()))
}

fn has(bits: u64, value: i8) -> bool {
    bits & 1 << value != 0
}

impl Fields {
    /// Both day fields must fit if one of them is a star, else one of them.
    fn day_fits(&self, time: &Zoned) -> bool {
        let by_month = has(self.day_of_month, time.day());
        let by_week = has(self.day_of_week, time.weekday().to_sunday_zero_offset());
        if self.day_of_month & STAR != 0 || self.day_of_week & STAR != 0 {
            by_month && by_week
        } else {
            by_month || by_week
        }
    }

    /// Hours and minutes are walked on the clock of the world, so that an hour that a zone skips has no times, and one
    /// that it repeats has its times twice, as with upstream's library.
    fn next(&self, after: Zoned) -> Option<Timestamp> {
        let whole = ZonedRound::new().smallest(Unit::Minute).mode(jiff::RoundMode::Trunc);
        let mut time = after.round(whole).ok()?.checked_add(1.minute()).ok()?;
        let last_year = after.year().saturating_add(5);
        while time.year() <= last_year {
            if !has(self.month, time.month()) {
                time = time
                    .first_of_month()
                    .ok()?
                    .start_of_day()
                    .ok()?
                    .checked_add(1.month())
                    .ok()?
                    .start_of_day()
                    .ok()?;
            } else if !self.day_fits(&time) {
                time = time.tomorrow().ok()?.start_of_day().ok()?;
            } else if !has(self.hour, time.hour()) {
                let minutes = i64::from(60 - time.minute());
                time = time.checked_add(minutes.minutes()).ok()?;
            } else if !has(self.minute, time.minute()) {
                time = time.checked_add(1.minute()).ok()?;
            } else {
                return Some(time.timestamp());
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(spec: &str, after: &str) -> Option<String> {
        let after: Timestamp = after.parse().expect("a time");
        Schedule::parse(spec)
            .expect(spec)
            .next(after)
            .map(|time| time.to_string())
    }

    #[test]
    fn the_next_time_is_the_first_that_fits() {
        for (spec, after, expected) in [
            ("* * * * *", "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"),
            ("* * * * *", "2026-01-01T00:00:59.5Z", "2026-01-01T00:01:00Z"),
            ("*/15 * * * *", "2026-01-01T00:59:00Z", "2026-01-01T01:00:00Z"),
            ("5/20 * * * *", "2026-01-01T00:06:00Z", "2026-01-01T00:25:00Z"),
            ("0 9-17/4 * * mon-fri", "2026-01-02T17:30:00Z", "2026-01-05T09:00:00Z"),
            ("0 0 13 * fri", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
            ("0 0 13 * *", "2026-01-14T00:00:00Z", "2026-02-13T00:00:00Z"),
            ("0 0 29 feb *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("30 6 1 JAN,jul ?", "2026-01-01T06:30:00Z", "2026-07-01T06:30:00Z"),
            ("@hourly", "2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z"),
            ("@yearly", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("@every 1h30m", "2026-01-01T00:00:00.7Z", "2026-01-01T01:30:00Z"),
            (
                "TZ=Europe/Berlin 0 12 * * *",
                "2026-07-01T00:00:00Z",
                "2026-07-01T10:00:00Z",
            ),
            (
                "CRON_TZ=Asia/Tokyo 0 0 * * *",
                "2026-07-01T00:00:00Z",
                "2026-07-01T15:00:00Z",
            ),
        ] {
            assert_eq!(next(spec, after).as_deref(), Some(expected), "{spec} after {after}");
        }
        assert_eq!(next("59 23 31 2 *", "2026-01-01T00:00:00Z"), None);
    }

    #[test]
    fn a_skipped_hour_has_no_times_and_a_repeated_one_has_them_twice() {
        let berlin = "TZ=Europe/Berlin 30 2 * * *";
        assert_eq!(
            next(berlin, "2026-03-28T12:00:00Z").as_deref(),
            Some("2026-03-30T00:30:00Z")
        );
        let first = next(berlin, "2026-10-24T12:00:00Z").expect("a time");
        assert_eq!(first, "2026-10-25T00:30:00Z");
        assert_eq!(next(berlin, &first).as_deref(), Some("2026-10-25T01:30:00Z"));
    }

    #[test]
    fn what_is_no_schedule_says_why() {
        for (spec, message) in [
            ("", "empty spec string"),
            ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("1/2/3 * * * *", "too many slashes: 1/2/3"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            (
                "x * * * *",
                "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax",
            ),
            ("@often", "unrecognized descriptor: @often"),
            ("@every soon", "failed to parse duration @every soon"),
            (
                "TZ=Nowhere/Land * * * * *",
                "provided bad location Nowhere/Land: unknown time zone Nowhere/Land",
            ),
        ] {
            assert_eq!(Schedule::parse(spec).expect_err(spec).to_string(), message);
        }
    }
}
