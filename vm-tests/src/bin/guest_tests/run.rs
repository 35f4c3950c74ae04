//! Drives the built `sandbox` and `audit-verify`.

use crate::WORK;
use crate::log::Log;
use crate::process::Watched;
use anyhow::{Context, Result, bail, ensure};
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The runner.
pub const SANDBOX: &str = "/usr/bin/sandbox";
/// The command of every run.
pub const PROBE: &str = "/usr/bin/guest-probe";
const AUDIT_VERIFY: &str = "/usr/bin/audit-verify";

/// Nothing here takes longer; what does has hung.
const PATIENCE: Duration = Duration::from_secs(240);

/// A run under way.
#[derive(Debug)]
pub struct Run {
    /// Its directory.
    pub dir: PathBuf,
    name: String,
    child: Child,
    watched: Watched,
}

/// A run that has ended.
#[derive(Debug)]
pub struct Finished {
    /// Its directory.
    pub dir: PathBuf,
    /// How the front-end ended.
    pub status: ExitStatus,
    /// What came out of it.
    pub stdout: String,
    /// Messages.
    pub stderr: String,
}

/// Starts `sandbox run OPTIONS -- guest-probe STEPS` with its record in a directory of this name.
pub fn start(name: &str, options: &[&str], steps: &[&str]) -> Result<Run> {
    let dir = PathBuf::from(WORK).join(name);
    let mut command = Command::new(SANDBOX);
    command.arg("run").args(options).arg("--run-dir").arg(&dir).arg("--").arg(PROBE).args(steps);
    command.stdin(Stdio::null());
    // Files, not pipes: a pipe ends only when everything that inherited it has.
    command.stdout(File::create(output(name, "stdout"))?).stderr(File::create(output(name, "stderr"))?);
    let child = command.spawn().with_context(|| format!("cannot run {SANDBOX}"))?;
    let watched = Watched::open(child.id())?;
    Ok(Run { dir, name: name.to_owned(), child, watched })
}

fn output(name: &str, stream: &str) -> PathBuf {
    PathBuf::from(WORK).join(format!("{name}.{stream}"))
}

impl Run {
    /// The front-end.
    pub fn front(&self) -> &Watched {
        &self.watched
    }

    /// Waits until something holds of the run; fails, with the runner's messages, when it ends before.
    pub fn once(self, what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<Run> {
        let deadline = Instant::now() + PATIENCE;
        while !holds()? {
            if self.watched.ended_by(Instant::now())? || Instant::now() >= deadline {
                self.watched.signal(libc::SIGKILL)?;
                let finished = self.finish()?;
                bail!("{what}: it did not\nstdout: {}\nstderr: {}", finished.stdout, finished.stderr);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(self)
    }

    /// Waits until the front-end has ended.
    pub fn finish(mut self) -> Result<Finished> {
        let ended = self.watched.ended_by(Instant::now() + PATIENCE)?;
        if !ended {
            self.child.kill()?;
        }
        let status = self.child.wait()?;
        let read = |stream| {
            std::fs::read(output(&self.name, stream)).map(|b| String::from_utf8_lossy(&b).into_owned())
        };
        let (stdout, stderr) = (read("stdout")?, read("stderr")?);
        ensure!(ended, "the run {} hung\nstdout: {stdout}\nstderr: {stderr}", self.name);
        Ok(Finished { dir: self.dir, status, stdout, stderr })
    }
}

impl Finished {
    /// Fails unless the front-end exited with this code.
    pub fn expect_code(&self, code: i32) -> Result<()> {
        if self.status.code() == Some(code) {
            return Ok(());
        }
        let how = self
            .status
            .signal()
            .map_or_else(|| format!("{:?}", self.status.code()), |s| format!("signal {s}"));
        // The output last: a suite's is long, and what is printed of a failure may be cut.
        bail!("sandbox ended with {how}, not {code}\nstderr: {}\nstdout: {}", self.stderr, self.stdout)
    }

    /// Its log.
    pub fn log(&self) -> Result<Log> {
        Log::read(&self.dir)
    }

    /// Fails unless audit-verify gives this exit code for the record.
    pub fn expect_verdict(&self, code: i32) -> Result<()> {
        let output = Command::new(AUDIT_VERIFY).arg(&self.dir).output().context("cannot run audit-verify")?;
        ensure!(
            output.status.code() == Some(code),
            "audit-verify ended with {}, not {code}: {}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }
}

/// Starts a run and waits for it.
pub fn complete(name: &str, options: &[&str], steps: &[&str]) -> Result<Finished> {
    start(name, options, steps)?.finish()
}

/// What the probe answers outside of any run.
pub fn outside(steps: &[&str]) -> Result<String> {
    let output =
        Command::new(PROBE).args(steps).stdin(Stdio::null()).output().context("cannot run the probe")?;
    ensure!(output.status.success(), "the probe failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
