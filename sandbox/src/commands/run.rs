//! `sandbox run`: checks everything, makes what the run needs, launches it, and says how it went ([`told`]).

mod told;

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ::policy::settings::Landlock;
use anyhow::Context;
use audit_verify::ledger::Entry;
use nix::unistd::Uid;

use super::baseline;
use crate::asking;
use crate::cli::RunArgs;
use crate::collector;
use crate::enforce::landlock::Fence;
use crate::error::{Refusal, say};
use crate::evidence::Contents;
use crate::exit::Exit;
use crate::launch::cgroup::Cgroup;
use crate::launch::existing::Expanded;
use crate::launch::frontend::Outcome;
use crate::launch::guardian::OnFailure;
use crate::launch::identity::{Sudo, Target};
use crate::launch::launch;
use crate::launch::limits::LimitGroups;
use crate::launch::plan::{Mode, Parentage, RecordPlan, RunPlan};
use crate::launch::policy;
use crate::launch::program::{Program, ProgramError};
use crate::launch::rlimits;
use crate::launch::standard;
use crate::launch::workspace;
use crate::launch::{aliases, guard, permissions, tmp};
use crate::record::anchor;
use crate::record::ledger::LedgerFile;
use crate::record::store::{Account, Place, RunDir, RunName, StoreDir, StoreError};
use crate::record::time;
use crate::review;
use crate::sensor::{NOT_HELD, wants_notify};
use crate::settings::record::RecordOptions;
use crate::settings::{Layer, LayerChoice, ModeSetting, RunSettings, Verbosity};
use crate::terminal::{self, Bell, Ring, Side};

/// A run that can be launched.
#[derive(Debug)]
struct Prepared {
    plan: RunPlan,
    run_dir_origin: Origin,
}

/// Who made the run's directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Ours,
    /// It was there and empty (`--run-dir`).
    Users,
}

/// Runs `sandbox run`; the exit status is the command's own unless the runner has one to give.
pub fn execute(args: RunArgs) -> anyhow::Result<Exit> {
    let settings = RunSettings::new(args)?;
    // What is only recorded notices nothing: it stays on the user's terminal.
    let enforced = matches!(settings.mode, ModeSetting::Enforce { .. });
    // Before anything is made: the run is made by the process that is on the command's terminal.
    match if enforced { terminal::split(settings.ask_here)? } else { None } {
        None => run(&settings, None),
        Some(Side::Run(bell)) => run(&settings, Some(bell)),
        Some(Side::Holder(holder)) => {
            let mut asked = super::asks::OnTerminal::default();
            Ok(holder.hold(&mut |run, prompt| asked.put(run, prompt))?)
        }
    }
}

fn run(settings: &RunSettings, bell: Option<Bell>) -> anyhow::Result<Exit> {
    let prepared = prepare(settings, bell)?;
    let plan = &prepared.plan;
    let notes = |note: &str| {
        // A rule that nothing holds is something wrong, also where the user asked to go on.
        if settings.verbosity == Verbosity::Normal || note.starts_with(NOT_HELD) {
            say(note);
        }
    };
    plan.notes.iter().for_each(|note| notes(note));
    let outcome = launch(plan, collector::ROLES, &notes);
    clean_up(&prepared, outcome.as_ref().ok());
    let outcome = outcome?;
    let recorded = matches!(outcome, Outcome::Ran { .. });
    let exit = told::conclude(plan, outcome, settings);
    if let Some(policy) = settings.learn.as_deref().filter(|_| recorded)
        && let Err(error) = super::learn::propose(plan.run_dir.path(), policy, plan.target.owner())
    {
        say(&format!("no policy was proposed: {error:#}"));
    }
    Ok(exit)
}

/// The command with the environment that an enforced policy gives it.
fn under(program: Program, policy: &::policy::Policy) -> Program {
    match &policy.settings().env {
        Some(env) if policy.mode() == ::policy::Mode::Enforce => {
            let environment = program.environment().under(env);
            program.with_environment(environment)
        }
        _ => program,
    }
}

/// From an ordinary account: the line that would give more, to be pasted.
fn with_root(arguments: impl Iterator<Item = OsString>) -> String {
    let program = std::env::current_exe().unwrap_or_else(|_| "sandbox".into());
    let words = std::iter::once(program.into_os_string()).chain(arguments);
    let line: Vec<String> = words.map(|word| shell_word(&word)).collect();
    format!(
        "as root the kernel records more, and holds policies; the command itself would still run as you:\n\
         sudo -E env \"PATH=$PATH\" {}",
        line.join(" ")
    )
}

