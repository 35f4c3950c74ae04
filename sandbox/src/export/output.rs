//! Where an export goes: a file that is there whole or not at all, or stdout.

use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::error::ExportError;

/// How much is written at once, bytes.
const CHUNK: usize = 256 << 10;

/// What is done with a file that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and nothing is written.
    Keep,
    /// The new one takes its place.
    Replace,
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
    /// Begins a file for `place`, which may not lie in `record`, the directory of the run.
    pub fn create(place: &Path, existing: Existing, record: &Path) -> Result<Draft, ExportError> {
        let name = place.file_name().ok_or_else(|| ExportError::NotAFile(place.to_owned()))?;
        let parent = match place.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let directory = parent.canonicalize().map_err(ExportError::file("open", parent))?;
        if directory == record.canonicalize().map_err(ExportError::file("open", record))? {
            return Err(ExportError::InTheRecord(place.to_owned()));
        }
        match place.symlink_metadata() {
            Ok(about) if !about.is_file() && !about.is_symlink() => {
                return Err(ExportError::NotAFile(place.to_owned()));
            }
            Ok(_) if existing == Existing::Keep => return Err(ExportError::Exists(place.to_owned())),
            Err(why) if why.kind() != ErrorKind::NotFound => {
                return Err(ExportError::file("look at", place)(why));
            }
            _ => {}
        }
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.part", std::process::id()));
        let temporary = directory.join(hidden);
        // A record is for its owner: what is made from it is too, until the owner says otherwise.
        let file = File::options().write(true).create_new(true).mode(0o600).open(&temporary);
        let file = file.map_err(ExportError::file("create", &temporary))?;
        let place = directory.join(name);
        Ok(Draft { place, temporary, existing, file, published: false })
    }

    /// Where the content goes.
    pub fn sink(&self) -> Result<super::Sink, ExportError> {
        let file = self.file.try_clone().map_err(ExportError::file("write", &self.temporary))?;
        Ok(Box::new(BufWriter::with_capacity(CHUNK, file)))
    }

    /// Puts the file in its place.
    pub fn publish(mut self) -> Result<(), ExportError> {
        self.file.sync_all().map_err(ExportError::file("write", &self.temporary))?;
        let renamed = match self.existing {
            Existing::Replace => std::fs::rename(&self.temporary, &self.place),
            Existing::Keep => rename_to_nothing(&self.temporary, &self.place),
        };
        match renamed {
            Ok(()) => {
                self.published = true;
                Ok(())
            }
            Err(why) if why.kind() == ErrorKind::AlreadyExists => {
                Err(ExportError::Exists(self.place.clone()))
            }
            Err(why) => Err(ExportError::file("put in place", &self.place)(why)),
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.published {
            // The error that is told is the one that led here.
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

/// Renames, where nothing stands at `to`.
fn rename_to_nothing(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Not every file system has it; a second name does the same in two steps.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            std::fs::hard_link(from, to)?;
            std::fs::remove_file(from)
        }
        renamed => Ok(renamed?),
    }
}

/// Stdout.
pub fn stdout() -> super::Sink {
    Box::new(BufWriter::with_capacity(CHUNK, io::stdout()))
}

/// Stdout that is a terminal: everything that it would act on, and all that is not ASCII, is shown as `\xNN`.
pub fn terminal() -> super::Sink {
    Box::new(BufWriter::with_capacity(CHUNK, Shown(io::stdout())))
}

#[derive(Debug)]
struct Shown<W>(W);

impl<W: Write> Write for Shown<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut shown = Vec::with_capacity(bytes.len());
        for byte in bytes {
            match byte {
                b'\n' | b' '..=b'~' => shown.push(*byte),
                b'\r' => {}
                _ => write!(shown, "\\x{byte:02x}")?,
            }
        }
        self.0.write_all(&shown)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_acts_on_is_shown_raw() {
        let mut out = Shown(Vec::new());
        out.write_all("a\x1b[2J\t\r\n\u{9b}é".as_bytes()).unwrap();
        assert_eq!(String::from_utf8(out.0).unwrap(), "a\\x1b[2J\\x09\n\\xc2\\x9b\\xc3\\xa9");
    }

    #[test]
    fn a_file_is_there_whole_or_not_at_all() {
        let top = tempfile::tempdir().unwrap();
        let record = top.path().join("run");
        std::fs::create_dir(&record).unwrap();
        let place = top.path().join("out");
        let names = || std::fs::read_dir(top.path()).unwrap().count();

        let draft = Draft::create(&place, Existing::Keep, &record).unwrap();
        draft.sink().unwrap().write_all(b"half").unwrap();
        drop(draft);
        assert_eq!(names(), 1, "a draft that is dropped leaves nothing");

        let draft = Draft::create(&place, Existing::Keep, &record).unwrap();
        // Somebody is faster.
        std::fs::write(&place, "theirs").unwrap();
        assert!(matches!(draft.publish(), Err(ExportError::Exists(_))));
        assert_eq!((std::fs::read(&place).unwrap(), names()), (b"theirs".to_vec(), 2));
        assert!(matches!(Draft::create(&place, Existing::Keep, &record), Err(ExportError::Exists(_))));

        let draft = Draft::create(&place, Existing::Replace, &record).unwrap();
        let mut sink = draft.sink().unwrap();
        sink.write_all(b"ours").unwrap();
        sink.flush().unwrap();
        assert_eq!(std::fs::read(&place).unwrap(), b"theirs");
        draft.publish().unwrap();
        assert_eq!((std::fs::read(&place).unwrap(), names()), (b"ours".to_vec(), 2));
    }

    #[test]
    fn neither_the_record_nor_what_is_no_file_is_written_over() {
        let top = tempfile::tempdir().unwrap();
        std::fs::write(top.path().join("events.jsonl"), "log").unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let alias = elsewhere.path().join("alias");
        std::os::unix::fs::symlink(top.path(), &alias).unwrap();
        for place in [top.path().join("events.jsonl"), top.path().join("new"), alias.join("events.jsonl")] {
            let refused = Draft::create(&place, Existing::Replace, top.path());
            assert!(matches!(refused, Err(ExportError::InTheRecord(_))), "{}", place.display());
        }
        for place in [Path::new("/dev/null"), elsewhere.path(), Path::new("/")] {
            let refused = Draft::create(place, Existing::Replace, top.path());
            assert!(matches!(refused, Err(ExportError::NotAFile(_))), "{}", place.display());
        }
        assert_eq!(std::fs::read_dir(top.path()).unwrap().count(), 1);
    }
}
