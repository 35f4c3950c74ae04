//! Calls that wait for an answer: many at once, and calls whose arguments change while they wait.

use crate::raw::{self, Errno};
use std::cell::UnsafeCell;
use std::ffi::{CStr, CString};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Threads of [`hammer`] that are at work at a time, each with one that changes its name: as many more are made as wait. A
/// guest has two processors, and the one that changes must not lose its own.
const AT_WORK: u64 = 1;
/// Threads that it makes at most.
const MOST: usize = 600;
/// How many times as many calls it makes at most, to meet the moment.
const PATIENCE: u64 = 20;
/// What it says where the file that is asked about was opened by its own name.
const CAME_THROUGH: &str = "the first came through";
/// Longest name that it changes, bytes.
const NAME: usize = 128;

/// `DIR,COUNT`: opens DIR/0, DIR/1, … at the same time, each from a thread of its own. Fails with EACCES where all were
/// refused so, and with EAGAIN where only some were.
pub fn flood(object: &str) -> Option<Result<(), Errno>> {
    let (dir, count) = object.split_once(',')?;
    let count: usize = count.parse().ok()?;
    let mut threads = Vec::new();
    for number in 0..count {
        let path = CString::new(format!("{dir}/{number}")).ok()?;
        let open = move || raw::open(&path, libc::O_RDONLY).map(drop);
        threads.push(std::thread::Builder::new().stack_size(64 << 10).spawn(open).ok()?);
    }
    let results: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap_or(Err(libc::EIO))).collect();
    Some(match results.first() {
        Some(first) if results.iter().all(|result| result == first) => *first,
        _ => Err(libc::EAGAIN),
    })
}

/// `CALL,OLD,NEW,KEY,TIMES`: opens KEY so often, while another thread goes on giving OLD the name NEW (CALL: link or rename)
/// until it has it. Tells on stderr how often it tried. Fails with the errno of the last try, where none came through, and
/// with EIO where KEY could not be opened each time.
pub fn stays(object: &str) -> Option<Result<(), Errno>> {
    let [call, old, new, key, times] = object.split(',').collect::<Vec<_>>().try_into().ok()?;
    let (old, new) = (CString::new(old).ok()?, CString::new(new).ok()?);
    let (key, times) = (CString::new(key).ok()?, times.parse::<usize>().ok()?);
    let moves = match call {
        "link" => false,
        "rename" => true,
        _ => return None,
    };
    let over = Arc::new(AtomicBool::new(false));
    let namer = {
        let over = Arc::clone(&over);
        let name = move || {
            let mut tries = 0u64;
            // Once more when all answers are there: what they open for the run is open by then.
            loop {
                let is_last = over.load(Ordering::Acquire);
                let last = if moves { raw::rename(&old, &new) } else { raw::link(&old, &new) };
                tries += 1;
                if last.is_ok() || is_last {
                    return (tries, last);
                }
            }
        };
        std::thread::Builder::new().stack_size(64 << 10).spawn(name).ok()?
    };
    let opened = (0..times).take_while(|_| raw::open(&key, libc::O_RDONLY).is_ok()).count();
    over.store(true, Ordering::Release);
    let (tries, last) = namer.join().ok()?;
    eprintln!("{tries} tries, {opened} times open");
    Some(if opened < times && last.is_err() { Err(libc::EIO) } else { last })
}

/// A name that one thread opens and another changes.
struct Name(UnsafeCell<[u8; NAME]>);

// SAFETY: it is only ever read by the kernel, and written byte by byte through a raw pointer.
unsafe impl Sync for Name {}

impl Name {
    fn set(&self, name: &CStr) {
        let to = self.0.get().cast::<u8>();
        for (at, byte) in name.to_bytes_with_nul().iter().enumerate().take(NAME) {
            // SAFETY: within the array; no reference to it exists.
            unsafe { to.add(at).write_volatile(*byte) };
        }
    }
}

/// What the threads share.
struct Shared {
    allowed: CString,
    denied: CString,
    /// Which file is the denied one.
    inode: u64,
    rounds: u64,
    made: AtomicU64,
    waiting: AtomicU64,
    opened: AtomicU64,
    leaked: AtomicU64,
    refused: AtomicU64,
    /// How long after the beginning of a call its name is changed, in turns of a loop: it goes down with each call that
    /// came back, and up with each that was caught with the changed name and waits.
    moment: AtomicU64,
    /// Whether the denied file was opened by its own name.
    came_through: AtomicBool,
    over: AtomicBool,
}

