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
//! Between planning and laying, somebody outside may move what is to be covered. So each place is known as it was looked at
//! ([`super::places`]), opened once, and covered by what was opened; when all lie, each path is looked at again. What is
//! not as it was keeps the run from starting. A cover then stays on what it was laid over, wherever that is moved.
//!
//! What is made later is not covered, and neither is another name of a covered file (a hard link): who plans the covers
//! says so. They hold as long as nobody inside can change mounts, and nobody reaches a process outside, whose root shows
//! what is covered (`/proc/PID/root`): other layers hold that, and covers are not counted where they do not. Descriptors
//! from before lead out of it too, so those that do are opened again ([`super::streams`]).

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use rustix::fs::FileType;
use rustix::mount::{MoveMountFlags, OpenTreeFlags};
use serde::{Deserialize, Serialize};

use super::places::{self, Seen, Top};
use super::streams::Stream;
use super::tmp::PrivateTmp;

/// What is laid over a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Short", into = "Short")]
pub struct Cover {
    /// Something empty that nobody may open; else the same.
    hidden: bool,
    /// What is set of the mount (mount_setattr(2)).
    attributes: u64,
    /// Whether something is laid at all: else the place is only to be as it was.
    laid: bool,
    /// What was at the place when that was planned.
    seen: Seen,
}

/// The same in a message, of which there may be a thousand.
type Short = (bool, u64, bool, Seen);

impl From<Short> for Cover {
    fn from((hidden, attributes, laid, seen): Short) -> Cover {
        Cover { hidden, attributes, laid, seen }
    }
}

impl From<Cover> for Short {
    fn from(cover: Cover) -> Short {
        (cover.hidden, cover.attributes, cover.laid, cover.seen)
    }
}

impl Cover {
    /// The same.
    pub const PIN: Cover = Cover::new(false, 0);
    /// The same, read-only.
    pub const READ_ONLY: Cover = Cover::new(false, READ_ONLY);
    /// The same, of which nothing is run or mapped as code.
    pub const NO_EXEC: Cover = Cover::new(false, NO_EXEC);
    /// Something empty that nobody may open.
    pub const HIDDEN: Cover = Cover::new(true, READ_ONLY | NO_SUID | NO_DEVICES | NO_EXEC);

    const fn new(hidden: bool, attributes: u64) -> Cover {
        Cover { hidden, attributes, laid: true, seen: Seen::Nothing }
    }

    /// What was at the place when it was planned.
    pub fn seen(self) -> Seen {
        self.seen
    }

    /// Whether it only keeps what is there from being run.
    pub fn is_for_data(self) -> bool {
        !self.hidden && self.attributes == NO_EXEC
    }

    /// Both at once.
    fn and(self, other: Cover) -> Cover {
        Cover {
            hidden: self.hidden || other.hidden,
            attributes: self.attributes | other.attributes,
            laid: self.laid || other.laid,
            // What changed while that was planned is refused like what changed later.
            seen: if self.seen == other.seen { self.seen } else { Seen::Nothing },
        }
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

/// Leaves the machine's mount namespace, and `more`; whoever may not mount in it makes a user namespace with the new one, in which it
/// is who it was, and whose capabilities are gone when the command is executed.
fn leave(more: CloneFlags) -> Result<(), MountError> {
    match unshare(CloneFlags::CLONE_NEWNS | more) {
        Err(Errno::EPERM) => {}
        made => return step("leave the machine's mounts (unshare)", made),
    }
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let made = unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS | more);
    step("make a user namespace for mounts of its own (unshare)", made)?;
    let write = |file: &str, text: String| {
        fs::write(file, text).map_err(MountError::at("keep the ids in the user namespace"))
    };
    write("/proc/self/setgroups", "deny".to_owned())?;
    write("/proc/self/uid_map", format!("{uid} {uid} 1\n"))?;
    write("/proc/self/gid_map", format!("{gid} {gid} 1\n"))
}

impl Mounts {
    /// Adds a cover over what was seen at a place; of two at one place both hold. Where nothing was, it cannot be laid.
    pub fn add(&mut self, path: PathBuf, cover: Cover, seen: Seen) {
        self.put(path, Cover { seen, ..cover });
    }

    /// Has a place be as it was seen when the covers lie, without one of its own.
    pub fn expect(&mut self, path: PathBuf, seen: Seen) {
        self.put(path, Cover { hidden: false, attributes: 0, laid: false, seen });
    }

    fn put(&mut self, path: PathBuf, cover: Cover) {
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

    /// What is laid where, but for pins.
    pub fn covering(&self) -> impl Iterator<Item = (&Path, Cover)> {
        let covering = self.covers.iter().filter(|(_, cover)| cover.hidden || cover.attributes != 0);
        covering.map(|(path, cover)| (path.as_path(), *cover))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        !self.covers.iter().any(|(_, cover)| cover.laid) && self.tmp.is_none()
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
            return self.look_again(&[]);
        }
        leave(self.tmp.as_ref().map_or(CloneFlags::empty(), |_| PrivateTmp::NAMESPACES))?;
        let laid = self.lay()?;
        self.look_again(&laid)?;
        std::env::set_current_dir(directory)
            .map_err(|source| MountError { step: "go back to the current directory", source })?;
        self.streams.iter().try_for_each(|stream| {
            let step = MountError::at("open a standard descriptor again behind the run's own mounts");
            let told = |error| io::Error::other(format!("{}: {error}", stream.path().display()));
            stream.open_again().map_err(told).map_err(step)
        })
    }

