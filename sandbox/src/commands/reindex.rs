//! `sandbox reindex`: the index of a run, made again from its log.

use std::io::{ErrorKind, Write};

use anyhow::Context;

use crate::cli::ReindexArgs;
use crate::error::{Refusal, say};
use crate::exit::Exit;
use crate::record::LOG;
use crate::record::index::{IndexError, SCHEMA_VERSION, Standing, look, reindex};
use crate::record::lines::Lines;
use crate::record::meta::Meta;
use crate::record::store::{Found, open_regular};
use crate::review::list::{Status, status};
use crate::review::{stores, tell_wait, text};

/// Runs `sandbox reindex`.
///
/// # Errors
/// There is no such run, it goes on, its log has a line that is none of ours, or the index cannot be written.
pub fn execute(args: &ReindexArgs) -> anyhow::Result<Exit> {
    let run = stores().find(&args.run)?;
    let id = text::safe(run.id.as_bytes());
    if status(&run.path, Meta::read(&run.path).ok().as_ref()) == Status::Running {
        return Err(Refusal::new(
            Exit::FAILURE,
            format!(
                "reindex {id}: the run goes on (its log is locked by who writes it), and its index is made \
                 meanwhile; `sandbox query` reads what it lacks in the log"
            ),
        )
        .into());
    }
    if let Standing::Newer(found) = look(&run.path) {
        return Err(IndexError::Newer { path: run.path.join(crate::record::index::FILE), found }.into());
    }
    tell_wait(&run.path.join(LOG), "the index is made");
    let rows = reindex(&run.path)?;
    if is_torn(&run)? {
        say("the last line of the log is torn (the run crashed while it was written), and has no row");
    }
    let noun = if rows == 1 { "row" } else { "rows" };
    let said = format!("{id}: {} {noun}, version {SCHEMA_VERSION}\n", text::grouped(rows));
    match std::io::stdout().write_all(said.as_bytes()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Exit::SUCCESS),
        written => Ok(written.map(|()| Exit::SUCCESS).context("cannot say how many rows there are")?),
    }
}

/// Whether something stands behind the last newline.
fn is_torn(run: &Found) -> anyhow::Result<bool> {
    let path = run.path.join(LOG);
    let read = || {
        let log = open_regular(&path)?;
        let size = log.metadata()?.len();
        let mut lines = Lines::new(log, size.saturating_sub(1));
        Ok::<bool, std::io::Error>(size > 0 && lines.next_line()?.is_none())
    };
    read().with_context(|| format!("read {}", path.display()))
}
