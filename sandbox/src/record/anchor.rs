//! Anchors: the log's head, handed to somebody else while the run goes on.
//!
//! A chain shows edits relative to a head that the attacker could not change. An anchor takes that head elsewhere: a
//! command that is given one line of JSON, or the system's log. It gets the first line's hash before the command starts
//! (a failure then refuses the run: who asks for an anchor relies on it), each checkpoint, and the seal.
//!
//! A slow anchor holds up neither the log nor the run: it works on a thread of its own, and of checkpoints that come
//! meanwhile only the latest is handed on. What became of it is told at the end of the run.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use audit_verify::canonical::ObjectWriter;
use audit_verify::chain::Position;

use audit_verify::text::safe;

/// How long one anchor may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often to look whether a command has ended.
const LOOK: Duration = Duration::from_millis(5);

/// How much of the end of a command's stderr is kept, in bytes.
const SAID_MAX: usize = 4 << 10;

/// How much of its last line is shown, in characters.
const SAID_SHOWN: usize = 300;

/// Facility and severity of a line for syslog: authpriv.notice (RFC 3164: 10 * 8 + 5).
const PRIORITY: u8 = 85;

/// Where heads go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `sh -c COMMAND`, with [`PATH`] and in `/`, which finds one line of JSON on its stdin and must end with 0.
    Command(OsString),
    /// The socket of the system's log, usually `/dev/log`.
    Syslog(PathBuf),
}

/// Where the programs of a command are looked for: none of these is an ordinary user's to write.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What ends a word of the shell's, or quotes one.
const BETWEEN_WORDS: &[u8] = b" \t\n;|&<>()'\"`$={}";

impl Target {
    /// The files that a command's line names by their absolute paths: it is run outside of the run, so they are not the run's
    /// to change. What those programs execute or read besides is not known here.
    pub fn files(&self) -> Vec<PathBuf> {
        let Target::Command(command) = self else { return Vec::new() };
        let words = command.as_bytes().split(|byte| BETWEEN_WORDS.contains(byte));
        let paths =
            words.filter(|word| word.starts_with(b"/")).map(|word| PathBuf::from(OsStr::from_bytes(word)));
        paths.filter(|path| path.is_file()).collect()
    }

    /// What to do where it takes nothing.
    fn hint(&self) -> &'static str {
        match self {
            Target::Command(_) => "",
            Target::Syslog(_) => "; --anchor-syslog=SOCKET names another socket of a system's log",
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::Command(command) => write!(f, "the command `{}`", command.to_string_lossy()),
            Target::Syslog(socket) => write!(f, "syslog at {}", socket.display()),
        }
    }
}

/// What a head is that of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The first line.
    Start,
    /// A checkpoint.
    Checkpoint,
    /// The seal.
    Seal,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Stage::Start => "start",
            Stage::Checkpoint => "checkpoint",
            Stage::Seal => "seal",
        }
    }
}

/// An anchor that did not take a head.
#[derive(Debug, thiserror::Error)]
#[error("anchor the log: {target}: {why}{hint}")]
pub struct AnchorError {
    target: String,
    why: io::Error,
    hint: &'static str,
}

/// What became of the heads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnchorReport {
    /// Heads that were taken.
    pub taken: u64,
    /// Heads that were not.
    pub failed: u64,
    /// Why the last of these was not.
    pub error: Option<String>,
    /// Whether the seal was taken.
    pub sealed: bool,
}

impl AnchorReport {
    /// What the user should know of it, if anything.
    pub fn note(&self) -> Option<String> {
        let error = self.error.as_ref()?;
        let all = self.taken + self.failed;
        let seal = if self.sealed { "" } else { "; keep the head that is printed here elsewhere" };
        Some(format!("{} of {all} heads of this log were not anchored: {error}{seal}", self.failed))
    }
}

/// One line of JSON for whoever keeps heads, without newline.
fn message(run_id: &str, stage: Stage, at: Position) -> Vec<u8> {
    let mut text = Vec::new();
    let mut object = ObjectWriter::new(&mut text);
    object.put("events", at.seq).put("head", at.head.as_str());
    object.put("run_id", run_id).put("stage", stage.name());
    // The keys ascend, so nothing can fail.
    let _ = object.finish();
    text
}

#[derive(Debug, Default)]
struct Shared {
    report: Mutex<AnchorReport>,
    changed: Condvar,
}

/// Hands heads of one run on.
#[derive(Debug)]
pub struct Anchor {
    heads: Option<SyncSender<(Stage, Position)>>,
    shared: Arc<Shared>,
}

