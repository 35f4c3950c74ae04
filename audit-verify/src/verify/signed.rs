//! Who signed a log: checkpoints and the seal.
//!
//! A key that was handed in is demanded: every checkpoint and the seal must be signed by one of these. A key that is
//! merely known, because it lies in the same store, is used to find bad signatures and vouches for nothing by itself.
//! A log whose first line names a key is signed by that one, whoever has it: what lacks its signature was not written by
//! who began the log.

use super::verdict::{Fault, Signed, Why, shown};
use crate::sign::{KeyId, PublicKey, SignedLine};

/// The keys by which a log is judged, and what was found so far.
#[derive(Clone, Debug, Default)]
pub struct Signatures {
    demanded: Vec<PublicKey>,
    known: Vec<PublicKey>,
    /// The key that the first line names.
    named: Option<KeyId>,
    found: Signed,
}

impl Signatures {
    /// Signatures of these keys are demanded, if there are any.
    pub fn demand(&mut self, keys: Vec<PublicKey>) {
        self.demanded = keys;
    }

    /// Signatures of these keys can be checked.
    pub fn know(&mut self, keys: Vec<PublicKey>) {
        self.known = keys;
    }

    /// The first line names the key that signs what follows.
    pub fn name(&mut self, key: Option<KeyId>) {
        self.named = key;
    }

    /// What was found so far.
    pub fn found(&self) -> Signed {
        self.found
    }

    /// Judges the checkpoint or seal in line `number`, which is canonical.
    ///
    /// # Errors
    /// A signature is missing where there must be one, or is not good.
    pub fn line(&mut self, number: u64, bytes: &[u8]) -> Result<(), Fault> {
        let fault = |why, expected: String, found: String| Fault { line: number, why, expected, found };
        let line = SignedLine::read(bytes)
            .map_err(|why| fault(Why::Canonical(why), why.expected.to_owned(), shown(bytes)))?;
        let Some(signature) = line.signature else {
            // Within a run the key does not go away.
            if self.demanded.is_empty() && self.named.is_none() && self.found == Signed::No {
                return Ok(());
            }
            return Err(fault(Why::Unsigned, self.expected(), "no signature".to_owned()));
        };
        let Some(key_id) = line.key_id else {
            return Err(fault(Why::Key("key_id"), "the name of a key".to_owned(), "none".to_owned()));
        };
        if let Some(before) = self.named.or(self.found.key()).filter(|before| *before != key_id) {
            return Err(fault(Why::Signature, format!("a signature by {before}"), key_id.to_string()));
        }
        let keys = if self.demanded.is_empty() { &self.known } else { &self.demanded };
        self.found = match keys.iter().find(|key| key.id() == key_id) {
            Some(key) if key.verifies(&line.unsigned, signature) => {
                Signed::Good { key: key_id, line: number }
            }
            Some(_) => {
                return Err(fault(Why::Signature, format!("a signature by {key_id}"), shown(signature)));
            }
            None if self.demanded.is_empty() => Signed::Unchecked { key: key_id, line: number },
            None => return Err(fault(Why::Signature, self.expected(), format!("one by {key_id}"))),
        };
        Ok(())
    }

    fn expected(&self) -> String {
        let ids = self.demanded.iter().map(PublicKey::id).chain(self.named.or(self.found.key()));
        let ids: Vec<String> = ids.map(|id: KeyId| id.to_string()).collect();
        format!("a signature by {}", ids.join(" or "))
    }
}
