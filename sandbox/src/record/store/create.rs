//! Making the directory of a run.
//!
//! Every step works on the descriptor of the directory before it, so that a name swapped meanwhile changes
//! nothing.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use audit_verify::ledger;
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::read::{open_regular_at, regular};
use super::{Account, Grant, Place, StoreError, Trust, acl, check_directory, trust_above};
use crate::record::{keys, time};

/// How many runs of one tool may start in one second.
const NAME_TRIES: u32 = 10_000;

/// The longest tool name in a run id, in bytes.
const TOOL_MAX: usize = 16;

/// The name that a run would like to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunName {
    base: String,
}

impl RunName {
    /// `YYYYMMDD-HHMMSS-<tool>`: the time in UTC, the tool from the command's first word.
    pub fn new(wall_ns: i64, program: &[u8]) -> Self {
        Self { base: format!("{}-{}", time::run_id_prefix(wall_ns), tool_name(program)) }
    }

    /// The id of the first run that wants this name.
    pub fn first(&self) -> &str {
        &self.base
    }

    /// The name itself for the first run that wants it, `-2`, `-3`, … behind it for the next ones.
    fn numbered(&self, number: u32) -> String {
        match number {
            1 => self.base.clone(),
            number => format!("{}-{number}", self.base),
        }
    }
}

/// The last component of `program` in the letters that a run id has: `[A-Za-z0-9._+-]`, at most 16 of them.
pub fn tool_name(program: &[u8]) -> String {
    let base = program.rsplit(|byte| *byte == b'/').find(|part| !part.is_empty()).unwrap_or_default();
    let name: String = base
        .iter()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'+' | b'-' => char::from(*byte),
            _ => '_',
        })
        .take(TOOL_MAX)
        .collect();
    match name.trim_start_matches(['.', '-']) {
        "" => "run".to_owned(),
        name => name.to_owned(),
    }
}

/// The directory of a store, checked and held open.
#[derive(Debug)]
pub struct StoreDir {
    path: PathBuf,
    fd: OwnedFd,
    grant: Grant,
    place: Place,
}

impl StoreDir {
    /// Opens the store of `place`, and makes it where it is missing.
    ///
    /// # Errors
    /// It cannot be made, is not a real directory, or others may write there.
    pub fn open(place: &Place) -> Result<Self, StoreError> {
        let path = place.store();
        if !path.is_absolute() {
            return Err(StoreError::Relative(path));
        }
        if place.sandbox_home.is_none() && place.is_for_another() {
            make_public_parent(Path::new(super::SYSTEM_STORES))?;
        }
        let parent = path.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(parent).map_err(|e| StoreError::io("create", parent, e))?;
        let parent = open_directory(rustix::fs::CWD, parent, parent, OFlags::empty())?;
        let (fd, grant) = enter_shared(&parent, &path, place)?;
        Ok(Self { path, fd, grant, place: place.clone() })
    }

    /// The store of `place` if there is one; nothing is made. A directory with nothing in it that a store has is none.
    ///
    /// # Errors
    /// As [`StoreDir::open`].
    pub fn existing(place: &Place) -> Result<Option<Self>, StoreError> {
        let path = place.store();
        let has = |name: &str| match path.join(name).symlink_metadata() {
            Err(error) => error.kind() != io::ErrorKind::NotFound,
            Ok(_) => true,
        };
        match path.symlink_metadata() {
            _ if !path.is_absolute() => Err(StoreError::Relative(path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Ok(about) if about.is_dir() && !["runs", ledger::FILE, keys::DIRECTORY].into_iter().any(has) => {
                Ok(None)
            }
            _ => Self::open(place).map(Some),
        }
    }

    /// A second hold on the same directory.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn try_clone(&self) -> io::Result<Self> {
        let (path, place) = (self.path.clone(), self.place.clone());
        Ok(Self { path, fd: self.fd.try_clone()?, grant: self.grant, place })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Who writes here.
    pub fn recorder(&self) -> u32 {
        self.place.recorder.uid
    }

    /// Who could replace this store behind its recorder's back.
    ///
    /// # Errors
    /// A directory above cannot be looked at.
    pub fn trust(&self) -> Result<Trust, StoreError> {
        trust_above(&self.path, self.place.recorder.uid)
    }

    /// The directory `name` in the store, made where it is missing and readable as the store is.
    ///
    /// # Errors
    /// As [`StoreDir::open`].
    pub fn enter(&self, name: &str) -> Result<Self, StoreError> {
        let path = self.path.join(name);
        let (fd, grant) = enter_shared(&self.fd, &path, &self.place)?;
        Ok(Self { path, fd, grant, place: self.place.clone() })
    }

    /// Opens the file `name`, to be read and added to, made where it is missing and readable as the store is.
    ///
    /// # Errors
    /// It cannot be opened, or is not a regular file.
    pub fn append_file(&self, name: &str) -> io::Result<File> {
        // Without waiting: somebody may have put a pipe there.
        let flags = OFlags::CREATE | OFlags::NOFOLLOW | OFlags::RDWR | OFlags::NONBLOCK;
        regular(make_file(&self.fd, name, flags, self.grant)?)
    }

    /// Opens the file `name`, made where it is missing, which nobody but the recorder can open: whoever can may lock it.
    ///
    /// # Errors
    /// It cannot be opened, is not a regular file, or is open to others.
    pub fn lock_file(&self, name: &str) -> io::Result<File> {
        private_file(&self.fd, name, self.place.recorder.uid)
    }

    /// Puts a whole file in place of `name` at once, readable as `readers` says.
    ///
    /// # Errors
    /// It cannot be written; what stood there stands.
    pub fn replace_file(&self, name: &str, bytes: &[u8], readers: Readers) -> io::Result<()> {
        let grant = match readers {
            Readers::Store => self.grant,
            Readers::Recorder => Grant::Owner,
        };
        replace(&self.fd, name, bytes, grant)
    }

    /// Opens the regular file `name` for reading.
    ///
    /// # Errors
    /// It is not there, or something else.
    pub fn open_file(&self, name: &str) -> io::Result<File> {
        open_regular_at(&self.fd, name)
    }
}

impl AsFd for StoreDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Who may read a file of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Whoever may read the store.
    Store,
    /// Its recorder alone.
    Recorder,
}

/// The directory of one run, made for it and held open.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    id: String,
    fd: OwnedFd,
    trust: Trust,
    grant: Grant,
}

