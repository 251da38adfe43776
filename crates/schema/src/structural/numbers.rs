//! Numbers as Go prints them.

/// `%v` of a float64: the shortest digits, with an exponent from 1e21 on and below 1e-4.
pub(super) fn go_float(number: f64) -> String {
    let magnitude = number.abs();
    if number == 0.0 || (1e-4..1e21).contains(&magnitude) {
        return format!("{number}");
    }
    let text = format!("{number:e}");
    let Some((digits, exponent)) = text.split_once('e') else {
        return text;
    };
    let (sign, power) = match exponent.strip_prefix('-') {
        Some(power) => ('-', power),
        None => ('+', exponent),
    };
    format!("{digits}e{sign}{power:0>2}")
}

#[cfg(test)]
mod tests {
    use super::go_float;

    #[test]
    fn as_go_prints_them() {
        for (number, text) in [
            (10.0, "10"),
            (0.5, "0.5"),
            (1e21, "1e+21"),
            (0.000_01, "1e-05"),
            (-3.0, "-3"),
        ] {
            assert_eq!(go_float(number), text);
        }
    }
}
