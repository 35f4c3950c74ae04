//! The head of a request to a proxy.

use std::borrow::Cow;

use super::body::Body;
use super::{Fault, MAX_FIELDS, MAX_HEAD, pass_fields};
use crate::enforce::relay::authority::Destination;

/// What is asked of the proxy.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// CONNECT.
    Tunnel(Destination),
    /// A request to a server.
    Forward(Forward),
}

/// A request that goes on.
#[derive(Debug, PartialEq, Eq)]
pub struct Forward {
    /// To whom.
    pub destination: Destination,
    /// The head that goes on.
    pub head: Vec<u8>,
    /// The body that follows.
    pub body: Body,
    /// Whether the answer to it has no body.
    pub is_head: bool,
}

/// Reads a head: `None` while it is not whole, else what is asked and how long it is.
///
/// # Errors
/// It is refused.
pub fn read(bytes: &[u8]) -> Result<Option<(Asked, usize)>, Fault> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let length = match request.parse(&bytes[..bytes.len().min(MAX_HEAD)]) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() >= MAX_HEAD => return Err(Fault::TooLong),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Fault::TooLong),
        Err(_) => return Err(Fault::NotHttp),
    };
    let (Some(method), Some(target)) = (request.method, request.path) else { return Err(Fault::NotHttp) };
    let asked = match method {
        "CONNECT" => Asked::Tunnel(tunnel(target, request.headers)?),
        _ => Asked::Forward(forward((method, request.version.unwrap_or(0)), target, request.headers)?),
    };
    Ok(Some((asked, length)))
}

fn destination(text: &str, default: Option<u16>) -> Result<Destination, Fault> {
    let shown = || text.chars().take(300).collect();
    Destination::read(text.as_bytes(), default).map_err(|unfit| Fault::Destination(shown(), unfit))
}

