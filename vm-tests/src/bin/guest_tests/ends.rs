//! When a process of the runner dies, an enforced run ends within a second and is held until then; a run
//! that only audits goes on. The log of either is incomplete for ever.

use crate::denials::POLICY;
use crate::process::{Listed, Watched, executing, until};
use crate::run::{self, Finished, Run, SANDBOX};
use crate::{Trial, WORK, write};
use anyhow::{Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub const TRIALS: &[Trial] = &[
    ("enforced, front-end killed", || enforced(Part::FrontEnd)),
    ("enforced, collector killed", || enforced(Part::Collector)),
    ("enforced, guardian killed", || enforced(Part::Guardian)),
    ("enforced, collector stopped", stopped),
    ("audited, front-end killed", || audited(Part::FrontEnd)),
    ("audited, collector killed", || audited(Part::Collector)),
    ("audited, guardian killed", || audited(Part::Guardian)),
    ("nothing stays in the kernel", nothing_stays),
];

/// What architecture.md promises.
const BOUND: Duration = Duration::from_secs(1);
/// After how long without a heartbeat a collector counts as stopped.
const SILENCE: Duration = Duration::from_secs(3);
/// Three processes of the tree that the probe's step `hold` makes.
const TREE: usize = 3;
/// How many attempts each of them makes before anything is killed.
const ATTEMPTS: u64 = 20;

#[derive(Clone, Copy, Debug)]
enum Part {
    FrontEnd,
    Collector,
    Guardian,
}

impl Part {
    /// How its `comm` begins.
    fn name(self) -> &'static str {
        match self {
            Part::FrontEnd => "sandbox",
            Part::Collector => "sandbox-collec",
            Part::Guardian => "sandbox-guard",
        }
    }
}

/// A run whose tree keeps trying to read /etc/shadow.
struct Held {
    run: Run,
    dir: PathBuf,
    tree: Vec<Watched>,
    runner: Vec<Listed>,
}

impl Held {
    fn start(name: &str, option: &str) -> Result<Held> {
        let policy = write("ends.yaml", POLICY)?;
        let dir = Path::new(WORK).join(format!("{name}.tree"));
        std::fs::create_dir(&dir)?;
        let step = format!("hold={},/etc/shadow", dir.display());
        let run = run::start(name, &[option, &policy, "--require", "lsm"], &[&step])?;
        let run = run.once("the tree makes attempts", || {
            let counts = counts(&dir)?;
            Ok(counts.len() == TREE && counts.iter().all(|(_, count)| *count >= ATTEMPTS))
        })?;
        let tree = counts(&dir)?.iter().map(|(pid, _)| Watched::open(*pid)).collect::<Result<_>>()?;
        let runner = executing(SANDBOX)?;
        Ok(Held { run, dir, tree, runner })
    }

    /// The process of the runner that is this part.
    fn part(&self, part: Part) -> Result<Watched> {
        let front = self.run.front().pid;
        let is_part = |process: &&Listed| match part {
            Part::FrontEnd => process.pid == front,
            _ => process.pid != front && process.name.starts_with(part.name()),
        };
        let found: Vec<&Listed> = self.runner.iter().filter(is_part).collect();
        match found[..] {
            [process] => Watched::open(process.pid),
            _ => bail!("{} processes of the runner are the {part:?}: {:?}", found.len(), self.runner),
        }
    }

    /// Waits until the whole runner has ended: with the tree dead, none of it has anything left to do.
    fn finish(self) -> Result<Finished> {
        for process in self.runner.iter().filter(|process| process.pid != self.run.front().pid) {
            // One that is gone cannot be opened.
            let Ok(process) = Watched::open(process.pid) else { continue };
            ensure!(
                process.ended_by(Instant::now() + 30 * BOUND)?,
                "{process:?} of {:?} is still there",
                self.runner
            );
        }
        self.run.finish()
    }

    /// Fails unless the tree is dead before `bound` has passed since `start`, and never read the file.
    fn expect_dead(&self, start: Instant, bound: Duration) -> Result<()> {
        let mut outlived = Vec::new();
        for process in &self.tree {
            if !process.ended_by(start + bound)? {
                outlived.push(process.pid);
            }
        }
        ensure!(!self.leaked()?, "the tree read /etc/shadow");
        ensure!(outlived.is_empty(), "after {bound:?} there were still {outlived:?} of {:?}", self.tree);
        println!("       the tree was dead after {} ms", start.elapsed().as_millis());
        Ok(())
    }

    fn leaked(&self) -> Result<bool> {
        Ok(std::fs::exists(self.dir.join("leak"))?)
    }
}

