//! The run's control group: its scope in the v2 tree.
//!
//! Made below the caller's own group, wherever v2 is mounted (mountinfo tells; on hybrid machines that is not
//! /sys/fs/cgroup); or, where limits need controllers that groups there do not have, below the nearest group above it that
//! gives them. The limits themselves are set elsewhere ([`super::limits`]). Membership in a run is decided by task identity,
//! not here: a root task can leave its group (threat model X52); this is the quick way to end many, and a second opinion.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use policy::settings::LimitSet;

use super::limits::{controller, gives_controller};
use super::process::Stat;

/// The inode of the first cgroup namespace (PROC_CGROUP_INIT_INO, include/linux/proc_ns.h).
const FIRST_CGROUP_NAMESPACE: u64 = 0xEFFF_FFFB;

/// How the names of our groups begin.
const PREFIX: &str = "sandbox-";

/// How long a run may take from making its group to using it.
const YOUNG: Duration = Duration::from_secs(60);

/// Why a run has no control group of its own.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// No v2 hierarchy is mounted.
    #[error("no cgroup v2 hierarchy is mounted")]
    NoHierarchy,
    /// The caller's group lies outside what is mounted here.
    #[error("the caller's control group {0} is not below the mounted hierarchy")]
    OutsideMount(String),
    /// The caller's group holds single threads, so that no process can be put below it.
    #[error("the caller's control group is threaded, and can hold no group of whole processes")]
    Threaded,
    /// A file of the hierarchy could not be used.
    #[error("{what} {path}")]
    Io {
        /// What was tried, as in "cannot create".
        what: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// A control group that this run made.
#[derive(Clone, Debug)]
pub struct Cgroup {
    directory: PathBuf,
    id: u64,
    level: Option<u32>,
}

/// Who, other than root, may move processes out of this group into its neighbours: the owner of the group above it, as
/// of the trees that systemd hands to users (cgroups(7), delegation).
pub fn owner_above(directory: &Path) -> Option<u32> {
    let above = fs::metadata(directory.parent()?.join("cgroup.procs")).ok()?;
    Some(above.uid()).filter(|uid| *uid != 0)
}

impl Cgroup {
    /// Makes a group below the caller's own, with a name that no other run has or had.
    ///
    /// `limits`: those that it is to hold.
    pub fn create(run: &str, limits: LimitSet) -> Result<Cgroup, CgroupError> {
        let parent = own_place()?.giving(limits);
        sweep(&parent.directory);
        let directory = parent.directory.join(new_name(run));
        let failed = |what, source| CgroupError::Io { what, path: directory.clone(), source };
        fs::create_dir(&directory).map_err(|source| failed("cannot create", source))?;
        // cgroups(7): "domain invalid" is a group that will never take a process.
        if fs::read(directory.join("cgroup.type")).is_ok_and(|kind| kind.starts_with(b"domain invalid")) {
            let _ = fs::remove_dir(&directory);
            return Err(CgroupError::Threaded);
        }
        let id = fs::metadata(&directory).map_err(|source| failed("cannot read", source))?.ino();
        let level = in_first_namespace().then_some(parent.level + 1);
        Ok(Cgroup { directory, id, level })
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its id: the inode number of the directory, which is what `bpf_get_current_cgroup_id` gives.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// How many groups lie above it; the root is level 0. `None` inside a cgroup namespace, where the part
    /// above its root cannot be seen.
    pub fn level(&self) -> Option<u32> {
        self.level
    }

    /// Whether this user may move processes of the group above into it (cgroups(7), delegation).
    pub fn can_be_entered(&self) -> bool {
        let above = self.directory.parent().map(|above| above.join("cgroup.procs"));
        above.is_some_and(|procs| rustix::fs::access(procs, rustix::fs::Access::WRITE_OK).is_ok())
    }

    /// Moves a process in.
    pub fn add(&self, pid: u32) -> Result<(), CgroupError> {
        let path = self.directory.join("cgroup.procs");
        fs::write(&path, pid.to_string()).map_err(|source| CgroupError::Io {
            what: "cannot move the command into",
            path,
            source,
        })
    }

    /// Processes in it and below it; the dead are not listed.
    pub fn processes(&self) -> Vec<u32> {
        let mut pids: Vec<u32> = Vec::new();
        walk(&self.directory, &mut |directory| {
            let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
            // Zero stands for a process outside this pid namespace: nothing to be done about it from here.
            pids.extend(text.lines().filter_map(|line| line.parse().ok()).filter(|pid: &u32| *pid != 0));
        });
        // Hierarchies of version 1 have those as well that only wait for somebody to ask how they ended.
        pids.retain(|pid| Stat::of(*pid).is_none_or(|stat| !stat.is_dead()));
        pids
    }

    /// Whether a process is in it or below it now.
    pub fn contains(&self, pid: u32) -> bool {
        self.processes().contains(&pid)
    }

    /// Kills everything in it and below it (cgroup.kill, Linux 5.14; one by one before that).
    pub fn kill(&self) {
        if fs::write(self.directory.join("cgroup.kill"), "1").is_ok() {
            return;
        }
        for pid in self.processes() {
            if let Ok(pid) = i32::try_from(pid) {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL);
            }
        }
    }

    /// Removes it and the groups made inside it. Groups whose last process is still being reaped are busy for
    /// a moment, hence `patience`. Gives whether it is gone.
    pub fn remove(&self, patience: Duration) -> bool {
        remove(&self.directory, patience)
    }
}

/// A name for a run's groups. Runs of other stores may have the same id in the same second, and the end of one run, which
/// several of its processes see to, must not remove a group that another has just made: hence the random part.
pub(super) fn new_name(run: &str) -> String {
    let mut random = [0; 4];
    // Only before the machine's first random bytes, which this does not wait for, can it fail.
    let mut number = std::process::id();
    if let Ok(4) = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::NONBLOCK) {
        number = u32::from_ne_bytes(random);
    }
    format!("{PREFIX}{run}.{number:08x}")
}

