//! One case: what is tried, and what must come of it.

use std::fmt::Write as _;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::record;
use crate::site::{Lab, PYTHON};

/// No command takes longer, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(480);

/// What is tried under one policy, in one run.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Its name; also that of its files.
    pub name: &'static str,
    /// The policy that it runs under: its text, or the name of one that ships.
    pub policy: &'static str,
    /// What the command does, in order.
    pub steps: &'static [Step],
    /// What the record must tell. What it tells to be blocked on the network must be among them.
    pub events: &'static [Event],
    /// Parts of what must arrive at servers.
    pub arrives: &'static [&'static str],
    /// Parts of what must not arrive there, and does without a sandbox.
    pub never: &'static [&'static str],
    /// A name that gets another address meanwhile.
    pub moves: Option<Move>,
}

/// A step of the client, and what comes of it.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// The step.
    pub step: &'static str,
    /// What comes of it without a sandbox.
    pub bare: &'static str,
    /// What comes of it in a run: one of these, with `|` between them.
    pub held: &'static str,
}

impl Step {
    /// The sandbox makes no difference to it.
    pub const fn same(step: &'static str, result: &'static str) -> Step {
        Step { step, bare: result, held: result }
    }

    /// Without a sandbox it succeeds.
    pub const fn held(step: &'static str, bare: &'static str, held: &'static str) -> Step {
        Step { step, bare, held }
    }
}

/// An event of the record.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// `event_type`.
    pub kind: &'static str,
    /// `action`.
    pub action: &'static str,
    /// Keys with their values; lists with commas, and nothing for a key that must not be there.
    pub fields: &'static [(&'static str, &'static str)],
}

/// When the client has made the file `asked`, the name has another address; then the client is told so by the file `go`.
#[derive(Clone, Copy, Debug)]
pub struct Move {
    /// The name.
    pub name: &'static str,
    /// Its address before.
    pub from: &'static str,
    /// Its address after.
    pub to: &'static str,
}

/// How a case is tried.
#[derive(Clone, Copy, Debug)]
pub enum Mode<'a> {
    /// Without a sandbox.
    Bare,
    /// In an enforced run.
    Held(&'a Sandbox),
}

/// The product.
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// Its program.
    pub program: PathBuf,
    /// Options of `sandbox run` beside the policy.
    pub options: Vec<String>,
}

/// Tries cases of one policy, all in one run, and compares all that can be seen of them. One of them at most has a name
/// that moves.
///
/// # Errors
/// What is not as it should be, with all that a person needs to see why.
pub fn run(lab: &mut Lab, cases: &[Case], mode: Mode<'_>) -> Result<()> {
    let Some(first) = cases.first() else { return Ok(()) };
    ensure!(cases.iter().all(|case| case.policy == first.policy), "cases of several policies in one run");
    let name = first.name.replace(' ', "-");
    let moves = cases.iter().find_map(|case| case.moves);
    for file in ["asked", "go"] {
        let _ = std::fs::remove_file(lab.path(file));
    }
    if let Some(moves) = moves {
        lab.point(moves.name, moves.from)?;
    }
    lab.settle()?;
    // To wait for the end of something makes sense only where it ends.
    let bare = matches!(mode, Mode::Bare);
    let steps = cases.iter().flat_map(|case| case.steps);
    let steps: Vec<&Step> = steps.filter(|step| !(bare && step.step.starts_with("sleep="))).collect();
    let client = lab.client(steps.iter().map(|step| step.step));
    let record = lab.path(&format!("run-{name}"));
    let mut command = match mode {
        Mode::Bare => lab.command(PYTHON.as_ref()),
        Mode::Held(sandbox) => {
            let mut policy = PathBuf::from(first.policy);
            if first.policy.contains('\n') {
                policy = lab.path(&format!("{name}.yaml"));
                std::fs::write(&policy, first.policy)?;
            }
            let mut command = lab.command(&sandbox.program);
            command.arg("run").arg("--enforce").arg(&policy).args(&sandbox.options);
            command.arg("--run-dir").arg(&record).arg("--").arg(PYTHON);
            command
        }
    };
    command.args(client);
    let done = finish(lab, command, &name, moves.as_ref())?;
    let arrived = lab.settle()?;
    let mut wrong = done.compare(&steps, mode);
    for case in cases {
        wrong += &arrivals(case, mode, &arrived);
    }
    if matches!(mode, Mode::Held(_)) {
        let events: Vec<Event> = cases.iter().flat_map(|case| case.events).copied().collect();
        if let Err(error) = record::compare(&record, &events) {
            let _ = writeln!(wrong, "{error:#}");
        }
    }
    ensure!(wrong.is_empty(), "{wrong}{}\nthe servers got\n  {}", done.stderr.trim(), arrived.join("\n  "));
    Ok(())
}

