//! Reads the name of the server that a client speaks to, from the bytes that it sends.
//!
//! [`Hello`] takes the bytes of one TCP connection, one after the other, and finds the server_name of a TLS ClientHello
//! (RFC 8446, RFC 6066) or the Host of HTTP/1 requests (RFC 9112). It holds the few bytes that it needs and no more, so
//! that it does not matter how the stream is cut into segments, records or packets.
//!
//! What it is for is a check that the client wants to get around: whatever two servers could read in two ways is
//! [`outcome::REFUSED`], and what is neither TLS nor HTTP/1 is [`outcome::NOT_KNOWN`] as soon as no server could take it
//! for one of them. Each finding is a *decision*: [`Hello::decisions`] counts them. A connection has more than one where
//! requests follow each other on it, where a tunnel (CONNECT) begins, or where something is refused later.
//!
//! After a ClientHello the machine goes on for as long as a second one could follow (RFC 8446, 4.1.2), which must name
//! the same server. After a request it reads on behind the body. [`Hello::over`] says that no later byte matters.
//!
//! What it cannot see: names inside what is encrypted. A request behind TLS may name another server than the hello did,
//! the inner hello of encrypted_client_hello is hidden ([`flag::ECH`]), and so is all of HTTP/2, which is not known here.
//!
//! The code is made for the verifier: no loop, no index that is not bounded by its type, no panic.

mod framing;
mod http;
mod name;
mod tls;

/// What was found.
pub mod outcome {
    /// Nothing yet.
    pub const READING: u8 = 0;
    /// A name: [`super::Hello::name`].
    pub const NAME: u8 = 1;
    /// A whole ClientHello without server_name, or a request without Host.
    pub const NO_NAME: u8 = 2;
    /// Neither TLS nor HTTP/1.
    pub const NOT_KNOWN: u8 = 3;
    /// Something that must not go on: malformed, ambiguous, or another name where there must be the same.
    pub const REFUSED: u8 = 4;
}

/// What else is known of the connection; bits of [`Hello::flags`].
pub mod flag {
    /// The decision is about a ClientHello.
    pub const TLS: u32 = 1 << 0;
    /// The decision is about a request of HTTP/1.
    pub const HTTP: u32 = 1 << 1;
    /// A hello has encrypted_client_hello: the name is the outer one.
    pub const ECH: u32 = 1 << 2;
    /// A hello has early_data.
    pub const EARLY: u32 = 1 << 3;
    /// A request before was CONNECT: the decision may be about what goes through the tunnel.
    pub const TUNNEL: u32 = 1 << 4;
    /// The last request asked to go on with another protocol (RFC 9110, 7.8). With [`super::outcome::NOT_KNOWN`]: it did.
    pub const UPGRADE: u32 = 1 << 5;
    /// It is HTTP/2 with prior knowledge (RFC 9113, 3.3).
    pub const HTTP2: u32 = 1 << 6;
}

/// Most bytes of a request's head, and of the lines around its chunks.
pub const MAX_HEAD: u32 = 64 * 1024;
/// Longest ClientHello.
pub const MAX_CLIENT_HELLO: u32 = 64 * 1024;
/// Longest name.
pub const MAX_NAME: usize = 255;

/// Where the machine is. Those of the request line come first among the stages of text, then the rest of the head.
mod stage {
    pub const START: u8 = 0;
    /// The second and the third byte of what may be a hello of SSL 2.0.
    pub const SSL2_SECOND: u8 = 1;
    pub const SSL2_THIRD: u8 = 2;

    pub const TYPE: u8 = 3;
    pub const LENGTH: u8 = 4;
    pub const VERSION: u8 = 5;
    pub const RANDOM: u8 = 6;
    pub const SESSION_LENGTH: u8 = 7;
    pub const SESSION: u8 = 8;
    pub const SUITES_LENGTH: u8 = 9;
    pub const SUITES: u8 = 10;
    pub const METHODS_LENGTH: u8 = 11;
    pub const METHODS: u8 = 12;
    pub const EXTENSIONS_LENGTH: u8 = 13;
    pub const EXTENSION_TYPE: u8 = 14;
    pub const EXTENSION_LENGTH: u8 = 15;
    pub const BODY: u8 = 16;
    pub const LIST_LENGTH: u8 = 17;
    pub const NAME_TYPE: u8 = 18;
    pub const NAME_LENGTH: u8 = 19;
    pub const SERVER_NAME: u8 = 20;
    pub const LAST_OF_TLS: u8 = SERVER_NAME;

    pub const METHOD: u8 = 24;
    pub const TARGET_START: u8 = 25;
    pub const SCHEME: u8 = 26;
    pub const FIRST_SLASH: u8 = 27;
    pub const SECOND_SLASH: u8 = 28;
    pub const STAR: u8 = 29;
    pub const TARGET: u8 = 30;
    pub const PROTOCOL: u8 = 31;
    pub const LINE_END: u8 = 32;
    /// The request line is none; its end decides what that means.
    pub const JUNK: u8 = 33;
    pub const LAST_OF_LINE: u8 = JUNK;

