//! The record of a run: store, log, index, meta.json.
//!
//! [`store`] makes the run's directory, [`Recorder`] writes into it. Events come from [`crate::event`]; the
//! form and the chain of the log are [`audit_verify`]'s. Nothing here looks at what an event means.
//!
//! ```text
//! let dir = RunDir::create(&place, &RunName::new(wall_ns, b"cargo"))?;
//! let mut recorder = Recorder::begin(dir, agent_id, &start, RecordSettings::default(), Attestation::default())?;
//! recorder.append(&events)?;                  // as often as it takes
//! let sealed = recorder.seal(&end)?;         // the log is finished: print sealed.head
//! recorder.finish_index()?;                  // may take a moment after a long run
//! ```

pub mod anchor;
pub mod crashed;
mod error;
pub mod index;
pub mod keys;
pub mod ledger;
pub(crate) mod line;
mod lock;
mod log;
pub mod meta;
mod recorder;
mod start;
pub mod store;
pub mod time;
mod writer;

pub use audit_verify::index::lines;
use sha2::{Digest, Sha256};

pub use error::{LogAct, LogError, RecordError};
pub use line::{LineBatch, LineWriter, runner_event};
pub use lock::is_being_written;
pub use log::{Counts, LogWriter, RunEnd, Sealed, Sink};
pub use recorder::{
    Attestation, BATCH_MAX, Checkpoints, Durability, LOG, OnLogError, RecordSettings, Recorder,
};
pub(crate) use start::hex;
pub use start::{KeyReach, LayerReport, Mode, OwnTmp, RunStart, SelfTest};

/// The name of the run's policies in its directory: as they hold, without variables.
pub const EFFECTIVE_POLICY: &str = "policy.effective.yaml";

/// SHA-256 of bytes, as the log has it: lower-case hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The file of the policies that hold later in a run, by their number; those it began with have 1.
pub fn effective_policy(number: u32) -> String {
    format!("policy.effective.{number}.yaml")
}

/// Made-up runs for the tests of other stages.
#[cfg(test)]
pub(crate) use {line::log_of, recorder::tests as made_up};
