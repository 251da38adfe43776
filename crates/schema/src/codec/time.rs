//! Go's view of times and durations: what `metav1.Time`, `MicroTime` and `Duration` accept and print.

/// Seconds and nanoseconds since 1970 in UTC, between the years 0 and 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instant {
    pub(crate) seconds: i64,
    pub(crate) nanos: u32,
}

/// How many fraction digits are read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precision {
    /// `metav1.Time`: a fraction is accepted and dropped.
    Seconds,
    /// `metav1.MicroTime`: exactly six digits.
    Micros,
}

/// 0001-01-01T00:00:00Z, Go's zero time.
const ZERO_SECONDS: i64 = -62_135_596_800;
const LAST_SECOND: i64 = 253_402_300_799;
const FIRST_SECOND: i64 = -62_167_219_200;

impl Instant {
    /// Go's `IsZero`.
    pub(crate) fn is_zero(self) -> bool {
        self.seconds == ZERO_SECONDS && self.nanos == 0
    }

    /// From protobuf; `None` outside the years that RFC 3339 can write.
    pub(crate) fn new(seconds: i64, nanos: u32) -> Option<Self> {
        ((FIRST_SECOND..=LAST_SECOND).contains(&seconds) && nanos < 1_000_000_000).then_some(Self { seconds, nanos })
    }

    /// Parses as Go's `time.Parse` does; errors have its wording.
    pub(crate) fn parse(text: &str, precision: Precision) -> Result<Self, String> {
        Parser {
            whole: text,
            rest: text,
            precision,
        }
        .parse()
    }

    /// RFC 3339 in UTC.
    pub(crate) fn format(self, precision: Precision) -> String {
        use std::fmt::Write;
        let (days, second) = (self.seconds.div_euclid(86_400), self.seconds.rem_euclid(86_400));
        let (year, month, day) = civil(days);
        let mut out = String::with_capacity(27);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}").expect("strings grow");
        if precision == Precision::Micros {
            write!(out, ".{:06}", self.nanos / 1000).expect("strings grow");
        }
        out.push('Z');
        out
    }
}

struct Parser<'a> {
    whole: &'a str,
    rest: &'a str,
    precision: Precision,
}

