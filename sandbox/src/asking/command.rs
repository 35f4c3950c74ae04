//! `--ask-cmd`: a program that answers. It gets the question as JSON on stdin, as the run's user, and answers by its exit
//! status.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::desk::Desk;
use super::{Answer, Open};
use crate::launch::identity::Target;

/// How often it is looked whether the program has ended.
const LOOK: Duration = Duration::from_millis(20);

/// Exit statuses.
const ONCE: i32 = 0;
const RUN: i32 = 3;
const NO_ANSWER: i32 = 4;

/// The program.
#[derive(Clone, Debug)]
pub struct Command {
    /// Its file.
    pub program: PathBuf,
    /// As whom it runs.
    pub target: Target,
    /// The run that asks.
    pub run_id: String,
}

impl Command {
    /// Asks; the answer comes to `desk`, where the program gives one before the deadline. `closed` says that somebody else
    /// has answered.
    pub(super) fn ask(&self, question: &Open, deadline: Instant, closed: Arc<AtomicBool>, desk: Desk) {
        let (command, question) = (self.clone(), question.clone());
        let ask = move || {
            let number = question.number;
            match command.run(&question, deadline, &closed) {
                Ok(Some(answer)) => desk.answer_by_command(number, answer),
                Ok(None) => {}
                // A program that cannot be asked allows nothing.
                Err(_) => desk.answer_by_command(number, Answer::Deny),
            }
        };
        // Without a thread the question waits for others, and for its end.
        let _ = std::thread::Builder::new().name("ask-cmd".into()).spawn(ask);
    }

    fn run(
        &self,
        question: &Open,
        deadline: Instant,
        closed: &AtomicBool,
    ) -> std::io::Result<Option<Answer>> {
        let mut text = serde_json::to_vec(&serde_json::json!({
            "run": self.run_id,
            "question": question.number,
            "rules": question.rules,
            "because": question.because,
            "act": question.act,
            "pid": question.pid,
            "program": question.program,
            "seconds_left": question.seconds_left,
        }))?;
        text.push(b'\n');
        let mut child = self.start()?;
        if let Some(mut stdin) = child.stdin.take() {
            // Shorter than a pipe's room: a program that does not read it does not hold this up.
            let _ = stdin.write_all(&text);
        }
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(match status.code() {
                    Some(ONCE) => Some(Answer::Once),
                    Some(RUN) => Some(Answer::Run),
                    Some(NO_ANSWER) => None,
                    _ => Some(Answer::Deny),
                });
            }
            if closed.load(Ordering::Acquire) || Instant::now() >= deadline {
                end(&mut child);
                return Ok(None);
            }
            std::thread::sleep(LOOK);
        }
    }

    fn start(&self) -> std::io::Result<Child> {
        let mut command = std::process::Command::new(&self.program);
        let variables: Vec<(OsString, OsString)> = self.target.environment().variables();
        command.env_clear().envs(variables).current_dir("/").process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        if nix::unistd::Uid::effective().is_root() {
            let target = self.target.clone();
            // SAFETY: system calls only, but for a list of groups: the allocator's locks are held by no other thread
            // across the fork of glibc, which takes them.
            unsafe { command.pre_exec(move || target.assume()) };
        }
        command.spawn()
    }
}

/// Ends a program and what it started in its process group.
fn end(child: &mut Child) {
    if let Ok(pid) = i32::try_from(child.id()) {
        let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }
    let _ = child.kill();
    let _ = child.wait();
}
