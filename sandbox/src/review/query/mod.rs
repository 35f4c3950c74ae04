//! Questions about one run: which events meet some conditions.
//!
//! ```text
//! Filter ──▶ question ──▶ index.sqlite ──▶ places of lines ──▶ events.jsonl ──▶ proof ──▶ text, JSON or a number
//!     └─────────────────▶ events.jsonl, behind what the index has ─────────────┘
//! ```
//!
//! The index only leads to lines: what is printed is read in the log, and each line must be one that was asked
//! for. A row that does not belong to its line is an error. That the index leaves nothing out is not asked here
//! but by `audit-verify check --index`.

pub mod destination;
mod event;
pub mod filter;
mod log;
mod question;
mod source;
pub mod when;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use audit_verify::canonical::Record;
use audit_verify::index::{FILE, Row};

use self::filter::Filter;
use self::log::Spots;
use self::question::{AskError, Question, Spot, Wish};
use self::source::Source;
use self::when::When;
use crate::record::LOG;
use crate::record::index::{OpenIndex, again};
use crate::record::lines::{Line, Lines};
use crate::record::store::{Found, open_regular};
use crate::review::list::Status;
use crate::review::text;

/// A question that cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The log cannot be read.
    #[error("{act} {}: {why}{}", .path.display(), match why.kind() {
        io::ErrorKind::PermissionDenied => "; it is another user's record: read it with sudo",
        _ => "",
    })]
    Log {
        /// What was being done.
        act: &'static str,
        /// The log.
        path: PathBuf,
        /// Why it failed.
        why: io::Error,
    },
    /// The index gives no answer.
    #[error("ask {}: {why}; {}", .path.display(), again(path, None))]
    Index {
        /// The index.
        path: PathBuf,
        /// Why it failed.
        why: AskError,
    },
    /// A row that does not belong to its line.
    #[error("{} differs from the log: seq {seq}: {why}; `audit-verify check --index` says more, {}", .path.display(), again(path, None))]
    Differs {
        /// The index.
        path: PathBuf,
        /// The row.
        seq: u64,
        /// What is wrong.
        why: &'static str,
    },
    /// The output takes nothing more.
    #[error("print the answer: {0}")]
    Output(io::Error),
}

fn log_error(act: &'static str, path: &Path, why: io::Error) -> QueryError {
    QueryError::Log { act, path: path.to_owned(), why }
}

/// What is wanted of the events that match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One line each for a person, cut to this many characters where there is a terminal.
    Text(Option<usize>),
    /// The lines of the log.
    Json,
    /// How many there are.
    Count,
}

/// A question.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Which events; its moments are [`Asked::since`] and [`Asked::until`].
    pub filter: Filter,
    /// No earlier than this.
    pub since: Option<When>,
    /// No later than this.
    pub until: Option<When>,
    /// What of them.
    pub form: Form,
    /// The most that are printed; `None` for all.
    pub limit: Option<usize>,
}

/// What there is to say beside the answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answered {
    /// Events that were printed or counted.
    pub matched: u64,
    /// Whether there are more of them than were printed.
    pub more: bool,
    /// What a person should know about how the answer came about.
    pub notes: Vec<String>,
}

/// Answers a question about a run, on `out`.
///
/// # Errors
/// The log cannot be read, the index is not of this log, or `out` takes nothing more.
pub fn answer(run: &Found, asked: &Asked, out: &mut impl Write) -> Result<Answered, QueryError> {
    let mut filter = asked.filter.clone();
    let path = run.path.join(LOG);
    let bounds = bounds(&path)?;
    filter.since = asked.since.map(|when| when.resolve(bounds.start, bounds.end));
    filter.until = asked.until.map(|when| when.resolve(bounds.start, bounds.end));
    let mut teller = Teller {
        filter: &filter,
        form: asked.form,
        left: asked.limit.unwrap_or(usize::MAX),
        begun: bounds.begun,
        told: Answered::default(),
        out,
    };
    let source = if filter.is_text_alone() {
        // The index cannot help, so it does not matter what became of it.
        Source { index: None, status: Status::Finished, notes: Vec::new() }
    } else {
        source::prepare(run)?
    };
    teller.told.notes = source.notes;
    let mut rest = 0;
    if let Some(index) = &source.index {
        teller.ask(run, index)?;
        rest = index.end;
    }
    if teller.left > 0 || asked.form == Form::Count {
        let lines = open_regular(&path).map_err(|why| log_error("open", &path, why))?;
        let read = teller.read(&path, Lines::new(lines, rest))?;
        if source.index.is_some() && source.status == Status::Running && read > 0 {
            let events = if read == 1 { "event" } else { "events" };
            teller.told.notes.push(format!(
                "the run goes on, and its index is {read} {events} behind: those were read in the log"
            ));
        }
    }
    teller.finish()
}

/// First and last moments of a run.
#[derive(Clone, Copy, Debug, Default)]
struct Bounds {
    /// Nanoseconds since 1970.
    start: i64,
    /// Nanoseconds since 1970, of the last whole line.
    end: i64,
    /// Nanoseconds of CLOCK_MONOTONIC at the start.
    begun: u64,
}

