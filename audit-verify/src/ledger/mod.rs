//! The ledger of a store: which runs there were, and what their logs were when they ended.
//!
//! `ledger.jsonl` is a chain like a log, with a line where a run begins, one where it ends, and one for what else
//! happens to the store: a run that was found incomplete, one that was removed, a new key. It has no seal, because it
//! goes on. A run's first line names the ledger's last hash before it (`ledger_prev`), so runs and ledger are one
//! structure: a run that was taken out or replaced shows.
//!
//! [`Entry`] is one line's content, [`line()`] writes it, [`read()`] judges a whole ledger. Whether the runs are what the
//! ledger says is judged by who has both: the binary `audit-verify`. Nothing here does file I/O.

mod read;

use crate::Hash;
use crate::chain::{ChainError, ChainWriter, EventWriter};
use crate::sign::{KEY_ID, PublicKey, SIGNATURE, SigningKey};

pub use read::{Ledger, LedgerFault, Outcome, RunEntry, WhyNot, read, starts_with};

/// The ledger's name in the store.
pub const FILE: &str = "ledger.jsonl";

/// The longest line of a ledger, in bytes without its newline: 64 KiB. Those of ours have a few hundred.
pub const LINE_MAX: usize = 64 << 10;

/// Version of the form, `v` on every line.
pub const VERSION: u64 = 1;

/// What one line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A run began; its first line has `ledger_prev` equal to this entry's `hash_prev`.
    Begin {
        /// The run.
        run_id: String,
        /// `hash_self` of its first line.
        first: Hash,
    },
    /// A run ended and its log was sealed.
    End {
        /// The run.
        run_id: String,
        /// Events in its log, the seal included.
        events: u64,
        /// `hash_self` of the seal.
        head: Hash,
    },
    /// A run's log ends without a seal, and always will.
    Incomplete {
        /// The run.
        run_id: String,
        /// Events that hold.
        events: u64,
        /// `hash_self` of the last of them.
        head: Hash,
        /// Why, as far as is known.
        reason: String,
    },
    /// A run's directory was removed on purpose.
    Removed {
        /// The run.
        run_id: String,
        /// Events that its log had.
        events: u64,
        /// `hash_self` of the last of them.
        head: Hash,
        /// On what demand.
        reason: String,
    },
    /// From here on lines are signed by this key. Signed by the key before, if there was one, else by itself.
    Key {
        /// The key.
        key: Box<PublicKey>,
    },
    /// The last line was torn by a crash and cut off: nobody had its hash.
    Repair {
        /// What was cut off.
        reason: String,
    },
}

impl Entry {
    /// The name, `entry` in the line.
    pub fn name(&self) -> &'static str {
        match self {
            Entry::Begin { .. } => "begin",
            Entry::End { .. } => "end",
            Entry::Incomplete { .. } => "incomplete",
            Entry::Removed { .. } => "removed",
            Entry::Key { .. } => "key",
            Entry::Repair { .. } => "repair",
        }
    }

    /// Pushes all keys ascending. The chain puts its own among them.
    fn fill(
        &self,
        line: &mut EventWriter<'_>,
        timestamp: &str,
        key_id: Option<&str>,
        signature: Option<&str>,
    ) {
        let pem = match self {
            Entry::Key { key } => key.to_pem().unwrap_or_default(),
            _ => String::new(),
        };
        let counted = match self {
            Entry::End { events, head, .. }
            | Entry::Incomplete { events, head, .. }
            | Entry::Removed { events, head, .. } => Some((*events, head)),
            _ => None,
        };
        line.put("entry", self.name());
        if let Some((events, _)) = counted {
            line.put("events", events);
        }
        if let Entry::Begin { first, .. } = self {
            line.put("first", first.as_str());
        }
        if let Some((_, head)) = counted {
            line.put("head", head.as_str());
        }
        if let Some(key_id) = key_id {
            line.put(KEY_ID, key_id);
        }
        if !pem.is_empty() {
            line.put("public_key", pem.as_str());
        }
        match self {
            Entry::Incomplete { reason, .. } | Entry::Removed { reason, .. } | Entry::Repair { reason } => {
                line.put("reason", reason.as_str());
            }
            _ => {}
        }
        if let Some(run_id) = self.run_id() {
            line.put("run_id", run_id);
        }
        if let Some(signature) = signature {
            line.put(SIGNATURE, signature);
        }
        line.put("timestamp", timestamp).put("v", VERSION);
    }

    /// The run that it is about.
    pub fn run_id(&self) -> Option<&str> {
        match self {
            Entry::Begin { run_id, .. }
            | Entry::End { run_id, .. }
            | Entry::Incomplete { run_id, .. }
            | Entry::Removed { run_id, .. } => Some(run_id),
            Entry::Key { .. } | Entry::Repair { .. } => None,
        }
    }
}

/// The next line of a ledger, newline included, signed where there is a key. `timestamp` is RFC 3339 in UTC.
///
/// # Errors
/// The line is longer than a line may be; the chain then stands where it stood.
pub fn line(
    chain: &mut ChainWriter,
    entry: &Entry,
    timestamp: &str,
    signer: Option<&SigningKey>,
) -> Result<Vec<u8>, ChainError> {
    let key_id = signer.map(|signer| signer.id().to_string());
    let key_id = key_id.as_deref();
    let signature = match signer {
        Some(signer) => {
            let unsigned = chain.next_hash(|line| entry.fill(line, timestamp, key_id, None))?;
            Some(signer.sign(&unsigned))
        }
        None => None,
    };
    Ok(chain.append(|line| entry.fill(line, timestamp, key_id, signature.as_deref()))?.to_vec())
}

#[cfg(test)]
mod tests;