/// A word as a POSIX shell reads it back; bytes that are no text only in bash, ksh and zsh.
pub(super) fn shell_word(word: &OsStr) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_./=:,+@%^".contains(byte);
    match std::str::from_utf8(word.as_bytes()) {
        Ok(text) if !text.is_empty() && text.bytes().all(|byte| plain(&byte)) => text.to_owned(),
        Ok(text) if !text.chars().any(char::is_control) => format!("'{}'", text.replace('\'', r"'\''")),
        _ => {
            let mut quoted = String::from("$'");
            for byte in word.as_bytes() {
                let _ = match byte {
                    b'\'' | b'\\' => write!(quoted, "\\{}", char::from(*byte)),
                    b' '..=b'~' => write!(quoted, "{}", char::from(*byte)),
                    _ => write!(quoted, "\\{byte:03o}"),
                };
            }
            quoted + "'"
        }
    }
}

/// Everything that can be wrong is found here, before anything is made; then the run's directory and its
/// control group are made.
fn prepare(settings: &RunSettings, bell: Option<Bell>) -> anyhow::Result<Prepared> {
    let root = Uid::effective().is_root();
    if !root && settings.user.is_some() {
        return Err(Refusal::cannot_start("--user: only root can run a command as somebody else").into());
    }
    // What sudo says is about a runner that is root.
    let target = match root {
        true => Target::resolve(settings.user.as_deref(), &Sudo::from_environment()),
        false => Target::own(),
    };
    let target = target.map_err(|error| Refusal::cannot_start(format!("{:#}", anyhow::Error::new(error))))?;
    let program = Program::find(&settings.command, target.environment()).map_err(|error| {
        let exit = match error {
            ProgramError::NotFound(_) => Exit::NOT_FOUND,
            ProgramError::NotExecutable { .. } => Exit::NOT_EXECUTABLE,
            ProgramError::Nul(_) => Exit::CANNOT_START,
        };
        Refusal::new(exit, error.to_string())
    })?;
    let cwd = std::env::current_dir()
        .context("cannot read the current directory; change to one that is there, and start again")?;
    if let Some(asked) = &settings.workspace {
        // Without a policy nothing else would look at it.
        workspace::usable(asked).map_err(|error| {
            Refusal::cannot_start(format!("--workspace: {:#}", anyhow::Error::new(error)))
        })?;
    }
    let baseline = settings.baseline.as_deref().map(baseline::read).transpose()?.map(Arc::new);
    let asking = asking::Settings::new(settings.ask, settings.ask_cmd.as_deref(), &target)?;
    let place = place(&target);
    let name = RunName::new(time::wall_now_ns(), settings.command[0].as_bytes());
    let expected = match &settings.run_dir {
        Some(path) => std::path::absolute(path).context("cannot read the current directory")?,
        None => place.store().join("runs").join(name.first()),
    };
    let surroundings = |run_dir| {
        let workspace = settings.workspace.as_deref();
        policy::Surroundings { target: &target, current: &cwd, workspace, run_dir }
    };
    if let Some(file) = &settings.learn {
        super::learn::can_propose(file, surroundings(&expected))
            .map_err(|error| Refusal::cannot_start(format!("{error:#}")))?;
    }
    let beside = Beside {
        files: beside(settings, &asking),
        terminal: bell.as_ref().filter(|_| settings.ask_here).map(Bell::terminal),
    };
    if let Some(bell) = bell.as_ref().filter(|_| root) {
        bell.give_to(target.uid).context("cannot give the command its terminal")?;
    }
    let mut law = load_policy(&settings.mode, surroundings(&expected), &place, &beside)?;

    let standard = match &law.mode {
        Mode::Enforce(policy, _) => {
            let found = standard::found()
                .map_err(|error| Refusal::cannot_start(format!("{:#}", anyhow::Error::new(error))))?;
            standard::check(&found, policy).map_err(|error| Refusal::cannot_start(error.to_string()))?;
            found
        }
        // What is only recorded notices nothing.
        Mode::Observe | Mode::Audit(_) => Vec::new(),
    };

    // From here on something is made.
    let run_dir_origin = match &settings.run_dir {
        Some(path) if path.exists() => Origin::Users,
        _ => Origin::Ours,
    };
    let refused = |error: StoreError| Refusal::cannot_start(error.to_string());
    let (run_dir, store) = match &settings.run_dir {
        // Its record is elsewhere; the key of the store, where there is one, signs it all the same.
        Some(path) => (RunDir::create_at(path, &place, &name), StoreDir::existing(&place).map_err(refused)?),
        None => {
            let store = StoreDir::open(&place).map_err(refused)?;
            (RunDir::create_in(&store, &name), Some(store))
        }
    };
    let run_dir = run_dir.map_err(refused)?;
    if run_dir.path() != expected {
        // Another run took the name in the same second: ${RUN_DIR} is another.
        law = load_policy(&settings.mode, surroundings(run_dir.path()), &place, &beside)?;
    }
    let Law { mode, guard, own, expanded, file } = law;
    let kept = permissions::kept(&target, own.records(), &own.secrets(), own.policies());
    let variables = match (policy::given(surroundings(run_dir.path())), &mode) {
        (Ok(variables), _) => variables,
        // What a policy learned from its record would call its places is all that is lost.
        (Err(_), Mode::Observe) => ::policy::Variables::new(),
        (Err(error), Mode::Audit(_) | Mode::Enforce(..)) => {
            return Err(Refusal::cannot_start(format!("{:#}", anyhow::Error::new(error))).into());
        }
    };
    let program = match &mode {
        Mode::Enforce(policies, _) => policies.iter().fold(program, under),
        // What is only recorded notices nothing.
        Mode::Observe | Mode::Audit(_) => program,
    };
    let mut notes: Vec<String> = Vec::new();
    // Where nobody gains privileges, sudo neither.
    if !root && !nix::sys::prctl::get_no_new_privs().unwrap_or(false) {
        notes.push(with_root(std::env::args_os().skip(1)));
    }
    let given = |policy: &&::policy::Policy| guard.is_none() || policy.name() != guard::NAME;
    for policy in mode.policies().into_iter().flat_map(|policies| policies.iter()).filter(given) {
        // Remarks are of interest to `policy check`.
        let own = policy.notes().iter().filter(|note| note.severity == ::policy::Severity::Warning);
        notes.extend(own.map(|note| format!("policy {}: {}", policy.name(), note.text)));
    }
    if !matches!(mode, Mode::Observe) {
        notes.extend(policy::left_out(surroundings(run_dir.path())));
    }
    if let Mode::Audit(policies) = &mode {
        // An enforced run refuses these.
        notes.extend(policies.iter().flat_map(policy::not_judged));
    }
    let limits = mode.limits();
    let cgroup = match Cgroup::create(run_dir.id(), limits.set()) {
        Ok(cgroup) if !root && !cgroup.can_be_entered() => {
            cgroup.remove(Duration::ZERO);
            None
        }
        Ok(cgroup) => Some(cgroup),
        // An ordinary user has one only where it was given a part of the tree.
        Err(_) if !root => None,
        Err(error) => {
            notes.push(format!("no control group for this run: {:#}", anyhow::Error::new(error)));
            None
        }
    };
    let limits = LimitGroups::make(run_dir.id(), cgroup.as_ref(), &limits, || rlimits::counted(&target));
    notes.extend(limits.notes());
    let fence = fence(&mode, &settings.layers);
    let tmp = match &mode {
        Mode::Enforce(policies, _) if policies.private_tmp() => {
            Some(tmp::plan(surroundings(run_dir.path()), Some(&program)))
        }
        _ => None,
    };
    let agent_id = settings
        .agent_id
        .clone()
        .unwrap_or_else(|| crate::record::store::tool_name(settings.command[0].as_bytes()));
    let contents = settings
        .hash_max_bytes
        .map(|max| Contents { max, workspace: settings.workspace.clone().unwrap_or_else(|| cwd.clone()) });
    if let Some(bell) = &bell {
        let (run, directory) = (run_dir.id().to_owned(), run_dir.path().to_owned());
        bell.ring(&Ring::Run(terminal::Here { run, directory }));
    }
    let plan = RunPlan {
        mode,
        expanded,
        guard,
        asking,
        bell,
        asks_here: settings.ask_here,
        policy_file: file,
        variables,
        layers: settings.layers.clone(),
        required: settings.required.clone(),
        // Without a group, what the run leaves is found by descent alone.
        parentage: match wants_notify(&settings.layers) || cgroup.is_none() {
            true => Parentage::Collector,
            false => Parentage::FrontEnd,
        },
        run_dir,
        store,
        record: record_plan(settings),
        agent_id,
        command: settings.command.clone(),
        program,
        target,
        contents,
        baseline,
        cwd,
        cgroup,
        limits,
        fence,
        tmp,
        standard,
        kept,
        notes,
    };
    Ok(Prepared { plan, run_dir_origin })
}

