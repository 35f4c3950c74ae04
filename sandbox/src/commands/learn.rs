//! `sandbox learn`: a policy out of what runs did, or more rules for one.

mod update;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::mem::ManuallyDrop;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use policy::evaluate::Indexed;
use policy::learn::{Learned, Options, Run, Strictness, learn};
use policy::{Decision, Policy};

use super::{different, doubtful, output};
use crate::cli::{LearnArgs, StrictnessArg};
use crate::exit::Exit;
use crate::launch::policy::{PolicyError, Surroundings, load, read_text, reference};
use crate::review::learn::{Gathered, gather_all};
use crate::review::text::{grouped, safe};

/// What is left out for one rule that is told one by one; a new policy has the others in its head.
const LISTED: usize = 10;

/// Makes the policy, and says what it leaves out. Status 1: it is made of too few runs to be enforced.
///
/// # Errors
/// A run cannot be read, the base cannot be extended, or the output cannot be written.
pub fn execute(args: &LearnArgs) -> anyhow::Result<Exit> {
    if let Some(policy) = &args.update {
        return update::execute(args, policy);
    }
    args.output.as_deref().map_or(Ok(()), output::must_be_absent)?;
    let name = name(args)?;
    // Where it will lie, for a base beside it.
    let file = args.output.clone().unwrap_or_else(|| PathBuf::from("learned.yaml"));
    let base = base_of(&args.base, &file)?;
    // What long runs asked is not taken apart piece by piece when the process ends anyway.
    let gathered = ManuallyDrop::new(gathered(&args.runs)?);
    let frame = Frame { name: &name, base: &base, file: &file, defaults: [Decision::Deny; 3] };
    let learned = learned(&gathered, &frame, strictness(args.strictness))?;
    tell(&gathered, &learned);
    learned.confidence.lines().iter().for_each(|line| eprintln!("{line}"));
    match &args.output {
        Some(output) => {
            output::create(output, &learned.text)?;
            eprintln!("wrote {}", output.display());
        }
        None => std::io::stdout().write_all(learned.text.as_bytes()).context("cannot print the policy")?,
    }
    Ok(if learned.confidence.is_enough() { Exit::SUCCESS } else { Exit::FAILURE })
}

/// After a run: proposes a policy in `file`, or adds to the one that is there, as `owner`, whose the run was. What is at
/// that name by now may be of the run's making, and may lead to what only root may read or write: a process of the
/// owner's own goes there, which ends of the signals that this one waits out.
///
/// # Errors
/// It could not be started, or did not do it; then it has said why.
pub fn propose(run: &Path, file: &Path, owner: Option<(u32, u32)>) -> anyhow::Result<()> {
    let mut learn = Command::new("/proc/self/exe");
    learn.arg("learn").arg(run);
    match file.symlink_metadata() {
        Ok(_) => learn.arg("--update").arg(file),
        Err(_) => learn.arg("-o").arg(file),
    };
    if let Some((uid, gid)) = owner {
        // With it the other groups go.
        learn.gid(gid).uid(uid);
    }
    let status = learn.status().context("cannot start `sandbox learn`")?;
    // 1: nobody should enforce it yet, or not all of it was added.
    match status.code() {
        Some(0 | 1) => Ok(()),
        _ => bail!("`sandbox learn` {status}; the record is there to learn from"),
    }
}

/// Looks before a run whether [`propose`] could do its work: a run may take hours. `surroundings` are the run's.
///
/// # Errors
/// There is something else than a policy at that name, or no directory for one.
pub fn can_propose(file: &Path, surroundings: Surroundings<'_>) -> anyhow::Result<()> {
    match file.symlink_metadata() {
        Ok(_) => {
            if !file.is_file() {
                bail!("--learn: {} is no regular file", file.display());
            }
            if !reference(file)?.contains('/') {
                bail!("--learn: {0} ships with this program; `./{0}` is a file of your own", file.display());
            }
            load(file, surroundings).context("--learn: what it would add to is no policy")?;
        }
        Err(_) => {
            let directory = output::directory_of(file);
            if !directory.is_dir() {
                bail!("--learn: there is no directory {}; make it first", directory.display());
            }
        }
    }
    Ok(())
}

/// The base as a policy in `file` extends it, in YAML.
fn base_of(base: &Path, file: &Path) -> anyhow::Result<String> {
    let named = reference(base)?;
    if !named.contains('/') {
        return Ok(named);
    }
    let found = fs::canonicalize(base).with_context(|| format!("cannot find {}", base.display()))?;
    let beside = std::path::absolute(file).ok().and_then(|file| file.parent()?.canonicalize().ok());
    let name = match (found.parent(), found.file_name()) {
        (Some(parent), Some(name)) if Some(parent) == beside.as_deref() => Path::new(".").join(name),
        _ => found.clone(),
    };
    quoted(&name)
}