/// Removes a group and those below it, as [`Cgroup::remove`].
pub(super) fn remove(group: &Path, patience: Duration) -> bool {
    let end = Instant::now() + patience;
    loop {
        let mut below = Vec::new();
        walk(group, &mut |directory| below.push(directory.to_owned()));
        for directory in below.iter().rev() {
            let _ = fs::remove_dir(directory);
        }
        if !group.exists() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn read(path: &str) -> Result<Vec<u8>, CgroupError> {
    fs::read(path).map_err(|source| CgroupError::Io { what: "cannot read", path: path.into(), source })
}

/// The caller's own group in the v2 tree.
fn own_place() -> Result<Place, CgroupError> {
    own_directory(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?)
}

/// Whether no hierarchy, of whatever version, can be seen outside of this directory.
pub fn are_all_below(directory: &Path) -> bool {
    read("/proc/self/mountinfo").is_ok_and(|mountinfo| are_all_in(&mountinfo, directory))
}

fn are_all_in(mountinfo: &[u8], directory: &Path) -> bool {
    mountinfo.split(|byte| *byte == b'\n').all(|line| {
        let found = mount(line, b"cgroup2", None).or_else(|| mount(line, b"cgroup", None));
        found.is_none_or(|(_, point)| point.starts_with(directory))
    })
}

/// The group in the v2 tree that a run with these limits would be made below.
pub(super) fn parent_for(limits: LimitSet) -> Option<PathBuf> {
    own_place().ok().map(|place| place.giving(limits).directory)
}

/// The caller's own group in the v1 tree of a controller, where it has one that can be seen.
pub(super) fn own_in_v1(controller: &str) -> Option<PathBuf> {
    own_of_controller(&read("/proc/self/mountinfo").ok()?, &read("/proc/self/cgroup").ok()?, controller)
}

/// Removes groups that earlier runs left behind, because processes of theirs went on or their runner was
/// killed. The kernel refuses where anything lives in one; a group so young may be about to be used.
pub(super) fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let ours = entry.file_name().as_bytes().starts_with(PREFIX.as_bytes());
        let age = || entry.metadata().ok()?.modified().ok()?.elapsed().ok();
        if ours && age().is_some_and(|age| age > YOUNG) {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// Calls `visit` on a group and everything below it, parents first.
fn walk(directory: &Path, visit: &mut dyn FnMut(&Path)) {
    visit(directory);
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), visit);
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    directory: PathBuf,
    level: u32,
    /// Where the tree is mounted.
    top: PathBuf,
}

impl Place {
    /// This group, or the nearest above it below which groups have the controllers of these limits that the tree has at
    /// all; where none gives all of those, this one.
    fn giving(self, limits: LimitSet) -> Place {
        let names = limits.iter().filter_map(controller);
        let in_tree: Vec<&str> = names.filter(|name| gives_controller(&self.top, name)).collect();
        let gives = |directory: &Path| in_tree.iter().all(|name| gives_controller(directory, name));
        let (mut directory, mut level) = (self.directory.as_path(), self.level);
        while !gives(directory) {
            match directory.parent().filter(|_| directory != self.top && level > 0) {
                Some(above) => (directory, level) = (above, level - 1),
                None => return self,
            }
        }
        Place { directory: directory.to_owned(), level, top: self.top.clone() }
    }
}

/// The caller's own group in the tree of a v1 controller.
fn own_of_controller(mountinfo: &[u8], cgroup: &[u8], controller: &str) -> Option<PathBuf> {
    let own = cgroup.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.splitn(3, |byte| *byte == b':').skip(1);
        let (names, path) = (fields.next()?, fields.next()?);
        let named = names.split(|byte| *byte == b',').any(|name| name == controller.as_bytes());
        named.then(|| PathBuf::from(OsStr::from_bytes(path)))
    })?;
    if own.components().any(|part| part == Component::ParentDir) {
        return None;
    }
    mountinfo.split(|byte| *byte == b'\n').find_map(|line| {
        let (root, point) = mount(line, b"cgroup", Some(controller))?;
        own.strip_prefix(&root).ok().map(|below| point.join(below))
    })
}