fn record_plan(settings: &RunSettings) -> RecordPlan {
    let RecordOptions { durability, on_log_error, checkpoints, anchors } = settings.record.clone();
    let entered = settings.run_dir.is_none();
    RecordPlan { entered, durability, on_log_error, checkpoints, anchors }
}

/// The policies of a run.
struct Law {
    mode: Mode,
    /// That of the runner itself, which is among them.
    guard: Option<::policy::Policy>,
    /// What it closes.
    own: guard::Own,
    /// What their `existing` stands for.
    expanded: Expanded,
    /// The file that it lies in, where it is one.
    file: Result<asking::PolicyFile, String>,
}

/// What the command's process puts around itself, where it may be needed.
fn fence(mode: &Mode, layers: &LayerChoice) -> Option<Result<Fence, String>> {
    let Mode::Enforce(policies, _) = mode else { return None };
    let off = |policy: &::policy::Policy| policy.settings().landlock == Some(Landlock::Off);
    if !layers.includes(Layer::Landlock) || policies.iter().any(off) {
        return None;
    }
    Some(Fence::prepare(policies).map_err(|error| format!("{:#}", anyhow::Error::new(error))))
}

fn load_policy(
    setting: &ModeSetting,
    surroundings: policy::Surroundings<'_>,
    place: &Place,
    beside: &Beside<'_>,
) -> Result<Law, Refusal> {
    let refusal = |error: anyhow::Error| Refusal::cannot_start(format!("{error:#}"));
    let mut expanded = Expanded::default();
    let mut file = Err("the run enforces no policy".to_owned());
    let (mode, guard, own) = match setting {
        ModeSetting::Observe => (Mode::Observe, None, guard::Own::default()),
        ModeSetting::Audit(policies) => {
            let policies = policy::load_all(policies, surroundings).map_err(|error| refusal(error.into()))?;
            (policies.map_or(Mode::Observe, Mode::Audit), None, guard::Own::default())
        }
        ModeSetting::Enforce { law, trial, on_unheld } => {
            let mut files = beside.files.clone();
            file = asking::PolicyFile::of(law);
            let policies = policy::load_enforced(law, trial, surroundings, &mut files, &mut expanded);
            file = file.and_then(asking::PolicyFile::unchanged);
            match policies.map_err(|error| refusal(error.into()))? {
                Some(policies) => {
                    let names = policies.iter().any(|policy| policy.names_hosts());
                    let mut own = own(&files, place, surroundings.run_dir).map_err(refusal)?;
                    own.terminal = beside
                        .terminal
                        .map(|path| aliases::of(path))
                        .transpose()
                        .map_err(|error| {
                            refusal(anyhow::Error::new(error).context("cannot read the mounts"))
                        })?
                        .unwrap_or_default();
                    let guard = own.policy(names).map_err(|errors| refusal(errors.into()))?;
                    (Mode::Enforce(policies.and(guard.clone()), *on_unheld), Some(guard), own)
                }
                // The command line gives at least one.
                None => return Err(Refusal::cannot_start("--enforce names no policy")),
            }
        }
    };
    Ok(Law { mode, guard, own, expanded, file })
}

