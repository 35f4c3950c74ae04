//! HTTP/1 as clients speak it to a proxy (RFC 9112): heads and bodies, without the waiting.
//!
//! Requests come with CONNECT, or with a whole URL. Servers and proxies that read the same bytes in two ways are how one
//! request becomes another, so a request that could be read in two ways is refused, and what goes on to a server is
//! written anew from what was read: one request for a connection, with `Connection: close`.

pub mod body;
pub mod request;
pub mod response;

/// Most bytes of a head.
pub const MAX_HEAD: usize = 64 * 1024;
/// Most fields of a head.
pub const MAX_FIELDS: usize = 128;

/// Why a head is refused, with what a client is told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is no head of HTTP/1.
    #[error("this is not HTTP/1")]
    NotHttp,
    /// It is longer, or has more fields, than is taken.
    #[error("the head has more than {MAX_HEAD} bytes or {MAX_FIELDS} fields")]
    TooLong,
    /// A request as to a server.
    #[error("this is a proxy: ask it for a whole URL (http://…), or to CONNECT")]
    NotToAProxy,
    /// A URL of another scheme.
    #[error("only http:// is asked for so; for https:// a client has to CONNECT")]
    Scheme,
    /// Where it leads cannot be read.
    #[error("{0:?} {1}")]
    Destination(String, super::authority::Unfit),
    /// The target and Host differ, or there are several.
    #[error("its target and its Host are not the same")]
    Host,
    /// How long the body is can be read in two ways.
    #[error("the length of its body can be read in more than one way")]
    Body,
}

/// Whether a field is about one connection only (RFC 9110, 7.6.1), or about the proxy.
fn is_of_the_hop(name: &str) -> bool {
    const FIELDS: [&str; 9] = [
        "connection",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "proxy-authenticate",
        "proxy-authentication-info",
        "te",
        "upgrade",
        "http2-settings",
    ];
    FIELDS.iter().any(|field| name.eq_ignore_ascii_case(field))
}

/// The names of fields that a Connection field says are of this connection only.
fn named_by_connection<'h>(fields: &'h [httparse::Header<'_>]) -> Vec<&'h [u8]> {
    let connection = fields.iter().filter(|field| field.name.eq_ignore_ascii_case("connection"));
    connection
        .flat_map(|field| field.value.split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|name| !name.is_empty())
        .collect()
}

/// Writes the fields that go on: all but those of the hop, and but `host`, which is the caller's.
fn pass_fields(fields: &[httparse::Header<'_>], to: &mut Vec<u8>) {
    let named = named_by_connection(fields);
    for field in fields {
        let of_hop = is_of_the_hop(field.name) || field.name.eq_ignore_ascii_case("host");
        // What frames the body is needed, whatever Connection says.
        let frames = field.name.eq_ignore_ascii_case("content-length")
            || field.name.eq_ignore_ascii_case("transfer-encoding");
        if of_hop || !frames && named.iter().any(|name| name.eq_ignore_ascii_case(field.name.as_bytes())) {
            continue;
        }
        to.extend(field.name.as_bytes());
        to.extend(b": ");
        to.extend(field.value);
        to.extend(b"\r\n");
    }
}