    pub const HEADER_START: u8 = 34;
    pub const HEADER_NAME: u8 = 35;
    pub const VALUE: u8 = 37;
    pub const CONTENT_LENGTH: u8 = 38;
    pub const CODING: u8 = 39;
    pub const VALUE_TRAIL: u8 = 40;
    pub const VALUE_END: u8 = 41;
    pub const HEAD_END: u8 = 42;

    /// An authority, in the request line ([`super::mark::TARGET`]) or as Host.
    pub const AUTHORITY_START: u8 = 43;
    pub const AUTHORITY_NAME: u8 = 44;
    pub const AUTHORITY_BRACKET: u8 = 45;
    pub const AUTHORITY_AFTER: u8 = 46;
    pub const AUTHORITY_PORT: u8 = 47;

    pub const CONTENT: u8 = 48;
    pub const CHUNK_SIZE: u8 = 49;
    pub const CHUNK_SIZE_END: u8 = 50;
    pub const CHUNK: u8 = 51;
    pub const CHUNK_END: u8 = 52;
    pub const CHUNK_LINE_END: u8 = 53;
    pub const TRAILER_START: u8 = 54;
    pub const TRAILER: u8 = 55;
    pub const TRAILER_LINE_END: u8 = 56;
    pub const TRAILERS_END: u8 = 57;
    /// Between requests: the LF that belongs to a CR.
    pub const EMPTY_LINE: u8 = 58;
}

/// What the machine remembers, beside where it is.
mod mark {
    /// A name is stored: another one must be the same.
    pub const NAMED: u32 = 1 << 0;
    /// The name's last byte was a dot.
    pub const DOT: u32 = 1 << 1;
    /// The name has a colon.
    pub const COLON: u32 = 1 << 2;
    /// The name has something that no IPv6 address has.
    pub const NOT_HEX: u32 = 1 << 3;

    /// TLS: a whole hello was read already.
    pub const AGAIN: u32 = 1 << 4;
    /// TLS: the hello has a server_name.
    pub const HAS_NAME: u32 = 1 << 5;
    /// TLS: a change_cipher_spec was sent, so that what follows may be encrypted.
    pub const CHANGED: u32 = 1 << 6;
    /// TLS: the extension that is read is server_name.
    pub const IN_NAME: u32 = 1 << 7;

    /// HTTP: a request was read already.
    pub const LATER: u32 = 1 << 8;
    /// HTTP: the request line is none, or what stands before it belongs there in no request.
    pub const ODD: u32 = 1 << 9;
    /// HTTP: the request line has `HTTP/` in it.
    pub const HTTP: u32 = 1 << 10;
    /// HTTP: the authority that is read is in the request line.
    pub const TARGET: u32 = 1 << 11;
    /// HTTP: the target is `*`.
    pub const STAR: u32 = 1 << 12;
    /// HTTP: there was a Content-Length.
    pub const SIZED: u32 = 1 << 13;
    /// HTTP: there was a Transfer-Encoding.
    pub const CHUNKED: u32 = 1 << 14;
    /// HTTP: version 1.0.
    pub const OLD: u32 = 1 << 15;
    /// HTTP: there was an Upgrade.
    pub const UPGRADE: u32 = 1 << 16;
    /// HTTP: the method.
    pub const GET: u32 = 1 << 17;
    pub const CONNECT: u32 = 1 << 18;
    pub const PRI: u32 = 1 << 19;
}

/// The machine. All zeros is its start.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Hello {
    /// TLS: bytes that the element which is read still has. HTTP: of the body, or of the chunk.
    left: u64,
    /// TLS: the number that the element's bytes make.
    number: u64,
    /// HTTP: the word that is read, as [`text`] gives it.
    word: [u64; 4],
    /// How often something was decided.
    pub decisions: u32,
    /// Bits of [`flag`].
    pub flags: u32,
    /// Bits of [`mark`].
    marks: u32,
    /// TLS: bytes that the handshake message still has. HTTP: bytes that the head has so far.
    message: u32,
    /// TLS: bytes that the record still has; 0 in its header.
    fragment: u32,
    /// TLS: the length of the extension that is read.
    extent: u32,
    /// What was decided last: one of [`outcome`].
    pub outcome: u8,
    /// 1 when no later byte can change anything.
    pub over: u8,
    stage: u8,
    /// TLS: bytes of the record's header so far, and its type.
    header: u8,
    record: u8,
    /// TLS: the first byte of the record's length.
    length_high: u8,
    /// HTTP: bytes of the word, and how much of `HTTP/` was just seen.
    word_length: u8,
    sought: u8,
    /// Where the name's next byte belongs.
    cursor: u8,
    /// Bytes of the name.
    pub length: u8,
    _pad: [u8; 6],
    /// The name, lower-cased, without a dot at its end and without the brackets of an IPv6 address. Valid when a
    /// decision says so, until the next byte is taken.
    pub name: [u8; 256],
}

const _: () = assert!(size_of::<Hello>() == 344);

