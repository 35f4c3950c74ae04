//! The run's own mounts: what is denied and was there when the run started is covered, in a mount namespace that only
//! the run is in. A /tmp of its own ([`super::tmp`]) is laid there too, before the covers.
//!
//! ```text
//! pin        the same, bound to itself    nobody can rename or remove it, so what lies below keeps its path
//! read-only  the same, read-only          nobody changes it, its mode or its times (EROFS); its name stays (EBUSY)
//! no-exec    the same, for data only      nothing there is run (EACCES) or mapped as code (EPERM)
//! hidden     something empty, mode 0      nobody reads it either (EACCES)
//! ```
//!
//! What is made later is not covered, and neither is another name of a covered file (a hard link): who plans the covers
//! says so. They hold as long as nobody inside can change mounts, and nobody reaches a process outside, whose root shows
//! what is covered (`/proc/PID/root`): other layers hold that, and covers are not counted where they do not. Descriptors
//! from before lead out of it too, so those that do are opened again ([`super::streams`]).

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use serde::{Deserialize, Serialize};

use super::streams::Stream;
use super::tmp::PrivateTmp;

/// What is laid over a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cover {
    /// Something empty that nobody may open; else the same.
    hidden: bool,
    /// What is set of the mount (mount_setattr(2)).
    attributes: u64,
}

impl Cover {
    /// The same.
    pub const PIN: Cover = Cover { hidden: false, attributes: 0 };
    /// The same, read-only.
    pub const READ_ONLY: Cover = Cover { hidden: false, attributes: READ_ONLY };
    /// The same, of which nothing is run or mapped as code.
    pub const NO_EXEC: Cover = Cover { hidden: false, attributes: NO_EXEC };
    /// Something empty that nobody may open.
    pub const HIDDEN: Cover = Cover { hidden: true, attributes: READ_ONLY | NO_SUID | NO_DEVICES | NO_EXEC };

    /// Both at once.
    fn and(self, other: Cover) -> Cover {
        Cover { hidden: self.hidden || other.hidden, attributes: self.attributes | other.attributes }
    }
}

/// Covers, by place: absolute and without symbolic links; and what lies below them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mounts {
    /// A /tmp of the run's own, where it has one.
    tmp: Option<PrivateTmp>,
    #[serde(with = "super::wire::by_path")]
    covers: Vec<(PathBuf, Cover)>,
    /// Descriptors that lead round them, to be opened again.
    streams: Vec<Stream>,
}

/// Places where something empty can be made that is then laid over others.
const SCRATCH: [&str; 6] = ["/tmp", "/var/tmp", "/dev/shm", "/run", "/mnt", "/opt"];

/// Why there are no covers.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}: {source}")]
pub struct MountError {
    step: &'static str,
    source: io::Error,
}

impl MountError {
    pub(super) fn at(step: &'static str) -> impl Fn(io::Error) -> MountError {
        move |source| MountError { step, source }
    }

    /// The number that the kernel gave.
    pub fn errno(&self) -> i32 {
        self.source.raw_os_error().unwrap_or(libc::EIO)
    }
}

/// Leaves the machine's mount namespace; whoever may not mount in it makes a user namespace with the new one, in which it
/// is who it was, and whose capabilities are gone when the command is executed.
fn leave() -> Result<(), MountError> {
    match unshare(CloneFlags::CLONE_NEWNS) {
        Err(Errno::EPERM) => {}
        made => return step("leave the machine's mounts (unshare)", made),
    }
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let made = unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS);
    step("make a user namespace for mounts of its own (unshare)", made)?;
    let write = |file: &str, text: String| {
        fs::write(file, text).map_err(MountError::at("keep the ids in the user namespace"))
    };
    write("/proc/self/setgroups", "deny".to_owned())?;
    write("/proc/self/uid_map", format!("{uid} {uid} 1\n"))?;
    write("/proc/self/gid_map", format!("{gid} {gid} 1\n"))
}

impl Mounts {
    /// Adds a cover; of two at one place both hold.
    pub fn add(&mut self, path: PathBuf, cover: Cover) {
        match self.covers.iter_mut().find(|(at, _)| *at == path) {
            Some((_, known)) => *known = known.and(cover),
            None => self.covers.push((path, cover)),
        }
    }

    /// With a /tmp of the run's own.
    #[must_use]
    pub fn with_tmp(mut self, tmp: Option<PrivateTmp>) -> Self {
        self.tmp = tmp;
        self
    }

    /// With descriptors that are opened again behind them.
    #[must_use]
    pub fn with_streams(mut self, streams: Vec<Stream>) -> Self {
        self.streams = streams;
        self
    }

    /// The /tmp of the run's own.
    pub fn tmp(&self) -> Option<&PrivateTmp> {
        self.tmp.as_ref()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.covers.is_empty() && self.tmp.is_none()
    }

    /// The covers, outer ones first.
    fn in_order(&self) -> Vec<&(PathBuf, Cover)> {
        let mut covers: Vec<_> = self.covers.iter().collect();
        covers.sort_by_key(|(path, _)| path.components().count());
        covers
    }

    /// Takes the calling process, which must have one thread, into a mount namespace of its own, and lays the covers
    /// over their places there. `directory` is where it is to be afterwards: a directory that was open before shows
    /// what lies below the covers. What other descriptors would show is opened again.
    ///
    /// # Errors
    /// The step that failed. Some of them may lie then; the process must not go on.
    pub fn enter(&self, directory: &Path) -> Result<(), MountError> {
        if self.is_empty() {
            return Ok(());
        }
        leave()?;
        self.lay()?;
        std::env::set_current_dir(directory)
            .map_err(|source| MountError { step: "go back to the current directory", source })?;
        self.streams.iter().try_for_each(|stream| {
            let step = MountError::at("open a standard descriptor again behind the run's own mounts");
            let told = |error| io::Error::other(format!("{}: {error}", stream.path().display()));
            stream.open_again().map_err(told).map_err(step)
        })
    }

