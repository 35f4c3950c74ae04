//! Files that a rule denies and that have another name already: found when the run begins, and marked for the hooks.
//!
//! The look is bounded. What was not looked at is told, since a hard link there would lead past its rule.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::{self, Metadata},
    os::{
        fd::AsFd,
        unix::{ffi::OsStrExt, fs::MetadataExt},
    },
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{OFlag, open},
    sys::stat::Mode,
};
use policy::{
    Policy,
    other_names::{Links, Marks},
};

use crate::kernel::object::{Object, ObjectError};

/// Names that are looked at, in all places together.
const NAMES: usize = 100_000;
/// Directories in which no file has a second name.
const KERNELS_OWN: [&str; 2] = ["/proc", "/sys"];

/// What a look brought.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The files that were marked.
    pub marks: Marks,
    /// What was not looked at.
    pub notes: Vec<String>,
}

/// Looks for files with several names, one of which a policy denies, and marks them for the run in `slot`.
///
/// # Errors
/// The kernel refuses a mark: then the file would be open by its other names.
pub fn mark(object: &Object, slot: u32, policies: &[&Policy]) -> Result<Found, ObjectError> {
    let links: &Vec<Links> = &policies.iter().map(|policy| Links::new(policy)).collect();
    let mut wanted = policy::other_names::Search::default();
    for more in links.iter().map(Links::search) {
        wanted.places.extend(more.places);
        wanted.everywhere.extend(more.everywhere);
    }
    let (index, marks) = (HashMap::new(), Marks::default());
    let mut search = Search { object, slot, links, left: NAMES, index, denied: Vec::new(), marks };
    let mut unseen: Vec<String> =
        wanted.everywhere.iter().map(|(rule, pattern)| format!("{pattern} ({rule})")).collect();
    for place in &wanted.places {
        let path = Path::new(OsStr::from_bytes(&place.path));
        // What is not there has no second name; what leads through a symbolic link is looked at where it leads.
        let Ok(path) = fs::canonicalize(path) else { continue };
        if !search.descend(path, place.depth)? {
            unseen.push(String::from_utf8_lossy(&place.path).into_owned());
        }
    }
    let mut notes = Vec::new();
    if !unseen.is_empty() {
        notes.push(format!(
            "not looked at for other names of denied files (hard links): {}",
            unseen.join(", ")
        ));
    }
    Ok(Found { marks: search.marks, notes })
}

/// A look at the places where denied files lie, under way.
struct Search<'a> {
    object: &'a Object,
    slot: u32,
    links: &'a [Links],
    /// Names that may still be looked at.
    left: usize,
    /// The number of a marked file, by device and inode.
    index: HashMap<(u64, u64), usize>,
    /// What is denied of each, as `sandbox_ebpf::abi::policy::access` bits.
    denied: Vec<u16>,
    marks: Marks,
}

impl Search<'_> {
    /// Looks at a file, or a directory `depth` levels deep; false when something was not looked at.
    fn descend(&mut self, path: PathBuf, depth: Option<usize>) -> Result<bool, ObjectError> {
        let mut whole = true;
        let mut waiting = vec![(path, depth)];
        while let Some((path, depth)) = waiting.pop() {
            if self.left == 0 {
                return Ok(false);
            }
            self.left -= 1;
            let Ok(found) = fs::symlink_metadata(&path) else { continue };
            if !found.is_dir() {
                whole &= self.look(&path, &found)?;
                continue;
            }
            if depth == Some(0) || KERNELS_OWN.iter().any(|own| path.starts_with(own)) {
                continue;
            }
            let deeper = depth.map(|depth| depth - 1);
            match fs::read_dir(&path) {
                Ok(entries) => waiting.extend(entries.flatten().map(|entry| (entry.path(), deeper))),
                Err(_) => whole = false,
            }
        }
        Ok(whole)
    }

    /// Marks a file that has other names and is denied under this one; false when it could not be looked at.
    fn look(&mut self, path: &Path, found: &Metadata) -> Result<bool, ObjectError> {
        let name = path.as_os_str().as_bytes();
        if !found.is_file() || found.nlink() < 2 {
            return Ok(true);
        }
        let denied = self.links.iter().fold(0, |all, links| all | links.denied(name).path_bits());
        if denied == 0 {
            return Ok(true);
        }
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let Ok(handle) = open(path, flags, Mode::empty()) else { return Ok(false) };
        let number = *self.index.entry((found.dev(), found.ino())).or_insert(self.marks.count());
        if number == self.marks.count() {
            self.denied.push(0);
        }
        self.denied[number] |= denied;
        self.marks.add(number, name);
        self.object.mark(self.slot, handle.as_fd(), self.denied[number], number as u32)?;
        Ok(true)
    }
}
