//! Where a body ends (RFC 9112, 6 and 7): its bytes go on as they come, and no byte behind it does.

use super::Fault;

/// A line of a chunk, or of what follows the last one, is no longer.
const MAX_LINE: usize = 8 * 1024;
/// What follows the last chunk is no longer.
const MAX_TRAILER: usize = 64 * 1024;

/// A body that is being read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// So many bytes are left.
    Length(u64),
    /// It comes in chunks.
    Chunks(Chunks),
    /// It ends when the connection does.
    UntilClose,
}

/// A body in chunks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chunks {
    at: At,
    /// Bytes that the chunk still has.
    left: u64,
    /// Bytes of the line so far, without its end, and whether a CR stands behind them.
    line: usize,
    cr: bool,
    /// Bytes of all lines behind the last chunk.
    trailer: usize,
    digits: usize,
    extension: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    Size,
    Data,
    DataEnd,
    Trailer,
    Over,
}

impl Body {
    /// What framing fields say of a body; `None` where there are none.
    ///
    /// # Errors
    /// They say several things, or nothing that one can make sense of.
    pub fn framed(fields: &[httparse::Header<'_>]) -> Result<Option<Body>, Fault> {
        let named = |name: &'static str| {
            fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
        };
        let mut lengths = named("content-length");
        let mut codings = named("transfer-encoding");
        match (lengths.next(), codings.next()) {
            (None, None) => Ok(None),
            (Some(length), None) if lengths.next().is_none() => Ok(Some(Body::Length(number(length)?))),
            (None, Some(coding)) if codings.next().is_none() && coding.eq_ignore_ascii_case(b"chunked") => {
                Ok(Some(Body::Chunks(Chunks::default())))
            }
            _ => Err(Fault::Body),
        }
    }

    /// Whether it is over.
    pub fn is_over(&self) -> bool {
        match self {
            Body::Length(left) => *left == 0,
            Body::Chunks(chunks) => chunks.at == At::Over,
            Body::UntilClose => false,
        }
    }

    /// How many of these bytes belong to it.
    ///
    /// # Errors
    /// They are no chunks.
    pub fn take(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        match self {
            Body::UntilClose => Ok(bytes.len()),
            Body::Length(left) => {
                let taken = (bytes.len() as u64).min(*left);
                *left -= taken;
                Ok(taken as usize)
            }
            Body::Chunks(chunks) => chunks.take(bytes),
        }
    }
}

/// Digits, and nothing else.
fn number(digits: &[u8]) -> Result<u64, Fault> {
    let fits = (1..=18).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(digits).ok().filter(|_| fits);
    text.and_then(|text| text.parse().ok()).ok_or(Fault::Body)
}

impl Chunks {
    fn take(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let mut taken = 0;
        while taken < bytes.len() && self.at != At::Over {
            if self.at == At::Data {
                let data = ((bytes.len() - taken) as u64).min(self.left);
                self.left -= data;
                taken += data as usize;
                if self.left == 0 {
                    self.at = At::DataEnd;
                }
                continue;
            }
            self.of_line(bytes[taken])?;
            taken += 1;
        }
        Ok(taken)
    }

    /// A byte of a line, which ends with CR LF and with nothing else.
    fn of_line(&mut self, byte: u8) -> Result<(), Fault> {
        if self.cr {
            return if byte == b'\n' { self.line_end() } else { Err(Fault::Body) };
        }
        if byte == b'\r' {
            self.cr = true;
            return Ok(());
        }
        if byte == b'\n' || (byte < b' ' && byte != b'\t') || byte == 0x7f {
            return Err(Fault::Body);
        }
        self.line += 1;
        self.trailer += usize::from(self.at == At::Trailer);
        if self.line > MAX_LINE || self.trailer > MAX_TRAILER {
            return Err(Fault::Body);
        }
        match self.at {
            At::Size => self.of_size(byte),
            At::Trailer => Ok(()),
            _ => Err(Fault::Body),
        }
    }

