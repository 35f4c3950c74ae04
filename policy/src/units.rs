//! Quantities as people write them: `90s`, `5m`, `2h`, `4GiB`, `200%`.

use std::time::Duration;

/// Seconds, minutes, hours and days; at least a second.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let seconds = match unit {
        "s" => number,
        "m" => number.checked_mul(60)?,
        "h" => number.checked_mul(3600)?,
        "d" => number.checked_mul(86_400)?,
        _ => return None,
    };
    (1..=u64::from(u32::MAX)).contains(&seconds).then(|| Duration::from_secs(seconds))
}

/// What is to be written where `text` is no duration: the number itself with its unit, where it is one.
pub(crate) fn wanted_duration(text: &str, example: &str) -> String {
    let seconds = format!("{text}s");
    let example = if duration(&seconds).is_some() { seconds.as_str() } else { example };
    format!("a number with `s`, `m`, `h` or `d`, as in `{example}`")
}

/// The same quantity in the largest unit that holds it without a rest.
pub fn write_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [(86_400, "d"), (3600, "h"), (60, "m")];
    match units.into_iter().find(|(unit, _)| seconds.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", seconds / unit),
        None => format!("{seconds}s"),
    }
}

/// Digits, then letters.
fn split(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    Some((text[..end].parse().ok()?, &text[end..]))
}

/// Bytes with a binary unit; at least one.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let (_, shift) = BINARY.into_iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(1 << shift).filter(|bytes| *bytes > 0)
}

/// The same quantity in the largest unit that holds it without a rest.
pub(crate) fn write_bytes(bytes: u64) -> String {
    let fits = |(_, shift): &(&str, u32)| bytes.is_multiple_of(1 << shift);
    let (name, shift) = BINARY.into_iter().find(fits).unwrap_or(("KiB", 10));
    format!("{}{name}", bytes >> shift)
}

const BINARY: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];

/// Percent, at least one.
pub(crate) fn percent(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    (unit == "%" && (1..=u64::from(u32::MAX)).contains(&number)).then_some(number)
}
