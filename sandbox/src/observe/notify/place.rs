//! Where names start: directories of a task that waits, by /proc, and what a record says of them. Where names lead is looked
//! up in [`super::lookup`].

use sandbox_ebpf::abi::event::flag;

use super::super::told;
pub use super::lookup::find;
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
pub fn nameless(name: &[u8]) -> Object {
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

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::super::lookup::{How, Led, View};
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
        let caller = Caller::start(&top);
        let find = |tail: &str, last| caller.find(&name(tail), last);
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

    /// A process that waits, with a working directory.
    struct Caller(std::process::Child);

    impl Caller {
        fn start(directory: &std::path::Path) -> Caller {
            let mut command = std::process::Command::new("cat");
            let command = command.current_dir(directory).stdin(std::process::Stdio::piped());
            Caller(command.spawn().unwrap())
        }

        fn find(&self, name: &[u8], last: Last) -> Found {
            find(name, last, self.0.id(), self.0.id())
        }

        fn look(&self, name: &[u8], how: How) -> Led {
            let view = View::of(self.0.id(), self.0.id()).unwrap();
            view.find(Some(view.working_directory().unwrap()), name, how)
        }
    }

    impl Drop for Caller {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    #[test]
    fn what_is_the_callers_own_is_not_ours() {
        let place = tempfile::tempdir().unwrap();
        let top = place.path().canonicalize().unwrap();
        std::fs::write(top.join("file"), "").unwrap();
        for (link, target) in
            [("cwd", "/proc/self/cwd"), ("link", "/proc/thread-self/cwd/file"), ("later", "cwd/made")]
        {
            std::os::unix::fs::symlink(target, top.join(link)).unwrap();
        }
        let caller = Caller::start(&top);
        let pid = caller.0.id();
        let own = |tail: &str| format!("/proc/{pid}/{tail}").into_bytes();
        let name = |tail: &str| [top.as_os_str().as_bytes(), tail.as_bytes()].concat();
        let find = |name: &str, last| caller.find(name.as_bytes(), last);
        assert_eq!(find("/proc/self/status", Last::Followed), Found::There(own("status")));
        assert_eq!(find("/proc/mounts", Last::Followed), Found::There(own("mounts")));
        assert_eq!(find("/proc/self/none", Last::Followed), Found::Absent(own("none")));
        assert_eq!(find("/proc/self/cwd", Last::Itself), Found::There(own("cwd")));
        assert!(
            matches!(find("/proc/self/fd/0", Last::Followed), Found::Nameless(pipe) if pipe.magic == PIPEFS)
        );
        assert_eq!(find("/proc/self/cwd/file", Last::Followed), Found::There(name("/file")));
        assert_eq!(find("/proc/self/root/..//.", Last::Followed), Found::There(b"/".to_vec()));
        let find = |tail: &str, last| caller.find(&name(tail), last);
        assert_eq!(find("/cwd/cwd/link", Last::Followed), Found::There(name("/file")));
        assert_eq!(find("/cwd/cwd/link", Last::Itself), Found::There(name("/link")));
        assert_eq!(find("/later", Last::Made), Found::Absent(name("/made")));
        let sure = |found| Led { found, sure: true };
        for (call, last, to) in [("cwd/made", Last::Made, "/made"), ("later", Last::Followed, "/later")] {
            assert_eq!(caller.look(call.as_bytes(), How::plain(last)), sure(Found::Absent(name(to))));
        }
        let gone = caller.look(b"no/such", How::plain(Last::Followed));
        assert_eq!(gone, sure(Found::Absent(name("/no/such"))));
    }

    #[test]
    fn a_directory_can_be_the_root_of_a_name() {
        let place = tempfile::tempdir().unwrap();
        let top = place.path().canonicalize().unwrap();
        std::fs::create_dir(top.join("etc")).unwrap();
        std::fs::write(top.join("etc/passwd"), "").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", top.join("link")).unwrap();
        let caller = Caller::start(&top);
        let how = How { in_root: true, ..How::plain(Last::Made) };
        let name = |tail: &str| [top.as_os_str().as_bytes(), tail.as_bytes()].concat();
        for called in ["/etc/passwd", "../../etc/passwd", "link", "/../link"] {
            let led = caller.look(called.as_bytes(), how);
            assert_eq!(led.found, Found::There(name("/etc/passwd")), "{called}");
        }
        assert_eq!(caller.look(b"/../made", how).found, Found::Absent(name("/made")));
        let plain = caller.look(b"link", How::plain(Last::Made));
        assert_eq!(plain, Led { found: Found::There(b"/etc/passwd".to_vec()), sure: true });
    }
}
