//! Proof that a run's own /tmp is its own: a child lays it, as the run will have it, and both look for what the other made.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::mountns::hint;
use super::{HELD, SelfTestError, errno};
use crate::enforce::mountns::Mounts;
use crate::enforce::tmp::{MODE, PrivateTmp};
use crate::record::SelfTest;

/// The checks, in the order of what the child says.
const CHECKS: [&str; 5] =
    ["tmp_not_seen_inside", "tmp_not_seen_outside", "tmp_mode", "tmp_kept", "tmp_memory"];

/// Size of a segment of shared memory, bytes.
const SEGMENT: usize = 4096;

/// A System V segment outside, removed with this.
struct Segment(libc::c_int);

impl Segment {
    fn make() -> io::Result<Segment> {
        // SAFETY: takes numbers only, and changes nothing of this process.
        match unsafe { libc::shmget(libc::IPC_PRIVATE, SEGMENT, libc::IPC_CREAT | 0o600) } {
            -1 => Err(io::Error::last_os_error()),
            id => Ok(Segment(id)),
        }
    }

    /// Whether it is seen from here (shmctl(2)).
    fn look(&self) -> io::Result<()> {
        // SAFETY: all zeroes is a value of this structure of numbers.
        let mut found: libc::shmid_ds = unsafe { std::mem::zeroed() };
        // SAFETY: IPC_STAT writes one such structure, which lives through the call.
        match unsafe { libc::shmctl(self.0, libc::IPC_STAT, &raw mut found) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // SAFETY: IPC_RMID takes no structure; the segment is this process's own, and mapped nowhere.
        unsafe { libc::shmctl(self.0, libc::IPC_RMID, std::ptr::null_mut()) };
    }
}

/// A file outside, removed with this.
struct Marker(PathBuf);

impl Marker {
    /// Makes one at a place, where files may be made there.
    fn make(place: &Path) -> Option<Marker> {
        let (_, path) = nix::unistd::mkstemp(&place.join("sandbox-selftest-XXXXXX")).ok()?;
        Some(Marker(path))
    }
}

impl Drop for Marker {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Proves that this machine gives this /tmp.
///
/// # Errors
/// There can be none, or the test could not be run; neither is proof.
pub fn tmp(tmp: &PrivateTmp) -> Result<Vec<SelfTest>, SelfTestError> {
    let markers: Vec<Marker> = tmp.places().iter().filter_map(|place| Marker::make(place)).collect();
    let identities = |paths: &[PathBuf]| -> io::Result<Vec<(u64, u64)>> {
        paths.iter().map(|path| fs::metadata(path).map(|found| (found.dev(), found.ino()))).collect()
    };
    let segment = Segment::make()?;
    segment.look()?;
    let outside = (identities(tmp.places())?, identities(tmp.kept())?);
    // A name that nobody has there.
    let name =
        format!("sandbox-selftest-inside-{}-{}", std::process::id(), crate::record::time::mono_now_ns());
    let own: Vec<PathBuf> = tmp.places().iter().map(|place| place.join(&name)).collect();
    let (mut said, mut say) = io::pipe()?;
    let (mut wait, go) = io::pipe()?;
    // SAFETY: this process has one thread; the child lays its mounts, says what it found, and leaves by _exit.
    match unsafe { nix::unistd::fork() }.map_err(io::Error::from)? {
        nix::unistd::ForkResult::Child => {
            drop((said, go));
            let text = match Mounts::default().with_tmp(Some(tmp.clone())).enter(Path::new("/")) {
                Ok(()) => {
                    let found = [
                        unseen(&markers, tmp, &outside.0),
                        write(&own),
                        modes(tmp),
                        match identities(tmp.kept()) {
                            Ok(inside) if inside == outside.1 => HELD.to_owned(),
                            Ok(_) => "another directory is there".to_owned(),
                            Err(error) => error.to_string(),
                        },
                        apart(&segment),
                    ];
                    found.join("\n")
                }
                Err(error) => format!("{}\n", hint(&error)),
            };
            let _ = say.write_all(text.as_bytes());
            drop(say);
            // What it wrote is looked for while it is there.
            let _ = wait.read(&mut [0]);
            // SAFETY: ends the child at once, without the parent's exit handlers.
            unsafe { libc::_exit(0) }
        }
        nix::unistd::ForkResult::Parent { child } => {
            drop((say, wait));
            let mut text = String::new();
            let read = said.read_to_string(&mut text);
            let seen = own.iter().find(|path| fs::symlink_metadata(path).is_ok());
            drop(go);
            nix::sys::wait::waitpid(child, None).map_err(io::Error::from)?;
            read?;
            let lines: Vec<&str> = text.lines().collect();
            let [unseen, written, mode, kept, memory] = lines.as_slice() else {
                return Err(io::Error::other(text.trim().to_owned()).into());
            };
            let outside = match seen {
                Some(path) => {
                    let told = format!("{}, made inside, is seen outside", path.display());
                    let _ = fs::remove_file(path);
                    told
                }
                None => (*written).to_owned(),
            };
            let results = [unseen, outside.as_str(), mode, kept, memory].map(str::to_owned);
            let found = CHECKS.iter().zip(results);
            Ok(found.map(|(check, result)| SelfTest { check: (*check).to_owned(), result }).collect())
        }
    }
}

/// Inside: whether nothing of the places outside is there, by files made for it and by what the directories are.
fn unseen(markers: &[Marker], tmp: &PrivateTmp, outside: &[(u64, u64)]) -> String {
    for Marker(path) in markers {
        match errno(fs::symlink_metadata(path).map(drop)) {
            libc::ENOENT => {}
            0 => return format!("{}, made outside, is seen inside", path.display()),
            other => return format!("{} fails with {}", path.display(), Errno::from_raw(other)),
        }
    }
    for (place, outside) in tmp.places().iter().zip(outside) {
        match fs::metadata(place) {
            Ok(found) if (found.dev(), found.ino()) != *outside => {}
            Ok(_) => return format!("{} is the machine's", place.display()),
            Err(error) => return format!("{}: {error}", place.display()),
        }
    }
    HELD.to_owned()
}

/// Inside: whether shared memory of outside is there.
fn apart(segment: &Segment) -> String {
    match errno(segment.look()) {
        libc::EINVAL => HELD.to_owned(),
        0 => "shared memory of outside is seen inside".to_owned(),
        other => format!("shared memory cannot be looked for: {}", Errno::from_raw(other)),
    }
}

/// Inside: makes files.
fn write(paths: &[PathBuf]) -> String {
    for path in paths {
        if let Err(error) = File::create_new(path) {
            return format!("{} cannot be made: {error}", path.display());
        }
    }
    HELD.to_owned()
}

/// Inside: whether everybody may make files, and remove their own only.
fn modes(tmp: &PrivateTmp) -> String {
    for place in tmp.places() {
        match fs::metadata(place).map(|found| found.mode() & 0o7777) {
            Ok(MODE) => {}
            Ok(mode) => return format!("{} has the mode {mode:o}", place.display()),
            Err(error) => return format!("{}: {error}", place.display()),
        }
    }
    HELD.to_owned()
}
