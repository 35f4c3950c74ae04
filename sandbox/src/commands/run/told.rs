//! What `sandbox run` says when it is over: how the command ended, what was denied, and where the record is.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use super::shell_word;
use crate::error::say;
use crate::exit::{CommandStatus, Exit};
use crate::launch::frontend::{Outcome, RecordEnd};
use crate::launch::guardian::OnFailure;
use crate::launch::handshake::{ChildFailure, ChildStep, Summary};
use crate::launch::plan::RunPlan;
use crate::review::text::grouped;
use crate::settings::{RunSettings, Verbosity};

/// Says how it went, and gives the exit status.
pub(super) fn conclude(plan: &RunPlan, outcome: Outcome, settings: &RunSettings) -> Exit {
    match outcome {
        Outcome::Refused { exit, message } => {
            say(&message);
            Exit::from_code(exit)
        }
        Outcome::NeverStarted { ended, message } => {
            say(&format!("the collector {} before the command could start{}", how(ended), because(message)));
            Exit::CANNOT_START
        }
        Outcome::Ran { status, failure, record } => {
            // A child that did not execute the command ends with the status that says so.
            let exit = status.into();
            if let Some(failure) = &failure {
                say_failure(plan, failure, exit);
            }
            say_record(plan, record, settings).unwrap_or(exit)
        }
    }
}

/// Says why the command was not executed.
fn say_failure(plan: &RunPlan, failure: &ChildFailure, exit: Exit) {
    let error = io::Error::from_raw_os_error(failure.errno);
    let command = plan.command[0].to_string_lossy();
    say(&match failure.step {
        ChildStep::Exec if failure.errno == libc::ENOENT && exit == Exit::NOT_EXECUTABLE => {
            format!("{command}: its interpreter or loader does not exist")
        }
        ChildStep::Exec => format!("{command}: {error}"),
        ChildStep::Identity => {
            format!("cannot become {} (uid {}): {error}", plan.target.name, plan.target.uid)
        }
        ChildStep::Session => format!("cannot begin a session: {error}"),
        ChildStep::Limits => format!("cannot limit the command: {error}"),
        ChildStep::Landlock => format!("cannot restrict the command by Landlock: {error}"),
        ChildStep::Capabilities => format!("cannot give capabilities up: {error}"),
        ChildStep::NoNewPrivs => format!("cannot set no_new_privs: {error}"),
        ChildStep::Standard => format!(
            "standard input, output or error is a socket of the machine's, by which the command could get out of its \
             network namespace ({error}); put a pipe between"
        ),
        ChildStep::Seccomp => {
            format!("cannot install the system call filter: {error}; it needs CONFIG_SECCOMP_FILTER")
        }
    });
}

/// Says what became of the record; an exit status if the runner has its own to give.
fn say_record(plan: &RunPlan, record: RecordEnd, settings: &RunSettings) -> Option<Exit> {
    let place = place_line(plan.run_dir.path(), settings.run_dir.is_none());
    let enforced = plan.on_failure() == OnFailure::EndTree;
    match record {
        RecordEnd::CollectorDied { ended, message } => {
            let run = if enforced { "the run was ended, and " } else { "" };
            say(&format!(
                "the collector {}{}: {run}the record is incomplete\n{place}",
                how(ended),
                because(message)
            ));
            enforced.then_some(Exit::ENDED_BY_RUNNER)
        }
        RecordEnd::Summary(summary) => {
            summary.notes.iter().for_each(|note| say(note));
            if let Some(why) = &summary.ended_by_runner {
                say(&format!("the run was ended: {why}"));
                if !summary.left_running.is_empty() {
                    let pids: Vec<_> = summary.left_running.iter().map(u32::to_string).collect();
                    say(&format!("these processes of it could not be ended: {}", pids.join(", ")));
                }
            }
            if settings.verbosity == Verbosity::Normal && !summary.denials.is_empty() {
                say(&denials_text(&summary, &why_line(plan.run_dir.path(), settings.run_dir.is_none())));
            }
            match &summary.unsealed {
                Some(why) => say(&format!("the record is incomplete: {why}\n{place}")),
                None if settings.verbosity == Verbosity::Normal => say(&summary_text(&summary, &place)),
                None => {}
            }
            summary.ended_by_runner.map(|_| match summary.out_of_time {
                true => Exit::TIME_LIMIT,
                false => Exit::ENDED_BY_RUNNER,
            })
        }
    }
}

/// Where the record is, and the command that shows it: only the store knows what `last` is.
fn place_line(directory: &Path, in_store: bool) -> String {
    let word = shell_word(directory.as_os_str());
    let which = if in_store { "last" } else { &word };
    format!("record {} (sandbox view {which})", directory.display())
}

/// The command that tells everything that was denied.
fn why_line(directory: &Path, in_store: bool) -> String {
    if in_store {
        "sandbox why".to_owned()
    } else {
        format!("sandbox why {}", shell_word(directory.as_os_str()))
    }
}

/// What was denied, under its heading.
fn denials_text(summary: &Summary, why: &str) -> String {
    let counts = [(summary.blocked, "blocked"), (summary.would_block, "would be blocked")];
    let counts = counts.iter().filter(|(count, _)| *count > 0);
    let counts: Vec<String> = counts.map(|(count, what)| format!("{} {what}", grouped(*count))).collect();
    format!("{} (all of it: {why})\n{}", counts.join(", "), summary.denials.join("\n"))
}

fn summary_text(summary: &Summary, place: &str) -> String {
    let mut line = format!("{} events, {} lost", grouped(summary.events), grouped(summary.lost));
    for (count, what) in [(summary.blocked, "blocked"), (summary.would_block, "would be blocked")] {
        if count > 0 {
            let _ = write!(line, ", {} {what}", grouped(count));
        }
    }
    match summary.left_running.as_slice() {
        [] => {}
        [pid] => _ = write!(line, "; process {pid} goes on unrecorded"),
        [first, rest @ ..] => {
            _ = write!(line, "; {} processes go on unrecorded ({first}, …)", rest.len() + 1)
        }
    }
    let _ = write!(line, "\nhead {}\n{place}", summary.head);
    line
}

fn how(ended: Option<CommandStatus>) -> String {
    match ended {
        Some(CommandStatus::Exited(code)) => format!("ended with status {code}"),
        Some(CommandStatus::Signalled(signal)) => format!("died of signal {signal}"),
        None => "died".into(),
    }
}

fn because(message: Option<String>) -> String {
    message.map(|message| format!(" ({message})")).unwrap_or_default()
}
