//! What a client is told that does not get through: who denied it, why, and the lines that would allow it.

use std::fmt::Write as _;
use std::io;

use super::authority::Destination;
use super::dial::Refusal;
use super::http::Fault;
use super::socks::Reply;
use super::told::Told;
use crate::explain::{Denials, Remedies};
use crate::names::Directory;

/// An answer of the relay's own, in HTTP.
pub fn http(status: &str, text: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\
         Proxy-Agent: sandbox\r\n\r\n{text}",
        text.len()
    )
    .into_bytes()
}

/// To a head that is refused.
pub fn fault(fault: &Fault) -> Vec<u8> {
    let status = match fault {
        Fault::TooLong => "431 Request Header Fields Too Large",
        Fault::Scheme => "501 Not Implemented",
        _ => "400 Bad Request",
    };
    http(status, &format!("sandbox: {fault}\n"))
}

/// To a request that is not let through, in HTTP. `told` is what the record has of it.
pub fn refusal(directory: &Directory, to: &Destination, refusal: &Refusal, told: Option<&Told>) -> Vec<u8> {
    let (status, mut text) = match refusal {
        Refusal::Denied(ruling) => {
            let mut text = format!("sandbox: rule `{}` denies connecting to {to}\n", ruling.rule);
            if let Some(because) = &ruling.because {
                let _ = writeln!(text, "because: {because}");
            }
            ("403 Forbidden", text)
        }
        Refusal::NotOpened(why) => ("403 Forbidden", format!("sandbox: {to} is not connected to: {why}\n")),
        Refusal::Unresolved(why) => ("502 Bad Gateway", format!("sandbox: {to}: {why}\n")),
        Refusal::Unreachable(error) if error.kind() == io::ErrorKind::TimedOut => {
            ("504 Gateway Timeout", format!("sandbox: {to} does not answer\n"))
        }
        Refusal::Unreachable(error) => ("502 Bad Gateway", format!("sandbox: {to}: {error}\n")),
    };
    let lines = told.map(|told| remedy(directory, told)).unwrap_or_default();
    if !lines.is_empty() {
        text.push_str("to allow it, in the policy:\n");
        for line in lines {
            let _ = writeln!(text, "  {line}");
        }
    }
    http(status, &text)
}

/// The lines that would allow what was denied, as `sandbox why` has them.
fn remedy(directory: &Directory, told: &Told) -> Vec<String> {
    let mut denials = Denials::new(2);
    denials.add(&told.event);
    let Some(group) = denials.groups().first() else { return Vec::new() };
    // Not while the directory is locked: it takes a moment.
    let Some(policies) = directory.policies() else { return Vec::new() };
    Remedies::new(&policies).of(group)
}

/// The same in SOCKS, which has no words.
pub fn socks(refusal: &Refusal) -> Reply {
    match refusal {
        Refusal::Denied(_) | Refusal::NotOpened(_) => Reply::NotAllowed,
        Refusal::Unresolved(_) => Reply::HostUnreachable,
        Refusal::Unreachable(error) => match error.kind() {
            io::ErrorKind::TimedOut => Reply::Expired,
            io::ErrorKind::ConnectionRefused => Reply::Refused,
            io::ErrorKind::NetworkUnreachable => Reply::NetworkUnreachable,
            _ => Reply::HostUnreachable,
        },
    }
}
