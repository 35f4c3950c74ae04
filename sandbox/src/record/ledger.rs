//! `ledger.jsonl`: which runs the store has had, entered as they begin and end.
//!
//! The form and its judgement are [`audit_verify::ledger`]'s. This module holds the file: who adds to it holds a lock
//! (flock(2)), so that runs which begin at the same time stand in one order, and each run's first line names the hash
//! before its entry. The lock is a file of its own, which readers cannot open: a command could hold up all others with it.
//! An entry is one write(2) and made durable; one that a crash tore is cut off at the next locking, and an entry says so,
//! signed like all others.
//!
//! Who signs is looked up under the lock, and must be the key that the ledger has in force: between two entries somebody may
//! have made another.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use audit_verify::Hash;
use audit_verify::canonical::Record;
use audit_verify::chain::{ChainWriter, Position, own_hash};
use audit_verify::ledger::{self, Entry, Ledger};
use audit_verify::sign::{KEY_ID, KeyId, PublicKey, SigningKey};
use rustix::fs::FlockOperation;

use super::keys::{self, KeysError};
use super::lock::lock;
use super::store::StoreDir;
use super::time;

/// How long to wait for others who add to the ledger: each takes a few milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is locked, beside the ledger.
const LOCK: &str = ".ledger.lock";

/// How much of the end of the ledger is read to find its last line, in bytes: a line and the newlines around it.
const TAIL: u64 = ledger::LINE_MAX as u64 + 2;

/// A ledger that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// A file operation.
    #[error("{act} {}: {why}", .path.display())]
    Io {
        /// What was being done.
        act: &'static str,
        /// The ledger.
        path: PathBuf,
        /// Why it failed.
        why: io::Error,
    },
    /// Somebody else holds it.
    #[error("ledger lock {}: somebody else holds it for more than {} s; see `fuser {}`", .0.display(), PATIENCE.as_secs(), .0.display())]
    Held(PathBuf),
    /// The file that was opened lies there no more.
    #[error("ledger {}: somebody removed or replaced it meanwhile; see `audit-verify {}`", .0.display(), .0.parent().unwrap_or(.0).display())]
    Replaced(PathBuf),
    /// The key that must sign.
    #[error(transparent)]
    Key(#[from] KeysError),
    /// Its last line is not one.
    #[error(
        "ledger {}: its last line {why}: it was changed; check the store with `audit-verify`, \
         and move the ledger away to begin a new one", .path.display()
    )]
    Broken {
        /// The ledger.
        path: PathBuf,
        /// What is wrong with the line.
        why: &'static str,
    },
}

/// The ledger of a store, open.
#[derive(Debug)]
pub struct LedgerFile {
    store: StoreDir,
    file: File,
    path: PathBuf,
    lock: File,
    lock_path: PathBuf,
}

impl LedgerFile {
    /// Opens the ledger of a store, and makes it where it is missing.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(store: &StoreDir) -> Result<Self, LedgerError> {
        let path = store.path().join(ledger::FILE);
        let file = store.append_file(ledger::FILE).map_err(io("open", &path))?;
        let lock_path = store.path().join(LOCK);
        let lock = store.lock_file(LOCK).map_err(io("open", &lock_path))?;
        let store = store.try_clone().map_err(io("open", store.path()))?;
        Ok(Self { store, file, path, lock, lock_path })
    }

    /// Opens the ledger of a store that has one; nothing is made.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn existing(store: &StoreDir) -> Result<Option<Self>, LedgerError> {
        match store.path().join(ledger::FILE).symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            _ => Self::open(store).map(Some),
        }
    }

    /// Locks it for adding; waits for others. A line that a crash tore is cut off, and an entry says so.
    ///
    /// # Errors
    /// Others do not let go of it, it cannot be read or written, another file is in its place, its last line does not hold,
    /// or the key that must sign is not there.
    pub fn lock(&self) -> Result<Locked<'_>, LedgerError> {
        let mut locked = self.lock_for_key()?;
        locked.signer = keys::signer_for(&self.store, locked.in_force)?;
        locked.repair()?;
        Ok(locked)
    }

    /// As [`LedgerFile::lock`] for who makes a key under the lock, also where there is none that could sign:
    /// [`Locked::introduce`] has to come first, and [`Locked::repair`] behind it.
    ///
    /// # Errors
    /// As [`LedgerFile::lock`].
    pub fn lock_for_key(&self) -> Result<Locked<'_>, LedgerError> {
        if !lock(&self.lock, PATIENCE).map_err(io("lock", &self.lock_path))? {
            return Err(LedgerError::Held(self.lock_path.clone()));
        }
        // From here on dropping it unlocks.
        let mut locked =
            Locked { ledger: self, chain: ChainWriter::default(), torn: 0, in_force: None, signer: None };
        self.still_there()?;
        locked.torn = locked.find_end()?;
        Ok(locked)
    }

    /// Whether the file that is open is the store's ledger still: entries in another would be in none.
    fn still_there(&self) -> Result<(), LedgerError> {
        let identity = |file: &File| file.metadata().map(|about| (about.dev(), about.ino()));
        match self
            .store
            .open_file(ledger::FILE)
            .and_then(|there| Ok(identity(&there)? == identity(&self.file)?))
        {
            Ok(true) => Ok(()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io("open", &self.path)(error)),
            _ => Err(LedgerError::Replaced(self.path.clone())),
        }
    }

    /// Reads and judges it as it stands.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&self) -> Result<Ledger, LedgerError> {
        let source = File::open(&self.path).map_err(io("open", &self.path))?;
        ledger::read(source, &[]).map_err(io("read", &self.path))
    }
}

