//! How the record is to be written and attested.

use std::time::Duration;

use crate::cli::RecordArgs;
use crate::error::Refusal;
use crate::quantity::duration;
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
        if args.anchor_cmd.iter().any(|command| command.to_string_lossy().trim().is_empty()) {
            return Err(Refusal::cannot_start(
                "--anchor-cmd is empty, and would keep no head: give a command that does, or leave it away",
            ));
        }
        let commands = args.anchor_cmd.into_iter().map(anchor::Target::Command);
        let checkpoints =
            Checkpoints { events: args.checkpoint_events, every: Duration::from_secs(args.checkpoint_secs) };
        let anchors = commands.chain(args.anchor_syslog.map(anchor::Target::Syslog)).collect();
        Ok(Self { durability, on_log_error, checkpoints, anchors })
    }
}
