//! Resource quantities: exact decimal numbers with a suffix (apimachinery `api/resource`).

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The family of suffixes in which a quantity is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// `12e6`.
    DecimalExponent,
    /// `12Mi`.
    BinarySi,
    /// `12M`, `500m`.
    DecimalSi,
}

/// Why a string is no quantity. The wording is upstream's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseQuantityError {
    /// It has not the shape of a quantity.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// Its number cannot be read, or has more digits than can be held exactly.
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    /// Its suffix is unknown.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// An exact number: `mantissa × 10^exponent`, never finer than a nano.
///
/// Invariant: the mantissa has no trailing zero digit, zero has exponent 0, so equal numbers have
/// equal parts. Comparison and hashing look at the number only, never at the format. Sums whose
/// exact value needs more than 127 bits saturate.
#[derive(Clone, Debug)]
pub struct Quantity {
    mantissa: i128,
    exponent: i32,
    format: Format,
    /// What was parsed, when upstream would print it back unchanged although it is not canonical.
    text: Option<Box<str>>,
}

const NANO: i32 = -9;

impl Default for Quantity {
    fn default() -> Self {
        Self::new(0, 0, Format::DecimalSi)
    }
}

impl Quantity {
    fn new(mantissa: i128, exponent: i32, format: Format) -> Self {
        let (mut mantissa, mut exponent) = (mantissa, exponent);
        if mantissa == 0 {
            exponent = 0;
        }
        while mantissa != 0 && mantissa % 10 == 0 {
            mantissa /= 10;
            exponent += 1;
        }
        if exponent < NANO {
            // Rounded away from zero: whoever asks for something gets something.
            let (rounded, _) = divide_up(mantissa, exponent.abs_diff(NANO));
            return Self::new(rounded, NANO, format);
        }
        Self {
            mantissa,
            exponent,
            format,
            text: None,
        }
    }

    /// Zero.
    pub fn zero() -> Self {
        Self::default()
    }

    /// A whole number.
    pub fn from_value(value: i64, format: Format) -> Self {
        Self::new(i128::from(value), 0, format)
    }

    /// A number of thousandths, as CPU is counted.
    pub fn from_milli(milli: i64, format: Format) -> Self {
        Self::new(i128::from(milli), -3, format)
    }

    /// A number of bytes, printed with binary suffixes.
    pub fn bytes(bytes: i64) -> Self {
        Self::from_value(bytes, Format::BinarySi)
    }

    /// The suffix family.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The same number printed in another family.
    pub fn with_format(&self, format: Format) -> Self {
        Self {
            format,
            text: None,
            ..self.clone()
        }
    }

    /// The value rounded away from zero to a whole number; saturates.
    pub fn value(&self) -> i64 {
        self.scaled_value(0)
    }

    /// The value in thousandths, rounded away from zero; saturates.
    pub fn milli_value(&self) -> i64 {
        self.scaled_value(-3)
    }

    /// The value in units of `10^scale`, rounded away from zero; saturates.
    pub fn scaled_value(&self, scale: i32) -> i64 {
        let number = if self.exponent >= scale {
            multiply(self.mantissa, self.exponent.abs_diff(scale))
        } else {
            divide_up(self.mantissa, scale.abs_diff(self.exponent)).0
        };
        number.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
    }

    /// The nearest floating-point number.
    pub fn to_f64(&self) -> f64 {
        let mantissa = self.mantissa as f64;
        if self.exponent < 0 {
            mantissa / 10_f64.powi(-self.exponent)
        } else {
            mantissa * 10_f64.powi(self.exponent)
        }
    }

    /// -1, 0 or 1.
    pub fn signum(&self) -> i32 {
        self.mantissa.signum() as i32
    }

    /// Whether it is zero.
    pub fn is_zero(&self) -> bool {
        self.mantissa == 0
    }

    /// The sum, in this format, or in the other's when this is zero.
    pub fn add(&self, other: &Self) -> Self {
        let (a, b, exponent) = self.aligned(other);
        Self::new(a.saturating_add(b), exponent, self.joint_format(other))
    }

    /// The difference, in this format, or in the other's when this is zero.
    pub fn sub(&self, other: &Self) -> Self {
        let (a, b, exponent) = self.aligned(other);
        Self::new(a.saturating_sub(b), exponent, self.joint_format(other))
    }

    /// The product with a whole number.
    pub fn mul(&self, factor: i64) -> Self {
        Self::new(
            self.mantissa.saturating_mul(i128::from(factor)),
            self.exponent,
            self.format,
        )
    }

    /// The negative.
    pub fn neg(&self) -> Self {
        Self::new(self.mantissa.saturating_neg(), self.exponent, self.format)
    }

