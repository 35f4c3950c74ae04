//! TLS: records, the handshake messages in them, and the ClientHello.
//!
//! A message is a row of elements, each as long as an earlier one said: [`Hello::left`] counts down through the element,
//! and at its end its stage says what comes next. Records cut through all of it anywhere (RFC 8446, 5.1).

use super::{Hello, MAX_CLIENT_HELLO, MAX_NAME, flag, mark, stage};

/// Record types (RFC 8446, B.1).
const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
const HEARTBEAT: u8 = 24;

/// The handshake type of a ClientHello.
pub(super) const CLIENT_HELLO: u8 = 1;
/// The major version that TLS and SSL 3.0 put everywhere.
const MAJOR: u8 = 3;

/// Longest record, and longest encrypted one in any version.
const MAX_RECORD: u32 = 1 << 14;
const MAX_ENCRYPTED: u32 = MAX_RECORD + 2048;
/// version, random, and the shortest session id, suites and methods.
const SHORTEST_HELLO: u64 = 2 + 32 + 1 + 4 + 2;
/// Longest session id.
const MAX_SESSION: u64 = 32;
/// No server reads a ClientHello that is as long as this; random bytes are a length above it nearly always.
const NEVER_A_HELLO: u64 = 3 << 16;

/// Extensions (RFC 6066, RFC 8446, RFC 9849).
const SERVER_NAME: u64 = 0;
const EARLY_DATA: u64 = 42;
const ENCRYPTED_CLIENT_HELLO: u64 = 0xfe0d;

/// Of a server_name extension: what is not the name, which is the only one.
const BEFORE_NAME: u64 = 2 + 1 + 2;

/// Elements whose bytes do not matter.
const INERT: u64 =
    1 << stage::RANDOM | 1 << stage::SESSION | 1 << stage::SUITES | 1 << stage::METHODS | 1 << stage::BODY;

/// Whether a record begins so. There are servers that leave out an alert before the hello, so that one that begins with
/// another record must not pass for something else.
#[inline(always)]
pub(super) fn is_record(byte: u8) -> bool {
    matches!(byte, CHANGE_CIPHER_SPEC..=HEARTBEAT)
}

impl Hello {
    /// The first byte of the first record.
    #[inline(always)]
    pub(super) fn begin_tls(&mut self, record: u8) {
        self.marks &= mark::LATER;
        self.stage = stage::TYPE;
        self.left = 1;
        self.number = 0;
        self.fragment = 0;
        self.record = record;
        self.header = 1;
    }

    /// A byte of a record.
    #[inline(always)]
    pub(super) fn tls(&mut self, byte: u8) {
        if self.fragment == 0 {
            self.record_header(byte);
            return;
        }
        self.fragment -= 1;
        if self.record == HANDSHAKE {
            self.handshake(byte);
        }
    }

    #[inline(always)]
    fn record_header(&mut self, byte: u8) {
        let at = self.header;
        self.header = at.wrapping_add(1);
        if at == 0 {
            self.record = byte;
            self.record_type(byte);
        } else if at == 1 {
            if byte == MAJOR {
                if self.record != HANDSHAKE && !self.marked(mark::AGAIN) {
                    self.refuse();
                }
            } else if self.stage == stage::TYPE && !self.marked(mark::AGAIN) {
                self.not_known();
            } else {
                self.refuse();
            }
        } else if at == 2 {
            // Any minor version: it is to be ignored.
        } else if at == 3 {
            self.length_high = byte;
        } else {
            self.header = 0;
            self.record_length((self.length_high as u32) << 8 | byte as u32);
        }
    }

    /// What may stand where. Before the end of a hello, nothing but the rest of it.
    #[inline(always)]
    fn record_type(&mut self, record: u8) {
        if record == HANDSHAKE {
            return;
        }
        let between = self.stage == stage::TYPE && self.marked(mark::AGAIN);
        if between && record == CHANGE_CIPHER_SPEC {
            self.marks |= mark::CHANGED;
        } else if between && record == ALERT {
        } else if between && record == APPLICATION_DATA {
            // The server took the hello; or it is early data, behind which a second hello is possible.
            if self.flags & flag::EARLY == 0 {
                self.over = 1;
            }
        } else {
            self.refuse();
        }
    }

    #[inline(always)]
    fn record_length(&mut self, length: u32) {
        let most = if self.record == APPLICATION_DATA { MAX_ENCRYPTED } else { MAX_RECORD };
        if length > most || length == 0 && self.record != APPLICATION_DATA {
            self.refuse();
        }
        self.fragment = length;
    }

    /// A byte of a handshake message.
    #[inline(always)]
    fn handshake(&mut self, byte: u8) {
        let stage = self.stage;
        self.number = self.number << 8 | byte as u64;
        self.left = self.left.wrapping_sub(1);
        if stage >= stage::VERSION {
            self.message = self.message.wrapping_sub(1);
        }
        if stage == stage::SERVER_NAME && !self.name_byte(byte) {
            self.refuse();
            return;
        }
        if self.left != 0 {
            return;
        }
        let number = self.number;
        self.number = 0;
        if stage < stage::EXTENSIONS_LENGTH {
            self.element(stage, number);
        } else {
            self.extension_element(stage, number);
        }
    }

