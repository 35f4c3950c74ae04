//! Where names start and lead: directories of a task that waits, by /proc, and where the kernel has a name already.
//!
//! Nothing here waits for a file system that a process serves: one inside the run would wait for the call that waits for
//! us. What the kernel does not have at hand there is recorded as it was called.

use std::ffi::OsStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use sandbox_ebpf::abi::event::flag;

use super::super::told;
use super::task::{self, Target};

/// Superblock magics that [`crate::event::decode`] tells nameless objects by (`include/uapi/linux/magic.h`).
const PIPEFS: u64 = 0x5049_5045;
const SOCKFS: u64 = 0x534f_434b;
const ANON_INODE: u64 = 0x0904_1934;
const NSFS: u64 = 0x6e73_6673;
const TMPFS: u64 = 0x0102_1994;

/// A directory or another object of a task, as a record has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Object {
    /// Component names, leaf first, each ended by NUL.
    pub part: Vec<u8>,
    /// The same as a path, where it has one.
    pub path: Option<Vec<u8>>,
    /// [`flag`] bits.
    pub flags: u16,
    /// Of what has no path: the magic number of its kind, and its inode.
    pub magic: u64,
    /// As said.
    pub ino: u64,
}

/// A path as a record has it.
pub fn walk(path: &[u8]) -> Vec<u8> {
    let mut part = Vec::with_capacity(path.len() + 1);
    for name in path.rsplit(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        part.extend_from_slice(name);
        part.push(0);
    }
    part
}

impl Object {
    fn of(target: Target) -> Object {
        match target {
            Target::Path(path) => Object { part: walk(&path), path: Some(path), ..Object::default() },
            Target::Nameless(name) => nameless(&name),
            Target::TooFar => Object { flags: flag::NO_BASE | flag::TRUNCATED, ..Object::default() },
            Target::Nowhere => Object { flags: flag::NO_BASE, ..Object::default() },
            Target::Closed => Object { flags: flag::NO_BASE | told::CLOSED, ..Object::default() },
        }
    }

    /// The working directory.
    pub fn working_directory(tid: u32) -> Object {
        Object::of(task::link(&format!("/proc/{tid}/cwd")))
    }

    /// What is behind a descriptor.
    pub fn descriptor(tid: u32, descriptor: u64) -> Object {
        match i32::try_from(descriptor as u32) {
            Ok(fd) => Object::of(task::link(&format!("/proc/{tid}/fd/{fd}"))),
            Err(_) => Object::of(Target::Nowhere),
        }
    }

    /// The directory that absolute names start from: another than `/` where the task has changed its root.
    pub fn root(tid: u32) -> Object {
        Object::of(task::link(&format!("/proc/{tid}/root")))
    }
}

/// What /proc shows as `pipe:[7]`, `anon_inode:[eventfd]` or `/memfd:name`.
fn nameless(name: &[u8]) -> Object {
    let inode = || {
        let inside = name.split(|byte| *byte == b'[').nth(1)?.strip_suffix(b"]")?;
        std::str::from_utf8(inside).ok()?.parse().ok()
    };
    let (magic, part) = if name.starts_with(b"pipe:") {
        (PIPEFS, Vec::new())
    } else if name.starts_with(b"socket:") {
        (SOCKFS, Vec::new())
    } else if let Some(kind) = name.strip_prefix(b"anon_inode:") {
        (ANON_INODE, [kind, b"\0"].concat())
    } else if name.starts_with(b"/") {
        (TMPFS, walk(name))
    } else {
        (NSFS, Vec::new())
    };
    Object { part, path: None, flags: flag::DETACHED, magic, ino: inode().unwrap_or(0) }
}

/// Where a name leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// To a file that is there, with this path.
    There(Vec<u8>),
    /// To nothing; it would have this path.
    Absent(Vec<u8>),
    /// To an object without a place, through a link of /proc.
    Nameless(Object),
    /// The kernel would have to ask a file system, or the name leads through another process's descriptors; if its
    /// directory is known, the path is told.
    Unknown(Option<Vec<u8>>),
}

