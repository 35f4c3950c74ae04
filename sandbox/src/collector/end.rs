//! How a run ended, and what follows: whether what is left of it is ended, whether its log may be sealed, and what the
//! last record says.

use std::time::Duration;

use crate::event::ProcId;
use crate::exit::CommandStatus;
use crate::launch::ender::Ender;
use crate::launch::guardian::OnFailure;
use crate::launch::handshake::Summary;
use crate::launch::plan::RunPlan;
use crate::record::{OnLogError, RunEnd};

/// Why the run is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The command has ended.
    Command(CommandStatus),
    /// The front-end has ended without telling how the command did.
    FrontEndDied,
    /// The guardian or the ender has ended, or the guardian ends the run; with the reason.
    Guardian(String),
    /// Somebody sent SIGTERM to the collector.
    Told,
    /// The log cannot be written.
    Log(String),
    /// The run has taken as long as its policy allows.
    Time(Duration),
}

/// The end of a run whose ender has ended before it: without one it might not be possible to end it.
pub(super) fn without_ender(ender: &Ender) -> Option<End> {
    ender.process().has_ended().then(|| End::Guardian("the process that is to end the run died".to_owned()))
}

/// Whether what is left of the run is ended: always where it is enforced, and where it is not to go on without record.
pub(super) fn ends_run(plan: &RunPlan, end: &End) -> bool {
    let lost_record = matches!(end, End::Log(_)) && plan.on_log_error() == OnLogError::Stop;
    plan.on_failure() == OnFailure::EndTree || lost_record
}

/// Why the log must not be sealed, and why the runner ended the run, if either is so. `ends`: as [`ends_run`] has it.
pub(super) fn verdict(end: &End, ends: bool) -> (Option<String>, Option<String>) {
    let ended = |why: &str| ends.then(|| why.to_owned());
    match end {
        End::Command(_) => (None, None),
        End::FrontEndDied => (Some("the front-end died".into()), ended("the front-end died")),
        End::Guardian(why) => (Some(why.clone()), ended(why)),
        End::Told if ends => (None, ended("the collector was told to end (SIGTERM)")),
        End::Told => (Some("the collector was told to end (SIGTERM) while the command ran".into()), None),
        End::Log(error) => (Some(error.clone()), ended(error)),
        End::Time(time) => (
            None,
            ended(&format!("its time is over (`limits`: {})", policy::settings::write_duration(*time))),
        ),
    }
}

/// The last record, as the run ended.
pub(super) fn run_end(end: &End, summary: &Summary, duration: Duration, process: ProcId) -> RunEnd {
    let (exit_code, signal, reason) = match end {
        End::Command(CommandStatus::Exited(code)) => (Some(i32::from(*code)), None, "exit"),
        End::Command(CommandStatus::Signalled(signal)) => (None, Some(*signal), "signal"),
        _ => (None, None, summary.ended_by_runner.as_deref().unwrap_or("unknown")),
    };
    RunEnd {
        exit_code,
        signal,
        reason: reason.to_owned(),
        left_running: summary.left_running.len() as u64,
        duration_ns: u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX),
        process,
    }
}
