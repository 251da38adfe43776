//! Moments, spans of time and doubles as Go reads and writes them.

use jiff::Span;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;

const NANOS: i128 = 1_000_000_000;
/// 0001-01-01T00:00:00Z
const MIN_SECONDS: i64 = -62_135_596_800;
/// 9999-12-31T23:59:59Z
const MAX_SECONDS: i64 = 253_402_300_799;

/// A moment between the years 1 and 9999, which `jiff::Timestamp` does not reach to the end. It remembers the offset
/// that it was written with, which only `string(…)` shows.
#[derive(Clone, Copy, Debug)]
pub struct Timestamp {
    seconds: i64,
    nanos: i32,
    offset: i32,
}

impl PartialEq for Timestamp {
    fn eq(&self, other: &Self) -> bool {
        self.nanoseconds() == other.nanoseconds()
    }
}

impl Eq for Timestamp {}

impl PartialOrd for Timestamp {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timestamp {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.nanoseconds().cmp(&other.nanoseconds())
    }
}

impl Timestamp {
    /// A moment by its seconds since 1970 and the nanoseconds after them, when it lies in the years that CEL has.
    pub fn new(seconds: i64, nanos: i32) -> Option<Self> {
        let valid = (MIN_SECONDS..=MAX_SECONDS).contains(&seconds) && (0..1_000_000_000).contains(&nanos);
        valid.then_some(Self {
            seconds,
            nanos,
            offset: 0,
        })
    }

    /// The same moment, written with another offset from UTC in seconds.
    pub(crate) fn with_offset(self, offset: i32) -> Self {
        Self { offset, ..self }
    }

    /// Whole seconds since 1970, towards the past.
    pub fn seconds(self) -> i64 {
        self.seconds
    }

    /// Nanoseconds since 1970.
    pub fn nanoseconds(self) -> i128 {
        i128::from(self.seconds) * NANOS + i128::from(self.nanos)
    }

    /// A moment some nanoseconds later.
    pub(crate) fn plus(self, nanos: i64) -> Option<Self> {
        let total = self.nanoseconds() + i128::from(nanos);
        Self::new(
            i64::try_from(total.div_euclid(NANOS)).ok()?,
            total.rem_euclid(NANOS) as i32,
        )
    }

    /// What clocks and calendars show in a zone.
    pub(crate) fn civil(self, zone: &TimeZone) -> DateTime {
        let nearest = self
            .seconds
            .clamp(jiff::Timestamp::MIN.as_second(), jiff::Timestamp::MAX.as_second());
        let at = jiff::Timestamp::from_second(nearest).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        let local = self.seconds + i64::from(zone.to_offset(at).seconds());
        let time = local.rem_euclid(86_400);
        let clock = Time::new(
            (time / 3_600) as i8,
            (time / 60 % 60) as i8,
            (time % 60) as i8,
            self.nanos,
        );
        let epoch = Date::constant(1970, 1, 1);
        let date = epoch
            .checked_add(Span::new().days(local.div_euclid(86_400)))
            .unwrap_or(Date::MAX);
        date.to_datetime(clock.unwrap_or(Time::midnight()))
    }
}

impl From<jiff::Timestamp> for Timestamp {
    fn from(time: jiff::Timestamp) -> Self {
        let total = time.as_nanosecond();
        let seconds = i64::try_from(total.div_euclid(NANOS))
            .unwrap_or(MAX_SECONDS)
            .clamp(MIN_SECONDS, MAX_SECONDS);
        Self {
            seconds,
            nanos: total.rem_euclid(NANOS) as i32,
            offset: 0,
        }
    }
}

/// As Go's `time.Format(time.RFC3339Nano)`.
pub(crate) fn format_timestamp(time: Timestamp) -> String {
    let zone = jiff::tz::Offset::from_seconds(time.offset).map_or(TimeZone::UTC, TimeZone::fixed);
    let civil = time.civil(&zone);
    let mut text = format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
        civil.year(),
        civil.month(),
        civil.day(),
        civil.hour(),
        civil.minute(),
        civil.second()
    );
    if civil.subsec_nanosecond() != 0 {
        text.push_str(format!(".{:09}", civil.subsec_nanosecond()).trim_end_matches('0'));
    }
    if time.offset == 0 {
        text.push('Z');
    } else {
        let minutes = time.offset.abs() / 60;
        let sign = if time.offset < 0 { '-' } else { '+' };
        text.push_str(&format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60));
    }
    text
}

/// As cel-go's `string(duration)`: seconds, with a fraction if there is one.
pub(crate) fn format_duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let nanos = nanos.unsigned_abs();
    let (seconds, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    if rest == 0 {
        return format!("{sign}{seconds}s");
    }
    format!("{sign}{seconds}.{}s", format!("{rest:09}").trim_end_matches('0'))
}

