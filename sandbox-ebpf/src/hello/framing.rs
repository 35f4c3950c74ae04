//! HTTP/1: what lies between the heads of two requests: bodies, and empty lines.
//!
//! A body is as long as Content-Length says or made of chunks (RFC 9112, 7.1). Servers are known to differ in what they
//! forgive in a chunk's line, so nothing is: digits and CR LF, no extension.

use super::{Hello, MAX_HEAD, http::is_control, stage};

impl Hello {
    /// A byte between heads.
    #[inline(always)]
    pub(super) fn framing(&mut self, byte: u8) {
        if self.in_content() {
            self.take_content(1);
            return;
        }
        self.message = self.message.wrapping_add(1);
        if self.message > MAX_HEAD {
            self.refuse();
            return;
        }
        self.line_of_framing(byte);
    }

    #[inline(always)]
    fn line_of_framing(&mut self, byte: u8) {
        match self.stage {
            stage::CHUNK_SIZE => self.chunk_size(byte),
            stage::CHUNK_SIZE_END if byte == b'\n' => {
                self.stage = if self.left == 0 { stage::TRAILER_START } else { stage::CHUNK };
            }
            stage::CHUNK_END if byte == b'\r' => self.stage = stage::CHUNK_LINE_END,
            stage::CHUNK_LINE_END if byte == b'\n' => self.begin_chunk(),
            stage::TRAILER_START if byte == b'\r' => self.stage = stage::TRAILERS_END,
            stage::TRAILER if byte == b'\r' => self.stage = stage::TRAILER_LINE_END,
            stage::TRAILER_START | stage::TRAILER if !is_control(byte) => self.stage = stage::TRAILER,
            stage::TRAILER_LINE_END if byte == b'\n' => self.stage = stage::TRAILER_START,
            stage::TRAILERS_END | stage::EMPTY_LINE if byte == b'\n' => self.stage = stage::START,
            stage::EMPTY_LINE => self.not_known(),
            _ => self.refuse(),
        }
    }

    /// Before a chunk's line.
    #[inline(always)]
    pub(super) fn begin_chunk(&mut self) {
        self.stage = stage::CHUNK_SIZE;
        self.left = 0;
        self.word_length = 0;
        self.message = 0;
    }

    #[inline(always)]
    fn chunk_size(&mut self, byte: u8) {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b'\r' if self.word_length != 0 => {
                self.stage = stage::CHUNK_SIZE_END;
                return;
            }
            _ => return self.refuse(),
        };
        if self.left >> 56 != 0 {
            return self.refuse();
        }
        self.left = self.left << 4 | digit as u64;
        self.word_length = 1;
    }

    /// Whether the next bytes, [`Hello::left`] of them, are content.
    #[inline(always)]
    pub(super) fn in_content(&self) -> bool {
        self.stage == stage::CONTENT || self.stage == stage::CHUNK
    }

    /// Takes as many bytes of content, at most what is left of it.
    #[inline(always)]
    pub(super) fn take_content(&mut self, bytes: u64) {
        self.left = self.left.wrapping_sub(bytes);
        if self.left == 0 {
            self.stage = if self.stage == stage::CHUNK { stage::CHUNK_END } else { stage::START };
        }
    }
}
