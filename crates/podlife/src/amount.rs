//! Quantities as integers, for limits and sums.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Thousandths of the quantity, rounded up; 0 for text that is no quantity (the API server has refused those).
pub fn milli(quantity: &Quantity) -> i64 {
    nano(&quantity.0).map_or(0, |nano| clamp(div_ceil(nano, 1_000_000)))
}

/// The quantity in units, rounded up.
pub fn value(quantity: &Quantity) -> i64 {
    nano(&quantity.0).map_or(0, |nano| clamp(div_ceil(nano, 1_000_000_000)))
}

/// `a / b` rounded up.
pub fn div_ceil(a: i128, b: i128) -> i128 {
    let quotient = a / b;
    if a % b != 0 && (a > 0) == (b > 0) {
        quotient + 1
    } else {
        quotient
    }
}

fn clamp(n: i128) -> i64 {
    n.clamp(i64::MIN as i128, i64::MAX as i128) as i64
}

/// Billionths; digits beyond are rounded up.
fn nano(text: &str) -> Option<i128> {
    let text = text.trim();
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let (base, exponent) = scale(suffix)?;
    let mut numerator = digits;
    let mut denominator: i128 = 10i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let factor = i128::from(base).checked_pow(exponent.unsigned_abs())?;
    if exponent >= 0 {
        numerator = numerator.checked_mul(factor)?;
    } else {
        denominator = denominator.checked_mul(factor)?;
    }
    let nano = div_ceil(numerator.checked_mul(1_000_000_000)?, denominator);
    Some(if negative { -nano } else { nano })
}

fn scale(suffix: &str) -> Option<(u32, i32)> {
    Some(match suffix {
        "" => (10, 0),
        "n" => (10, -9),
        "u" => (10, -6),
        "m" => (10, -3),
        "k" => (10, 3),
        "M" => (10, 6),
        "G" => (10, 9),
        "T" => (10, 12),
        "P" => (10, 15),
        "E" => (10, 18),
        "Ki" => (1024, 1),
        "Mi" => (1024, 2),
        "Gi" => (1024, 3),
        "Ti" => (1024, 4),
        "Pi" => (1024, 5),
        "Ei" => (1024, 6),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E'])?;
            (10, exponent.parse().ok()?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_exact_and_round_up() {
        for (text, units, thousandths) in [
            ("1", 1, 1000),
            ("100m", 1, 100),
            ("0.5", 1, 500),
            ("1.5Gi", 1_610_612_736, 1_610_612_736_000),
            ("128Mi", 134_217_728, 134_217_728_000),
            ("1e3", 1000, 1_000_000),
            (
                "12E",
                12_000_000_000_000_000_000i128.min(i64::MAX as i128) as i64,
                i64::MAX,
            ),
            ("1u", 1, 1),
            ("-1500m", -1, -1500),
            ("junk", 0, 0),
        ] {
            let quantity = Quantity(text.into());
            assert_eq!((value(&quantity), milli(&quantity)), (units, thousandths), "{text}");
        }
    }
}