/// The caller's own group, from the text of /proc/self/mountinfo and /proc/self/cgroup.
fn own_directory(mountinfo: &[u8], cgroup: &[u8]) -> Result<Place, CgroupError> {
    let own = cgroup
        .split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(b"0::"))
        .map(|path| PathBuf::from(OsStr::from_bytes(path)))
        .ok_or(CgroupError::NoHierarchy)?;
    if own.components().any(|part| part == Component::ParentDir) {
        return Err(CgroupError::OutsideMount(own.display().to_string()));
    }
    let level = own.components().filter(|part| matches!(part, Component::Normal(_))).count();
    let mut seen = false;
    for line in mountinfo.split(|byte| *byte == b'\n') {
        let Some((root, point)) = mount(line, b"cgroup2", None) else { continue };
        seen = true;
        if let Ok(below) = own.strip_prefix(&root) {
            let directory = if below.as_os_str().is_empty() { point.clone() } else { point.join(below) };
            return Ok(Place { directory, level: u32::try_from(level).unwrap_or(u32::MAX), top: point });
        }
    }
    Err(if seen { CgroupError::OutsideMount(own.display().to_string()) } else { CgroupError::NoHierarchy })
}

/// Root and mount point of a line of mountinfo, if it is a mount of this type with this option of its file system
/// (proc_pid_mountinfo(5)).
fn mount(line: &[u8], kind: &[u8], option: Option<&str>) -> Option<(PathBuf, PathBuf)> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let separator = fields.iter().position(|field| *field == b"-")?;
    if *fields.get(separator + 1)? != kind {
        return None;
    }
    if let Some(option) = option {
        fields.get(separator + 3)?.split(|byte| *byte == b',').find(|found| *found == option.as_bytes())?;
    }
    let path = |field: &[u8]| PathBuf::from(OsStr::from_bytes(&unescape(field)));
    Some((path(fields.get(3)?), path(fields.get(4)?)))
}

