//! Boots a kernel with an image under qemu, and says how the command inside ended.
//!
//! Emulation only (TCG): it is the same everywhere, and needs no privilege. The first serial port is the
//! kernel's console, kept in a file; the second carries the command's output and the end line. qemu's own
//! exit status means nothing here, a guest that panics leaves 0.

use crate::image::Image;
use crate::kernel::Kernel;
use crate::wire::{Orders, Outcome};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The program.
pub const QEMU: &str = "qemu-system-x86_64";

/// Emulation of two processors by one thread, in turns. With a thread for each, qemu before 8.1 can translate
/// code while another processor writes it, and a guest that patches its own kernel, as switching a tracepoint
/// on does, now and then dies of a breakpoint that is no longer there ("Oops: int3"; mended by QEMU's commit
/// deba78709ae8, "accel/tcg: Always lock pages before translation"). It is as quick, and leaves the other
/// processors of this machine to other guests.
const ACCELERATOR: &str = "tcg,thread=single";

/// What keeps processors from telling secrets by their speed: an emulated one has no such secrets, and a fifth of a guest's
/// time went into it (tables of pages changed at each call, indirect jumps by returns).
const EMULATED: &str = "mitigations=off";

/// LSMs of a guest, unless the command line names others.
pub const DEFAULT_LSM: &str = "lsm=lockdown,capability,landlock,bpf";

/// What kept a boot from ending with an end line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// qemu could not be run.
    #[error("cannot run {QEMU}: install Debian's qemu-system-x86")]
    Qemu(#[source] io::Error),
    /// A file of the boot.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The caller's sink.
    #[error("cannot pass on the guest's output")]
    Output(#[source] io::Error),
    /// Time is up.
    #[error("the guest did not end within {seconds} s; its console ended with:\n{console}")]
    TimedOut {
        /// The limit.
        seconds: u64,
        /// Last lines of the console.
        console: String,
    },
    /// The machine went down without an end line: a panic, or init failed.
    #[error("the guest went down without an end line; its console ended with:\n{console}")]
    NoEndLine {
        /// Last lines of the console.
        console: String,
    },
}

/// One boot.
#[derive(Debug)]
pub struct Boot<'a> {
    /// What to boot.
    pub kernel: &'a Kernel,
    /// Its root file system.
    pub image: &'a Image,
    /// The command and its arguments.
    pub argv: Vec<String>,
    /// More kernel parameters; an `lsm=` among them replaces [`DEFAULT_LSM`].
    pub cmdline: String,
    /// MiB of memory.
    pub memory: u32,
    /// How long it may take.
    pub timeout: Duration,
    /// Where initramfs and console log go; made if missing.
    pub dir: PathBuf,
}

impl Boot<'_> {
    /// Runs the command, passes its output on line by line, and returns how it ended.
    ///
    /// # Errors
    /// Whatever kept it from ending with an end line.
    pub fn run(&self, mut output: impl FnMut(&[u8]) -> io::Result<()>) -> Result<Outcome, Error> {
        let orders = Orders { token: token(), argv: self.argv.clone() };
        let initrd = self.dir.join("initramfs.cpio");
        let console = self.dir.join("console.log");
        self.pack(&initrd, &orders).map_err(|source| Error::Write { path: initrd.clone(), source })?;
        let deadline = Instant::now() + self.timeout;
        let mut qemu = Qemu(self.command(&initrd, &console).spawn().map_err(Error::Qemu)?);
        let lines = read_lines(&mut qemu.0);
        let end = loop {
            match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => match Outcome::parse_end_line(&line, &orders.token) {
                    Some(outcome) => break Ok(outcome),
                    None => output(&line).map_err(Error::Output)?,
                },
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    let console = tail(&console);
                    break Err(Error::TimedOut { seconds: self.timeout.as_secs(), console });
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    break Err(Error::NoEndLine { console: tail(&console) });
                }
            }
        };
        drop(qemu);
        let _ = fs::remove_file(&initrd);
        end
    }

    fn pack(&self, path: &Path, orders: &Orders) -> io::Result<()> {
        fs::create_dir_all(&self.dir)?;
        let mut file = BufWriter::new(File::create(path)?);
        self.image.write(&mut file, orders)?;
        file.flush()
    }

    fn command(&self, initrd: &Path, console: &Path) -> Command {
        let lsm = if self.cmdline.split_whitespace().any(|word| word.starts_with("lsm=")) {
            ""
        } else {
            DEFAULT_LSM
        };
        let append = format!("console=ttyS0 panic=-1 quiet {EMULATED} {lsm} {}", self.cmdline);
        let mut command = Command::new(QEMU);
        command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
        command.args(["-accel", ACCELERATOR, "-smp", "2", "-m", &self.memory.to_string()]);
        command
            .arg("-kernel")
            .arg(&self.kernel.image)
            .arg("-initrd")
            .arg(initrd)
            .args(["-append", append.trim()]);
        command.args(["-serial", &format!("file:{}", console.display())]);
        command.args(["-chardev", "stdio,id=result,signal=off", "-serial", "chardev:result"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command
    }
}

/// A running qemu; dropping it ends it.
struct Qemu(Child);

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Lines of the second serial port, newline included, until qemu closes it.
fn read_lines(qemu: &mut Child) -> mpsc::Receiver<Vec<u8>> {
    let (sender, lines) = mpsc::channel();
    if let Some(stdout) = qemu.stdout.take() {
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stdout);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
                if sender.send(std::mem::take(&mut line)).is_err() {
                    break;
                }
            }
        });
    }
    lines
}

/// Differs from boot to boot.
fn token() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{:x}-{:x}", std::process::id(), now.as_nanos())
}

/// The last lines of a console log.
fn tail(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(25)..].join("\n")
}
