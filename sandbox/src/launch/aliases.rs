//! The other names of a place: symbolic links on the way to it, and mounts that show it elsewhere.
//!
//! A rule on a path says nothing of these; where a place must be closed whatever it is called, they are closed too. What
//! becomes of mounts later is no matter of this module: an enforced run makes none unless its policy allows it.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use super::cgroup::unescape;
use super::links::{MOST, follow};

/// Where a path leads, what is not there yet included; and each symbolic link on the way, by the path that leads to it
/// without links. `path` must be absolute.
pub fn followed(path: &Path) -> (PathBuf, Vec<PathBuf>) {
    let mut links = Vec::new();
    let end = follow(path, |_, next| match fs::read_link(next) {
        Ok(target) if links.len() < MOST => {
            links.push(next.to_owned());
            Some(Some(target))
        }
        _ => Some(None),
    });
    // It never gives up.
    (end.unwrap_or_else(|| path.to_owned()), links)
}

/// A mount, as proc_pid_mountinfo(5) tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    id: u64,
    /// What it is mounted on; of several at one point that is the one below it. The list is in no such order.
    parent: u64,
    device: Vec<u8>,
    root: PathBuf,
    point: PathBuf,
    /// What file system it is of.
    kind: String,
}

/// Other places at which mounts show what lies at `real` (a path without links), or what lies below it.
///
/// # Errors
/// The mounts cannot be read.
pub fn shown_at(real: &Path) -> std::io::Result<Vec<PathBuf>> {
    Ok(Table::read()?.shown(real))
}

/// The mounts of this process.
#[derive(Clone, Debug)]
pub struct Table(Vec<Mount>);

impl Table {
    /// As they are now.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn read() -> std::io::Result<Table> {
        Ok(Table(mounts(&fs::read("/proc/self/mountinfo")?)))
    }

    /// Other places at which mounts show what lies at `real` itself, as far as nothing else is mounted over them.
    pub fn showing(&self, real: &Path) -> Vec<PathBuf> {
        let Some((device, inside)) = self.inside(real) else { return Vec::new() };
        let same = self.0.iter().filter(|mount| mount.device == device);
        others(real, same.filter_map(|mount| mount.shows(&inside)))
    }

    /// Places elsewhere at which a mount shows something below `real`.
    pub fn showing_below(&self, real: &Path) -> Vec<PathBuf> {
        let Some((device, inside)) = self.inside(real) else { return Vec::new() };
        let below = self.0.iter().filter(|mount| {
            mount.device == device
                && mount.root != inside
                && mount.root.starts_with(&inside)
                && !mount.point.starts_with(real)
                && self.on_top(mount)
        });
        others(real, below.map(|mount| mount.point.clone()))
    }

    /// All mounts: where they are, and what file system they are of.
    pub fn kinds(&self) -> impl Iterator<Item = (&Path, &str)> {
        self.0.iter().map(|mount| (mount.point.as_path(), mount.kind.as_str()))
    }

    /// Whether no other mount lies over it at its point.
    fn on_top(&self, mount: &Mount) -> bool {
        // The first of all mounts (an initramfs) is its own parent.
        let over = |other: &&Mount| other.parent == mount.id && other.id != mount.id;
        !self.0.iter().filter(over).any(|over| over.point == mount.point)
    }

    /// Both: where the same is shown, or something below it.
    fn shown(&self, real: &Path) -> Vec<PathBuf> {
        let Some((device, inside)) = self.inside(real) else { return Vec::new() };
        let same = self.0.iter().filter(|mount| mount.device == device);
        let places = same.filter_map(|mount| {
            mount.shows(&inside).or_else(|| mount.root.starts_with(&inside).then(|| mount.point.clone()))
        });
        others(real, places)
    }

    /// The file system that a place is on, and where it is there.
    fn inside(&self, real: &Path) -> Option<(&[u8], PathBuf)> {
        let under = || self.0.iter().filter(|mount| real.starts_with(&mount.point));
        // The kernel knows, of what is not there yet by what it would lie in; else the innermost of those that are seen.
        let told = real.ancestors().find_map(mount_of).and_then(|id| under().find(|mount| mount.id == id));
        let seen = || under().filter(|mount| self.on_top(mount));
        let own = told.or_else(|| seen().max_by_key(|mount| mount.point.components().count()))?;
        let rest = real.strip_prefix(&own.point).ok()?;
        Some((&own.device, joined(&own.root, rest)))
    }
}

impl Mount {
    /// Where it shows what lies at a place of its file system.
    fn shows(&self, inside: &Path) -> Option<PathBuf> {
        inside.strip_prefix(&self.root).ok().map(|rest| joined(&self.point, rest))
    }
}

