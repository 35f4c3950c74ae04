//! Lines of a log, in constant memory.
//!
//! A line ends where Python's text files end one: at `\n`, `\r\n` or `\r`. Only `\n` is an end that a log of
//! ours has; the others are told apart here and judged elsewhere. Of a line longer than
//! [`LINE_MAX`] its beginning is kept and its length counted.

use std::io::{self, ErrorKind, Read};

use crate::canonical::LINE_MAX;

/// What ends a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineEnd {
    /// `\n`.
    Newline,
    /// `\r\n`.
    CarriageReturnNewline,
    /// `\r` alone.
    CarriageReturn,
    /// The end of the file.
    File,
}

/// One line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'b> {
    /// Its bytes without what ends it; the first [`LINE_MAX`] of them if it is longer.
    pub bytes: &'b [u8],
    /// Its length in bytes without what ends it.
    pub len: u64,
    /// What ends it.
    pub end: LineEnd,
}

impl Line<'_> {
    /// Whether `bytes` is only its beginning.
    pub fn is_too_long(&self) -> bool {
        self.len > LINE_MAX as u64
    }
}

/// How much is read at first, bytes. Most logs of a test are not longer.
const FIRST_READ: usize = 4 << 10;

/// How much is read at once, bytes.
const READ: usize = 256 << 10;

/// Reads lines from `R`.
#[derive(Debug)]
pub struct Lines<R> {
    source: R,
    buffer: Vec<u8>,
    /// Where the next line starts in `buffer`.
    start: usize,
    /// Up to where `buffer` holds data.
    filled: usize,
    at_end: bool,
}

impl<R: Read> Lines<R> {
    /// Lines of `source`, which needs no buffer of its own.
    pub fn new(source: R) -> Self {
        Lines { source, buffer: Vec::new(), start: 0, filled: 0, at_end: false }
    }

    /// The next line; `None` at the end of the file.
    pub fn next_line(&mut self) -> io::Result<Option<Line<'_>>> {
        let mut seen = self.start;
        let (end_at, end) = loop {
            if let Some(found) = self.line_end(seen) {
                break found;
            }
            // A carriage return in the last place waits for the byte behind it.
            seen = self.filled - usize::from(self.ends_with_carriage_return(seen));
            if seen - self.start > LINE_MAX {
                return self.skip_long_line().map(Some);
            }
            seen -= self.start;
            self.fill()?;
            seen += self.start;
            if self.at_end && self.start == self.filled {
                return Ok(None);
            }
        };
        let start = self.start;
        self.start = end_at + width(end);
        let bytes = &self.buffer[start..end_at];
        Ok(Some(Line { bytes: &bytes[..bytes.len().min(LINE_MAX)], len: bytes.len() as u64, end }))
    }

    /// The first end of a line at or behind `from`, if the buffer can say.
    fn line_end(&self, from: usize) -> Option<(usize, LineEnd)> {
        let data = &self.buffer[from..self.filled];
        let Some(at) = find_end(data) else {
            return (self.at_end && self.start < self.filled).then_some((self.filled, LineEnd::File));
        };
        match (data[at], data.get(at + 1)) {
            (b'\n', _) => Some((from + at, LineEnd::Newline)),
            (_, Some(b'\n')) => Some((from + at, LineEnd::CarriageReturnNewline)),
            (_, None) if !self.at_end => None,
            _ => Some((from + at, LineEnd::CarriageReturn)),
        }
    }

    fn ends_with_carriage_return(&self, from: usize) -> bool {
        self.buffer[from..self.filled].last() == Some(&b'\r')
    }

    /// Moves what is left to the front and reads more behind it.
    fn fill(&mut self) -> io::Result<()> {
        self.buffer.copy_within(self.start..self.filled, 0);
        self.filled -= self.start;
        self.start = 0;
        if self.buffer.len() < READ || self.buffer.len() - self.filled < READ / 2 {
            let len = (self.buffer.len() * 2).clamp(FIRST_READ, LINE_MAX + 2 * READ);
            self.buffer.resize(len, 0);
        }
        self.read()
    }

    fn read(&mut self) -> io::Result<()> {
        loop {
            match self.source.read(&mut self.buffer[self.filled..]) {
                Ok(0) => self.at_end = true,
                Ok(read) => self.filled += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            return Ok(());
        }
    }

    /// Keeps the first [`LINE_MAX`] bytes of the line in the buffer and passes over the rest of it.
    fn skip_long_line(&mut self) -> io::Result<Line<'_>> {
        self.buffer.copy_within(self.start..self.filled, 0);
        self.filled -= self.start;
        self.start = 0;
        let mut dropped = 0;
        let (end_at, end) = loop {
            if let Some(found) = self.line_end(LINE_MAX) {
                break found;
            }
            let waiting = usize::from(self.ends_with_carriage_return(LINE_MAX));
            dropped += (self.filled - waiting - LINE_MAX) as u64;
            self.buffer[LINE_MAX] = b'\r';
            self.filled = LINE_MAX + waiting;
            self.read()?;
        };
        self.start = end_at + width(end);
        Ok(Line { bytes: &self.buffer[..LINE_MAX], len: end_at as u64 + dropped, end })
    }
}

