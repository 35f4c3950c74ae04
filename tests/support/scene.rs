//! A store and a working directory of a test's own, and running the product in them.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::binaries::binary;

/// How long a command may take before the test gives it up.
const PATIENCE: Duration = Duration::from_secs(300);

/// A place for one test, removed at its end.
#[derive(Debug)]
pub struct Scene {
    top: TempDir,
}

/// What became of a command.
#[derive(Debug)]
pub struct Done {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Done {
    /// The exit code.
    ///
    /// # Panics
    ///
    /// If a signal ended it.
    #[track_caller]
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("ended by a signal: {self:?}"))
    }

    /// What attempts came to that the command printed, one a line: its name, a space, and 0 or the errno.
    pub fn results(&self) -> BTreeMap<String, String> {
        let line = |line: &str| line.rsplit_once(' ').map(|(name, code)| (name.to_owned(), code.to_owned()));
        self.stdout.lines().filter_map(line).collect()
    }

    /// Checks the exit code, and shows everything if it is another.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code(), code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }
}

impl Scene {
    /// An empty one, which every account may look into.
    ///
    /// # Panics
    ///
    /// If it cannot be made.
    pub fn new() -> Self {
        let top = tempfile::Builder::new().prefix("sandbox-test-").tempdir().expect("a temporary directory");
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(top.path(), open).expect("its permissions");
        std::fs::create_dir(top.path().join("work")).expect("its working directory");
        Scene { top }
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.top.path().join(name)
    }

    /// The working directory.
    pub fn work(&self) -> PathBuf {
        self.path("work")
    }

    /// The store; nothing makes it but the product.
    pub fn store(&self) -> PathBuf {
        self.path("store")
    }

    /// A `sandbox` with this store, in the working directory.
    pub fn sandbox<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        self.command(binary("sandbox"), args)
    }

    /// An `audit-verify` with this store, in the working directory.
    pub fn audit_verify<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        self.command(binary("audit-verify"), args)
    }

    /// Any program, with this store, in the working directory.
    pub fn command<S: AsRef<OsStr>>(
        &self,
        program: impl AsRef<OsStr>,
        args: impl IntoIterator<Item = S>,
    ) -> Command {
        let mut command = Command::new(program);
        command.args(args).current_dir(self.work()).env("SANDBOX_HOME", self.store());
        // Who runs the tests under sudo is not the one whom these runs are for.
        for name in ["SUDO_UID", "SUDO_GID", "SUDO_USER", "SUDO_COMMAND", "RUST_LOG", "RUST_BACKTRACE"] {
            command.env_remove(name);
        }
        // Cargo's own, which makes every program look for its libraries in a dozen places first.
        command.env_remove("LD_LIBRARY_PATH");
        command.env("NO_COLOR", "1");
        usual_signals(&mut command);
        command
    }

    /// `sandbox run --audit-only -- COMMAND…` to its end.
    pub fn record<S: AsRef<OsStr>>(&self, command: impl IntoIterator<Item = S>) -> Done {
        let mut args: Vec<OsString> = ["run", "--audit-only", "--"].map(OsString::from).to_vec();
        args.extend(command.into_iter().map(|arg| arg.as_ref().to_owned()));
        finish(self.sandbox(args))
    }

    /// The directories of the runs in the store, oldest first.
    pub fn runs(&self) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(self.store().join("runs")) else { return Vec::new() };
        let mut runs: Vec<_> = entries.map(|entry| entry.expect("a directory entry").path()).collect();
        runs.retain(|path| path.is_dir() && !path.is_symlink());
        runs.sort();
        runs
    }

    /// The only run in the store.
    ///
    /// # Panics
    ///
    /// If there is none, or more than one.
    #[track_caller]
    pub fn run(&self) -> PathBuf {
        let mut runs = self.runs();
        assert_eq!(runs.len(), 1, "one run in the store: {runs:?}");
        runs.remove(0)
    }

    /// Every file and directory of the store with its size, for comparing before and after.
    pub fn inventory(&self) -> Vec<(PathBuf, u64)> {
        let mut found = Vec::new();
        list(&self.store(), &mut found);
        found.sort();
        found
    }
}

impl Default for Scene {
    fn default() -> Self {
        Self::new()
    }
}

fn list(directory: &Path, found: &mut Vec<(PathBuf, u64)>) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let Ok(about) = entry.metadata() else { continue };
        if about.is_dir() {
            found.push((entry.path(), 0));
            list(&entry.path(), found);
        } else {
            found.push((entry.path(), about.len()));
        }
    }
}

/// Runs a command to its end, with nothing on its stdin.
///
/// # Panics
///
/// If it does not start, or takes longer than five minutes.
#[track_caller]
pub fn finish(mut command: Command) -> Done {
    let keep = || tempfile::tempfile().expect("a temporary file");
    let (mut stdout, mut stderr) = (keep(), keep());
    // Files, not pipes: a process left behind must not hold up the test.
    let give = |file: &File| Stdio::from(file.try_clone().expect("a second descriptor"));
    command.stdin(Stdio::null()).stdout(give(&stdout)).stderr(give(&stderr));
    let mut child = command.spawn().unwrap_or_else(|why| panic!("{command:?} did not start: {why}"));
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("wait") {
            break status;
        }
        if started.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{command:?} took more than {PATIENCE:?}\n{}\n{}", read(&mut stdout), read(&mut stderr));
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    Done { status, stdout: read(&mut stdout), stderr: read(&mut stderr) }
}

fn read(file: &mut File) -> String {
    use std::io::Seek;
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("what a command wrote");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Starts a program with the signals that a terminal sends as they usually are: whoever started the tests in the
/// background may have had them ignored, and that is inherited.
pub fn usual_signals(command: &mut Command) {
    use nix::sys::signal::{SigHandler, Signal, signal};
    use std::os::unix::process::CommandExt;
    let reset = || {
        for number in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM] {
            // SAFETY: the default handler is no function of this program.
            unsafe { signal(number, SigHandler::SigDfl) }?;
        }
        Ok(())
    };
    // SAFETY: sigaction is async-signal-safe.
    unsafe { command.pre_exec(reset) };
}
