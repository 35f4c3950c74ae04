//! A shell on a terminal of its own, typed at and read from as a person would.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::scene::usual_signals;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::pty::{Winsize, grantpt, posix_openpt, ptsname_r, unlockpt};

/// How long to wait for something to appear.
const PATIENCE: Duration = Duration::from_secs(60);

/// bash with job control, as the leader of a session on a pseudo terminal.
pub struct Terminal {
    master: File,
    shell: Child,
    seen: String,
    /// Everything up to here was expected already.
    at: usize,
}

impl Terminal {
    /// Starts it; the environment and directory are those of `like`.
    pub fn open(like: &Command) -> Terminal {
        let (master, slave) = pseudo_terminal();
        let end = || Stdio::from(slave.try_clone().expect("a second descriptor"));
        let mut shell = Command::new("bash");
        shell.args(["--norc", "--noprofile", "--noediting", "-i"]).env("PS1", "$ ").env("TERM", "dumb");
        for (name, value) in like.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        shell.current_dir(like.get_current_dir().expect("a directory"));
        shell.stdin(end()).stdout(end()).stderr(end());
        // SAFETY: setsid and ioctl are async-signal-safe.
        unsafe {
            shell.pre_exec(|| {
                nix::unistd::setsid()?;
                if libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        usual_signals(&mut shell);
        let shell = shell.spawn().expect("bash starts");
        drop(slave);
        let mut terminal = Terminal { master, shell, seen: String::new(), at: 0 };
        terminal.resize(24, 80);
        terminal.expect("$ ");
        terminal
    }

    /// Types text; `\x03` is Ctrl-C, `\x1a` Ctrl-Z, `\x04` Ctrl-D, `\n` the return key.
    pub fn type_in(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("typing");
    }

    /// Types Ctrl-Z at the job in the foreground, and waits for the shell's prompt.
    #[track_caller]
    pub fn stop_job(&mut self) {
        self.type_in("\x1a");
        self.expect("Stopped");
        self.expect("$ ");
    }

    /// Has the shell's last job go on in the foreground, and waits until what is typed is the job's: the shell names a job
    /// before it passes the terminal on.
    #[track_caller]
    pub fn fetch_job(&mut self) {
        self.type_in("fg\n");
        self.expect("fg\r\n");
        let end = Instant::now() + PATIENCE;
        while self.foreground() == self.shell.id() {
            assert!(Instant::now() < end, "the terminal was not passed on:\n{}", self.processes());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The terminal's foreground group (tcgetpgrp(3)).
    fn foreground(&self) -> u32 {
        let group = nix::unistd::tcgetpgrp(&self.master).expect("a terminal has a foreground group");
        u32::try_from(group.as_raw()).expect("a group")
    }

    /// Waits until `text` has appeared after what was expected last; gives what stood before it.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = self.seen[self.at..].find(text) {
                let before = self.seen[self.at..self.at + found].to_owned();
                self.at += found + text.len();
                return before;
            }
            assert!(
                self.read_until(end),
                "{text:?} did not appear; the terminal shows:\n{}\nits processes:\n{}",
                self.seen,
                self.processes()
            );
        }
    }

    /// Types a command that prints, and gives its line of output.
    #[track_caller]
    pub fn ask(&mut self, command: &str) -> String {
        self.type_in(&format!("echo answer:$({command}):end\n"));
        // The first is the echo of what was typed.
        self.expect("answer:$(");
        self.expect("answer:");
        self.expect(":end")
    }

    /// Changes the size of the window.
    pub fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: TIOCSWINSZ reads one winsize.
        let result = unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TIOCSWINSZ, &size) };
        assert_eq!(result, 0, "TIOCSWINSZ");
    }

    /// Hangs up: the window is closed.
    pub fn hang_up(mut self) {
        drop(std::mem::replace(&mut self.master, tempfile::tempfile().expect("a file")));
    }

    /// Every process of the terminal, with the state that tells who waits for whom.
    fn processes(&self) -> String {
        let terminal = |stat: &str| stat_field(stat, TTY).map(str::to_owned);
        let own = std::fs::read_to_string(format!("/proc/{}/stat", self.shell.id())).unwrap_or_default();
        let mut text = String::new();
        for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
            let read = |name: &str| std::fs::read_to_string(entry.path().join(name)).unwrap_or_default();
            let stat = read("stat");
            if stat.is_empty() || terminal(&stat) != terminal(&own) {
                continue;
            }
            text.push_str(stat.trim_end());
            text.push_str(&format!("\n  waits in {} {}", read("wchan"), read("syscall")));
            let status = read("status");
            for line in status.lines().filter(|line| line.contains("Pnd:") || line.starts_with("SigBlk")) {
                text.push_str(&format!("  {}\n", line.replace('\t', " ")));
            }
        }
        text
    }

    /// Reads what is there, or waits for it; false when time is up.
    fn read_until(&mut self, end: Instant) -> bool {
        let left = end.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        if left.is_zero() || nix::poll::poll(&mut fds, timeout) == Ok(0) {
            return false;
        }
        let mut bytes = [0u8; 4096];
        match self.master.read(&mut bytes) {
            Ok(0) | Err(_) => false,
            Ok(count) => {
                self.seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
                true
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

/// The controlling terminal in /proc/PID/stat, counted behind the command's name (proc(5)).
const TTY: usize = 4;

fn stat_field(stat: &str, number: usize) -> Option<&str> {
    stat.rsplit_once(") ")?.1.split(' ').nth(number)
}

/// Both ends. Close-on-exec from the start (openpty(3) is not): commands of other tests must not inherit them.
fn pseudo_terminal() -> (File, File) {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let master = posix_openpt(flags).expect("a pseudo terminal");
    grantpt(&master).expect("grantpt");
    unlockpt(&master).expect("unlockpt");
    let name = ptsname_r(&master).expect("its name");
    let slave = File::options()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY)
        .open(name)
        .expect("its other end");
    (File::from(OwnedFd::from(master)), slave)
}
