//! Who waits: what /proc says of a task, and what is remembered of its process.
//!
//! Everything is looked up while the task waits. Identity is pid and start, as everywhere; /proc tells a start in clock
//! ticks only.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, OnceLock};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Statx, StatxFlags};

use super::image::EXECUTED_NOTHING;
use super::lookup::look_up;
use super::place::Last;

/// Processes that are remembered before those that are gone are looked for.
const REMEMBERED: usize = 4096;

/// What is known of who waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// Process id.
    pub pid: u32,
    /// Start of its first thread, nanoseconds since boot.
    pub start_ns: u64,
    /// Its parent.
    pub ppid: u32,
    /// Real user id.
    pub uid: u32,
    /// The thread's name.
    pub comm: [u8; 16],
    /// Its executable.
    pub exe: Option<Arc<[u8]>>,
}

/// A task as /proc/TID/stat has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    comm: [u8; 16],
    parent: u32,
    /// `task_struct.flags` (PF_…, include/linux/sched.h).
    flags: u32,
    started: u64,
}

#[derive(Clone, Debug)]
struct Thread {
    started: u64,
    pid: u32,
}

#[derive(Clone, Debug)]
struct Process {
    started: u64,
    comm: [u8; 16],
    exe: Option<Arc<[u8]>>,
}

/// The tasks of a run.
#[derive(Debug)]
pub struct Tasks {
    threads: HashMap<u32, Thread>,
    processes: HashMap<u32, Process>,
    /// When those that are gone are looked for next.
    full: usize,
    tick_ns: u64,
    /// Whether a process may show an executable that it never executed.
    swapped: bool,
    /// The user of everything that is watched; `None` where the runner is root, and the run may change it.
    uid: Option<u32>,
}

impl Tasks {
    /// Knows nobody.
    pub fn new() -> Tasks {
        let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
        let own = nix::unistd::getuid();
        Tasks {
            threads: HashMap::new(),
            processes: HashMap::new(),
            full: REMEMBERED,
            swapped: false,
            tick_ns: 1_000_000_000 / ticks.unsigned_abs().max(1),
            uid: (!own.is_root()).then(|| own.as_raw()),
        }
    }

    /// Who waits with this thread id, and the process that made it, where the two are seen together for the first time.
    /// `None` when the task has gone.
    pub fn who(&mut self, tid: u32) -> Option<(Who, Option<Who>)> {
        let stat = stat(tid)?;
        let pid = match self.threads.get(&tid) {
            Some(known) if known.started == stat.started => known.pid,
            _ => {
                let pid = leader(tid)?;
                self.threads.insert(tid, Thread { started: stat.started, pid });
                pid
            }
        };
        let known = self.processes.get(&pid).map(|process| process.started);
        // A thread tells nothing of when its process began.
        let started = match known {
            Some(started) if pid != tid || started == stat.started => Some(started),
            _ => None,
        };
        let (started, new) = match started {
            Some(started) => (started, false),
            None => {
                let started = if pid == tid { stat.started } else { self::stat(pid)?.started };
                // Threads have the flag too: the process is meant.
                let fresh = || flags(pid).is_none_or(|flags| flags & EXECUTED_NOTHING != 0);
                let exe = match self.swapped && fresh() {
                    false => executable(pid),
                    // It is what its maker is. Where that has ended, nobody knows any more.
                    true => self.processes.get(&stat.parent).and_then(|maker| maker.exe.clone()),
                };
                let process = Process { started, comm: stat.comm, exe };
                (started, self.processes.insert(pid, process).is_none_or(|before| before.started != started))
            }
        };
        let process = self.processes.get_mut(&pid)?;
        process.comm = stat.comm;
        let who = Who {
            pid,
            start_ns: started.saturating_mul(self.tick_ns),
            ppid: stat.parent,
            uid: self.uid.or_else(|| uid(tid)).unwrap_or(u32::MAX),
            comm: stat.comm,
            exe: process.exe.clone(),
        };
        let parent = if new { self.parent(&who) } else { None };
        if self.threads.len() > self.full {
            self.forget();
        }
        Some((who, parent))
    }

    /// The process that made this one, if it is one of the run: the kernel names the runner where that has ended.
    fn parent(&self, child: &Who) -> Option<Who> {
        let known = self.processes.get(&child.ppid)?;
        let now = stat(child.ppid)?;
        (now.started == known.started).then(|| Who {
            pid: child.ppid,
            start_ns: known.started.saturating_mul(self.tick_ns),
            ppid: now.parent,
            uid: child.uid,
            comm: known.comm,
            exe: known.exe.clone(),
        })
    }

