//! A file that is made from a record: there whole or not at all, and never in the place of the record itself.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

/// The name of a run's log.
pub const EVENTS: &str = "events.jsonl";

/// What lies beside a run's log and beside no other.
const BESIDE: [&str; 3] = ["meta.json", "index.sqlite", ".lock"];

/// What is done with a file that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and nothing is written.
    Keep,
    /// The new one takes its place.
    Replace,
}

/// Where a log lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In the directory of its run, where nothing else is made.
    Run,
    /// Anywhere.
    File,
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
    /// It would be part of a record.
    #[error("{}: nothing is written into the directory of a run; choose another place", .0.display())]
    InTheRecord(PathBuf),
    /// It is the log.
    #[error("{}: it is the log that this is made from; choose another place", .0.display())]
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

/// A file that is being made beside its place. Dropped before [`Draft::publish`], it leaves nothing.
#[derive(Debug)]
pub struct Draft {
    place: PathBuf,
    temporary: PathBuf,
    existing: Existing,
    file: File,
    published: bool,
}

impl Draft {
    /// Begins a file for `place`, which is neither `log` nor in the directory of a run. It is for its owner alone, as the
    /// record is, until the owner says otherwise.
    ///
    /// # Errors
    /// It may not be made there, or cannot.
    pub fn create(
        place: &Path,
        existing: Existing,
        (log, origin): (&Path, Origin),
    ) -> Result<Draft, OutputError> {
        let name = place.file_name().ok_or_else(|| OutputError::NotAFile(place.to_owned()))?;
        let parent = place.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let directory = parent.canonicalize().map_err(failed("open", parent))?;
        let has = |name: &str| directory.join(name).symlink_metadata().is_ok();
        let log = log.canonicalize().ok();
        let beside = log.as_deref().and_then(Path::parent) == Some(&directory);
        if origin == Origin::Run && beside || has(EVENTS) && BESIDE.into_iter().any(has) {
            return Err(OutputError::InTheRecord(place.to_owned()));
        }
        if log.is_some_and(|log| log == directory.join(name)) {
            return Err(OutputError::TheLog(place.to_owned()));
        }
        match place.symlink_metadata() {
            Ok(about) if !about.is_file() && !about.is_symlink() => {
                return Err(OutputError::NotAFile(place.to_owned()));
            }
            Ok(_) if existing == Existing::Keep => return Err(OutputError::Exists(place.to_owned())),
            Err(why) if why.kind() != ErrorKind::NotFound => return Err(failed("look at", place)(why)),
            _ => {}
        }
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.part", std::process::id()));
        let temporary = directory.join(hidden);
        let file = File::options().write(true).create_new(true).mode(0o600).open(&temporary);
        let file = file.map_err(failed("create", &temporary))?;
        Ok(Draft { place: directory.join(name), temporary, existing, file, published: false })
    }

    /// Where the content goes.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn file(&self) -> Result<File, OutputError> {
        self.file.try_clone().map_err(failed("write", &self.temporary))
    }

    /// Writes all of the content, and puts the file in its place.
    ///
    /// # Errors
    /// It cannot be written, or somebody was faster; nothing is left then.
    pub fn write(mut self, bytes: &[u8]) -> Result<(), OutputError> {
        self.file.write_all(bytes).map_err(failed("write", &self.temporary))?;
        self.publish()
    }

    /// Puts the file in its place.
    ///
    /// # Errors
    /// As [`Draft::write`].
    pub fn publish(mut self) -> Result<(), OutputError> {
        self.file.sync_all().map_err(failed("write", &self.temporary))?;
        let renamed = match self.existing {
            Existing::Replace => fs::rename(&self.temporary, &self.place),
            Existing::Keep => rename_to_nothing(&self.temporary, &self.place),
        };
        renamed.map_err(|why| match why.kind() {
            ErrorKind::AlreadyExists => OutputError::Exists(self.place.clone()),
            _ => failed("put in place", &self.place)(why),
        })?;
        self.published = true;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.published {
            // The error that is told is the one that led here.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Renames, where nothing stands at `to`.
fn rename_to_nothing(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Not every file system has it; a second name does the same in two steps.
        Err(Errno::INVAL | Errno::NOSYS) => {
            fs::hard_link(from, to)?;
            fs::remove_file(from)
        }
        renamed => Ok(renamed?),
    }
}

fn failed(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OutputError + use<> {
    let path = path.to_owned();
    move |why| OutputError::Io { act, path, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_there_whole_or_not_at_all() {
        let top = tempfile::tempdir().unwrap();
        let log = top.path().join("log");
        fs::write(&log, "log").unwrap();
        let place = top.path().join("out");
        let names = || fs::read_dir(top.path()).unwrap().count();

        let draft = Draft::create(&place, Existing::Keep, (&log, Origin::File)).unwrap();
        draft.file().unwrap().write_all(b"half").unwrap();
        drop(draft);
        assert_eq!(names(), 1, "a draft that is dropped leaves nothing");

        let draft = Draft::create(&place, Existing::Keep, (&log, Origin::File)).unwrap();
        // Somebody is faster.
        fs::write(&place, "theirs").unwrap();
        assert!(matches!(draft.publish(), Err(OutputError::Exists(_))));
        assert_eq!((fs::read(&place).unwrap(), names()), (b"theirs".to_vec(), 2));
        assert!(matches!(
            Draft::create(&place, Existing::Keep, (&log, Origin::File)),
            Err(OutputError::Exists(_))
        ));

        let draft = Draft::create(&place, Existing::Replace, (&log, Origin::File)).unwrap();
        assert_eq!(fs::read(&place).unwrap(), b"theirs");
        draft.write(b"ours").unwrap();
        assert_eq!((fs::read(&place).unwrap(), names()), (b"ours".to_vec(), 2));
    }

    #[test]
    fn neither_a_record_nor_what_is_no_file_is_written_over() {
        let top = tempfile::tempdir().unwrap();
        let log = top.path().join(EVENTS);
        fs::write(&log, "log").unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let alias = elsewhere.path().join("alias");
        std::os::unix::fs::symlink(top.path(), &alias).unwrap();
        for place in [log.clone(), alias.join(EVENTS)] {
            let refused = Draft::create(&place, Existing::Replace, (&log, Origin::File));
            assert!(matches!(refused, Err(OutputError::TheLog(_))), "{}", place.display());
        }
        drop(Draft::create(&top.path().join("beside"), Existing::Keep, (&log, Origin::File)).unwrap());
        for place in [log.clone(), top.path().join("beside"), alias.join("beside")] {
            let refused = Draft::create(&place, Existing::Replace, (&log, Origin::Run));
            assert!(matches!(refused, Err(OutputError::InTheRecord(_))), "{}", place.display());
        }
        for beside in BESIDE {
            fs::write(top.path().join(beside), "").unwrap();
            for place in [log.clone(), top.path().join("new"), alias.join(EVENTS)] {
                let refused = Draft::create(&place, Existing::Replace, (&log, Origin::File));
                assert!(matches!(refused, Err(OutputError::InTheRecord(_))), "{}", place.display());
            }
            fs::remove_file(top.path().join(beside)).unwrap();
        }
        for place in [Path::new("/dev/null"), elsewhere.path(), Path::new("/")] {
            let refused = Draft::create(place, Existing::Replace, (&log, Origin::File));
            assert!(matches!(refused, Err(OutputError::NotAFile(_))), "{}", place.display());
        }
        assert_eq!(fs::read_dir(top.path()).unwrap().count(), 1);
    }
}
