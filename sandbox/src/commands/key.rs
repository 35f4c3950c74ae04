//! `sandbox key`: the key that signs a store's records.

use std::io::Write;

use anyhow::Context;
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
                          also what later keys signed; keep this one too and give both, so that a store that was written \
                          anew with an older key shows, and for logs that are copied out of the store";

/// The same of a key that the one before did not sign for.
const KEEP_BOTH: &str = "keep the public halves of all keys elsewhere: `audit-verify` needs this one and those before it \
                         (--key, given again for each)";

/// Runs `sandbox key`.
pub fn execute(command: KeyCommand) -> anyhow::Result<Exit> {
    match command {
        KeyCommand::Init => {
            let made = make(&StoreDir::open(&place())?, First::Yes)?;
            show(&made.key.public(), "made", KEEP)
        }
        KeyCommand::Rotate => {
            let made = make(&existing()?, First::No)?;
            made.remark.iter().for_each(|remark| say(remark));
            show(&made.key.public(), "made", if made.remark.is_none() { KEEP_FIRST } else { KEEP_BOTH })
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

/// Whether a key is to be the first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum First {
    Yes,
    No,
}

/// A new key.
struct Made {
    key: SigningKey,
    /// Why the one before did not sign for it.
    remark: Option<String>,
}

/// Makes a key and enters it into the ledger, signed by the one before it or else by itself. With the ledger locked, so
/// that no run begins, and nobody else makes a key, between the two.
fn make(store: &StoreDir, first: First) -> anyhow::Result<Made> {
    let ledger = LedgerFile::open(store)?;
    let mut locked = ledger.lock_for_key()?;
    let directory = store.path().join(keys::DIRECTORY);
    let (before, remark) = match (first, keys::signer_for(store, locked.in_force())) {
        (First::Yes, Ok(None)) => (None, None),
        (First::Yes, Ok(Some(_))) => return Err(KeysError::Exists(directory.join(keys::SECRET)).into()),
        (First::No, Ok(None)) => return Err(KeysError::None(directory).into()),
        (First::No, Ok(Some(key))) => (Some(key), None),
        // What others may read, what is no key and what is not the one in force is replaced, and does not sign.
        (
            First::No,
            Err(
                error @ (KeysError::Content { .. }
                | KeysError::Open { .. }
                | KeysError::NotInForce { .. }
                | KeysError::Lost(_)),
            ),
        ) => (None, Some(format!("{error}\nthe ledger does not have its signature for the new one"))),
        (_, Err(other)) => return Err(other.into()),
    };
    let key = keys::make(store)?;
    locked.introduce(key.clone(), before.as_ref())?;
    keys::put_in_place(store)?;
    // A torn line is told of behind the key, so that there is one to sign it, also where that before is unusable.
    locked.repair()?;
    Ok(Made { key, remark })
}

fn show(key: &PublicKey, state: &str, keep: &str) -> anyhow::Result<Exit> {
    let pem = key.to_pem()?;
    std::io::stdout().lock().write_all(pem.as_bytes()).context("cannot print the key")?;
    say(&format!("key {} {state}; {keep}", key.id()));
    Ok(Exit::SUCCESS)
}
