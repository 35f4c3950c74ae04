//! The guest's root file system, as entries of the initramfs.
//!
//! A bare machine: directories, a few files of /etc, init. What a test needs on top it adds itself.

use crate::cpio::{self, Entry, Kind};
use crate::wire::{ORDERS, Orders};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const DIRECTORIES: &[(&str, u32)] = &[
    ("/bin", 0o755),
    ("/boot", 0o755),
    ("/dev", 0o755),
    ("/etc", 0o755),
    ("/home", 0o755),
    ("/mnt", 0o755),
    ("/proc", 0o755),
    ("/root", 0o700),
    ("/run", 0o755),
    ("/sbin", 0o755),
    ("/sys", 0o755),
    ("/tmp", 0o1777),
    ("/usr", 0o755),
    ("/usr/bin", 0o755),
    ("/var", 0o755),
    ("/var/lib", 0o755),
    ("/vm", 0o755),
];

const FILES: &[(&str, u32, &str)] = &[
    ("/etc/group", 0o644, "root:x:0:\nshadow:x:42:\nagent:x:1000:\n"),
    ("/etc/hostname", 0o644, "guest\n"),
    ("/etc/hosts", 0o644, "127.0.0.1 localhost guest\n::1 localhost\n"),
    ("/etc/machine-id", 0o444, "0123456789abcdef0123456789abcdef\n"),
    ("/etc/nsswitch.conf", 0o644, "passwd: files\ngroup: files\nhosts: files\n"),
    ("/etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\nagent:x:1000:1000:agent:/home/agent:/bin/sh\n"),
    ("/etc/shadow", 0o640, "root:*:20000:0:99999:7:::\nagent:*:20000:0:99999:7:::\n"),
];

/// Uid and gid of the ordinary account `agent`; its home is /home/agent.
pub const AGENT: u32 = 1000;

/// A file of the host could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}", path.display())]
pub struct Error {
    path: PathBuf,
    source: io::Error,
}

/// A root file system in the making.
#[derive(Clone, Debug)]
pub struct Image {
    entries: BTreeMap<String, Entry>,
}

impl Image {
    /// The bare machine with this init and the kernel's configuration in /boot.
    ///
    /// # Errors
    /// When one of the two cannot be read.
    pub fn new(init: &Path, config: &Path, release: &str) -> Result<Image, Error> {
        let mut image = Image { entries: BTreeMap::new() };
        for (path, mode) in DIRECTORIES {
            image.put(path, *mode, 0, Kind::Directory);
        }
        for (path, mode, text) in FILES {
            image.put(path, *mode, 0, Kind::File(text.as_bytes().to_vec()));
        }
        image.put("/home/agent", 0o750, AGENT, Kind::Directory);
        // The kernel opens it for init before anything is mounted.
        image.put("/dev/console", 0o600, 0, Kind::Device(5, 1));
        image.copy(init, "/init")?;
        image.copy(config, &format!("/boot/config-{release}"))?;
        Ok(image)
    }

    /// Adds an entry with its missing parents, or replaces what is there.
    pub fn put(&mut self, path: &str, mode: u32, owner: u32, kind: Kind) {
        for (at, _) in path.match_indices('/').skip(1) {
            let parent = &path[..at];
            if !self.entries.contains_key(parent) {
                let entry = Entry { path: parent.to_owned(), mode: 0o755, owner: 0, kind: Kind::Directory };
                self.entries.insert(parent.to_owned(), entry);
            }
        }
        self.entries.insert(path.to_owned(), Entry { path: path.to_owned(), mode, owner, kind });
    }

    /// Copies a file of the host, with its permission bits, owned by root.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn copy(&mut self, from: &Path, to: &str) -> Result<(), Error> {
        let read = || Ok((fs::read(from)?, fs::metadata(from)?.permissions().mode() & 0o7777));
        let (bytes, mode) = read().map_err(|source| Error { path: from.to_path_buf(), source })?;
        self.put(to, mode, 0, Kind::File(bytes));
        Ok(())
    }

    /// Has programs and libraries below /usr alone, with links to them, as distributions have them today: so paths are those
    /// that records of this machine have.
    pub fn merge_usr(&mut self) {
        const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];
        let is_merged = |path: &str| MERGED.iter().any(|name| path[1..].split('/').next() == Some(name));
        let moved: Vec<Entry> =
            self.entries.extract_if(.., |path, _| is_merged(path)).map(|(_, entry)| entry).collect();
        for Entry { path, mode, owner, kind } in moved {
            // The link itself, where one was packed.
            if MERGED.contains(&&path[1..]) {
                continue;
            }
            let to = format!("/usr{path}");
            // What is there already has more to say than a directory that was made on the way.
            if !matches!(kind, Kind::Directory) || !self.entries.contains_key(&to) {
                self.put(&to, mode, owner, kind);
            }
        }
        for name in MERGED {
            if !self.entries.contains_key(&format!("/usr/{name}")) {
                self.put(&format!("/usr/{name}"), 0o755, 0, Kind::Directory);
            }
            self.put(&format!("/{name}"), 0o777, 0, Kind::Symlink(format!("usr/{name}")));
        }
    }

    /// The archive for one boot with these orders.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, out: &mut impl io::Write, orders: &Orders) -> io::Result<()> {
        let mut image = self.clone();
        image.put(ORDERS, 0o600, 0, Kind::File(orders.encode()));
        // Byte order puts "/a" before "/a/b": parents first.
        let entries: Vec<Entry> = image.entries.into_values().collect();
        cpio::write(out, &entries)
    }
}
