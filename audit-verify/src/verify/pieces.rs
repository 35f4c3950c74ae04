//! A log cut into pieces of whole lines, as it is read.

use std::io::{self, ErrorKind, Read};

/// How much is read at first, bytes. Most logs of a test are not longer.
const FIRST: usize = 4 << 10;

/// How long a piece is, bytes, as long as its lines are not longer.
pub(super) const PIECE: usize = 256 << 10;

/// How long it may become for the sake of a long line.
const PIECE_MAX: usize = 1 << 20;

/// Memory for a piece, used again.
#[derive(Debug, Default)]
pub(super) struct Piece {
    bytes: Vec<u8>,
    /// How many of them are whole lines.
    whole: usize,
}

impl Piece {
    /// The lines, each with its newline.
    pub fn lines(&self) -> &[u8] {
        &self.bytes[..self.whole]
    }
}

/// Cuts what it reads from `R` into pieces.
#[derive(Debug)]
pub(super) struct Pieces<R> {
    source: R,
    /// What was read behind the last piece.
    rest: Vec<u8>,
    /// Length of the next piece.
    next: usize,
    /// Why there are no more pieces, if it was a read.
    error: Option<io::Error>,
    ended: bool,
}

impl<R: Read> Pieces<R> {
    /// Pieces of `source`, of at most `piece` bytes where lines are shorter.
    pub fn new(source: R, piece: usize) -> Self {
        Pieces { source, rest: Vec::new(), next: FIRST.min(piece), error: None, ended: false }
    }

    /// Fills `piece` with whole lines; `false` where there are none, or none that end in time.
    ///
    /// What then is left is [`Pieces::into_rest`].
    pub fn fill(&mut self, piece: &mut Piece, longest: usize) -> bool {
        piece.whole = 0;
        if self.ended {
            return false;
        }
        let mut filled = self.rest.len();
        piece.bytes.resize(piece.bytes.len().max(self.next).max(filled), 0);
        piece.bytes[..filled].copy_from_slice(&self.rest);
        self.rest.clear();
        self.next = (self.next * 2).min(longest);
        loop {
            while filled < piece.bytes.len() && !self.ended {
                filled += self.read(&mut piece.bytes[filled..]);
            }
            if let Some(last) = piece.bytes[..filled].iter().rposition(|byte| *byte == b'\n') {
                piece.whole = last + 1;
                break;
            }
            if self.ended || piece.bytes.len() >= PIECE_MAX {
                self.ended = true;
                break;
            }
            piece.bytes.resize(piece.bytes.len() * 2, 0);
        }
        self.rest.extend_from_slice(&piece.bytes[piece.whole..filled]);
        piece.whole > 0
    }

    fn read(&mut self, buffer: &mut [u8]) -> usize {
        match self.source.read(buffer) {
            Ok(0) => self.ended = true,
            Ok(read) => return read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                self.error = Some(error);
                self.ended = true;
            }
        }
        0
    }

    /// What was not handed out in pieces, the error that ended the reading, and what the source still has.
    pub fn into_rest(self) -> impl Read {
        io::Cursor::new(self.rest).chain(Once(self.error)).chain(self.source)
    }
}

/// An error that is met once.
struct Once(Option<io::Error>);

impl Read for Once {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        self.0.take().map_or(Ok(0), Err)
    }
}
