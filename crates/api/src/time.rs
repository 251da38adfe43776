//! Times and durations as the API writes them.

use jiff::{SignedDuration, Timestamp};

/// A string is not an RFC 3339 time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("parsing time {text:?} as RFC 3339: {reason}")]
pub struct ParseTimeError {
    /// The refused string.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Parses an RFC 3339 time with any offset and any precision.
pub fn parse(text: &str) -> Result<Timestamp, ParseTimeError> {
    let refuse = |reason: String| ParseTimeError {
        text: text.to_owned(),
        reason,
    };
    let bytes = text.as_bytes();
    let shaped = bytes.len() >= 20
        && bytes[4] == b'-'
        && bytes[7] == b'-'
        && bytes[10] == b'T'
        && bytes[13] == b':'
        && bytes[16] == b':'
        && !text.contains('[');
    if !shaped {
        return Err(refuse("must look like 2006-01-02T15:04:05Z".to_owned()));
    }
    text.parse::<Timestamp>().map_err(|error| refuse(error.to_string()))
}

/// `metav1.Time`: UTC, whole seconds, fraction cut off.
pub fn format(at: Timestamp) -> String {
    let whole = Timestamp::from_second(at.as_nanosecond().div_euclid(1_000_000_000) as i64)
        .expect("the second of a timestamp is in the range of timestamps");
    format!("{whole:.0}")
}

/// `metav1.MicroTime`: UTC, exactly six digits of fraction.
pub fn format_micro(at: Timestamp) -> String {
    let micros = at.as_nanosecond().div_euclid(1_000) as i64;
    let whole =
        Timestamp::from_microsecond(micros).expect("the microsecond of a timestamp is in the range of timestamps");
    format!("{whole:.6}")
}

/// The age column of tables, coarse (apimachinery `duration.ShortHumanDuration`).
pub fn short_human_duration(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..60 => format!("{seconds}s"),
        _ if minutes < 60 => format!("{minutes}m"),
        _ if hours < 24 => format!("{hours}h"),
        _ if hours < 24 * 365 => format!("{}d", hours / 24),
        _ => format!("{}y", hours / 24 / 365),
    }
}

/// The age column of tables (apimachinery `duration.HumanDuration`), which is what kubectl and
/// the server's table printers use.
pub fn human_duration(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    if seconds < -1 {
        return "<invalid>".to_owned();
    }
    if seconds < 0 {
        return "0s".to_owned();
    }
    if seconds < 120 {
        return format!("{seconds}s");
    }
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    if minutes < 10 {
        return two(minutes, "m", seconds % 60, "s");
    }
    if minutes < 180 {
        return format!("{minutes}m");
    }
    let (days, years) = (hours / 24, hours / 24 / 365);
    match hours {
        ..8 => two(hours, "h", minutes % 60, "m"),
        8..48 => format!("{hours}h"),
        48..192 => two(days, "d", hours % 24, "h"),
        192..17520 => format!("{days}d"),
        17520..70080 => two(years, "y", days % 365, "d"),
        _ => format!("{years}y"),
    }
}

fn two(large: i64, large_unit: &str, small: i64, small_unit: &str) -> String {
    if small == 0 {
        format!("{large}{large_unit}")
    } else {
        format!("{large}{large_unit}{small}{small_unit}")
    }
}