/// What an enforced run is kept from beside its record and policies.
struct Beside<'a> {
    files: Vec<PathBuf>,
    /// The terminal that its questions are put on.
    terminal: Option<&'a PathBuf>,
}

/// Files beside the policies that an enforced run is not to change: who answers its questions, what takes its record's heads
/// elsewhere, and what it is compared with.
fn beside(settings: &RunSettings, asking: &asking::Settings) -> Vec<PathBuf> {
    let answers = asking.command.as_ref().map(PathBuf::from);
    let anchors = settings.record.anchors.iter().flat_map(anchor::Target::files);
    answers.into_iter().chain(anchors).chain(settings.baseline.clone()).collect()
}

/// What is kept from the command in any case: the store and the run's directory, and the files of its policies, under
/// all names that they have.
pub(super) fn own(files: &[PathBuf], place: &Place, run_dir: &Path) -> anyhow::Result<guard::Own> {
    let all = |paths: Vec<PathBuf>| -> anyhow::Result<Vec<PathBuf>> {
        let mut names = Vec::new();
        for path in paths {
            names.extend(aliases::of(&std::path::absolute(path)?).context("cannot read the mounts")?);
        }
        names.sort();
        names.dedup();
        Ok(names)
    };
    let records = all(vec![place.store(), run_dir.to_owned()])?;
    // What comes out of a pipe is nobody's to change.
    let files = all(files.iter().filter(|file| file.is_file()).cloned().collect())?;
    Ok(guard::Own { records, policies: files, ..guard::Own::default() })
}

