//! Whose turn it is at the kernel's hooks: programs of a run that starts go before those of runs that have ended.
//!
//! Taking the last program off a hook waits for a grace period, a tenth of a second each (`ftrace_shutdown` of
//! kernel/trace/ftrace.c, `synchronize_rcu_tasks_rude`), under the lock that attaching takes as well. With some forty
//! hooks, a run that starts right after another would wait out most of that. While one starts, the others hold on to
//! what they have attached; and once its own are on, taking theirs off is quick, since they are no longer the last.
//!
//! It is courtesy, not protection: whoever can read the file can hold the lock, so nobody waits for it longer than
//! [`MOST`], and who cannot take it starts without.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};

use super::btf::VMLINUX;

/// What is locked: it is there wherever programs can be attached to hooks, and nobody else locks it.
const FILE: &str = VMLINUX;

/// How long all of a run's programs together wait for others that start.
const MOST: Duration = Duration::from_secs(10);

/// How often who waits looks again.
const LOOK: Duration = Duration::from_millis(10);

/// While it lives, ended runs leave the hooks alone.
#[derive(Debug)]
pub struct Turn {
    _locked: Option<File>,
}

impl Turn {
    /// Begins it; without a file to lock it is a turn that nobody sees.
    pub fn begin() -> Turn {
        let lock = |file: &File| fcntl(file, FcntlArg::F_OFD_SETLK(&whole(libc::F_RDLCK)));
        Turn { _locked: File::open(FILE).ok().filter(|file| lock(file).is_ok()) }
    }
}

/// Closes descriptors of links, and so takes programs off, one by one between the turns of others.
pub fn close(links: Vec<OwnedFd>) {
    close_within(MOST, links);
}

fn close_within(most: Duration, links: Vec<OwnedFd>) {
    let file = File::open(FILE).ok();
    let busy = || file.as_ref().is_some_and(is_locked);
    let until = Instant::now() + most;
    for link in links {
        while busy() && Instant::now() < until {
            std::thread::sleep(LOOK);
        }
        drop(link);
    }
}

/// Whether somebody holds a lock on it.
fn is_locked(file: &File) -> bool {
    let mut wanted = whole(libc::F_WRLCK);
    let asked = fcntl(file, FcntlArg::F_OFD_GETLK(&mut wanted));
    asked.is_ok() && i32::from(wanted.l_type) != libc::F_UNLCK
}

fn whole(kind: i32) -> libc::flock {
    libc::flock {
        l_type: kind as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: 0,
        l_len: 0,
        // Locks of open file descriptions have none (fcntl(2)).
        l_pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    /// One end of a pipe says when the other is closed.
    #[test]
    fn who_starts_goes_before_who_has_ended() {
        if !std::path::Path::new(FILE).exists() {
            return;
        }
        let turn = Turn::begin();
        assert!(turn._locked.is_some(), "{FILE} can be locked");
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let closer = std::thread::spawn(move || close(vec![writer.into()]));
        std::thread::sleep(LOOK * 5);
        assert!(!closer.is_finished(), "closed during another's turn");
        drop(turn);
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).expect("the end");
        closer.join().expect("no panic");
    }

    #[test]
    fn nobody_waits_for_ever() {
        if !std::path::Path::new(FILE).exists() {
            return;
        }
        let _turn = Turn::begin();
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let began = Instant::now();
        let most = LOOK * 5;
        close_within(most, vec![writer.into()]);
        assert!(began.elapsed() >= most);
        assert_eq!(reader.read(&mut [0]).expect("the end"), 0);
    }
}