    /// From now on a process may show an executable that it never executed (PR_SET_MM of prctl(2)). What it was before stays
    /// what it is, until it has executed something.
    pub fn swapped(&mut self) {
        self.swapped = true;
    }

    /// The executable of a process that was seen.
    pub fn exe(&self, pid: u32) -> Option<Arc<[u8]>> {
        self.processes.get(&pid)?.exe.clone()
    }

    /// Looks the executable of a process up again: it may have executed another.
    pub fn look_again(&mut self, pid: u32) -> Option<Arc<[u8]>> {
        if self.swapped { self.exe(pid) } else { self.executed(pid) }
    }

    /// The same where it has.
    pub fn executed(&mut self, pid: u32) -> Option<Arc<[u8]>> {
        let exe = executable(pid);
        if let Some(process) = self.processes.get_mut(&pid) {
            process.exe.clone_from(&exe);
        }
        exe
    }

    /// Whether this process, which was seen before, is still there.
    pub fn lives(&self, pid: u32) -> bool {
        let known = self.processes.get(&pid).map(|process| process.started);
        known.is_some() && stat(pid).map(|stat| stat.started) == known
    }

    fn forget(&mut self) {
        self.threads.retain(|tid, thread| stat(*tid).is_some_and(|now| now.started == thread.started));
        self.processes.retain(|pid, process| stat(*pid).is_some_and(|now| now.started == process.started));
        self.full = (2 * self.threads.len()).max(REMEMBERED);
    }
}

fn stat(tid: u32) -> Option<Stat> {
    parse_stat(&fs::read(format!("/proc/{tid}/task/{tid}/stat")).ok()?)
}

/// The name in parentheses may hold anything, parentheses and newlines included: fields follow the last `)`.
fn parse_stat(text: &[u8]) -> Option<Stat> {
    let begin = text.iter().position(|byte| *byte == b'(')? + 1;
    let end = text.iter().rposition(|byte| *byte == b')')?;
    let name = text.get(begin..end)?;
    let mut comm = [0; 16];
    let length = name.len().min(comm.len() - 1);
    comm[..length].copy_from_slice(&name[..length]);
    let rest = std::str::from_utf8(text.get(end + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    let flags = fields.nth(4)?.parse().ok()?;
    let started = fields.nth(12)?.parse().ok()?;
    Some(Stat { comm, parent, flags, started })
}

/// The flags that the kernel has for a task, also when it has ended and nobody has waited for it yet.
pub fn flags(tid: u32) -> Option<u32> {
    stat(tid).map(|stat| stat.flags)
}

/// A number of /proc/TID/status.
fn status(tid: u32, field: &str) -> Option<u32> {
    status_words(tid, field, |word| word.parse().ok())
}

fn status_words<T>(tid: u32, field: &str, number: impl Fn(&str) -> Option<T>) -> Option<T> {
    let text = fs::read(format!("/proc/{tid}/status")).ok()?;
    let text = String::from_utf8_lossy(&text);
    // The name comes first, and cannot hold a newline that is not escaped.
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    number(line.split_ascii_whitespace().next()?)
}

/// Whether directories are open to a task whatever their modes say: it has CAP_DAC_OVERRIDE or CAP_DAC_READ_SEARCH, be it
/// in a namespace of its own.
pub fn passes_modes(tid: u32) -> bool {
    const BITS: u64 = 1 << 1 | 1 << 2;
    status_words(tid, "CapEff", |word| u64::from_str_radix(word, 16).ok()).is_none_or(|held| held & BITS != 0)
}

fn leader(tid: u32) -> Option<u32> {
    status(tid, "Tgid")
}

fn uid(tid: u32) -> Option<u32> {
    status(tid, "Uid")
}

/// Where a link of /proc leads, and whether it is a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Here.
    Path(Vec<u8>),
    /// To something without a place: a pipe, a socket, a memfd; as /proc shows it.
    Nameless(Vec<u8>),
    /// Farther than PATH_MAX.
    TooFar,
    /// Nowhere: there is no such descriptor.
    Nowhere,
    /// This process may not look.
    Closed,
}

/// Follows a link of /proc by name only: no file system is asked.
pub fn link(path: &str) -> Target {
    link_seen(path, None)
}

/// The same for what is seen from this root, where it is not that of the task that the link names.
pub fn link_seen(path: &str, root: Option<BorrowedFd<'_>>) -> Target {
    let found = match fs::read_link(path) {
        Ok(found) => below(TOP.get().map_or(&[], Vec::as_slice), OsString::from(found).into_vec()),
        Err(error) => {
            return match error.raw_os_error() {
                Some(libc::EACCES | libc::EPERM) => Target::Closed,
                Some(libc::ENAMETOOLONG) => Target::TooFar,
                _ => Target::Nowhere,
            };
        }
    };
    const GONE: &[u8] = b" (deleted)";
    match found.strip_suffix(GONE) {
        Some(name) if name.starts_with(b"/memfd:") => Target::Nameless(name.to_vec()),
        // A name may really end so.
        Some(name) if is_gone(path, &found, root) => Target::Path(name.to_vec()),
        _ if found.starts_with(b"/") => Target::Path(found),
        _ => Target::Nameless(found),
    }
}

/// A path below another, as it is called from there.
fn below(top: &[u8], path: Vec<u8>) -> Vec<u8> {
    match path.strip_prefix(top) {
        Some(rest) if !top.is_empty() && rest.starts_with(b"/") => rest.to_vec(),
        Some(rest) if !top.is_empty() && rest.is_empty() => b"/".to_vec(),
        _ => path,
    }
}

/// Whether what a link of /proc shows as `shown` has lost that name: the file has none, or others.
fn is_gone(path: &str, shown: &[u8], root: Option<BorrowedFd<'_>>) -> bool {
    let wanted = StatxFlags::NLINK | StatxFlags::INO;
    let look = |directory: BorrowedFd<'_>, path: &str, flags| {
        rustix::fs::statx(directory, path, flags | AtFlags::STATX_DONT_SYNC, wanted).ok()
    };
    let Some(found) = look(rustix::fs::CWD, path, AtFlags::empty()) else { return false };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::CACHED;
    let own = match root {
        Some(_) => None,
        None => path.split('/').nth(2).and_then(|task| {
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            rustix::fs::openat(rustix::fs::CWD, format!("/proc/{task}/root"), flags, Mode::empty()).ok()
        }),
    };
    let named = root.or(own.as_ref().map(AsFd::as_fd));
    let named = named.and_then(|root| look_up(root, shown, Last::Itself, resolve).ok());
    let named = named.and_then(|file| look(file.as_fd(), "", AtFlags::EMPTY_PATH));
    let id = |about: &Statx| (about.stx_dev_major, about.stx_dev_minor, about.stx_ino);
    found.stx_nlink == 0 || named.is_none_or(|named| id(&named) != id(&found))
}

