//! The same reading as `sandbox_ebpf::hello`, of a whole buffer at once and without regard to speed.

use sandbox_ebpf::hello::{MAX_CLIENT_HELLO, MAX_HEAD, flag, outcome};

/// One decision: its outcome, flags, and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub outcome: u8,
    pub flags: u32,
    pub name: Vec<u8>,
}

/// What a buffer holds.
#[derive(Debug, PartialEq, Eq)]
pub struct Reading {
    pub decisions: Vec<Decision>,
    /// The buffer ends inside something that a byte before its end may have spoilt already.
    pub open: bool,
}

/// Why a piece cannot be read.
enum Stop {
    /// The buffer ends before the piece does.
    More,
    Bad,
    /// Neither TLS nor HTTP/1.
    Unknown,
    /// Nothing that follows matters.
    Over,
}

pub fn read(bytes: &[u8]) -> Reading {
    let mut oracle = Oracle { flags: 0, later: false, out: Vec::new() };
    let open = match oracle.connection(bytes) {
        Err(Stop::Bad) => {
            oracle.decide(outcome::REFUSED, None);
            false
        }
        Err(Stop::Unknown) if oracle.may_change() => {
            oracle.flags &= !(flag::TLS | flag::HTTP);
            oracle.decide(outcome::NOT_KNOWN, None);
            false
        }
        Err(Stop::Unknown) => {
            oracle.decide(outcome::REFUSED, None);
            false
        }
        Err(Stop::More) => true,
        Err(Stop::Over) | Ok(()) => false,
    };
    Reading { decisions: oracle.out, open }
}

/// The request line, if it can be one by its first word.
fn request_line(bytes: &[u8]) -> Result<&[u8], Stop> {
    let method = bytes.iter().position(|&byte| !token(byte));
    if method == Some(0) {
        return Err(Stop::Unknown);
    }
    if let Some(method) = method
        && !matches!(bytes[method], b'\r' | b'\n')
        && !blank(bytes[method])
    {
        return if method >= MAX_HEAD as usize { Err(Stop::Bad) } else { Err(Stop::Unknown) };
    }
    line(bytes, MAX_HEAD as usize)
}

/// What a line means that is no request line.
fn spoilt_line(line: &[u8]) -> Stop {
    let http = line.to_ascii_lowercase().windows(5).any(|window| window == b"http/");
    let nine = line.starts_with(b"GET") && !line.get(3).is_none_or(|&byte| token(byte));
    let nine = nine && line.get(3).is_some_and(|&byte| byte != b'\r' && byte != b'\n');
    if http || nine { Stop::Bad } else { Stop::Unknown }
}

/// What some server leaves out before a request, or between its words.
fn blank(byte: u8) -> bool {
    matches!(byte, b'\n' | b' ' | b'\t' | 0x0b | 0x0c | 0x1c..=0x1f | 0x85 | 0xa0)
}

struct Oracle {
    flags: u32,
    later: bool,
    out: Vec<Decision>,
}

impl Oracle {
    fn decide(&mut self, outcome: u8, name: Option<&[u8]>) {
        self.out.push(Decision { outcome, flags: self.flags, name: name.unwrap_or_default().to_vec() });
    }

    fn named(&mut self, protocol: u32, name: Option<&[u8]>) {
        self.flags = self.flags & !(flag::TLS | flag::HTTP) | protocol;
        self.decide(if name.is_some() { outcome::NAME } else { outcome::NO_NAME }, name);
    }

    fn may_change(&self) -> bool {
        !self.later || self.flags & (flag::TUNNEL | flag::UPGRADE) != 0
    }

    fn connection(&mut self, mut bytes: &[u8]) -> Result<(), Stop> {
        // Something that only some servers leave out was before.
        let mut odd = false;
        loop {
            let Some(&first) = bytes.first() else { return Ok(()) };
            if (20..=24).contains(&first) && !odd && self.may_change() {
                return self.records(bytes);
            }
            if first >= 0x80 && !odd && !self.later {
                let third = *bytes.get(2).ok_or(Stop::More)?;
                return Err(match (third, first) {
                    (1, _) => Stop::Bad,
                    // Two bytes of a word, whatever it is.
                    (_, 0x85 | 0xa0) => line(&bytes[3..], MAX_HEAD as usize)
                        .map_or_else(|stop| stop, |line| spoilt_line(&[b"..", line].concat())),
                    _ => Stop::Unknown,
                });
            }
            if first == b'\r' {
                match bytes.get(1) {
                    None => return Err(Stop::More),
                    Some(b'\n') => bytes = &bytes[2..],
                    Some(_) if self.may_change() => (odd, bytes) = (true, &bytes[1..]),
                    Some(_) => return Err(Stop::Unknown),
                }
                continue;
            }
            if blank(first) && self.may_change() {
                (odd, bytes) = (true, &bytes[1..]);
                continue;
            }
            if odd {
                return Err(request_line(bytes).map_or_else(|stop| stop, spoilt_line));
            }
            let used = self.request(bytes)?;
            self.later = true;
            bytes = &bytes[used..];
        }
    }

