//! Proof that Landlock holds: a child makes its attempts, restricts itself to nothing, and makes them again.
//!
//! They are made in a directory of the test's own, so that an ordinary user may make them too.

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use nix::errno::Errno;
use policy::compile::capabilities::given_up;
use policy::compile::landlock::{self, LandlockPlan, right};

use super::place::Directory;
use super::{Check, SelfTestError, attempts, code, deny_all_policy, errno, judged, net, on_acts, on_files};
use super::{apart, mount_nothing, reach_out};
use crate::enforce::capabilities::give_up;
use crate::enforce::landlock::{Fence, Ports, abi};
use crate::record::SelfTest;

/// The ABI from which on each is there, and the check.
const CHECKS: [(u32, Check); 14] = [
    (1, on_files("read_file", || errno(place("file").and_then(File::open).map(drop)))),
    (1, on_files("read_dir", || errno(place("").and_then(fs::read_dir).map(drop)))),
    (1, on_files("write_file", || errno(place("file").and_then(open_to_write)))),
    (1, on_files("execute", execute_itself)),
    (1, on_files("make_dir", || errno(absent("made").and_then(fs::create_dir)))),
    (1, on_files("make_reg", || errno(absent("new").and_then(File::create_new).map(drop)))),
    (1, on_files("remove_file", || errno(present("file").and_then(fs::remove_file)))),
    (1, on_files("remove_dir", || errno(present("directory").and_then(fs::remove_dir)))),
    (1, on_acts("mount", mount_nothing, Some(Errno::EPERM))),
    // Where processes are kept apart from their parents anyhow, there is nothing to hold.
    (1, on_acts("ptrace", reach_out, Some(Errno::EPERM))),
    (3, on_files("truncate", truncate)),
    (4, on_files("connect_tcp", net::connect_tcp)),
    (6, on_acts("signal", || code(nix::sys::signal::kill(nix::unistd::getppid(), None)), None)),
    (6, on_acts("abstract_socket", net::connect_name, None)),
];

/// Where attempts are made.
static PLACE: OnceLock<PathBuf> = OnceLock::new();

/// What the memory of the process that tests holds; it may be closed to its own user.
const LOOK: Check = Check { closed: Some(Errno::EACCES), ..on_files("environ", look_into) };

/// Proves what this kernel's Landlock has.
///
/// # Errors
/// The test could not be run; that is no proof.
pub fn landlock() -> Result<Vec<SelfTest>, SelfTestError> {
    let abi = abi().map_err(io::Error::other)?;
    let plan = landlock::compile(&deny_all_policy()?, abi);
    let fence = Fence::of(vec![plan]).map_err(io::Error::other)?;
    let checks: Vec<Check> =
        CHECKS.iter().filter(|(since, _)| *since <= abi).map(|(_, check)| *check).collect();
    let directory = Directory::make()?;
    fill(directory.path())?;
    let _ = PLACE.set(directory.path().to_owned());
    let tried = attempts(&checks, |_| Ok::<(), io::Error>(()), || fence.restrict(Ports::Held).is_ok());
    let mut found = judged(&checks, tried?);
    // Files stay open here, so that it is the process that is closed: by the domain, and to the capabilities that see
    // past it.
    let mut bare = LandlockPlan::default();
    bare.handled_files = right::MAKE_DEVICES;
    let bare = Fence::of(vec![bare]).map_err(io::Error::other)?;
    let enter = || bare.restrict(Ports::Free).is_ok() && give_up(given_up(&[])).is_ok();
    found.extend(judged(&[LOOK], attempts(&[LOOK], |_| Ok::<(), io::Error>(()), enter)?));
    Ok(found)
}

/// Opens what says with which environment the process that tests was started.
fn look_into() -> i32 {
    errno(File::open(format!("/proc/{}/environ", nix::unistd::getppid())).map(drop))
}

/// What attempts are made at, each twice: the first round removes one.
fn fill(place: &Path) -> io::Result<()> {
    for name in ["file", "file-2", "text"] {
        fs::write(place.join(name), "text")?;
    }
    for name in ["directory", "directory-2"] {
        fs::create_dir(place.join(name))?;
    }
    Ok(())
}

/// A name in the directory; without one no attempt means anything.
fn place(name: &str) -> io::Result<PathBuf> {
    let file = PLACE.get().ok_or(io::ErrorKind::Unsupported)?.join(name);
    match name {
        // Which may be removed by now.
        "file" => present(name),
        _ => Ok(file),
    }
}

/// The first of two that is still there.
fn present(name: &str) -> io::Result<PathBuf> {
    let directory = place("")?;
    let there = |name: String| Some(directory.join(name)).filter(|path| path.symlink_metadata().is_ok());
    there(name.to_owned()).or_else(|| there(format!("{name}-2"))).ok_or(io::ErrorKind::NotFound.into())
}

/// The first of two that is not there yet.
fn absent(name: &str) -> io::Result<PathBuf> {
    let directory = place("")?;
    let path = directory.join(name);
    Ok(if path.symlink_metadata().is_ok() { directory.join(format!("{name}-2")) } else { path })
}

fn open_to_write(path: PathBuf) -> io::Result<()> {
    File::options().write(true).open(path).map(drop)
}

fn truncate() -> i32 {
    match place("text") {
        Ok(path) => code(nix::unistd::truncate::<Path>(&path, 0)),
        Err(error) => errno(Err(error)),
    }
}

/// Where output goes that nobody is to see: opened by the first round, later it may not be.
fn null() -> Option<&'static File> {
    static NULL: OnceLock<Option<File>> = OnceLock::new();
    NULL.get_or_init(|| File::options().read(true).write(true).open("/dev/null").ok()).as_ref()
}

/// Executes this program's `--version` in a child.
fn execute_itself() -> i32 {
    match null() {
        Some(_) => apart(become_itself),
        None => libc::EIO,
    }
}

fn become_itself() -> i32 {
    let Some(null) = null() else { return libc::EIO };
    let _ = nix::unistd::dup2_stdin(null.as_fd());
    let _ = nix::unistd::dup2_stdout(null.as_fd());
    let _ = nix::unistd::dup2_stderr(null.as_fd());
    let program = CString::new("/proc/self/exe").unwrap_or_default();
    match nix::unistd::execve(&program, &[c"sandbox", c"--version"], &[] as &[&CStr]) {
        Ok(never) => match never {},
        Err(errno) => errno as i32,
    }
}