    /// Whether the number is a multiple of `10^-3`.
    pub fn is_milli_exact(&self) -> bool {
        self.exponent >= -3
    }

    /// Whether the number is whole.
    pub fn is_whole(&self) -> bool {
        self.exponent >= 0
    }

    fn joint_format(&self, other: &Self) -> Format {
        if self.is_zero() { other.format } else { self.format }
    }

    fn aligned(&self, other: &Self) -> (i128, i128, i32) {
        if self.is_zero() {
            return (0, other.mantissa, other.exponent);
        }
        if other.is_zero() {
            return (self.mantissa, 0, self.exponent);
        }
        let exponent = self.exponent.min(other.exponent);
        (
            multiply(self.mantissa, self.exponent.abs_diff(exponent)),
            multiply(other.mantissa, other.exponent.abs_diff(exponent)),
            exponent,
        )
    }

    fn write_decimal(&self, f: &mut fmt::Formatter<'_>, format: Format) -> fmt::Result {
        let mut exponent = self.exponent - self.exponent.rem_euclid(3);
        if format == Format::DecimalSi {
            exponent = exponent.min(18);
        }
        write!(f, "{}", self.mantissa)?;
        for _ in exponent..self.exponent {
            f.write_str("0")?;
        }
        if format == Format::DecimalExponent {
            return if exponent == 0 {
                Ok(())
            } else {
                write!(f, "e{exponent}")
            };
        }
        f.write_str(match exponent {
            -9 => "n",
            -6 => "u",
            -3 => "m",
            0 => "",
            3 => "k",
            6 => "M",
            9 => "G",
            12 => "T",
            15 => "P",
            _ => "E",
        })
    }
}

/// `value × 10^power`, saturating.
fn multiply(value: i128, power: u32) -> i128 {
    match 10_i128.checked_pow(power) {
        Some(factor) => value.saturating_mul(factor),
        None if value == 0 => 0,
        None if value < 0 => i128::MIN,
        None => i128::MAX,
    }
}

/// `value ÷ 10^power` rounded away from zero, and whether that was exact.
fn divide_up(value: i128, power: u32) -> (i128, bool) {
    let Some(divisor) = 10_i128.checked_pow(power) else {
        return (value.signum(), value == 0);
    };
    let (quotient, rest) = (value / divisor, value % divisor);
    if rest == 0 {
        (quotient, true)
    } else {
        (quotient + value.signum(), false)
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.mantissa == other.mantissa && self.exponent == other.exponent
    }
}

impl Eq for Quantity {}

impl std::hash::Hash for Quantity {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.mantissa, self.exponent).hash(state);
    }
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        let signs = self.mantissa.signum().cmp(&other.mantissa.signum());
        if signs != Ordering::Equal || self == other {
            return signs;
        }
        let (a, b, _) = self.aligned(other);
        // Both saturated: the larger exponent is the larger magnitude.
        a.cmp(&b).then_with(|| {
            let larger = self.exponent.cmp(&other.exponent);
            if self.mantissa < 0 { larger.reverse() } else { larger }
        })
    }
}

impl fmt::Display for Quantity {
    /// The canonical form: no fraction, the largest suffix that loses nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(text) = &self.text {
            return f.write_str(text);
        }
        if self.is_zero() {
            return f.write_str("0");
        }
        if self.format != Format::BinarySi {
            return self.write_decimal(f, self.format);
        }
        let whole = multiply(self.mantissa, self.exponent.max(0).unsigned_abs());
        if !self.is_whole() || whole.unsigned_abs() < 1024 {
            return self.write_decimal(f, Format::DecimalSi);
        }
        let steps = (whole.trailing_zeros() / 10).min(6);
        let suffix = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][steps as usize];
        write!(f, "{}{suffix}", whole >> (10 * steps))
    }
}

/// The parts of a quantity string; borrowed.
struct Parts<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    suffix: &'a str,
}

fn split(text: &str) -> Result<Parts<'_>, ParseQuantityError> {
    if text.is_empty() || !text.is_ascii() {
        return Err(ParseQuantityError::Format);
    }
    let (negative, rest) = match text.as_bytes()[0] {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let rest = rest.trim_start_matches('0');
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, rest) = rest.split_at(digits(rest));
    let (fraction, suffix) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(digits(rest)),
        None => ("", rest),
    };
    let letters = suffix.bytes().take_while(|b| b"eEinumkKMGTP".contains(b)).count();
    let tail = &suffix[letters..];
    let tail = tail.strip_prefix(['-', '+']).unwrap_or(tail);
    if tail.bytes().any(|byte| !byte.is_ascii_digit()) {
        return Err(ParseQuantityError::Format);
    }
    Ok(Parts {
        negative,
        whole: if whole.is_empty() { "0" } else { whole },
        fraction,
        suffix,
    })
}

