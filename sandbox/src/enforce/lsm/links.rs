//! Files that a rule denies and that have another name already: found before a policy is in force, and marked for the
//! hooks.
//!
//! The look is bounded. What was not looked at is told, since a hard link there would lead past its rule.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::{self, File, Metadata},
    io,
    os::{
        fd::{AsFd, OwnedFd},
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

/// A file, by device and inode.
type FileId = (u64, u64);

/// Looks for files and marks them, for the run in one slot.
#[derive(Debug)]
pub struct Marker {
    program: OwnedFd,
    slot: u32,
    marks: Marks,
    /// The number of each file that was ever marked.
    numbers: HashMap<FileId, usize>,
    /// What the last look marked: what is denied of each, as `sandbox_ebpf::abi::policy::access` bits.
    marked: HashMap<FileId, u16>,
}

impl Marker {
    /// One that has marked nothing yet.
    ///
    /// # Errors
    /// Descriptors run out.
    pub fn new(object: &Object, slot: u32) -> Result<Marker, ObjectError> {
        let program = object.mark_program()?.try_clone_to_owned();
        let program = program.map_err(|source| ObjectError::Call { what: "hold a program", source })?;
        let (numbers, marked) = (HashMap::new(), HashMap::new());
        Ok(Marker { program, slot, marks: Marks::default(), numbers, marked })
    }

    /// All files that were ever marked, by number: a number keeps its meaning as long as the run lives.
    pub fn marks(&self) -> &Marks {
        &self.marks
    }

    /// Looks for files with several names, one of which a policy denies, and marks them. Gives what was not looked
    /// at. Marks of earlier looks stay.
    ///
    /// # Errors
    /// The kernel refuses a mark: then the file would be open by its other names.
    pub fn mark(&mut self, policies: &[&Policy]) -> Result<Vec<String>, ObjectError> {
        let links: &Vec<Links> = &policies.iter().map(|policy| Links::new(policy)).collect();
        let mut wanted = policy::other_names::Search::default();
        for more in links.iter().map(Links::search) {
            wanted.places.extend(more.places);
            wanted.everywhere.extend(more.everywhere);
        }
        self.marked.clear();
        let mut search = Search { marker: self, links, left: NAMES };
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
        Ok(match unseen.as_slice() {
            [] => Vec::new(),
            unseen => vec![format!(
                "not looked at for other names of denied files (hard links): {}",
                unseen.join(", ")
            )],
        })
    }

    /// Takes the marks of earlier looks from files that the last look did not mark. A file that has none of the names
    /// any more by which it was found keeps its mark: that is too strict, and safe.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn forget_earlier(&self) -> Result<(), ObjectError> {
        for number in 0..self.marks.count() {
            for name in self.marks.names(number) {
                let path = Path::new(OsStr::from_bytes(name));
                let Ok(handle) = hold(path) else { continue };
                let Ok(found) = File::from(handle.try_clone().map_err(fault)?).metadata() else { continue };
                if !self.marked.contains_key(&(found.dev(), found.ino())) {
                    Object::mark(self.program.as_fd(), self.slot, handle.as_fd(), 0, number as u32)?;
                }
            }
        }
        Ok(())
    }
}

fn fault(source: io::Error) -> ObjectError {
    ObjectError::Call { what: "hold a marked file", source }
}

/// A descriptor that says which file it is, and opens nothing.
fn hold(path: &Path) -> nix::Result<OwnedFd> {
    open(path, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
}

/// A look at the places where denied files lie, under way.
struct Search<'a> {
    marker: &'a mut Marker,
    links: &'a [Links],
    /// Names that may still be looked at.
    left: usize,
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
        let Ok(handle) = hold(path) else { return Ok(false) };
        // Another file may have taken the name meanwhile: what is marked is what is held.
        let Ok(found) = File::from(handle.try_clone().map_err(fault)?).metadata() else { return Ok(false) };
        let Marker { program, slot, marks, numbers, marked } = &mut *self.marker;
        let file = (found.dev(), found.ino());
        let number = *numbers.entry(file).or_insert(marks.count());
        let all = marked.entry(file).or_default();
        *all |= denied;
        marks.add(number, name);
        Object::mark(program.as_fd(), *slot, handle.as_fd(), *all, number as u32)?;
        Ok(true)
    }
}
