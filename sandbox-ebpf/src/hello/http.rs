//! HTTP/1: the head of a request.
//!
//! What the request line is, is known at its end only: lines of other protocols begin with words as well. Until then
//! what is wrong with it is remembered ([`mark::ODD`]). A line that names the version, or that a server of HTTP/0.9
//! would answer, is refused when it is not as RFC 9112 has it; other lines are of a protocol that is not known.
//!
//! Servers leave out what stands before the request line, each something else: empty lines, line ends that are none, white
//! space. Only an empty line that ends in CR LF may be there; a request behind anything else is refused.
//!
//! In the rest of the head every line ends in CR LF, and nothing is folded: a bare LF, a bare CR or another control
//! character ends what some servers read and not what others do.

use super::{Hello, MAX_HEAD, flag, mark, stage, text};

const GET: [u64; 4] = text(b"get");
const CONNECT: [u64; 4] = text(b"connect");
const PRI: [u64; 4] = text(b"pri");
const HTTP_1_0: [u64; 4] = text(b"HTTP/1.0");
const HTTP_1_1: [u64; 4] = text(b"HTTP/1.1");
const HTTP_2_0: [u64; 4] = text(b"HTTP/2.0");
const HOST: [u64; 4] = text(b"host");
const CONTENT_LENGTH: [u64; 4] = text(b"content-length");
const TRANSFER_ENCODING: [u64; 4] = text(b"transfer-encoding");
const UPGRADE: [u64; 4] = text(b"upgrade");
const CHUNKED: [u64; 4] = text(b"chunked");

/// `HTTP/`, first byte lowest.
const SOUGHT: u64 = text(b"http/")[0];
const SOUGHT_LENGTH: u8 = 5;
/// Most bytes of a word that is compared.
const MAX_WORD: u8 = 24;
/// Longest Content-Length, as a power of two: what is above never ends.
const MAX_CONTENT_BITS: u32 = 60;
/// Most digits of a port.
const MAX_PORT: u8 = 5;

/// 1 in each byte.
const EACH: u64 = u64::MAX / 0xff;

const CR: u8 = b'\r';
const LF: u8 = b'\n';

/// A byte of a token (RFC 9110, 5.6.2).
#[inline(always)]
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// Something that some server takes for a space between words, beside the space.
#[inline(always)]
fn is_other_space(byte: u8) -> bool {
    matches!(byte, b'\t' | 0x0b | 0x0c | 0x1c..=0x1f | 0x85 | 0xa0)
}

/// Something that some server leaves out before a request.
#[inline(always)]
pub(super) fn is_blank(byte: u8) -> bool {
    byte == LF || byte == b' ' || is_other_space(byte)
}

/// A control character that no value has.
#[inline(always)]
pub(super) fn is_control(byte: u8) -> bool {
    byte < b' ' && byte != b'\t' || byte == 0x7f
}

impl Hello {
    /// The first byte of a request, or of the empty line that may stand before it.
    #[inline(always)]
    pub(super) fn begin_http(&mut self, byte: u8) {
        if byte == CR {
            self.stage = stage::EMPTY_LINE;
        } else if is_token(byte) {
            self.marks &= mark::LATER | mark::ODD;
            self.message = 0;
            self.sought = 0;
            self.begin_word();
            self.stage = stage::METHOD;
            self.http(byte);
        } else if is_blank(byte) && self.may_change() {
            self.marks |= mark::ODD;
        } else {
            self.not_known();
        }
    }

    /// Behind bytes that are no request line's beginning, but that some server leaves out.
    #[inline(always)]
    pub(super) fn begin_junk(&mut self) {
        self.message = 0;
        self.sought = 0;
        self.odd();
    }

    /// A byte of a request.
    #[inline(always)]
    pub(super) fn http(&mut self, byte: u8) {
        if self.stage >= stage::CONTENT {
            self.framing(byte);
            return;
        }
        self.message = self.message.wrapping_add(1);
        if self.message > MAX_HEAD {
            self.refuse();
            return;
        }
        if self.stage >= stage::AUTHORITY_START {
            if self.marked(mark::TARGET) {
                if self.line_byte(byte) {
                    self.authority(byte);
                }
            } else {
                self.authority(byte);
            }
        } else if self.stage <= stage::LAST_OF_LINE {
            if self.line_byte(byte) {
                self.line(byte);
            }
        } else {
            self.head(byte);
        }
    }

