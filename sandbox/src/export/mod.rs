//! A log in the forms that other tools read: tables, and the event schemas of those who collect events.
//!
//! It reads the log alone, line by line, in memory that does not grow with it; [`Source`] verifies it first. Each form
//! keeps `run_id`, `seq` and `hash_self`, by which an exported event is found again in the chain, and loses nothing
//! else either (see [`entry`]). The forms are described in `docs/export.md`.

pub mod cef;
pub mod columns;
pub mod csv;
pub mod document;
pub mod ecs;
pub mod entry;
mod error;
pub mod ocsf;
pub mod otlp;
pub mod output;
pub mod parquet;
mod run;
mod source;
pub mod told;

use std::io::{self, Write};

use entry::Entry;
pub use error::ExportError;
pub use run::Run;
pub use source::{Extent, Source};

/// Where an export goes.
pub type Sink = Box<dyn Write + Send>;

/// A form of one event after the other.
pub trait Form {
    /// Writes what stands before the first event.
    fn begin(&mut self, _out: &mut Sink) -> io::Result<()> {
        Ok(())
    }

    /// Writes an event.
    fn event(&mut self, entry: &Entry<'_>, out: &mut Sink) -> io::Result<()>;

    /// Writes what stands behind the last event.
    fn end(&mut self, _out: &mut Sink) -> io::Result<()> {
        Ok(())
    }
}

/// The form that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The lines of the log.
    Jsonl,
    /// [`csv`].
    Csv(csv::Formulas),
    /// [`parquet`].
    Parquet,
    /// [`ocsf`].
    Ocsf,
    /// [`ecs`].
    Ecs,
    /// [`cef`].
    Cef,
    /// [`otlp`].
    OtlpJson,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Events.
    pub events: u64,
    /// Lines that could not be read, and are not in the export.
    pub unread: u64,
}

/// Writes what `extent` says of a log to `out`.
pub fn export(source: Source, extent: Extent, format: Format, out: Sink) -> Result<Exported, ExportError> {
    match format {
        Format::Jsonl => lines(source, extent, out),
        Format::Csv(formulas) => events(source, extent, csv::Csv::new(formulas), out),
        Format::Parquet => table(source, extent, out),
        Format::Ocsf => events(source, extent, ocsf::Ocsf::default(), out),
        Format::Ecs => events(source, extent, ecs::Ecs::default(), out),
        Format::Cef => events(source, extent, cef::Cef::default(), out),
        Format::OtlpJson => events(source, extent, otlp::Otlp::default(), out),
    }
}

fn lines(source: Source, extent: Extent, mut out: Sink) -> Result<Exported, ExportError> {
    let mut exported = Exported::default();
    source.each(extent, |line| {
        exported.events += 1;
        out.write_all(line).and_then(|()| out.write_all(b"\n")).map_err(ExportError::Output)
    })?;
    out.flush().map_err(ExportError::Output)?;
    Ok(exported)
}

fn events(
    source: Source,
    extent: Extent,
    mut form: impl Form,
    mut out: Sink,
) -> Result<Exported, ExportError> {
    let mut exported = Exported::default();
    form.begin(&mut out).map_err(ExportError::Output)?;
    source.each(extent, |line| match Entry::parse(line) {
        Ok(entry) => {
            exported.events += 1;
            form.event(&entry, &mut out).map_err(ExportError::Output)
        }
        Err(_) => {
            exported.unread += 1;
            Ok(())
        }
    })?;
    form.end(&mut out).and_then(|()| out.flush()).map_err(ExportError::Output)?;
    Ok(exported)
}

fn table(source: Source, extent: Extent, out: Sink) -> Result<Exported, ExportError> {
    let mut exported = Exported::default();
    let mut table = parquet::Table::new(out)?;
    source.each(extent, |line| match Entry::parse(line) {
        Ok(entry) => {
            exported.events += 1;
            table.event(&entry)
        }
        Err(_) => {
            exported.unread += 1;
            Ok(())
        }
    })?;
    table.finish()?;
    Ok(exported)
}
