//! Durations and sizes as people write them.

use std::time::Duration;

/// A duration such as `250ms`, `10s`, `45m`, `1h30m`, `30d`, `2w`; `None` for anything else.
pub fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let (number, behind) = number(rest)?;
        let unit = behind.bytes().take_while(|byte| !byte.is_ascii_digit()).count();
        let unit_ms = match &behind[..unit] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            _ => return None,
        };
        sum = sum.checked_add(Duration::from_millis(number.checked_mul(unit_ms)?))?;
        rest = &behind[unit..];
    }
    (!text.is_empty()).then_some(sum)
}

/// A number of bytes such as `4096`, `500K`, `10M`, `2GiB`, `1T`, the units powers of 1024; `None` for anything else.
pub fn size(text: &str) -> Option<u64> {
    let (number, unit) = number(text)?;
    let shift = match unit.to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        "T" | "TB" | "TIB" => 40,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

/// A whole number, for clap: what is wanted, where it is something else.
///
/// # Errors
/// It is none, or too large.
pub fn whole<T: std::str::FromStr>(text: &str) -> Result<T, &'static str> {
    text.parse().map_err(|_| "a whole number is wanted, such as 100")
}

/// The digits in front, and what stands behind them.
fn number(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    Some((text[..digits].parse().ok()?, &text[digits..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_people_write_them() {
        assert_eq!(duration("100ms"), Some(Duration::from_millis(100)));
        assert_eq!(duration("1h30m"), Some(Duration::from_secs(5400)));
        assert_eq!(duration("30d"), Some(Duration::from_secs(30 * 86_400)));
        for text in
            ["", "5", "ms", "-1s", "1.5h", "1 h", "5m3", "99999999999999999999s", "99999999999999999w"]
        {
            assert_eq!(duration(text), None, "{text}");
        }
        assert_eq!(size("4096"), Some(4096));
        assert_eq!(size("10G"), Some(10 << 30));
        assert_eq!(size("10GiB"), Some(10 << 30));
        assert_eq!(size("5kb"), Some(5 << 10));
        for text in ["", "G", "-1", "1.5G", "10X", "10BB", "é", "99999999999T"] {
            assert_eq!(size(text), None, "{text}");
        }
    }
}