/// Base, exponent and family of a suffix.
fn interpret(suffix: &str) -> Option<(u32, i32, Format)> {
    let decimal = |exponent| Some((10, exponent, Format::DecimalSi));
    let binary = |exponent| Some((2, exponent, Format::BinarySi));
    match suffix {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E'])?.parse::<i64>().ok()?;
            let exponent = i32::try_from(exponent).ok().filter(|e| e.unsigned_abs() < 1 << 30)?;
            Some((10, exponent, Format::DecimalExponent))
        }
    }
}

/// Whether upstream keeps the parsed string for printing (`ParseQuantity`'s fast path).
fn keeps_text(parts: &Parts<'_>, base: u32, exponent: i32) -> bool {
    let digits = (parts.whole.len() + parts.fraction.len()) as i64;
    let joined = format!("{}{}", parts.whole, parts.fraction);
    if base == 2 {
        let precision = 15 - digits - i64::from(exponent) * 3 / 10 - 1;
        return parts.fraction.is_empty() && precision >= 0 && joined.parse::<i64>().is_ok_and(|value| value & 7 != 0);
    }
    let scale = i64::from(exponent) - parts.fraction.len() as i64;
    digits <= 18 && scale >= i64::from(NANO) && scale % 3 == 0 && !joined.ends_with("000") && !joined.starts_with('0')
}

impl FromStr for Quantity {
    type Err = ParseQuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = split(text)?;
        if parts.suffix.is_empty() && !text.bytes().any(|byte| byte.is_ascii_digit()) {
            // Upstream reads a lone sign as zero but refuses a lone dot.
            return if text.contains('.') {
                Err(ParseQuantityError::Numeric)
            } else {
                Ok(Self::zero())
            };
        }
        let (base, suffix_exponent, format) = interpret(parts.suffix).ok_or(ParseQuantityError::Suffix)?;
        // Digits beyond the reach of any rounding are folded into one sticky digit.
        let fraction = parts.fraction.trim_end_matches('0');
        let mut digits = format!("{}{fraction}", parts.whole);
        let mut exponent = -(fraction.len() as i64);
        if base == 10 {
            exponent += i64::from(suffix_exponent);
        }
        let significant = digits.trim_start_matches('0').len();
        let droppable = (i64::from(NANO) - 1 - exponent).clamp(0, digits.len() as i64 - 1) as usize;
        if significant > 36 && droppable > 0 && base == 10 {
            digits.truncate(digits.len() - droppable);
            digits.push('1');
            exponent += droppable as i64 - 1;
        }
        let digits = digits.trim_start_matches('0');
        let mut mantissa: i128 = match digits {
            "" => 0,
            digits if digits.len() > 37 && base == 2 => i128::MAX,
            digits => digits.parse().map_err(|_| ParseQuantityError::Numeric)?,
        };
        let exponent = i32::try_from(exponent).map_err(|_| ParseQuantityError::Numeric)?;
        let mut format = format;
        if base == 2 {
            mantissa = mantissa.saturating_mul(1_i128 << suffix_exponent);
        }
        let mut quantity = Self::new(mantissa, exponent, format);
        if base == 2 {
            let cap = Self::from_value(i64::MAX, Format::BinarySi);
            if quantity > cap {
                quantity = cap;
            }
            if !quantity.is_zero() && quantity < Self::from_value(1, Format::DecimalSi) {
                format = Format::DecimalSi;
            }
        }
        if parts.negative {
            quantity.mantissa = -quantity.mantissa;
        }
        quantity.format = format;
        if keeps_text(&parts, base, suffix_exponent) {
            quantity.text = Some(text.into());
        }
        Ok(quantity)
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        Self::from_json(&value).map_err(serde::de::Error::custom)
    }
}

