//! Directories in which a file answers to several spellings of its name, and what of policies hooks do not hold there.
//!
//! Hooks see a path as it was called. What a rule says of such names is refused, where it begins with a directory or the run
//! begins there; a pattern that could match anywhere is told. File systems that are mounted later are not looked at: an
//! enforced run mounts nothing unless its policy allows it. Nor is what servers do with names (NFS, FUSE).

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use policy::compile::{Unheld, Unsupported};
use policy::other_names::Links;
use policy::spellings::spelled;
use policy::{Mode, Policy};
use rustix::fs::{Mode as FileMode, OFlags, ioctl_getflags, open};

use super::SensorError;
use crate::launch::aliases::Table;

/// Kinds of file systems on which spellings differ that are the same name (mount(8), and the file systems' own pages under
/// Documentation/filesystems).
const KINDS: [&str; 15] = [
    "affs", "apfs", "cifs", "exfat", "fuseblk", "hfs", "hfsplus", "iso9660", "msdos", "ntfs", "ntfs3",
    "prl_fs", "smb3", "vboxsf", "vfat",
];
/// Kinds that do as they were made, or as their host does: there names are tried.
const TRIED: [&str; 3] = ["9p", "virtiofs", "zfs"];
/// A directory that folds case (include/uapi/linux/fs.h).
const FS_CASEFOLD_FL: u32 = 0x4000_0000;
/// Names of a directory that are tried at most.
const NAMES: usize = 64;

/// What hooks do not hold of policies because of spellings.
#[derive(Debug, Default)]
pub struct Spellings {
    /// Rules about names in such directories.
    pub unheld: Vec<Unheld>,
    /// What else to tell before the command starts.
    pub notes: Vec<String>,
}

/// Such a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Loose {
    directory: PathBuf,
    kind: String,
}

/// Looks for such directories among the mounts of this process, and at those that rules begin with.
///
/// # Errors
/// The mounts cannot be read.
pub fn look(policies: &[&Policy]) -> Result<Spellings, SensorError> {
    let law: Vec<&Policy> =
        policies.iter().copied().filter(|policy| policy.mode() == Mode::Enforce).collect();
    if law.is_empty() {
        return Ok(Spellings::default());
    }
    let here = std::env::current_dir().unwrap_or_default();
    let mut loose = mounted().map_err(SensorError::Mounts)?;
    loose.extend(folding(&law, &here));
    Ok(of(&law, &loose, &here))
}

fn of(law: &[&Policy], loose: &BTreeSet<Loose>, here: &Path) -> Spellings {
    let mut spellings = Spellings::default();
    for Loose { directory, kind } in loose {
        let shown = format!("{} ({kind})", directory.display());
        let begins = here.starts_with(directory);
        let (mut rules, mut anywhere) = (BTreeSet::new(), Vec::new());
        for found in law.iter().flat_map(|policy| spelled(policy, directory.as_os_str().as_bytes())) {
            match found.anywhere && !begins {
                true => anywhere.push(format!("{} ({})", found.pattern, found.rule)),
                false => _ = rules.insert(found.rule),
            }
        }
        let what = Unsupported::Spellings(shown.clone());
        spellings.unheld.extend(rules.into_iter().map(|rule| Unheld { rule, what: what.clone() }));
        if !anywhere.is_empty() {
            spellings.notes.push(format!(
                "in {shown} one file has several spellings, of which these close only the one that they say: {}",
                anywhere.join(", ")
            ));
        }
    }
    spellings
}

/// Mounts of such a kind.
fn mounted() -> std::io::Result<BTreeSet<Loose>> {
    let table = Table::read()?;
    let is_loose = |(directory, kind): &(&Path, &str)| {
        KINDS.contains(kind) || (TRIED.contains(kind) && folds(directory))
    };
    let loose =
        |(directory, kind): (&Path, &str)| Loose { directory: directory.to_owned(), kind: kind.to_owned() };
    Ok(table.kinds().filter(is_loose).map(loose).collect())
}

