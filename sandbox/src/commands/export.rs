//! `sandbox export`: one run in a form that other tools read.

use std::io::IsTerminal;

use audit_verify::verify::{Report, Unchecked, Verdict};

use crate::cli::{ExportArgs, ExportFormat};
use crate::error::{Refusal, say};
use crate::exit::Exit;
use crate::export::csv::Formulas;
use crate::export::output::{self, Draft, Existing, Origin, stdout, terminal};
use crate::export::{Exported, Extent, Format, Source, export};
use crate::record::LOG;
use crate::record::store::Found;
use crate::review::{stores, text};

/// Runs `sandbox export`.
pub fn execute(args: &ExportArgs) -> anyhow::Result<Exit> {
    let format = format(args)?;
    let is_terminal = args.output.is_none() && std::io::stdout().is_terminal();
    if is_terminal && format == Format::Parquet {
        let message = "a Parquet file is not for a terminal\nGive -o FILE, or redirect stdout.";
        return Err(Refusal::new(Exit::USAGE, message).into());
    }
    let run = stores().find(&args.run)?;
    let existing = if args.force { Existing::Replace } else { Existing::Keep };
    let draft = match &args.output {
        Some(place) => Some(Draft::create(place, existing, (&run.path.join(LOG), Origin::Run))?),
        None => None,
    };
    let source = Source::open(&run.path)?;
    let extent = extent(args, &run, &source.report)?;
    let sink = match &draft {
        Some(draft) => output::file(draft)?,
        None if is_terminal => terminal(),
        None => stdout(),
    };
    let exported = match export(source, extent, format, sink) {
        // `sandbox export | head` has what it wanted.
        Err(error) if draft.is_none() && error.is_broken_pipe() => return Ok(Exit::SUCCESS),
        exported => exported?,
    };
    if let Some(draft) = draft {
        draft.publish()?;
    }
    Ok(conclude(exported))
}

fn format(args: &ExportArgs) -> Result<Format, Refusal> {
    let formulas = if args.csv_safe { Formulas::Disarm } else { Formulas::Keep };
    if args.csv_safe && args.format != ExportFormat::Csv {
        return Err(Refusal::new(Exit::USAGE, "--csv-safe is for --format csv alone"));
    }
    Ok(match args.format {
        ExportFormat::Jsonl => Format::Jsonl,
        ExportFormat::Csv => Format::Csv(formulas),
        ExportFormat::Parquet => Format::Parquet,
        ExportFormat::Ocsf => Format::Ocsf,
        ExportFormat::Ecs => Format::Ecs,
        ExportFormat::Cef => Format::Cef,
        ExportFormat::OtlpJson => Format::OtlpJson,
    })
}

/// Says what verifying found, and how much is written because of it.
fn extent(args: &ExportArgs, run: &Found, report: &Report) -> Result<Extent, Refusal> {
    let id = text::safe(run.id.as_bytes());
    let bad = match &report.verdict {
        Verdict::Intact { .. } | Verdict::ChainHolds { .. } => return Ok(Extent::Proven),
        Verdict::Incomplete { events, why, .. } => {
            let events = text::grouped(*events);
            say(&format!("{id} is incomplete, intact for {events} events: {why}"));
            return Ok(Extent::Proven);
        }
        Verdict::Unchecked(why @ Unchecked::NotALog) => {
            return Err(Refusal::new(Exit::FAILURE, format!("{id}: {why}; nothing is exported")));
        }
        Verdict::Unchecked(why) => why.to_string(),
        Verdict::Tampered(fault) => {
            format!("TAMPERED from line {} on, {}", text::grouped(fault.line), fault.why)
        }
    };
    if args.unverified {
        say(&format!("{id}: {bad}; all of it is exported, as --unverified says"));
        return Ok(Extent::All);
    }
    let advice = "Nothing is exported. `audit-verify` says more; --unverified exports it nevertheless.";
    Err(Refusal::new(Exit::FAILURE, format!("{id}: {bad}\n{advice}")))
}

fn conclude(exported: Exported) -> Exit {
    if exported.unread == 0 {
        return Exit::SUCCESS;
    }
    let (events, unread) = (text::grouped(exported.events), text::grouped(exported.unread));
    say(&format!(
        "{events} events were written; {unread} lines could not be read and are left out\n\
         --format jsonl writes those too."
    ));
    Exit::FAILURE
}