impl Quantity {
    /// Reads a quantity from JSON, where it may be a string or a number; null is zero.
    pub fn from_json(value: &serde_json::Value) -> Result<Self, ParseQuantityError> {
        match value {
            serde_json::Value::String(text) => text.trim().parse(),
            serde_json::Value::Number(number) => number.to_string().parse(),
            serde_json::Value::Null => Ok(Self::zero()),
            _ => Err(ParseQuantityError::Format),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn q(text: &str) -> Quantity {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn canonical_forms_are_upstreams() {
        let cases = [
            ("0", "0"),
            ("0n", "0"),
            ("0Ki", "0"),
            ("-0", "0"),
            ("1", "1"),
            ("100m", "100m"),
            ("1000m", "1"),
            ("0.1", "100m"),
            ("0.5", "500m"),
            ("1.5", "1500m"),
            ("1.5Gi", "1536Mi"),
            ("1024Mi", "1Gi"),
            ("1Ki", "1Ki"),
            ("1024", "1024"),
            ("512Ki", "512Ki"),
            ("1000Ki", "1000Ki"),
            ("1000", "1k"),
            ("1000000", "1M"),
            ("1500", "1500"),
            ("1k", "1k"),
            ("1024k", "1024k"),
            ("1e3", "1e3"),
            ("1E3", "1E3"),
            ("12e6", "12e6"),
            ("1.5e3", "1500"),
            ("1e-3", "1e-3"),
            ("100e3", "100e3"),
            ("1000e3", "1e6"),
            ("0.1n", "1n"),
            ("0.0000000001", "1n"),
            ("-1.5", "-1500m"),
            ("0.5Ki", "512"),
            ("0.5Mi", "512Ki"),
            ("0.0001Ki", "102400u"),
            ("1.1Ki", "1126400m"),
            ("9223372036854775807", "9223372036854775807"),
            ("100Ei", "9223372036854775807"),
            ("9223372036854775808", "9223372036854775808"),
            ("1E", "1E"),
            ("1000E", "1000E"),
            (".5", "500m"),
            ("5.", "5."),
            ("1.234", "1.234"),
            ("+1", "+1"),
            ("5Gi", "5Gi"),
            ("8Gi", "8Gi"),
            ("3.0", "3"),
        ];
        for (text, want) in cases {
            assert_eq!(q(text).to_string(), want, "{text}");
        }
    }

    #[test]
    fn malformed_strings_are_refused() {
        for text in [
            "",
            "a",
            "1a",
            "1.1.1",
            "1 ",
            " 1",
            "--1",
            "1mi",
            "1KI",
            "1i",
            "1e",
            "1e1.5",
            "٣",
            ".",
            "1e99999999999",
        ] {
            assert!(text.parse::<Quantity>().is_err(), "{text}");
        }
    }

    #[test]
    fn arithmetic_is_exact() {
        assert_eq!(q("100m").add(&q("0.9")).to_string(), "1");
        assert_eq!(q("1Gi").sub(&q("1")).to_string(), "1073741823");
        assert_eq!(q("0").add(&q("1Ki")).to_string(), "1Ki");
        assert_eq!(q("1").sub(&q("1.5")).to_string(), "-500m");
        assert_eq!(q("250m").mul(4), q("1"));
        assert!(q("1Gi") > q("1G") && q("999m") < q("1") && q("-1") < q("0"));
        assert!(q("1e100") > q("1e99") && q("-1e100") < q("-1e99"));
        assert_eq!((q("1.0001").value(), q("1.0001").milli_value()), (2, 1001));
        assert_eq!(q("1e100").value(), i64::MAX);
        assert_eq!(q("1500m").to_f64(), 1.5);
        assert_eq!(q("1024Mi"), q("1Gi"));
    }

    proptest! {
        #[test]
        fn printing_keeps_the_number(
            value in -1_000_000_000_000_i64..1_000_000_000_000,
            suffix in prop::sample::select(vec!["n", "u", "m", "", "k", "M", "Ki", "Mi", "e3", "e-2", "E2"]),
        ) {
            let first = q(&format!("{value}{suffix}"));
            prop_assert_eq!(&q(&first.to_string()), &first);
            let plain = first.add(&Quantity::zero());
            let canonical = plain.to_string();
            prop_assert_eq!(q(&canonical).add(&Quantity::zero()).to_string(), canonical);
        }

        #[test]
        fn sums_commute_and_cancel(a in any::<i32>(), b in any::<i32>(), scale in -9_i32..6) {
            let a = Quantity::new(i128::from(a), scale, Format::DecimalSi);
            let b = Quantity::from_milli(i64::from(b), Format::BinarySi);
            prop_assert_eq!(a.add(&b), b.add(&a));
            prop_assert_eq!(a.add(&b).sub(&b), a.clone());
            prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
        }

        #[test]
        fn no_string_panics(text in ".{0,60}") {
            let _ = text.parse::<Quantity>();
        }

        #[test]
        fn no_shaped_string_panics(text in "[+-]?[0-9]{0,45}\\.?[0-9]{0,45}(e-?[0-9]{1,12}|[KMGTPE]i?)?") {
            if let Ok(quantity) = text.parse::<Quantity>() {
                let _ = (quantity.value(), quantity.add(&quantity).milli_value());
                if quantity.exponent < 1000 { let _ = quantity.to_string(); }
            }
        }
    }
}
