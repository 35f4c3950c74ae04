//! How calls take their names: what they do with a symbolic link in the last place, and from where on links may be on the
//! way. Where the names lead is `event::links`'s.

use sandbox_ebpf::abi::event::{Kind, flag};

use super::{Last, Way, attempt::Record, path};
use crate::kernel::syscalls;

/// The last component of a name, if it is a name.
pub fn leaf(name: &[u8]) -> Option<&[u8]> {
    let last = name.rsplit(|byte| *byte == b'/').find(|part| !part.is_empty())?;
    (!matches!(last, b"." | b"..")).then_some(last)
}

impl Record<'_> {
    /// How the call takes its first name (`part` 0) or its second (`part` 2); none where the record has no such name, or not
    /// all of it.
    pub(super) fn way(&self, part: usize) -> Option<Way> {
        let cut = flag::TRUNCATED | flag::FOLLOWS_CHECK;
        let by_descriptor = part == 0 && self.has(flag::BY_DESCRIPTOR);
        let second = matches!(self.kind, Kind::Rename | Kind::Link);
        if self.has(cut) || by_descriptor || (part == 2 && !second) {
            return None;
        }
        let name = &self.parts[part + 1];
        if name.is_empty() {
            return None;
        }
        let base = self.directory(part);
        if !name.starts_with(b"/") && base.is_none_or(path::is_cut) {
            return None;
        }
        let known = path::known(base, name);
        Some(Way { known, last: self.last(part, name) })
    }

    fn last(&self, part: usize, name: &[u8]) -> Last {
        let nofollow = |flags: u64| match flags & libc::AT_SYMLINK_NOFOLLOW as u64 {
            0 => Last::Followed,
            _ => Last::Itself,
        };
        let [first, second, ..] = self.header.args;
        let last = match (self.kind, syscalls::name(self.header.arch, self.header.syscall)) {
            (Kind::Link, _) if part == 0 && first & libc::AT_SYMLINK_FOLLOW as u64 != 0 => Last::Followed,
            (Kind::Link, _) if part == 0 => Last::Itself,
            (Kind::Truncate, _) => Last::Followed,
            (Kind::Chmod, Some("fchmodat2")) => nofollow(second),
            (Kind::Chown, Some("fchownat")) => Last::Untold,
            (Kind::Utimes, Some("utimensat" | "utimensat_time64")) => nofollow(first),
            (Kind::Xattr, Some("setxattrat" | "removexattrat")) => nofollow(first),
            (Kind::Chown, Some("lchown" | "lchown32")) => Last::Itself,
            (Kind::Xattr, Some("lsetxattr" | "lremovexattr")) => Last::Itself,
            (Kind::Chmod | Kind::Chown | Kind::Utimes | Kind::Xattr, _) => Last::Followed,
            // About an entry of a directory: not even a slash behind the name follows a link.
            _ => return Last::Itself,
        };
        // A directory is meant, whatever the call would do with a link.
        let directory = name.ends_with(b"/") || name.ends_with(b"/.");
        if directory { Last::Followed } else { last }
    }
}
