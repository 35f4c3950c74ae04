//! What can be wrong with a policy file, and how it is shown: `file:line:column`, the line, a caret.
//!
//! Only errors that a person who writes policies can cause; faults of compilation are
//! [`crate::compile::CompileError`].

mod problem;

use std::fmt;

pub use problem::Problem;
pub(crate) use problem::cut;

/// A place in a policy file. Lines and columns count from 1, columns in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line.
    pub line: u32,
    /// Column of the first character.
    pub column: u32,
    /// How many characters are meant, at least 1; more than the line holds means the rest of it.
    pub width: u32,
}

/// One error in a policy file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Where.
    pub place: Place,
    /// What.
    pub problem: Problem,
}

/// How much a [`Note`] matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing, and as the author asked: an entry with `:-none` that is left out.
    Remark,
    /// Most likely not what was meant.
    Warning,
}

impl Severity {
    /// The word before the text.
    pub fn name(self) -> &'static str {
        match self {
            Self::Remark => "note",
            Self::Warning => "warning",
        }
    }
}

/// Something a person should know about a policy that is nevertheless valid. Shown as an error is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// How much it matters.
    pub severity: Severity,
    /// What the file is called that it is about.
    pub source_name: std::sync::Arc<str>,
    /// Where; line 0 where it is about no line of the file itself.
    pub place: Place,
    /// What.
    pub text: String,
    /// The line and a caret below it; empty where there is no such line.
    pub snippet: String,
}

impl Note {
    /// One about something that the file has from elsewhere.
    pub(crate) fn elsewhere(source_name: &std::sync::Arc<str>, severity: Severity, text: String) -> Self {
        let (source_name, snippet) = (source_name.clone(), String::new());
        Self { severity, source_name, place: Place::default(), text, snippet }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { severity, source_name, place, text, snippet } = self;
        let (name, text) = (visible(source_name), visible(text));
        f.write_str(&name)?;
        if place.line > 0 {
            write!(f, ":{}:{}", place.line, place.column)?;
        }
        write!(f, ": {}: {text}", severity.name())?;
        if snippet.is_empty() { Ok(()) } else { write!(f, "\n{snippet}") }
    }
}

/// All errors of a file in the order of their places, then those of the files that it extends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors {
    /// The file's name, the error, the snippet.
    shown: Vec<(String, Error, String)>,
    more: usize,
}

/// How many errors are looked for; a file with more is not worth reading on.
pub(crate) const ENOUGH: usize = 1000;
/// How many errors are kept; the rest are counted.
const MAX_ERRORS: usize = 100;
/// Most characters of a line that a snippet shows, so that it fits 80 columns.
const SNIPPET: usize = 68;

impl Errors {
    /// Errors of the file `source_name`, whose text is `text`.
    pub(crate) fn new(source_name: &str, text: &str, mut errors: Vec<Error>) -> Self {
        errors.sort_by_key(|error| error.place);
        errors.dedup();
        let more = errors.len().saturating_sub(MAX_ERRORS);
        errors.truncate(MAX_ERRORS);
        let mut snippets = Snippets::new(text);
        let shown = errors
            .into_iter()
            .map(|error| {
                let snippet = snippets.at(error.place);
                (source_name.to_owned(), error, snippet)
            })
            .collect();
        Self { shown, more }
    }

    /// Adds those of another file; what is there already is not said again.
    pub(crate) fn join(&mut self, other: Self) {
        for one in other.shown {
            if !self.shown.contains(&one) {
                self.shown.push(one);
            }
        }
        self.more += other.more + self.shown.len().saturating_sub(MAX_ERRORS);
        self.shown.truncate(MAX_ERRORS);
    }

    /// The errors that are kept (the first hundred).
    pub fn iter(&self) -> impl Iterator<Item = &Error> {
        self.shown.iter().map(|(_, error, _)| error)
    }

    /// How many errors were found; a thousand may stand for more.
    pub fn count(&self) -> usize {
        self.shown.len() + self.more
    }
}

impl std::error::Error for Errors {}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (source_name, error, snippet)) in self.shown.iter().enumerate() {
            if i > 0 {
                f.write_str("\n\n")?;
            }
            let Place { line, column, .. } = error.place;
            let problem = visible(&error.problem.to_string());
            write!(f, "{}:{line}:{column}: {problem}", visible(source_name))?;
            if !snippet.is_empty() {
                write!(f, "\n{snippet}")?;
            }
        }
        if self.more > 0 {
            write!(f, "\n\nand {} more", self.more)?;
        }
        Ok(())
    }
}

