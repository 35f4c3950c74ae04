//! Which names of a run are directories, as far as its record shows: those that it made, and those that something lies in.
//!
//! A record says that something was renamed, and not what it was. A directory that the run moves without having touched
//! anything in it before is taken for a file.

use std::collections::HashSet;

use super::attempt::Asked;

/// Absolute paths of directories.
#[derive(Debug, Default)]
pub(super) struct Directories(HashSet<Box<[u8]>>);

impl Directories {
    /// Marks the rename of a directory.
    pub(super) fn mark(&self, part: &mut Asked<'_>) {
        if let Asked::NewName { old, new, swap, tree } = part {
            *tree = self.0.contains(*old) || (*swap && self.0.contains(*new));
        }
    }

    /// Takes in what an event shows. `made` says that it makes a directory.
    pub(super) fn learn(&mut self, part: &Asked<'_>, made: bool) {
        match *part {
            Asked::File(_, path) if made => self.add(path),
            Asked::File(_, path) | Asked::Run(path) => self.above(path),
            Asked::NewName { old, new, swap, tree: true } => {
                self.add(new);
                if swap {
                    self.add(old);
                }
            }
            _ => {}
        }
    }

    fn add(&mut self, path: &[u8]) {
        self.0.insert(path.into());
        self.above(path);
    }

    /// The directories that a path lies in.
    fn above(&mut self, path: &[u8]) {
        let mut rest = path;
        while let Some(slash) = memchr::memrchr(b'/', rest) {
            rest = &rest[..slash];
            // What is known already is known with all that it lies in.
            if rest.is_empty() || self.0.contains(rest) {
                return;
            }
            self.0.insert(rest.into());
        }
    }
}