/// Directories that fold case by themselves (ext4, f2fs and others: `chattr +F`), among those that rules begin with, those
/// above them, and where the run begins.
fn folding(law: &[&Policy], here: &Path) -> BTreeSet<Loose> {
    let places: Vec<PathBuf> = law
        .iter()
        .flat_map(|policy| Links::new(policy).search().places)
        .map(|place| Path::new(std::ffi::OsStr::from_bytes(&place.path)).to_owned())
        .chain([here.to_owned()])
        .collect();
    let directories: BTreeSet<&Path> = places.iter().flat_map(|place| place.ancestors()).collect();
    let loose = directories.into_iter().filter(|directory| has_casefold(directory));
    loose.map(|directory| Loose { directory: directory.to_owned(), kind: "casefold".to_owned() }).collect()
}

/// Whether names in a directory are folded (ioctl_iflags(2)).
fn has_casefold(directory: &Path) -> bool {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let flags = open(directory, flags, FileMode::empty()).and_then(ioctl_getflags);
    flags.is_ok_and(|flags| flags.bits() & FS_CASEFOLD_FL != 0)
}

/// Whether some name in a directory answers to another spelling, too. A directory without letters in its names tells nothing.
fn folds(directory: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(directory) else { return false };
    let names: Vec<Vec<u8>> =
        entries.flatten().take(NAMES).map(|entry| entry.file_name().as_bytes().to_vec()).collect();
    names.iter().any(|name| {
        let swapped: Vec<u8> = name
            .iter()
            .map(|byte| {
                if byte.is_ascii_lowercase() { byte.to_ascii_uppercase() } else { byte.to_ascii_lowercase() }
            })
            .collect();
        let found = |name: &[u8]| {
            std::fs::symlink_metadata(directory.join(std::ffi::OsStr::from_bytes(name))).is_ok()
        };
        swapped != *name && !names.contains(&swapped) && found(&swapped)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::Variables;

    #[test]
    fn rules_that_begin_there_are_not_held_and_others_are_told() {
        let text = "version: 1\nname: p\nfiles:\n  default: allow\n  rules:\n    \
                    - { name: here, deny: [read], path: [\"/mnt/usb/secret\", \"/mnt/usb/other\"] }\n    \
                    - { name: all, deny: [read], path: [\"/mnt/disk/**\"] }\n    \
                    - { name: env, deny: [read], path: [\"**/.env\"] }\n";
        let policy = Policy::parse("p.yaml", text, &Variables::new()).unwrap();
        let of = |directory: &str, here: &str| {
            let loose = BTreeSet::from([Loose { directory: directory.into(), kind: "vfat".to_owned() }]);
            let found = of(&[&policy], &loose, Path::new(here));
            (Unheld::lines(&found.unheld), found.notes)
        };
        let unheld = |rule: &str, place: &str| {
            format!(
                "rule `p/{rule}` goes by the spelling of names in {place} (vfat), where one file has several, which no \
                 layer of this run holds"
            )
        };
        let note = |place: &str| {
            format!(
                "in {place} (vfat) one file has several spellings, of which these close only the one that they say: \
                 **/.env (p/env)"
            )
        };
        assert_eq!(of("/mnt/usb", "/work"), (vec![unheld("here", "/mnt/usb")], vec![note("/mnt/usb")]));
        assert_eq!(of("/mnt/disk", "/work"), (vec![], vec![note("/mnt/disk")]));
        assert_eq!(of("/mnt/disk", "/mnt/disk/a"), (vec![unheld("env", "/mnt/disk")], vec![]));
        let both = vec![unheld("env", "/mnt/usb"), unheld("here", "/mnt/usb")];
        assert_eq!(of("/mnt/usb", "/mnt/usb"), (both, vec![]));
    }

    #[test]
    fn what_tells_cases_apart_folds_nothing() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("Name"), "").unwrap();
        assert!(!folds(dir.path()));
        std::fs::write(dir.path().join("nAME"), "").unwrap();
        assert!(!folds(dir.path()));
        assert!(!has_casefold(dir.path()));
    }
}
