//! Files below a covered directory that have another name elsewhere: a cover is over names, and by that one the file is
//! open.
//!
//! A hard link tells how many names its file has, not where they are. So the names below the directory are counted: a
//! file that has more is not covered. The look is bounded, in all covers together; what it did not reach counts as not
//! covered. A link that somebody makes later is not seen.
//!
//! On the way it finds what a read-only mount does not keep from being written to: FIFOs and devices (mount(2), MS_RDONLY).

use std::collections::{HashMap, HashSet, hash_map::Entry};
use std::ffi::CString;
use std::fs::{self, FileType, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Names that are looked at, below all covers of a run.
const NAMES: usize = 500_000;

/// File systems of the kernel's, on which no file has two names.
const KERNELS_OWN: [libc::c_long; 10] = [
    libc::PROC_SUPER_MAGIC,
    libc::SYSFS_MAGIC,
    libc::CGROUP_SUPER_MAGIC,
    libc::CGROUP2_SUPER_MAGIC,
    libc::DEVPTS_SUPER_MAGIC,
    libc::DEBUGFS_MAGIC,
    libc::TRACEFS_MAGIC,
    libc::SECURITYFS_MAGIC,
    libc::SELINUX_MAGIC,
    libc::BPF_FS_MAGIC,
];

/// A look below covered directories, of which so many names are left to be looked at.
#[derive(Debug)]
pub struct Look {
    left: usize,
}

/// What keeps a directory from being covered whole.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum OpenBeside {
    /// A file in it has another name.
    #[error("{} has another name, by which it is not covered", .0.display())]
    Named(PathBuf),
    /// There is too much in it.
    #[error("{}: with it more than {NAMES} names would have to be looked at for files that have another one", .0.display())]
    TooLarge(PathBuf),
    /// It could not be looked at.
    #[error("{}: not looked at for files that have another name: {why}", path.display())]
    Unknown {
        /// What.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

impl Default for Look {
    fn default() -> Self {
        Self { left: NAMES }
    }
}

impl Look {
    /// Looks at all files below a directory, which is covered whole; gives what is written to also where the mount is
    /// read-only: FIFOs, devices, and directories in which the kernel makes some.
    ///
    /// # Errors
    /// One of them is open by another name, or that cannot be told.
    pub fn beneath(&mut self, directory: &Path) -> Result<Vec<PathBuf>, OpenBeside> {
        match self.walk(directory)? {
            (special, None) => Ok(special),
            (_, Some(named)) => Err(OpenBeside::Named(named)),
        }
    }

    /// What below a directory is written to also where the mount is read-only.
    ///
    /// # Errors
    /// That cannot be told.
    pub fn special(&mut self, directory: &Path) -> Result<Vec<PathBuf>, OpenBeside> {
        self.walk(directory).map(|(special, _)| special)
    }

    /// What is special, and a file with another name elsewhere.
    fn walk(&mut self, directory: &Path) -> Result<(Vec<PathBuf>, Option<PathBuf>), OpenBeside> {
        let unknown = |path: &Path, error: &io::Error| OpenBeside::Unknown {
            path: path.to_owned(),
            why: error.to_string(),
        };
        let mut waiting = vec![directory.to_owned()];
        let mut special = Vec::new();
        let mut seen: HashSet<(u64, u64)> = HashSet::new();
        // Of files with several names: how many were not found yet, and one that was.
        let mut several: HashMap<(u64, u64), (u64, PathBuf)> = HashMap::new();
        while let Some(directory) = waiting.pop() {
            let found = match fs::symlink_metadata(&directory) {
                Ok(found) => found,
                Err(error) if is_gone(&error) => continue,
                Err(error) => return Err(unknown(&directory, &error)),
            };
            // Another mount of it has the same names.
            if !found.is_dir() || !seen.insert((found.dev(), found.ino())) {
                continue;
            }
            let entries = match fs::read_dir(&directory) {
                Ok(entries) => entries,
                Err(error) if is_gone(&error) || is_others(&error, &found) => continue,
                Err(error) => return Err(unknown(&directory, &error)),
            };
            match file_system(&directory) {
                Some(libc::DEVPTS_SUPER_MAGIC) => {
                    special.push(directory);
                    continue;
                }
                Some(kind) if KERNELS_OWN.contains(&kind) => continue,
                _ => {}
            }
            for entry in entries {
                self.left =
                    self.left.checked_sub(1).ok_or_else(|| OpenBeside::TooLarge(directory.clone()))?;
                let entry = entry.map_err(|error| unknown(&directory, &error))?;
                let path = entry.path();
                let kind = entry.file_type().map_err(|error| unknown(&path, &error))?;
                if kind.is_dir() {
                    waiting.push(path);
                    continue;
                }
                if is_special(kind) {
                    special.push(path.clone());
                }
                let file = match entry.metadata() {
                    Ok(file) => file,
                    Err(error) if is_gone(&error) || is_others(&error, &found) => continue,
                    Err(error) => return Err(unknown(&path, &error)),
                };
                if file.is_symlink() || file.nlink() < 2 {
                    continue;
                }
                match several.entry((file.dev(), file.ino())) {
                    Entry::Occupied(mut known) => known.get_mut().0 = known.get().0.saturating_sub(1),
                    Entry::Vacant(new) => _ = new.insert((file.nlink() - 1, path)),
                }
            }
        }
        // The first by name, so that the same is said each time.
        let open = several.into_values().filter(|(left, _)| *left > 0).map(|(_, path)| path).min();
        special.sort();
        Ok((special, open))
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// What this user may not look into, because it is somebody else's: whoever made a link to a file in there could give the
/// run as well what is in it.
fn is_others(error: &io::Error, found: &Metadata) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied && found.uid() != rustix::process::geteuid().as_raw()
}

/// Whether files of this kind are written to through a read-only mount. (A socket is connected to, which is the network's
/// matter.)
pub fn is_special(kind: FileType) -> bool {
    kind.is_fifo() || kind.is_char_device() || kind.is_block_device()
}

/// The kind of the file system that a directory is of (statfs(2)).
fn file_system(directory: &Path) -> Option<libc::c_long> {
    let path = CString::new(directory.as_os_str().as_bytes()).ok()?;
    // SAFETY: an all-zero statfs is a valid value to be overwritten.
    let mut found: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path ends in NUL, and both live through the call.
    let result = unsafe { libc::statfs(path.as_ptr(), &raw mut found) };
    (result == 0).then_some(found.f_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let place = tempfile::tempdir().unwrap();
        let top = fs::canonicalize(place.path()).unwrap();
        fs::create_dir_all(top.join("covered/deep")).unwrap();
        for name in ["covered/plain", "covered/deep/file", "beside"] {
            fs::write(top.join(name), "").unwrap();
        }
        (place, top)
    }

    #[test]
    fn another_name_elsewhere_is_found_at_any_depth() {
        let (_keep, top) = place();
        let beneath = || Look::default().beneath(&top.join("covered"));
        assert_eq!(beneath(), Ok(vec![]));
        // All names of it are covered.
        fs::hard_link(top.join("covered/deep/file"), top.join("covered/second")).unwrap();
        assert_eq!(beneath(), Ok(vec![]));
        // What is no file has no contents.
        std::os::unix::fs::symlink("nowhere", top.join("covered/link")).unwrap();
        fs::hard_link(top.join("covered/link"), top.join("link")).unwrap();
        assert_eq!(beneath(), Ok(vec![]));
        let pipe = top.join("covered/deep/pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(beneath(), Ok(vec![pipe]));
        fs::hard_link(top.join("covered/second"), top.join("third")).unwrap();
        let found = beneath().unwrap_err();
        let names = [top.join("covered/deep/file"), top.join("covered/second")];
        assert!(matches!(&found, OpenBeside::Named(path) if names.contains(path)), "{found}");
    }

    #[test]
    fn what_is_not_looked_at_is_said() {
        let (_keep, top) = place();
        let covered = top.join("covered");
        assert_eq!(Look { left: 3 }.beneath(&covered), Ok(vec![]));
        let found = Look { left: 2 }.beneath(&covered).unwrap_err();
        assert!(matches!(found, OpenBeside::TooLarge(_)), "{found}");
        // The kernel's own files have one name each, and no end.
        assert_eq!(Look { left: 0 }.beneath(Path::new("/proc/self")), Ok(vec![]));
        // Those of terminals are devices.
        let pts = PathBuf::from("/dev/pts");
        assert_eq!(Look { left: 0 }.beneath(&pts), Ok(vec![pts]));
        assert_eq!(Look { left: 0 }.beneath(&top.join("gone")), Ok(vec![]));
    }
}
