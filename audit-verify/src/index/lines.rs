//! The whole lines of a log that may still grow.
//!
//! A line is whole when its newline is there; what follows the last one is a line that is being written, or
//! one that was torn by a crash. Nothing is judged here.

use std::fs::File;
use std::io::{self, BufRead};
use std::os::unix::fs::FileExt;

use crate::canonical::LINE_MAX;

const CHUNK: usize = 1 << 20;

/// Reads a log line by line, in memory that does not grow with the log.
#[derive(Debug)]
pub struct Lines {
    file: File,
    /// Where `buffer[0]` stands in the file.
    base: u64,
    buffer: Vec<u8>,
    /// The first byte of `buffer` that was not handed out.
    next: usize,
    /// The first byte of `buffer` that was not searched for a newline.
    searched: usize,
}

/// One whole line.
#[derive(Clone, Copy, Debug)]
pub struct Line<'l> {
    /// Where it begins in the log, in bytes.
    pub offset: u64,
    /// Its bytes without the newline.
    pub text: &'l [u8],
}

impl Lines {
    /// Reads from `offset` on, which must be the beginning of a line.
    pub fn new(file: File, offset: u64) -> Self {
        Self { file, base: offset, buffer: Vec::new(), next: 0, searched: 0 }
    }

    /// The next whole line; `None` where there is none yet. Calling again later is how a growing log is read.
    ///
    /// A line that is longer than any log has is `InvalidData`.
    pub fn next_line(&mut self) -> io::Result<Option<Line<'_>>> {
        loop {
            if let Some(length) = to_newline(&self.buffer[self.searched..]) {
                let (from, to) = (self.next, self.searched + length);
                self.next = to + 1;
                self.searched = self.next;
                return Ok(Some(Line { offset: self.base + from as u64, text: &self.buffer[from..to] }));
            }
            self.searched = self.buffer.len();
            if self.buffer.len() - self.next > LINE_MAX {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("a line of more than {LINE_MAX} bytes at byte {}", self.offset()),
                ));
            }
            if !self.read_more()? {
                return Ok(None);
            }
        }
    }

    /// Where the next line begins.
    pub fn offset(&self) -> u64 {
        self.base + self.next as u64
    }

    /// How many bytes stand behind the last whole line, as far as was read.
    pub fn torn(&self) -> usize {
        self.buffer.len() - self.next
    }

    fn read_more(&mut self) -> io::Result<bool> {
        if self.next > 0 {
            self.buffer.drain(..self.next);
            self.base += self.next as u64;
            self.searched -= self.next;
            self.next = 0;
        }
        let filled = self.buffer.len();
        self.buffer.resize(filled + CHUNK, 0);
        let read = loop {
            match self.file.read_at(&mut self.buffer[filled..], self.base + filled as u64) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.buffer.truncate(filled + *read.as_ref().unwrap_or(&0));
        read.map(|read| read > 0)
    }
}

/// How many bytes stand before the first newline. The standard library's search for a byte, which looks at many
/// at once, is reached through [`BufRead`] alone.
fn to_newline(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes;
    let passed = rest.skip_until(b'\n').ok()?;
    (passed > 0 && bytes[passed - 1] == b'\n').then(|| passed - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_growing_file_is_read_line_by_line() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut lines = Lines::new(file.reopen().unwrap(), 0);
        assert!(lines.next_line().unwrap().is_none());
        file.write_all(b"one\ntw").unwrap();
        assert_eq!(lines.next_line().unwrap().unwrap().text, b"one");
        assert!(lines.next_line().unwrap().is_none());
        assert_eq!(lines.torn(), 2);
        file.write_all(b"o\n\n").unwrap();
        let line = lines.next_line().unwrap().unwrap();
        assert_eq!((line.offset, line.text), (4, &b"two"[..]));
        assert_eq!(lines.next_line().unwrap().unwrap().text, b"");
        assert!(lines.next_line().unwrap().is_none());

        let long = vec![b'x'; 3 * CHUNK];
        file.write_all(&long).unwrap();
        file.write_all(b"\nend\n").unwrap();
        assert_eq!(lines.next_line().unwrap().unwrap().text, long);
        assert_eq!(lines.next_line().unwrap().unwrap().text, b"end");
        assert_eq!((lines.offset(), lines.torn()), (file.as_file().metadata().unwrap().len(), 0));
    }
}
