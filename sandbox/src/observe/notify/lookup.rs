//! Where a caller's names lead: looked up from the caller's own root and directories, in its own mounts, without following
//! anything that would be this process's.
//!
//! Nothing here waits for a file system that a process serves: one inside the run would wait for the call that waits for
//! us. What the kernel does not have at hand there is recorded as it was called.
//!
//! Mostly one call of the kernel answers, from what it has at hand. What it cannot answer so (links of /proc, which are the
//! caller's and not ours; what is not at hand; names that lead to nothing) is walked component by component. Does not judge,
//! and does not say what comes of the call: between here and there names may change.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Statx, StatxFlags};
use rustix::io::Errno;

use super::place::{Found, Last, join, nameless};
use super::task::{self, Target};

/// Links that are followed at most, as by the kernel (MAXSYMLINKS).
const LINKS: usize = 40;
/// `PROC_SUPER_MAGIC`, `include/uapi/linux/magic.h`.
pub const PROC: u32 = 0x9fa0;
/// The inode of a /proc itself (`PROC_ROOT_INO`, `include/linux/proc_ns.h`).
const PROC_ROOT: u64 = 1;

/// How a call takes a name.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// What it does with a link in the last place.
    pub last: Last,
    /// The call is about an entry of a directory (unlink(2), mkdir(2)): a slash behind the name follows no link.
    pub entry: bool,
    /// The directory that it starts from is the root of the name (`RESOLVE_IN_ROOT` of openat2(2)).
    pub in_root: bool,
}

impl How {
    /// As most calls do.
    pub fn plain(last: Last) -> How {
        How { last, entry: false, in_root: false }
    }
}

/// Where a name leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Led {
    /// To this.
    pub found: Found,
    /// Whether what the path says is what the call meets: else it is not known, or met by other mounts than the run's, and
    /// what is held at the path says nothing of the call.
    pub sure: bool,
}

impl Led {
    fn sure(found: Found) -> Led {
        Led { found, sure: true }
    }

    fn unknown(path: Option<Vec<u8>>) -> Led {
        Led { found: Found::Unknown(path), sure: false }
    }
}

/// The file system as a task sees it.
#[derive(Debug)]
pub struct View {
    root: Rc<OwnedFd>,
    pid: u32,
    tid: u32,
}

impl View {
    /// Of the process `pid`, thread `tid`.
    ///
    /// # Errors
    /// It has gone, or this process may not look.
    pub fn of(pid: u32, tid: u32) -> Result<View, Errno> {
        Ok(View { root: Rc::new(open_link(&format!("/proc/{tid}/root"))?), pid, tid })
    }

    /// The working directory.
    ///
    /// # Errors
    /// As [`View::of`].
    pub fn working_directory(&self) -> Result<OwnedFd, Errno> {
        open_link(&format!("/proc/{}/cwd", self.tid))
    }

    /// What is behind a descriptor.
    ///
    /// # Errors
    /// As [`View::of`], or there is no such descriptor.
    pub fn descriptor(&self, descriptor: i32) -> Result<OwnedFd, Errno> {
        open_link(&format!("/proc/{}/fd/{descriptor}", self.tid))
    }

    /// Looks where a name leads: an absolute one from the root, another from `from`.
    pub fn find(&self, from: Option<OwnedFd>, name: &[u8], how: How) -> Led {
        let from = from.filter(|_| how.in_root || !name.starts_with(b"/"));
        let same = from.as_ref().is_none_or(|from| self.has_mount_of(from));
        let (start, resolve) = match &from {
            None => (self.root.as_fd(), ResolveFlags::IN_ROOT),
            Some(from) if how.in_root => (from.as_fd(), ResolveFlags::IN_ROOT),
            Some(from) => (from.as_fd(), ResolveFlags::BENEATH),
        };
        let at_hand = |name: &[u8], last| look_up(start, name, last, resolve | ResolveFlags::CACHED);
        match at_hand(name, how.last_of(name)) {
            Ok(file) => {
                if let Some(path) = self.path(&file).filter(|path| !is_ours(path)) {
                    return Led { found: Found::There(path), sure: same };
                }
            }
            // Nothing is there: where its directory is, and a look at that says it too, walking tells no more.
            Err(Errno::NOENT) => {
                if let Some((directory, leaf)) = split(name)
                    && let Ok(above) = at_hand(directory, Last::Followed)
                    && look_up(above.as_fd(), leaf, Last::Itself, ResolveFlags::CACHED).err()
                        == Some(Errno::NOENT)
                    && let Some(path) = self.path(&above).filter(|path| !is_ours(path))
                {
                    return Led { found: Found::Absent(below(path, leaf)), sure: same };
                }
            }
            // A kernel or a filter that has no such call: names stay as they were called.
            Err(Errno::NOSYS | Errno::PERM) => return Led::sure(Found::Unknown(None)),
            Err(_) => {}
        }
        let (top, at) = match from.map(Rc::new) {
            None => (Rc::clone(&self.root), Rc::clone(&self.root)),
            Some(from) if how.in_root => (Rc::clone(&from), from),
            Some(from) => (Rc::clone(&self.root), from),
        };
        let walk = Walk { view: self, top, from: Rc::clone(&at), at, same, links: LINKS, first_link: None };
        walk.to(name, how)
    }