/// Whether a link in the last place is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    /// It is.
    Followed,
    /// It is, and where it leads to nothing a file is made there.
    Made,
    /// The call is about the link itself.
    Itself,
}

/// Looks where an absolute name leads as the process `pid`, thread `tid`, would see it. Call it for tasks that share
/// this process's root.
pub fn find(name: &[u8], last: Last, pid: u32, tid: u32) -> Found {
    let own = of_caller(name, pid, tid);
    let own = match through_link(own.as_deref().unwrap_or(name)) {
        Some(Object { path: Some(path), .. }) => Some(path),
        Some(object) if object.flags & flag::DETACHED != 0 => return Found::Nameless(object),
        // It is nobody's, or closed to us.
        Some(_) | None => own,
    };
    let shown = own.is_some();
    let mut name = own.unwrap_or_else(|| name.to_vec());
    if last == Last::Made {
        name = behind_links(name);
    }
    let name = name.as_slice();
    match reach(name, last).and_then(|file| path(&file)) {
        Ok(path) => Found::There(path),
        Err(error) => match (error, beside(name)) {
            (Errno::NOENT, Some(path)) => Found::Absent(path),
            // Where a file is to be made it matters that there is no directory either: nothing will be.
            (Errno::NOENT, None) if last != Last::Made && is_nowhere(name) => Found::Absent(join(b"/", name)),
            // Cannot be opened by us, or not without waiting.
            (_, path) => Found::Unknown(path.or_else(|| shown.then(|| name.to_vec()))),
        },
    }
}

/// Follows links in the last place that lead to nothing: a file is made where they lead, and not in their own place.
fn behind_links(mut name: Vec<u8>) -> Vec<u8> {
    for _ in 0..LINKS {
        if reach(&name, Last::Followed).err() != Some(Errno::NOENT) {
            break;
        }
        let Some((directory, _)) = split(&name) else { break };
        let target =
            reach(&name, Last::Itself).and_then(|link| rustix::fs::readlinkat(&link, "", Vec::new()));
        match target {
            Ok(target) if target.as_bytes().starts_with(b"/") => name = target.into_bytes(),
            Ok(target) => name = [directory, target.as_bytes()].concat(),
            Err(_) => break,
        }
    }
    name
}

/// The name in its directory, where that is known.
fn beside(name: &[u8]) -> Option<Vec<u8>> {
    let (directory, leaf) = split(name)?;
    let mut path = path(&reach(directory, Last::Followed).ok()?).ok()?;
    if path != b"/" {
        path.push(b'/');
    }
    path.extend_from_slice(leaf);
    Some(path)
}

/// Whether the directory that a name would be in is not there.
fn is_nowhere(name: &[u8]) -> bool {
    split(name).is_some_and(|(directory, _)| reach(directory, Last::Followed).err() == Some(Errno::NOENT))
}

/// A name as its directory and its last component, where that is a name.
fn split(name: &[u8]) -> Option<(&[u8], &[u8])> {
    let trimmed = name.iter().rposition(|byte| *byte != b'/').map(|end| &name[..=end])?;
    let slash = trimmed.iter().rposition(|byte| *byte == b'/')?;
    let leaf = &trimmed[slash + 1..];
    (!matches!(leaf, b"." | b"..")).then_some((&trimmed[..=slash], leaf))
}

/// Appends a name to a directory without symbolic links, as records have it: empty and `.` components go, leading `..` are
/// resolved.
pub fn join(base: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = base.strip_suffix(b"/").unwrap_or(base).to_vec();
    let mut leading = true;
    for component in name.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." if leading => path.truncate(path.iter().rposition(|byte| *byte == b'/').unwrap_or(0)),
            _ => {
                leading = false;
                path.push(b'/');
                path.extend_from_slice(component);
            }
        }
    }
    if path.is_empty() { b"/".to_vec() } else { path }
}

