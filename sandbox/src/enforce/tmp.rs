//! Directories for temporary files of the run's own (`tmp: private`): an empty file system at /tmp, /var/tmp and /dev/shm,
//! which nobody outside sees and which is gone when the last process of the run is. With it goes what programs share without
//! a file: System V segments, semaphores and queues, and POSIX message queues (ipc_namespaces(7)).
//!
//! What of the machine's directories the run needs is bound back to its path: where it works, and its user's home. The
//! directories above that are made anew and pinned, so that nothing of them is shown and none can be renamed. Which
//! places these are is found out before (`launch::tmp`); this lays them, in a mount namespace that the caller has made,
//! and says nothing about who may change mounts there.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sched::CloneFlags;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use serde::{Deserialize, Serialize};

use super::mountns::{MountError, NONE, bind, step};

/// The mode of a directory in which everybody makes files, and removes their own.
pub const MODE: u32 = 0o1777;

/// A file system of the run's own, and what of the machine's stays. All paths are absolute, without symbolic links.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrivateTmp {
    /// Where it is seen; none lies in another.
    #[serde(with = "super::wire::paths")]
    places: Vec<PathBuf>,
    /// Directories below them that stay the machine's; none lies in another.
    #[serde(with = "super::wire::paths")]
    kept: Vec<PathBuf>,
    /// What is there below them, empty: directories that programs are told to use, and what is to be covered.
    #[serde(with = "super::wire::paths")]
    made: Vec<PathBuf>,
}

/// What was there, and of which there is something empty in its place.
#[derive(Debug)]
struct Like {
    path: PathBuf,
    is_directory: bool,
    mode: u32,
    owner: (u32, u32),
}

/// Where message queues are seen as files (mq_overview(7)), on machines that show them.
const QUEUES: &str = "/dev/mqueue";

impl PrivateTmp {
    /// What a run with one leaves beside the machine's mounts.
    pub(super) const NAMESPACES: CloneFlags = CloneFlags::CLONE_NEWIPC;

    /// At these places, with these directories of the machine's, and `made` with nothing in them: those that do not lie
    /// below a place are left out.
    pub fn new(mut places: Vec<PathBuf>, kept: Vec<PathBuf>, made: Vec<PathBuf>) -> PrivateTmp {
        outermost(&mut places);
        let below = |path: &PathBuf| places.iter().any(|place| path.starts_with(place) && path != place);
        let mut kept: Vec<PathBuf> = kept.into_iter().filter(below).collect();
        outermost(&mut kept);
        let within = |path: &PathBuf| kept.iter().any(|kept| path.starts_with(kept));
        let mut made: Vec<PathBuf> = made.into_iter().filter(|path| below(path) && !within(path)).collect();
        made.sort();
        made.dedup();
        PrivateTmp { places, kept, made }
    }

    /// With something empty in the place of these as well.
    #[must_use]
    pub fn with_made(self, more: Vec<PathBuf>) -> PrivateTmp {
        PrivateTmp::new(self.places, self.kept, self.made.into_iter().chain(more).collect())
    }

    /// Where it is seen.
    pub fn places(&self) -> &[PathBuf] {
        &self.places
    }

    /// What below them stays the machine's.
    pub fn kept(&self) -> &[PathBuf] {
        &self.kept
    }

    /// Whether what is at a path outside is out of reach inside: neither it nor anything below it stays.
    pub fn hides(&self, path: &Path) -> bool {
        let below = self.places.iter().any(|place| path.starts_with(place) && path != place);
        below && !self.kept.iter().any(|kept| path.starts_with(kept) || kept.starts_with(path))
    }

    /// Whether what is at a path inside is made anew: a place, or below one and in nothing that stays.
    pub fn makes(&self, path: &Path) -> bool {
        let within = |all: &[PathBuf]| all.iter().any(|one| path.starts_with(one));
        within(&self.places) && !within(&self.kept)
    }

