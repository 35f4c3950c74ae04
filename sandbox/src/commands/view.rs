//! `sandbox view`: what one run did.

use std::io::{BufWriter, ErrorKind, IsTerminal, Write};

use crate::cli::ViewArgs;
use crate::exit::Exit;
use crate::review::timeline::Detail;
use crate::review::view::{LIMIT, Size, ViewError, json, text};
use crate::review::{stores, terminal_width};

/// Runs `sandbox view`.
pub fn execute(args: &ViewArgs) -> anyhow::Result<Exit> {
    let run = stores().find(&args.run)?;
    let stdout = std::io::stdout();
    let width = terminal_width(&stdout);
    let mut out = BufWriter::new(stdout.lock());
    let shown = if args.json {
        // The whole log unless less is asked for: a program counts for itself.
        let width = stdout.is_terminal().then_some(usize::MAX);
        json(&run, Size { limit: args.limit.filter(|limit| *limit > 0), width }, &mut out)
    } else {
        let detail = if args.files { Detail::EveryFile } else { Detail::Counted };
        let limit = Some(args.limit.unwrap_or(LIMIT)).filter(|limit| *limit > 0);
        text(&run, Size { limit, width }, detail, &mut out).map(|_| ())
    };
    match shown.and_then(|()| out.flush().map_err(ViewError::Output)) {
        // `sandbox view | head` has what it wanted.
        Err(ViewError::Output(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(Exit::SUCCESS),
        other => Ok(other.map(|()| Exit::SUCCESS)?),
    }
}