/// The executable of a process, as records have it.
fn executable(pid: u32) -> Option<Arc<[u8]>> {
    match link(&format!("/proc/{pid}/exe")) {
        Target::Path(path) | Target::Nameless(path) => Some(path.into()),
        _ => None,
    }
}

/// Most ancestors that are looked for.
const ANCESTORS: usize = 256;

/// The executables of those that a process descends from, up to `first`, as far as they can be looked up. A process whose
/// parent has ended has none.
pub fn ancestors(pid: u32, first: u32) -> Vec<Arc<[u8]>> {
    let (mut found, mut next) = (Vec::new(), pid);
    for _ in 0..ANCESTORS {
        if next == first {
            return found;
        }
        match stat(next) {
            Some(stat) if stat.parent > 1 => next = stat.parent,
            // Not below it: of whom it descends nothing is known.
            _ => return Vec::new(),
        }
        found.extend(executable(next));
    }
    Vec::new()
}

/// The arguments that a process was executed with, as its own memory has them now.
pub fn arguments(pid: u32) -> io::Result<Vec<u8>> {
    fs::read(format!("/proc/{pid}/cmdline"))
}

/// A root directory, by device and inode, and the mount namespace that it is seen in.
type Root = ((u64, u64), PathBuf);

/// The mount namespace that the run began in: this process's own, or one with covers over what is denied.
static FIRST: OnceLock<PathBuf> = OnceLock::new();

/// How /proc shows the root of the run's first task, where that is not `/`: this process is in a chroot, and the run has
/// mounts of its own, which are shown from their top.
static TOP: OnceLock<Vec<u8>> = OnceLock::new();

/// Learns that names lead in the mount namespace of this task, the first of the run, where they lead here.
pub fn begins_with(tid: u32) {
    let process = format!("/proc/{tid}");
    let (Some((root, mounts)), Some((own, _))) = (root_of(&process), root_of("/proc/self")) else { return };
    let _ = FIRST.set(mounts);
    if let Ok(top) = fs::read_link(format!("{process}/root"))
        && root == own
        && top != Path::new("/")
    {
        let _ = TOP.set(OsString::from(top).into_vec());
    }
}

