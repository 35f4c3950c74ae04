//! One user more on a directory: POSIX access control lists, as the kernel stores them.
//!
//! The attribute is a version and entries of (tag, permissions, id), little-endian, ordered by tag; see
//! `include/uapi/linux/posix_acl_xattr.h` and acl(5). Only the one list that the store needs is written.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

const VERSION: u32 = 2;
const NO_ID: u32 = u32::MAX;

const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// Lets `uid` read and enter the directory `dir`, and read whatever is made below it from now on; the owner keeps
/// everything, group and others get nothing.
///
/// `Ok(false)` where the file system has no access control lists.
pub fn let_user_read(dir: impl AsFd, uid: u32) -> io::Result<bool> {
    let list = encode(uid);
    // The default list first: were the process to die in between, nothing below would be readable too widely.
    for name in ["system.posix_acl_default", "system.posix_acl_access"] {
        match rustix::fs::fsetxattr(&dir, name, &list, XattrFlags::empty()) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

fn encode(uid: u32) -> Vec<u8> {
    let entries = [
        (USER_OBJ, 0o7u16, NO_ID),
        (USER, 0o5, uid),
        (GROUP_OBJ, 0o0, NO_ID),
        (MASK, 0o5, NO_ID),
        (OTHER, 0o0, NO_ID),
    ];
    let mut list = VERSION.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        list.extend_from_slice(&tag.to_le_bytes());
        list.extend_from_slice(&permissions.to_le_bytes());
        list.extend_from_slice(&id.to_le_bytes());
    }
    list
}
