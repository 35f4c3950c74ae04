//! Lines of a log by their places.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use audit_verify::canonical::LINE_MAX;

use super::question::Spot;

/// How much is read where the next line stands close behind.
const WINDOW: usize = 256 << 10;

/// How far apart lines may stand to be read together, in bytes.
const NEAR: u64 = 16 << 10;

/// Reads lines at places that ascend.
#[derive(Debug)]
pub struct Spots {
    file: File,
    /// Where `buffer` stands in the file.
    base: u64,
    buffer: Vec<u8>,
}

impl Spots {
    /// Of an open log.
    pub fn new(file: File) -> Self {
        Spots { file, base: 0, buffer: Vec::new() }
    }

    /// The line at a place: what stands between two newlines there. `None` if no line begins and ends so.
    pub fn line(&mut self, spot: Spot) -> io::Result<Option<&[u8]>> {
        if spot.length > LINE_MAX || spot.offset > i64::MAX as u64 {
            return Ok(None);
        }
        // With the newline before it, where it is not the first.
        let from = spot.offset.saturating_sub(1);
        let before = (spot.offset - from) as usize;
        let length = before + spot.length + 1;
        if !self.holds(from, length) {
            let end = self.base + self.buffer.len() as u64;
            let is_near = from >= self.base && from <= end + NEAR;
            self.read(from, if is_near { length.max(WINDOW) } else { length })?;
        }
        if !self.holds(from, length) {
            return Ok(None);
        }
        let at = (from - self.base) as usize;
        let bytes = &self.buffer[at..at + length];
        let line = &bytes[before..length - 1];
        let is_one = bytes[..before].iter().all(|byte| *byte == b'\n')
            && bytes[length - 1] == b'\n'
            && !line.contains(&b'\n');
        Ok(is_one.then_some(line))
    }

    fn holds(&self, from: u64, length: usize) -> bool {
        from >= self.base && from + length as u64 <= self.base + self.buffer.len() as u64
    }

    fn read(&mut self, from: u64, length: usize) -> io::Result<()> {
        self.base = from;
        self.buffer.resize(length, 0);
        let mut filled = 0;
        while filled < length {
            match self.file.read_at(&mut self.buffer[filled..], from + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.buffer.clear();
                    return Err(error);
                }
            }
        }
        self.buffer.truncate(filled);
        Ok(())
    }
}

/// The last whole line of a log, without its newline. `None` where there is none, or it is longer than any line.
pub fn last_line(log: &File) -> io::Result<Option<Vec<u8>>> {
    let size = log.metadata()?.len();
    let mut window = 64 << 10;
    loop {
        let length = size.min(window);
        let mut bytes = vec![0; length as usize];
        log.read_exact_at(&mut bytes, size - length)?;
        let end = bytes.iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
        let start = bytes[..end].iter().rposition(|byte| *byte == b'\n');
        match start.map(|at| at + 1).or((length == size).then_some(0)) {
            Some(start) => return Ok(Some(bytes[start..end].to_vec()).filter(|line| !line.is_empty())),
            None if window > 2 * LINE_MAX as u64 => return Ok(None),
            None => window *= 4,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn only_what_stands_between_newlines_is_a_line() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let far = "x".repeat(2 * WINDOW);
        write!(file, "one\ntwo\n{far}\nend\ntorn").unwrap();
        let mut spots = Spots::new(file.reopen().unwrap());
        let mut line =
            |offset, length| spots.line(Spot { seq: 1, offset, length }).unwrap().map(|line| line.to_vec());
        let end = 8 + far.len() as u64 + 1;
        for _ in 0..2 {
            assert_eq!(line(0, 3).as_deref(), Some(&b"one"[..]));
            assert_eq!(line(4, 3).as_deref(), Some(&b"two"[..]));
            assert_eq!(line(8, far.len()), Some(far.clone().into_bytes()));
            assert_eq!(line(end, 3).as_deref(), Some(&b"end"[..]));
            for (offset, length) in [
                (0, 2),
                (1, 2),
                (0, 7),
                (5, 2),
                (end + 4, 4),
                (end + 4, 3),
                (u64::MAX, 1),
                (1 << 40, 1),
                (0, usize::MAX),
            ] {
                assert_eq!(line(offset, length), None, "{offset} {length}");
            }
        }
    }

    #[test]
    fn the_last_whole_line_is_found_however_long_it_is() {
        let long = "x".repeat(300_000);
        for (text, expected) in [
            ("", None),
            ("torn", None),
            ("one\n", Some("one")),
            ("one\ntwo\n", Some("two")),
            ("one\ntwo\ntorn", Some("two")),
            (&format!("one\n{long}\ntorn"), Some(&*long)),
            (&format!("{long}\n"), Some(&*long)),
        ] {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            let found = last_line(file.as_file()).unwrap();
            assert_eq!(found.as_deref(), expected.map(str::as_bytes));
        }
    }
}