    /// The end of an element before the extensions.
    #[inline(always)]
    fn element(&mut self, stage: u8, number: u64) {
        match stage {
            stage::TYPE => {
                if number == CLIENT_HELLO as u64 {
                    self.marks &= !mark::HAS_NAME;
                    self.stage = stage::LENGTH;
                    self.left = 3;
                } else if self.marked(mark::AGAIN) {
                    // The handshake goes on in an older version, which has one hello only.
                    self.over = 1;
                } else {
                    self.refuse();
                }
            }
            stage::LENGTH => {
                if self.encrypted() && number >= NEVER_A_HELLO {
                    self.over = 1;
                } else if number > MAX_CLIENT_HELLO as u64 || number < SHORTEST_HELLO {
                    self.refuse();
                } else {
                    self.message = number as u32;
                    self.enter(stage::VERSION, 2);
                }
            }
            stage::VERSION => {
                if number >> 8 == MAJOR as u64 {
                    self.enter(stage::RANDOM, 32);
                } else if self.encrypted() {
                    self.over = 1;
                } else {
                    self.refuse();
                }
            }
            stage::RANDOM => self.enter(stage::SESSION_LENGTH, 1),
            stage::SESSION_LENGTH if number > MAX_SESSION => self.refuse(),
            stage::SESSION_LENGTH if number > 0 => self.enter(stage::SESSION, number),
            stage::SESSION_LENGTH | stage::SESSION => self.enter(stage::SUITES_LENGTH, 2),
            stage::SUITES_LENGTH if number == 0 || number & 1 != 0 => self.refuse(),
            stage::SUITES_LENGTH => self.enter(stage::SUITES, number),
            stage::SUITES => self.enter(stage::METHODS_LENGTH, 1),
            stage::METHODS_LENGTH if number == 0 => self.refuse(),
            stage::METHODS_LENGTH => self.enter(stage::METHODS, number),
            // stage::METHODS. A hello may end here.
            _ => self.enter_or_end(stage::EXTENSIONS_LENGTH),
        }
    }

    /// The end of an element of the extensions.
    #[inline(always)]
    fn extension_element(&mut self, stage: u8, number: u64) {
        match stage {
            stage::EXTENSIONS_LENGTH if number != self.message as u64 => self.refuse(),
            stage::EXTENSION_TYPE => {
                self.marks &= !mark::IN_NAME;
                match number {
                    SERVER_NAME => {
                        // The second one of a hello, or one where the first hello had none.
                        if self.marked(mark::HAS_NAME)
                            || self.marked(mark::AGAIN) && !self.marked(mark::NAMED)
                        {
                            return self.refuse();
                        }
                        self.marks |= mark::HAS_NAME | mark::IN_NAME;
                    }
                    EARLY_DATA => self.flags |= flag::EARLY,
                    ENCRYPTED_CLIENT_HELLO => self.flags |= flag::ECH,
                    _ => {}
                }
                self.enter(stage::EXTENSION_LENGTH, 2);
            }
            stage::EXTENSION_LENGTH => {
                self.extent = number as u32;
                if self.marked(mark::IN_NAME) {
                    self.enter(stage::LIST_LENGTH, 2);
                } else if number > 0 {
                    self.enter(stage::BODY, number);
                } else {
                    self.enter_or_end(stage::EXTENSION_TYPE);
                }
            }
            stage::LIST_LENGTH if number.wrapping_add(2) != self.extent as u64 => self.refuse(),
            stage::LIST_LENGTH => self.enter(stage::NAME_TYPE, 1),
            // host_name is the only type there is.
            stage::NAME_TYPE if number != 0 => self.refuse(),
            stage::NAME_TYPE => self.enter(stage::NAME_LENGTH, 2),
            stage::NAME_LENGTH => {
                if number == 0 || number > MAX_NAME as u64 || number + BEFORE_NAME != self.extent as u64 {
                    return self.refuse();
                }
                self.begin_name();
                self.enter(stage::SERVER_NAME, number);
            }
            stage::SERVER_NAME if !self.end_name() => self.refuse(),
            // EXTENSIONS_LENGTH, BODY, SERVER_NAME.
            _ => self.enter_or_end(stage::EXTENSION_TYPE),
        }
    }

    /// Goes on with an element, which must not be longer than the rest of the message.
    #[inline(always)]
    fn enter(&mut self, stage: u8, length: u64) {
        self.stage = stage;
        self.left = length;
        if length > self.message as u64 {
            self.refuse();
        }
    }

    /// Goes on with an element of two bytes, unless the hello ends here.
    #[inline(always)]
    fn enter_or_end(&mut self, stage: u8) {
        if self.message != 0 {
            self.enter(stage, 2);
            return;
        }
        self.stage = stage::TYPE;
        self.left = 1;
        if !self.marked(mark::AGAIN) {
            self.marks |= mark::AGAIN;
            self.decide_name(flag::TLS);
        } else if self.marked(mark::NAMED) && !self.marked(mark::HAS_NAME) {
            self.refuse();
        }
    }

    /// Whether what is read may be encrypted: the end of a resumed handshake of an older version looks like a
    /// handshake record of random bytes.
    #[inline(always)]
    fn encrypted(&self) -> bool {
        self.marked(mark::AGAIN) && self.marked(mark::CHANGED)
    }

    /// How many of the next bytes do not matter: never the last one of an element, which leads to the next.
    #[inline(always)]
    pub(super) fn inert_fragment(&self) -> u64 {
        if self.fragment == 0 {
            return 0;
        }
        let fragment = self.fragment as u64 - 1;
        if self.record != HANDSHAKE {
            return fragment;
        }
        if self.stage > stage::LAST_OF_TLS || INERT >> self.stage & 1 == 0 {
            return 0;
        }
        let left = self.left.wrapping_sub(1);
        if left < fragment { left } else { fragment }
    }

    /// Leaves out as many bytes, which [`Self::inert_fragment`] allowed.
    #[inline(always)]
    pub(super) fn leave_out(&mut self, bytes: u64) {
        self.fragment = self.fragment.wrapping_sub(bytes as u32);
        if self.record == HANDSHAKE {
            self.left = self.left.wrapping_sub(bytes);
            self.message = self.message.wrapping_sub(bytes as u32);
        }
    }
}