impl RunDir {
    /// Makes a new directory in the store's `runs/`, and the store itself where it is missing.
    pub fn create(place: &Place, name: &RunName) -> Result<Self, StoreError> {
        Self::create_in(&StoreDir::open(place)?, name)
    }

    /// Makes a new directory in the store's `runs/`. The run's id is one that neither a directory nor the ledger has: one
    /// that was removed keeps its own.
    ///
    /// # Errors
    /// It cannot be made, or the ledger cannot be read.
    pub fn create_in(store: &StoreDir, name: &RunName) -> Result<Self, StoreError> {
        let place = &store.place;
        let (runs_fd, grant) = (store.enter("runs")?.fd, store.grant);
        let runs = store.path.join("runs");
        let trust = store.trust()?;

        for number in 1..=NAME_TRIES {
            let id = name.numbered(number);
            let path = runs.join(&id);
            match rustix::fs::mkdirat(&runs_fd, &id, mode_for(grant)) {
                // With the directory there nobody else takes the id, and who had it entered it before its directory went:
                // what the ledger says from here on stays true.
                Ok(()) if ledger_has(store, &id)? => {
                    rustix::fs::unlinkat(&runs_fd, &id, AtFlags::REMOVEDIR)
                        .map_err(|error| StoreError::io("remove", &path, error))?;
                }
                Ok(()) => {
                    let fd = open_directory(&runs_fd, Path::new(&id), &path, OFlags::NOFOLLOW)?;
                    hand_to_group(&fd, &path, place, grant)?;
                    return Ok(Self { path, id, fd, trust, grant });
                }
                Err(Errno::EXIST) => {}
                Err(error) => return Err(StoreError::io("create", &path, error)),
            }
        }
        Err(StoreError::Crowded { path: runs, name: name.base.clone(), tries: NAME_TRIES })
    }

