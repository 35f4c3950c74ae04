//! Comma-separated values, RFC 4180: a header, lines that end with CR LF, quotes where they are needed.
//!
//! A cell without a value is empty; an empty text is `""`. Lists are JSON as in the log.

use super::columns::{COLUMNS, ESCAPED, Kind, MORE};
use super::entry::{Entry, Text};
use super::{Form, Sink};

/// What is done about cells that a spreadsheet would take for a formula.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Formulas {
    /// Nothing: the cells are the data.
    #[default]
    Keep,
    /// An apostrophe is put before them, and before those that begin with one.
    Disarm,
}

/// Writes the table.
#[derive(Debug)]
pub struct Csv {
    formulas: Formulas,
    line: String,
}

impl Csv {
    /// A table that has no line yet.
    pub fn new(formulas: Formulas) -> Csv {
        Csv { formulas, line: String::new() }
    }

    fn cell(&mut self, entry: &Entry<'_>, key: &str, kind: Kind) {
        match kind {
            Kind::Integer => {
                if entry.int(key).is_some() {
                    self.line.push_str(entry.digits(key).unwrap_or_default());
                }
            }
            Kind::Unsigned => {
                if entry.uint(key).is_some() {
                    self.line.push_str(entry.digits(key).unwrap_or_default());
                }
            }
            Kind::Flag => {
                if let Some(flag) = entry.flag(key) {
                    self.line.push_str(if flag { "true" } else { "false" });
                }
            }
            Kind::Time | Kind::Text => {
                if let Some(text) = entry.text(key).as_ref().map(Text::shown) {
                    self.text(text);
                }
            }
            Kind::List => {
                if let Some(list) = entry.json_list(key) {
                    self.quoted(list);
                }
            }
        }
    }

    fn text(&mut self, text: &str) {
        if self.formulas == Formulas::Disarm && is_formula(text) {
            self.quoted(&format!("'{text}"));
        } else if text.is_empty() || text.starts_with(' ') || text.ends_with(' ') || text.contains(SPECIAL) {
            self.quoted(text);
        } else {
            self.line.push_str(text);
        }
    }

    fn text_or_nothing(&mut self, text: &str) {
        if !text.is_empty() {
            self.text(text);
        }
    }

    fn quoted(&mut self, text: &str) {
        self.line.push('"');
        for (at, part) in text.split('"').enumerate() {
            self.line.push_str(if at > 0 { "\"\"" } else { "" });
            self.line.push_str(part);
        }
        self.line.push('"');
    }
}

/// What a cell without quotes has not: also what some spreadsheets take for the end of a cell.
const SPECIAL: [char; 6] = [',', '"', '\r', '\n', ';', '\t'];

/// Whether a spreadsheet may calculate a text instead of showing it (OWASP, "CSV Injection"), or the text begins with
/// what is put before such ones.
fn is_formula(text: &str) -> bool {
    text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠', '\''])
}

impl Form for Csv {
    fn begin(&mut self, out: &mut Sink) -> std::io::Result<()> {
        let mut header: Vec<&str> = COLUMNS.iter().map(|column| column.key).collect();
        header.extend([ESCAPED, MORE]);
        out.write_all(format!("{}\r\n", header.join(",")).as_bytes())
    }

    fn event(&mut self, entry: &Entry<'_>, out: &mut Sink) -> std::io::Result<()> {
        self.line.clear();
        for column in COLUMNS {
            self.cell(entry, column.key, column.kind);
            self.line.push(',');
        }
        self.text_or_nothing(&entry.escaped_texts(|_| true).join(" "));
        self.line.push(',');
        self.text_or_nothing(&entry.rest_json().unwrap_or_default());
        self.line.push_str("\r\n");
        out.write_all(self.line.as_bytes())
    }
}
