//! Moments of a run, as they are asked for: RFC 3339, `5m` before its end, `+30s` from its start.

use audit_verify::index::parse_timestamp;

use crate::quantity::duration;

/// A moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Nanoseconds since 1970.
    At(i64),
    /// Nanoseconds before the run's end.
    BeforeEnd(i64),
    /// Nanoseconds from the run's start.
    FromStart(i64),
}

/// A word that is no moment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0}: is no moment; write 2026-11-26T14:00:00Z, or 5m for five minutes before the run's end, or +30s from its start (units ms, s, m, h, d, w)"
)]
pub struct WhenError(String);

impl std::str::FromStr for When {
    type Err = WhenError;

    fn from_str(word: &str) -> Result<Self, WhenError> {
        let read = match word.strip_prefix('+') {
            Some(rest) => nanoseconds(rest).map(When::FromStart),
            None => nanoseconds(word).map(When::BeforeEnd).or_else(|| rfc3339(word).map(When::At)),
        };
        read.ok_or_else(|| WhenError(word.to_owned()))
    }
}

impl When {
    /// Nanoseconds since 1970, in a run of this start and end.
    pub fn resolve(self, start: i64, end: i64) -> i64 {
        match self {
            When::At(ns) => ns,
            When::BeforeEnd(ns) => end.saturating_sub(ns),
            When::FromStart(ns) => start.saturating_add(ns),
        }
    }
}

/// Nanoseconds of a duration.
fn nanoseconds(text: &str) -> Option<i64> {
    i64::try_from(duration(text)?.as_nanos()).ok()
}

/// RFC 3339, section 5.6, without leap seconds.
fn rfc3339(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if !text.is_ascii() || bytes.len() < 20 {
        return None;
    }
    let zone_at = 19 + text[19..].find(['Z', 'z', '+', '-'])?;
    let fraction = &text[19..zone_at];
    let digits = match fraction.strip_prefix('.') {
        Some(digits) if (1..=9).contains(&digits.len()) => digits,
        None if fraction.is_empty() => "",
        _ => return None,
    };
    if !matches!(bytes[10], b'T' | b't' | b' ') || !is_a_day(text) {
        return None;
    }
    let utc = format!("{}T{}.{digits:0<9}Z", &text[..10], &text[11..19]);
    parse_timestamp(utc.as_bytes())?.checked_sub(offset(&text[zone_at..])?)
}

/// Whether the month has that day.
fn is_a_day(text: &str) -> bool {
    let number = |range: std::ops::Range<usize>| text.get(range).and_then(|text| text.parse::<u32>().ok());
    let (Some(year), Some(month), Some(day)) = (number(0..4), number(5..7), number(8..10)) else {
        return false;
    };
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    (1..=days).contains(&day)
}

/// Nanoseconds that a zone is ahead of UTC: `Z`, `+02:00`.
fn offset(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let (sign, rest) = match zone.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    let two = |text: &str, most: i64| {
        let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<i64>().ok()).flatten().filter(|number| *number <= most)
    };
    Some(sign * (two(hours, 23)? * 3600 + two(minutes, 59)? * 60) * 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        let second = 1_000_000_000;
        for (word, expected) in [
            ("1970-01-01T00:00:10Z", When::At(10 * second)),
            ("1970-01-01T02:00:10+02:00", When::At(10 * second)),
            ("1969-12-31 22:30:10.5-01:30", When::At(10 * second + second / 2)),
            ("1970-01-01T00:00:00.000000007Z", When::At(7)),
            ("2024-02-29T00:00:00Z", When::At(1_709_164_800 * second)),
            ("5m", When::BeforeEnd(300 * second)),
            ("1h30m", When::BeforeEnd(5400 * second)),
            ("+30s", When::FromStart(30 * second)),
            ("+250ms", When::FromStart(second / 4)),
        ] {
            assert_eq!(word.parse(), Ok(expected), "{word}");
        }
        for word in [
            "",
            "+",
            "5",
            "m",
            "5x",
            "-5m",
            "1970-01-01",
            "2023-02-29T00:00:00Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:00:00",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00+2:00",
            "2024-01-01T00:00:00é",
            "99999999999999999999s",
            "9999999999999d",
            "+2024-01-01T00:00:00Z",
            "2024-01-01T00:00:00+24:00",
        ] {
            let error = word.parse::<When>().unwrap_err().to_string();
            assert!(error.contains("write 2026-"), "{error}");
        }
        assert_eq!(When::BeforeEnd(5).resolve(100, 200), 195);
        assert_eq!(When::FromStart(5).resolve(100, 200), 105);
    }
}
