//! How far a long file was read, on a terminal's stderr.

use std::io::{self, IsTerminal, Read};
use std::time::{Duration, Instant};

/// Passes bytes on and, from one second on, says how many.
pub struct Progress<R> {
    source: R,
    read: u64,
    /// Bytes in all; 0 where that is not known.
    size: u64,
    next: Instant,
    on_terminal: bool,
    shown: bool,
}

const FIRST: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_millis(200);

impl<R> Progress<R> {
    /// Shows how much of `size` bytes was read.
    pub fn new(source: R, size: u64) -> Self {
        let on_terminal = io::stderr().is_terminal();
        Progress { source, read: 0, size, next: Instant::now() + FIRST, on_terminal, shown: false }
    }

    fn show(&mut self) {
        let now = Instant::now();
        if now >= self.next {
            let percent = self.read.min(self.size) * 100 / self.size.max(1);
            let (read, size) = (self.read >> 20, self.size >> 20);
            eprint!("\r{percent:3} %  {read} of {size} MiB checked");
            self.next = now + AGAIN;
            self.shown = true;
        }
    }
}

impl<R: Read> Read for Progress<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.read += read as u64;
        if self.on_terminal && self.size > 0 {
            self.show();
        }
        Ok(read)
    }
}

impl<R> Drop for Progress<R> {
    fn drop(&mut self) {
        if self.shown {
            eprint!("\r\x1b[K");
        }
    }
}
