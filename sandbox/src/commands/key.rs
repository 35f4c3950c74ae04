//! `sandbox key`: the key that signs a store's records.

use std::io::Write;

use anyhow::Context;
use audit_verify::ledger::Entry;
use audit_verify::sign::{PublicKey, SigningKey};

use crate::cli::KeyCommand;
use crate::error::say;
use crate::exit::Exit;
use crate::record::keys::{self, KeysError};
use crate::record::ledger::LedgerFile;
use crate::record::store::StoreDir;
use crate::review::place;

/// What to do with the public half of a first key.
const KEEP: &str = "keep its public half elsewhere, for `audit-verify --key`";

/// The same of a key that others were before.
const KEEP_FIRST: &str = "keep the public half of the first key elsewhere: with it `audit-verify --key` judges this store, \
                          also what later keys signed; keep this one too, for logs that are copied out of the store";

/// The same of a key that the one before did not sign for.
const KEEP_BOTH: &str = "keep the public halves of all keys elsewhere: `audit-verify` needs this one and those before it \
                         (--key, given again for each)";

/// Runs `sandbox key`.
pub fn execute(command: KeyCommand) -> anyhow::Result<Exit> {
    match command {
        KeyCommand::Init => {
            let store = StoreDir::open(&place())?;
            let key = make(&store, Before::None)?;
            show(&key.public(), "made", KEEP)
        }
        KeyCommand::Rotate => {
            let store = existing()?;
            // One that others may read, or that is no key, is replaced; it does not sign for its successor.
            let (before, remark) = match keys::signer(&store) {
                Ok(Some(key)) => (Some(key), None),
                Ok(None) => return Err(KeysError::None(store.path().join(keys::DIRECTORY)).into()),
                Err(error @ (KeysError::Content { .. } | KeysError::Open { .. } | KeysError::Lost(_))) => {
                    (None, Some(format!("{error}\nthe ledger does not have its signature for the new one")))
                }
                Err(other) => return Err(other.into()),
            };
            let key = make(&store, Before::Some(before.as_ref()))?;
            remark.iter().for_each(|remark| say(remark));
            show(&key.public(), "made", if before.is_some() { KEEP_FIRST } else { KEEP_BOTH })
        }
        KeyCommand::Show => {
            let store = existing()?;
            let key = keys::signer(&store)?;
            let key = key.ok_or_else(|| KeysError::None(store.path().join(keys::DIRECTORY)))?;
            // Where others were before it, the first one vouches for it.
            let only = keys::known(store.path()).iter().all(|known| known.id() == key.id());
            show(&key.public(), "in use", if only { KEEP } else { KEEP_FIRST })
        }
    }
}

fn existing() -> anyhow::Result<StoreDir> {
    let place = place();
    let store = StoreDir::existing(&place)?;
    Ok(store.ok_or_else(|| KeysError::None(place.store().join(keys::DIRECTORY)))?)
}

/// What there was before a new key.
#[derive(Clone, Copy)]
enum Before<'k> {
    /// No key.
    None,
    /// One, which signs for the new one if it still can.
    Some(Option<&'k SigningKey>),
}

/// Makes a key and enters it into the ledger, signed by the one before it or else by itself. With the ledger locked, so
/// that no run begins, and nobody else makes a key, between the two.
fn make(store: &StoreDir, before: Before<'_>) -> anyhow::Result<SigningKey> {
    let ledger = LedgerFile::open(store)?;
    let mut locked = ledger.lock_for_key()?;
    let before = match before {
        Before::None if keys::signer(store)?.is_some() => {
            return Err(KeysError::Exists(store.path().join(keys::DIRECTORY).join(keys::SECRET)).into());
        }
        Before::None => None,
        Before::Some(key) => key,
    };
    let key = keys::make(store)?;
    let entry = Entry::Key { key: Box::new(key.public()) };
    locked.append(&entry, Some(before.unwrap_or(&key)))?;
    // A torn line is told of behind the key, so that there is one to sign it, also where that before is unusable.
    locked.repair(Some(&key))?;
    Ok(key)
}

fn show(key: &PublicKey, state: &str, keep: &str) -> anyhow::Result<Exit> {
    let pem = key.to_pem()?;
    std::io::stdout().lock().write_all(pem.as_bytes()).context("cannot print the key")?;
    say(&format!("key {} {state}; {keep}", key.id()));
    Ok(Exit::SUCCESS)
}