    /// Whether an object is met through the mounts that the task's names lead through: one that somebody handed over from
    /// outside is not, and what is held at its path (covers, mounts that cannot be written) does not hold there.
    pub fn has_mount_of(&self, file: &OwnedFd) -> bool {
        // Before Linux 5.8 mounts have no numbers.
        let Some(mount) = mount(file.as_fd()) else { return true };
        if mount_of_root(&self.root) == Some(mount) {
            return true;
        }
        let Some(path) = self.path(file) else { return true };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::CACHED | ResolveFlags::NO_SYMLINKS;
        match look_up(self.root.as_fd(), &path, Last::Itself, resolve) {
            Ok(named) => self::mount(named.as_fd()) == Some(mount),
            // It has lost its name, or that is not at hand.
            Err(_) => self.lists(mount),
        }
    }

    /// Whether the task's mounts have this number among them.
    fn lists(&self, mount: u64) -> bool {
        let Ok(file) = std::fs::File::open(format!("/proc/{}/mountinfo", self.tid)) else { return false };
        let number =
            |line: &[u8]| std::str::from_utf8(line.split(|byte| *byte == b' ').next()?).ok()?.parse().ok();
        BufReader::new(file).split(b'\n').map_while(Result::ok).any(|line| number(&line) == Some(mount))
    }

    /// The path of an open file, if it has one.
    fn path(&self, file: &OwnedFd) -> Option<Vec<u8>> {
        match self.target(file) {
            Target::Path(path) => Some(path),
            _ => None,
        }
    }

    fn target(&self, file: &OwnedFd) -> Target {
        task::link_seen(&format!("/proc/self/fd/{}", file.as_raw_fd()), Some(self.root.as_fd()))
    }
}

impl How {
    /// A slash behind a name follows a link there.
    fn last_of(self, name: &[u8]) -> Last {
        match self.last {
            Last::Itself if !self.entry && name.ends_with(b"/") => Last::Followed,
            last => last,
        }
    }
}

/// A name on its way.
struct Walk<'v> {
    view: &'v View,
    /// What absolute links and `..` lead to at most.
    top: Rc<OwnedFd>,
    /// Where the name began.
    from: Rc<OwnedFd>,
    at: Rc<OwnedFd>,
    /// See [`View::has_mount_of`].
    same: bool,
    links: usize,
    /// The first link in the last place.
    first_link: Option<Vec<u8>>,
}