impl Anchor {
    /// Hands on the first head and waits until everybody has it; then goes on in the background.
    ///
    /// # Errors
    /// Somebody does not take it, or there is no thread.
    pub fn start(targets: Vec<Target>, run_id: &str, at: Position) -> Result<Self, AnchorError> {
        for target in &targets {
            hand(target, run_id, Stage::Start, at).map_err(|why| AnchorError {
                target: target.to_string(),
                why,
                hint: target.hint(),
            })?;
        }
        let shared = Arc::new(Shared::default());
        shared.report.lock().unwrap_or_else(PoisonError::into_inner).taken = 1;
        // One that is under way, and one that waits.
        let (heads, work) = sync_channel(1);
        let (run_id, told) = (run_id.to_owned(), Arc::clone(&shared));
        thread::Builder::new()
            .name("record-anchor".into())
            .spawn(move || work_off(&targets, &run_id, &work, &told))
            .map_err(|why| AnchorError { target: "a thread".to_owned(), why, hint: "" })?;
        Ok(Self { heads: Some(heads), shared })
    }

    /// Hands on a checkpoint unless others still wait: a later one says more.
    pub fn checkpoint(&self, at: Position) {
        if let Some(heads) = &self.heads {
            let _ = heads.try_send((Stage::Checkpoint, at));
        }
    }

