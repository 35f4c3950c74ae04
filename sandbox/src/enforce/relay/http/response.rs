//! The head of a server's answer: what the client gets of it, and how long the body is.

use super::body::Body;
use super::{Fault, MAX_FIELDS, MAX_HEAD, pass_fields};

/// An answer's head.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// The head that goes on.
    pub head: Vec<u8>,
    /// The body that follows.
    pub body: Body,
    /// It is one of those before the answer (1xx).
    pub interim: bool,
}

/// Reads a head: `None` while it is not whole, else the answer and how long its head is. `to_head`: the request was HEAD.
///
/// # Errors
/// It is none.
pub fn read(bytes: &[u8], to_head: bool) -> Result<Option<(Answer, usize)>, Fault> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    let length = match response.parse(&bytes[..bytes.len().min(MAX_HEAD)]) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() >= MAX_HEAD => return Err(Fault::TooLong),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Fault::TooLong),
        Err(_) => return Err(Fault::NotHttp),
    };
    let Some(code) = response.code else { return Err(Fault::NotHttp) };
    // Whoever asked for another protocol was not passed on.
    if code == 101 {
        return Err(Fault::NotHttp);
    }
    let interim = (100..200).contains(&code);
    let body = match code {
        _ if to_head || interim => Body::Length(0),
        204 | 304 => Body::Length(0),
        _ => Body::framed(response.headers)?.unwrap_or(Body::UntilClose),
    };
    let mut head = format!("HTTP/1.1 {code} ").into_bytes();
    head.extend(response.reason.unwrap_or_default().bytes());
    head.extend(b"\r\n");
    pass_fields(response.headers, &mut head);
    if !interim {
        head.extend(b"Connection: close\r\n");
    }
    head.extend(b"\r\n");
    Ok(Some((Answer { head, body, interim }, length)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(text: &str, to_head: bool) -> Answer {
        read(text.as_bytes(), to_head).unwrap().unwrap().0
    }

    #[test]
    fn answers_end_where_they_do() {
        let text = "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\nX: y\r\n\r\nhello";
        let found = answer(text, false);
        assert_eq!(found.body, Body::Length(5));
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\nConnection: close\r\n\r\n";
        assert_eq!(String::from_utf8(found.head).unwrap(), head);
        assert_eq!(answer(text, true).body, Body::Length(0));
        assert_eq!(answer("HTTP/1.0 200 OK\r\n\r\n", false).body, Body::UntilClose);
        assert_eq!(
            answer("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", false).body,
            Body::Length(0)
        );
        assert!(answer("HTTP/1.1 100 Continue\r\n\r\n", false).interim);
        assert_eq!(read(b"HTTP/1.1 101 Switching Protocols\r\n\r\n", false), Err(Fault::NotHttp));
        assert_eq!(read(b"SSH-2.0-x\r\n", false), Err(Fault::NotHttp));
        assert_eq!(read(b"HTTP/1.1 200", false), Ok(None));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes, false);
            let _ = read(&[b"HTTP/1.1 200 OK\r\n".as_slice(), &bytes, b"\r\n\r\n"].concat(), true);
        }
    }
}
