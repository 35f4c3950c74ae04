//! The answerer's side of an answer that holds for good: the run's policy file, with a rule in it that allows what was asked
//! about.
//!
//! It runs as whoever answers, outside the run, and changes only a file that is that user's own and still holds what the
//! run began with. What the rule is, [`policy::always`] finds; here the text is read, judged as a run would, and put in
//! the place of the old one at once. The next text is made under a name that the run is kept from ([`About::next`]), so
//! that nothing of the run holds it open when it becomes the policy.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use policy::compile::lsm::{self, SetTable};
use policy::settings::LimitSet;
use policy::{Policy, Variables};
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, ResolveFlags, XattrFlags};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::About;
use crate::launch::policy::{linked, read_text};
use crate::sensor::held;

/// Longest policy that is read, bytes: above what the language takes.
const LONGEST: u64 = 8 << 20;

/// Lists of access control, which a new file would not have (acl(5)).
const ACL: &str = "system.posix_acl_access";

/// How often a name is cleared that somebody else takes again.
const TRIES: usize = 8;

/// Why nothing is written.
#[derive(Debug, thiserror::Error)]
pub enum AlwaysError {
    /// The file is none that could be written.
    #[error("{file} {why}")]
    File {
        /// Its path.
        file: String,
        /// What is the matter with it.
        why: String,
    },
    /// No rule in it says that.
    #[error("no rule in {file} allows exactly that: {why}")]
    Rule {
        /// Its path.
        file: String,
        /// Why not.
        why: String,
    },
}

/// What is to be written, and where.
#[derive(Debug)]
pub struct Planned {
    place: Place,
    before: String,
    after: String,
}

/// The file, held open and locked.
#[derive(Debug)]
struct Place {
    directory: OwnedFd,
    name: OsString,
    next: OsString,
    file: File,
    shown: String,
}

impl Place {
    fn open(about: &About) -> Result<Place, AlwaysError> {
        let shown = about.file().display().to_string();
        let fault = |why: String| AlwaysError::File { file: shown.clone(), why };
        let unopened = |error: Errno| fault(format!("cannot be opened: {}", io::Error::from(error)));
        let name = |path: &Path| {
            path.file_name().map(OsStr::to_owned).ok_or_else(|| fault("has no name".to_owned()))
        };
        let (name, next) = (name(about.file())?, name(about.next())?);
        let above = about.file().parent().unwrap_or(Path::new("/"));
        if about.next().parent() != Some(above) {
            return Err(fault("is not where its next text would be".to_owned()));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::openat2(CWD, above, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)
            .map_err(unopened)?;
        // Whatever is there now, nobody is made to wait by it.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file =
            rustix::fs::openat(&directory, &name, flags, Mode::empty()).map_err(|error| match error {
                Errno::LOOP => fault("is a symbolic link now".to_owned()),
                error => unopened(error),
            })?;
        let place = Place { directory, name, next, file: File::from(file), shown: shown.clone() };
        place.check()?;
        match rustix::fs::flock(&place.file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(place),
            Err(Errno::WOULDBLOCK) => Err(fault("is being written by another answer".to_owned())),
            Err(error) => Err(fault(format!("cannot be locked: {}", io::Error::from(error)))),
        }
    }

    fn fault(&self, why: impl Into<String>) -> AlwaysError {
        AlwaysError::File { file: self.shown.clone(), why: why.into() }
    }

    /// Whether it is a plain file of this user's, that a new one can take the place of.
    fn check(&self) -> Result<(), AlwaysError> {
        let found =
            self.file.metadata().map_err(|error| self.fault(format!("cannot be looked at: {error}")))?;
        let own = rustix::process::geteuid().as_raw();
        let mut nothing: [u8; 0] = [];
        if !found.is_file() {
            Err(self.fault("is no plain file"))
        } else if found.uid() != own {
            Err(self.fault(format!("belongs to uid {}, which alone may have it written", found.uid())))
        } else if found.mode() & 0o200 == 0 {
            Err(self.fault("is not writable (chmod u+w)"))
        } else if found.nlink() != 1 {
            Err(self.fault("has other names (hard links), which would keep the old text"))
        } else if rustix::fs::fgetxattr(&self.file, ACL, &mut nothing[..]).is_ok() {
            Err(self.fault("has a list of access control (setfacl), which the new one would not have"))
        } else {
            Ok(())
        }
    }

    /// What it holds.
    fn text(&self) -> Result<Vec<u8>, AlwaysError> {
        let mut bytes = Vec::new();
        let unread = |error: io::Error| self.fault(format!("cannot be read: {error}"));
        let mut file = &self.file;
        io::Seek::rewind(&mut file).map_err(unread)?;
        file.take(LONGEST).read_to_end(&mut bytes).map_err(unread)?;
        Ok(bytes)
    }

    /// Whether its name still leads to it.
    fn is_there(&self) -> io::Result<bool> {
        let found = rustix::fs::statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW)?;
        let own = self.file.metadata()?;
        Ok((found.st_dev, found.st_ino) == (own.dev(), own.ino()))
    }
}

