//! Timestamps: nanoseconds since 1970 to RFC 3339 in UTC, and back.
//!
//! Own code, because it runs once an event. Leap seconds do not exist in Unix time, so none are written.

/// Reads a timestamp as [`format()`] writes it.
pub use audit_verify::index::parse_timestamp as parse;

/// Length of a timestamp: `2026-01-31T23:59:59.123456789Z`.
pub const TIMESTAMP_LEN: usize = 30;

const NS_PER_SECOND: i64 = 1_000_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

/// Formats timestamps. Keeps the text of the last second, as most events share it with their neighbour.
#[derive(Debug)]
pub struct Timestamps {
    second: i64,
    text: [u8; TIMESTAMP_LEN],
}

impl Default for Timestamps {
    fn default() -> Self {
        let mut this = Self { second: 0, text: *b"1970-01-01T00:00:00.000000000Z" };
        this.set_second(0);
        this
    }
}

impl Timestamps {
    /// The timestamp of `wall_ns` nanoseconds since 1970-01-01 UTC, 30 ASCII bytes.
    ///
    /// Any `i64` is a year from 1677 to 2262, so the text always has this length.
    pub fn format(&mut self, wall_ns: i64) -> &[u8; TIMESTAMP_LEN] {
        let second = wall_ns.div_euclid(NS_PER_SECOND);
        if second != self.second {
            self.set_second(second);
        }
        put_digits(&mut self.text[20..29], wall_ns.rem_euclid(NS_PER_SECOND) as u64);
        &self.text
    }

    fn set_second(&mut self, second: i64) {
        let date = Date::from_days(second.div_euclid(SECONDS_PER_DAY));
        let of_day = second.rem_euclid(SECONDS_PER_DAY) as u64;
        put_digits(&mut self.text[0..4], date.year as u64);
        put_digits(&mut self.text[5..7], date.month);
        put_digits(&mut self.text[8..10], date.day);
        put_digits(&mut self.text[11..13], of_day / 3600);
        put_digits(&mut self.text[14..16], of_day / 60 % 60);
        put_digits(&mut self.text[17..19], of_day % 60);
        self.second = second;
    }
}

/// The timestamp of `wall_ns` as a string.
pub fn format(wall_ns: i64) -> String {
    String::from_utf8_lossy(Timestamps::default().format(wall_ns)).into_owned()
}

/// `YYYYMMDD-HHMMSS` in UTC, the first part of a run id.
pub fn run_id_prefix(wall_ns: i64) -> String {
    let text = format(wall_ns);
    let digits: String = text[..19].chars().filter(char::is_ascii_digit).collect();
    format!("{}-{}", &digits[..8], &digits[8..])
}

/// The wall clock now, nanoseconds since 1970.
pub fn wall_now_ns() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    now.tv_sec.saturating_mul(NS_PER_SECOND).saturating_add(now.tv_nsec)
}

/// CLOCK_MONOTONIC now, nanoseconds.
pub fn mono_now_ns() -> u64 {
    now_ns(rustix::time::ClockId::Monotonic)
}

/// CLOCK_BOOTTIME now, nanoseconds.
pub fn boot_now_ns() -> u64 {
    now_ns(rustix::time::ClockId::Boottime)
}

fn now_ns(clock: rustix::time::ClockId) -> u64 {
    let now = rustix::time::clock_gettime(clock);
    now.tv_sec as u64 * NS_PER_SECOND as u64 + now.tv_nsec as u64
}

/// A day of the proleptic Gregorian calendar.
struct Date {
    year: i64,
    month: u64,
    day: u64,
}

impl Date {
    /// From days since 1970-01-01; Howard Hinnant's `civil_from_days`
    /// (<https://howardhinnant.github.io/date_algorithms.html>).
    fn from_days(days: i64) -> Self {
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let of_era = shifted.rem_euclid(146_097);
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * of_year + 2) / 153;
        let day = (of_year - (153 * march_month + 2) / 5 + 1) as u64;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        Self { year, month: month as u64, day }
    }
}

/// Writes `value` in decimal, right-aligned and padded with zeros.
fn put_digits(out: &mut [u8], mut value: u64) {
    for digit in out.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_instants() {
        for (ns, text) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (-1, "1969-12-31T23:59:59.999999999Z"),
            (951_782_400_000_000_000, "2000-02-29T00:00:00.000000000Z"),
            (1_763_688_205_000_000_007, "2025-11-21T01:23:25.000000007Z"),
            (i64::MAX, "2262-04-11T23:47:16.854775807Z"),
            (i64::MIN, "1677-09-21T00:12:43.145224192Z"),
        ] {
            assert_eq!(format(ns), text);
            assert_eq!(parse(text.as_bytes()), Some(ns).filter(|ns| *ns != i64::MIN), "{text}");
        }
        assert_eq!(run_id_prefix(951_782_400_000_000_000), "20000229-000000");
    }

    #[test]
    fn every_day_of_the_range_comes_back() {
        let mut stamps = Timestamps::default();
        let mut day = i64::MIN / NS_PER_SECOND / SECONDS_PER_DAY + 1;
        while day <= i64::MAX / NS_PER_SECOND / SECONDS_PER_DAY {
            let ns = day * SECONDS_PER_DAY * NS_PER_SECOND;
            assert_eq!(parse(stamps.format(ns)), Some(ns));
            day += 1;
        }
    }

    #[test]
    fn other_text_is_refused() {
        for text in
            ["", "2025-11-21T01:23:25Z", "2025-13-21T01:23:25.000000007Z", "2025-11-21 01:23:25.000000007Z"]
        {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }
}
