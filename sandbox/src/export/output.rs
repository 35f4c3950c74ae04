//! Where an export goes: a file that is there whole or not at all, or stdout.

use std::io::{self, BufWriter, Write};

pub use audit_verify::output::{Draft, Existing, Origin, OutputError};

/// How much is written at once, bytes.
const CHUNK: usize = 256 << 10;

/// A file that is being made.
pub fn file(draft: &Draft) -> Result<super::Sink, OutputError> {
    Ok(Box::new(BufWriter::with_capacity(CHUNK, draft.file()?)))
}

/// Stdout.
pub fn stdout() -> super::Sink {
    Box::new(BufWriter::with_capacity(CHUNK, io::stdout()))
}

/// Stdout that is a terminal: everything that it would act on, and all that is not ASCII, is shown as `\xNN`.
pub fn terminal() -> super::Sink {
    Box::new(BufWriter::with_capacity(CHUNK, Shown(io::stdout())))
}

#[derive(Debug)]
struct Shown<W>(W);

impl<W: Write> Write for Shown<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut shown = Vec::with_capacity(bytes.len());
        for byte in bytes {
            match byte {
                b'\n' | b' '..=b'~' => shown.push(*byte),
                b'\r' => {}
                _ => write!(shown, "\\x{byte:02x}")?,
            }
        }
        self.0.write_all(&shown)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_acts_on_is_shown_raw() {
        let mut out = Shown(Vec::new());
        out.write_all("a\x1b[2J\t\r\n\u{9b}é".as_bytes()).unwrap();
        assert_eq!(String::from_utf8(out.0).unwrap(), "a\\x1b[2J\\x09\n\\xc2\\x9b\\xc3\\xa9");
    }
}