    fn of_size(&mut self, byte: u8) -> Result<(), Fault> {
        if self.extension {
            return Ok(());
        }
        match char::from(byte).to_digit(16) {
            // 2^60 bytes are more than anybody sends.
            Some(digit) if self.digits < 15 => {
                self.digits += 1;
                self.left = self.left << 4 | u64::from(digit);
                Ok(())
            }
            None if byte == b';' && self.digits > 0 => {
                self.extension = true;
                Ok(())
            }
            _ => Err(Fault::Body),
        }
    }

    fn line_end(&mut self) -> Result<(), Fault> {
        self.at = match self.at {
            At::Size if self.digits == 0 => return Err(Fault::Body),
            At::Size if self.left == 0 => At::Trailer,
            At::Size => At::Data,
            At::DataEnd => At::Size,
            At::Trailer if self.line == 0 => At::Over,
            at => at,
        };
        let (at, left, trailer) = (self.at, self.left, self.trailer);
        *self = Chunks { at, left, trailer, ..Chunks::default() };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn framed(fields: &[(&str, &str)]) -> Result<Option<Body>, Fault> {
        let fields: Vec<_> =
            fields.iter().map(|(name, value)| httparse::Header { name, value: value.as_bytes() }).collect();
        Body::framed(&fields)
    }

    #[test]
    fn lengths_that_can_be_read_in_one_way() {
        assert_eq!(framed(&[]), Ok(None));
        assert_eq!(framed(&[("Content-Length", "5")]), Ok(Some(Body::Length(5))));
        assert_eq!(framed(&[("transfer-encoding", "Chunked")]), Ok(Some(Body::Chunks(Chunks::default()))));
        for fields in [
            &[("content-length", "5"), ("content-length", "5")] as &[_],
            &[("content-length", "5"), ("transfer-encoding", "chunked")],
            &[("content-length", "+5")],
            &[("content-length", "5, 5")],
            &[("content-length", "")],
            &[("content-length", "0x5")],
            &[("content-length", "99999999999999999999")],
            &[("transfer-encoding", "gzip, chunked")],
            &[("transfer-encoding", "identity")],
            &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
            &[("transfer-encoding", "\x0bchunked")],
        ] {
            assert_eq!(framed(fields), Err(Fault::Body), "{fields:?}");
        }
    }

    const CHUNKED: &[u8] = b"5\r\nhello\r\n00a;x=y\r\n0123456789\r\n0\r\nA: b\r\n\r\n";

    #[test]
    fn chunks_end_where_they_do() {
        let with_more = [CHUNKED, b"GET / HTTP/1.1\r\n"].concat();
        for size in 1..with_more.len() {
            let mut body = Body::Chunks(Chunks::default());
            let mut taken = 0;
            for part in with_more.chunks(size) {
                let of_part = body.take(part).unwrap();
                taken += of_part;
                if of_part < part.len() {
                    break;
                }
            }
            assert_eq!((taken, body.is_over()), (CHUNKED.len(), true), "{size}");
        }
        for bad in [
            b"\r\n".as_slice(),
            b" 5\r\n",
            b"5 \r\n",
            b"5\nhello",
            b"0x5\r\n",
            b"-5\r\n",
            b"5\r\nhelloX",
            b"5\r\nhello\rX",
            b"fffffffffffffffff\r\n",
            b";\r\n",
            b"0\r\n\n",
            b"5\rx",
        ] {
            let mut body = Body::Chunks(Chunks::default());
            assert_eq!(body.take(bad), Err(Fault::Body), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn never_more_than_there_is(bytes in prop::collection::vec(any::<u8>(), 0..200), length in any::<u64>()) {
            let mut body = Body::Length(length);
            prop_assert!(body.take(&bytes).unwrap() <= bytes.len());
            let mut body = Body::Chunks(Chunks::default());
            if let Ok(taken) = body.take(&bytes) {
                prop_assert!(taken <= bytes.len() && (taken == bytes.len() || body.is_over()));
            }
        }
    }
}
