//! `sandbox policy`: is a policy right, what does it say in full, what would it decide, and what would it have
//! decided?
//!
//! One file a verb. Nothing is run here, and but for `apply` nothing changes what is enforced; the verdicts are the
//! policy crate's.

mod apply;
mod check;
mod convert;
mod diff;
mod eval;
mod groups;
mod replay;
mod socket;
mod suggested;
mod syscalls;
mod test;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context;
use audit_verify::text;
use policy::{Policy, Variables};

use crate::cli::{PlaceArgs, PolicyCommand};
use crate::enforce::tmp::PrivateTmp;
use crate::exit::Exit;
use crate::launch::identity::{Sudo, Target};
use crate::launch::policy::{PolicyError, Surroundings, given, load, load_for_run};
use crate::launch::tmp;
use crate::record::store::Found;
use crate::review::stores;

/// Does what `command` asks for. Status 0: right, allowed. Status 1: a file is wrong; denied, or asked about.
///
/// # Errors
/// The policy is wrong (but for `check`), an argument means nothing, a run cannot be read, or output cannot be
/// written.
pub fn execute(command: &PolicyCommand) -> anyhow::Result<Exit> {
    match command {
        PolicyCommand::Check { files, place, strict } => {
            let on_warning = if *strict { Exit::FAILURE } else { Exit::SUCCESS };
            check::execute(files, place, on_warning)
        }
        PolicyCommand::Show { file, place } => {
            print(&Place::here(place)?.read(file)?.effective_yaml())?;
            Ok(Exit::SUCCESS)
        }
        PolicyCommand::Eval(args) => eval::execute(args),
        PolicyCommand::Test(args) => test::execute(args),
        PolicyCommand::Replay(args) => replay::execute(args),
        PolicyCommand::Diff(args) => diff::execute(args),
        PolicyCommand::Apply(args) => apply::execute(args),
        PolicyCommand::Groups(args) => groups::execute(args),
        PolicyCommand::Syscalls(args) => syscalls::execute(args),
        PolicyCommand::Schema => {
            print(&policy::schema::json())?;
            Ok(Exit::SUCCESS)
        }
        PolicyCommand::Convert(args) => convert::execute(args),
    }
}

/// Where a run from here would happen: what variables mean.
struct Place {
    target: Target,
    current: PathBuf,
    workspace: Option<PathBuf>,
    run_dir: PathBuf,
}

impl Place {
    fn here(at: &PlaceArgs) -> anyhow::Result<Self> {
        let target = Target::resolve(None, &Sudo::from_environment())?;
        let current = std::env::current_dir().context("cannot read the current directory")?;
        // No run is made, so its directory has a name that no run gets.
        let run_dir = target.home.join(".sandbox/runs/RUN");
        Ok(Self { target, current, workspace: at.workspace.clone(), run_dir })
    }

    fn surroundings(&self) -> Surroundings<'_> {
        let workspace = self.workspace.as_deref();
        Surroundings { target: &self.target, current: &self.current, workspace, run_dir: &self.run_dir }
    }

    /// The policy with the variables that a run from here would have.
    fn read(&self, file: &Path) -> Result<Policy, PolicyError> {
        load(file, self.surroundings())
    }

    /// Those variables.
    fn variables(&self) -> Result<Variables, PolicyError> {
        given(self.surroundings())
    }
}

/// The policy in `file`, as a run that started here and now would have it; the files that it was read from are added to
/// `files`.
pub(super) fn read_for_run(file: &Path, at: &PlaceArgs, files: &mut Vec<PathBuf>) -> anyhow::Result<Policy> {
    Ok(load_for_run(file, Place::here(at)?.surroundings(), files)?)
}

/// The /tmp of its own that a run from here would have, or why there could be none.
pub(super) fn own_tmp(at: &PlaceArgs) -> anyhow::Result<Result<PrivateTmp, String>> {
    Ok(tmp::plan(Place::here(at)?.surroundings(), None))
}

/// The recorded runs of these names.
fn find(runs: &[String]) -> anyhow::Result<Vec<Found>> {
    let stores = stores();
    runs.iter().map(|run| Ok(stores.find(run)?)).collect()
}

fn print(text: &str) -> anyhow::Result<()> {
    std::io::stdout().write_all(text.as_bytes()).context("cannot print the answer")
}

/// Prints a value as JSON, on one line.
fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut text = text::json(&serde_json::to_string(value).context("cannot print the answer")?);
    text.push('\n');
    print(&text)
}