/// Whether a task sees the same file system from the same root as this process, which never changes its own.
pub fn shares_root(tid: u32) -> bool {
    static OWN: LazyLock<Option<Root>> = LazyLock::new(|| root_of("/proc/self"));
    match (&*OWN, root_of(&format!("/proc/{tid}"))) {
        (Some((own, mounts)), Some((root, seen))) => {
            root == *own && (seen == *mounts || FIRST.get() == Some(&seen))
        }
        _ => false,
    }
}

fn root_of(process: &str) -> Option<Root> {
    let root = fs::metadata(format!("{process}/root")).ok()?;
    Some(((root.dev(), root.ino()), fs::read_link(format!("{process}/ns/mnt")).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A child that has executed nothing shows its maker's executable, which may have been changed.
    #[test]
    fn what_executed_nothing_is_what_its_maker_is() {
        use nix::unistd::{ForkResult, fork};
        let own = std::process::id();
        for swapped in [false, true] {
            let mut tasks = Tasks::new();
            tasks.who(own).unwrap();
            tasks.processes.get_mut(&own).unwrap().exe = Some(b"/what/it/was"[..].into());
            if swapped {
                tasks.swapped();
            }
            // SAFETY: the child only waits, by a system call.
            let ForkResult::Parent { child } = (unsafe { fork() }).unwrap() else {
                loop {
                    // SAFETY: no arguments.
                    unsafe { libc::pause() };
                }
            };
            let (found, _) = tasks.who(child.as_raw().unsigned_abs()).unwrap();
            let again = tasks.look_again(own);
            nix::sys::signal::kill(child, nix::sys::signal::Signal::SIGKILL).unwrap();
            nix::sys::wait::waitpid(child, None).unwrap();
            let real = executable(own);
            let expected = if swapped { Some(b"/what/it/was"[..].into()) } else { real.clone() };
            assert_eq!((found.exe, again), (expected.clone(), expected), "{swapped}");
            assert_eq!(tasks.executed(own), real);
        }
    }

    #[test]
    fn stat_is_read_past_a_hostile_name() {
        let text = b"7 (a) Z 1 1) T 42 1 1 0 -1 64 0 0 0 0 1 2 3 4 20 0 3 0 99 1 2\n";
        let stat = parse_stat(text).unwrap();
        assert_eq!((stat.parent, stat.flags, stat.started), (42, 64, 99));
        assert_eq!(&stat.comm[..8], b"a) Z 1 1");
        assert!(parse_stat(b"7 (a").is_none());
        assert!(parse_stat(b")(").is_none());
    }

    #[test]
    fn a_thread_is_one_of_its_process() {
        let mut tasks = Tasks::new();
        let own = tasks.who(std::process::id()).unwrap().0;
        let tid = nix::unistd::gettid().as_raw().unsigned_abs();
        let thread = tasks.who(tid).unwrap().0;
        assert_eq!((thread.pid, thread.start_ns), (own.pid, own.start_ns));
        assert_eq!(own.ppid, nix::unistd::getppid().as_raw().unsigned_abs());
        let exe = std::env::current_exe().unwrap().into_os_string().into_vec();
        assert_eq!(own.exe.as_deref(), Some(exe.as_slice()));
        assert!(tasks.lives(own.pid) && !tasks.lives(0));
    }

    #[test]
    fn names_in_a_chroot_are_those_below_it() {
        let shown = |top: &[u8], path: &[u8]| below(top, path.to_vec());
        assert_eq!(shown(b"/srv/root", b"/srv/root/etc/hosts"), b"/etc/hosts");
        assert_eq!(shown(b"/srv/root", b"/srv/root"), b"/");
        for other in [&b"/srv/roots/etc"[..], b"/srv", b"pipe:[7]"] {
            assert_eq!(shown(b"/srv/root", other), other);
            assert_eq!(shown(b"", other), other);
        }
    }

    #[test]
    fn links_say_where_they_lead() {
        let pipe = io::pipe().unwrap().0;
        use std::os::fd::AsRawFd;
        let of = |fd: i32| link(&format!("/proc/self/fd/{fd}"));
        assert!(matches!(of(pipe.as_raw_fd()), Target::Nameless(name) if name.starts_with(b"pipe:[")));
        assert_eq!(of(99_999), Target::Nowhere);
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("x (deleted)");
        let file = fs::File::create(&path).unwrap();
        let name = path.clone().into_os_string().into_vec();
        assert_eq!(of(file.as_raw_fd()), Target::Path(name.clone()));
        fs::remove_file(&path).unwrap();
        assert_eq!(of(file.as_raw_fd()), Target::Path(name));
        assert!(shares_root(std::process::id()));
    }
}
