//! Questions on the run's own terminal: typed at and read from as a person would.

use crate::asking::{answer, asking, data, expect, once_asked_in};
use crate::attempt::ACCES;
use crate::log::{show, text};
use crate::process::Watched;
use crate::run::{Finished, PROBE, SANDBOX};
use crate::{WORK, write};
use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Nothing here takes longer; what does has hung.
const PATIENCE: Duration = Duration::from_secs(120);

/// A run that leads a session on a terminal.
struct Screen {
    master: File,
    name: String,
    child: Child,
    dir: PathBuf,
    seen: String,
    /// Everything up to here was expected already.
    at: usize,
}

impl Screen {
    fn start(name: &str, options: &[&str], steps: impl FnOnce(&str) -> Vec<String>) -> Result<Screen> {
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let master = posix_openpt(flags)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let pts = ptsname_r(&master)?;
        let slave = File::options().read(true).write(true).custom_flags(libc::O_NOCTTY).open(&pts)?;
        let dir = PathBuf::from(WORK).join(name);
        let mut command = Command::new(SANDBOX);
        command.arg("run").args(options).arg("--run-dir").arg(&dir).arg("--").arg(PROBE).args(steps(&pts));
        command.env("TERM", "linux");
        command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(Stdio::from(slave));
        // SAFETY: setsid and ioctl are async-signal-safe.
        unsafe {
            command.pre_exec(|| {
                nix::unistd::setsid()?;
                if libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let child = command.spawn().context("cannot run sandbox")?;
        drop(command);
        let master = File::from(OwnedFd::from(master));
        Ok(Screen { master, name: pts, child, dir, seen: String::new(), at: 0 })
    }

    fn type_in(&mut self, keys: &str) -> Result<()> {
        Ok(self.master.write_all(keys.as_bytes())?)
    }

    /// Waits until `text` has appeared behind what was expected last; gives what stood before it.
    fn expect(&mut self, text: &str) -> Result<String> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = self.seen[self.at..].find(text) {
                let before = self.seen[self.at..self.at + found].to_owned();
                self.at += found + text.len();
                return Ok(before);
            }
            if !self.read_until(end)? {
                bail!("{text:?} did not appear:\n{}", self.seen);
            }
        }
    }

    fn read_until(&mut self, end: Instant) -> Result<bool> {
        let left = PollTimeout::try_from(end.saturating_duration_since(Instant::now()))?;
        let mut fds = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
        if nix::poll::poll(&mut fds, left)? == 0 {
            return Ok(false);
        }
        let mut bytes = [0; 4096];
        Ok(match self.master.read(&mut bytes) {
            Ok(0) | Err(_) => false,
            Ok(count) => {
                self.seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
                true
            }
        })
    }

    fn finish(mut self) -> Result<Finished> {
        let watched = Watched::open(self.child.id())?;
        let end = Instant::now() + PATIENCE;
        // What it still writes must be read, or it waits for that.
        while self.read_until(end)? {}
        ensure!(watched.ended_by(end)?, "the run hung:\n{}", self.seen);
        let status = self.child.wait()?;
        Ok(Finished { dir: self.dir.clone(), status, stdout: self.seen.clone(), stderr: String::new() })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const PROMPT: &str = "[d]eny, or leave it? ";

pub fn answered_there() -> Result<()> {
    let policy = asking("here", "200s")?;
    let key = data("here/key", "secret")?;
    let go = |number: u32| format!("{WORK}/asking-here.go{number}");
    let (read, told) = (format!("read={key}"), |what: &str| format!("{what}\t0\r\n"));
    let denied = format!("{read}\t{ACCES}\r\n");
    let mut screen =
        Screen::start("asking-here", &["--enforce", &policy, "--require", "lsm", "--ask-here"], |pts| {
            let wait = |number| format!("wait={}", go(number));
            let mut steps = vec![read.clone(), read.clone(), wait(1), read.clone()];
            steps.extend([
                "keys=0".to_owned(),
                read.clone(),
                "lines=0".to_owned(),
                read.clone(),
                read.clone(),
            ]);
            steps.extend([format!("read={pts}"), format!("write={pts}"), "read=/dev/tty".to_owned()]);
            steps
        })?;
    let (dir, pts) = (screen.dir.clone(), screen.name.clone());
    // Once.
    let before = screen.expect(PROMPT)?;
    let said = ["put by the runner", "read /srv/asking/here/key", "asking/keys: a person decides", "\x1b[!p"];
    ensure!(said.iter().all(|word| before.contains(word)), "{before}");
    screen.type_in("o\r")?;
    screen.expect("allowed")?;
    screen.expect(&told(&read))?;
    // What is no answer answers nothing, and what a terminal answers by itself is none.
    screen.expect(PROMPT)?;
    screen.type_in("yes\r")?;
    screen.expect("o, r, a or d?")?;
    screen.type_in("\x1b[5;1R\x1b]lr\x1b\\d\r")?;
    screen.expect("denied: read")?;
    screen.expect(&denied)?;
    // What is typed before a question is the command's.
    screen.type_in("r\r")?;
    screen.expect("r\r\n")?;
    write("asking-here.go1", "")?;
    screen.expect(PROMPT)?;
    screen.type_in("d\r")?;
    screen.expect("denied: read")?;
    screen.expect(&denied)?;
    // While it takes single keys, nobody is asked there.
    screen.expect("keys=0\t0\r\n")?;
    once_asked_in(&dir, &["\"number\":4,"])?;
    answer(&dir, &["deny", "4"], 0, "denied: read")?;
    let between = screen.expect(&denied)?;
    ensure!(!between.contains("put by the runner"), "{between}");
    screen.expect("lines=0\t0\r\n")?;
    // Somebody else may be faster, and keys of the job leave the question open.
    screen.expect(PROMPT)?;
    screen.type_in("o")?;
    answer(&dir, &["deny", "5"], 0, "denied: read")?;
    screen.expect("question 5 is closed")?;
    screen.expect(&denied)?;
    screen.expect(PROMPT)?;
    screen.type_in("\x04")?;
    screen.expect("question 6 stays open")?;
    answer(&dir, &["allow", "6", "--run"], 0, "allowed for this run")?;
    screen.expect(&told(&read))?;
    // The terminal itself is closed to it; what it has is another.
    screen.expect(&format!("read={pts}\t{ACCES}\r\nwrite={pts}\t{ACCES}\r\n{}", told("read=/dev/tty")))?;
    let holder = screen.child.id();
    let finished = screen.finish()?;
    finished.expect_code(0)?;
    finished.expect_verdict(0)?;
    let blocked = "blocked asking/keys";
    let mut story = vec!["ask 1 asking/keys", "answer 1 allow once person"];
    for (ask, answer) in [
        ("ask 2 asking/keys", "answer 2 deny person"),
        ("ask 3 asking/keys", "answer 3 deny person"),
        ("ask 4 asking/keys", "answer 4 deny person"),
        ("ask 5 asking/keys", "answer 5 deny person"),
    ] {
        story.extend([ask, answer, blocked]);
    }
    story.extend(["ask 6 asking/keys", "answer 6 allow run person"]);
    story.extend(["blocked runner/terminal"; 2]);
    expect(&finished, &story)?;
    let log = finished.log()?;
    let events = log.events()?;
    let by = |event| text(event, "answered_by") == format!("person (process {holder})");
    let there = events.iter().filter(|event| by(event)).count();
    ensure!(there == 3, "{}", events.iter().map(show).collect::<Vec<_>>().join("\n"));
    Ok(())
}
