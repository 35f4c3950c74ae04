//! Files that commands make where nothing is yet.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, bail};

/// Fails where something is already, before any work is done for it.
pub(super) fn must_be_absent(path: &Path) -> anyhow::Result<()> {
    if path.symlink_metadata().is_ok() {
        bail!("{} is there already; name another file, or remove it first", path.display());
    }
    Ok(())
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
