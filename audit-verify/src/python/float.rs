//! `float.__repr__`.

/// Appends `value` as Python prints it: the shortest digits that read back as the same number, with an
/// exponent below 1e-4 and from 1e16 on.
pub(super) fn write_float(out: &mut Vec<u8>, value: f64) {
    if !value.is_finite() {
        out.extend_from_slice(match (value.is_nan(), value > 0.0) {
            (true, _) => b"NaN",
            (_, true) => b"Infinity",
            (_, false) => b"-Infinity",
        });
        return;
    }
    let text = shortest(value);
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let digits = mantissa.replace('.', "");
    let exponent: i32 = exponent.parse().unwrap_or(0);
    out.extend_from_slice(sign.as_bytes());
    out.extend_from_slice(layout(&digits, exponent).as_bytes());
}

/// The shortest digits that read back as `value`, with an exponent.
///
/// Rust's are as many; but where two such numbers are equally near it takes the greater one and Python the even
/// one, as correct rounding to that many digits does.
fn shortest(value: f64) -> String {
    let text = format!("{value:e}");
    let digits = text.bytes().take_while(|byte| *byte != b'e').filter(u8::is_ascii_digit).count();
    let even = format!("{value:.*e}", digits - 1);
    if even.parse() == Ok(value) { even } else { text }
}

/// `digits` with the point behind the first of them, times ten to the power of `exponent`.
fn layout(digits: &str, exponent: i32) -> String {
    let whole = usize::try_from(exponent + 1).unwrap_or(0);
    match exponent {
        -4..=-1 => format!("0.{}{digits}", "0".repeat((-1 - exponent) as usize)),
        0..=15 if digits.len() > whole => format!("{}.{}", &digits[..whole], &digits[whole..]),
        0..=15 => format!("{digits}{}.0", "0".repeat(whole - digits.len())),
        _ => {
            let (first, rest) = digits.split_at(1);
            let point = if rest.is_empty() { "" } else { "." };
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{first}{point}{rest}e{sign}{:02}", exponent.abs())
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn layout_of_repr() {
        for (value, repr) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (-12.5, "-12.5"),
            (0.1, "0.1"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (0.00012345, "0.00012345"),
            (1e15, "1000000000000000.0"),
            (9999999999999998.0, "9999999999999998.0"),
            (1e16, "1e+16"),
            (1.5e16, "1.5e+16"),
            (1e100, "1e+100"),
            (5e-324, "5e-324"),
            (6005031310558401.0 / 4.0, "1501257827639600.2"),
            (5.684341886080802e-14, "5.684341886080802e-14"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            let mut out = Vec::new();
            super::write_float(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), repr);
        }
    }
}
