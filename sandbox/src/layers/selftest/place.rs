//! A directory of a self-test's own, so that an ordinary user may make attempts too.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// It goes with all that is in it.
#[derive(Debug)]
pub(super) struct Directory(PathBuf);

impl Directory {
    /// Makes one, where files may be made.
    pub(super) fn make() -> io::Result<Directory> {
        let usual = [std::env::temp_dir(), "/tmp".into(), "/var/tmp".into(), "/dev/shm".into()];
        let make = |above: &PathBuf| {
            let above = fs::canonicalize(above).ok()?;
            nix::unistd::mkdtemp(&above.join("sandbox-selftest-XXXXXX")).ok()
        };
        let made = usual.iter().find_map(make);
        made.map(Directory).ok_or_else(|| io::Error::other("no temporary directory can be made"))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
