//! Places as they were when a run was planned: what is opened at a path later is the same, or the run does not start.
//!
//! Whoever may rename there can have a place away for a moment, or something else in it. A place is therefore known by
//! device and inode, opened without a symbolic link on the way, and only ever used by what was opened. What becomes of it
//! afterwards is no matter of this module: a mount over it goes where it goes.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, StatxFlags, fstat, openat2, statx};
use serde::{Deserialize, Serialize};

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seen {
    /// This device and inode.
    File(u64, u64),
    /// Nothing.
    Nothing,
    /// Something above it may not be looked into.
    Closed,
    /// A symbolic link is on the way: nothing has this very path.
    Linked,
}

impl Seen {
    /// What is there now; a symbolic link as the last part is what is there.
    ///
    /// # Errors
    /// It cannot be told.
    pub fn at(path: &Path) -> io::Result<Seen> {
        match open(path) {
            Ok(place) => Seen::of(&place),
            Err(error) => match error.raw_os_error() {
                Some(libc::ENOENT | libc::ENOTDIR) => Ok(Seen::Nothing),
                Some(libc::EACCES) => Ok(Seen::Closed),
                Some(libc::ELOOP) => Ok(Seen::Linked),
                _ => Err(error),
            },
        }
    }

    /// What is behind a descriptor.
    fn of(place: &OwnedFd) -> io::Result<Seen> {
        let found = fstat(place)?;
        Ok(Seen::File(found.st_dev, found.st_ino))
    }

    /// Opens what is at a path, which must be what was seen.
    ///
    /// # Errors
    /// It is something else, or nothing.
    pub(super) fn open(self, path: &Path) -> io::Result<OwnedFd> {
        match open(path) {
            Ok(place) if Seen::of(&place)? == self => Ok(place),
            Ok(_) => Err(changed(path)),
            Err(error) => Err(missing(path, &error)),
        }
    }

    /// Fails where what is at a path is not what was seen any more.
    ///
    /// # Errors
    /// The same.
    pub(super) fn is_still(self, path: &Path) -> io::Result<()> {
        match (self, Seen::at(path)) {
            (seen, Ok(now)) if seen == now => Ok(()),
            // Who can look into it by now sees that nothing is there.
            (Seen::Closed, Ok(Seen::Nothing)) => Ok(()),
            (Seen::Nothing | Seen::Closed | Seen::Linked, Ok(Seen::File(..))) => {
                Err(io::Error::other(format!(
                    "{} is there now, and was not seen when this run was planned: it was put there from outside meanwhile, \
                 and is not closed; {AGAIN}",
                    path.display()
                )))
            }
            (_, Ok(Seen::File(..))) => Err(changed(path)),
            (_, Ok(Seen::Nothing | Seen::Closed)) => Err(missing(path, &io::ErrorKind::NotFound.into())),
            (_, Ok(Seen::Linked)) => Err(missing(path, &io::Error::from_raw_os_error(libc::ELOOP))),
            (_, Err(error)) => Err(missing(path, &error)),
        }
    }
}

/// What to do about it.
pub const AGAIN: &str =
    "nothing was started; try again when nothing outside moves it or a directory above it";

fn changed(path: &Path) -> io::Error {
    io::Error::other(format!(
        "{} is something else than when this run was planned: it was moved or replaced from outside meanwhile; {AGAIN}",
        path.display()
    ))
}

fn missing(path: &Path, error: &io::Error) -> io::Error {
    let why = match error.raw_os_error() {
        Some(libc::ELOOP) => "a symbolic link is on the way to it now".to_owned(),
        _ => error.to_string(),
    };
    io::Error::other(format!(
        "{} is not there as it was when this run was planned ({why}): it was moved, replaced or closed from outside \
         meanwhile; {AGAIN}",
        path.display()
    ))
}

/// A place by itself, with no link on the way.
pub(super) fn open(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)?)
}

/// A mount, by its number, and what its root is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Top {
    mount: u64,
    file: Seen,
}

impl Top {
    /// The mount by which something was opened.
    pub(super) fn of(place: BorrowedFd<'_>) -> io::Result<Top> {
        let found = statx(place, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
        if found.stx_mask & StatxFlags::MNT_ID.bits() == 0 {
            return Err(io::Error::other("the kernel does not tell mounts apart (statx, Linux 5.8)"));
        }
        let file = fstat(place)?;
        Ok(Top { mount: found.stx_mnt_id, file: Seen::File(file.st_dev, file.st_ino) })
    }

    /// Fails where a path does not lead to this mount.
    pub(super) fn is_at(self, path: &Path) -> io::Result<()> {
        match open(path) {
            Ok(place) if Top::of(place.as_fd())? == self => Ok(()),
            Ok(_) => Err(changed(path)),
            Err(error) => Err(missing(path, &error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_what_was_seen_is_opened() {
        let place = tempfile::tempdir().unwrap();
        let top = fs::canonicalize(place.path()).unwrap();
        fs::create_dir_all(top.join("d/secret")).unwrap();
        fs::create_dir_all(top.join("other")).unwrap();
        let path = top.join("d/secret");
        let seen = Seen::at(&path).unwrap();
        assert!(matches!(seen, Seen::File(..)));
        seen.open(&path).unwrap();
        seen.is_still(&path).unwrap();

        let refused = |why: &str| {
            for error in [seen.open(&path).map(drop).unwrap_err(), seen.is_still(&path).unwrap_err()] {
                let text = error.to_string();
                assert!(text.contains(why) && text.contains("d/secret") && text.contains(AGAIN), "{text}");
            }
        };
        fs::rename(top.join("d"), top.join("e")).unwrap();
        refused("is not there as it was");
        symlink("e", top.join("d")).unwrap();
        refused("a symbolic link is on the way");
        fs::remove_file(top.join("d")).unwrap();
        fs::create_dir_all(&path).unwrap();
        refused("is something else");
        fs::remove_dir(&path).unwrap();
        symlink(top.join("e/secret"), &path).unwrap();
        refused("is something else");
    }

    #[test]
    fn what_was_not_there_is_not_to_come() {
        let place = tempfile::tempdir().unwrap();
        let path = fs::canonicalize(place.path()).unwrap().join("later");
        assert_eq!(Seen::at(&path).unwrap(), Seen::Nothing);
        Seen::Nothing.is_still(&path).unwrap();
        Seen::Closed.is_still(&path).unwrap();
        fs::write(&path, "").unwrap();
        for seen in [Seen::Nothing, Seen::Closed] {
            let text = seen.is_still(&path).unwrap_err().to_string();
            assert!(text.contains("was not seen when this run was planned"), "{text}");
        }
        assert_eq!(Seen::at(&path.join("below")).unwrap(), Seen::Nothing);
        // By a link nothing has a path, and that stays so.
        let link = path.with_extension("link");
        symlink("nowhere", &link).unwrap();
        let below = link.join("below");
        assert_eq!(Seen::at(&below).unwrap(), Seen::Linked);
        Seen::Linked.is_still(&below).unwrap();
        assert!(Seen::Nothing.is_still(&below).unwrap_err().to_string().contains("symbolic link"));
        Seen::Linked.open(&below).unwrap_err();
        fs::remove_file(&link).unwrap();
        Seen::Linked.is_still(&below).unwrap_err();
    }
}