/// How many bytes an end has.
fn width(end: LineEnd) -> usize {
    match end {
        LineEnd::Newline | LineEnd::CarriageReturn => 1,
        LineEnd::CarriageReturnNewline => 2,
        LineEnd::File => 0,
    }
}

/// Where the first `\n` or `\r` stands. Blocks first: the compiler makes vector instructions of them.
fn find_end(data: &[u8]) -> Option<usize> {
    let is_end = |byte: &u8| *byte == b'\n' || *byte == b'\r';
    let blocks =
        data.chunks_exact(32).take_while(|block| !block.iter().fold(false, |any, b| any | is_end(b)));
    let clear = blocks.count() * 32;
    data[clear..].iter().position(is_end).map(|at| clear + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives at most `step` bytes at a time.
    struct Drip<'d> {
        data: &'d [u8],
        step: usize,
    }

    impl Read for Drip<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let len = self.step.min(buffer.len()).min(self.data.len());
            let (now, later) = self.data.split_at(len);
            buffer[..len].copy_from_slice(now);
            self.data = later;
            Ok(len)
        }
    }

    fn lines(data: &[u8], step: usize) -> Vec<(Vec<u8>, LineEnd)> {
        let mut lines = Lines::new(Drip { data, step });
        let mut out = Vec::new();
        while let Some(line) = lines.next_line().unwrap() {
            assert_eq!(line.len, line.bytes.len() as u64);
            out.push((line.bytes.to_vec(), line.end));
        }
        assert_eq!(lines.next_line().unwrap(), None);
        out
    }

    #[test]
    fn ends_as_python_sees_them() {
        use LineEnd::*;
        type Ends = [(&'static [u8], LineEnd)];
        let cases: [(&[u8], &Ends); 8] = [
            (b"", &[]),
            (b"\n", &[(b"", Newline)]),
            (b"a\nb", &[(b"a", Newline), (b"b", File)]),
            (b"a\r\nb\r\n", &[(b"a", CarriageReturnNewline), (b"b", CarriageReturnNewline)]),
            (b"a\rb\r", &[(b"a", CarriageReturn), (b"b", CarriageReturn)]),
            (b"a\r\r\n\n", &[(b"a", CarriageReturn), (b"", CarriageReturnNewline), (b"", Newline)]),
            (b"\r", &[(b"", CarriageReturn)]),
            (b"a\n\x0b\xe2\x80\xa8b\n", &[(b"a", Newline), (b"\x0b\xe2\x80\xa8b", Newline)]),
        ];
        for (data, expected) in cases {
            for step in [1, 2, 3, READ] {
                let found = lines(data, step);
                let found: Vec<(&[u8], LineEnd)> = found.iter().map(|(b, e)| (&b[..], *e)).collect();
                assert_eq!(found, expected, "{data:?} in steps of {step}");
            }
        }
    }

    #[test]
    fn lines_of_any_length_up_to_the_bound() {
        for len in [31, 32, 33, READ - 1, READ, READ + 1, 3 * READ, LINE_MAX] {
            let mut data = vec![b'x'; len];
            data.extend_from_slice(b"\nnext\n");
            let found = lines(&data, READ);
            assert_eq!((found[0].0.len(), found[0].1), (len, LineEnd::Newline));
            assert_eq!(found[1..], [(b"next".to_vec(), LineEnd::Newline)]);
        }
    }

    #[test]
    fn a_longer_line_is_counted_and_passed_over() {
        for (extra, end, expected) in [
            (1, &b"\n"[..], LineEnd::Newline),
            (1, b"\r\n", LineEnd::CarriageReturnNewline),
            (2, b"\r", LineEnd::CarriageReturn),
            (READ - 1, b"\r\n", LineEnd::CarriageReturnNewline),
            (READ, b"\r", LineEnd::CarriageReturn),
            (20 << 20, b"\n", LineEnd::Newline),
        ] {
            let mut data = vec![b'x'; LINE_MAX + extra];
            data.extend_from_slice(end);
            data.extend_from_slice(b"next");
            let mut lines = Lines::new(&data[..]);
            let line = lines.next_line().unwrap().unwrap();
            assert!(line.is_too_long());
            assert_eq!((line.len, line.end), ((LINE_MAX + extra) as u64, expected));
            assert_eq!(line.bytes.len(), LINE_MAX);
            let next = Line { bytes: b"next", len: 4, end: LineEnd::File };
            assert_eq!(lines.next_line().unwrap(), Some(next));
            assert_eq!(lines.next_line().unwrap(), None);
            assert!(lines.buffer.len() <= LINE_MAX + 2 * READ);
        }
    }
}