    /// Lays it. The process must be in a mount namespace of its own, of which nothing is seen outside, and in
    /// [`NAMESPACES`](Self::NAMESPACES).
    ///
    /// # Errors
    /// The step that failed; a part of it may lie then.
    pub(super) fn lay(&self) -> Result<(), MountError> {
        let Some(first) = self.places.first() else { return Ok(()) };
        let hold = MountError::at("hold what of /tmp stays the machine's");
        let held = self.kept.iter().map(|path| open(path)).collect::<io::Result<Vec<_>>>().map_err(&hold)?;
        let pinned = self.look(self.kept.iter().flat_map(|path| self.above(path))).map_err(&hold)?;
        let whole = |path: &PathBuf| self.above(path).into_iter().chain([path.clone()]).collect::<Vec<_>>();
        let made = self.look(self.made.iter().flat_map(whole)).map_err(&hold)?;

        let what = "make a /tmp of the run's own";
        let make = MountError::at(what);
        // One file system for all places, so that they have one bound. Its root lies beneath what is seen of it.
        let (flags, options) = (MsFlags::MS_NOSUID | MsFlags::MS_NODEV, format!("mode={MODE:o}"));
        step(what, mount(Some("sandbox"), first, Some("tmpfs"), flags, Some(options.as_str())))?;
        for (number, place) in self.places.iter().enumerate().rev() {
            let directory = first.join(number.to_string());
            fs::create_dir(&directory).map_err(&make)?;
            // mkdir(2) goes by the umask.
            fs::set_permissions(&directory, Permissions::from_mode(MODE)).map_err(&make)?;
            bind(&directory, place)?;
        }
        for like in &pinned {
            if like.make().map_err(&make)? {
                // Nobody moves what lies below it to another path.
                bind(&like.path, &like.path)?;
            }
        }
        for (path, held) in self.kept.iter().zip(&held) {
            fs::create_dir(path).map_err(&make)?;
            bind(&PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd())), path)?;
        }
        made.iter().try_for_each(|like| like.make().map(drop)).map_err(make)?;
        if !Path::new(QUEUES).is_dir() {
            return Ok(());
        }
        // What lies there shows the queues of the machine; a new one those of this process.
        let flags = flags | MsFlags::MS_NOEXEC;
        step("show the run's own message queues", mount(Some("sandbox"), QUEUES, Some("mqueue"), flags, NONE))
    }

    /// The directories between a place and what lies below it, outer ones first.
    fn above(&self, path: &Path) -> Vec<PathBuf> {
        let is_below = |above: &&Path| self.places.iter().any(|p| above.starts_with(p) && above != p);
        let mut all: Vec<PathBuf> =
            path.ancestors().skip(1).take_while(is_below).map(Path::to_owned).collect();
        all.reverse();
        all
    }

    /// What is there now, each once.
    fn look(&self, paths: impl Iterator<Item = PathBuf>) -> io::Result<Vec<Like>> {
        let mut all: Vec<Like> = Vec::new();
        for path in paths {
            if !all.iter().any(|like| like.path == path) {
                let found = fs::symlink_metadata(&path)?;
                let mode = found.mode() & 0o7777;
                let owner = (found.uid(), found.gid());
                all.push(Like { path, is_directory: found.is_dir(), mode, owner });
            }
        }
        Ok(all)
    }
}

impl Like {
    /// Makes one like it, with nothing in it; whether it was not there yet.
    fn make(&self) -> io::Result<bool> {
        let made = match self.is_directory {
            true => fs::create_dir(&self.path),
            false => fs::File::create_new(&self.path).map(drop),
        };
        match made {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            Err(error) => return Err(error),
        }
        let (uid, gid) = self.owner;
        match chown(&self.path, Some(uid), Some(gid)) {
            // In a user namespace others cannot be named: then it is the user's own, and in it nothing is anybody's else.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EPERM)) => {}
            other => other?,
        }
        // Behind the owner, whose change takes bits away.
        fs::set_permissions(&self.path, Permissions::from_mode(self.mode))?;
        Ok(true)
    }
}

/// A directory as it is now. No link may have come into the way since it was looked up.
fn open(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)?)
}

/// Leaves out what lies in another.
fn outermost(paths: &mut Vec<PathBuf>) {
    paths.sort();
    paths.dedup();
    let all = paths.clone();
    paths.retain(|path| !all.iter().any(|other| path != other && path.starts_with(other)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(all: &[&str]) -> Vec<PathBuf> {
        all.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn what_stays_is_told_from_what_is_out_of_reach() {
        let places = paths(&["/var/tmp", "/tmp", "/tmp/var"]);
        let kept = paths(&["/home/me", "/tmp/a/work", "/tmp/a/work/deep", "/tmp", "/var/tmp/x"]);
        let made = paths(&["/tmp/user/7", "/tmp/a/work/tmp", "/run/user/7", "/tmp/user/7"]);
        let tmp = PrivateTmp::new(places, kept, made);
        assert_eq!(tmp.places, paths(&["/tmp", "/var/tmp"]));
        assert_eq!(tmp.kept, paths(&["/tmp/a/work", "/var/tmp/x"]));
        assert_eq!(tmp.made, paths(&["/tmp/user/7"]));
        for path in ["/tmp/.X11-unix/X0", "/tmp/a/other", "/tmp/user/7/x", "/var/tmp/y", "/tmp/a/workshop"] {
            assert!(tmp.hides(Path::new(path)), "{path}");
        }
        for path in ["/tmp", "/tmp/a", "/tmp/a/work", "/tmp/a/work/deep/x", "/var", "/", "/tmpfs/x"] {
            assert!(!tmp.hides(Path::new(path)), "{path}");
        }
        for (path, made) in [
            ("/tmp", true),
            ("/tmp/a", true),
            ("/tmp/a/work", false),
            ("/tmp/a/work/x", false),
            ("/x", false),
        ] {
            assert_eq!(tmp.makes(Path::new(path)), made, "{path}");
        }
        assert_eq!(tmp.above(Path::new("/tmp/a/b/c")), paths(&["/tmp/a", "/tmp/a/b"]));
        assert!(tmp.above(Path::new("/tmp/a")).is_empty());
    }
}