struct Done {
    status: ExitStatus,
    stdout: String,
    stderr: String,
}

impl Done {
    /// What differs from the steps' results, a line each.
    fn compare(&self, steps: &[&Step], mode: Mode<'_>) -> String {
        let mut wrong = String::new();
        if !self.status.success() {
            let _ = writeln!(wrong, "the command ended with {}", self.status);
        }
        let mut lines = self.stdout.lines();
        for step in steps {
            let expected = match mode {
                Mode::Bare => step.bare,
                Mode::Held(_) => step.held,
            };
            let line = lines.next().unwrap_or("nothing");
            let fits = line.split_once('\t').is_some_and(|(told, result)| {
                told == step.step && expected.split('|').any(|expected| expected == result)
            });
            if !fits {
                let _ = writeln!(wrong, "{}: expected {expected:?}, found {line:?}", step.step);
            }
        }
        for line in lines {
            let _ = writeln!(wrong, "more: {line:?}");
        }
        wrong
    }
}

/// What arrived and should not have, or the reverse.
fn arrivals(case: &Case, mode: Mode<'_>, arrived: &[String]) -> String {
    let has = |part: &str| arrived.iter().any(|line| line.contains(part));
    let mut wrong = String::new();
    for part in case.arrives.iter().filter(|part| !has(part)) {
        let _ = writeln!(wrong, "did not arrive: {part}");
    }
    for part in case.never {
        match (mode, has(part)) {
            (Mode::Bare, false) => writeln!(wrong, "does not arrive without a sandbox: {part}"),
            (Mode::Held(_), true) => writeln!(wrong, "arrived: {part}"),
            _ => Ok(()),
        }
        .unwrap_or_default();
    }
    wrong
}

/// Runs the command to its end, and changes the name's address when the client has come so far.
fn finish(lab: &mut Lab, mut command: Command, name: &str, moves: Option<&Move>) -> Result<Done> {
    // Files, not pipes: a process left behind must not hold up the test.
    let output = |stream: &str| lab.path(&format!("{name}.{stream}"));
    let (stdout, stderr) = (output("stdout"), output("stderr"));
    command.stdout(File::create(&stdout)?).stderr(File::create(&stderr)?);
    let mut child = command.spawn().with_context(|| format!("{command:?} does not start"))?;
    let ended = wait(lab, &mut child, moves);
    if ended.is_err() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let read = |path| std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let (stdout, stderr) = (read(&stdout)?, read(&stderr)?);
    let status = ended.with_context(|| format!("stdout: {stdout}\nstderr: {stderr}"))?;
    Ok(Done { status, stdout, stderr })
}

fn wait(lab: &mut Lab, child: &mut Child, mut moves: Option<&Move>) -> Result<ExitStatus> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if let Some(moved) = moves.take_if(|_| lab.path("asked").exists()) {
            lab.point(moved.name, moved.to)?;
            File::create(lab.path("go"))?;
        }
        if Instant::now() >= deadline {
            bail!("the command takes longer than {PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
