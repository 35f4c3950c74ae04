//! The store: where runs are kept, and who may read and write there.
//!
//! | who records | for whom | store | owner and reader |
//! |---|---|---|---|
//! | anyone | – | `$SANDBOX_HOME` | as below |
//! | root | another user | `/var/lib/sandbox/<uid>` | root; that user reads |
//! | root | root | `~/.sandbox` | root |
//! | a user | – | `~/.sandbox` | that user |
//!
//! **Reading.** A root-owned store must be readable by exactly one user. A group cannot say that, as many
//! systems put every user into one (`users`); so the reader gets an entry in the access control list, which
//! the default list of the directory hands on to everything made below it ([`acl`]). Where the file system has no lists, the
//! user's primary group is taken if nobody else can be in it; otherwise only root reads, and the run says so.
//!
//! **Writing.** Nobody but the recorder's own user may write. Every directory from the store down must be a
//! real directory (no symbolic link), owned by the recorder and closed to others. If someone else owns a directory above, it
//! could be swapped whole: such a store is `user-writable`, and `run_start` says so.

pub mod acl;
mod create;
mod find;
mod read;

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub use create::{Readers, RunDir, RunName, StoreDir, tool_name};
pub use find::{FindError, Found, FoundStores};
pub use read::open_regular;
pub(crate) use read::open_regular_at;

/// Where root keeps what it records for other users.
pub const SYSTEM_STORES: &str = "/var/lib/sandbox";

/// A user, as far as the store cares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Home directory.
    pub home: PathBuf,
}

/// What the location of the store depends on.
#[derive(Clone, Debug)]
pub struct Place {
    /// `$SANDBOX_HOME`, if it is set and not empty.
    pub sandbox_home: Option<PathBuf>,
    /// The effective user of this process, who will own the record.
    pub recorder: Account,
    /// The user whose command it is, who will read the record.
    pub reader: Account,
}

impl Place {
    /// Whether root records for somebody else.
    pub fn is_for_another(&self) -> bool {
        self.recorder.uid == 0 && self.reader.uid != 0
    }

    /// The directory of the store; it need not exist.
    pub fn store(&self) -> PathBuf {
        match &self.sandbox_home {
            Some(home) => home.clone(),
            None if self.is_for_another() => Path::new(SYSTEM_STORES).join(self.reader.uid.to_string()),
            None => self.recorder.home.join(".sandbox"),
        }
    }
}

/// Who could change a record behind its recorder's back, `store` in `run_start`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Only root.
    RootOwned,
    /// The user who is recorded, or whoever owns a directory above.
    UserWritable,
}

impl Trust {
    /// The name in the log.
    pub fn name(self) -> &'static str {
        match self {
            Trust::RootOwned => "root-owned",
            Trust::UserWritable => "user-writable",
        }
    }
}

/// How the reader was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// The reader owns the record.
    Owner,
    /// An entry of the access control list.
    Acl,
    /// The reader's primary group, which nobody else is in.
    Group,
    /// Not at all: the file system has no lists, and the group is shared.
    RootOnly,
}

/// A store that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A path that must be absolute is not.
    #[error("store {}: SANDBOX_HOME must be an absolute path", .0.display())]
    Relative(PathBuf),
    /// The directory that `--run-dir` is to be in.
    #[error("--run-dir {}: there is no directory {} to make it in; mkdir -p it first", .path.display(), .parent.display())]
    NoParent {
        /// The directory of the run.
        path: PathBuf,
        /// The one that is missing.
        parent: PathBuf,
    },
    /// A symbolic link where a directory must stand.
    #[error("store {}: is a symbolic link, which could be pointed elsewhere; name its target instead", .0.display())]
    Symlink(PathBuf),
    /// Something else than a directory.
    #[error("store {}: is not a directory", .0.display())]
    NotADirectory(PathBuf),
    /// Someone else's.
    #[error("store {}: belongs to uid {owner}, not to uid {expected}; {}", .path.display(), whose(*owner, *expected))]
    Owner {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Who should own it.
        expected: u32,
    },
    /// Open to others.
    #[error("store {}: others may write there (mode {mode:04o}); chmod go-w it or name another directory", .path.display())]
    OpenToOthers {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// `--run-dir` that has something in it.
    #[error("run directory {}: is not empty; name a new or empty one", .0.display())]
    NotEmpty(PathBuf),
    /// No free name.
    #[error("store {}: {tries} runs with the name {name} exist", .path.display())]
    Crowded {
        /// The directory of runs.
        path: PathBuf,
        /// The name without its number.
        name: String,
        /// How many were tried.
        tries: u32,
    },
    /// The system said no.
    #[error("{act} {}: {why}{}", .path.display(), hint(why))]
    Io {
        /// What was being done.
        act: &'static str,
        /// Where.
        path: PathBuf,
        /// Why it failed.
        why: io::Error,
    },
}

impl StoreError {
    fn io(act: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        StoreError::Io { act, path: path.to_owned(), why: source.into() }
    }
}

/// What to do about a store of somebody else's. It may hold records, so removing it is no advice.
fn whose(owner: u32, expected: u32) -> String {
    let other = format!("set SANDBOX_HOME to a directory that uid {expected} owns");
    match owner {
        0 => format!("use it with sudo, or {other}"),
        _ => other,
    }
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; records go below it: set SANDBOX_HOME to a directory of your own, or use sudo"
        }
        io::ErrorKind::StorageFull => "; free space there, or set SANDBOX_HOME to another file system",
        _ => "",
    }
}

/// Checks one directory of the store: real, ours, closed to others.
fn check_directory(path: &Path, meta: &Metadata, owner: u32) -> Result<(), StoreError> {
    if meta.file_type().is_symlink() {
        return Err(StoreError::Symlink(path.to_owned()));
    }
    if !meta.is_dir() {
        return Err(StoreError::NotADirectory(path.to_owned()));
    }
    if meta.uid() != owner {
        return Err(StoreError::Owner { path: path.to_owned(), owner: meta.uid(), expected: owner });
    }
    // With an access control list the group bits are its mask; the store's own lists never let anyone write.
    if meta.mode() & 0o022 != 0 {
        return Err(StoreError::OpenToOthers { path: path.to_owned(), mode: meta.mode() & 0o7777 });
    }
    Ok(())
}

/// Who could replace `path` by another directory: looks at every directory above it.
pub(crate) fn trust_above(path: &Path, recorder: u32) -> Result<Trust, StoreError> {
    if recorder != 0 {
        return Ok(Trust::UserWritable);
    }
    let real = path.canonicalize().map_err(|e| StoreError::io("resolve", path, e))?;
    for above in real.ancestors().skip(1) {
        let meta = above.symlink_metadata().map_err(|e| StoreError::io("look at", above, e))?;
        let sticky = meta.mode() & 0o1000 != 0;
        if meta.uid() != 0 || (meta.mode() & 0o022 != 0 && !sticky) {
            return Ok(Trust::UserWritable);
        }
    }
    Ok(Trust::RootOwned)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
