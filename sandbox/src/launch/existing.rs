//! The file system as it is when a run starts, for rules that are about what is there (`existing`).
//!
//! What patterns match is the policy crate's ([`policy::existing`]).

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use policy::existing::{Entry, Tree};

/// The machine's file system, now.
#[derive(Debug)]
pub struct Now;

impl Tree for Now {
    fn look(&self, path: &[u8]) -> Result<Option<bool>, String> {
        let path = Path::new(OsStr::from_bytes(path));
        match fs::symlink_metadata(path) {
            Ok(found) => Ok(Some(found.is_dir())),
            Err(error) if nothing(&error) => Ok(None),
            Err(error) => closed(path.parent().unwrap_or(path), &error).map(|()| None),
        }
    }

    fn list(&self, directory: &[u8]) -> Result<Vec<Entry>, String> {
        let directory = Path::new(OsStr::from_bytes(directory));
        let entries = fs::read_dir(directory).and_then(|entries| {
            let entry = |entry: io::Result<fs::DirEntry>| {
                let entry = entry?;
                let is_directory = entry.file_type()?.is_dir();
                Ok(Entry { name: entry.file_name().as_bytes().to_vec(), is_directory })
            };
            entries.map(entry).collect()
        });
        match entries {
            Ok(entries) => Ok(entries),
            Err(error) if nothing(&error) => Ok(Vec::new()),
            Err(error) => closed(directory, &error).map(|()| Vec::new()),
        }
    }
}

fn nothing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// What this user may not look into, because it is somebody else's, the run cannot either. Of its own it could open it
/// again.
fn closed(directory: &Path, error: &io::Error) -> Result<(), String> {
    let others = error.kind() == io::ErrorKind::PermissionDenied
        && fs::symlink_metadata(directory)
            .map_or(true, |found| found.uid() != rustix::process::geteuid().as_raw());
    if others { Ok(()) } else { Err(format!("{}: {error}", directory.display())) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_no_directories_and_what_is_missing_is_nothing() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("directory")).unwrap();
        fs::write(place.path().join("file"), "").unwrap();
        symlink("directory", place.path().join("link")).unwrap();
        let path = |name: &str| place.path().join(name).into_os_string().into_encoded_bytes();
        assert_eq!(Now.look(&path("directory")), Ok(Some(true)));
        assert_eq!(Now.look(&path("file")), Ok(Some(false)));
        assert_eq!(Now.look(&path("link")), Ok(Some(false)));
        assert_eq!(Now.look(&path("missing")), Ok(None));
        assert_eq!(Now.look(&path("file/below")), Ok(None));
        let mut entries = Now.list(&path("")).unwrap();
        entries.sort();
        let entry = |name: &str, is_directory| Entry { name: name.into(), is_directory };
        assert_eq!(entries, [entry("directory", true), entry("file", false), entry("link", false)]);
        assert_eq!(Now.list(&path("missing")), Ok(Vec::new()));
        assert!(Now.list(&path("link")).unwrap().is_empty());
    }

    #[test]
    fn what_is_closed_to_its_owner_is_not_taken_for_empty() {
        let place = tempfile::tempdir().unwrap();
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        assert!(closed(place.path(), &denied).unwrap_err().starts_with(place.path().to_str().unwrap()));
        std::os::unix::fs::chown(place.path(), Some(65534), None).unwrap_or_default();
        if nix::unistd::geteuid().is_root() {
            assert_eq!(closed(place.path(), &denied), Ok(()));
        }
        assert!(closed(place.path(), &io::Error::from_raw_os_error(libc::EIO)).is_err());
    }
}