    // TLS.

    fn records(&mut self, mut bytes: &[u8]) -> Result<(), Stop> {
        let mut messages = Vec::new();
        let mut hello: Option<Option<Vec<u8>>> = None;
        let mut changed = false;
        let mut first = true;
        loop {
            let Some(&kind) = bytes.first() else { return Err(Stop::More) };
            if kind != 22 {
                if first && *bytes.get(1).ok_or(Stop::More)? != 3 {
                    return Err(Stop::Unknown);
                }
                if hello.is_none() || !messages.is_empty() {
                    return Err(Stop::Bad);
                }
                match kind {
                    20 => changed = true,
                    21 => {}
                    23 if self.flags & flag::EARLY != 0 => {}
                    23 => return Err(Stop::Over),
                    _ => return Err(Stop::Bad),
                }
            }
            if *bytes.get(1).ok_or(Stop::More)? != 3 {
                return Err(if first { Stop::Unknown } else { Stop::Bad });
            }
            first = false;
            let length =
                u16::from_be_bytes([*bytes.get(3).ok_or(Stop::More)?, *bytes.get(4).ok_or(Stop::More)?])
                    as usize;
            if length > if kind == 23 { 16_384 + 2_048 } else { 16_384 } || length == 0 && kind != 23 {
                return Err(Stop::Bad);
            }
            let body = &bytes[5..];
            let body = &body[..length.min(body.len())];
            if kind == 22 {
                messages.extend_from_slice(body);
                while !messages.is_empty() {
                    match self.message(&messages, hello.as_ref(), changed) {
                        Ok((used, name)) => {
                            if hello.is_none() {
                                self.named(flag::TLS, name.as_deref());
                                hello = Some(name);
                            }
                            messages.drain(..used);
                        }
                        Err(Stop::More) => break,
                        Err(stop) => return Err(stop),
                    }
                }
            }
            if body.len() < length {
                return Err(Stop::More);
            }
            bytes = &bytes[5 + length..];
        }
    }

    /// A ClientHello: how long it is with its header, and its name. `before` is what the first one said.
    fn message(
        &mut self,
        bytes: &[u8],
        before: Option<&Option<Vec<u8>>>,
        changed: bool,
    ) -> Result<(usize, Option<Vec<u8>>), Stop> {
        let again = before.is_some();
        if bytes[0] != 1 {
            return Err(if again { Stop::Over } else { Stop::Bad });
        }
        let mut all = Slice { bytes: &bytes[1..], left: usize::MAX };
        let length = all.number(3)?;
        if again && changed && length >= 3 << 16 {
            return Err(Stop::Over);
        }
        if length > MAX_CLIENT_HELLO as usize || length < 41 {
            return Err(Stop::Bad);
        }
        let mut body = Slice { bytes: all.bytes, left: length };
        if body.number(2)? >> 8 != 3 {
            return Err(if again && changed { Stop::Over } else { Stop::Bad });
        }
        body.take(32)?;
        let session = body.number(1)?;
        ensure(session <= 32)?;
        body.take(session)?;
        let suites = body.number(2)?;
        ensure(suites > 0 && suites % 2 == 0)?;
        body.take(suites)?;
        let methods = body.number(1)?;
        ensure(methods > 0)?;
        body.take(methods)?;
        let mut name = None;
        if body.left > 0 {
            ensure(body.number(2)? == body.left)?;
        }
        while body.left > 0 {
            let kind = body.number(2)?;
            if kind == 0 {
                ensure(name.is_none() && before != Some(&None))?;
            }
            match kind {
                42 => self.flags |= flag::EARLY,
                0xfe0d => self.flags |= flag::ECH,
                _ => {}
            }
            let extent = body.number(2)?;
            if kind != 0 {
                body.take(extent)?;
                continue;
            }
            ensure(body.number(2)? + 2 == extent)?;
            ensure(body.number(1)? == 0)?;
            let size = body.number(2)?;
            ensure(size > 0 && size <= 255 && size + 5 == extent && size <= body.left)?;
            let there = &body.bytes[..size.min(body.bytes.len())];
            let whole = there.len() == size;
            if whole || spoilt(there) {
                let found = normal(there).ok_or(Stop::Bad)?;
                name = Some(found);
            }
            if let (Some(Some(before)), false) = (before, whole) {
                // The machine compares as it reads.
                let there = there.to_ascii_lowercase();
                let dotted = [before.as_slice(), b"."].concat();
                ensure(dotted.starts_with(&there))?;
            }
            body.take(size)?;
            if let Some(Some(before)) = before {
                ensure(name.as_ref() == Some(before))?;
            }
        }
        if let Some(before) = before {
            ensure(before.is_some() == name.is_some())?;
        }
        Ok((4 + length, name))
    }

