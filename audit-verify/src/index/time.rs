//! Timestamps of a line, read.
//!
//! They are written by `sandbox`, in UTC with nanoseconds. Leap seconds do not exist in Unix time.

const NS_PER_SECOND: i64 = 1_000_000_000;

/// Nanoseconds since 1970 of a timestamp in the form `2026-01-31T23:59:59.123456789Z`; `None` for anything else.
pub fn parse_timestamp(text: &[u8]) -> Option<i64> {
    let shape = b"0000-00-00T00:00:00.000000000Z";
    if text.len() != shape.len()
        || text.iter().zip(shape).any(|(b, s)| if *s == b'0' { !b.is_ascii_digit() } else { b != s })
    {
        return None;
    }
    let number = |range: std::ops::Range<usize>| {
        text[range].iter().fold(0i64, |value, digit| value * 10 + i64::from(digit - b'0'))
    };
    let (month, day) = (number(5..7), number(8..10));
    let (hour, minute, second) = (number(11..13), number(14..16), number(17..19));
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    (days_since_1970(number(0..4), month, day) * 86_400 + hour * 3600 + minute * 60 + second)
        .checked_mul(NS_PER_SECOND)?
        .checked_add(number(20..29))
}

/// Howard Hinnant's `days_from_civil` (<https://howardhinnant.github.io/date_algorithms.html>).
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let march_month = (month + 9) % 12;
    let of_year = (153 * march_month + 2) / 5 + day - 1;
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
    era * 146_097 + of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_instants() {
        for (text, ns) in [
            ("1970-01-01T00:00:00.000000000Z", Some(0)),
            ("1969-12-31T23:59:59.999999999Z", Some(-1)),
            ("2000-02-29T00:00:00.000000000Z", Some(951_782_400_000_000_000)),
            ("2025-11-21T01:23:25.000000007Z", Some(1_763_688_205_000_000_007)),
            ("2262-04-11T23:47:16.854775807Z", Some(i64::MAX)),
            ("2262-04-11T23:47:16.854775808Z", None),
            ("", None),
            ("2025-11-21T01:23:25Z", None),
            ("2025-13-21T01:23:25.000000007Z", None),
            ("2025-11-21 01:23:25.000000007Z", None),
        ] {
            assert_eq!(parse_timestamp(text.as_bytes()), ns, "{text}");
        }
    }
}