/// Where a name leads that goes through a link to what a process has open: such links hold the object itself, and are
/// followed by name here. What is behind them in the name is appended.
fn through_link(name: &[u8]) -> Option<Object> {
    let text = std::str::from_utf8(name).ok()?;
    let mut words = text.strip_prefix("/proc/")?.split('/');
    let mut link = format!("/proc/{}", words.next()?.parse::<u32>().ok()?);
    let mut word = words.next()?;
    if word == "task" {
        link = format!("{link}/task/{}", words.next()?.parse::<u32>().ok()?);
        word = words.next()?;
    }
    match word {
        "cwd" | "root" | "exe" => link = format!("{link}/{word}"),
        "fd" => link = format!("{link}/fd/{}", words.next()?.parse::<u32>().ok()?),
        _ => return None,
    }
    let rest = text.strip_prefix(&link)?;
    let object = Object::of(task::link(&link));
    match object.path.clone() {
        Some(path) if !rest.is_empty() => {
            let directory = path.strip_suffix(b"/").unwrap_or(&path);
            Some(Object { path: Some([directory, rest.as_bytes()].concat()), ..object })
        }
        _ => Some(object),
    }
}

/// `/proc/self` is another for the caller than for us.
fn of_caller(name: &[u8], pid: u32, tid: u32) -> Option<Vec<u8>> {
    let ours: [(&[u8], String); 6] = [
        // What every system makes these links to.
        (b"/dev/fd", format!("/proc/{pid}/fd")),
        (b"/dev/stdin", format!("/proc/{pid}/fd/0")),
        (b"/dev/stdout", format!("/proc/{pid}/fd/1")),
        (b"/dev/stderr", format!("/proc/{pid}/fd/2")),
        (b"/proc/self", format!("/proc/{pid}")),
        (b"/proc/thread-self", format!("/proc/{pid}/task/{tid}")),
    ];
    ours.into_iter().find_map(|(prefix, own)| {
        let rest = name.strip_prefix(prefix)?;
        (rest.is_empty() || rest.starts_with(b"/")).then(|| [own.as_bytes(), rest].concat())
    })
}

/// Links that are followed at most, as by the kernel (MAXSYMLINKS).
const LINKS: usize = 40;

/// Opens what the kernel has at hand; and what it does not have, step by step, as long as a file system answers that no
/// process serves.
fn reach(name: &[u8], last: Last) -> Result<OwnedFd, Errno> {
    step(name, last, &mut LINKS.clone())
}

fn step(name: &[u8], last: Last, links: &mut usize) -> Result<OwnedFd, Errno> {
    let (directory, leaf) = match (at_hand(name, last), split(name)) {
        (Err(Errno::AGAIN), Some(split)) => split,
        (found, _) => return found,
    };
    let above = step(directory, Last::Followed, links)?;
    if !answers_by_itself(&above) {
        return Err(Errno::AGAIN);
    }
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let leaf = Path::new(OsStr::from_bytes(leaf));
    let file = rustix::fs::openat2(&above, leaf, flags, Mode::empty(), resolve)?;
    let is_link = FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) == FileType::Symlink;
    if last == Last::Itself || !is_link {
        return Ok(file);
    }
    // A link that was not read lately is not followed without more ado: its time of reading would have to be written.
    *links = links.checked_sub(1).ok_or(Errno::LOOP)?;
    let target = rustix::fs::readlinkat(&file, "", Vec::new())?.into_bytes();
    match target.starts_with(b"/") {
        true => step(&target, last, links),
        false => step(&[&path(&above)?, &b"/"[..], &target].concat(), last, links),
    }
}

/// Opens a name without asking any file system.
pub fn at_hand(name: &[u8], last: Last) -> Result<OwnedFd, Errno> {
    let mut flags = OFlags::PATH | OFlags::CLOEXEC;
    if last == Last::Itself {
        flags |= OFlags::NOFOLLOW;
    }
    let resolve = ResolveFlags::CACHED | ResolveFlags::NO_MAGICLINKS;
    let path = Path::new(OsStr::from_bytes(name));
    rustix::fs::openat2(rustix::fs::CWD, path, flags, Mode::empty(), resolve)
}