    /// Takes the directory of `--run-dir`, which must be empty or missing. The run's id stays `name`.
    pub fn create_at(path: &Path, place: &Place, name: &RunName) -> Result<Self, StoreError> {
        let path = std::path::absolute(path).map_err(|e| StoreError::io("resolve", path, e))?;
        let (Some(parent), Some(_)) = (path.parent(), path.file_name()) else {
            return Err(StoreError::NotEmpty(path));
        };
        if matches!(parent.try_exists(), Ok(false)) {
            let parent = parent.to_owned();
            return Err(StoreError::NoParent { path, parent });
        }
        let parent = open_directory(rustix::fs::CWD, parent, parent, OFlags::empty())?;
        let (fd, grant) = enter_shared(&parent, &path, place)?;
        let entries = rustix::fs::Dir::read_from(&fd).map_err(|e| StoreError::io("list", &path, e))?;
        for entry in entries {
            let entry = entry.map_err(|e| StoreError::io("list", &path, e))?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                return Err(StoreError::NotEmpty(path));
            }
        }
        let trust = trust_above(&path, place.recorder.uid)?;
        Ok(Self { path, id: name.numbered(1), fd, trust, grant })
    }

    /// A second hold on the same directory.
    pub fn try_clone(&self) -> io::Result<Self> {
        let (path, id) = (self.path.clone(), self.id.clone());
        Ok(Self { path, id, fd: self.fd.try_clone()?, trust: self.trust, grant: self.grant })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The run's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Who could change what is kept here.
    pub fn trust(&self) -> Trust {
        self.trust
    }

    /// How the reader was let in.
    pub fn grant(&self) -> Grant {
        self.grant
    }

    /// Makes a file that must not exist, to be read and written by the recorder and read by the reader.
    pub fn create_file(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::RDWR;
        make_file(&self.fd, name, flags, self.grant)
    }

    /// As [`StoreDir::lock_file`].
    ///
    /// # Errors
    /// As there.
    pub fn lock_file(&self, name: &str) -> io::Result<File> {
        private_file(&self.fd, name, rustix::process::geteuid().as_raw())
    }

    /// Opens a file of the run for reading.
    pub fn open_file(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(rustix::fs::openat(&self.fd, name, flags, Mode::empty())?))
    }

    /// Puts a whole file in place of `name` at once: readers see the old bytes or the new ones.
    pub fn replace_file(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        replace(&self.fd, name, bytes, self.grant)
    }

    /// Removes the files of a run that never started. By the directory's descriptor: whoever owns a directory
    /// above may have put another one, or a link to one, in its place.
    pub fn discard_files(&self) {
        for entry in rustix::fs::Dir::read_from(&self.fd).into_iter().flatten().flatten() {
            // `.` and `..` are directories, which this does not remove.
            let _ = rustix::fs::unlinkat(&self.fd, entry.file_name(), AtFlags::empty());
        }
    }
}

impl AsFd for RunDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Whether the store's ledger speaks of a run with this id. Signatures and links are not judged: an id that somebody put
/// there is no less taken.
fn ledger_has(store: &StoreDir, id: &str) -> Result<bool, StoreError> {
    let failed = |error| StoreError::io("read", &store.path.join(ledger::FILE), error);
    let file = match store.open_file(ledger::FILE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other.map_err(failed)?,
    };
    // Ids have no letter that JSON would write in another way, and a quotation mark within a string has a backslash.
    let entry = format!("\"run_id\": \"{id}\"");
    for line in BufReader::new(file).split(b'\n') {
        if String::from_utf8_lossy(&line.map_err(failed)?).contains(&entry) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Opens a file for adding to it, readable as `grant` says where it is made.
fn make_file(directory: &OwnedFd, name: &str, flags: OFlags, grant: Grant) -> io::Result<File> {
    let mode = match grant {
        Grant::Owner | Grant::RootOnly => Mode::from_raw_mode(0o600),
        Grant::Acl | Grant::Group => Mode::from_raw_mode(0o640),
    };
    let flags = flags | OFlags::APPEND | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(directory, name, flags, mode)?);
    if grant == Grant::Group {
        // The directory is set-group-id, so the file has the group; the mode must not depend on umask.
        rustix::fs::fchmod(&file, mode)?;
    }
    Ok(file)
}

/// A file that only `owner` can open, made where it is missing.
fn private_file(directory: &OwnedFd, name: &str, owner: u32) -> io::Result<File> {
    let flags = OFlags::CREATE | OFlags::NOFOLLOW | OFlags::RDWR | OFlags::NONBLOCK;
    let file = make_file(directory, name, flags, Grant::Owner)?;
    let about = file.metadata()?;
    if !about.is_file() || about.mode() & 0o077 != 0 || about.uid() != owner {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file of the recorder's alone",
        ));
    }
    Ok(file)
}

/// Puts a whole file in place of `name` at once: readers see the old bytes or the new ones.
fn replace(directory: &OwnedFd, name: &str, bytes: &[u8], grant: Grant) -> io::Result<()> {
    let temporary = format!(".{name}.new");
    match rustix::fs::unlinkat(directory, &temporary, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::RDWR;
    let mut file = make_file(directory, &temporary, flags, grant)?;
    io::Write::write_all(&mut file, bytes)?;
    file.sync_data()?;
    rustix::fs::renameat(directory, &temporary, directory, name)?;
    sync_directory(directory)
}

/// Makes the names in a directory durable.
fn sync_directory(directory: &OwnedFd) -> io::Result<()> {
    match rustix::fs::fsync(directory) {
        // Some file systems cannot sync a directory, and need not.
        Ok(()) | Err(Errno::INVAL) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Opens the directory `path` in `parent`, making it where it is missing, checks it, and lets the reader in.
fn enter_shared(parent: &OwnedFd, path: &Path, place: &Place) -> Result<(OwnedFd, Grant), StoreError> {
    let name = Path::new(path.file_name().unwrap_or_default());
    let made = match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700)) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(error) => return Err(StoreError::io("create", path, error)),
    };
    let fd = match open_directory(parent, name, path, OFlags::NOFOLLOW) {
        // O_DIRECTORY | O_NOFOLLOW says ENOTDIR of a symbolic link; find out which of the two it is.
        Err(error) if !made => return Err(what_stands_there(path).unwrap_or(error)),
        other => other?,
    };
    let file = File::from(fd);
    let meta = file.metadata().map_err(|e| StoreError::io("look at", path, e))?;
    check_directory(path, &meta, place.recorder.uid)?;
    let fd = OwnedFd::from(file);
    let grant = let_reader_in(&fd, path, place)?;
    Ok((fd, grant))
}