    /// Lays them over the places; gives what lies where.
    fn lay(&self) -> Result<Vec<(&Path, Top)>, MountError> {
        // Nothing of it is seen outside, and no mount of outside uncovers anything.
        let whole = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        step("keep mounts apart from the machine's", mount(NONE, "/", NONE, whole, NONE))?;
        self.tmp.iter().try_for_each(PrivateTmp::lay)?;
        let hides = self.covers.iter().any(|(_, cover)| cover.hidden);
        let empty = hides.then(|| Empty::make(&self.covers)).transpose()?;
        let mut laid = Vec::new();
        for (path, cover) in self.in_order().into_iter().filter(|(_, cover)| cover.laid) {
            if self.is_hidden_above(path) {
                continue;
            }
            let place = match self.makes(path) {
                true => places::open(path),
                false => cover.seen.open(path),
            };
            let place = place.map_err(MountError::at("cover what the policy closes"))?;
            let tree = match (cover.hidden, &empty) {
                (true, Some(empty)) => empty.like(&place)?,
                _ => copy(&place)?,
            };
            // Before it is seen at all.
            if cover.attributes != 0 {
                set_attributes(&tree, cover.attributes)?;
            }
            put_over(&tree, &place)?;
            let top = Top::of(tree.as_fd()).map_err(MountError::at("look at a cover (statx)"))?;
            laid.push((path.as_path(), top));
        }
        empty.map_or(Ok(()), Empty::leave)?;
        Ok(laid)
    }

    /// Fails where a path does not lead to the cover that was laid for it, or is not as it was where none was. What was
    /// away for a moment has its cover, or is found here.
    fn look_again(&self, laid: &[(&Path, Top)]) -> Result<(), MountError> {
        let changed = MountError::at("close what the policy closes");
        laid.iter().try_for_each(|(path, top)| top.is_at(path)).map_err(&changed)?;
        let others = self
            .covers
            .iter()
            .filter(|(path, cover)| !cover.laid && !self.is_hidden_above(path) && !self.makes(path));
        others.into_iter().try_for_each(|(path, cover)| cover.seen.is_still(path)).map_err(changed)
    }

    /// Whether a place has no name any more, for what is above it is hidden.
    fn is_hidden_above(&self, path: &Path) -> bool {
        self.covers.iter().any(|(at, cover)| cover.hidden && at != path && path.starts_with(at))
    }

    /// Whether what is at a path inside was made for a /tmp of the run's own, and so is not what is there outside.
    fn makes(&self, path: &Path) -> bool {
        self.tmp.as_ref().is_some_and(|tmp| tmp.makes(path))
    }
}

pub(super) const NONE: Option<&str> = None;

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

/// Sets attributes of a mount, and of those below it (mount_setattr(2), Linux 5.12).
fn set_attributes(tree: &OwnedFd, set: u64) -> Result<(), MountError> {
    let attributes = MountAttributes { set, ..MountAttributes::default() };
    // SAFETY: the path is empty and ends in NUL, and the structure's size is given; both live through the call, as the
    // descriptor does.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &raw const attributes,
            size_of_val(&attributes),
        )
    };
    let what = "close what is to be covered (mount_setattr)";
    if result < 0 { Err(MountError { step: what, source: io::Error::last_os_error() }) } else { Ok(()) }
}

/// A mount that shows the same as a place, and is nowhere yet (open_tree(2), Linux 5.2).
fn copy(place: &OwnedFd) -> Result<OwnedFd, MountError> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    let made = rustix::mount::open_tree(place, c"", flags);
    made.map_err(|errno| MountError { step: "bind a place (open_tree)", source: errno.into() })
}

