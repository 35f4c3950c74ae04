//! SOCKS 5 as clients speak it (RFC 1928): what is read and what is answered, without the waiting.
//!
//! Only CONNECT is done. There is nobody to log in as: the namespace holds one run.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::authority::{Destination, Host, Unfit};

/// The first byte of everything.
pub const VERSION: u8 = 5;

/// The answer to a greeting that offers no way in without a login.
pub const NO_METHOD: [u8; 2] = [VERSION, 0xff];
/// The answer to one that does.
pub const NO_LOGIN: [u8; 2] = [VERSION, 0];

/// The longest greeting: each of 255 methods.
pub const MAX_GREETING: usize = 2 + 255;
/// The longest request: a name of 255 bytes.
pub const MAX_REQUEST: usize = 4 + 1 + 255 + 2;

/// Answers to a request (RFC 1928, 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reply {
    /// It goes ahead.
    Succeeded = 0,
    /// Something else is wrong.
    Failure = 1,
    /// A rule denies it.
    NotAllowed = 2,
    /// No way leads there.
    NetworkUnreachable = 3,
    /// Nobody is there, or no name of it.
    HostUnreachable = 4,
    /// It was refused there.
    Refused = 5,
    /// It took too long.
    Expired = 6,
    /// Another command than CONNECT: datagrams (UDP ASSOCIATE) and listening (BIND) are not done.
    NotSupported = 7,
    /// Neither a name nor an address.
    AddressNotSupported = 8,
}

/// What is known of bytes so far.
#[derive(Debug, PartialEq, Eq)]
pub enum Read<T> {
    /// More must come.
    More,
    /// It is whole, and so long.
    Whole(T, usize),
    /// It is none.
    Broken,
}

/// Reads a greeting; whether it offers to go without a login.
pub fn greeting(bytes: &[u8]) -> Read<bool> {
    match bytes {
        [] | [VERSION] => Read::More,
        [VERSION, count, rest @ ..] => {
            let count = usize::from(*count);
            match rest.get(..count) {
                None => Read::More,
                Some(methods) => Read::Whole(methods.contains(&0), 2 + count),
            }
        }
        _ => Read::Broken,
    }
}

/// Reads a request: where it leads, or what to answer.
pub fn request(bytes: &[u8]) -> Read<Result<Destination, Reply>> {
    const CONNECT: u8 = 1;
    if bytes.first().is_some_and(|version| *version != VERSION) {
        return Read::Broken;
    }
    let [_, command, reserved, kind, rest @ ..] = bytes else { return Read::More };
    if *reserved != 0 {
        return Read::Broken;
    }
    let length = match (kind, rest.first()) {
        (1, _) => 4,
        (4, _) => 16,
        (3, None) => return Read::More,
        (3, Some(length)) => 1 + usize::from(*length),
        // How long it is cannot be known.
        _ => return Read::Whole(Err(Reply::AddressNotSupported), bytes.len()),
    };
    let Some((address, port)) = rest.get(..length + 2).map(|all| all.split_at(length)) else {
        return Read::More;
    };
    let whole = 4 + length + 2;
    if *command != CONNECT {
        return Read::Whole(Err(Reply::NotSupported), whole);
    }
    let host = match (<[u8; 4]>::try_from(address), <[u8; 16]>::try_from(address)) {
        _ if *kind == 3 => Host::read(&address[1..]),
        (Ok(v4), _) => Ok(Host::Address(Ipv4Addr::from(v4).into())),
        (_, Ok(v6)) => Ok(Host::Address(IpAddr::V6(Ipv6Addr::from(v6)).to_canonical())),
        _ => Err(Unfit::Host),
    };
    let port = u16::from_be_bytes([port[0], port[1]]);
    let destination = host.and_then(|host| Destination::new(host, port));
    Read::Whole(destination.map_err(|_| Reply::AddressNotSupported), whole)
}

/// The bytes of an answer; the relay's own address is nobody's matter.
pub fn reply(reply: Reply) -> [u8; 10] {
    [VERSION, reply as u8, 0, 1, 0, 0, 0, 0, 0, 0]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(bytes: &[u8]) -> String {
        match request(bytes) {
            Read::More => "more".to_owned(),
            Read::Broken => "broken".to_owned(),
            Read::Whole(Ok(destination), length) => format!("{destination} in {length}"),
            Read::Whole(Err(reply), _) => format!("{reply:?}"),
        }
    }

    #[test]
    fn greetings() {
        assert_eq!(greeting(b"\x05\x01\x00"), Read::Whole(true, 3));
        assert_eq!(greeting(b"\x05\x02\x02\x00rest"), Read::Whole(true, 4));
        assert_eq!(greeting(b"\x05\x01\x02"), Read::Whole(false, 3));
        assert_eq!(greeting(b"\x05\x00"), Read::Whole(false, 2));
        assert_eq!(greeting(b"\x05\x02\x00"), Read::More);
        assert_eq!(greeting(b"\x04\x01"), Read::Broken);
    }

    #[test]
    fn requests() {
        assert_eq!(of(b"\x05\x01\x00\x03\x0bExample.com\x01\xbb"), "example.com:443 in 18");
        assert_eq!(of(b"\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x50more"), "192.0.2.1:80 in 10");
        assert_eq!(
            of(b"\x05\x01\x00\x04\0\0\0\0\0\0\0\0\0\0\xff\xff\x7f\0\0\x01\x00\x50"),
            "127.0.0.1:80 in 22"
        );
        // The address as a text is an address.
        assert_eq!(of(b"\x05\x01\x00\x03\x09192.0.2.1\x00\x50"), "192.0.2.1:80 in 16");
        for (bytes, said) in [
            (b"\x05\x03\x00\x01\0\0\0\0\0\0".as_slice(), "NotSupported"),
            (b"\x05\x02\x00\x01\x7f\0\0\x01\0\x50", "NotSupported"),
            (b"\x05\x01\x00\x02", "AddressNotSupported"),
            (b"\x05\x01\x00\x03\x00\x00\x50", "AddressNotSupported"),
            (b"\x05\x01\x00\x03\x05127.1\x00\x50", "AddressNotSupported"),
            (b"\x05\x01\x00\x03\x03a\0b\x00\x50", "AddressNotSupported"),
            (b"\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x00", "AddressNotSupported"),
            (b"\x05\x01\x01\x01\xc0\x00\x02\x01\x00\x50", "broken"),
            (b"\x04\x01\x00\x50", "broken"),
            (b"\x05\x01\x00\x03", "more"),
            (b"\x05\x01\x00\x03\xffabc", "more"),
            (b"", "more"),
        ] {
            assert_eq!(of(bytes), said, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            for bytes in [bytes.clone(), [b"\x05\x01\x00".as_slice(), &bytes].concat()] {
                if let Read::Whole(_, length) = request(&bytes) {
                    prop_assert!(length <= bytes.len());
                }
                if let Read::Whole(_, length) = greeting(&bytes) {
                    prop_assert!(length <= bytes.len() && length <= MAX_GREETING);
                }
            }
            // Whatever the bytes are, so many are enough to know.
            let long = [b"\x05\x01\x00".as_slice(), &bytes, &[0; MAX_REQUEST]].concat();
            prop_assert_ne!(request(&long), Read::More);
        }
    }
}
