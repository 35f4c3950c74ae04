//! Address hints of SVCB and HTTPS records (RFC 9460).
//!
//! Hints are addresses that a client may use at once, without asking for A or AAAA. Nothing else in the parameters
//! is looked at.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::message::u16_at;
use crate::name::{Junk, Name};

const MANDATORY: u16 = 0;
const IPV4HINT: u16 = 4;
const IPV6HINT: u16 = 6;

/// The addresses that the record's data hints at.
pub(crate) fn hints(data: &[u8]) -> Result<Vec<IpAddr>, Junk> {
    let mut hints = Vec::new();
    for (key, value) in parameters(data)?.1 {
        hints.extend(addresses(key, value)?.into_iter().map(|(address, _)| address));
    }
    Ok(hints)
}

/// The data without those hints that are not `kept`; `None` where the record is of no use any more, because a client
/// must not use it without its hints (RFC 9460, 8).
pub(crate) fn without(data: &[u8], kept: &dyn Fn(IpAddr) -> bool) -> Result<Option<Vec<u8>>, Junk> {
    let (head, parameters) = parameters(data)?;
    let (mut out, mut gone) = (head.to_vec(), Vec::new());
    for (key, value) in &parameters {
        let hints = addresses(*key, value)?;
        let mut left = Vec::with_capacity(value.len());
        for (_, bytes) in hints.iter().filter(|(address, _)| kept(*address)) {
            left.extend_from_slice(bytes);
        }
        let value = if hints.is_empty() { *value } else { &left };
        if !hints.is_empty() && left.is_empty() {
            gone.push(*key);
            continue;
        }
        out.extend_from_slice(&key.to_be_bytes());
        // It is no longer than the value was.
        out.extend_from_slice(&u16::try_from(value.len()).map_err(|_| Junk)?.to_be_bytes());
        out.extend_from_slice(value);
    }
    let needed = parameters.iter().filter(|(key, _)| *key == MANDATORY).flat_map(|(_, keys)| keys.chunks(2));
    let useless = needed.into_iter().any(|key| gone.iter().any(|gone| key == gone.to_be_bytes()));
    Ok((!useless).then_some(out))
}

/// A key and its value.
type Parameter<'d> = (u16, &'d [u8]);

/// The priority with the target, and the parameters, whose keys must ascend (RFC 9460, 2.2).
fn parameters(data: &[u8]) -> Result<(&[u8], Vec<Parameter<'_>>), Junk> {
    let rest = data.get(2..).ok_or(Junk)?;
    // The target is not compressed; a slice of its own keeps pointers from leading anywhere.
    let (target, end) = Name::read(rest, 0)?;
    if target.wire().len() != end {
        return Err(Junk);
    }
    let (head, mut rest) = data.split_at(2 + end);
    let mut parameters: Vec<Parameter> = Vec::new();
    while !rest.is_empty() {
        let (key, length) = (u16_at(rest, 0)?, usize::from(u16_at(rest, 2)?));
        if parameters.last().is_some_and(|(last, _)| *last >= key) {
            return Err(Junk);
        }
        parameters.push((key, rest.get(4..4 + length).ok_or(Junk)?));
        rest = &rest[4 + length..];
    }
    Ok((head, parameters))
}

/// The addresses in a parameter, each with its bytes; none where it is no hint.
fn addresses(key: u16, value: &[u8]) -> Result<Vec<(IpAddr, &[u8])>, Junk> {
    let size = match key {
        IPV4HINT => 4,
        IPV6HINT => 16,
        _ => return Ok(Vec::new()),
    };
    if value.is_empty() || !value.len().is_multiple_of(size) {
        return Err(Junk);
    }
    value.chunks(size).map(|bytes| Ok((address(bytes)?, bytes))).collect()
}

/// The address that the data of an A (four bytes) or AAAA record (sixteen) is; IPv4-mapped is IPv4.
pub(crate) fn address(bytes: &[u8]) -> Result<IpAddr, Junk> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Ok(Ipv4Addr::from(v4).into());
    }
    let v6 = <[u8; 16]>::try_from(bytes).map_err(|_| Junk)?;
    Ok(IpAddr::from(Ipv6Addr::from(v6)).to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `1 . mandatory=… ipv4hint=192.0.2.1,127.0.0.1 port=443 ipv6hint=::1`, in the order of the keys.
    fn data(mandatory: &[u8]) -> Vec<u8> {
        let mut data = vec![0, 1, 0];
        if !mandatory.is_empty() {
            data.extend_from_slice(&[0, 0, 0, u8::try_from(mandatory.len()).unwrap()]);
            data.extend_from_slice(mandatory);
        }
        data.extend_from_slice(&[0, 3, 0, 2, 1, 187]);
        data.extend_from_slice(&[0, 4, 0, 8, 192, 0, 2, 1, 127, 0, 0, 1]);
        data.extend_from_slice(&[0, 6, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        data
    }

    #[test]
    fn refused_hints_are_taken_out() {
        let public = |address: IpAddr| !address.is_loopback();
        assert_eq!(hints(&data(&[])).unwrap().len(), 3);
        let left = without(&data(&[]), &public).unwrap().unwrap();
        assert_eq!(left, [0, 1, 0, 0, 3, 0, 2, 1, 187, 0, 4, 0, 4, 192, 0, 2, 1]);
        assert_eq!(without(&data(&[]), &|_| true).unwrap().unwrap(), data(&[]));
    }

    #[test]
    fn a_record_that_needs_a_lost_hint_goes() {
        let public = |address: IpAddr| !address.is_loopback();
        assert!(without(&data(&[0, 4]), &public).unwrap().is_some(), "one of its addresses is left");
        assert!(without(&data(&[0, 4, 0, 6]), &public).unwrap().is_none());
    }

    #[test]
    fn what_does_not_add_up_is_junk() {
        for junk in [
            &[0][..],
            &[0, 1],
            &[0, 1, 0xc0, 0],                               // a compressed target
            &[0, 1, 0, 0, 4, 0, 4, 192, 0, 2],              // cut
            &[0, 1, 0, 0, 4, 0, 3, 192, 0, 2],              // no address
            &[0, 1, 0, 0, 4, 0, 0],                         // an empty hint
            &[0, 1, 0, 0, 4],                               // half a parameter
            &[0, 1, 0, 0, 3, 0, 2, 0, 1, 0, 3, 0, 2, 0, 1], // a key twice
        ] {
            assert_eq!(hints(junk), Err(Junk), "{junk:?}");
            assert_eq!(without(junk, &|_| true), Err(Junk), "{junk:?}");
        }
        assert_eq!(hints(&[0, 0, 1, b'a', 0]), Ok(vec![]), "an alias has no parameters");
    }
}
