//! `IntOrString` and percentages (apimachinery `util/intstr`).

use std::fmt;

use serde_json::Value;

use crate::field::go_quote;

/// A number or a string, such as a port or a percentage.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum IntOrString {
    /// A number.
    Int(i32),
    /// A string.
    String(String),
}

/// A value is neither a number nor a percentage.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid value for IntOrString: {0}")]
pub struct ScaleError(String);

/// Which way a percentage is rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// To the next whole number.
    Up,
    /// To the last whole number.
    Down,
}

impl IntOrString {
    /// Reads the JSON form; `None` for anything but a string or a 32-bit number.
    pub fn from_json(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(Self::String(text.clone())),
            value => Some(Self::Int(i32::try_from(value.as_i64()?).ok()?)),
        }
    }

    /// The JSON form.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Int(number) => Value::from(*number),
            Self::String(text) => Value::from(text.as_str()),
        }
    }

    /// A whole number when the text is one, otherwise a string (`intstr.Parse`).
    pub fn parse(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::String(text.to_owned()), Self::Int)
    }

    /// The percentage, when it is one: digits and `%`.
    pub fn percent(&self) -> Option<i64> {
        match self {
            Self::Int(_) => None,
            Self::String(text) => text.strip_suffix('%')?.parse().ok(),
        }
    }

    /// The number itself, or the percentage of `total`
    /// (`GetScaledValueFromIntOrPercent`).
    pub fn scaled(&self, total: i64, rounding: Rounding) -> Result<i64, ScaleError> {
        let text = match self {
            Self::Int(number) => return Ok(i64::from(*number)),
            Self::String(text) => text,
        };
        if !text.ends_with('%') {
            return Err(ScaleError("invalid type: string is not a percentage".to_owned()));
        }
        let percent = self
            .percent()
            .ok_or_else(|| ScaleError(format!("invalid value {}: not a number", go_quote(text))))?;
        let product = i128::from(percent) * i128::from(total);
        let scaled = match rounding {
            Rounding::Up => -(-product).div_euclid(100),
            Rounding::Down => product.div_euclid(100),
        };
        Ok(scaled.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64)
    }
}

impl fmt::Display for IntOrString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(number) => write!(f, "{number}"),
            Self::String(text) => f.write_str(text),
        }
    }
}

impl From<i32> for IntOrString {
    fn from(number: i32) -> Self {
        Self::Int(number)
    }
}

impl From<&str> for IntOrString {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_scale_and_round() {
        let cases = [
            ("25%", 3, Rounding::Up, Some(1)),
            ("25%", 3, Rounding::Down, Some(0)),
            ("25%", 10, Rounding::Up, Some(3)),
            ("0%", 10, Rounding::Up, Some(0)),
            ("100%", 10, Rounding::Down, Some(10)),
            ("150%", 10, Rounding::Down, Some(15)),
            ("7", 10, Rounding::Down, Some(7)),
            ("x", 10, Rounding::Down, None),
            ("x%", 10, Rounding::Down, None),
        ];
        for (text, total, rounding, want) in cases {
            assert_eq!(IntOrString::parse(text).scaled(total, rounding).ok(), want, "{text}");
        }
        assert_eq!(IntOrString::from_json(&Value::from(1.5)), None);
        assert_eq!(IntOrString::from_json(&Value::from(80)), Some(IntOrString::Int(80)));
    }
}