/// Pid and number of attempts of each process of the tree.
fn counts(dir: &Path) -> Result<Vec<(u32, u64)>> {
    let mut counts = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else { continue };
        if let Ok(bytes) = std::fs::read(entry.path())?.try_into() {
            counts.push((pid, u64::from_ne_bytes(bytes)));
        }
    }
    Ok(counts)
}

fn enforced(part: Part) -> Result<()> {
    let held = Held::start(&format!("{part:?}"), "--enforce")?;
    let victim = held.part(part)?;
    ensure!(!held.leaked()?, "the tree read /etc/shadow before anything was killed");
    let start = Instant::now();
    victim.signal(libc::SIGKILL)?;
    held.expect_dead(start, BOUND)?;
    let finished = held.finish()?;
    match part {
        Part::FrontEnd => ensure!(finished.status.code().is_none(), "the front-end survived SIGKILL"),
        Part::Collector | Part::Guardian => finished.expect_code(122)?,
    }
    finished.expect_verdict(2)
}

/// A collector that is stopped, not dead: the guardian misses its heartbeat.
fn stopped() -> Result<()> {
    let held = Held::start("stopped", "--enforce")?;
    let victim = held.part(Part::Collector)?;
    let start = Instant::now();
    victim.signal(libc::SIGSTOP)?;
    held.expect_dead(start, SILENCE + BOUND)?;
    // The front-end continues it itself, and it may be gone by now.
    let _ = victim.signal(libc::SIGCONT);
    let finished = held.finish()?;
    finished.expect_code(122)?;
    finished.expect_verdict(2)
}

fn audited(part: Part) -> Result<()> {
    let held = Held::start(&format!("audited-{part:?}"), "--policy")?;
    let victim = held.part(part)?;
    ensure!(held.leaked()?, "auditing alone kept the tree from reading /etc/shadow");
    victim.signal(libc::SIGKILL)?;
    ensure!(victim.ended_by(Instant::now() + BOUND)?, "the {part:?} survived SIGKILL");
    // Each goes on for longer than an enforced run would have had.
    let before = counts(&held.dir)?;
    let start = Instant::now();
    until("the tree goes on", Duration::from_secs(20), || {
        let now = counts(&held.dir)?;
        let goes_on = |(pid, count): &(u32, u64)| now.iter().any(|(p, c)| p == pid && *c >= count + ATTEMPTS);
        Ok(before.iter().all(goes_on) && start.elapsed() > 2 * BOUND)
    })?;
    std::fs::write(held.dir.join("stop"), "")?;
    for process in &held.tree {
        ensure!(process.ended_by(Instant::now() + 30 * BOUND)?, "{process:?} did not stop");
    }
    let finished = held.finish()?;
    match part {
        Part::FrontEnd => ensure!(finished.status.code().is_none(), "the front-end survived SIGKILL"),
        // What the command returned is still the runner's status.
        Part::Collector | Part::Guardian => finished.expect_code(7)?,
    }
    finished.expect_verdict(2)
}

/// A command that has ended is not kept waiting for the kernel, which takes its time to take a hook off: it goes on after
/// the runner's end, but to an end. Nobody else in the guest attaches anything.
fn nothing_stays() -> Result<()> {
    until("runs of before are gone", GONE, || Ok(links()? == 0))?;
    let policy = write("ends.yaml", POLICY)?;
    let go = Path::new(WORK).join("nothing-stays.go");
    let wait = format!("wait={}", go.display());
    let run = run::start("nothing-stays", &["--enforce", &policy, "--require", "lsm"], &[&wait])?;
    let run = run.once("its hooks are attached", || Ok(links()? > 40))?;
    std::fs::write(&go, "")?;
    let finished = run.finish()?;
    finished.expect_code(0)?;
    finished.expect_verdict(0)?;
    until("the run's programs are gone", GONE, || Ok(links()? == 0))
}

/// How long the kernel may take: a tenth of a second for each hook, and this is an emulator.
const GONE: Duration = Duration::from_secs(60);

/// How many BPF programs are attached by links (BPF_LINK_GET_NEXT_ID, bpf(2)).
fn links() -> Result<u32> {
    const BPF_LINK_GET_NEXT_ID: libc::c_long = 31;
    // start_id, next_id, open_flags.
    let mut attribute = [0u32; 3];
    for count in 0.. {
        // SAFETY: the attribute is as long as is said, and the kernel writes into it only.
        let done = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                BPF_LINK_GET_NEXT_ID,
                attribute.as_mut_ptr(),
                size_of_val(&attribute),
            )
        };
        if done != 0 {
            let error = std::io::Error::last_os_error();
            ensure!(error.raw_os_error() == Some(libc::ENOENT), "cannot list the links: {error}");
            return Ok(count);
        }
        attribute[0] = attribute[1];
    }
    bail!("more links than there are numbers")
}
