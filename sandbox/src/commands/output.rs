//! Files that commands make where nothing is yet.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, bail};

/// Fails where something is already, or no directory to make the file in, before any work is done for it.
pub(super) fn must_be_absent(path: &Path) -> anyhow::Result<()> {
    let name = path.display();
    if path.is_dir() {
        bail!("{name} is a directory; name a file in it");
    }
    if path.symlink_metadata().is_ok() {
        bail!("{name} is there already; name another file, or remove it first");
    }
    let directory = directory_of(path);
    match directory.metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("cannot write {name}: the directory {} is not there; make it first", directory.display())
        }
        Ok(about) if !about.is_dir() => {
            bail!("cannot write {name}: {} is no directory", directory.display())
        }
        // What else is wrong shows when the file is made.
        _ => Ok(()),
    }
}

/// Where a file of this name lies.
pub(super) fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes a file with this text.
///
/// # Errors
/// Something is there, or it cannot be written.
pub(super) fn create(path: &Path, text: &str) -> anyhow::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| format!("cannot write {}", path.display()))
}
