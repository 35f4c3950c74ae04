//! What plain ownership and modes keep from a command, where it cannot gain privileges: the record of its run and the
//! files of its policies, of a runner that is root for a command that is not.
//!
//! Asked once, when the run starts. Whoever owns these files is trusted, and it is not the command.

use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::Uid;
use policy::compile::layers::{Kept, Layer};
use policy::pattern::Pattern;
use policy::{Access, AccessSet};

use super::identity::Target;

/// Entries of such a directory are their owners' to remove.
const STICKY: u32 = 0o1000;
/// The list of access control that a file may have beside its mode (acl(5)).
const ACL: &str = "system.posix_acl_access";
/// Its kinds of entries (include/uapi/linux/posix_acl.h).
const OF_USER: u16 = 0x02;
const OF_OWNING_GROUP: u16 = 0x04;
const OF_GROUP: u16 = 0x08;

/// What may be done with a file, as the bits of a mode are for others.
#[derive(Clone, Copy)]
enum May {
    Read = 0o4,
    Write = 0o2,
}

/// What the command of `target` can change nothing of, among `records` (directories of records), `secrets` (files in
/// them, which it cannot read either) and `policies`.
pub fn kept<'p>(
    target: &Target,
    records: impl Iterator<Item = &'p Path>,
    secrets: &[PathBuf],
    policies: impl Iterator<Item = &'p Path>,
) -> Vec<Kept> {
    if target.uid == 0 || target.uid == Uid::effective().as_raw() {
        return Vec::new();
    }
    let changes = [Access::Write, Access::Create, Access::Delete, Access::Attributes];
    let places = records.chain(policies).filter(|path| cannot_change(target, path));
    let hidden = secrets.iter().map(PathBuf::as_path).filter(|path| cannot_read(target, path));
    let beneath = |path: &Path| Pattern::beneath(path.as_os_str().as_bytes());
    vec![
        kept_by_modes(changes.into_iter().collect(), places.map(beneath).collect()),
        kept_by_modes(Access::Read.into(), hidden.map(beneath).collect()),
    ]
}

fn kept_by_modes(accesses: AccessSet, places: Vec<Pattern>) -> Kept {
    Kept { layer: Layer::Permissions, accesses, places }
}

/// Whether `target` can neither write at `path` nor put something else in its place. What is not there is not kept.
fn cannot_change(target: &Target, path: &Path) -> bool {
    let Ok(own) = fs::symlink_metadata(path) else { return false };
    // A link's own mode says nothing; what counts is who may replace it.
    let sealed = own.is_symlink() || !may(target, May::Write, path, &own);
    sealed
        && own.uid() != target.uid
        && path.ancestors().skip(1).all(|directory| {
            let Ok(found) = fs::symlink_metadata(directory) else { return false };
            let replaces = may(target, May::Write, directory, &found) && found.mode() & STICKY == 0;
            found.uid() != target.uid && !replaces
        })
}

/// Whether `target` cannot read what is at `path`; what is not there cannot be read.
fn cannot_read(target: &Target, path: &Path) -> bool {
    match fs::symlink_metadata(path) {
        Ok(found) => found.uid() != target.uid && !may(target, May::Read, path, &found),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

/// Whether a file that is not `target`'s own lets it in. Where that cannot be told, it does.
fn may(target: &Target, what: May, path: &Path, found: &Metadata) -> bool {
    let mode = found.permissions().mode();
    let is_member = |gid: u32| gid == target.gid || target.groups.contains(&gid);
    let bit = what as u32;
    if mode & bit != 0 {
        return true;
    }
    let mut list = [0; 4096];
    match rustix::fs::lgetxattr(path, ACL, &mut list) {
        Ok(length) => list.get(4..length).is_none_or(|entries| {
            let (entries, rest) = entries.as_chunks::<8>();
            let grants = |entry: &[u8; 8]| {
                let half = |at: usize| u16::from_le_bytes([entry[at], entry[at + 1]]);
                let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
                let meant = match half(0) {
                    OF_USER => id == target.uid,
                    OF_OWNING_GROUP => is_member(found.gid()),
                    OF_GROUP => is_member(id),
                    _ => false,
                };
                meant && u32::from(half(2)) & bit != 0
            };
            !rest.is_empty() || entries.iter().any(grants)
        }),
        // Without a list the mode speaks for the group.
        Err(rustix::io::Errno::NODATA | rustix::io::Errno::NOTSUP) => {
            mode & bit << 3 != 0 && is_member(found.gid())
        }
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::identity::Identity;

    fn nobody() -> Target {
        Target {
            identity: Identity::Switch,
            uid: 65534,
            gid: 65534,
            groups: vec![65534, 4_000_000],
            name: "nobody".to_owned(),
            home: "/".into(),
            shell: "/bin/sh".into(),
        }
    }

    /// Needs root: files of somebody else.
    #[test]
    fn only_what_nobody_else_may_change_is_kept() {
        if !Uid::effective().is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let place = tempfile::tempdir_in("/var/tmp").unwrap();
        let chmod = |path: &Path, mode: u32| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        let (directory, file) = (place.path().to_owned(), place.path().join("file"));
        fs::write(&file, "").unwrap();
        chmod(&directory, 0o755);
        chmod(&file, 0o644);
        assert!(cannot_change(&nobody(), &file), "below /var/tmp, which is sticky");
        assert!(!cannot_read(&nobody(), &file));
        chmod(&file, 0o646);
        assert!(!cannot_change(&nobody(), &file));
        chmod(&file, 0o600);
        assert!(cannot_read(&nobody(), &file) && cannot_change(&nobody(), &file));
        let list = |id: u32, bits: u16| {
            let entry = |tag: u16, bits: u16, id: u32| {
                [tag.to_le_bytes().to_vec(), bits.to_le_bytes().to_vec(), id.to_le_bytes().to_vec()].concat()
            };
            let entries = [
                (1, 6, u32::MAX),
                (OF_USER, bits, id),
                (4, 0, u32::MAX),
                (16, 6, u32::MAX),
                (32, 0, u32::MAX),
            ];
            let entries = entries.into_iter().flat_map(|(tag, bits, id)| entry(tag, bits, id));
            let list: Vec<u8> = 2u32.to_le_bytes().into_iter().chain(entries).collect();
            rustix::fs::setxattr(&file, ACL, &list, rustix::fs::XattrFlags::empty()).unwrap();
        };
        list(65534, 4);
        assert!(!cannot_read(&nobody(), &file) && cannot_change(&nobody(), &file));
        list(65534, 6);
        assert!(!cannot_change(&nobody(), &file));
        list(65533, 6);
        assert!(cannot_read(&nobody(), &file) && cannot_change(&nobody(), &file));
        // Whoever may write in the directory puts another file there.
        chmod(&directory, 0o757);
        assert!(!cannot_change(&nobody(), &file));
        chmod(&directory, 0o775);
        assert!(cannot_change(&nobody(), &file));
        std::os::unix::fs::chown(&directory, None, Some(4_000_000)).unwrap();
        assert!(!cannot_change(&nobody(), &file));
        std::os::unix::fs::chown(&directory, Some(65534), None).unwrap();
        chmod(&directory, 0o555);
        assert!(!cannot_change(&nobody(), &file), "an owner changes the mode");
        assert!(!cannot_change(&nobody(), &directory.join("absent")));
        assert!(kept(&Target { uid: 0, ..nobody() }, [&*file].into_iter(), &[], [].into_iter()).is_empty());
    }
}