    /// What every byte of the request line means; false where it ends the line.
    #[inline(always)]
    fn line_byte(&mut self, byte: u8) -> bool {
        let wanted = (SOUGHT >> (8 * (self.sought as u32 & 7))) as u8;
        if byte.to_ascii_lowercase() == wanted {
            self.sought += 1;
            if self.sought == SOUGHT_LENGTH {
                self.marks |= mark::HTTP;
                self.sought = 0;
            }
        } else {
            self.sought = (byte.to_ascii_lowercase() == SOUGHT as u8) as u8;
        }
        if byte == LF {
            self.end_line();
        } else if byte == CR {
            if self.stage == stage::PROTOCOL {
                self.stage = stage::LINE_END;
            } else {
                self.odd();
            }
        } else {
            return true;
        }
        false
    }

    /// A byte of the request line that does not end it.
    #[inline(always)]
    fn line(&mut self, byte: u8) {
        match self.stage {
            stage::METHOD => self.method(byte),
            stage::TARGET_START => {
                if self.marked(mark::CONNECT) {
                    self.begin_authority(mark::TARGET);
                    self.authority(byte);
                } else if byte == b'/' {
                    self.stage = stage::TARGET;
                } else if byte == b'*' {
                    self.marks |= mark::STAR;
                    self.stage = stage::STAR;
                } else if byte.is_ascii_alphabetic() {
                    self.stage = stage::SCHEME;
                } else {
                    self.odd();
                }
            }
            stage::SCHEME => {
                if byte == b':' {
                    self.stage = stage::FIRST_SLASH;
                } else if !(byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')) {
                    self.odd();
                }
            }
            stage::FIRST_SLASH if byte == b'/' => self.stage = stage::SECOND_SLASH,
            stage::SECOND_SLASH if byte == b'/' => self.begin_authority(mark::TARGET),
            stage::STAR if byte == b' ' => self.begin_protocol(),
            stage::TARGET if byte == b' ' => self.begin_protocol(),
            stage::TARGET if byte > b' ' && byte != 0x7f => {}
            stage::PROTOCOL => self.word_byte(byte),
            stage::JUNK => {}
            _ => self.odd(),
        }
    }

    #[inline(always)]
    fn method(&mut self, byte: u8) {
        if is_token(byte) {
            // As it is: methods have a case, and capitals differ from small ones in one bit only.
            self.word_byte(byte ^ 0x20);
        } else if byte == b' ' {
            if self.is_word(&GET) {
                self.marks |= mark::GET;
            } else if self.is_word(&CONNECT) {
                self.marks |= mark::CONNECT;
            } else if self.is_word(&PRI) {
                self.marks |= mark::PRI;
            }
            self.stage = stage::TARGET_START;
        } else if is_other_space(byte) {
            if self.is_word(&GET) {
                self.marks |= mark::GET;
            }
            self.odd();
        } else {
            self.not_known();
        }
    }

    #[inline(always)]
    fn begin_protocol(&mut self) {
        self.begin_word();
        self.stage = stage::PROTOCOL;
    }

    /// The rest of the line does not matter, but for [`mark::HTTP`].
    #[inline(always)]
    fn odd(&mut self) {
        self.marks |= mark::ODD;
        self.stage = stage::JUNK;
    }

    /// The LF of the request line.
    #[inline(always)]
    fn end_line(&mut self) {
        if self.stage == stage::LINE_END && !self.marked(mark::ODD) {
            let old = self.is_word(&HTTP_1_0);
            if old || self.is_word(&HTTP_1_1) {
                if old {
                    self.marks |= mark::OLD;
                }
                self.flags &= !flag::UPGRADE;
                self.left = 0;
                self.stage = stage::HEADER_START;
                return;
            }
            if self.marked(mark::PRI) && self.marked(mark::STAR) && self.is_word(&HTTP_2_0) {
                self.flags |= flag::HTTP2;
                return self.not_known();
            }
        }
        if self.marked(mark::HTTP | mark::GET) {
            self.refuse();
        } else {
            self.not_known();
        }
    }