/// Finds out what is to be written so that the question's act is allowed from the next run on.
///
/// # Errors
/// Why nothing can be; nothing was changed.
pub fn plan(about: &About, variables: &Variables) -> Result<Planned, AlwaysError> {
    let place = Place::open(about)?;
    let bytes = place.text()?;
    if !about.sha256.contains(&crate::record::sha256_hex(&bytes)) {
        return Err(place.fault("was changed since the run began"));
    }
    let before = String::from_utf8(bytes).map_err(|_| place.fault("is not UTF-8"))?;
    let refused = |why: String| AlwaysError::Rule { file: place.shown.clone(), why };
    let read =
        |text: &str| read_text(about.file(), text, variables).map(linked).map_err(|error| error.to_string());
    let texts = about.each(|subject, acts| policy::always::allow(&before, &read, subject, acts, variables));
    let mut texts = texts.into_iter();
    let after = texts.next().ok_or_else(|| refused("nothing was asked".to_owned()))?;
    let after = after.map_err(|error| refused(error.to_string()))?;
    // Whoever's listener it is, the text must do.
    let also = about.each(|subject, acts| policy::always::allow(&after, &read, subject, acts, variables));
    for text in also {
        if text.map_err(|error| refused(error.to_string()))? != after {
            return Err(refused("it may be a listener of the run, for which other rules hold".to_owned()));
        }
    }
    if after == before {
        return Err(refused("the file allows it already, and still the run asks".to_owned()));
    }
    let (old, new) = (read(&before).map_err(refused)?, read(&after).map_err(refused)?);
    new.check_examples()
        .map_err(|errors| refused(format!("an example of the file says otherwise: {errors}")))?;
    let unheld = unheld(&old).and_then(|old| Ok((old, unheld(&new)?)));
    let (old, new) = unheld.map_err(|why| refused(format!("no run could begin with it: {why}")))?;
    match new.iter().find(|line| !old.contains(line)) {
        Some(line) => Err(refused(format!("no layer would hold it: {line}"))),
        None => Ok(Planned { place, before, after }),
    }
}

/// What of a policy hooks would not hold.
fn unheld(policy: &Policy) -> Result<Vec<String>, String> {
    let plan = lsm::compile(&[policy], 0, &mut SetTable::new()).map_err(|error| error.to_string())?;
    let held = held(true, true, LimitSet::ALL);
    Ok(plan.unheld(&held).iter().map(ToString::to_string).collect())
}

impl Planned {
    /// What changes in the file, line by line: `-` is gone, `+` is new.
    pub fn changes(&self) -> Vec<String> {
        changes(&self.before, &self.after)
    }

    /// SHA-256 of the next text.
    pub fn sha256(&self) -> [u8; 32] {
        Sha256::digest(self.after.as_bytes()).into()
    }