/// A path as YAML has it.
pub(super) fn quoted(path: &Path) -> anyhow::Result<String> {
    let Some(text) = path.to_str().filter(|text| !text.chars().any(char::is_control)) else {
        bail!("{} cannot stand in a policy: give it a name of plain characters", path.display());
    };
    Ok(policy::edit::quoted(text))
}

/// What the runs of these names did.
///
/// # Errors
/// One cannot be read, or its record is not whole: who could cut it or write it could choose what is learned.
fn gathered(runs: &[String]) -> anyhow::Result<Vec<Gathered>> {
    let found = different(runs)?;
    let gathered = gather_all(&found)?;
    for (run, gathered) in found.iter().zip(&gathered) {
        if let Some(doubt) = &gathered.read.doubt {
            bail!("{}\nnothing is learned from it", doubtful(run, doubt));
        }
    }
    Ok(gathered)
}

/// What is around the rules that are learned.
struct Frame<'a> {
    /// The policy's name.
    name: &'a str,
    /// What it extends.
    base: &'a str,
    /// Where it would lie.
    file: &'a Path,
    /// What holds where no rule does, in files, exec and network.
    defaults: [Decision; 3],
}

/// A policy within that frame.
fn learned(gathered: &[Gathered], frame: &Frame<'_>, strictness: Strictness) -> anyhow::Result<Learned> {
    let Frame { name, base, file, defaults } = *frame;
    let [files, exec, network] = defaults.map(Decision::name);
    let frame = format!(
        "version: 1\nname: {name}\nextends: [{base}]\nfiles: {{ default: {files} }}\nexec: {{ default: {exec} }}\n\
         network: {{ default: {network} }}\n"
    );
    let bases: Vec<Policy> =
        gathered.iter().map(|run| read_text(file, &frame, &run.variables)).collect::<Result<_, _>>()?;
    let bases: Vec<Indexed<'_>> = bases.iter().map(Indexed::new).collect();
    let runs: Vec<Run<'_>> = gathered
        .iter()
        .zip(&bases)
        .map(|(run, base)| Run { variables: &run.variables, base, seen: &run.seen })
        .collect();
    let attempts = gathered.iter().map(|run| run.read.attempts).sum();
    let about = about(gathered, attempts, strictness, base);
    let options = Options { name, base, strictness, about: &about };
    let read = |index: usize, text: &str| -> Result<Policy, PolicyError> {
        let run: &Gathered = &gathered[index];
        read_text(file, text, &run.variables)
    };
    learn(&runs, &options, &read).context("cannot make a policy that extends this base")
}

/// What the records do not tell, and what is left out.
fn tell(gathered: &[Gathered], learned: &Learned) {
    for note in gathered.iter().flat_map(|run| &run.read.notes) {
        eprintln!("note: {}", safe(note.as_bytes()));
    }
    if !learned.left_out.is_empty() {
        eprintln!("left out, although it was seen:");
        // Many of one rule must not hide those of another.
        for same in learned.left_out.chunk_by(|one, other| one.rule == other.rule) {
            for left in same.iter().take(LISTED) {
                eprintln!("  {}", safe(left.line(gathered.len()).as_bytes()));
            }
            if let Some(left) = same.get(LISTED) {
                let by = left.rule.as_deref().map_or(String::new(), |rule| format!(": {rule}"));
                eprintln!("  and {} more{by}", same.len() - LISTED);
            }
        }
    }
}

fn strictness(given: StrictnessArg) -> Strictness {
    match given {
        StrictnessArg::Exact => Strictness::Exact,
        StrictnessArg::Balanced => Strictness::Balanced,
        StrictnessArg::Loose => Strictness::Loose,
    }
}

/// The policy's name: a word.
fn name(args: &LearnArgs) -> anyhow::Result<String> {
    let is_word = |name: &str| {
        // What YAML takes for something else than text.
        let other = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
        !other.contains(&name.to_ascii_lowercase().as_str())
            && name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    match (&args.name, args.output.as_deref().and_then(Path::file_stem).and_then(|stem| stem.to_str())) {
        (Some(name), _) if is_word(name) => Ok(name.clone()),
        (Some(name), _) => bail!("--name takes a word of letters, digits, `-` and `_`, not {name:?}"),
        (None, Some(stem)) if is_word(stem) => Ok(stem.to_owned()),
        (None, _) => Ok("learned".to_owned()),
    }
}

fn about(runs: &[Gathered], attempts: u64, strictness: Strictness, base: &str) -> Vec<String> {
    let commands: BTreeSet<String> = runs
        .iter()
        .map(|run| run.command.iter().map(|word| safe(word)).collect::<Vec<_>>().join(" "))
        .collect();
    let mut lines = vec![format!(
        "Learned from {} {} ({} attempts), {}, on top of {base}.",
        runs.len(),
        if runs.len() == 1 { "run" } else { "runs" },
        grouped(attempts),
        strictness.name(),
    )];
    lines.extend(commands.iter().take(5).map(|command| format!("  {command}")));
    if commands.len() > 5 {
        lines.push(format!("  and {} other commands", commands.len() - 5));
    }
    lines
}