/// The snippets of a text, asked for in the order of their places.
struct Snippets<'a> {
    lines: std::iter::Enumerate<std::str::Lines<'a>>,
    current: Option<(usize, &'a str)>,
}

impl<'a> Snippets<'a> {
    fn new(text: &'a str) -> Self {
        Self { lines: text.lines().enumerate(), current: None }
    }

    fn at(&mut self, place: Place) -> String {
        let wanted = place.line.saturating_sub(1) as usize;
        while self.current.is_none_or(|(at, _)| at < wanted) {
            match self.lines.next() {
                Some(next) => self.current = Some(next),
                None => break,
            }
        }
        snippet(self.current.filter(|(at, _)| *at == wanted).map_or("", |(_, line)| line), place)
    }
}

/// The line and a caret below it; empty where the line is.
fn snippet(line: &str, place: Place) -> String {
    let chars: Vec<char> = line.chars().map(plain).collect();
    if chars.is_empty() {
        return String::new();
    }
    let at = (place.column.saturating_sub(1) as usize).min(chars.len());
    // A window around the caret, where the line is long.
    let from =
        if chars.len() <= SNIPPET { 0 } else { at.saturating_sub(SNIPPET / 3).min(chars.len() - SNIPPET) };
    let to = (from + SNIPPET).min(chars.len());
    let width = (place.width.max(1) as usize).min((to - at.min(to)).max(1));
    let number = place.line.to_string();
    let mut text: String = chars[from..to].iter().collect();
    if from > 0 {
        text.replace_range(..text.chars().next().map_or(0, char::len_utf8), "…");
    }
    format!(
        "  {number} | {}\n  {} | {}{}",
        text.trim_end(),
        " ".repeat(number.len()),
        " ".repeat(at - from),
        "^".repeat(width)
    )
}

/// A character that takes one column and does nothing to a terminal.
fn plain(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() || crate::document::is_invisible(c) => '\u{fffd}',
        c => c,
    }
}

/// Text of the policy inside a message, without what would act on a terminal.
fn visible(text: &str) -> String {
    text.chars().map(plain).collect()
}

/// How many notes are kept.
const MAX_NOTES: usize = 1000;

/// Collects errors and notes while a file is read.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub errors: Vec<Error>,
    notes: Vec<(Place, Severity, String)>,
    /// Errors of files that this one extends.
    foreign: Vec<Errors>,
    /// Notes of files that this one extends.
    pub foreign_notes: Vec<Note>,
}

impl Report {
    pub fn error(&mut self, place: Place, problem: Problem) {
        if !self.is_full() {
            self.errors.push(Error { place, problem });
        }
    }

    pub fn foreign(&mut self, errors: Errors) {
        self.foreign.push(errors);
    }

    /// True without any error.
    pub fn is_clean(&self) -> bool {
        self.errors.is_empty() && self.foreign.is_empty()
    }

    /// All of them.
    pub fn errors(self, source_name: &str, text: &str) -> Errors {
        let mut all = Errors::new(source_name, text, self.errors);
        self.foreign.into_iter().for_each(|errors| all.join(errors));
        all
    }

    /// All notes: those of the file `source_name`, whose text is `text`, in the order of their places, then those
    /// of the files that it extends.
    pub fn notes(mut self, source_name: &str, text: &str) -> Vec<Note> {
        self.notes.sort();
        self.notes.dedup();
        let source_name: std::sync::Arc<str> = source_name.into();
        let mut snippets = Snippets::new(text);
        let own = self.notes.into_iter().map(|(place, severity, text)| Note {
            severity,
            source_name: source_name.clone(),
            place,
            text,
            snippet: snippets.at(place),
        });
        let mut all: Vec<Note> = own.collect();
        for note in self.foreign_notes {
            if !all.contains(&note) {
                all.push(note);
            }
        }
        all.truncate(MAX_NOTES);
        all
    }

    /// True when there are so many errors that no more are taken.
    pub fn is_full(&self) -> bool {
        self.errors.len() >= ENOUGH
    }

    /// Something worth knowing.
    pub fn remark(&mut self, place: Place, text: String) {
        self.note(place, Severity::Remark, text);
    }

    /// Something that was most likely not meant.
    pub fn warn(&mut self, place: Place, text: String) {
        self.note(place, Severity::Warning, text);
    }

    fn note(&mut self, place: Place, severity: Severity, text: String) {
        if self.notes.len() < MAX_NOTES {
            self.notes.push((place, severity, text));
        }
    }
}