/// Space, tab, newline and backslash stand as three octal digits in mountinfo.
pub(super) fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = (first == b'\\')
            .then(|| tail.get(..3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match escaped {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    bytes
}

fn in_first_namespace() -> bool {
    fs::metadata("/proc/self/ns/cgroup").is_ok_and(|found| found.ino() == FIRST_CGROUP_NAMESPACE)
}

#[cfg(test)]
mod tests {
    use policy::settings::Limit;

    use super::*;

    #[test]
    fn a_group_below_a_users_can_be_left() {
        let above = tempfile::tempdir().unwrap();
        let procs = above.path().join("cgroup.procs");
        let group = above.path().join("sandbox-run");
        assert_eq!(owner_above(&group), None);
        fs::write(&procs, "").unwrap();
        let me = nix::unistd::geteuid().as_raw();
        assert_eq!(owner_above(&group), Some(me).filter(|uid| *uid != 0));
        if me == 0 {
            std::os::unix::fs::chown(&procs, Some(1000), None).unwrap();
            assert_eq!(owner_above(&group), Some(1000));
        }
    }

    /// Needs root and a v2 hierarchy; where they are missing there is nothing to test.
    #[test]
    fn a_group_holds_lists_and_kills_its_processes() {
        let run = format!("test-{}", std::process::id());
        let Ok(cgroup) = Cgroup::create(&run, LimitSet::EMPTY) else {
            assert!(std::env::var_os("SANDBOX_TESTS").is_none_or(|value| value != "required"));
            eprintln!("skipped: no control group can be made here");
            return;
        };
        // The same run again, as from another store: its group is another's also once it is gone.
        let other = Cgroup::create(&run, LimitSet::EMPTY).unwrap();
        assert_ne!(cgroup.id(), other.id());
        assert!(other.remove(Duration::ZERO));
        let third = Cgroup::create(&run, LimitSet::EMPTY).unwrap();
        assert!(other.remove(Duration::ZERO) && third.directory().exists());
        assert!(third.remove(Duration::ZERO));

        use std::os::unix::process::ExitStatusExt;
        let sleep = || std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let (mut inside, mut outside) = (sleep(), sleep());
        cgroup.add(inside.id()).unwrap();
        assert_eq!(cgroup.processes(), [inside.id()]);
        assert!(cgroup.contains(inside.id()) && !cgroup.contains(outside.id()));
        fs::create_dir(cgroup.directory().join("below")).unwrap();
        fs::write(cgroup.directory().join("below/cgroup.procs"), inside.id().to_string()).unwrap();
        assert!(cgroup.contains(inside.id()), "in a group made below it");
        assert!(!cgroup.remove(Duration::ZERO), "it is in use");
        cgroup.kill();
        assert_eq!(inside.wait().unwrap().signal(), Some(libc::SIGKILL));
        assert!(outside.try_wait().unwrap().is_none());
        outside.kill().unwrap();
        outside.wait().unwrap();
        assert!(cgroup.remove(Duration::from_secs(5)));
        assert!(!cgroup.directory().exists());
    }

    const UNIFIED: &[u8] = b"31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn the_own_group_is_found_in_unified_and_hybrid_layouts() {
        let own = own_directory(UNIFIED, b"0::/user.slice/user-1000.slice/session-1.scope\n").unwrap();
        assert_eq!(own.directory, Path::new("/sys/fs/cgroup/user.slice/user-1000.slice/session-1.scope"));
        assert_eq!(own.level, 3);

        let hybrid = b"31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
            38 31 0:35 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n";
        let own = own_directory(hybrid, b"4:memory:/a\n0::/\n").unwrap();
        let top = PathBuf::from("/sys/fs/cgroup/unified");
        assert_eq!(own, Place { directory: top.clone(), level: 0, top });
    }

    #[test]
    fn the_own_group_of_a_v1_controller_is_found() {
        let mounts = b"32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
            35 31 0:32 /docker/a /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let own = |cgroup: &[u8], name| own_of_controller(mounts, cgroup, name);
        let found = own(b"4:memory:/docker/a/b\n2:cpu,cpuacct:/user\n0::/\n", "memory");
        assert_eq!(found, Some("/sys/fs/cgroup/memory/b".into()));
        assert_eq!(own(b"2:cpu,cpuacct:/user\n", "cpu"), Some("/sys/fs/cgroup/cpu,cpuacct/user".into()));
        assert_eq!(own(b"2:cpu,cpuacct:/user\n", "cpua"), None);
        assert_eq!(own(b"4:memory:/elsewhere\n", "memory"), None);
        assert_eq!(own(b"4:memory:/docker/a/../x\n", "memory"), None);
        assert_eq!(own(b"8:pids:/\n", "pids"), None, "it is mounted nowhere");
    }

    #[test]
    fn a_hierarchy_elsewhere_is_found() {
        let place = Path::new("/sys");
        assert!(are_all_in(UNIFIED, place) && are_all_in(b"", place));
        for elsewhere in [
            &b"38 31 0:35 / /dev/memory rw - cgroup cgroup rw,memory\n"[..],
            b"41 31 0:38 /a /system rw,relatime shared:9 - cgroup2 none rw\n",
        ] {
            assert!(!are_all_in(&[UNIFIED, elsewhere].concat(), place));
        }
    }

    #[test]
    fn limits_are_set_where_their_controllers_are_given() {
        let tree = tempfile::tempdir().unwrap();
        let own = tree.path().join("user/session");
        fs::create_dir_all(&own).unwrap();
        let give =
            |group: &Path, names: &str| fs::write(group.join("cgroup.subtree_control"), names).unwrap();
        let place = Place { directory: own.clone(), level: 2, top: tree.path().to_owned() };
        let giving = |limits: &[Limit]| {
            let Place { directory, level, .. } = place.clone().giving(limits.iter().copied().collect());
            (directory.strip_prefix(tree.path()).unwrap().to_owned(), level)
        };
        give(tree.path(), "cpu memory pids\n");
        give(&tree.path().join("user"), "memory pids\n");
        give(&own, "");
        assert_eq!(giving(&[]), ("user/session".into(), 2));
        assert_eq!(giving(&[Limit::Time]), ("user/session".into(), 2));
        assert_eq!(giving(&[Limit::Memory, Limit::Processes]), ("user".into(), 1));
        assert_eq!(giving(&[Limit::Cpu]), ("".into(), 0));
        // What the tree has not is not looked for in it.
        give(tree.path(), "pids\n");
        assert_eq!(giving(&[Limit::Memory]), ("user/session".into(), 2));
        assert_eq!(giving(&[Limit::Memory, Limit::Processes]), ("user".into(), 1));
    }

    #[test]
    fn a_mount_of_a_part_is_taken_at_its_root() {
        let part = b"41 31 0:38 /docker/abc /sys/fs/cg\\040roup rw - cgroup2 cgroup2 rw\n";
        let own = own_directory(part, b"0::/docker/abc/x\n").unwrap();
        assert_eq!(own.directory, Path::new("/sys/fs/cg roup/x"));
        assert!(matches!(own_directory(part, b"0::/other\n"), Err(CgroupError::OutsideMount(_))));
        assert!(matches!(own_directory(UNIFIED, b"0::/../x\n"), Err(CgroupError::OutsideMount(_))));
    }

    #[test]
    fn without_v2_there_is_none() {
        assert!(matches!(own_directory(b"", b"0::/\n"), Err(CgroupError::NoHierarchy)));
        assert!(matches!(own_directory(UNIFIED, b"1:cpu:/\n"), Err(CgroupError::NoHierarchy)));
    }
}