    /// A byte of the head behind the request line.
    #[inline(always)]
    fn head(&mut self, byte: u8) {
        match self.stage {
            stage::HEADER_START if byte == CR => self.stage = stage::HEAD_END,
            stage::HEADER_START if is_token(byte) => {
                self.begin_word();
                self.word_byte(byte.to_ascii_lowercase());
                self.stage = stage::HEADER_NAME;
            }
            stage::HEADER_NAME if byte == b':' => self.begin_value(),
            stage::HEADER_NAME if is_token(byte) => self.word_byte(byte.to_ascii_lowercase()),
            stage::VALUE if byte == CR => self.stage = stage::VALUE_END,
            stage::VALUE if !is_control(byte) => {}
            stage::CONTENT_LENGTH => self.content_length(byte),
            stage::CODING => self.coding(byte),
            stage::VALUE_TRAIL if byte == b' ' || byte == b'\t' => {}
            stage::VALUE_TRAIL if byte == CR => self.stage = stage::VALUE_END,
            stage::VALUE_END if byte == LF => self.stage = stage::HEADER_START,
            stage::HEAD_END if byte == LF => self.end_head(),
            _ => self.refuse(),
        }
    }

    /// Takes eight bytes of a header's value, if none of them is a control character.
    #[inline(always)]
    pub(super) fn plain_value(&mut self, bytes: u64) -> bool {
        let delete = bytes ^ (EACH * 0x7f);
        // The highest bit of some byte: one below a space, or one that is DEL.
        let control = bytes.wrapping_sub(EACH * 0x20) & !bytes | delete.wrapping_sub(EACH) & !delete;
        let length = self.message.wrapping_add(8);
        if self.stage != stage::VALUE || control & (EACH * 0x80) != 0 || length > MAX_HEAD {
            return false;
        }
        self.message = length;
        true
    }

    /// The colon behind a header's name.
    #[inline(always)]
    fn begin_value(&mut self) {
        self.stage = stage::VALUE;
        if self.is_word(&HOST) {
            self.begin_authority(0);
        } else if self.is_word(&CONTENT_LENGTH) {
            // Two of them, even the same, are one too many.
            if self.marked(mark::SIZED) {
                return self.refuse();
            }
            self.marks |= mark::SIZED;
            self.stage = stage::CONTENT_LENGTH;
        } else if self.is_word(&TRANSFER_ENCODING) {
            if self.marked(mark::CHUNKED) {
                return self.refuse();
            }
            self.marks |= mark::CHUNKED;
            self.stage = stage::CODING;
        } else if self.is_word(&UPGRADE) {
            self.marks |= mark::UPGRADE;
        }
        self.begin_word();
    }

    #[inline(always)]
    fn content_length(&mut self, byte: u8) {
        if byte.is_ascii_digit() && self.left >> (MAX_CONTENT_BITS - 4) == 0 {
            self.left = self.left * 10 + (byte - b'0') as u64;
            self.word_length = 1;
        } else {
            self.end_word(byte, self.word_length != 0);
        }
    }

    /// Of the transfer codings only `chunked` alone says where the body ends.
    #[inline(always)]
    fn coding(&mut self, byte: u8) {
        if is_token(byte) {
            self.word_byte(byte.to_ascii_lowercase());
        } else {
            self.end_word(byte, self.is_word(&CHUNKED));
        }
    }

    /// What stands around the one word of a value.
    #[inline(always)]
    fn end_word(&mut self, byte: u8, good: bool) {
        let space = byte == b' ' || byte == b'\t';
        if space && self.word_length == 0 {
        } else if space && good {
            self.stage = stage::VALUE_TRAIL;
        } else if byte == CR && good {
            self.stage = stage::VALUE_END;
        } else {
            self.refuse();
        }
    }