impl Parser<'_> {
    fn parse(mut self) -> Result<Instant, String> {
        let year = self.digits(4, "2006")?;
        self.byte(b'-', "-")?;
        let month = self.digits(2, "01")?;
        if !(1..=12).contains(&month) {
            return self.out_of_range("month");
        }
        self.byte(b'-', "-")?;
        let day = self.digits(2, "02")?;
        self.byte(b'T', "T")?;
        let hour = self.digits(2, "15")?;
        if hour > 23 {
            return self.out_of_range("hour");
        }
        self.byte(b':', ":")?;
        let minute = self.digits(2, "04")?;
        if minute > 59 {
            return self.out_of_range("minute");
        }
        self.byte(b':', ":")?;
        let second = self.digits(2, "05")?;
        if second > 59 {
            return self.out_of_range("second");
        }
        let nanos = self.fraction()?;
        let offset = self.zone()?;
        if !self.rest.is_empty() {
            return Err(format!("parsing time {:?}: extra text: {:?}", self.whole, self.rest));
        }
        if day < 1 || day > days_in_month(year, month) {
            return self.out_of_range("day");
        }
        let days = days_from_civil(year, month, day);
        let seconds = days * 86_400 + hour * 3600 + minute * 60 + second - offset;
        let nanos = if self.precision == Precision::Micros { nanos } else { 0 };
        Instant::new(seconds, nanos).ok_or_else(|| format!("parsing time {:?}: year out of range", self.whole))
    }

    fn layout(&self) -> &'static str {
        match self.precision {
            Precision::Seconds => "2006-01-02T15:04:05Z07:00",
            Precision::Micros => "2006-01-02T15:04:05.000000Z07:00",
        }
    }

    fn fail<T>(&self, element: &str) -> Result<T, String> {
        let (whole, layout, rest) = (self.whole, self.layout(), self.rest);
        Err(format!(
            "parsing time {whole:?} as {layout:?}: cannot parse {rest:?} as {element:?}"
        ))
    }

    fn out_of_range<T>(&self, what: &str) -> Result<T, String> {
        Err(format!("parsing time {:?}: {what} out of range", self.whole))
    }

    fn digits(&mut self, count: usize, element: &str) -> Result<i64, String> {
        match self.rest.as_bytes().get(..count) {
            Some(digits) if digits.iter().all(u8::is_ascii_digit) => {
                self.rest = &self.rest[count..];
                Ok(digits.iter().fold(0, |n, d| n * 10 + i64::from(d - b'0')))
            }
            _ => self.fail(element),
        }
    }

    fn byte(&mut self, wanted: u8, element: &str) -> Result<(), String> {
        if self.rest.as_bytes().first() != Some(&wanted) {
            return self.fail(element);
        }
        self.rest = &self.rest[1..];
        Ok(())
    }

    fn fraction(&mut self) -> Result<u32, String> {
        let bytes = self.rest.as_bytes();
        let digits = bytes.iter().skip(1).take_while(|b| b.is_ascii_digit()).count();
        let dotted = matches!(bytes.first(), Some(b'.' | b','));
        if self.precision == Precision::Micros {
            if !dotted || digits < 6 {
                return self.fail(".000000");
            }
            self.rest = &self.rest[1..];
            return Ok(self.digits(6, ".000000")? as u32 * 1000);
        }
        if dotted && digits > 0 {
            self.rest = &self.rest[1 + digits..];
        }
        Ok(0)
    }

    /// Offset east of UTC in seconds.
    fn zone(&mut self) -> Result<i64, String> {
        const ELEMENT: &str = "Z07:00";
        let sign = match self.rest.as_bytes().first() {
            Some(b'Z') => {
                self.rest = &self.rest[1..];
                return Ok(0);
            }
            Some(b'+') => 1,
            Some(b'-') => -1,
            _ => return self.fail(ELEMENT),
        };
        let mut zone = Parser {
            whole: self.whole,
            rest: &self.rest[1..],
            precision: self.precision,
        };
        let parsed = zone.digits(2, ELEMENT).and_then(|hour| {
            zone.byte(b':', ELEMENT)
                .and_then(|()| Ok((hour, zone.digits(2, ELEMENT)?)))
        });
        match parsed {
            Ok((hour, minute)) if hour <= 24 && minute < 60 => {
                self.rest = zone.rest;
                Ok(sign * (hour * 3600 + minute * 60))
            }
            Ok(_) => self.out_of_range("time zone offset hour"),
            Err(_) => self.fail(ELEMENT),
        }
    }
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a Gregorian date (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year - era * 400;
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The inverse of [`days_from_civil`].
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days - era * 146_097;
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let (day, month) = (
        of_year - (153 * shifted + 2) / 5 + 1,
        if shifted < 10 { shifted + 3 } else { shifted - 9 },
    );
    (year + era * 400 + i64::from(month <= 2), month, day)
}

/// Go's `time.ParseDuration`, in nanoseconds; errors have its wording.
pub(crate) fn parse_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (whole, whole_len) = leading_digits(rest).ok_or_else(invalid)?;
        rest = &rest[whole_len..];
        let (mut fraction, mut scale, mut fraction_len) = (0u64, 1f64, 0);
        if let Some(tail) = rest.strip_prefix('.') {
            fraction_len = tail.bytes().take_while(u8::is_ascii_digit).count();
            for digit in tail.bytes().take(fraction_len.min(18)) {
                fraction = fraction * 10 + u64::from(digit - b'0');
                scale *= 10.0;
            }
            rest = &tail[fraction_len..];
        }
        if whole_len == 0 && fraction_len == 0 {
            return Err(invalid());
        }
        let unit_len = rest.bytes().take_while(|b| *b != b'.' && !b.is_ascii_digit()).count();
        let (unit, tail) = rest.split_at(unit_len);
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {text:?}"));
        }
        let nanos: u64 = match unit {
            "ns" => 1,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err(format!("time: unknown unit {unit:?} in duration {text:?}")),
        };
        let part = whole.checked_mul(nanos).ok_or_else(invalid)?;
        let part = part
            .checked_add((fraction as f64 * (nanos as f64 / scale)) as u64)
            .ok_or_else(invalid)?;
        total = total.checked_add(part).filter(|t| *t <= 1 << 63).ok_or_else(invalid)?;
        rest = tail;
    }
    match (negative, i64::try_from(total)) {
        (true, _) => Ok((total as i64).wrapping_neg()),
        (false, Ok(total)) => Ok(total),
        (false, Err(_)) => Err(invalid()),
    }
}