fn what_stands_there(path: &Path) -> Option<StoreError> {
    let meta = path.symlink_metadata().ok()?;
    match (meta.file_type().is_symlink(), meta.is_dir()) {
        (true, _) => Some(StoreError::Symlink(path.to_owned())),
        (false, false) => Some(StoreError::NotADirectory(path.to_owned())),
        (false, true) => None,
    }
}

fn let_reader_in(fd: &OwnedFd, path: &Path, place: &Place) -> Result<Grant, StoreError> {
    if !place.is_for_another() {
        return Ok(Grant::Owner);
    }
    match acl::let_user_read(fd, place.reader.uid) {
        Ok(true) => return Ok(Grant::Acl),
        Ok(false) => {}
        Err(error) => return Err(StoreError::io("set the access control list of", path, error)),
    }
    let grant = if group_is_private(&place.reader) { Grant::Group } else { Grant::RootOnly };
    hand_to_group(fd, path, place, grant)?;
    Ok(grant)
}

/// Gives the directory to the reader's group, set-group-id so that what is made below has that group too.
fn hand_to_group(fd: &OwnedFd, path: &Path, place: &Place, grant: Grant) -> Result<(), StoreError> {
    if grant != Grant::Group {
        return Ok(());
    }
    let failed = |error: Errno| StoreError::io("hand to the reader's group", path, error);
    rustix::fs::fchown(fd, None::<Uid>, Some(Gid::from_raw(place.reader.gid))).map_err(failed)?;
    rustix::fs::fchmod(fd, Mode::from_raw_mode(0o2750)).map_err(failed)
}

fn mode_for(grant: Grant) -> Mode {
    match grant {
        Grant::Owner | Grant::RootOnly => Mode::from_raw_mode(0o700),
        Grant::Acl | Grant::Group => Mode::from_raw_mode(0o750),
    }
}

/// Whether nobody but `account` is in its primary group, as far as /etc/passwd and /etc/group say.
///
/// Other sources of accounts (LDAP) cannot be listed, so a group that has no entry in /etc/group is taken to
/// be shared.
fn group_is_private(account: &Account) -> bool {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let group = std::fs::read_to_string("/etc/group").unwrap_or_default();
    group_is_private_in(account, &passwd, &group)
}

pub(super) fn group_is_private_in(account: &Account, passwd: &str, group: &str) -> bool {
    let gid = account.gid.to_string();
    let mut own_name = None;
    for fields in passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()) {
        if fields.get(2) == Some(&&*account.uid.to_string()) {
            own_name = fields.first().copied();
        } else if fields.get(3) == Some(&&*gid) {
            return false;
        }
    }
    let mut known = false;
    for fields in group.lines().map(|line| line.split(':').collect::<Vec<_>>()) {
        if fields.get(2) == Some(&&*gid) {
            known = true;
            let members = fields.get(3).copied().unwrap_or_default();
            if members.split(',').any(|member| !member.is_empty() && Some(member) != own_name) {
                return false;
            }
        }
    }
    known
}

/// `/var/lib/sandbox`: root's, listed by nobody else, entered by all.
fn make_public_parent(path: &Path) -> Result<(), StoreError> {
    match std::fs::create_dir(path) {
        // Whatever root's umask is: readers must be able to pass through.
        Ok(()) => rustix::fs::chmod(path, Mode::from_raw_mode(0o711))
            .map_err(|e| StoreError::io("change the mode of", path, e))?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(StoreError::io("create", path, error)),
    }
    let meta = path.symlink_metadata().map_err(|e| StoreError::io("look at", path, e))?;
    check_directory(path, &meta, 0)
}

fn open_directory(at: impl AsFd, name: &Path, path: &Path, more: OFlags) -> Result<OwnedFd, StoreError> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC | more;
    rustix::fs::openat(at, name, flags, Mode::empty()).map_err(|e| StoreError::io("open", path, e))
}
