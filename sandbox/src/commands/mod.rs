//! One file per subcommand, and the way to it.
//!
//! To add one: a variant of [`crate::cli::Command`], a file here with `execute(args) -> Result<Exit>`, an arm
//! in [`execute`].

pub mod asks;
pub mod baseline;
pub mod doctor;
pub mod export;
pub mod gc;
pub mod key;
pub mod learn;
mod output;
pub mod policy;
pub mod query;
pub mod recover;
pub mod reindex;
pub mod run;
pub mod runs;
pub mod view;
pub mod why;

use std::ffi::OsString;

use clap::Parser;
use clap::error::ErrorKind;

use crate::cli::{Cli, Command};
use crate::error;
use crate::exit::Exit;
use crate::record::meta::Meta;
use crate::record::store::Found;
use crate::review::list::{Status, status};
use crate::review::replay::Doubt;
use crate::review::stores;

/// Runs `sandbox` with these arguments; `arguments[0]` is the program.
pub fn main(arguments: impl Iterator<Item = OsString>) -> Exit {
    let arguments: Vec<OsString> = arguments.collect();
    match Cli::try_parse_from(&arguments) {
        Ok(cli) => execute(cli.command),
        Err(error) => {
            let _ = error.print();
            match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::SUCCESS,
                // 2 could be the command's own status: a run that cannot start says 125.
                _ if arguments.get(1).is_some_and(|verb| verb == "run") => Exit::CANNOT_START,
                _ => Exit::USAGE,
            }
        }
    }
}

fn execute(command: Command) -> Exit {
    match command {
        Command::Baseline(args) => baseline::execute(&args),
        Command::Asks(args) => {
            asks::execute(&args).unwrap_or_else(|error| error::report(&error, Exit::FAILURE))
        }
        Command::Doctor(args) => {
            doctor::execute(&args).unwrap_or_else(|error| error::report(&error, Exit::FAILURE))
        }
        Command::Gc(args) => gc::execute(&args).unwrap_or_else(|error| error::report(&error, Exit::FAILURE)),
        Command::Key(args) => {
            key::execute(args.command).unwrap_or_else(|error| error::report(&error, Exit::FAILURE))
        }
        Command::Recover(args) => {
            recover::execute(&args).unwrap_or_else(|error| error::report(&error, Exit::FAILURE))
        }
        Command::Export(args) => {
            export::execute(&args).unwrap_or_else(|error| error::report(&error, Exit::FAILURE))
        }
        Command::Learn(args) => {
            learn::execute(&args).unwrap_or_else(|error| error::report(&error, Exit::USAGE))
        }
        Command::Policy(args) => {
            policy::execute(&args.command).unwrap_or_else(|error| error::report(&error, Exit::USAGE))
        }
        Command::Query(args) => {
            query::execute(&args).unwrap_or_else(|error| error::report(&error, Exit::FAILURE))
        }
        Command::Reindex(args) => {
            reindex::execute(&args).unwrap_or_else(|error| error::report(&error, Exit::FAILURE))
        }
        Command::Run(args) => {
            run::execute(args).unwrap_or_else(|error| error::report(&error, Exit::CANNOT_START))
        }
        Command::Runs(args) => {
            runs::execute(&args).unwrap_or_else(|error| error::report(&error, Exit::FAILURE))
        }
        Command::View(args) => {
            view::execute(&args).unwrap_or_else(|error| error::report(&error, Exit::FAILURE))
        }
        Command::Why(args) => {
            why::execute(&args).unwrap_or_else(|error| error::report(&error, Exit::FAILURE))
        }
    }
}

/// The recorded runs of these names, each once; names of the same run are told.
///
/// # Errors
/// There is no such run.
fn different(names: &[String]) -> anyhow::Result<Vec<Found>> {
    let found = stores().find_all(names)?;
    if found.len() < names.len() {
        let (named, different) = (names.len(), found.len());
        error::say(&format!(
            "note: of the {named} runs that were named {different} are different; each counts once"
        ));
    }
    Ok(found)
}

/// Why a record is not the whole truth, and what to do.
fn doubtful(run: &Found, doubt: &Doubt) -> String {
    let id = &run.id;
    match doubt {
        Doubt::Edited(why) => format!(
            "the record of the run {id} cannot be trusted: {why}\n`audit-verify {}` says more; record the work again",
            run.path.display()
        ),
        Doubt::Incomplete(why) => match status(&run.path, Meta::read(&run.path).ok().as_ref()) {
            Status::Running => {
                format!("the run {id} goes on: what it will do is not known\nask again when it has ended")
            }
            _ => format!(
                "the run {id} has no end: {why}\nit crashed, or its tail was cut off: `audit-verify {}` says more; \
                 record the work again",
                run.path.display()
            ),
        },
    }
}