/// The only Host; `None` where there is none.
fn host<'h>(fields: &'h [httparse::Header<'_>]) -> Result<Option<&'h [u8]>, Fault> {
    let mut hosts = fields.iter().filter(|field| field.name.eq_ignore_ascii_case("host"));
    match (hosts.next(), hosts.next()) {
        (first, None) => Ok(first.map(|field| field.value)),
        _ => Err(Fault::Host),
    }
}

fn tunnel(target: &str, fields: &[httparse::Header<'_>]) -> Result<Destination, Fault> {
    let destination = destination(target, None)?;
    if let Some(host) = host(fields)? {
        // Some clients leave the port out, and some the value.
        let same = Destination::read(host, Some(destination.port)).is_ok_and(|named| named == destination);
        if !same && !host.is_empty() {
            return Err(Fault::Host);
        }
    }
    Ok(destination)
}

fn forward(
    (method, minor): (&str, u8),
    target: &str,
    fields: &[httparse::Header<'_>],
) -> Result<Forward, Fault> {
    let Some((scheme, rest)) = target.split_once("://") else { return Err(Fault::NotToAProxy) };
    if !scheme.eq_ignore_ascii_case("http") {
        return Err(Fault::Scheme);
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let destination = destination(authority, Some(80))?;
    let named = host(fields)?;
    if let Some(host) = named
        && Destination::read(host, Some(80)) != Ok(destination.clone())
    {
        return Err(Fault::Host);
    }
    if path.contains('#') {
        return Err(Fault::NotHttp);
    }
    let path: Cow<'_, str> = match path {
        "" if method == "OPTIONS" => "*".into(),
        path if path.starts_with('/') => path.into(),
        path => format!("/{path}").into(),
    };
    let body = Body::framed(fields)?.unwrap_or(Body::Length(0));
    // In 1.0 there are no chunks: what its body is would be read in two ways (RFC 9112, 6.1).
    if minor == 0 && matches!(body, Body::Chunks(_)) {
        return Err(Fault::Body);
    }
    // Who speaks 1.0 may not know chunks, which only an answer to 1.1 has.
    let mut head = format!("{method} {path} HTTP/1.{minor}\r\nHost: {}", destination.host).into_bytes();
    if destination.port != 80 {
        head.extend(format!(":{}", destination.port).into_bytes());
    }
    head.extend(b"\r\n");
    pass_fields(fields, &mut head);
    head.extend(b"Connection: close\r\n\r\n");
    Ok(Forward { destination, head, body, is_head: method == "HEAD" })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn asked(text: &str) -> Result<Asked, Fault> {
        read(text.as_bytes()).map(|read| read.expect("a whole head").0)
    }

    fn head(text: &str) -> Result<String, Fault> {
        match asked(text)? {
            Asked::Forward(forward) => Ok(String::from_utf8(forward.head).unwrap()),
            Asked::Tunnel(destination) => Ok(format!("tunnel to {destination}")),
        }
    }

    #[test]
    fn tunnels() {
        let tunnel = |text: &str| head(text);
        assert_eq!(tunnel("CONNECT a.example:443 HTTP/1.1\r\n\r\n").unwrap(), "tunnel to a.example:443");
        let same =
            "CONNECT A.example:443 HTTP/1.1\r\nHost: a.EXAMPLE:443\r\nProxy-Connection: keep-alive\r\n\r\n";
        assert_eq!(tunnel(same).unwrap(), "tunnel to a.example:443");
        assert!(tunnel("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\n\r\n").is_ok());
        assert_eq!(tunnel("CONNECT [::1]:443 HTTP/1.0\r\n\r\n").unwrap(), "tunnel to [::1]:443");
        for (text, fault) in [
            ("CONNECT a.example:443 HTTP/1.1\r\nHost: b.example:443\r\n\r\n", Fault::Host),
            ("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:444\r\n\r\n", Fault::Host),
            ("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\nHost: a.example\r\n\r\n", Fault::Host),
            ("CONNECT http://a.example HTTP/1.1\r\n\r\n", Fault::NotHttp),
            ("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", Fault::NotToAProxy),
            ("GET https://a.example/ HTTP/1.1\r\n\r\n", Fault::Scheme),
            ("GET ftp://a.example/ HTTP/1.1\r\n\r\n", Fault::Scheme),
            ("GET http://a.example/ HTTP/1.1\r\nHost: b.example\r\n\r\n", Fault::Host),
            ("GET http://a.example/ HTTP/1.1\r\nHost: a.example:81\r\n\r\n", Fault::Host),
            ("GET http://a.example/ HTTP/1.1\r\nHost:\r\n\r\n", Fault::Host),
            ("GET http://a.example/ HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", Fault::Body),
            ("GET http://a.example/#x HTTP/1.1\r\n\r\n", Fault::NotHttp),
            ("GET http://a.example/ HTTP/2.0\r\n\r\n", Fault::NotHttp),
            ("GET http://a.example/ HTTP/1.1\r\nA : b\r\n\r\n", Fault::NotHttp),
            ("GET http://a.example/ HTTP/1.1\r\nA: b\r\n c\r\n\r\n", Fault::NotHttp),
        ] {
            let found = head(text).unwrap_err();
            let unfit = matches!(found, Fault::Destination(..)) && fault == Fault::NotHttp;
            assert!(found == fault || unfit, "{text:?} {found:?}");
        }
        for text in [
            "CONNECT a.example",
            "CONNECT 127.1:80",
            "CONNECT user@a.example:443",
            "GET http://user@a.example/",
        ] {
            let text = format!("{text} HTTP/1.1\r\n\r\n");
            assert!(matches!(head(&text), Err(Fault::Destination(..))), "{text}");
        }
    }

    #[test]
    fn what_goes_on_is_written_anew() {
        let request = "POST http://A.example:8080?q=1 HTTP/1.1\r\nHost: a.example:8080\r\nAccept: */*\r\n\
                       Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nProxy-Authorization: Basic x\r\n\
                       Proxy-Connection: keep-alive\r\nUpgrade: websocket\r\nContent-Length: 3\r\n\r\nabc";
        assert_eq!(
            head(request).unwrap(),
            "POST /?q=1 HTTP/1.1\r\nHost: a.example:8080\r\nAccept: */*\r\nContent-Length: 3\r\n\
             Connection: close\r\n\r\n"
        );
        // The framing of a body stays, whatever Connection says of it.
        let hidden =
            "POST http://a.example/ HTTP/1.1\r\nConnection: content-length\r\nContent-Length: 3\r\n\r\nabc";
        assert!(head(hidden).unwrap().contains("Content-Length: 3\r\n"));
        let Asked::Forward(forward) = asked(request).unwrap() else { panic!() };
        assert_eq!(
            (forward.destination.to_string().as_str(), forward.body),
            ("a.example:8080", Body::Length(3))
        );
        assert!(
            head("GET http://[2001:db8::1]/x HTTP/1.0\r\n\r\n").unwrap().contains("Host: [2001:db8::1]\r\n")
        );
        assert!(head("OPTIONS http://a.example HTTP/1.1\r\n\r\n").unwrap().starts_with("OPTIONS * HTTP/1.1"));
    }

    #[test]
    fn heads_have_a_bound() {
        assert_eq!(read(b"GET http://a.example/ HTTP/1.1\r\n"), Ok(None));
        let long = [b"GET http://a.example/".as_slice(), &vec![b'a'; MAX_HEAD]].concat();
        assert_eq!(read(&long), Err(Fault::TooLong));
        let many = format!("GET http://a/ HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(MAX_FIELDS + 1));
        assert_eq!(read(many.as_bytes()), Err(Fault::TooLong));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes);
            let _ = read(&[b"GET http://a.example/ HTTP/1.1\r\n".as_slice(), &bytes, b"\r\n\r\n"].concat());
            let _ = read(&[b"CONNECT ".as_slice(), &bytes, b" HTTP/1.1\r\n\r\n"].concat());
        }

        /// What goes on is one request, with the Host that was judged, whatever stood in the fields.
        #[test]
        fn what_goes_on_is_one_request(fields in "([ -~]{0,12}: [ -~]{0,20}\r\n){0,4}", path in "[!-~]{0,20}") {
            let text = format!("GET http://a.example/{path} HTTP/1.1\r\n{fields}\r\n");
            if let Ok(Some((Asked::Forward(forward), _))) = read(text.as_bytes()) {
                let mut headers = [httparse::EMPTY_HEADER; MAX_FIELDS];
                let mut again = httparse::Request::new(&mut headers);
                let status = again.parse(&forward.head).unwrap();
                prop_assert_eq!(status, httparse::Status::Complete(forward.head.len()));
                let hosts: Vec<_> = again.headers.iter().filter(|f| f.name.eq_ignore_ascii_case("host")).collect();
                prop_assert_eq!(hosts.len(), 1);
                prop_assert_eq!(hosts[0].value, b"a.example");
            }
        }
    }
}
