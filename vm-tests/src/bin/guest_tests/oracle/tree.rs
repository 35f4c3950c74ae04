//! The tree of files that the attempts of one policy are about: what each attempt needs, without any of them
//! standing in another's way; made, and made again.

use super::paths::{self, ROOT};
use super::random::Random;
use anyhow::{Context, Result};
use policy::Digest;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

/// Where the symbolic links are by which some attempts reach the tree: outside it, where no rule is about them.
const LINKS: &str = "/l";

/// What an attempt needs at a path. Those of the first three may share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A directory that stays.
    Directory,
    /// A file that is executed or mapped, and never written: a running program cannot be.
    Program,
    /// A file that is opened.
    Data,
    /// A file for this attempt alone.
    OwnFile,
    /// An empty directory for this attempt alone.
    OwnDirectory,
    /// A directory with two files in it, for this attempt alone.
    OwnTree,
    /// Nothing.
    Nothing,
}

/// The files of an [`Need::OwnTree`].
pub const IN_OWN_TREE: [&[u8]; 2] = [b"/a", b"/x.pem"];

/// What has to be there.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    needs: BTreeMap<Vec<u8>, Need>,
    links: Vec<Vec<u8>>,
}

impl Tree {
    /// Takes a path for an attempt; false when something else needs it to be otherwise.
    pub fn claim(&mut self, path: &[u8], need: Need) -> bool {
        if path.len() + 8 > paths::LONGEST && need == Need::OwnTree {
            return false;
        }
        let shared = matches!(need, Need::Directory | Need::Program | Need::Data);
        if self.needs.get(path).is_some_and(|found| !shared || *found != need) {
            return false;
        }
        let above = |needs: &BTreeMap<_, _>, directory: &[u8]| {
            needs.get(directory).is_none_or(|found| *found == Need::Directory)
        };
        if !paths::above(path).all(|directory| above(&self.needs, directory)) {
            return false;
        }
        self.needs.extend(paths::above(path).map(|directory| (directory.to_vec(), Need::Directory)));
        self.needs.insert(path.to_vec(), need);
        true
    }

    /// Another name that leads to a path in a directory that is there.
    pub fn disguise(&mut self, random: &mut Random, path: &[u8]) -> Vec<u8> {
        let (directory, name) = paths::split(path);
        let name_of_directory = paths::split(directory).1;
        let other = match random.below(10) {
            0 => [b"/proc/self/root", path].concat(),
            1 => [directory, b"//./", name].concat(),
            2 if directory.len() > ROOT.len() => [directory, b"/../", name_of_directory, b"/", name].concat(),
            3 => {
                self.links.push(directory.to_vec());
                format!("{LINKS}/{}/", self.links.len() - 1)
                    .into_bytes()
                    .into_iter()
                    .chain(name.to_vec())
                    .collect()
            }
            _ => path.to_vec(),
        };
        if other.len() > paths::LONGEST { path.to_vec() } else { other }
    }

    /// Makes everything, and removes what was there before.
    pub fn make(&self) -> Result<()> {
        for place in [ROOT, LINKS] {
            match fs::remove_dir_all(place) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot remove {place}"));
                }
                _ => fs::create_dir(place).with_context(|| format!("cannot make {place}"))?,
            }
        }
        // A directory comes before what lies in it.
        for (path, need) in &self.needs {
            let at = Path::new(OsStr::from_bytes(path));
            let made = match need {
                Need::Nothing => Ok(()),
                Need::Directory | Need::OwnDirectory => fs::create_dir(at),
                Need::Program | Need::Data | Need::OwnFile => make_file(at),
                Need::OwnTree => fs::create_dir(at).and_then(|()| {
                    IN_OWN_TREE
                        .iter()
                        .try_for_each(|name| make_file(Path::new(OsStr::from_bytes(&[path, *name].concat()))))
                }),
            };
            made.with_context(|| format!("cannot make {}", path.escape_ascii()))?;
        }
        for (number, directory) in self.links.iter().enumerate() {
            let link = format!("{LINKS}/{number}");
            symlink(OsStr::from_bytes(directory), &link).with_context(|| format!("cannot make {link}"))?;
        }
        Ok(())
    }
}

fn make_file(at: &Path) -> std::io::Result<()> {
    fs::write(at, contents(at.as_os_str().as_bytes()))?;
    fs::set_permissions(at, Permissions::from_mode(0o755))
}

/// Whether there is such a name.
pub fn exists(path: &[u8]) -> bool {
    fs::symlink_metadata(OsStr::from_bytes(path)).is_ok()
}

/// What a file of the tree holds: the smallest program, and one of a few letters behind it, so that not all
/// files have the same digest.
pub fn contents(path: &[u8]) -> Vec<u8> {
    let sum: usize = path.iter().map(|byte| usize::from(*byte)).sum();
    contents_of_kind(sum % KINDS_OF_CONTENTS)
}

/// How many different contents there are.
pub const KINDS_OF_CONTENTS: usize = 3;

/// See [`contents`].
pub fn contents_of_kind(kind: usize) -> Vec<u8> {
    let mut program = exit_0();
    program.push(b"xyz"[kind]);
    program
}

/// The digest of a file that holds this.
pub fn digest(contents: &[u8]) -> Digest {
    Digest(Sha256::digest(contents).into())
}

/// An ELF executable for x86-64 that exits with 0: header, one segment, three instructions (elf(5)).
fn exit_0() -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    // mov eax, 60 (exit); xor edi, edi; syscall
    const CODE: [u8; 9] = [0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05];
    let size = HEADERS + CODE.len() as u64;
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(16, 0);
    // e_type ET_EXEC, e_machine EM_X86_64.
    bytes.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    // e_entry, e_phoff, e_shoff.
    [BASE + HEADERS, 64, 0].iter().for_each(|word| bytes.extend(word.to_le_bytes()));
    // e_flags; e_ehsize, e_phentsize, e_phnum, e_shentsize, e_shnum, e_shstrndx.
    bytes.extend([0; 4]);
    [64u16, 56, 1, 0, 0, 0].iter().for_each(|half| bytes.extend(half.to_le_bytes()));
    // p_type PT_LOAD, p_flags R and X; p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align.
    bytes.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    [0, BASE, BASE, size, size, 0x1000].iter().for_each(|word| bytes.extend(word.to_le_bytes()));
    bytes.extend(CODE);
    bytes
}