/// As Go's `strconv.FormatFloat(value, 'g', -1, 64)`.
pub(crate) fn format_double(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    if value == 0.0 {
        return if value.is_sign_negative() { "-0" } else { "0" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    format!("{value}")
}

/// Go's `time.ParseDuration`, in nanoseconds.
pub(crate) fn parse_duration(text: &str) -> Option<i64> {
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    let total = sum_units(rest, false, |unit| {
        Some(match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => NANOS,
            "m" => 60 * NANOS,
            "h" => 3_600 * NANOS,
            _ => return None,
        })
    })?;
    i64::try_from(if negative { -total } else { total }).ok()
}

/// `strfmt.ParseDuration` of OpenAPI: Go's, or words such as `3 days`.
pub(crate) fn parse_open_api_duration(text: &str) -> Option<i64> {
    if let Some(duration) = parse_duration(text) {
        return Some(duration);
    }
    let total = sum_units(text.trim(), true, |unit| {
        let unit = unit.trim();
        let singular = if unit.len() > 2 {
            unit.strip_suffix('s').unwrap_or(unit)
        } else {
            unit
        };
        Some(match singular {
            "ns" | "nano" | "nanosecond" => 1,
            "us" | "µs" | "micro" | "microsecond" => 1_000,
            "ms" | "milli" | "millisecond" => 1_000_000,
            "s" | "sec" | "second" => NANOS,
            "m" | "min" | "minute" => 60 * NANOS,
            "h" | "hr" | "hour" => 3_600 * NANOS,
            "d" | "day" => 86_400 * NANOS,
            "w" | "wk" | "week" => 7 * 86_400 * NANOS,
            _ => return None,
        })
    })?;
    i64::try_from(total).ok()
}

/// Adds up numbers with units, exactly, towards zero.
fn sum_units(text: &str, spaces: bool, unit: impl Fn(&str) -> Option<i128>) -> Option<i128> {
    let mut rest = text;
    let mut total: i128 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        if spaces {
            rest = rest.trim_start();
        }
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        let end = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (name, after) = after.split_at(end);
        let scale = unit(name)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || whole.len() > 20 {
            return None;
        }
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        let fraction = &fraction[..fraction.len().min(18)];
        let part: i128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
        let part = part.checked_mul(scale)? / 10_i128.pow(fraction.len() as u32);
        total = total.checked_add(whole.checked_mul(scale)?)?.checked_add(part)?;
        if total > i128::from(i64::MAX) + 1 {
            return None;
        }
        rest = after;
    }
    Some(total)
}

/// Go's `time.Parse(time.RFC3339, …)`: none when it does not parse; the moment may lie outside of CEL's years.
pub(crate) fn parse_rfc3339(text: &str) -> Option<(i64, i32, i32)> {
    let (date, rest) = date_prefix(text)?;
    let rest = rest.strip_prefix('T')?;
    let (time, rest) = time_prefix(rest, true)?;
    let offset = offset(rest, false)?;
    let (seconds, nanos) = seconds_of(date, time, offset);
    Some((seconds, nanos, offset as i32))
}

/// `strfmt.ParseDateTime` of OpenAPI.
pub(crate) fn parse_open_api_date_time(text: &str) -> Option<Timestamp> {
    if text.is_empty() {
        return Timestamp::new(0, 0);
    }
    let (date, rest) = date_prefix(text)?;
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let (time, rest) = time_prefix(rest, false)?;
    let offset = if rest.is_empty() { 0 } else { offset(rest, true)? };
    let (seconds, nanos) = seconds_of(date, time, offset);
    Some(Timestamp::new(seconds, nanos)?.with_offset(offset as i32))
}

/// A date alone (`2006-01-02`), at midnight in UTC.
pub(crate) fn parse_date(text: &str) -> Option<Timestamp> {
    let (date, rest) = date_prefix(text)?;
    if !rest.is_empty() {
        return None;
    }
    let (seconds, nanos) = seconds_of(date, Time::midnight(), 0);
    Timestamp::new(seconds, nanos)
}

fn number(text: &str, digits: usize) -> Option<(i32, &str)> {
    let head = text.get(..digits)?;
    if !head.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some((head.parse().ok()?, &text[digits..]))
}

fn date_prefix(text: &str) -> Option<(Date, &str)> {
    let (year, rest) = number(text, 4)?;
    let (month, rest) = number(rest.strip_prefix('-')?, 2)?;
    let (day, rest) = number(rest.strip_prefix('-')?, 2)?;
    Some((Date::new(year as i16, month as i8, day as i8).ok()?, rest))
}