/// `ALLOWED,DENIED,ROUNDS,DONE`: opens DENIED, so that it is asked about, and beside that makes so many opens of names that
/// another thread changes from the one to the other while the call is on its way; then makes the file DONE, and waits for
/// the calls that still wait. Where the first open comes through, it goes on until one of the others met the denied file,
/// up to [`PATIENCE`] times as often. The names are of the same length. Tells on stderr what was opened; fails with EACCES
/// where none of the others was the denied file.
pub fn hammer(object: &str) -> Option<Result<(), Errno>> {
    let [allowed, denied, rounds, done] = object.split(',').collect::<Vec<_>>().try_into().ok()?;
    let shared = Arc::new(Shared {
        allowed: CString::new(allowed).ok()?,
        denied: CString::new(denied).ok()?,
        inode: std::fs::symlink_metadata(denied).ok()?.ino(),
        rounds: rounds.parse().ok()?,
        made: AtomicU64::new(0),
        waiting: AtomicU64::new(0),
        opened: AtomicU64::new(0),
        leaked: AtomicU64::new(0),
        refused: AtomicU64::new(0),
        moment: AtomicU64::new(20_000),
        came_through: AtomicBool::new(false),
        over: AtomicBool::new(false),
    });
    let first = {
        let shared = Arc::clone(&shared);
        let open = move || match raw::open(&shared.denied, libc::O_RDONLY) {
            Ok(_) => shared.came_through.store(true, Ordering::Relaxed),
            Err(_) => _ = shared.refused.fetch_add(1, Ordering::Relaxed),
        };
        std::thread::Builder::new().stack_size(64 << 10).spawn(open).ok()?
    };
    let mut threads = vec![first];
    let more = || {
        let made = shared.made.load(Ordering::Relaxed);
        let met = !shared.came_through.load(Ordering::Relaxed) || shared.leaked.load(Ordering::Relaxed) > 0;
        made < shared.rounds || (!met && made < shared.rounds * PATIENCE)
    };
    while more() && threads.len() < MOST {
        // Those that have been in a call for a while wait for an answer.
        while (threads.len() as u64) < 1 + AT_WORK + stuck(&shared) && threads.len() < MOST {
            threads.push(opener(&shared)?);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    shared.over.store(true, Ordering::Relaxed);
    let made = shared.made.load(Ordering::Relaxed);
    std::fs::write(done, made.to_string()).ok()?;
    for thread in threads {
        let _ = thread.join();
    }
    let count = |number: &AtomicU64| number.load(Ordering::Relaxed);
    let (opened, leaked, refused) = (count(&shared.opened), count(&shared.leaked), count(&shared.refused));
    if shared.came_through.load(Ordering::Relaxed) {
        eprintln!("{CAME_THROUGH}");
    }
    eprintln!(
        "{made} calls: {opened} opened what is open, {leaked} opened what is closed, {refused} refused"
    );
    Some(match leaked {
        0 => Err(libc::EACCES),
        _ => Ok(()),
    })
}

/// How many threads were in the same call at two looks.
fn stuck(shared: &Shared) -> u64 {
    shared.waiting.load(Ordering::Relaxed)
}

/// A thread that opens, with one that changes its name.
fn opener(shared: &Arc<Shared>) -> Option<std::thread::JoinHandle<()>> {
    let shared = Arc::clone(shared);
    let work = move || {
        let name = Arc::new(Name(UnsafeCell::new([0; NAME])));
        let (turn, ended) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let changer = {
            let (shared, name, turn, ended) =
                (Arc::clone(&shared), Arc::clone(&name), Arc::clone(&turn), Arc::clone(&ended));
            move || change(&shared, &name, &turn, &ended)
        };
        let Ok(changer) = std::thread::Builder::new().stack_size(64 << 10).spawn(changer) else { return };
        while !shared.over.load(Ordering::Relaxed) {
            name.set(&shared.allowed);
            turn.fetch_add(1, Ordering::Release);
            // SAFETY: the name ends with a NUL at each moment that both names have in common, and lives through the call.
            let fd = unsafe {
                libc::syscall(
                    libc::SYS_openat,
                    libc::AT_FDCWD,
                    name.0.get(),
                    libc::O_RDONLY | libc::O_CLOEXEC,
                )
            };
            let result = raw::check(fd);
            turn.fetch_add(1, Ordering::Release);
            shared.made.fetch_add(1, Ordering::Relaxed);
            match result {
                Ok(fd) => {
                    use std::os::fd::FromRawFd;
                    // SAFETY: made above, and nobody else's.
                    let mut file = unsafe { std::fs::File::from_raw_fd(fd as i32) };
                    let closed = file.metadata().is_ok_and(|found| found.ino() == shared.inode);
                    let _ = file.read(&mut [0]);
                    let to = if closed { &shared.leaked } else { &shared.opened };
                    to.fetch_add(1, Ordering::Relaxed);
                }
                Err(_) => _ = shared.refused.fetch_add(1, Ordering::Relaxed),
            }
        }
        ended.store(true, Ordering::Relaxed);
        let _ = changer.join();
    };
    std::thread::Builder::new().stack_size(64 << 10).spawn(work).ok()
}

/// Changes the name while a call is on its way: at another moment each time. It also notices calls that wait.
fn change(shared: &Shared, name: &Name, turn: &AtomicU64, ended: &AtomicBool) {
    let (mut seen, mut since) = (0, std::time::Instant::now());
    let mut waits = false;
    while !ended.load(Ordering::Relaxed) {
        let now = turn.load(Ordering::Acquire);
        if now == seen || now.is_multiple_of(2) {
            if now == seen && !now.is_multiple_of(2) && !waits && since.elapsed() > Duration::from_millis(50)
            {
                waits = true;
                let later = |moment: u64| Some((moment + moment / 3 + 10).min(1_000_000));
                let _ = shared.moment.fetch_update(Ordering::Relaxed, Ordering::Relaxed, later);
                shared.waiting.fetch_add(1, Ordering::Relaxed);
            }
            match waits {
                true => std::thread::sleep(Duration::from_millis(20)),
                false => std::hint::spin_loop(),
            }
            continue;
        }
        if waits {
            waits = false;
            shared.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        (seen, since) = (now, std::time::Instant::now());
        let sooner = |moment: u64| Some((moment - moment / 100).saturating_sub(1));
        let moment = shared.moment.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sooner).unwrap_or(0);
        for _ in 0..moment + now % 64 {
            std::hint::spin_loop();
        }
        name.set(&shared.denied);
    }
}

/// As a program of `--ask-cmd`: `answer-N` keeps the question beside itself, and exits with N.
pub fn answer(program: &str) -> Option<i32> {
    let code = program.rsplit('/').next()?.strip_prefix("answer-")?.parse().ok()?;
    let mut question = Vec::new();
    let _ = std::io::stdin().read_to_end(&mut question);
    let _ = std::fs::write(format!("{program}.asked"), question);
    Some(code)
}