impl Walk<'_> {
    fn to(mut self, name: &[u8], how: How) -> Led {
        let mut rest = name.to_vec();
        let last = how.last_of(name);
        loop {
            let begin = rest.iter().position(|byte| *byte != b'/').unwrap_or(rest.len());
            rest.drain(..begin);
            if rest.is_empty() {
                return self.there();
            }
            let end = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
            let tail = rest.split_off(end);
            let leaf = std::mem::replace(&mut rest, tail);
            let is_last = rest.iter().all(|byte| *byte == b'/');
            match leaf.as_slice() {
                b"." => continue,
                b".." => {
                    if let Err(error) = self.up() {
                        return self.stopped(error, name, &leaf, &rest, last);
                    }
                    continue;
                }
                _ => {}
            }
            let file = match enter(&self.at, &leaf) {
                Ok(file) => file,
                Err(Errno::NOENT) if is_last => return self.absent(&leaf, last),
                Err(error) => return self.stopped(error, name, &leaf, &rest, last),
            };
            let Some(found) = stat(file.as_fd()) else {
                return self.stopped(Errno::AGAIN, name, &leaf, &rest, last);
            };
            let is_link = FileType::from_raw_mode(found.stx_mode.into()) == FileType::Symlink;
            if !is_link || (is_last && last == Last::Itself) {
                self.at = Rc::new(file);
                continue;
            }
            if is_last && self.first_link.is_none() {
                self.first_link = self.view.path(&self.at).map(|above| below(above, &leaf));
            }
            match self.follow(&file, &leaf) {
                Ok(Some(target)) => {
                    if target.starts_with(b"/") {
                        self.at = Rc::clone(&self.top);
                        // The root is the task's own, but for a directory that it named as one.
                        self.same |= !how.in_root;
                    }
                    rest = [target.as_slice(), &rest].concat();
                }
                Ok(None) => {}
                Err(error) => return self.stopped(error, name, &leaf, &rest, last),
            }
        }
    }

    /// Steps through a link: gives what it says, or has gone through a link of /proc that holds its object.
    fn follow(&mut self, file: &OwnedFd, leaf: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
        self.links = self.links.checked_sub(1).ok_or(Errno::LOOP)?;
        let kind = kind(file).ok_or(Errno::AGAIN)?;
        let target = rustix::fs::readlinkat(file, "", Vec::new())?.into_bytes();
        if kind != PROC {
            return Ok(Some(target));
        }
        let above = stat(self.at.as_fd()).ok_or(Errno::AGAIN)?;
        if above.stx_ino == PROC_ROOT && matches!(leaf, b"self" | b"thread-self") {
            // Another for the caller than for us; where numbers are others than ours, the caller's is not known.
            let ours =
                target.split(|byte| *byte == b'/').next() == Some(std::process::id().to_string().as_bytes());
            let View { pid, tid, .. } = self.view;
            return match (ours, leaf) {
                (false, _) => Err(Errno::XDEV),
                (true, b"self") => Ok(Some(pid.to_string().into_bytes())),
                (true, _) => Ok(Some(format!("{pid}/task/{tid}").into_bytes())),
            };
        }
        match look_up(self.at.as_fd(), leaf, Last::Followed, ResolveFlags::NO_MAGICLINKS) {
            Err(Errno::LOOP) => {}
            // A plain link, as /proc/mounts is.
            _ => return Ok(Some(target)),
        }
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let object = rustix::fs::openat(&*self.at, OsStr::from_bytes(leaf), flags, Mode::empty())?;
        self.same = self.view.has_mount_of(&object);
        self.at = Rc::new(object);
        Ok(None)
    }

    fn up(&mut self) -> Result<(), Errno> {
        let id = |file: &OwnedFd| {
            let found = stat(file.as_fd()).ok_or(Errno::AGAIN)?;
            Ok((found.stx_dev_major, found.stx_dev_minor, found.stx_ino, mount_in(&found)))
        };
        if id(&self.at)? != id(&self.top)? {
            let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::DIRECTORY;
            self.at = Rc::new(rustix::fs::openat(&*self.at, "..", flags, Mode::empty())?);
        }
        Ok(())
    }

    fn there(self) -> Led {
        let sure = self.same;
        match self.view.target(&self.at) {
            Target::Path(path) => Led { found: Found::There(path), sure },
            Target::Nameless(name) => Led::sure(Found::Nameless(nameless(&name))),
            _ => Led::unknown(None),
        }
    }

    /// Nothing has the name; where a file is to be made it is made behind links.
    fn absent(self, leaf: &[u8], last: Last) -> Led {
        let sure = self.same;
        match self.first_link.filter(|_| last != Last::Made) {
            Some(path) => Led { found: Found::Absent(path), sure },
            None => match self.view.path(&self.at) {
                Some(above) => Led { found: Found::Absent(below(above, leaf)), sure },
                None => Led::unknown(None),
            },
        }
    }

    /// The name as it was called.
    fn called(&self, name: &[u8]) -> Option<Vec<u8>> {
        let from = self.view.path(&self.from)?;
        // No `..` leads out of a root.
        let root = Rc::ptr_eq(&self.from, &self.top);
        Some(if root {
            [from.strip_suffix(b"/").unwrap_or(&from), &join(b"/", name)].concat()
        } else {
            join(&from, name)
        })
    }

    /// The name leads no further, at `leaf`, with `rest` behind it.
    fn stopped(self, error: Errno, name: &[u8], leaf: &[u8], rest: &[u8], last: Last) -> Led {
        let here = || self.view.path(&self.at).map(|above| below(above, leaf));
        match error {
            // Nothing will come of the call, whatever it is.
            Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG => {
                let absent = match (last, &self.first_link) {
                    (Last::Made, _) => None,
                    (_, Some(path)) => Some(path.clone()),
                    (_, None) => self.called(name),
                };
                Led::sure(absent.map_or(Found::Unknown(None), Found::Absent))
            }
            // Closed to us, and to the caller as well: it is the same user.
            Errno::ACCESS if self.same && !task::passes_modes(self.view.tid) => match here() {
                Some(path) => Led::sure(Found::Unknown(Some([&path, rest].concat()))),
                None => Led::unknown(None),
            },
            // Not without waiting, or not for us.
            _ => Led::unknown(here().filter(|_| rest.iter().all(|byte| *byte == b'/'))),
        }
    }
}

