//! How far a long file was read, on a terminal's stderr.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::time::{Duration, Instant};

/// When it is shown first, and how often from then on.
const FIRST: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_millis(200);

/// Says how much of a file is done, from one second on. Where stderr is no terminal it says nothing.
#[derive(Debug)]
pub struct Gauge {
    /// What is done with the bytes, for people.
    done: &'static str,
    /// Bytes in all; 0 where that is not known.
    size: u64,
    next: Instant,
    on_terminal: bool,
    shown: bool,
}

impl Gauge {
    /// Of `size` bytes, `done` is what becomes of them: `checked`.
    pub fn new(size: u64, done: &'static str) -> Self {
        let on_terminal = io::stderr().is_terminal();
        Gauge { done, size, next: Instant::now() + FIRST, on_terminal, shown: false }
    }

    /// So many bytes of it are done.
    pub fn at(&mut self, bytes: u64) {
        let now = Instant::now();
        if !self.on_terminal || self.size == 0 || now < self.next {
            return;
        }
        let percent = bytes.min(self.size) * 100 / self.size;
        eprint!("\r{percent:3} %  {} of {} MiB {}", bytes >> 20, self.size >> 20, self.done);
        self.next = now + AGAIN;
        self.shown = true;
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        if self.shown {
            eprint!("\r\x1b[K");
        }
    }
}

/// Passes bytes on, and says how many.
#[derive(Debug)]
pub struct Progress<R> {
    source: R,
    read: u64,
    gauge: Gauge,
}

impl Progress<File> {
    /// Of a file that is read from its beginning to be checked.
    ///
    /// # Errors
    /// Its size cannot be told.
    pub fn of(file: File) -> io::Result<Self> {
        let gauge = Gauge::new(file.metadata()?.len(), "checked");
        Ok(Progress { source: file, read: 0, gauge })
    }
}

impl<R: Read> Read for Progress<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.read += read as u64;
        self.gauge.at(self.read);
        Ok(read)
    }
}
