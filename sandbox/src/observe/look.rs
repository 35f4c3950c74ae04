//! What stands at a name, as the run sees it, for a call that is over.
//!
//! The names are the run's, and who looks may do more than it. So nothing is opened but the name itself (`O_PATH`), no link is
//! followed, and nobody is waited for: a file system answers only if the kernel serves it from memory or a disk, see
//! [`enter`]; of others, and behind mount points that are not at hand, nothing is told.

use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Statx, StatxFlags, StatxTimestamp};
use rustix::io::Errno;

use super::notify::lookup::{PROC, enter, kind, look_up};
use super::notify::place::Last;

/// How far the clock of file systems may be behind: they take the time of the last tick.
const TICK_NS: i64 = 20_000_000;

/// What stood at a name, as far as somebody can tell who looks later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A symbolic link, with what it says.
    Link(Vec<u8>),
    /// A directory.
    Directory,
    /// Something else.
    Other,
    /// Nothing stands there now.
    Absent,
    /// It cannot be told.
    Unknown,
}

/// The root of a run, with its mounts.
#[derive(Debug)]
pub struct Place {
    root: Rc<OwnedFd>,
    identity: Identity,
}

/// Which directory under which mount: no other has the same while it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    mount: Option<u64>,
    device: (u32, u32),
    inode: u64,
}

impl Place {
    /// What the process `pid` sees.
    ///
    /// # Errors
    /// It has gone, or this process may not look.
    pub fn of(pid: u32) -> Result<Place, Errno> {
        let root = rustix::fs::openat(
            rustix::fs::CWD,
            format!("/proc/{pid}/root"),
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let identity = Identity::of(&about(root.as_fd(), "")?);
        Ok(Place { root: Rc::new(root), identity })
    }

    /// Whether a process sees the same; `None` where it has gone.
    pub fn is_root_of(&self, pid: u32) -> Option<bool> {
        let found = about(rustix::fs::CWD, &format!("/proc/{pid}/root")).ok()?;
        Some(Identity::of(&found) == self.identity)
    }

    /// What stands at an absolute name, on whose way no link is; nothing is told where it came there after `wall_ns`, or
    /// may have.
    pub fn look(&self, path: &[u8], wall_ns: i64) -> Seen {
        let file = match self.find(path) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Seen::Absent,
            Err(_) => return Seen::Unknown,
        };
        let Ok(found) = about(file.as_fd(), "") else { return Seen::Unknown };
        let since = |time: StatxTimestamp| {
            time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec.into()) > wall_ns - TICK_NS
        };
        let made_since = found.stx_mask & StatxFlags::BTIME.bits() != 0 && since(found.stx_btime);
        match FileType::from_raw_mode(found.stx_mode.into()) {
            // Giving a link a name changes it, too.
            FileType::Symlink if since(found.stx_ctime) => Seen::Unknown,
            // Links of /proc are others for each process.
            FileType::Symlink if kind(&file).is_none_or(|kind| kind == PROC) => Seen::Unknown,
            FileType::Symlink => match rustix::fs::readlinkat(&file, "", Vec::new()) {
                Ok(target) => Seen::Link(target.into_bytes()),
                Err(_) => Seen::Unknown,
            },
            _ if made_since => Seen::Unknown,
            FileType::Directory => Seen::Directory,
            _ => Seen::Other,
        }
    }

    /// Opens the name, and nothing behind it.
    fn find(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let at_hand = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::CACHED;
        match look_up(self.root.as_fd(), path, Last::Itself, at_hand) {
            // Before Linux 5.12 the flag is not known.
            Err(Errno::AGAIN | Errno::INVAL) => {}
            found => return found,
        }
        let mut at = Rc::clone(&self.root);
        for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            at = Rc::new(enter(&at, name)?);
        }
        Rc::try_unwrap(at).map_err(|_| Errno::INVAL)
    }
}

impl Identity {
    fn of(found: &Statx) -> Identity {
        Identity {
            // Before Linux 5.8 mounts have no numbers.
            mount: (found.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(found.stx_mnt_id),
            device: (found.stx_dev_major, found.stx_dev_minor),
            inode: found.stx_ino,
        }
    }
}

/// What the kernel knows of a file without asking its file system.
fn about(at: std::os::fd::BorrowedFd<'_>, name: &str) -> Result<Statx, Errno> {
    let wanted =
        StatxFlags::TYPE | StatxFlags::INO | StatxFlags::CTIME | StatxFlags::BTIME | StatxFlags::MNT_ID;
    rustix::fs::statx(at, name, AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC, wanted)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn what_stands_at_a_name_is_told_if_it_stood_there_before() {
        let place = tempfile::tempdir().unwrap();
        let top = place.path().canonicalize().unwrap();
        std::fs::create_dir(top.join("directory")).unwrap();
        std::fs::write(top.join("directory/file"), "").unwrap();
        std::os::unix::fs::symlink("directory", top.join("link")).unwrap();
        nix::unistd::mkfifo(&top.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let own = Place::of(std::process::id()).unwrap();
        let look = |name: &str, wall_ns| own.look(top.join(name).as_os_str().as_bytes(), wall_ns);
        for (name, seen) in [
            ("directory", Seen::Directory),
            ("directory/file", Seen::Other),
            ("fifo", Seen::Other),
            ("link", Seen::Link(b"directory".into())),
            ("none", Seen::Absent),
            // Whoever asks followed no link to get there.
            ("link/file", Seen::Unknown),
        ] {
            assert_eq!(look(name, i64::MAX), seen, "{name}");
        }
        assert_eq!(look("link", 0), Seen::Unknown, "it came there later");
        assert_eq!(own.look(b"/proc/self", i64::MAX), Seen::Unknown, "another one for whom it is about");
        assert_eq!(own.is_root_of(std::process::id()), Some(true));
        assert_eq!(own.is_root_of(u32::MAX), None);
    }
}