/// Whether the file system of a directory is one that the kernel serves from memory or a disk.
fn answers_by_itself(directory: &OwnedFd) -> bool {
    /// `include/uapi/linux/magic.h`: ext4, xfs, btrfs, tmpfs, overlay, proc, sysfs, squashfs, erofs, f2fs, ramfs.
    const LOCAL: [u32; 11] = [
        0xEF53,
        0x5846_5342,
        0x9123_683E,
        0x0102_1994,
        0x794C_7630,
        0x9FA0,
        0x6265_6572,
        0x7371_7368,
        0xE0F5_E1E2,
        0xF2F5_2010,
        0x8584_58F6,
    ];
    rustix::fs::fstatfs(directory).is_ok_and(|found| LOCAL.contains(&(found.f_type as u32)))
}

/// The path of an open file.
fn path(file: &OwnedFd) -> Result<Vec<u8>, Errno> {
    let found = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(|_| Errno::IO)?;
    let found = found.as_os_str().as_bytes();
    // Through a link to /proc/self that was not seen in the name.
    let own = format!("/proc/{}", std::process::id());
    let is_own = found.strip_prefix(own.as_bytes()).is_some_and(|rest| rest.is_empty() || rest[0] == b'/');
    if is_own || !found.starts_with(b"/") { Err(Errno::XDEV) } else { Ok(found.to_vec()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_walked_leaf_first() {
        assert_eq!(walk(b"/a/bc"), b"bc\0a\0");
        assert_eq!(walk(b"/"), b"");
        assert_eq!(nameless(b"pipe:[17]").ino, 17);
        assert_eq!(nameless(b"anon_inode:[eventfd]").part, b"[eventfd]\0");
        assert_eq!(nameless(b"/memfd:x").part, b"memfd:x\0");
    }

    #[test]
    fn names_lead_through_links() {
        let place = tempfile::tempdir().unwrap();
        let top = place.path().canonicalize().unwrap();
        std::fs::create_dir(top.join("real")).unwrap();
        std::fs::write(top.join("real/file"), "").unwrap();
        std::os::unix::fs::symlink("real", top.join("dir")).unwrap();
        std::os::unix::fs::symlink("file", top.join("real/link")).unwrap();
        let name = |tail: &str| [top.as_os_str().as_bytes(), tail.as_bytes()].concat();
        let find = |tail: &str, last| find(&name(tail), last, 1, 1);
        assert_eq!(find("/dir/link", Last::Followed), Found::There(name("/real/file")));
        assert_eq!(find("/dir/link", Last::Itself), Found::There(name("/real/link")));
        assert_eq!(find("/dir/../dir/none", Last::Followed), Found::Absent(name("/real/none")));
        assert_eq!(find("/no/./such//file", Last::Followed), Found::Absent(name("/no/such/file")));
        assert_eq!(find("/no/such/file", Last::Made), Found::Unknown(None));
        std::os::unix::fs::symlink("dir/later", top.join("dangling")).unwrap();
        assert_eq!(find("/dangling", Last::Made), Found::Absent(name("/real/later")));
        assert_eq!(find("/dangling", Last::Followed), Found::Absent(name("/dangling")));
        assert_eq!(join(b"/a/b", b"./../c//d/../e"), b"/a/c/d/../e");
        assert_eq!(join(b"/", b"../.."), b"/");
    }

    #[test]
    fn what_is_the_callers_own_is_not_ours() {
        let pid = std::process::id();
        let found = find(b"/proc/self/status", Last::Followed, 1, 1);
        assert_eq!(found, Found::There(b"/proc/1/status".to_vec()));
        let (task, other) = (format!("/proc/{pid}/comm"), find(b"/proc/mounts", Last::Followed, 1, 1));
        assert!(
            matches!(other, Found::Unknown(_)),
            "{other:?}: it leads through /proc/self, which is {task}"
        );
    }
}
