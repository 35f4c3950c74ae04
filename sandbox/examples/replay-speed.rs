//! How long `sandbox policy replay` takes: `cargo build --release -p sandbox --bins --examples`, then as root
//! `target/release/examples/replay-speed [EVENTS] [POLICY…]`.
//!
//! Records a real run with the `sandbox` of the same build: it walks the machine's files and opens them, makes,
//! renames and removes files of a work tree, and starts programs below shells, as a build does. Then replays the
//! record against each policy (those that ship, where none is named), five times each, and prints the wall time of
//! whole commands. Nothing is asserted. With `RUN_DIR=DIRECTORY` the record stays there, and is used again if it is
//! there already.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

/// What the workload is called by.
const WORK: &str = "--work";
/// Policies that are replayed where none is named.
const POLICIES: [&str; 3] = ["base", "coding-agent", "ci-job"];
/// How often each.
const TIMES: usize = 5;
/// Opens between two programs that are started.
const BETWEEN: u64 = 100;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number =
        |text: Option<&String>| text.map_or(Ok(100_000), |text| text.parse()).context("EVENTS is a number");
    if arguments.first().is_some_and(|first| first == WORK) {
        return work(number(arguments.get(1))?);
    }
    let events: u64 = number(arguments.first())?;
    let named = arguments.iter().skip(1).map(fs::canonicalize).collect::<Result<Vec<_>, _>>()?;
    let policies = match named.is_empty() {
        true => POLICIES.map(PathBuf::from).to_vec(),
        false => named,
    };
    let place = tempfile::tempdir()?;
    let tree = place.path().join("tree");
    fs::create_dir(&tree)?;
    // Policies may speak of the repository.
    let _ = Command::new("git").args(["init", "-q"]).current_dir(&tree).status();
    let run = std::env::var_os("RUN_DIR").map_or_else(|| place.path().join("run"), PathBuf::from);
    if !run.join("events.jsonl").exists() {
        record(&tree, &run, events)?;
    }
    let lines = BufReader::new(fs::File::open(run.join("events.jsonl"))?).lines().count();
    let size = fs::metadata(run.join("events.jsonl"))?.len();
    println!("{lines} lines, {size} bytes\n{:<24} {:>9} {:>9}", "", "best s", "worst s");
    for policy in &policies {
        let mut took = (0..TIMES).map(|_| replay(&tree, &run, policy)).collect::<anyhow::Result<Vec<_>>>()?;
        took.sort_unstable();
        let name = policy.file_stem().unwrap_or_default().to_string_lossy();
        println!("{name:<24} {:>9.3} {:>9.3}", took[0].as_secs_f64(), took[TIMES - 1].as_secs_f64());
    }
    Ok(())
}

/// The `sandbox` that was built with this example.
fn sandbox() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own.parent().and_then(Path::parent).context("an example lies two folders down")?;
    Ok(folder.join("sandbox"))
}

fn record(tree: &Path, run: &Path, events: u64) -> anyhow::Result<()> {
    let mut command = Command::new(sandbox()?);
    command.args(["run", "--audit-only", "--run-dir"]).arg(run).arg("--").arg(std::env::current_exe()?);
    let status = command.arg(WORK).arg(events.to_string()).current_dir(tree).status()?;
    ensure!(status.success(), "the run ended with {status}");
    Ok(())
}

fn replay(tree: &Path, run: &Path, policy: &Path) -> anyhow::Result<Duration> {
    let mut command = Command::new(sandbox()?);
    command.args(["policy", "replay"]).arg(policy).arg(run.join("events.jsonl")).current_dir(tree);
    let begun = Instant::now();
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    let took = begun.elapsed();
    // Status 1: something would have been blocked.
    ensure!(status.code().is_some_and(|code| code < 2), "replaying {} ended with {status}", policy.display());
    Ok(took)
}

/// Makes at least so many events.
fn work(events: u64) -> anyhow::Result<()> {
    let mut made = 0;
    let mut waiting: Vec<PathBuf> = Vec::new();
    while made < events {
        let Some(folder) = waiting.pop() else {
            waiting.extend(["/etc", "/usr", "/var/lib", "/opt", "/root"].map(PathBuf::from));
            continue;
        };
        made += 1;
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => waiting.push(path),
                Ok(kind) if kind.is_file() => {
                    // Whether it can be opened does not matter.
                    let _ = fs::File::open(&path);
                    made += 1;
                    if made.is_multiple_of(BETWEEN) {
                        made += build_step(made)?;
                    }
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Something made in the work tree, by this program and by others below a shell; says how many events at least.
fn build_step(number: u64) -> anyhow::Result<u64> {
    let folder = PathBuf::from(format!("out/{}", number % 64));
    fs::create_dir_all(&folder)?;
    let (new, old) = (folder.join(format!("{number}.tmp")), folder.join(format!("{number}.o")));
    fs::write(&new, "x")?;
    fs::rename(&new, &old)?;
    let script = format!("cat {0} > {0}.copy; sh -c 'cat {0}.copy > /dev/null'; rm {0}.copy", old.display());
    let status = Command::new("sh").args(["-c", &script]).status()?;
    ensure!(status.success(), "the shell ended with {status}");
    Ok(20)
}