/// A ledger that nobody else adds to.
#[derive(Debug)]
pub struct Locked<'l> {
    ledger: &'l LedgerFile,
    chain: ChainWriter,
    /// Bytes that were cut off and that no entry tells of yet.
    torn: u64,
    /// The key that the ledger has in force.
    in_force: Option<KeyId>,
    /// That key, if there is one.
    signer: Option<SigningKey>,
}

impl Locked<'_> {
    /// The key that signs here.
    pub fn signer(&self) -> Option<&SigningKey> {
        self.signer.as_ref()
    }

    /// The key that the ledger has in force; `None` where nothing is signed.
    pub fn in_force(&self) -> Option<KeyId> {
        self.in_force
    }

    /// Enters a new key, signed by the one before it, or by itself where there is none. It signs from here on.
    ///
    /// # Errors
    /// As [`Locked::append`].
    pub fn introduce(&mut self, key: SigningKey, before: Option<&SigningKey>) -> Result<(), LedgerError> {
        let entry = Entry::Key { key: Box::new(key.public()) };
        self.add(&entry, Some(before.unwrap_or(&key)))?;
        (self.in_force, self.signer) = (Some(key.id()), Some(key));
        Ok(())
    }

    /// Enters that a torn line was cut off, if one was.
    ///
    /// # Errors
    /// As [`Locked::append`].
    pub fn repair(&mut self) -> Result<(), LedgerError> {
        let torn = std::mem::take(&mut self.torn);
        if torn == 0 {
            return Ok(());
        }
        let reason = format!("{torn} bytes of a line that was torn by a crash were cut off");
        self.append(&Entry::Repair { reason })
    }

    /// Reads and judges it: what is decided by it holds as long as it is locked.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&self) -> Result<Ledger, LedgerError> {
        self.ledger.read()
    }

    /// `hash_self` of the last line; zeros where there is none.
    pub fn head(&self) -> Hash {
        self.chain.position().head
    }

    /// Adds an entry, durable on the disk, signed where the store has a key.
    ///
    /// # Errors
    /// It cannot be written; what was written of it is taken back.
    pub fn append(&mut self, entry: &Entry) -> Result<(), LedgerError> {
        let signer = self.signer.take();
        let added = self.add(entry, signer.as_ref());
        self.in_force = self.in_force.or(signer.as_ref().map(SigningKey::id));
        self.signer = signer;
        added
    }

    fn add(&mut self, entry: &Entry, signer: Option<&SigningKey>) -> Result<(), LedgerError> {
        let LedgerFile { file, path, .. } = self.ledger;
        let before = self.chain.position();
        let stamp = time::format(time::wall_now_ns());
        let line = ledger::line(&mut self.chain, entry, &stamp, signer)
            .map_err(|error| io("make a line of", path)(io::Error::other(error)))?;
        let length = file.metadata().map_err(io("look at", path))?.len();
        let written = io::Write::write_all(&mut &*file, &line).and_then(|()| file.sync_data());
        written.map_err(|error| {
            // Half a line would be cut off by the next who adds; the sooner the better.
            let _ = file.set_len(length);
            self.chain = ChainWriter::at(before);
            io("write", path)(error)
        })
    }

    /// Finds the last line, by which key and chain go on behind it; cuts off what a crash tore, and says how many bytes.
    fn find_end(&mut self) -> Result<u64, LedgerError> {
        let LedgerFile { file, path, .. } = self.ledger;
        let length = file.metadata().map_err(io("look at", path))?.len();
        let mut tail = vec![0; length.min(TAIL) as usize];
        let from = length - tail.len() as u64;
        file.read_exact_at(&mut tail, from).map_err(io("read", path))?;
        let end = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let torn = (tail.len() - end) as u64;
        let broken = |why| LedgerError::Broken { path: path.clone(), why };
        if end == 0 && length > TAIL {
            return Err(broken("is longer than any line of a ledger"));
        }
        if torn > 0 {
            file.set_len(length - torn).map_err(io("cut", path))?;
        }
        let Some(line) = tail[..end].strip_suffix(b"\n") else { return Ok(torn) };
        let line = line.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        let record = Record::parse(line).map_err(|_| broken("is not as sandbox writes it"))?;
        let claimed = record.text("hash_self").and_then(|text| Hash::from_digits(text.as_bytes()));
        let head = own_hash(line).filter(|own| Some(*own) == claimed);
        let head = head.ok_or_else(|| broken("has a hash that is not its own"))?;
        let seq = record.uint("seq").ok_or_else(|| broken("has no number"))?;
        self.in_force = match record.text("public_key") {
            Some(pem) => Some(PublicKey::from_pem(pem).map_err(|_| broken("introduces no key"))?.id()),
            None => record.text(KEY_ID).and_then(|id| KeyId::from_digits(id.as_bytes())),
        };
        self.chain = ChainWriter::at(Position { seq, head });
        Ok(torn)
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // Closing the file would do it too.
        let _ = rustix::fs::flock(&self.ledger.lock, FlockOperation::Unlock);
    }
}

fn io(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LedgerError + use<> {
    let path = path.to_owned();
    move |why| LedgerError::Io { act, path, why }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
