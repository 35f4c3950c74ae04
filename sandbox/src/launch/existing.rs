//! The file system as it is when a run starts, for rules that are about what is there (`existing`).
//!
//! What patterns match is the policy crate's ([`policy::existing`]). What they stand for is looked up again when the
//! command is about to start: a place that somebody outside had away for the moment of the first look would be open. A
//! place that is away at both is one that is made later.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use policy::existing::{Entry, ExistingFault, Tree};
use policy::{Policy, RuleName};

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
        listed(directory).map(Option::unwrap_or_default)
    }
}

/// What is in a directory; `None` where there is none, and nothing of what this user may not look into.
fn listed(directory: &[u8]) -> Result<Option<Vec<Entry>>, String> {
    let directory = Path::new(OsStr::from_bytes(directory));
    match entries(directory) {
        Ok(entries) => Ok(Some(entries)),
        Err(error) if nothing(&error) => Ok(None),
        Err(error) => closed(directory, &error).map(|()| Some(Vec::new())),
    }
}

fn entries(directory: &Path) -> io::Result<Vec<Entry>> {
    let entry = |entry: io::Result<fs::DirEntry>| {
        let entry = entry?;
        let is_directory = entry.file_type()?.is_dir();
        Ok(Entry { name: entry.file_name().as_bytes().to_vec(), is_directory })
    };
    fs::read_dir(directory)?.map(entry).collect()
}

/// The same, and whether a directory went away between being listed and being looked into: what is in it was then seen
/// nowhere, although it may be back already.
#[derive(Debug, Default)]
struct Watched {
    listed: RefCell<HashSet<Vec<u8>>>,
    moved: Cell<bool>,
}

impl Tree for Watched {
    fn look(&self, path: &[u8]) -> Result<Option<bool>, String> {
        Now.look(path)
    }

    fn list(&self, directory: &[u8]) -> Result<Vec<Entry>, String> {
        let Some(entries) = listed(directory)? else {
            if self.listed.borrow().contains(directory) {
                self.moved.set(true);
            }
            return Ok(Vec::new());
        };
        let below = entries.iter().filter(|entry| entry.is_directory);
        self.listed.borrow_mut().extend(below.map(|entry| [directory, entry.name.as_slice(), b"/"].concat()));
        Ok(entries)
    }
}

/// How often is looked where directories go away meanwhile, as in a build outside.
const LOOKS: usize = 10;

/// Policies as they were written, each with what its `existing` stood for when the run was planned.
#[derive(Debug, Default)]
pub struct Expanded(Vec<(Policy, Policy)>);

/// What their `existing` stands for is not known any more.
#[derive(Debug, thiserror::Error)]
pub enum Unsettled {
    /// There is a place more.
    #[error(
        "rule `{rule}`: its `existing` matches {place} now, which was not there when this run was planned: it was made or \
         moved from outside meanwhile, and is not closed; nothing was started; try again"
    )]
    Appeared {
        /// The rule.
        rule: RuleName,
        /// Where.
        place: String,
    },
    /// Directories come and go.
    #[error(
        "policy {policy}: directories that its `existing` looks into are moved or removed from outside all the time, so what \
         it stands for cannot be told; nothing was started; try again when they are left alone"
    )]
    Moving {
        /// The policy.
        policy: String,
    },
    /// It could not be looked up.
    #[error(transparent)]
    Fault(#[from] ExistingFault),
}

impl Expanded {
    /// Adds a policy, and what became of it.
    pub(super) fn add(&mut self, written: Policy, planned: Policy) {
        if written.has_existing() {
            self.0.push((written, planned));
        }
    }

    /// Looks again, and fails where a rule would deny something by now that nobody closes.
    ///
    /// # Errors
    /// What changed, or that it cannot be told.
    pub fn check(&self) -> Result<(), Unsettled> {
        self.0.iter().try_for_each(|(written, planned)| {
            for _ in 0..LOOKS {
                let tree = Watched::default();
                let now = super::policy::linked(written.clone().with_existing(&tree)?);
                if let Some((rule, place)) = now.appeared_since(planned) {
                    return Err(Unsettled::Appeared { rule: rule.clone(), place });
                }
                if !tree.moved.get() {
                    return Ok(());
                }
            }
            Err(Unsettled::Moving { policy: written.name().to_owned() })
        })
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

    #[test]
    fn what_comes_or_moves_between_two_looks_is_told() {
        let place = tempfile::tempdir().unwrap();
        let top = fs::canonicalize(place.path()).unwrap();
        fs::create_dir_all(top.join("part/.git")).unwrap();
        fs::write(top.join("part/.git/config"), "").unwrap();
        let text = format!(
            "version: 1\nname: p\nfiles:\n  default: allow\n  rules:\n    \
             - {{ name: git, deny: [write], existing: [\"{}/**/.git/config\"] }}\n",
            top.display()
        );
        let written = Policy::parse("p", &text, &policy::Variables::new()).unwrap();
        let plan = || {
            let mut expanded = Expanded::default();
            expanded.add(
                written.clone(),
                super::super::policy::linked(written.clone().with_existing(&Now).unwrap()),
            );
            expanded
        };
        let planned = plan();
        planned.check().unwrap();
        fs::rename(top.join("part"), top.join("part2")).unwrap();
        let text = planned.check().unwrap_err().to_string();
        assert!(text.contains("rule `p/git`") && text.contains("part2/.git/config now"), "{text}");
        // Away at the first look.
        fs::rename(top.join("part2"), top.join("part")).unwrap();
        fs::rename(top.join("part"), top.with_extension("away")).unwrap();
        let planned = plan();
        planned.check().unwrap();
        fs::rename(top.with_extension("away"), top.join("part")).unwrap();
        planned.check().unwrap_err();
    }

    #[test]
    fn a_directory_that_is_gone_when_it_is_looked_into_is_noticed() {
        let place = tempfile::tempdir().unwrap();
        let top = fs::canonicalize(place.path()).unwrap();
        fs::create_dir(top.join("directory")).unwrap();
        let path = |name: &str| top.join(name).into_os_string().into_encoded_bytes();
        let tree = Watched::default();
        assert!(tree.list(&path("never/")).unwrap().is_empty());
        assert!(!tree.moved.get(), "it was not there before either");
        assert_eq!(tree.list(&path("")).unwrap().len(), 1);
        assert!(tree.list(&path("directory/")).unwrap().is_empty() && !tree.moved.get());
        fs::rename(top.join("directory"), top.join("other")).unwrap();
        assert!(tree.list(&path("directory/")).unwrap().is_empty() && tree.moved.get());
    }
}
