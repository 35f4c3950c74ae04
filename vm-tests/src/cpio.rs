//! Writes archives in cpio's "newc" format, as the kernel unpacks them at boot.
//!
//! Only what an initramfs needs: directories, regular files, symbolic links, character devices. Format:
//! Documentation/driver-api/early-userspace/buffer-format.rst in the kernel's sources.

use std::io::{self, Write};

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file with its content.
    File(Vec<u8>),
    /// A symbolic link to this target.
    Symlink(String),
    /// A character device: major, minor.
    Device(u32, u32),
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Absolute path in the guest.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Owner and group.
    pub owner: u32,
    /// What it is.
    pub kind: Kind,
}

/// Writes `entries` and the trailer. Parents must stand before what is in them; times are 0, so that equal
/// entries make equal archives.
///
/// # Errors
/// Those of `out`, and InvalidInput for a file of 4 GiB or more.
pub fn write(out: &mut impl Write, entries: &[Entry]) -> io::Result<()> {
    for (inode, entry) in (1u32..).zip(entries) {
        let (format, content): (u32, &[u8]) = match &entry.kind {
            Kind::Directory => (libc::S_IFDIR, &[]),
            Kind::File(bytes) => (libc::S_IFREG, bytes),
            Kind::Symlink(target) => (libc::S_IFLNK, target.as_bytes()),
            Kind::Device(..) => (libc::S_IFCHR, &[]),
        };
        let device = if let Kind::Device(major, minor) = entry.kind { (major, minor) } else { (0, 0) };
        let name = entry.path.trim_start_matches('/');
        let head = Head { inode, mode: format | entry.mode, owner: entry.owner, device };
        write_one(out, &head, name, content)?;
    }
    write_one(out, &Head::default(), "TRAILER!!!", &[])
}

#[derive(Default)]
struct Head {
    inode: u32,
    mode: u32,
    owner: u32,
    device: (u32, u32),
}

fn write_one(out: &mut impl Write, head: &Head, name: &str, content: &[u8]) -> io::Result<()> {
    let too_large =
        |_| io::Error::new(io::ErrorKind::InvalidInput, format!("{name} does not fit a cpio archive"));
    let size = u32::try_from(content.len()).map_err(too_large)?;
    let name_size = u32::try_from(name.len() + 1).map_err(too_large)?;
    let fields = [
        head.inode,
        head.mode,
        head.owner,
        head.owner,
        1, // links
        0, // mtime
        size,
        0, // device of the file itself
        0,
        head.device.0,
        head.device.1,
        name_size,
        0, // checksum, unused in newc
    ];
    out.write_all(b"070701")?;
    for field in fields {
        write!(out, "{field:08x}")?;
    }
    out.write_all(name.as_bytes())?;
    out.write_all(&[0])?;
    pad(out, 110 + name.len() + 1)?;
    out.write_all(content)?;
    pad(out, content.len())
}

/// Zeros up to the next multiple of 4.
fn pad(out: &mut impl Write, written: usize) -> io::Result<()> {
    out.write_all(&[0; 3][..written.wrapping_neg() % 4])
}

#[cfg(test)]
mod tests {
    use super::{Entry, Kind, write};

    fn entry(path: &str, mode: u32, kind: Kind) -> Entry {
        Entry { path: path.into(), mode, owner: 0, kind }
    }

    #[test]
    fn entries_stand_on_multiples_of_four() {
        let entries = [
            entry("/a", 0o755, Kind::Directory),
            entry("/a/file", 0o644, Kind::File(b"12345".to_vec())),
            entry("/a/link", 0o777, Kind::Symlink("file".into())),
            entry("/null", 0o666, Kind::Device(1, 3)),
        ];
        let mut bytes = Vec::new();
        write(&mut bytes, &entries).unwrap();
        assert_eq!(bytes.len() % 4, 0);
        let at = |magic: &[u8]| bytes.windows(magic.len()).position(|w| w == magic).unwrap();
        let names: Vec<usize> = bytes
            .windows(6)
            .enumerate()
            .filter_map(|(offset, window)| (window == b"070701").then_some(offset))
            .collect();
        assert_eq!(names.len(), 5, "four entries and the trailer");
        assert!(names.iter().all(|offset| offset % 4 == 0));
        assert_eq!(at(b"12345") % 4, 0);
        assert_eq!(&bytes[names[0] + 14..names[0] + 22], b"000041ed", "a directory, 0755");
        assert_eq!(&bytes[names[3] + 78..names[3] + 94], b"0000000100000003", "device 1:3");
        assert!(bytes.windows(10).any(|w| w == b"TRAILER!!!"));
    }
}
