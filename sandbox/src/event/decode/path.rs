//! Paths out of a record's parts: component names, leaf first, and the name that a caller gave.
//!
//! Resolves nothing on a file system: only a leading `..`, which is exact because the directory before it is
//! the kernel's own path, without symbolic links.

use sandbox_ebpf::abi::event::PATH_MAX;

/// Superblock magics, `include/uapi/linux/magic.h`.
mod magic {
    pub const PIPEFS: u64 = 0x5049_5045;
    pub const SOCKFS: u64 = 0x534f_434b;
    pub const ANON_INODE: u64 = 0x0904_1934;
    pub const NSFS: u64 = 0x6e73_6673;
    pub const TMPFS: u64 = 0x0102_1994;
}

/// The components of a walk, root first. A part without components is the root directory.
fn components(part: &[u8]) -> impl Iterator<Item = &[u8]> {
    part.strip_suffix(&[0]).unwrap_or(part).rsplit(|byte| *byte == 0).filter(|name| !name.is_empty())
}

/// Appends the path of a walk, without a slash where it is the root directory.
fn push(path: &mut Vec<u8>, part: &[u8]) {
    for name in components(part) {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    if is_cut(part) {
        // The walk ended before the root: what there is must not look absolute.
        path.remove(0);
    }
}

/// Whether a walk stopped because it was too long; its components nearest to the root are missing.
pub fn is_cut(part: &[u8]) -> bool {
    part.len() > PATH_MAX
}

/// The path of an object that is reached from a root.
pub fn of_object(part: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(part.len() + 1);
    push(&mut path, part);
    if path.is_empty() {
        path.push(b'/');
    }
    path
}

/// The name of an object that no root leads to, as /proc/PID/fd shows it where that can be told.
pub fn of_detached(part: &[u8], magic: u64, ino: u64) -> Option<Vec<u8>> {
    let name = || components(part).collect::<Vec<_>>().join(&b'/');
    match magic {
        magic::PIPEFS => Some(format!("pipe:[{ino}]").into_bytes()),
        magic::SOCKFS => Some(format!("socket:[{ino}]").into_bytes()),
        magic::NSFS => Some(format!("ns:[{ino}]").into_bytes()),
        magic::ANON_INODE => Some([b"anon_inode:", &name()[..]].concat()),
        magic::TMPFS => Some([b"/", &name()[..]].concat()),
        _ => Some(name()).filter(|name| !name.is_empty()),
    }
}

/// Joins the directory that a name starts from and the name: `.` and empty components go, leading `..` are
/// resolved against the directory, later ones stay, because what precedes them may be a symbolic link.
///
/// Without a directory a relative name stays as it was given.
pub fn join(base: Option<&[u8]>, name: &[u8]) -> Vec<u8> {
    join_known(base, name).0
}

/// How many bytes of the two joined are the directory's: no symbolic link is on the way there.
pub fn known(base: Option<&[u8]>, name: &[u8]) -> usize {
    match base {
        _ if name.starts_with(b"/") => 0,
        // Each component has a byte behind it here, and one before it in a path.
        Some(part) if !name.starts_with(b".") => part.len(),
        base => join_known(base, name).1,
    }
}

fn join_known(base: Option<&[u8]>, name: &[u8]) -> (Vec<u8>, usize) {
    let absolute = name.first() == Some(&b'/');
    let mut path = Vec::with_capacity(base.map_or(0, <[u8]>::len) + name.len() + 1);
    match base {
        _ if absolute => {}
        Some(part) => push(&mut path, part),
        None => return (name.to_vec(), 0),
    }
    let mut leading = true;
    let mut known = None;
    for component in name.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." if leading => {
                let parent = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                path.truncate(parent);
            }
            _ => {
                leading = false;
                known.get_or_insert(path.len());
                path.push(b'/');
                path.extend_from_slice(component);
            }
        }
    }
    let known = known.unwrap_or(path.len());
    if path.is_empty() {
        path.push(b'/');
    }
    (path, known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn walks_are_turned_round() {
        assert_eq!(of_object(b"c\0b\0a\0"), b"/a/b/c");
        assert_eq!(of_object(b""), b"/");
    }

    #[test]
    fn a_cut_walk_does_not_look_absolute() {
        let part = b"abcdefgh\0".repeat(PATH_MAX / 9 + 1);
        assert!(is_cut(&part));
        assert!(of_object(&part).starts_with(b"abcdefgh/"));
        assert!(join(Some(&part), b"x").starts_with(b"abcdefgh/"));
    }

    #[test]
    fn objects_without_a_root_have_names() {
        assert_eq!(of_detached(b"\0", magic::PIPEFS, 7).unwrap(), b"pipe:[7]");
        assert_eq!(of_detached(b"\0", magic::SOCKFS, 8).unwrap(), b"socket:[8]");
        assert_eq!(of_detached(b"[eventfd]\0", magic::ANON_INODE, 9).unwrap(), b"anon_inode:[eventfd]");
        assert_eq!(of_detached(b"memfd:x\0", magic::TMPFS, 9).unwrap(), b"/memfd:x");
        assert_eq!(of_detached(b"\0", 1, 9), None);
    }

    #[test]
    fn names_without_a_directory_stay_as_given() {
        assert_eq!(join(None, b"../a//b/"), b"../a//b/");
        assert_eq!(join(None, b"//a//b/"), b"/a/b");
    }

    #[test]
    fn what_the_kernel_said_is_known() {
        let part = b"b\0a\0";
        let known = |name: &str| known(Some(part), name.as_bytes());
        assert_eq!([known("x/y"), known("./../x"), known("..//."), known("../../../x")], [4, 2, 2, 0]);
        assert_eq!([known("/x"), known("x/../y"), known(".")], [0, 4, 4]);
    }

    /// The same, told with lists of components.
    fn oracle(base: &[String], name: &str) -> String {
        let mut parts: Vec<&str> =
            if name.starts_with('/') { Vec::new() } else { base.iter().map(String::as_str).collect() };
        let given: Vec<&str> = name.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        let up = given.iter().take_while(|part| **part == "..").count();
        parts.truncate(parts.len().saturating_sub(up));
        parts.extend(&given[up..]);
        format!("/{}", parts.join("/"))
    }

    proptest! {
        #[test]
        fn join_agrees_with_the_oracle(
            base in prop::collection::vec("[a-c .]{1,3}", 0..5),
            slash in "/{0,2}",
            name in prop::collection::vec("\\.|\\.\\.||[a-c.]{1,4}", 0..7),
        ) {
            let part: Vec<u8> = base.iter().rev().flat_map(|name| name.bytes().chain([0])).collect();
            let name = format!("{slash}{}", name.join("/"));
            let expected = oracle(&base, &name);
            prop_assert_eq!(String::from_utf8(join(Some(&part), name.as_bytes())).unwrap(), expected);
            prop_assert_eq!(known(Some(&part), name.as_bytes()), join_known(Some(&part), name.as_bytes()).1);
        }
    }
}