/// A duration as Go's `time.Duration.String` prints it: `1h2m3s`, `1.5s`, `200ms`, `0s`.
pub fn go_duration(duration: SignedDuration) -> String {
    let nanos = duration.as_nanos();
    let sign = if nanos < 0 { "-" } else { "" };
    let nanos = nanos.unsigned_abs();
    let (unit, name) = match nanos {
        0 => return "0s".to_owned(),
        1..1_000 => (1, "ns"),
        1_000..1_000_000 => (1_000, "µs"),
        1_000_000..1_000_000_000 => (1_000_000, "ms"),
        _ => (1_000_000_000, "s"),
    };
    if unit < 1_000_000_000 {
        return format!("{sign}{}{name}", decimal(nanos, unit));
    }
    let whole = nanos / 1_000_000_000;
    let (hours, minutes) = (whole / 3600, whole / 60 % 60);
    let seconds = decimal(nanos % 60_000_000_000, unit);
    match (hours, minutes) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
        (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

fn decimal(nanos: u128, unit: u128) -> String {
    let (whole, rest) = (nanos / unit, nanos % unit);
    if rest == 0 {
        return whole.to_string();
    }
    let digits = unit.ilog10() as usize;
    let fraction = format!("{rest:0digits$}");
    format!("{whole}.{}", fraction.trim_end_matches('0'))
}

/// Parses a duration in Go's form (`1h2m`, `-1.5s`, `300ms`, `0`); `None` when malformed.
pub fn parse_go_duration(text: &str) -> Option<SignedDuration> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(SignedDuration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (digits, tail) = rest.split_at(number);
        let unit_end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let unit: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        total = total.checked_add(scaled(digits, unit)?)?;
        rest = tail;
    }
    let total = if negative { -total } else { total };
    if total > i128::from(i64::MAX) || total < i128::from(i64::MIN) {
        return None;
    }
    Some(SignedDuration::from_nanos(total as i64))
}

fn scaled(digits: &str, unit: i128) -> Option<i128> {
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let fraction = &fraction[..fraction.len().min(18)];
    let part = if fraction.is_empty() {
        0
    } else {
        fraction.parse::<i128>().ok()?
    };
    whole
        .checked_mul(unit)?
        .checked_add(part * unit / 10_i128.pow(fraction.len() as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_the_wire_precision() {
        let at: Timestamp = "2026-01-02T03:04:05.678912345Z".parse().unwrap();
        assert_eq!(format(at), "2026-01-02T03:04:05Z");
        assert_eq!(format_micro(at), "2026-01-02T03:04:05.678912Z");
        let whole: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        assert_eq!(format_micro(whole), "2026-01-02T03:04:05.000000Z");
        let before: Timestamp = "1969-12-31T23:59:58.5Z".parse().unwrap();
        assert_eq!(format(before), "1969-12-31T23:59:58Z");
        assert_eq!(parse("2026-01-02T04:04:05+01:00").unwrap(), whole);
        for bad in [
            "",
            "2026-01-02",
            "2026-01-02 03:04:05Z",
            "yesterday",
            "2026-13-02T03:04:05Z",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn human_durations_follow_upstream() {
        let cases = [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (121, "2m1s"),
            (599, "9m59s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (10_860, "3h1m"),
            (28_799, "7h59m"),
            (28_800, "8h"),
            (172_799, "47h"),
            (172_800, "2d"),
            (176_400, "2d1h"),
            (691_199, "7d23h"),
            (691_200, "8d"),
            (63_071_999, "729d"),
            (63_072_000, "2y"),
            (63_158_400, "2y1d"),
            (252_288_000, "8y"),
        ];
        for (seconds, want) in cases {
            assert_eq!(human_duration(SignedDuration::from_secs(seconds)), want, "{seconds}");
        }
        for (seconds, want) in [
            (59, "59s"),
            (60, "1m"),
            (3600, "1h"),
            (86_400, "1d"),
            (31_536_000, "1y"),
        ] {
            assert_eq!(short_human_duration(SignedDuration::from_secs(seconds)), want);
        }
    }

    #[test]
    fn go_durations_round_trip() {
        for text in [
            "0s",
            "1ns",
            "1.5µs",
            "200ms",
            "1.5s",
            "1m0s",
            "1h0m0.25s",
            "-2m3s",
            "100h0m0s",
        ] {
            let parsed = parse_go_duration(text).unwrap();
            assert_eq!(go_duration(parsed), text);
        }
        assert_eq!(parse_go_duration("1h"), Some(SignedDuration::from_hours(1)));
        assert_eq!(parse_go_duration("0"), Some(SignedDuration::ZERO));
        for bad in ["", "-", "1", "1x", ".s", "1..2s", "h", "9999999999h"] {
            assert_eq!(parse_go_duration(bad), None, "{bad}");
        }
    }
}