fn bounds(path: &Path) -> Result<Bounds, QueryError> {
    let failed = |why| log_error("read", path, why);
    let open = || open_regular(path).map_err(|why| log_error("open", path, why));
    let mut bounds = Bounds::default();
    let moment = |line: &Line<'_>| Row::of(line).ok().and_then(|row| row.number("wall_ns"));
    let mut lines = Lines::new(open()?, 0);
    if let Some(line) = lines.next_line().map_err(failed)? {
        bounds.start = moment(&line).unwrap_or(0);
        bounds.begun = Record::parse(line.text).ok().and_then(|line| line.uint("mono_ns")).unwrap_or(0);
    }
    let log = open()?;
    let last = log::last_line(&log).map_err(failed)?;
    let last = last.and_then(|text| moment(&Line { offset: 0, text: &text }));
    bounds.end = last.unwrap_or(bounds.start);
    Ok(bounds)
}

/// Tells the events that match, one after the other.
struct Teller<'a, W> {
    filter: &'a Filter,
    form: Form,
    /// How many may still be printed.
    left: usize,
    begun: u64,
    told: Answered,
    out: &'a mut W,
}

/// Why no more rows are wanted.
enum Stop {
    /// Enough was printed.
    Enough,
    Failed(QueryError),
    Index(AskError),
}

impl<E: Into<AskError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Stop::Index(error.into())
    }
}

impl<W: Write> Teller<'_, W> {
    /// Puts the question to the index.
    fn ask(&mut self, run: &Found, index: &OpenIndex) -> Result<(), QueryError> {
        let path = run.path.join(FILE);
        let failed = |why| QueryError::Index { path: path.clone(), why };
        let question = Question::new(index, self.filter).map_err(failed)?;
        if self.form == Form::Count && self.filter.contains.is_empty() {
            self.told.matched += question.count().map_err(failed)?;
            return Ok(());
        }
        let log = run.path.join(LOG);
        let mut spots = Spots::new(open_regular(&log).map_err(|why| log_error("open", &log, why))?);
        let wish = match self.form {
            // One more than is printed says whether there are more. Text thins them out.
            Form::Text(_) | Form::Json if self.filter.contains.is_empty() => {
                Wish::First(self.left.saturating_add(1))
            }
            _ => Wish::All,
        };
        let each = |spot: Spot| {
            let differs = |why| Stop::Failed(QueryError::Differs { path: path.clone(), seq: spot.seq, why });
            let line = spots.line(spot).map_err(|why| Stop::Failed(log_error("read", &log, why)))?;
            let text = line.ok_or_else(|| differs("no line of the log stands at its place"))?;
            let line = Line { offset: spot.offset, text };
            let row = Row::of(&line).map_err(|_| differs("its line is not canonical"))?;
            if row.seq as u64 != spot.seq {
                return Err(differs("another line of the log stands at its place"));
            }
            if !self.filter.row_matches(&row) {
                return Err(differs("its line is not one that was asked for"));
            }
            if self.filter.text_matches(text) { self.tell(&line) } else { Ok(()) }
        };
        match question.spots(wish, each) {
            Ok(()) | Err(Stop::Enough) => Ok(()),
            Err(Stop::Failed(error)) => Err(error),
            Err(Stop::Index(why)) => Err(failed(why)),
        }
    }

    /// Reads the log itself; says how many lines.
    fn read(&mut self, path: &Path, mut lines: Lines) -> Result<u64, QueryError> {
        let (mut read, mut unread) = (0u64, 0u64);
        while let Some(line) = lines.next_line().map_err(|why| log_error("read", path, why))? {
            read += 1;
            // Most lines lack the text, and to look for it is cheaper than to read them.
            if !self.filter.text_matches(line.text) {
                continue;
            }
            let told = match Row::of(&line) {
                Ok(row) if self.filter.row_matches(&row) => self.tell(&line),
                Ok(_) => Ok(()),
                Err(_) => {
                    unread += 1;
                    Ok(())
                }
            };
            match told {
                Ok(()) => {}
                Err(Stop::Failed(error)) => return Err(error),
                Err(_) => return Ok(read),
            }
        }
        if unread > 0 {
            let lines = if unread == 1 { "line" } else { "lines" };
            self.told.notes.push(format!("{unread} {lines} could not be read; `audit-verify` says more"));
        }
        if lines.torn() > 0 {
            self.told.notes.push("the last line of the log is torn or being written, and is left out".into());
        }
        Ok(read)
    }

    /// Prints or counts the event of a line.
    fn tell(&mut self, line: &Line<'_>) -> Result<(), Stop> {
        if self.form == Form::Count {
            self.told.matched += 1;
            return Ok(());
        }
        if self.left == 0 {
            self.told.more = true;
            return Err(Stop::Enough);
        }
        self.left -= 1;
        self.told.matched += 1;
        self.print(line).map_err(|why| Stop::Failed(QueryError::Output(why)))
    }

    fn print(&mut self, line: &Line<'_>) -> io::Result<()> {
        if let Form::Text(width) = self.form {
            if self.told.matched == 1 {
                writeln!(self.out, "{}", event::head())?;
            }
            // It was read before, so it can be read again.
            let record = Record::parse(line.text).unwrap_or_default();
            let told = event::line(&record, self.begun);
            let told = width.map_or(told.as_str().into(), |width| text::cut(&told, width));
            return writeln!(self.out, "{told}");
        }
        // A line that was proven canonical has nothing in it that acts on a terminal.
        self.out.write_all(line.text)?;
        self.out.write_all(b"\n")
    }

    fn finish(mut self) -> Result<Answered, QueryError> {
        if self.form == Form::Count {
            writeln!(self.out, "{}", self.told.matched).map_err(QueryError::Output)?;
        }
        Ok(std::mem::take(&mut self.told))
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
