//! `sandbox policy check`: all errors of policies, and what an enforced run would refuse.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use policy::compile::lsm::{self, Held, SetTable};
use policy::settings::LimitSet;
use policy::{Note, Policy, Severity};

use super::{Place, print};
use crate::cli::PlaceArgs;
use crate::exit::Exit;
use crate::launch::policy::PolicyError;
use crate::review::text::safe;
use crate::sensor::held;

/// Checks every file; `on_warning` is the status where nothing is wrong and something doubtful.
pub fn execute(files: &[PathBuf], at: &PlaceArgs, on_warning: Exit) -> anyhow::Result<Exit> {
    let place = Place::here(at)?;
    let mut exit = Exit::SUCCESS;
    for file in files {
        let policy = match place.read(file) {
            Ok(policy) => policy,
            Err(error) => {
                let not_read = matches!(error, PolicyError::Read { .. } | PolicyError::Unknown { .. });
                eprintln!("{:#}", anyhow::Error::from(error));
                // A wrong policy is the worse news.
                exit = if not_read && exit != Exit::FAILURE { Exit::USAGE } else { Exit::FAILURE };
                continue;
            }
        };
        let doubts = doubts(&policy);
        doubts.iter().for_each(|doubt| eprintln!("{doubt}"));
        if let Err(failing) = policy.check_examples() {
            eprintln!("{failing}");
            exit = Exit::FAILURE;
            continue;
        }
        let warnings = doubts.iter().filter(|doubt| doubt.severity == Severity::Warning).count();
        if exit == Exit::SUCCESS && warnings > 0 {
            exit = on_warning;
        }
        print(&checked(file, &policy)?)?;
        if warnings > 0 && on_warning != Exit::SUCCESS {
            print(&format!(
                "  {warnings} {} (--strict)\n",
                if warnings == 1 { "warning counts" } else { "warnings count" }
            ))?;
        }
    }
    Ok(exit)
}

/// What is valid, and may not be what was meant.
fn doubts(policy: &Policy) -> Vec<Note> {
    policy.notes().iter().cloned().chain(policy.warnings()).collect()
}

/// What is said of a policy without errors.
fn checked(file: &Path, policy: &Policy) -> anyhow::Result<String> {
    let plan = lsm::compile(&[policy], 0, &mut SetTable::new())?;
    let rules = policy.files().rules().len() + policy.exec().rules().len() + policy.network().rules().len();
    let mut text = format!(
        "{}: `{}` is right: {rules} {}, {} states\n",
        safe(file.as_os_str().as_bytes()),
        policy.name(),
        if rules == 1 { "rule" } else { "rules" },
        plan.states().iter().sum::<usize>(),
    );
    let unheld = plan.unheld(&Held { tmp: true, ..held(true, true, LimitSet::ALL) });
    if !unheld.is_empty() {
        text.push_str("  enforcing it refuses to start, also where all layers work:\n");
    }
    for line in unheld {
        let _ = writeln!(text, "    {line}");
    }
    Ok(text)
}