/// Puts a mount over what was opened, whatever its path is by now (move_mount(2), Linux 5.2).
fn put_over(tree: &OwnedFd, place: &OwnedFd) -> Result<(), MountError> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    let moved = rustix::mount::move_mount(tree, c"", place, c"", flags);
    moved.map_err(|errno| MountError { step: "lay a mount over a place (move_mount)", source: errno.into() })
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

    /// One of them, as a place is a directory or not.
    fn like(&self, place: &OwnedFd) -> Result<OwnedFd, MountError> {
        let looked = MountError::at("look at what is to be covered");
        let found = rustix::fs::fstat(place).map_err(|errno| looked(errno.into()))?;
        let is_directory = FileType::from_raw_mode(found.st_mode) == FileType::Directory;
        let from = self.at.join(if is_directory { "directory" } else { "file" });
        copy(&places::open(&from).map_err(looked)?)
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
            mounts.add(path.into(), cover, Seen::File(1, 2));
        }
        let file = |cover: Cover| Cover { seen: Seen::File(1, 2), ..cover };
        let order: Vec<_> =
            mounts.in_order().into_iter().map(|(path, cover)| (path.to_str().unwrap(), *cover)).collect();
        let both = Cover::new(false, READ_ONLY | NO_EXEC);
        assert_eq!(order, [("/a", file(Cover::PIN)), ("/a/b", file(both)), ("/a/b/c", file(Cover::HIDDEN))]);
        let sent = serde_json::to_vec(&mounts).unwrap();
        assert_eq!(serde_json::from_slice::<Mounts>(&sent).unwrap(), mounts);
        // What was something else the second time is nothing that could be covered.
        mounts.add("/a".into(), Cover::PIN, Seen::File(1, 3));
        assert_eq!(mounts.in_order()[0].1.seen, Seen::Nothing);
    }

    /// A directory `d` with a `secret`, which is to be hidden, and what is above it.
    fn planned(top: &Path) -> Mounts {
        fs::create_dir_all(top.join("d/secret/deep")).unwrap();
        fs::write(top.join("d/secret/key"), "key").unwrap();
        let mut mounts = Mounts::default();
        for (name, cover) in
            [("d/secret", Cover::HIDDEN), ("d", Cover::PIN), ("d/secret/deep", Cover::READ_ONLY)]
        {
            mounts.add(top.join(name), cover, Seen::at(&top.join(name)).unwrap());
        }
        mounts.expect(top.join("absent"), Seen::at(&top.join("absent")).unwrap());
        mounts
    }

    /// Enters in a thread, which alone is inside then; gives what it could read of the secret.
    fn enter(mounts: Mounts, top: &Path) -> Result<bool, String> {
        let key = top.join("d/secret/key");
        let inside = move || {
            mounts.enter(Path::new("/")).map_err(|error| error.to_string())?;
            Ok(fs::read(key).is_ok_and(|bytes| !bytes.is_empty()))
        };
        std::thread::spawn(inside).join().unwrap()
    }

    #[test]
    fn what_is_not_as_it_was_planned_is_not_begun() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("not run: a thread alone cannot have a user namespace");
            return;
        }
        type Change = (&'static str, fn(&Path), &'static str);
        let changes: [Change; 6] = [
            ("nothing", |_| {}, ""),
            ("moved", |top| fs::rename(top.join("d"), top.join("e")).unwrap(), "is not there as it was"),
            (
                "by a link",
                |top| {
                    fs::rename(top.join("d"), top.join("e")).unwrap();
                    std::os::unix::fs::symlink("e", top.join("d")).unwrap();
                },
                "is something else",
            ),
            (
                "replaced",
                |top| {
                    fs::rename(top.join("d/secret"), top.join("d/other")).unwrap();
                    fs::create_dir(top.join("d/secret")).unwrap();
                },
                "d/secret is something else",
            ),
            (
                "gone",
                |top| fs::remove_dir_all(top.join("d/secret")).unwrap(),
                "d/secret is not there as it was",
            ),
            ("new", |top| fs::write(top.join("absent"), "").unwrap(), "absent is there now"),
        ];
        for (name, change, why) in changes {
            let place = tempfile::tempdir().unwrap();
            let top = fs::canonicalize(place.path()).unwrap();
            let mounts = planned(&top);
            change(&top);
            match (why, enter(mounts, &top)) {
                ("", entered) => assert_eq!(entered, Ok(false)),
                (why, entered) => {
                    let text = entered.expect_err(name);
                    assert!(text.contains(why) && text.contains("try again"), "{name}: {text}");
                }
            }
        }
        // Also where nothing at all is to be laid.
        let place = tempfile::tempdir().unwrap();
        let mut mounts = Mounts::default();
        mounts.expect(place.path().join("absent"), Seen::Nothing);
        assert!(mounts.is_empty());
        assert_eq!(mounts.enter(Path::new("/")).map_err(|error| error.to_string()), Ok(()));
        fs::write(place.path().join("absent"), "").unwrap();
        assert!(mounts.enter(Path::new("/")).unwrap_err().to_string().contains("absent is there now"));
    }

    #[test]
    fn a_cover_goes_where_the_place_goes() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("not run: a thread alone cannot have a user namespace");
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let top = fs::canonicalize(place.path()).unwrap();
        let mounts = planned(&top);
        let (entered, wait) = std::sync::mpsc::channel();
        let (moved, go) = std::sync::mpsc::channel::<()>();
        let at = top.clone();
        let inside = std::thread::spawn(move || {
            mounts.enter(Path::new("/")).unwrap();
            entered.send(()).unwrap();
            go.recv().unwrap();
            let read = |name: &str| fs::read(at.join(name)).is_ok_and(|bytes| !bytes.is_empty());
            (read("e/secret/key"), read("d/secret/key"))
        });
        wait.recv().unwrap();
        fs::rename(top.join("d"), top.join("e")).unwrap();
        assert_eq!(fs::read_to_string(top.join("e/secret/key")).unwrap(), "key", "outside it is open");
        moved.send(()).unwrap();
        assert_eq!(inside.join().unwrap(), (false, false));
    }
}