/// Looks where an absolute name leads as the process `pid`, thread `tid`, would see it.
pub fn find(name: &[u8], last: Last, pid: u32, tid: u32) -> Found {
    match View::of(pid, tid) {
        Ok(view) => view.find(None, name, How::plain(last)).found,
        Err(_) => Found::Unknown(None),
    }
}

/// Opens a name without following links of /proc that hold objects: those are the caller's.
pub fn look_up(
    from: BorrowedFd<'_>,
    name: &[u8],
    last: Last,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let mut flags = OFlags::PATH | OFlags::CLOEXEC;
    if last == Last::Itself {
        flags |= OFlags::NOFOLLOW;
    }
    let name = Path::new(OsStr::from_bytes(name));
    rustix::fs::openat2(from, name, flags, Mode::empty(), resolve | ResolveFlags::NO_MAGICLINKS)
}

/// One component: as the kernel has it at hand, and else as long as a file system answers that no process serves.
pub fn enter(at: &OwnedFd, leaf: &[u8]) -> Result<OwnedFd, Errno> {
    match look_up(at.as_fd(), leaf, Last::Itself, ResolveFlags::CACHED) {
        // Before Linux 5.12 the flag is not known.
        Err(Errno::AGAIN | Errno::INVAL) if kind(at).is_some() => {
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV;
            look_up(at.as_fd(), leaf, Last::Itself, resolve)
        }
        found => found,
    }
}

/// Opens what a link of /proc holds: nothing is asked of its file system.
fn open_link(path: &str) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(rustix::fs::CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
}

/// The magic number of a file system that the kernel serves from memory or a disk; none for others.
pub fn kind(file: &OwnedFd) -> Option<u32> {
    /// `include/uapi/linux/magic.h`: ext4, xfs, btrfs, tmpfs, overlay, proc, sysfs, squashfs, erofs, f2fs, ramfs.
    const LOCAL: [u32; 11] = [
        0xEF53,
        0x5846_5342,
        0x9123_683E,
        0x0102_1994,
        0x794C_7630,
        PROC,
        0x6265_6572,
        0x7371_7368,
        0xE0F5_E1E2,
        0xF2F5_2010,
        0x8584_58F6,
    ];
    let found = rustix::fs::fstatfs(file).ok()?.f_type as u32;
    LOCAL.contains(&found).then_some(found)
}

/// What the kernel knows of a file without asking its file system.
fn stat(file: BorrowedFd<'_>) -> Option<Statx> {
    let wanted = StatxFlags::TYPE | StatxFlags::INO | StatxFlags::MNT_ID;
    rustix::fs::statx(file, "", AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC, wanted).ok()
}

fn mount(file: BorrowedFd<'_>) -> Option<u64> {
    mount_in(&stat(file)?)
}

fn mount_of_root(root: &OwnedFd) -> Option<u64> {
    mount(root.as_fd())
}

fn mount_in(found: &Statx) -> Option<u64> {
    (found.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(found.stx_mnt_id)
}

/// Whether a path leads through this process's own part of /proc: it was led there by a link that means the caller's.
fn is_ours(path: &[u8]) -> bool {
    let own = std::process::id().to_string();
    path.split(|byte| *byte == b'/').any(|name| name == own.as_bytes())
}

/// An entry of a directory.
fn below(mut directory: Vec<u8>, leaf: &[u8]) -> Vec<u8> {
    if directory != b"/" {
        directory.push(b'/');
    }
    directory.extend_from_slice(leaf);
    directory
}

/// A name as its directory and its last component, where that is a name.
fn split(name: &[u8]) -> Option<(&[u8], &[u8])> {
    let trimmed = name.iter().rposition(|byte| *byte != b'/').map(|end| &name[..=end])?;
    let (directory, leaf) = match trimmed.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => trimmed.split_at(slash + 1),
        None => (&b"."[..], trimmed),
    };
    (!matches!(leaf, b"." | b"..")).then_some((directory, leaf))
}