    /// Makes the next text beside the file.
    ///
    /// # Errors
    /// It cannot be made; nothing was changed.
    pub fn stage(self) -> Result<Staged, AlwaysError> {
        let fault = |error: io::Error| self.place.fault(format!("cannot be written: {error}"));
        let file = make(&self.place).map_err(fault)?;
        // From here on what was made is removed with it.
        let staged = Staged { place: self.place, before: self.before, done: false };
        let fault = |error: io::Error| staged.place.fault(format!("cannot be written: {error}"));
        fill(&staged.place, file, self.after.as_bytes()).map_err(fault)?;
        Ok(staged)
    }
}

/// Makes a new file under the next name; what somebody left there goes.
fn make(place: &Place) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    for _ in 0..TRIES {
        match rustix::fs::openat(&place.directory, &place.next, flags, mode) {
            Ok(file) => return Ok(File::from(file)),
            Err(Errno::EXIST) => {
                match rustix::fs::unlinkat(&place.directory, &place.next, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::other(format!("somebody else makes {} again and again", place.next.display())))
}

/// Writes a text, with the owner and mode of the file whose place it takes.
fn fill(place: &Place, mut file: File, text: &[u8]) -> io::Result<()> {
    file.write_all(text)?;
    let (found, own) = (place.file.metadata()?, file.metadata()?);
    if own.gid() != found.gid() {
        std::os::unix::fs::fchown(&file, None, Some(found.gid()))?;
    }
    file.set_permissions(found.permissions())?;
    copy_attributes(&place.file, &file)?;
    file.sync_all()
}

/// Extended attributes of the user's, which belong to the file as its mode does.
fn copy_attributes(from: &File, to: &File) -> io::Result<()> {
    let mut names = vec![0u8; 64 << 10];
    let length = match rustix::fs::flistxattr(from, &mut names[..]) {
        Ok(length) => length,
        // A file system without any.
        Err(Errno::OPNOTSUPP) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    names.truncate(length);
    for name in names.split(|byte| *byte == 0).filter(|name| name.starts_with(b"user.")) {
        let mut value = vec![0u8; 64 << 10];
        let length = rustix::fs::fgetxattr(from, name, &mut value[..])?;
        value.truncate(length);
        rustix::fs::fsetxattr(to, name, &value, XattrFlags::empty())?;
    }
    Ok(())
}

/// A next text that is on the disk, and not yet the policy.
#[derive(Debug)]
pub struct Staged {
    place: Place,
    before: String,
    done: bool,
}

impl Staged {
    /// Puts it in the place of the old one.
    ///
    /// # Errors
    /// The old one is there still.
    pub fn put(mut self) -> Result<(), AlwaysError> {
        let fault = |error: io::Error| self.place.fault(format!("cannot be written: {error}"));
        if !self.place.is_there().map_err(fault)? || self.place.text()? != self.before.as_bytes() {
            return Err(self.place.fault("was changed by somebody else meanwhile"));
        }
        let Place { directory, name, next, .. } = &self.place;
        rustix::fs::renameat(directory, next, directory, name).map_err(|error| fault(error.into()))?;
        self.done = true;
        // It is there in any case; whether it survives a power failure is the file system's to say.
        let _ = rustix::fs::fsync(self.place.directory.as_fd());
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.done {
            let _ = rustix::fs::unlinkat(&self.place.directory, &self.place.next, AtFlags::empty());
        }
    }
}

/// The lines that differ. Each of `before` is in `after`, at its place, but for few that got something in them.
fn changes(before: &str, after: &str) -> Vec<String> {
    let mut told = Vec::new();
    let mut old = before.lines().peekable();
    let mut new = after.lines().peekable();
    while let Some(line) = new.next() {
        let Some(known) = old.peek() else {
            told.push(format!("+ {line}"));
            continue;
        };
        if *known == line {
            old.next();
        } else if new.clone().any(|later| later == *known) {
            told.push(format!("+ {line}"));
        } else {
            told.push(format!("- {known}"));
            told.push(format!("+ {line}"));
            old.next();
        }
    }
    told.extend(old.map(|line| format!("- {line}")));
    told
}

#[cfg(test)]
#[path = "always_tests.rs"]
mod tests;