/// The mount that a place is on (statx(2); Linux 5.8).
fn mount_of(real: &Path) -> Option<u64> {
    let found = statx(CWD, real, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::MNT_ID).ok()?;
    (found.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(found.stx_mnt_id)
}

/// Without a slash at the end where there is no rest.
fn joined(path: &Path, rest: &Path) -> PathBuf {
    if rest.as_os_str().is_empty() { path.to_owned() } else { path.join(rest) }
}

/// Each of them once, without the place itself.
fn others(real: &Path, places: impl Iterator<Item = PathBuf>) -> Vec<PathBuf> {
    let mut places: Vec<PathBuf> = places.filter(|place| place != real).collect();
    places.sort();
    places.dedup();
    places
}

fn mounts(mountinfo: &[u8]) -> Vec<Mount> {
    let path = |field: &[u8]| PathBuf::from(OsString::from_vec(unescape(field)));
    let lines = mountinfo.split(|byte| *byte == b'\n');
    let mount = |line: &[u8]| {
        let mut fields = line.split(|byte| *byte == b' ');
        let mut number = || std::str::from_utf8(fields.next()?).ok()?.parse().ok();
        let (id, parent) = (number()?, number()?);
        let (device, root, point) = (fields.next()?, fields.next()?, fields.next()?);
        // Behind the options come as many fields as there are, and a hyphen.
        let kind = String::from_utf8_lossy(fields.skip_while(|field| *field != b"-").nth(1)?).into_owned();
        Some(Mount { id, parent, device: device.to_vec(), root: path(root), point: path(point), kind })
    };
    lines.filter_map(mount).collect()
}

/// All names of a place: the one that is given, where it leads, the links on the way, and where mounts show it.
///
/// # Errors
/// The mounts cannot be read.
pub fn of(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    let (real, mut all) = followed(path);
    all.extend(shown_at(&real)?);
    // With `..` in it a name means what the directories before it mean, so it names nothing by itself.
    if !path.components().any(|part| part == Component::ParentDir) {
        all.push(path.to_owned());
    }
    all.push(real);
    all.sort();
    all.dedup();
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_on_the_way_are_told_with_where_they_lead() {
        let place = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(place.path()).unwrap();
        fs::create_dir_all(root.join("real/deep")).unwrap();
        symlink("real", root.join("one")).unwrap();
        symlink(root.join("one/deep"), root.join("two")).unwrap();
        let (end, links) = followed(&root.join("two/not/there"));
        assert_eq!(end, root.join("real/deep/not/there"));
        assert_eq!(links, [root.join("two"), root.join("one")]);
        symlink("loop", root.join("loop")).unwrap();
        assert_eq!(followed(&root.join("loop/x")).1.len(), MOST, "it ends");
        assert_eq!(followed(&root.join("one/../real")).0, root.join("real"));
    }

    #[test]
    fn mounts_show_a_place_elsewhere() {
        let text = b"900020 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
            900030 900020 8:2 / /data rw - ext4 /dev/sdb1 rw\n\
            900031 900020 8:2 /store /other\\040name rw - ext4 /dev/sdb1 rw\n\
            900032 900020 8:2 /store/runs/1 /one rw - ext4 /dev/sdb1 rw\n\
            900033 900020 8:1 /data /not rw - ext4 /dev/sda1 rw\n\
            900034 900020 8:3 / /tmp rw - tmpfs tmpfs rw\n";
        let table = Table(mounts(text));
        let at = |real: &str| -> Vec<String> {
            table.shown(Path::new(real)).iter().map(|place| place.display().to_string()).collect()
        };
        assert_eq!(at("/data/store"), ["/one", "/other name"]);
        assert_eq!(at("/data/store/runs/2"), ["/other name/runs/2"]);
        assert_eq!(at("/other name"), ["/data/store", "/one"]);
        assert_eq!(at("/tmp/x"), [""; 0]);
        assert_eq!(at("/srv/x"), [""; 0]);
    }

    #[test]
    fn the_first_of_all_mounts_lies_under_none() {
        let text = b"900001 900001 0:2 / / rw - rootfs rootfs rw\n\
            900030 900001 0:2 /srv/records /srv/shown rw - rootfs rootfs rw\n";
        let table = Table(mounts(text));
        assert_eq!(table.shown(Path::new("/srv/records/run")), [Path::new("/srv/shown/run")]);
    }

    #[test]
    fn the_same_and_what_is_below_it_are_told_apart() {
        let text = b"900020 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
            900031 900020 8:1 /srv/work /alias rw - ext4 /dev/sda1 rw\n\
            900032 900020 8:1 /srv/work/part /part rw - ext4 /dev/sda1 rw\n\
            900033 900020 8:1 /srv/work/gone /over rw - ext4 /dev/sda1 rw\n\
            900034 900033 8:4 / /over rw - tmpfs tmpfs rw\n\
            900035 900020 8:1 /srv/work/in /srv/work/in rw - ext4 /dev/sda1 rw\n\
            900036 900020 8:2 /srv/work /other-disk rw - ext4 /dev/sdb1 rw\n";
        let table = Table(mounts(text));
        let names = |places: Vec<PathBuf>| -> Vec<String> {
            places.iter().map(|place| place.display().to_string()).collect()
        };
        assert_eq!(names(table.showing(Path::new("/srv/work"))), ["/alias"]);
        assert_eq!(names(table.showing(Path::new("/srv/work/part/x"))), ["/alias/part/x", "/part/x"]);
        assert_eq!(names(table.showing(Path::new("/alias"))), ["/srv/work"]);
        assert_eq!(names(table.showing(Path::new("/srv"))), [""; 0]);
        assert_eq!(names(table.showing_below(Path::new("/srv/work"))), ["/part"]);
        assert_eq!(names(table.showing_below(Path::new("/srv"))), ["/alias", "/part"]);
        assert_eq!(names(table.showing_below(Path::new("/srv/work/part"))), [""; 0]);
    }
}