impl Hello {
    /// The machine at the start of a connection.
    pub const START: Hello = Hello {
        left: 0,
        number: 0,
        word: [0; 4],
        decisions: 0,
        flags: 0,
        marks: 0,
        message: 0,
        fragment: 0,
        extent: 0,
        outcome: outcome::READING,
        over: 0,
        stage: stage::START,
        header: 0,
        record: 0,
        length_high: 0,
        word_length: 0,
        sought: 0,
        cursor: 0,
        length: 0,
        _pad: [0; 6],
        name: [0; 256],
    };

    /// Puts the machine back to its start. What is left of a name means nothing there.
    #[inline(always)]
    pub fn restart(&mut self) {
        let name = self.name;
        *self = Hello { name, ..Hello::START };
    }

    /// Takes the next byte.
    #[inline(always)]
    pub fn step(&mut self, byte: u8) {
        if self.over != 0 {
            return;
        }
        if self.stage == stage::EMPTY_LINE && byte != b'\n' && self.may_change() {
            // Servers leave out a bare CR before a request, too.
            self.marks |= mark::ODD;
            self.stage = stage::START;
        }
        if self.stage == stage::START {
            self.begin(byte);
        } else if self.stage <= stage::SSL2_THIRD {
            self.ssl2(byte);
        } else if self.stage <= stage::LAST_OF_TLS {
            self.tls(byte);
        } else {
            self.http(byte);
        }
    }

    /// Takes as many of the next `available` bytes as do not matter, whatever they are, and says how many those were.
    #[inline(always)]
    pub fn skip(&mut self, available: u64) -> u64 {
        if self.over != 0 {
            return available;
        }
        let content = self.in_content();
        let inert = if content { self.left } else { self.inert_fragment() };
        let taken = if inert < available { inert } else { available };
        if content {
            self.take_content(taken);
        } else {
            self.leave_out(taken);
        }
        taken
    }

    /// Takes the next eight bytes, the first one lowest, if they are part of something where each means as little as the
    /// next: then true. Most of a long request is.
    #[inline(always)]
    pub fn plain(&mut self, bytes: u64) -> bool {
        self.over == 0 && self.plain_value(bytes)
    }

    /// The name.
    pub fn name(&self) -> &[u8] {
        self.name.get(..self.length as usize).unwrap_or_default()
    }

    /// The first byte of a connection, or of what follows a request.
    #[inline(always)]
    fn begin(&mut self, byte: u8) {
        let odd = self.marked(mark::ODD);
        if tls::is_record(byte) && !odd && self.may_change() {
            self.begin_tls(byte);
        } else if byte >= 0x80 && !odd && !self.marked(mark::LATER) {
            self.record = byte;
            self.stage = stage::SSL2_SECOND;
        } else {
            self.begin_http(byte);
        }
    }

    /// OpenSSL still reads a hello of SSL 2.0: two bytes of length, and 1.
    #[inline(always)]
    fn ssl2(&mut self, byte: u8) {
        if self.stage == stage::SSL2_SECOND {
            self.stage = stage::SSL2_THIRD;
        } else if byte == tls::CLIENT_HELLO {
            self.refuse();
        } else if http::is_blank(self.record) {
            self.begin_junk();
        } else {
            self.not_known();
        }
    }

    /// Whether something else than another request may begin here.
    #[inline(always)]
    fn may_change(&self) -> bool {
        !self.marked(mark::LATER) || self.flags & (flag::TUNNEL | flag::UPGRADE) != 0
    }

    /// Neither TLS nor HTTP/1: behind a request that has no business there.
    #[inline(always)]
    fn not_known(&mut self) {
        if self.may_change() {
            self.flags &= !(flag::TLS | flag::HTTP);
            self.length = 0;
            self.end(outcome::NOT_KNOWN);
        } else {
            self.refuse();
        }
    }

    #[inline(always)]
    fn refuse(&mut self) {
        self.end(outcome::REFUSED);
    }

    #[inline(always)]
    fn end(&mut self, outcome: u8) {
        self.decide(outcome);
        self.over = 1;
    }

    #[inline(always)]
    fn decide(&mut self, outcome: u8) {
        self.outcome = outcome;
        self.decisions = self.decisions.wrapping_add(1);
    }

    /// Decides whether there is a name.
    #[inline(always)]
    fn decide_name(&mut self, protocol: u32) {
        self.flags = self.flags & !(flag::TLS | flag::HTTP) | protocol;
        let named = self.marked(mark::NAMED);
        if !named {
            self.length = 0;
        }
        self.decide(if named { outcome::NAME } else { outcome::NO_NAME });
    }

    #[inline(always)]
    fn marked(&self, marks: u32) -> bool {
        self.marks & marks != 0
    }
}

/// Up to 24 bytes of text as numbers, each byte where [`Hello::word`] has it.
const fn text(bytes: &[u8]) -> [u64; 4] {
    let mut word = [0; 4];
    let mut at = 0;
    while at < bytes.len() {
        word[at / 8] |= (bytes[at] as u64) << (8 * (at % 8));
        at += 1;
    }
    word
}
