//! How the record is to be written and attested, and quantities as people write them.

use std::time::Duration;

use crate::cli::RecordArgs;
use crate::error::Refusal;
use crate::record::{Checkpoints, Durability, OnLogError, anchor};

/// Options about the record, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordOptions {
    /// When the log is made durable.
    pub durability: Durability,
    /// What happens when it cannot be written, where that was said.
    pub on_log_error: Option<OnLogError>,
    /// When it is signed and anchored.
    pub checkpoints: Checkpoints,
    /// Where its heads go.
    pub anchors: Vec<anchor::Target>,
}

impl RecordOptions {
    /// Understands the arguments of a run with this mode.
    pub(super) fn new(args: RecordArgs, mode: &super::ModeSetting) -> Result<Self, Refusal> {
        let durability = match args.durability.as_str() {
            "each" => Durability::Each,
            "none" => Durability::None,
            text => Durability::Every(duration(text).filter(|every| !every.is_zero()).ok_or_else(|| {
                Refusal::cannot_start(format!(
                    "--durability {text:?} is none of each, none, and an interval such as 100ms"
                ))
            })?),
        };
        let on_log_error = args.on_log_error.map(|act| match act.as_str() {
            "stop" => OnLogError::Stop,
            _ => OnLogError::Continue,
        });
        if on_log_error == Some(OnLogError::Continue) && matches!(mode, super::ModeSetting::Enforce { .. }) {
            return Err(Refusal::cannot_start(
                "--on-log-error continue contradicts --enforce: an enforced run ends with its record",
            ));
        }
        let commands = args.anchor_cmd.into_iter().map(anchor::Target::Command);
        let checkpoints =
            Checkpoints { events: args.checkpoint_events, every: Duration::from_secs(args.checkpoint_secs) };
        let anchors = commands.chain(args.anchor_syslog.map(anchor::Target::Syslog)).collect();
        Ok(Self { durability, on_log_error, checkpoints, anchors })
    }
}

/// A duration such as `250ms`, `10s`, `45m`, `12h`, `30d`, `2w`.
pub fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "w" => 604_800_000,
        _ => return None,
    };
    number.checked_mul(unit_ms).map(Duration::from_millis)
}

/// A number of bytes such as `4096`, `500K`, `10M`, `2G`, `1T`; units are powers of 1024.
pub fn size(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let shift = match unit.to_ascii_uppercase().trim_end_matches('B').trim_end_matches('I') {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    Some((text[..digits].parse().ok()?, &text[digits..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_people_write_them() {
        assert_eq!(duration("100ms"), Some(Duration::from_millis(100)));
        assert_eq!(duration("30d"), Some(Duration::from_secs(30 * 86_400)));
        for text in ["", "5", "ms", "-1s", "1.5h", "1 h", "99999999999999999999s", "99999999999999999w"] {
            assert_eq!(duration(text), None, "{text}");
        }
        assert_eq!(size("4096"), Some(4096));
        assert_eq!(size("10G"), Some(10 << 30));
        assert_eq!(size("10GiB"), Some(10 << 30));
        assert_eq!(size("5kb"), Some(5 << 10));
        for text in ["", "G", "-1", "1.5G", "10X", "99999999999T"] {
            assert_eq!(size(text), None, "{text}");
        }
    }
}
