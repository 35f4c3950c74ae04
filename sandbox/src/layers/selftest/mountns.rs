//! Proof that covers hold: a child makes its attempts in a directory of the test's own, covers it, and makes them again.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use nix::errno::Errno;

use super::place::Directory;
use super::{Attempt, Check, HELD, SelfTestError, attempts, errno, judged};
use crate::enforce::mountns::{Cover, MountError, Mounts};
use crate::enforce::namespaces;
use crate::enforce::places::Seen;
use crate::enforce::streams::Stream;
use crate::record::SelfTest;

/// What is tried at a file that is hidden, one that is read-only, a directory that is pinned, and a file for data only; and
/// by a descriptor from before. Root reads what is hidden and finds nothing.
const CHECKS: [Check; 7] = [
    on("hidden", Errno::EACCES, read_hidden),
    on("read_only", Errno::EROFS, || errno(file("kept").and_then(open_to_write))),
    on("read_only_remove", Errno::EBUSY, || errno(file("kept").and_then(|path| remove(&path)))),
    on("pin", Errno::EBUSY, || errno(file("above").and_then(|path| rename(&path)))),
    on("no_exec", Errno::EACCES, || errno(file("data").and_then(|path| execute(&path)))),
    on("no_exec_map", Errno::EPERM, || errno(file("data").and_then(map_as_code))),
    on("descriptor", Errno::EROFS, || errno(by_descriptor().and_then(open_to_write))),
];

const fn on(name: &'static str, denied: Errno, attempt: Attempt) -> Check {
    Check { name, attempt, denied, closed: None }
}

/// Where attempts are made.
static PLACE: OnceLock<PathBuf> = OnceLock::new();
/// A descriptor of a file there, from before.
static DESCRIPTOR: OnceLock<RawFd> = OnceLock::new();

/// Proves that this machine gives mounts of a run's own.
///
/// # Errors
/// There can be none, or the test could not be run; neither is proof.
pub fn mountns() -> Result<Vec<SelfTest>, SelfTestError> {
    let directory = Directory::make()?;
    for name in ["hidden", "kept", "above/kept", "data", "open"] {
        let path = directory.path().join(name);
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(path, "text")?;
    }
    fs::set_permissions(directory.path().join("data"), fs::Permissions::from_mode(0o755))?;
    let _ = PLACE.set(directory.path().to_owned());
    let open = File::open(directory.path().join("open"))?;
    let found = open.metadata()?;
    let _ = DESCRIPTOR.set(open.as_raw_fd());
    let stream = Stream::new(open.as_raw_fd(), directory.path().join("open"), (found.dev(), found.ino()));
    // Planned each time: what an attempt made again is another file than before.
    let mounts = || io::Result::Ok(planned(directory.path())?.with_streams(vec![stream.clone()]));
    // A child first that only covers: its error says why there is nothing to prove.
    possible(&mounts()?)?;
    let joined = || mounts().is_ok_and(|mounts| mounts.enter(Path::new("/")).is_ok());
    Ok(judged(&CHECKS, attempts(&CHECKS, |_| Ok::<(), io::Error>(()), joined)?))
}

/// What is laid over what is there now.
fn planned(directory: &Path) -> io::Result<Mounts> {
    let mut mounts = Mounts::default();
    for (name, cover) in [
        ("hidden", Cover::HIDDEN),
        ("kept", Cover::READ_ONLY),
        ("above", Cover::PIN),
        ("data", Cover::NO_EXEC),
        ("open", Cover::READ_ONLY),
    ] {
        let path = directory.join(name);
        let seen = Seen::at(&path)?;
        mounts.add(path, cover, seen);
    }
    Ok(mounts)
}

/// Covers in a child, and gives what it said.
fn possible(mounts: &Mounts) -> Result<(), SelfTestError> {
    use std::io::{Read, Write};
    let (mut said, mut say) = io::pipe()?;
    // SAFETY: this process has one thread; the child covers, says what came of it, and leaves by _exit.
    match unsafe { nix::unistd::fork() }.map_err(io::Error::from)? {
        nix::unistd::ForkResult::Child => {
            let text = match mounts.enter(Path::new("/")) {
                Ok(()) => HELD.to_owned(),
                Err(error) => hint(&error),
            };
            let _ = say.write_all(text.as_bytes());
            // SAFETY: ends the child at once, without the parent's exit handlers.
            unsafe { libc::_exit(0) }
        }
        nix::unistd::ForkResult::Parent { child } => {
            drop(say);
            let mut text = String::new();
            said.read_to_string(&mut text)?;
            nix::sys::wait::waitpid(child, None).map_err(io::Error::from)?;
            match text.as_str() {
                HELD => Ok(()),
                _ => Err(io::Error::other(text).into()),
            }
        }
    }
}

/// What was refused, and what the machine says of why.
pub(super) fn hint(error: &MountError) -> String {
    let why = namespaces::refusal_of_users(&io::Error::from_raw_os_error(error.errno()));
    format!("{error}{why}")
}

fn file(name: &str) -> io::Result<PathBuf> {
    Ok(PLACE.get().ok_or(io::ErrorKind::Unsupported)?.join(name))
}

/// The way to the file that a descriptor from before leads to.
fn by_descriptor() -> io::Result<PathBuf> {
    Ok(format!("/proc/self/fd/{}", DESCRIPTOR.get().ok_or(io::ErrorKind::Unsupported)?).into())
}

/// Reads what is hidden. Whoever may read everything reads nothing of it.
fn read_hidden() -> i32 {
    match file("hidden").and_then(fs::read) {
        Ok(bytes) if bytes.is_empty() => libc::EACCES,
        Ok(_) => 0,
        Err(error) => errno(Err(error)),
    }
}

fn open_to_write(path: PathBuf) -> io::Result<()> {
    File::options().write(true).open(path).map(drop)
}

/// Executes a file that is no program, which is told only where it may be executed.
fn execute(path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let arguments = [path.as_ptr(), std::ptr::null()];
    let environment = [std::ptr::null()];
    // SAFETY: the path ends in NUL, and both lists in a null pointer.
    unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::ENOEXEC) => Ok(()),
        error => Err(error),
    }
}

fn map_as_code(path: PathBuf) -> io::Result<()> {
    let file = File::open(path)?;
    // SAFETY: a new private mapping at an address of the kernel's choice, of a file that is open; it is unmapped below.
    let at = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            1,
            libc::PROT_READ | libc::PROT_EXEC,
            libc::MAP_PRIVATE,
            file.as_raw_fd(),
            0,
        )
    };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the mapping was made above, and nothing refers to it.
    match unsafe { libc::munmap(at, 1) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Removes a file, and makes it again for the next round.
fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path)?;
    fs::write(path, "text")
}

/// Renames a directory, and back.
fn rename(path: &Path) -> io::Result<()> {
    let other = path.with_extension("moved");
    fs::rename(path, &other)?;
    fs::rename(&other, path)
}
