//! Where a proof goes: a file that is there whole or not at all, as `sandbox export -o` makes one. A record is never
//! written into or over.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::target::EVENTS;

/// What is done with a file that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and nothing is written.
    Keep,
    /// The new one takes its place.
    Replace,
}

/// A file that is not made.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The file is there.
    #[error("{}: it is there already; --force replaces it", .0.display())]
    Exists(PathBuf),
    /// What stands there is no file.
    #[error("{}: it is no regular file, and nothing else is replaced; leave -o away and redirect stdout", .0.display())]
    NotAFile(PathBuf),
    /// It would be part of the record.
    #[error("{}: nothing is written into the directory of a run; choose another place", .0.display())]
    InTheRecord(PathBuf),
    /// It is the log.
    #[error("{}: it is the log that the proof is made from; choose another place", .0.display())]
    TheLog(PathBuf),
    /// The system said no.
    #[error("failed to {act} {}: {why}", .path.display())]
    Io {
        /// What was being done.
        act: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        why: io::Error,
    },
}

/// A place where a file may be made.
#[derive(Debug)]
pub struct OutputPlace {
    directory: PathBuf,
    place: PathBuf,
    existing: Existing,
}

impl OutputPlace {
    /// Looks whether a file may be made at `place` from `log`, before the work is done.
    ///
    /// # Errors
    /// It may not.
    pub fn of(place: &Path, existing: Existing, log: &Path) -> Result<Self, OutputError> {
        let name = place.file_name().ok_or_else(|| OutputError::NotAFile(place.to_owned()))?;
        let parent = place.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let directory = parent.canonicalize().map_err(failed("open", parent))?;
        if log.canonicalize().is_ok_and(|log| log == directory.join(name)) {
            return Err(OutputError::TheLog(place.to_owned()));
        }
        if [EVENTS, "meta.json"].iter().all(|file| directory.join(file).symlink_metadata().is_ok()) {
            return Err(OutputError::InTheRecord(place.to_owned()));
        }
        match place.symlink_metadata() {
            Ok(about) if !about.is_file() && !about.is_symlink() => {
                return Err(OutputError::NotAFile(place.to_owned()));
            }
            Ok(_) if existing == Existing::Keep => return Err(OutputError::Exists(place.to_owned())),
            Err(why) if why.kind() != ErrorKind::NotFound => return Err(failed("look at", place)(why)),
            _ => {}
        }
        Ok(Self { place: directory.join(name), directory, existing })
    }

    /// Makes the file, for its owner alone, beside its place, and puts it there.
    ///
    /// # Errors
    /// It cannot be written, or somebody was faster; nothing is left then.
    pub fn write(&self, bytes: &[u8]) -> Result<(), OutputError> {
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(self.place.file_name().unwrap_or_default());
        hidden.push(format!(".{}.part", std::process::id()));
        let temporary = self.directory.join(hidden);
        let made = File::options().write(true).create_new(true).mode(0o600).open(&temporary);
        let mut file = made.map_err(failed("create", &temporary))?;
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        let put = written.map_err(failed("write", &temporary)).and_then(|()| self.put(&temporary));
        if put.is_err() {
            // The error that is told is the one that led here.
            let _ = fs::remove_file(&temporary);
        }
        put
    }

    fn put(&self, temporary: &Path) -> Result<(), OutputError> {
        let put = match self.existing {
            Existing::Replace => fs::rename(temporary, &self.place),
            // A second name is refused where there is something; a new name would replace it.
            Existing::Keep => fs::hard_link(temporary, &self.place).and_then(|()| fs::remove_file(temporary)),
        };
        put.map_err(|why| match why.kind() {
            ErrorKind::AlreadyExists => OutputError::Exists(self.place.clone()),
            _ => failed("put in place", &self.place)(why),
        })
    }
}

fn failed(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OutputError + use<> {
    let path = path.to_owned();
    move |why| OutputError::Io { act, path, why }
}
