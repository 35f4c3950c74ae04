//! The key that signs a store's records.
//!
//! `keys/signing.pem` in the store is the secret one, readable by the recorder alone; `keys/<key id>.pub.pem` are the
//! public ones, also of keys that were replaced, readable as the store is. A key is made by `sandbox key init`, never in
//! silence: a key that nobody has kept elsewhere proves nothing.
//!
//! A new one lies beside the one before it (`next.pem`) until the ledger has it, and takes its place then: whatever a crash
//! leaves, the key that the ledger has in force is one of the two.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use audit_verify::sign::{KeyError, KeyId, PublicKey, SigningKey};

use super::store::{Readers, StoreDir, StoreError};

/// The directory of keys in a store.
pub const DIRECTORY: &str = "keys";

/// The secret key's name there.
pub const SECRET: &str = "signing.pem";

/// The name of a secret key that the ledger may not have yet.
const NEXT: &str = "next.pem";

/// All names that a secret key may have, also while its file is written.
pub const SECRETS: [&str; 3] = [SECRET, NEXT, ".next.pem.new"];

/// The longest file of a key that is read, in bytes.
const SIZE_MAX: u64 = 16 << 10;

/// A key that cannot be used, or made.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The store or its directory of keys.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file.
    #[error("{act} {}: {why}", .path.display())]
    Io {
        /// What was being done.
        act: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        why: io::Error,
    },
    /// What the file holds.
    #[error("key {}: {why}; `sandbox key rotate` makes a new one", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: KeyError,
    },
    /// Others may read the secret.
    #[error("key {}: others may read it (mode {mode:04o}, uid {owner}); `sandbox key rotate` makes a new one", .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// Its owner.
        owner: u32,
    },
    /// There is one already.
    #[error("key {}: there is one already; `sandbox key rotate` replaces it", .0.display())]
    Exists(PathBuf),
    /// There was one.
    #[error(
        "key {}: it is gone, and the ledger demands its signature; put it back, or make another with \
         `sandbox key rotate` if it is lost", .0.display()
    )]
    Lost(PathBuf),
    /// It is not the one that must sign.
    #[error(
        "key {}: it is {found}, and the ledger has {in_force} in force; put that one back, or make another with \
         `sandbox key rotate` if it is lost", .path.display()
    )]
    NotInForce {
        /// The file.
        path: PathBuf,
        /// The key in it.
        found: KeyId,
        /// The one that the ledger has in force.
        in_force: KeyId,
    },
    /// There is none.
    #[error("no signing key in {}; `sandbox key init` makes one", .0.display())]
    None(PathBuf),
}

/// The secret key of a store, if it has one that may be used.
///
/// # Errors
/// There is one, and it cannot be read, is no key, or is open to others; or there was one.
pub fn signer(store: &StoreDir) -> Result<Option<SigningKey>, KeysError> {
    let path = store.path().join(DIRECTORY).join(SECRET);
    match secret(store, SECRET)? {
        None if !known(store.path()).is_empty() => Err(KeysError::Lost(path)),
        key => Ok(key),
    }
}

/// The secret key that signs behind a ledger's last line, which leaves `in_force`. To be called with the ledger locked. A
/// new key that the ledger has, and that a crash kept from its place, is put there.
///
/// # Errors
/// As [`signer`]; or it is another key than the one in force.
pub fn signer_for(store: &StoreDir, in_force: Option<KeyId>) -> Result<Option<SigningKey>, KeysError> {
    let Some(in_force) = in_force else { return signer(store) };
    let found = signer(store);
    if matches!(&found, Ok(Some(key)) if key.id() == in_force) {
        return found;
    }
    if let Ok(Some(next)) = secret(store, NEXT)
        && next.id() == in_force
    {
        put_in_place(store)?;
        return Ok(Some(next));
    }
    let path = store.path().join(DIRECTORY).join(SECRET);
    match found? {
        Some(key) => Err(KeysError::NotInForce { path, found: key.id(), in_force }),
        None => Err(KeysError::Lost(path)),
    }
}

/// The secret key in a file of the directory of keys; `None` where there is no such file.
fn secret(store: &StoreDir, name: &str) -> Result<Option<SigningKey>, KeysError> {
    let directory = store.path().join(DIRECTORY);
    if directory.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return Ok(None);
    }
    let keys = store.enter(DIRECTORY)?;
    let path = directory.join(name);
    let file = match keys.open_file(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(io("open", &path))?,
    };
    let meta = file.metadata().map_err(io("look at", &path))?;
    if meta.mode() & 0o077 != 0 || meta.uid() != store.recorder() {
        return Err(KeysError::Open { path, mode: meta.mode() & 0o7777, owner: meta.uid() });
    }
    let pem = text(file).map_err(io("read", &path))?;
    SigningKey::from_pem(&pem).map(Some).map_err(|why| KeysError::Content { path, why })
}

/// The public keys of the store at `path`, as far as they can be read: the names of files are not believed.
pub fn known(path: &Path) -> Vec<PublicKey> {
    let mut keys = Vec::new();
    for entry in std::fs::read_dir(path.join(DIRECTORY)).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().ends_with(".pub.pem")
            && let Ok(file) = super::store::open_regular(&entry.path())
            && let Ok(pem) = text(file)
            && let Ok(key) = PublicKey::from_pem(&pem)
        {
            keys.push(key);
        }
    }
    keys.sort_by_key(PublicKey::id);
    keys
}

/// Makes a new key, which lies beside the one before until [`put_in_place`].
///
/// # Errors
/// It cannot be made or stored.
pub fn make(store: &StoreDir) -> Result<SigningKey, KeysError> {
    let keys = store.enter(DIRECTORY)?;
    let mut seed = super::start::random().map_err(io("get", Path::new("random bytes")))?;
    let key = SigningKey::from_seed(&seed);
    seed.fill(0);
    let content = |why| KeysError::Content { path: keys.path().join(NEXT), why };
    let public = format!("{}.pub.pem", key.id());
    // The public one first: a secret key without it could sign what nobody can check.
    let pem = key.public().to_pem().map_err(content)?;
    let failed = io("write", &keys.path().join(&public));
    keys.replace_file(&public, pem.as_bytes(), Readers::Store).map_err(failed)?;
    let pem = key.to_pem().map_err(content)?;
    let failed = io("write", &keys.path().join(NEXT));
    keys.replace_file(NEXT, pem.as_bytes(), Readers::Recorder).map_err(failed)?;
    Ok(key)
}

/// Puts the key that was made last in the place of the one before, whose public half stays.
///
/// # Errors
/// It cannot be moved.
pub fn put_in_place(store: &StoreDir) -> Result<(), KeysError> {
    let keys = store.enter(DIRECTORY)?;
    let failed = io("put in place", &keys.path().join(NEXT));
    rustix::fs::renameat(&keys, NEXT, &keys, SECRET)
        .and_then(|()| rustix::fs::fsync(&keys))
        .map_err(|errno| failed(errno.into()))
}

fn text(file: File) -> io::Result<String> {
    let mut text = String::new();
    file.take(SIZE_MAX).read_to_string(&mut text)?;
    Ok(text)
}

fn io(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KeysError + use<> {
    let path = path.to_owned();
    move |why| KeysError::Io { act, path, why }
}