fn leading_digits(text: &str) -> Option<(u64, usize)> {
    let len = text.bytes().take_while(u8::is_ascii_digit).count();
    let digits = &text[..len];
    let value = if digits.is_empty() {
        0
    } else {
        digits.parse::<u64>().ok().filter(|n| *n <= 1 << 63)?
    };
    Some((value, len))
}

/// Go's `Duration.String`.
pub(crate) fn format_duration(nanos: i64) -> String {
    let total = nanos.unsigned_abs();
    let sign = if nanos < 0 { "-" } else { "" };
    if total == 0 {
        return "0s".to_owned();
    }
    if total < 1_000_000_000 {
        let (unit, divisor) = match total {
            0..1_000 => ("ns", 1),
            1_000..1_000_000 => ("\u{b5}s", 1_000),
            _ => ("ms", 1_000_000),
        };
        return format!("{sign}{}{unit}", decimal(total, divisor));
    }
    let minutes = total / 60_000_000_000;
    let seconds = decimal(total % 60_000_000_000, 1_000_000_000);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
        (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

/// `value / divisor` with no trailing zeros; `divisor` is a power of ten.
fn decimal(value: u64, divisor: u64) -> String {
    let (whole, fraction) = (value / divisor, value % divisor);
    if fraction == 0 {
        return whole.to_string();
    }
    let width = divisor.ilog10() as usize;
    let text = format!("{whole}.{fraction:0width$}");
    text.trim_end_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Result<String, String> {
        Instant::parse(text, Precision::Seconds).map(|t| t.format(Precision::Seconds))
    }

    #[test]
    fn times_print_as_utc_seconds() {
        assert_eq!(time("2008-01-01T01:01:01Z").as_deref(), Ok("2008-01-01T01:01:01Z"));
        assert_eq!(
            time("2024-02-29T23:30:00.75-01:30").as_deref(),
            Ok("2024-03-01T01:00:00Z")
        );
        assert!(
            Instant::parse("0001-01-01T00:00:00Z", Precision::Seconds)
                .expect("a time")
                .is_zero()
        );
        assert_eq!(
            Instant::parse("1970-01-01T00:00:01Z", Precision::Seconds),
            Ok(Instant { seconds: 1, nanos: 0 })
        );
        let micro = Instant::parse("2008-01-01T01:01:01.000123Z", Precision::Micros).expect("a time");
        assert_eq!(micro.format(Precision::Micros), "2008-01-01T01:01:01.000123Z");
    }

    #[test]
    fn wrong_times_are_refused_in_gos_words() {
        let layout = "2006-01-02T15:04:05Z07:00";
        assert_eq!(
            time("soon"),
            Err(format!(
                "parsing time \"soon\" as {layout:?}: cannot parse \"soon\" as \"2006\""
            ))
        );
        assert_eq!(
            time("2024-13-01T00:00:00Z"),
            Err("parsing time \"2024-13-01T00:00:00Z\": month out of range".into())
        );
        assert_eq!(
            time("2023-02-29T00:00:00Z"),
            Err("parsing time \"2023-02-29T00:00:00Z\": day out of range".into())
        );
        assert!(time("2024-01-01T00:00:00").is_err());
        assert!(time("2024-01-01T00:00:00Zz").is_err());
        assert!(Instant::parse("2008-01-01T01:01:01Z", Precision::Micros).is_err());
    }

    #[test]
    fn durations_are_gos() {
        for (text, printed) in [
            ("1h", "1h0m0s"),
            ("90s", "1m30s"),
            ("1.5h", "1h30m0s"),
            ("-1m", "-1m0s"),
            ("1500us", "1.5ms"),
            ("10ns", "10ns"),
            ("0", "0s"),
            ("1h1m1.25s", "1h1m1.25s"),
        ] {
            assert_eq!(parse_duration(text).map(format_duration).as_deref(), Ok(printed));
        }
        assert_eq!(parse_duration("5"), Err("time: missing unit in duration \"5\"".into()));
        assert_eq!(
            parse_duration("5y"),
            Err("time: unknown unit \"y\" in duration \"5y\"".into())
        );
        assert_eq!(parse_duration(""), Err("time: invalid duration \"\"".into()));
        assert!(parse_duration("99999999999999999999h").is_err());
        assert!(parse_duration("9999999999h").is_err());
    }
}