    // HTTP.

    /// A request with its body: how long it is.
    fn request(&mut self, bytes: &[u8]) -> Result<usize, Stop> {
        let line = request_line(bytes)?;
        let words: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
        let request = parse_line(&words);
        let Some((method, authority, old)) = request else {
            if line == b"PRI * HTTP/2.0\r\n" {
                self.flags |= flag::HTTP2;
                return Err(Stop::Unknown);
            }
            return Err(spoilt_line(line));
        };
        self.flags &= !flag::UPGRADE;
        let connect = method == b"CONNECT";
        let mut at = line.len();
        let mut name = authority;
        let (mut size, mut coding, mut upgrade) = (None, None, false);
        loop {
            let room = (MAX_HEAD as usize).saturating_sub(at);
            let header = line_in(&bytes[at..], room)?;
            at += header.len();
            let header = header.strip_suffix(b"\r\n").ok_or(Stop::Bad)?;
            if header.is_empty() {
                break;
            }
            let colon = header.iter().position(|&byte| byte == b':').ok_or(Stop::Bad)?;
            let (key, value) = (header[..colon].to_ascii_lowercase(), &header[colon + 1..]);
            ensure(!key.is_empty() && key.iter().all(|&byte| token(byte)))?;
            ensure(value.iter().all(|&byte| byte == b'\t' || byte >= 0x20 && byte != 0x7f))?;
            let value = trim(value);
            match key.as_slice() {
                b"host" => {
                    let host = authority_of(value).ok_or(Stop::Bad)?;
                    ensure(name.as_ref().is_none_or(|name| *name == host))?;
                    name = Some(host);
                }
                b"content-length" => {
                    ensure(size.is_none() && !value.is_empty() && value.iter().all(u8::is_ascii_digit))?;
                    let mut number = 0u64;
                    for digit in value {
                        ensure(number < 1 << 56)?;
                        number = number * 10 + (digit - b'0') as u64;
                    }
                    size = Some(number);
                }
                b"transfer-encoding" => {
                    ensure(coding.is_none() && value.eq_ignore_ascii_case(b"chunked"))?;
                    coding = Some(());
                }
                b"upgrade" => upgrade = true,
                _ => {}
            }
        }
        ensure(coding.is_none() || size.is_none() && !old)?;
        ensure(!connect || coding.is_none() && size.unwrap_or(0) == 0)?;
        if connect {
            self.flags |= flag::TUNNEL;
        }
        if upgrade {
            self.flags |= flag::UPGRADE;
        }
        self.named(flag::HTTP, name.as_deref());
        if coding.is_some() {
            return chunks(&bytes[at..]).map(|used| at + used);
        }
        let size = size.unwrap_or(0);
        if size > (bytes.len() - at) as u64 { Err(Stop::More) } else { Ok(at + size as usize) }
    }
}

/// Method, authority in the target, and whether the version is 1.0.
type RequestLine<'a> = (&'a [u8], Option<Vec<u8>>, bool);

fn parse_line<'a>(words: &[&'a [u8]]) -> Option<RequestLine<'a>> {
    let [method, target, version] = *words else { return None };
    let old = match version {
        b"HTTP/1.0\r\n" => true,
        b"HTTP/1.1\r\n" => false,
        _ => return None,
    };
    if method.is_empty() || !method.iter().all(|&byte| token(byte)) {
        return None;
    }
    if method == b"CONNECT" {
        return Some((method, Some(authority_of(target)?), old));
    }
    if target == b"*" {
        return Some((method, None, old));
    }
    if !target.iter().all(|&byte| byte > b' ' && byte != 0x7f) {
        return None;
    }
    if target.first() == Some(&b'/') {
        return Some((method, None, old));
    }
    let scheme = target.windows(3).position(|window| window == b"://")?;
    if !target[0].is_ascii_alphabetic()
        || !target[..scheme].iter().all(|&b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
    {
        return None;
    }
    let rest = &target[scheme + 3..];
    let end = rest.iter().position(|&byte| byte == b'/' || byte == b'?').unwrap_or(rest.len());
    Some((method, Some(authority_of(&rest[..end])?), old))
}

