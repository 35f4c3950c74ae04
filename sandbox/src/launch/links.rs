//! Where a path leads when the run starts: its symbolic links, one by one, and who could have made them.
//!
//! What rules do with the answer is the policy crate's ([`policy::links`]).

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use policy::links::{Links, Resolved};

/// Most links on the way of one path (the kernel's limit).
pub(super) const MOST: usize = 40;
/// What may write in a directory besides its owner.
const OTHERS_MAY_WRITE: u32 = 0o022;

/// The ways of paths, each looked up once.
#[derive(Debug, Default)]
pub struct Ways {
    known: RefCell<HashMap<PathBuf, Option<Resolved>>>,
}

impl Ways {
    /// Where `path` leads; `None` where it is not there, or passes a link of procfs, which is another for each
    /// process.
    pub fn resolve(&self, path: &[u8]) -> Option<Resolved> {
        let path = Path::new(OsStr::from_bytes(path));
        if let Some(known) = self.known.borrow().get(path) {
            return known.clone();
        }
        let resolved = walk(path);
        self.known.borrow_mut().insert(path.to_owned(), resolved.clone());
        resolved
    }
}

fn walk(path: &Path) -> Option<Resolved> {
    let (mut links, mut count) = (Links::Trusted, 0);
    let end = follow(path, |directory, next| {
        let found = fs::symlink_metadata(next).ok()?;
        if !found.is_symlink() {
            return Some(None);
        }
        count += 1;
        if count > MOST || directory.starts_with("/proc") {
            return None;
        }
        links = links.max(maker(&found, &fs::metadata(directory).ok()?));
        Some(Some(fs::read_link(next).ok()?))
    })?;
    Some(Resolved { path: end.into_os_string().as_bytes().to_vec(), links })
}

/// Follows a path name by name. `look` is given the directory that was reached and the next path in it, and says where
/// that leads if it is a link; where it gives `None` the walk ends, and so does this.
pub(super) fn follow(
    path: &Path,
    mut look: impl FnMut(&Path, &Path) -> Option<Option<PathBuf>>,
) -> Option<PathBuf> {
    let (mut done, mut open) = (PathBuf::from("/"), names(path));
    while let Some(name) = open.pop() {
        if name == ".." {
            done.pop();
            continue;
        }
        let next = done.join(&name);
        match look(&done, &next)? {
            Some(target) => {
                if target.is_absolute() {
                    done = PathBuf::from("/");
                }
                open.extend(names(&target));
            }
            None => done = next,
        }
    }
    Some(done)
}

/// Who could have made a link that lies in this directory: root's own links can be moved by who may write there.
fn maker(link: &fs::Metadata, directory: &fs::Metadata) -> Links {
    let of_root = link.uid() == 0 && directory.uid() == 0;
    if of_root && directory.mode() & OTHERS_MAY_WRITE == 0 { Links::Trusted } else { Links::Untrusted }
}

/// The names of a path, the last one first.
fn names(path: &Path) -> Vec<OsString> {
    let name = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().rev().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_path_is_followed_link_by_link() {
        let directory = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(directory.path()).unwrap();
        fs::create_dir_all(root.join("real/deep")).unwrap();
        symlink("real", root.join("relative")).unwrap();
        symlink(root.join("relative/deep"), root.join("absolute")).unwrap();
        symlink("../absolute", root.join("real/up")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let ways = Ways::default();
        let way = |path: &str| ways.resolve(root.join(path).as_os_str().as_bytes());
        for path in ["absolute", "relative/deep", "relative/up", "real/deep"] {
            let resolved = way(path).unwrap();
            assert_eq!(resolved.path, root.join("real/deep").as_os_str().as_bytes(), "{path}");
            // /tmp is everybody's, and the test's directory is below it; only what has no link is trusted.
            let trusted = path == "real/deep";
            let untrusted_place = fs::metadata(&root).unwrap().uid() != 0;
            if trusted || untrusted_place {
                assert_eq!(resolved.links == Links::Trusted, trusted, "{path}");
            }
        }
        assert_eq!(way("nothing"), None);
        assert_eq!(way("loop"), None);
    }

    #[test]
    fn links_of_procfs_lead_nowhere() {
        let ways = Ways::default();
        assert_eq!(ways.resolve(b"/proc/self/exe"), None);
        assert_eq!(ways.resolve(b"/proc/self"), None);
        assert_eq!(ways.resolve(b"/dev/stdout"), None);
        let numbers = format!("/proc/{}/status", std::process::id());
        assert_eq!(ways.resolve(numbers.as_bytes()).unwrap().path, numbers.as_bytes());
    }

    #[test]
    fn only_roots_links_in_roots_directories_are_trusted() {
        let directory = tempfile::tempdir().unwrap();
        symlink("x", directory.path().join("link")).unwrap();
        let link = fs::symlink_metadata(directory.path().join("link")).unwrap();
        let (own, everyones) = (fs::metadata(directory.path()).unwrap(), fs::metadata("/tmp").unwrap());
        let roots = fs::metadata("/").unwrap();
        assert_eq!(maker(&link, &everyones), Links::Untrusted);
        if link.uid() != 0 {
            assert_eq!(maker(&link, &own), Links::Untrusted);
        }
        if fs::symlink_metadata("/proc/self").is_ok_and(|link| link.uid() == 0) && roots.uid() == 0 {
            let link = fs::symlink_metadata("/proc/self").unwrap();
            assert_eq!(maker(&link, &roots), Links::Trusted);
        }
    }
}