    /// The end of the head.
    #[inline(always)]
    fn end_head(&mut self) {
        let (sized, chunked) = (self.marked(mark::SIZED), self.marked(mark::CHUNKED));
        let connect = self.marked(mark::CONNECT);
        // RFC 9112, 6.1 and 6.3: servers differ in which one holds.
        if chunked && (sized || self.marked(mark::OLD)) || connect && (chunked || self.left != 0) {
            return self.refuse();
        }
        if connect {
            self.flags |= flag::TUNNEL;
        }
        if self.marked(mark::UPGRADE) {
            self.flags |= flag::UPGRADE;
        }
        self.decide_name(flag::HTTP);
        self.marks = mark::LATER;
        self.message = 0;
        if chunked {
            self.begin_chunk();
        } else {
            self.stage = if self.left != 0 { stage::CONTENT } else { stage::START };
        }
    }

    /// Before the authority in the request line, or Host.
    #[inline(always)]
    fn begin_authority(&mut self, target: u32) {
        self.marks = self.marks & !mark::TARGET | target;
        self.stage = stage::AUTHORITY_START;
        self.begin_name();
    }

    /// A byte of an authority: `host`, `host:port`, or an IPv6 address in brackets.
    #[inline(always)]
    fn authority(&mut self, byte: u8) {
        let space = byte == b' ' || byte == b'\t';
        let good = match self.stage {
            stage::AUTHORITY_START if space && !self.marked(mark::TARGET) => true,
            stage::AUTHORITY_START if byte == b'[' => {
                self.stage = stage::AUTHORITY_BRACKET;
                true
            }
            stage::AUTHORITY_BRACKET if byte != b']' => self.name_byte(byte),
            stage::AUTHORITY_BRACKET => {
                self.stage = stage::AUTHORITY_AFTER;
                self.marked(mark::COLON) && self.end_name()
            }
            stage::AUTHORITY_PORT if byte.is_ascii_digit() => {
                self.word_length = self.word_length.wrapping_add(1);
                self.word_length <= MAX_PORT
            }
            stage::AUTHORITY_START | stage::AUTHORITY_NAME => self.authority_name(byte),
            stage::AUTHORITY_AFTER if byte == b':' => self.begin_port(),
            // AUTHORITY_AFTER, AUTHORITY_PORT.
            _ => self.end_authority(byte),
        };
        if good {
        } else if self.marked(mark::TARGET) {
            self.odd();
        } else {
            self.refuse();
        }
    }

    #[inline(always)]
    fn authority_name(&mut self, byte: u8) -> bool {
        self.stage = stage::AUTHORITY_NAME;
        let colon = byte == b':';
        if colon || self.ends_authority(byte) {
            if !self.end_name() {
                return false;
            }
            return if colon { self.begin_port() } else { self.end_authority(byte) };
        }
        self.name_byte(byte)
    }

    #[inline(always)]
    fn begin_port(&mut self) -> bool {
        self.stage = stage::AUTHORITY_PORT;
        self.word_length = 0;
        true
    }

    #[inline(always)]
    fn ends_authority(&self, byte: u8) -> bool {
        if self.marked(mark::TARGET) {
            byte == b' ' || !self.marked(mark::CONNECT) && matches!(byte, b'/' | b'?')
        } else {
            matches!(byte, b' ' | b'\t' | CR)
        }
    }

    /// The byte behind an authority; false where it may not stand there.
    #[inline(always)]
    fn end_authority(&mut self, byte: u8) -> bool {
        if !self.ends_authority(byte) {
            return false;
        }
        if !self.marked(mark::TARGET) {
            self.stage = if byte == CR { stage::VALUE_END } else { stage::VALUE_TRAIL };
        } else if byte == b' ' {
            self.begin_protocol();
        } else {
            self.stage = stage::TARGET;
        }
        true
    }

    #[inline(always)]
    fn begin_word(&mut self) {
        self.word = [0; 4];
        self.word_length = 0;
    }

    /// A byte of a word; one that is too long is like no word that is compared.
    #[inline(always)]
    fn word_byte(&mut self, byte: u8) {
        let at = self.word_length;
        if at < MAX_WORD {
            self.word[(at >> 3) as usize & 3] |= (byte as u64) << (8 * (at & 7));
            self.word_length = at + 1;
        } else {
            self.word[3] = 1;
        }
    }

    #[inline(always)]
    fn is_word(&self, word: &[u64; 4]) -> bool {
        (self.word[0] ^ word[0])
            | (self.word[1] ^ word[1])
            | (self.word[2] ^ word[2])
            | (self.word[3] ^ word[3])
            == 0
    }
}
