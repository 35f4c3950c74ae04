//! Makes attempts inside a guest and prints what the kernel answered; it judges nothing.
//!
//! Each argument is a step, taken in order. A step that is an attempt prints `STEP<TAB>RESULT`, where RESULT
//! is 0 or `-errno`. Every attempt is the bare system call: no library retries it or puts its own reading on
//! an errno. A step of [`places`] moves the rest of the steps elsewhere: another thread, another process.

mod acts;
mod asking;
mod attributes;
mod batch;
mod hold;
mod names;
mod net;
mod origins;
mod places;
mod race;
mod raw;
mod swap;
mod uring;
mod why;

use raw::Errno;
use std::ffi::CString;
use std::io::Write;
use std::time::{Duration, Instant};

const USAGE: &str = "\
usage: guest-probe STEP...

attempts
  read=PATH  write=PATH  openat2=PATH    open, and close again
  content=PATH                           read a byte; ENODATA where there is none
  reopen=PATH                            O_PATH, then /proc/self/fd/N for reading
  compat-read=PATH                       open(2) of the 32-bit table
  run=PATH                               fork and execve
  load=PATH                              open, and map as code
  connect-tcp=ADDR:PORT  connect-mptcp=  connect-udp=  fastopen=  udp=  udp-msg=
  udp-unspec=  udp6-v4=  bind-tcp=  bind-udp=  listen=  serve=  serve-udp=  own-gone=  talk=
  unix-stream=NAME  unix-seqpacket=  unix-datagram=  unix-connect-datagram=  unix-bind=  unix-serve=
  unix-relative=DIR,NAME  unix-pair  socket=FAMILY,TYPE,PROTOCOL
                                         see net.rs
  race-read=PATH                         see race.rs
  flood=DIR,COUNT  hammer=ALLOWED,DENIED,ROUNDS,DONE
                                         see asking.rs
  uring-read=PATH  uring-connect=ADDR:PORT
                                         the same by a worker of io_uring
  create=PATH  create-read=  create-open=  create-openat2=  mkdir=  mknod=  symlink=  unlink=  rmdir=  truncate=  chmod=  chown=  bind-path=
  link=PATH,PATH  rename=  exchange=  tmpfile=DIR,PATH
                                         see names.rs
  utimes=PATH  futimes=  setxattr=  fsetxattr=  removexattr=  set-acl=  remove-acl=  chattr=
  memfd-attributes                       see attributes.rs
  own-parent=fcntl|fcntl-ex|ioctl        name the parent as a socket's owner
  many=COUNT  memory=MIB                 children at a time; memory that is written to
  mount=DIR  open-tree=DIR  chroot=DIR  userns  traceme  attach-parent  signal-parent  bpf
  attach=PID  signal=PID                 the same of another process
  userfaultfd  kcmp  io-cancel  getpid  setns  perf  keyctl  finit-module  io-uring  set-clock
                                         calls that come to nothing: an errno of their own, or EPERM
                                         see acts.rs
  why-write                              write to the runner's answer about denials
  why-flood=THREADS                      ask for it without end, for a while
                                         see why.rs
  inherited=FD  receive=SOCKET  pass=PATH  pass-own  handle=PATH  reopen-deleted=  overwrite=  deep=DIR
  run-memfd=PATH  as-memfd=STEP  load-memfd=PATH  reopen-memfd  run-deleted=PATH  gain=PATH
                                         see origins.rs
  swap-read=LINK,ALLOWED,DENIED,ROUNDS   see swap.rs
places, for all the steps after it
  dead-leader  exec-in-thread  daemon
  within=PROGRAM                         a child that executes another copy of this program
other
  touch=PATH  wait=PATH                  make a file; wait until there is one
  keys=  lines=                          have the terminal give single keys, or lines again
  repeat=PATH,STEP                       take a step until there is such a file
  hold=DIR,PATH                          see hold.rs
  become=PROGRAM,ARGUMENT,...            execute it with nothing open but the standard streams, and no
                                         environment
  batch=FILE                             the attempts of a file, see batch.rs
  exit=CODE";

/// How long `wait` waits.
const PATIENCE: Duration = Duration::from_secs(180);

fn main() {
    if let Some(code) = std::env::args().next().as_deref().and_then(asking::answer) {
        std::process::exit(code);
    }
    let steps: Vec<String> = std::env::args().skip(1).collect();
    if steps.is_empty() {
        eprintln!("{USAGE}");
        std::process::exit(2);
    }
    std::process::exit(take(&steps));
}