/// The host of an authority.
fn authority_of(text: &[u8]) -> Option<Vec<u8>> {
    let (host, port) = match text.strip_prefix(b"[") {
        Some(rest) => {
            let end = rest.iter().position(|&byte| byte == b']')?;
            if !rest[..end].contains(&b':') {
                return None;
            }
            (&rest[..end], &rest[end + 1..])
        }
        None => {
            let end = text.iter().position(|&byte| byte == b':').unwrap_or(text.len());
            (&text[..end], &text[end..])
        }
    };
    let digits = match port {
        [] => port,
        [b':', digits @ ..] => digits,
        _ => return None,
    };
    if digits.len() > 5 || !digits.iter().all(u8::is_ascii_digit) { None } else { normal(host) }
}

fn chunks(bytes: &[u8]) -> Result<usize, Stop> {
    let mut at = 0;
    loop {
        let size = line(&bytes[at..], 64)?;
        at += size.len();
        let digits = size.strip_suffix(b"\r\n").ok_or(Stop::Bad)?;
        ensure(!digits.is_empty())?;
        let mut length = 0u64;
        for &digit in digits {
            ensure(length < 1 << 56)?;
            length = length << 4 | (digit as char).to_digit(16).ok_or(Stop::Bad)? as u64;
        }
        if length == 0 {
            break;
        }
        let rest = &bytes[at..];
        if (rest.len() as u64) < length {
            return Err(Stop::More);
        }
        let end = &rest[length as usize..];
        if end.len() < 2 {
            return Err(Stop::More);
        }
        ensure(end.starts_with(b"\r\n"))?;
        at += length as usize + 2;
    }
    loop {
        let trailer = line(&bytes[at..], MAX_HEAD as usize)?;
        at += trailer.len();
        let trailer = trailer.strip_suffix(b"\r\n").ok_or(Stop::Bad)?;
        if trailer.is_empty() {
            return Ok(at);
        }
        ensure(trailer.iter().all(|&byte| byte == b'\t' || byte >= 0x20 && byte != 0x7f))?;
    }
}

/// Up to a LF and with it.
fn line(bytes: &[u8], most: usize) -> Result<&[u8], Stop> {
    line_in(bytes, most)
}

fn line_in(bytes: &[u8], most: usize) -> Result<&[u8], Stop> {
    match bytes.iter().take(most).position(|&byte| byte == b'\n') {
        Some(end) => Ok(&bytes[..=end]),
        None if bytes.len() > most => Err(Stop::Bad),
        None => Err(Stop::More),
    }
}

fn trim(value: &[u8]) -> &[u8] {
    let blank = |byte: &u8| *byte == b' ' || *byte == b'\t';
    let begin = value.iter().position(|byte| !blank(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !blank(byte)).map_or(begin, |at| at + 1);
    &value[begin..end]
}

fn token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The normal form of a name.
fn normal(name: &[u8]) -> Option<Vec<u8>> {
    if name.len() > 255 || name.is_empty() {
        return None;
    }
    let name = name.to_ascii_lowercase();
    let name = name.strip_suffix(b".").unwrap_or(&name);
    let good = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte);
    if !name.iter().all(good) || name.split(|&byte| byte == b'.').any(<[u8]>::is_empty) {
        return None;
    }
    let address = name.iter().all(|byte| byte.is_ascii_hexdigit() || b".:".contains(byte));
    if name.contains(&b':') && !address { None } else { Some(name.to_vec()) }
}

/// Whether a part of a name can be the beginning of none.
fn spoilt(part: &[u8]) -> bool {
    !part.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte))
        || part.first() == Some(&b'.')
        || part.windows(2).any(|window| window == b"..")
}

fn ensure(good: bool) -> Result<(), Stop> {
    if good { Ok(()) } else { Err(Stop::Bad) }
}

/// A message of which only the first bytes may be there.
struct Slice<'a> {
    bytes: &'a [u8],
    /// Bytes that the message still has.
    left: usize,
}

impl<'a> Slice<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Stop> {
        ensure(length <= self.left)?;
        if length > self.bytes.len() {
            return Err(Stop::More);
        }
        let (taken, rest) = self.bytes.split_at(length);
        self.bytes = rest;
        self.left -= length;
        Ok(taken)
    }

    fn number(&mut self, length: usize) -> Result<usize, Stop> {
        Ok(self.take(length)?.iter().fold(0, |number, &byte| number << 8 | byte as usize))
    }
}
