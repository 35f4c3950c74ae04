//! What the files of the workspace hold before the command starts.
//!
//! Symbolic links are not followed and other file systems are not entered; only regular files are opened.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use super::Contents;
use super::file::{self, Missing};

/// Files that are looked at, at most.
pub const FILES_MAX: u64 = 200_000;

/// Bytes that are hashed, at most.
pub const BYTES_MAX: u64 = 16 << 30;

/// Why nothing is known of the workspace.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// A directory cannot be read.
    #[error("cannot read {path}, whose files --hash-max-bytes is to hash before the start")]
    Unreadable {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It holds too much.
    #[error(
        "{path} holds more than {what}: too much to hash before the start; name a smaller directory with \
         --workspace, or fewer bytes with --hash-max-bytes"
    )]
    TooLarge {
        /// The workspace.
        path: PathBuf,
        /// More than what.
        what: String,
    },
}

/// A file as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Bytes; unknown where it could not be opened.
    pub size: Option<u64>,
    /// SHA-256, or why there is none.
    pub sha256: Result<[u8; 32], Missing>,
}

/// The files of the workspace, as they were before the run.
#[derive(Debug)]
pub struct Before {
    root: PathBuf,
    files: HashMap<PathBuf, Known>,
    directories: HashSet<PathBuf>,
    /// What was not looked into, and why nothing is known of what lies below it.
    skipped: HashMap<PathBuf, Missing>,
    bytes: u64,
}

impl Before {
    /// Looks at all of them but those below `record`, the run's own directory.
    ///
    /// # Errors
    /// The workspace cannot be read, or holds too much.
    pub fn look(contents: &Contents, record: &Path) -> Result<Before, WorkspaceError> {
        let unreadable = |path: &Path, source| WorkspaceError::Unreadable { path: path.to_owned(), source };
        let root = fs::canonicalize(&contents.workspace).map_err(|e| unreadable(&contents.workspace, e))?;
        let device = fs::symlink_metadata(&root).map_err(|e| unreadable(&root, e))?.dev();
        fs::read_dir(&root).map_err(|e| unreadable(&root, e))?;
        let mut before = Before {
            root: root.clone(),
            files: HashMap::new(),
            directories: HashSet::new(),
            skipped: HashMap::from([(record.to_owned(), Missing::NotBelow)]),
            bytes: 0,
        };
        let mut directories = vec![root];
        while let Some(directory) = directories.pop() {
            let Ok(entries) = fs::read_dir(&directory) else {
                before.skipped.insert(directory, Missing::Unreadable);
                continue;
            };
            for entry in entries {
                let Ok((path, about)) = entry.and_then(|entry| Ok((entry.path(), entry.metadata()?))) else {
                    // Which one it was cannot be told.
                    before.skipped.insert(directory.clone(), Missing::Unreadable);
                    continue;
                };
                if !about.is_dir() {
                    before.add(path, &about, contents.max)?;
                } else if about.dev() != device {
                    before.skipped.insert(path, Missing::NotBelow);
                } else if path != record {
                    directories.push(path);
                }
            }
            before.directories.insert(directory);
        }
        Ok(before)
    }

    fn add(&mut self, path: PathBuf, about: &fs::Metadata, max: u64) -> Result<(), WorkspaceError> {
        if about.is_symlink() {
            self.skipped.insert(path.clone(), Missing::BehindLink);
        }
        let known = look(&path, max);
        self.bytes += known.sha256.ok().and(known.size).unwrap_or(0);
        self.files.insert(path, known);
        let what = if self.files.len() as u64 > FILES_MAX {
            format!("{FILES_MAX} files")
        } else if self.bytes > BYTES_MAX {
            format!("{} GiB", BYTES_MAX >> 30)
        } else {
            return Ok(());
        };
        Err(WorkspaceError::TooLarge { path: self.root.clone(), what })
    }

    /// How much was looked at, for the user.
    pub fn note(&self) -> String {
        let (files, bytes) = (self.files.len(), self.bytes);
        format!("before the start: {files} files below {}, {bytes} bytes hashed", self.root.display())
    }

    /// What is known of a file from before.
    pub fn of(&self, path: &Path) -> Known {
        if let Some(known) = self.files.get(path) {
            return *known;
        }
        let skipped = path.ancestors().find_map(|above| self.skipped.get(above)).copied();
        let missing = match skipped {
            Some(why) => why,
            None if self.directories.contains(path) => Missing::NotRegular,
            None if path.starts_with(&self.root) => Missing::New,
            None => Missing::NotBelow,
        };
        Known { size: None, sha256: Err(missing) }
    }
}

/// Looks at a file as it is now.
pub fn look(path: &Path, max: u64) -> Known {
    match file::open_regular(path) {
        Err(missing) => Known { size: None, sha256: Err(missing) },
        Ok((_, identity)) if identity.size > max => {
            Known { size: Some(identity.size), sha256: Err(Missing::TooLarge) }
        }
        Ok((file, identity)) => {
            let sha256 = file::hash(&file, identity, &AtomicBool::new(false));
            Known { size: Some(identity.size), sha256 }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regular_files_are_known_and_links_are_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(directory.path()).unwrap();
        let work = root.join("work");
        fs::create_dir_all(work.join("deep")).unwrap();
        fs::create_dir_all(work.join("record")).unwrap();
        for (name, text) in
            [("work/a", "abc"), ("work/deep/b", "long text"), ("work/record/c", "x"), ("outside", "y")]
        {
            fs::write(root.join(name), text).unwrap();
        }
        std::os::unix::fs::symlink(&root, work.join("up")).unwrap();
        let contents = Contents { max: 4, workspace: work.clone() };
        let before = Before::look(&contents, &work.join("record")).unwrap();
        assert_eq!(before.files.len(), 3, "two files and a link: {:?}", before.files);
        assert_eq!((before.of(&work.join("a")).size, before.bytes), (Some(3), 3));
        let large = before.of(&work.join("deep/b"));
        assert_eq!(large, Known { size: Some(9), sha256: Err(Missing::TooLarge) });
        let missing = |path: &str| before.of(&work.join(path)).sha256.unwrap_err();
        assert_eq!(missing("none"), Missing::New);
        assert_eq!(missing("deep/none"), Missing::New);
        assert_eq!(missing("deep"), Missing::NotRegular);
        assert_eq!(missing("up"), Missing::NotRegular);
        assert_eq!(missing("up/outside"), Missing::BehindLink, "whether it existed is not known");
        assert_eq!(missing("record/c"), Missing::NotBelow);
        assert_eq!(before.of(&root.join("outside")).sha256, Err(Missing::NotBelow));
        let contents = Contents { max: 4, workspace: root.join("none") };
        assert!(Before::look(&contents, &work).is_err());
    }
}