/// Takes the steps in order; returns the exit code.
pub fn take(steps: &[String]) -> i32 {
    for (index, step) in steps.iter().enumerate() {
        let (word, object) = step.split_once('=').unwrap_or((step, ""));
        let rest = &steps[index + 1..];
        match word {
            "dead-leader" => return places::dead_leader(rest),
            "exec-in-thread" => return places::exec_in_thread(rest),
            "daemon" => return places::daemon(rest),
            "within" => return places::within(object, rest),
            "hold" => return hold::hold(object),
            "become" => return places::become_program(object),
            "batch" => {
                if let Err(message) = batch::take(object) {
                    return usage(&message);
                }
            }
            "touch" => {
                if let Err(error) = std::fs::write(object, "") {
                    return usage(&format!("cannot make {object}: {error}"));
                }
            }
            "wait" => {
                if !wait(object) {
                    return usage(&format!("waited too long for {object}"));
                }
            }
            "repeat" => {
                let Some((stop, again)) = object.split_once(',') else { return usage("repeat takes two") };
                while !std::fs::exists(stop).unwrap_or(false) {
                    if take(&[again.to_owned()]) != 0 {
                        return 2;
                    }
                }
            }
            "exit" => return object.parse().unwrap_or_else(|_| usage("exit takes a code")),
            _ => match attempt(word, object) {
                Some(result) => report(step, result),
                None => return usage(&format!("no step {step:?}")),
            },
        }
    }
    0
}

fn usage(message: &str) -> i32 {
    eprintln!("guest-probe: {message}");
    2
}

/// One attempt; `None` when there is no such step.
fn attempt(word: &str, object: &str) -> Option<Result<(), Errno>> {
    let path = CString::new(object).ok()?;
    Some(match word {
        "read" => raw::open(&path, libc::O_RDONLY).map(drop),
        "keys" => places::take_keys(),
        "lines" => places::take_lines(),
        "write" => raw::open(&path, libc::O_WRONLY | libc::O_APPEND).map(drop),
        "openat2" => raw::openat2(&path, libc::O_RDONLY).map(drop),
        "compat-read" => raw::compat_open(&path, libc::O_RDONLY).map(drop),
        "reopen" => reopen(&path),
        "content" => content(object),
        "race-read" => race::read(&path),
        "load" => raw::open(&path, libc::O_RDONLY).and_then(|file| raw::map_code(&file)),
        "run" => places::run(&path),
        "why-write" => why::write(),
        "why-flood" => why::flood(object.parse().ok()?),
        "env" => std::env::var_os(object).map(drop).ok_or(libc::ENOENT),
        "swap-read" => return swap::read(object),
        "flood" => return asking::flood(object),
        "hammer" => return asking::hammer(object),
        "stays" => return asking::stays(object),
        "uring-read" => uring::open(&path),
        "uring-connect" => uring::connect(object.parse().ok()?),
        _ => match names::attempt(word, object)
            .or_else(|| attributes::attempt(word, &path))
            .or_else(|| acts::attempt(word, &path))
            .or_else(|| origins::attempt(word, &path))
            .or_else(|| net::other(word, object))
        {
            Some(result) => result,
            None => return net::attempt(word, object.parse().ok()?),
        },
    })
}

/// O_PATH asks for no access; opening what it leads to does.
fn reopen(path: &CString) -> Result<(), Errno> {
    use std::os::fd::AsRawFd;
    let handle = raw::open(path, libc::O_PATH)?;
    let link = CString::new(format!("/proc/self/fd/{}", handle.as_raw_fd())).map_err(|_| libc::EINVAL)?;
    raw::open(&link, libc::O_RDONLY).map(drop)
}

/// A file that something empty lies over opens, for whoever may read everything.
fn content(path: &str) -> Result<(), Errno> {
    use std::io::Read;
    let read = std::fs::File::open(path).and_then(|mut file| file.read(&mut [0]));
    match read.map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))? {
        0 => Err(libc::ENODATA),
        _ => Ok(()),
    }
}

/// One line, in one write.
fn report(step: &str, result: Result<(), Errno>) {
    let number = result.err().map_or(0, |errno| -errno);
    let line = format!("{step}\t{number}\n");
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush());
}

/// Waits until there is such a file; false when it took too long.
fn wait(path: &str) -> bool {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if std::fs::exists(path).unwrap_or(false) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}