/// Where the record goes: root's own home comes from the user database, since sudo may keep the caller's HOME. An ordinary
/// user records for itself.
pub(super) fn place(target: &Target) -> Place {
    let (recorder, reader) = match Uid::effective().is_root() {
        true => {
            let root = nix::unistd::User::from_uid(Uid::from_raw(0)).ok().flatten();
            let home = root.map_or_else(|| "/root".into(), |root| root.dir);
            let reader = Account { uid: target.uid, gid: target.gid, home: target.home.clone() };
            (Account { uid: 0, gid: 0, home }, reader)
        }
        // Where whoever reads runs looks for them: HOME may be another for this one.
        false => {
            let own = review::account(Uid::effective());
            (own.clone(), own)
        }
    };
    let sandbox_home = std::env::var_os("SANDBOX_HOME").filter(|home| !home.is_empty()).map(Into::into);
    Place { sandbox_home, recorder, reader }
}

/// Removes what a run leaves beside its record.
fn clean_up(prepared: &Prepared, outcome: Option<&Outcome>) {
    let plan = &prepared.plan;
    if let Some(cgroup) = &plan.cgroup {
        // Processes of an audit-only run that go on keep their group; an enforced run has none left.
        let patience = match (plan.on_failure(), cgroup.processes().is_empty()) {
            (OnFailure::LetGo, false) => Duration::ZERO,
            _ => Duration::from_secs(1),
        };
        cgroup.remove(patience);
    }
    // Only enforced runs have them, and of those nothing is left.
    plan.limits.remove(Duration::from_secs(1));
    if !matches!(outcome, Some(Outcome::Ran { .. })) {
        if let Some(store) = plan.store.as_ref().filter(|_| plan.record.entered)
            && let Err(error) = retract(store, plan.run_dir.id())
        {
            say(&format!("the ledger still has this run, which never started: {error:#}"));
        }
        remove_record(&plan.run_dir, prepared.run_dir_origin);
    }
}

/// Enters that a run which never started is gone, if the ledger has it at all.
fn retract(store: &StoreDir, run_id: &str) -> anyhow::Result<()> {
    let ledger = LedgerFile::open(store)?;
    let mut locked = ledger.lock()?;
    let known = locked.read()?;
    let Some(run) = known.run(run_id).filter(|run| run.removed.is_none()) else { return Ok(()) };
    let reason = "the command never started".to_owned();
    let entry = Entry::Removed { run_id: run_id.to_owned(), events: 1, head: run.first, reason };
    Ok(locked.append(&entry)?)
}

/// A run that never started has no record: what the collector wrote before it gave up goes, and the directory
/// too unless the user had made it.
fn remove_record(directory: &RunDir, origin: Origin) {
    directory.discard_files();
    if origin == Origin::Ours {
        // Only an empty directory goes, and no link.
        let _ = fs::remove_dir(directory.path());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back_from_a_shell() {
        let words: Vec<OsString> = ["a-b", "", "it's", "a b", "$HOME", "tab\there"]
            .into_iter()
            .map(OsString::from)
            .chain([std::os::unix::ffi::OsStringExt::from_vec(vec![0xff, b'x', b'\'', b'\\'])])
            .collect();
        let line: Vec<String> = words.iter().map(|word| shell_word(word)).collect();
        let script = format!("printf '%s\\0' {}", line.join(" "));
        let output = std::process::Command::new("bash").args(["-c", &script]).output().unwrap().stdout;
        let back: Vec<&[u8]> = output.strip_suffix(b"\0").unwrap().split(|byte| *byte == 0).collect();
        assert_eq!(back, words.iter().map(|word| word.as_bytes()).collect::<Vec<_>>());
    }
}