    /// Hands on the seal and waits for it, as long as an anchor may take.
    pub fn seal(mut self, at: Position) -> AnchorReport {
        if let Some(heads) = self.heads.take() {
            let _ = heads.send((Stage::Seal, at));
        }
        let until = Instant::now() + 2 * PATIENCE;
        let mut report = self.shared.report.lock().unwrap_or_else(PoisonError::into_inner);
        // The thread says so, one way or the other, when it is done.
        while !report.sealed && Instant::now() < until && Arc::strong_count(&self.shared) > 1 {
            let waited = self.shared.changed.wait_timeout(report, Duration::from_millis(20));
            report = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        report.clone()
    }

    /// What became of the heads so far, where there will be no seal.
    pub fn report(&self) -> AnchorReport {
        self.shared.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn work_off(targets: &[Target], run_id: &str, heads: &Receiver<(Stage, Position)>, shared: &Shared) {
    while let Ok((stage, at)) = heads.recv() {
        let mut failure = None;
        for target in targets {
            if let Err(error) = hand(target, run_id, stage, at) {
                failure = Some(format!("{target}: {error}"));
            }
        }
        let mut report = shared.report.lock().unwrap_or_else(PoisonError::into_inner);
        match failure {
            None => {
                report.taken += 1;
                report.sealed |= stage == Stage::Seal;
            }
            Some(error) => {
                report.failed += 1;
                report.error = Some(error);
            }
        }
        shared.changed.notify_all();
    }
}

fn hand(target: &Target, run_id: &str, stage: Stage, at: Position) -> io::Result<()> {
    let message = message(run_id, stage, at);
    match target {
        Target::Command(command) => {
            let mut shell = Command::new("/bin/sh");
            shell.arg("-c").arg(command).env("PATH", PATH);
            shell.env("SANDBOX_RUN_ID", run_id).env("SANDBOX_STAGE", stage.name());
            shell.env("SANDBOX_EVENTS", at.seq.to_string()).env("SANDBOX_HEAD", at.head.as_str());
            shell.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
            // A group of its own, so that it can be ended whole.
            std::os::unix::process::CommandExt::process_group(&mut shell, 0);
            let mut child = shell.spawn()?;
            let said = child.stderr.take().map(Said::listen).transpose()?;
            let because = |what: String| match said.as_ref().and_then(Said::last_line) {
                Some(line) => format!("{what}: {line}"),
                None => what,
            };
            if let Some(mut stdin) = child.stdin.take() {
                // It need not read. A pipe takes this much without a reader.
                let _ = stdin.write_all(&[&message[..], b"\n"].concat());
            }
            match wait(&mut child) {
                Ok(status) if status.success() => Ok(()),
                Ok(status) => Err(io::Error::other(because(format!("it ended with {status}")))),
                Err(error) => Err(io::Error::new(error.kind(), because(error.to_string()))),
            }
        }
        Target::Syslog(socket) => {
            let datagram = UnixDatagram::unbound()?;
            datagram.set_write_timeout(Some(PATIENCE))?;
            datagram.connect(socket)?;
            let text = [format!("<{PRIORITY}>sandbox: ").as_bytes(), &message].concat();
            datagram.send(&text).map(|_| ())
        }
    }
}

/// The end of what a command says on stderr.
#[derive(Debug)]
struct Said {
    tail: Arc<Mutex<Vec<u8>>>,
    ended: Receiver<()>,
}

impl Said {
    /// Reads on a thread of its own, so that neither a command that says much nor one that leaves others behind with its
    /// stderr holds up the run.
    fn listen(mut stderr: ChildStderr) -> io::Result<Self> {
        let tail = Arc::new(Mutex::new(Vec::new()));
        let (end, ended) = sync_channel(0);
        let kept = Arc::clone(&tail);
        thread::Builder::new().name("record-anchor-said".into()).spawn(move || {
            // Dropped with the thread: that is how the other side knows.
            let _end: SyncSender<()> = end;
            let mut chunk = [0; SAID_MAX];
            while let Ok(length @ 1..) = stderr.read(&mut chunk) {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend_from_slice(&chunk[..length]);
                let over = kept.len().saturating_sub(SAID_MAX);
                kept.drain(..over);
            }
        })?;
        Ok(Self { tail, ended })
    }

    /// The last line that is not blank, safe for a terminal, of a bounded length.
    fn last_line(&self) -> Option<String> {
        // The command has ended; only another process that it left behind can still hold the other end.
        let _ = self.ended.recv_timeout(Duration::from_secs(1));
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&tail);
        let line = text.lines().map(str::trim).rfind(|line| !line.is_empty())?;
        let short: String = line.chars().take(SAID_SHOWN).collect();
        let more = if short.len() < line.len() { "…" } else { "" };
        Some(format!("{}{more}", safe(short.as_bytes())))
    }
}

/// Waits for the command, and ends it when it takes too long.
fn wait(child: &mut Child) -> io::Result<ExitStatus> {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() >= until {
            let group = i32::try_from(child.id()).unwrap_or(i32::MAX);
            // It has not been waited for, so the number is still its own.
            let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(group), nix::sys::signal::SIGKILL);
            child.wait()?;
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("it took more than {} s", PATIENCE.as_secs()),
            ));
        }
        thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use audit_verify::Hash;

    fn at(seq: u64) -> Position {
        Position { seq, head: Hash::of(&[&seq.to_le_bytes()]) }
    }

    #[test]
    fn a_command_gets_every_stage_and_the_report_tells() {
        let place = tempfile::tempdir().unwrap();
        let kept = place.path().join("kept");
        let command = format!("cat >> {0}; echo $SANDBOX_STAGE $SANDBOX_EVENTS >> {0}", kept.display());
        let anchor = Anchor::start(vec![Target::Command(command.into())], "r", at(1)).unwrap();
        let report = anchor.seal(at(9));
        assert_eq!(report, AnchorReport { taken: 2, failed: 0, error: None, sealed: true });
        let text = std::fs::read_to_string(kept).unwrap();
        let head = |seq| at(seq).head;
        let expected = format!(
            "{{\"events\": 1, \"head\": \"{}\", \"run_id\": \"r\", \"stage\": \"start\"}}\nstart 1\n\
             {{\"events\": 9, \"head\": \"{}\", \"run_id\": \"r\", \"stage\": \"seal\"}}\nseal 9\n",
            head(1),
            head(9)
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn the_files_that_a_line_names_are_known() {
        let place = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let path = place.path().join(name);
            std::fs::write(&path, "").unwrap();
            path
        };
        let (one, two) = (file("one"), file("two"));
        let named = |line: String| Target::Command(line.into()).files();
        let line = format!(
            "sh {} --to=\"{}\" {}/none; {}|/bin",
            one.display(),
            two.display(),
            one.display(),
            two.display()
        );
        assert_eq!(named(line), [one, two.clone(), two]);
        assert_eq!(named("ssh -n log@elsewhere record".to_owned()), Vec::<PathBuf>::new());
        assert_eq!(Target::Syslog("/dev/log".into()).files(), Vec::<PathBuf>::new());
    }

    #[test]
    fn one_that_fails_at_the_start_refuses_and_one_that_fails_later_is_told() {
        let fails = Target::Command("exit 3".into());
        let error = Anchor::start(vec![fails], "r", at(1)).unwrap_err().to_string();
        assert_eq!(error, "anchor the log: the command `exit 3`: it ended with exit status: 3");
        // What it says last on stderr is told, and sends nothing to the terminal.
        let says =
            "yes noise | head -c 100000 >&2; printf 'first\\nno \\033[2Jroute to host\\n\\n' >&2; exit 3";
        let error = Anchor::start(vec![Target::Command(says.into())], "r", at(1)).unwrap_err().to_string();
        assert!(error.ends_with("it ended with exit status: 3: no \\x1b[2Jroute to host"), "{error}");
        let says = "printf %5000s x | tr ' ' x >&2; exit 3";
        let error = Anchor::start(vec![Target::Command(says.into())], "r", at(1)).unwrap_err().to_string();
        assert!(error.ends_with(&format!("status: 3: {}…", "x".repeat(SAID_SHOWN))), "{error}");
        let later = Target::Command("test $SANDBOX_STAGE = start".into());
        let anchor = Anchor::start(vec![later], "r", at(1)).unwrap();
        let note = anchor.seal(at(2)).note().unwrap();
        assert!(note.starts_with("1 of 2 heads of this log were not anchored: the command"), "{note}");
    }

    #[test]
    fn syslog_gets_a_datagram() {
        let place = tempfile::tempdir().unwrap();
        let socket = place.path().join("log");
        let log = UnixDatagram::bind(&socket).unwrap();
        Anchor::start(vec![Target::Syslog(socket)], "r", at(1)).unwrap();
        let mut buffer = [0; 512];
        let length = log.recv(&mut buffer).unwrap();
        let text = String::from_utf8_lossy(&buffer[..length]);
        assert!(text.starts_with("<85>sandbox: {\"events\": 1, \"head\": \""), "{text}");
        let error =
            Anchor::start(vec![Target::Syslog("/no/such".into())], "r", at(1)).unwrap_err().to_string();
        assert!(error.contains("/no/such") && error.contains("--anchor-syslog=SOCKET"), "{error}");
    }
}