    /// Lays them over the places.
    fn lay(&self) -> Result<(), MountError> {
        // Nothing of it is seen outside, and no mount of outside uncovers anything.
        let whole = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        step("keep mounts apart from the machine's", mount(NONE, "/", NONE, whole, NONE))?;
        self.tmp.iter().try_for_each(PrivateTmp::lay)?;
        let hides = self.covers.iter().any(|(_, cover)| cover.hidden);
        let empty = hides.then(|| Empty::make(&self.covers)).transpose()?;
        for (path, cover) in self.in_order() {
            match (cover, &empty) {
                (Cover { hidden: true, attributes }, Some(empty)) => empty.lay(path, *attributes)?,
                // What is hidden by one above it has no name any more.
                _ if fs::symlink_metadata(path).is_err() => {}
                (cover, _) => {
                    bind(path, path)?;
                    if cover.attributes != 0 {
                        set_attributes(path, cover.attributes)?;
                    }
                }
            }
        }
        match empty {
            Some(empty) => empty.leave(),
            None => Ok(()),
        }
    }
}

const NONE: Option<&str> = None;

pub(super) fn step<T>(what: &'static str, result: nix::Result<T>) -> Result<T, MountError> {
    result.map_err(|errno| MountError { step: what, source: errno.into() })
}

pub(super) fn bind(from: &Path, to: &Path) -> Result<(), MountError> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    step("bind a place (mount)", mount(Some(from), to, NONE, flags, NONE))
}

/// `struct mount_attr` (include/uapi/linux/mount.h).
#[repr(C)]
#[derive(Default)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

const READ_ONLY: u64 = 0x0000_0001;
const NO_SUID: u64 = 0x0000_0002;
const NO_DEVICES: u64 = 0x0000_0004;
const NO_EXEC: u64 = 0x0000_0008;

/// Sets attributes of the mount at `path`, and of those below it (mount_setattr(2), Linux 5.12).
fn set_attributes(path: &Path, set: u64) -> Result<(), MountError> {
    let what = "close what is to be covered (mount_setattr)";
    let name = CString::new(path.as_os_str().as_bytes());
    let name = name.map_err(|error| MountError { step: what, source: error.into() })?;
    let attributes = MountAttributes { set, ..MountAttributes::default() };
    // SAFETY: the name ends in NUL, and the structure's size is given; both live through the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            name.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of_val(&attributes),
        )
    };
    if result < 0 { Err(MountError { step: what, source: io::Error::last_os_error() }) } else { Ok(()) }
}

/// A file and a directory that nobody may open, on a file system of their own.
struct Empty {
    at: PathBuf,
}

impl Empty {
    /// Makes them at a place that is on no way to what is covered.
    fn make(covers: &[(PathBuf, Cover)]) -> Result<Empty, MountError> {
        let what = "make something empty to lay over what is denied";
        let free =
            |at: &&&str| Path::new(at).is_dir() && !covers.iter().any(|(path, _)| path.starts_with(at));
        let Some(at) = SCRATCH.iter().find(free) else {
            return Err(MountError::at(what)(io::Error::other(
                "no directory for it is free of what is denied",
            )));
        };
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        step(
            what,
            mount(Some("sandbox"), *at, Some("tmpfs"), flags, Some("size=16k,nr_inodes=8,mode=0755")),
        )?;
        let at = PathBuf::from(at);
        fs::DirBuilder::new().mode(0o000).create(at.join("directory")).map_err(MountError::at(what))?;
        let file = fs::File::options().write(true).create_new(true).mode(0o000).open(at.join("file"));
        file.map_err(MountError::at(what))?;
        Ok(Empty { at })
    }

    /// Lays one of them over a place, as it is a directory or not.
    fn lay(&self, path: &Path, attributes: u64) -> Result<(), MountError> {
        let found = match fs::symlink_metadata(path) {
            Ok(found) => found,
            // It is hidden with the directory above it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
            Err(error) => return Err(MountError::at("look at what is to be covered")(error)),
        };
        let from = self.at.join(if found.is_dir() { "directory" } else { "file" });
        bind(&from, path)?;
        set_attributes(path, attributes)
    }

    /// Takes the place where they were made away; what was laid over others stays.
    fn leave(self) -> Result<(), MountError> {
        step("leave the place of what is empty", umount2(&self.at, MntFlags::MNT_DETACH))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn covers_of_one_place_add_up_and_outer_ones_come_first() {
        let mut mounts = Mounts::default();
        assert!(mounts.is_empty());
        for (path, cover) in [
            ("/a/b/c", Cover::HIDDEN),
            ("/a", Cover::PIN),
            ("/a/b", Cover::READ_ONLY),
            ("/a/b", Cover::NO_EXEC),
        ] {
            mounts.add(path.into(), cover);
        }
        let order: Vec<_> =
            mounts.in_order().into_iter().map(|(path, cover)| (path.to_str().unwrap(), *cover)).collect();
        let both = Cover { hidden: false, attributes: READ_ONLY | NO_EXEC };
        assert_eq!(order, [("/a", Cover::PIN), ("/a/b", both), ("/a/b/c", Cover::HIDDEN)]);
    }
}
