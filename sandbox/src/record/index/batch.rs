//! Rows apart from the lines that they come from, so that one thread reads lines while another inserts.

use audit_verify::index::lines::Lines;
use audit_verify::index::{LineFault, NUMBERS, Row, STRINGS};

/// The most rows that are read at once.
const ROWS_MAX: usize = 8192;

/// The most text of strings that is read at once, in bytes; one line more may follow.
const TEXT_MAX: usize = 4 << 20;

/// Where a string stands in [`Batch::text`]. A batch holds less than 4 GiB: [`TEXT_MAX`] and one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    start: u32,
    end: u32,
}

/// One row.
#[derive(Debug)]
pub(super) struct PlacedRow {
    pub seq: i64,
    pub numbers: [Option<i64>; NUMBERS.len()],
    pub strings: [Option<Span>; STRINGS.len()],
}

/// Rows of some lines. Used again, so that it allocates only while it grows.
#[derive(Debug, Default)]
pub(super) struct Batch {
    rows: Vec<PlacedRow>,
    text: Vec<u8>,
    /// The last string of each column. Most rows repeat it, and then have the same span.
    last: [Option<Span>; STRINGS.len()],
}

/// What ended the reading of lines.
#[derive(Debug)]
pub(super) enum ReadFault {
    /// The log cannot be read.
    Io(std::io::Error),
    /// A line is none of ours.
    Line {
        /// Its number, from 1.
        number: u64,
        /// What is wrong with it.
        fault: LineFault,
    },
}

impl Batch {
    /// Fills itself anew from the lines that are there; `before` is the `seq` of the line before them.
    pub fn fill(&mut self, lines: &mut Lines, before: u64) -> Result<(), ReadFault> {
        self.clear();
        while self.rows.len() < ROWS_MAX && self.text.len() < TEXT_MAX {
            let Some(line) = lines.next_line().map_err(ReadFault::Io)? else { break };
            let number = before + self.rows.len() as u64 + 1;
            let fault = |fault| ReadFault::Line { number, fault };
            let row = Row::of(&line).map_err(fault)?;
            if row.seq as u64 != number {
                return Err(fault(LineFault::Seq(row.seq as u64)));
            }
            self.push(&row);
        }
        Ok(())
    }

    /// Forgets its rows.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.text.clear();
        self.last = Default::default();
    }

    /// The rows.
    pub fn rows(&self) -> &[PlacedRow] {
        &self.rows
    }

    /// The string at `span`.
    pub fn text(&self, span: Span) -> &[u8] {
        &self.text[span.start as usize..span.end as usize]
    }

    fn push(&mut self, row: &Row<'_>) {
        let mut strings = [None; STRINGS.len()];
        for (at, string) in row.strings.iter().enumerate() {
            let Some(string) = string else { continue };
            strings[at] = match self.last[at] {
                Some(last) if self.text(last) == &**string => Some(last),
                _ => {
                    let start = self.text.len() as u32;
                    self.text.extend_from_slice(string);
                    Some(Span { start, end: self.text.len() as u32 })
                }
            };
            self.last[at] = strings[at];
        }
        self.rows.push(PlacedRow { seq: row.seq, numbers: row.numbers, strings });
    }
}