fn time_prefix(text: &str, seconds_required: bool) -> Option<(Time, &str)> {
    let (hour, rest) = number(text, 2)?;
    let (minute, rest) = number(rest.strip_prefix(':')?, 2)?;
    let (second, rest) = match rest.strip_prefix(':') {
        Some(rest) => number(rest, 2)?,
        None if seconds_required => return None,
        None => (0, rest),
    };
    let (nanos, rest) = match rest.strip_prefix('.').or_else(|| rest.strip_prefix(',')) {
        Some(rest) => {
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let digits = &rest[..end.min(9)];
            (format!("{digits:0<9}").parse().ok().filter(|_| end > 0)?, &rest[end..])
        }
        None => (0, rest),
    };
    Some((Time::new(hour as i8, minute as i8, second as i8, nanos).ok()?, rest))
}

fn offset(text: &str, lax: bool) -> Option<i64> {
    if text == "Z" || (lax && text == "z") {
        return Some(0);
    }
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, rest) = number(&text[1..], 2)?;
    let rest = match rest.strip_prefix(':') {
        Some(rest) => rest,
        None if lax => rest,
        None => return None,
    };
    let (minutes, rest) = number(rest, 2)?;
    if !rest.is_empty() || hours > 24 || minutes > 59 {
        return None;
    }
    Some(sign * (i64::from(hours) * 3_600 + i64::from(minutes) * 60))
}

fn seconds_of(date: Date, time: Time, offset: i64) -> (i64, i32) {
    let days = i64::from((date - Date::constant(1970, 1, 1)).get_days());
    let seconds =
        days * 86_400 + i64::from(time.hour()) * 3_600 + i64::from(time.minute()) * 60 + i64::from(time.second());
    (seconds - offset, time.subsec_nanosecond())
}

/// The zone of a name or of an offset such as `-08:00`, as seconds to add to UTC at a moment.
pub(crate) fn zone(name: &str) -> Result<TimeZone, String> {
    let Some(colon) = name.find(':') else {
        if name.is_empty() || name == "UTC" {
            return Ok(TimeZone::UTC);
        }
        return TimeZone::get(name).map_err(|_| format!("unknown time zone {name}"));
    };
    let part = |text: &str| {
        text.parse::<i32>()
            .map_err(|_| format!("strconv.Atoi: parsing {text:?}: invalid syntax"))
    };
    let hours = part(&name[..colon])?;
    let minutes = part(&name[colon + 1..])?;
    if !(0..=59).contains(&minutes) || hours.abs() > 23 {
        return Err(format!("timezone offset out of range: {name}"));
    }
    let minutes = if name.starts_with('-') {
        hours * 60 - minutes
    } else {
        hours * 60 + minutes
    };
    jiff::tz::Offset::from_seconds(minutes * 60)
        .map(TimeZone::fixed)
        .map_err(|_| format!("timezone offset out of range: {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_are_written_as_go_writes_them() {
        for (value, text) in [
            (123.456, "123.456"),
            (1e6, "1e+06"),
            (100000.0, "100000"),
            (123456789.0, "1.23456789e+08"),
            (-1.23e4, "-12300"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1e100, "1e+100"),
            (6.02214e23, "6.02214e+23"),
            (1.0, "1"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(format_double(value), text);
        }
    }

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, nanos) in [
            ("1h30m", Some(5_400_000_000_000)),
            ("-1.5s", Some(-1_500_000_000)),
            ("0", Some(0)),
            ("+5us", Some(5_000)),
            (".5ms", Some(500_000)),
            ("1", None),
            ("", None),
            ("1d", None),
            ("10000000h", None),
        ] {
            assert_eq!(parse_duration(text), nanos, "{text}");
        }
        assert_eq!(parse_open_api_duration("3 days"), Some(3 * 86_400 * 1_000_000_000));
        assert_eq!(format_duration(-1_500_000_000), "-1.5s");
    }

    #[test]
    fn moments_are_read_as_go_reads_them() {
        assert_eq!(parse_rfc3339("1970-01-01T00:00:01Z"), Some((1, 0, 0)));
        assert_eq!(
            parse_rfc3339("1970-01-01T01:00:01.5+01:00"),
            Some((1, 500_000_000, 3_600))
        );
        assert_eq!(parse_rfc3339("1970-01-01t00:00:01Z"), None);
        assert_eq!(parse_rfc3339("0001-01-01T00:00:00Z"), Some((MIN_SECONDS, 0, 0)));
        assert_eq!(
            format_timestamp(Timestamp::new(MIN_SECONDS, 0).expect("in range")),
            "0001-01-01T00:00:00Z"
        );
        let last = Timestamp::new(MAX_SECONDS, 999_999_999).expect("in range");
        assert_eq!(format_timestamp(last), "9999-12-31T23:59:59.999999999Z");
        assert_eq!(last.plus(1), None);
        assert_eq!(parse_date("2020-02-30"), None);
    }
}
