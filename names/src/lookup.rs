//! A question of the caller's own: which addresses a name has, by the same rules as for a client of the stub.
//!
//! Leave to ask is the caller's matter, and so is what becomes of the addresses. Nothing is remembered. It is asked as
//! a C library would: one resolver after the other, until one gives a definite answer.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::time::timeout;

use crate::address::Reason;
use crate::answer::{self, Answer, Terms};
use crate::gate::{Error, Rcode};
use crate::message::{Edns, Header, IN, MAX_MESSAGE, Question, flag, kind, rcode};
use crate::name::{self, Name};
use crate::question::Query;
use crate::settings::Settings;
use crate::upstream::{self, Buffer};
use crate::write;

/// The largest answer that is asked for by UDP (RFC 9715, 3.1); a larger one comes by TCP.
const PAYLOAD: u16 = 1232;

/// What resolvers say of a name.
#[derive(Debug)]
pub struct Found {
    /// Its addresses, IPv6 first, each once and never IPv4-mapped, and how long they hold.
    pub addresses: Vec<(IpAddr, Duration)>,
    /// Addresses that no answer may open, each once.
    pub refused: Vec<(IpAddr, Reason)>,
    /// How the question was answered; of two answers the one that has an address.
    pub rcode: Rcode,
}

/// Asks the resolvers for the IPv6 and IPv4 addresses of a name, which must be one of hosts.
///
/// # Errors
/// No resolver gives a definite answer, or hosts are not named so.
pub async fn lookup(name: &str, resolvers: &[SocketAddr], settings: &Settings) -> Result<Found, Error> {
    let name = name::from_text(name).and_then(|name| Name::of_host(&name)).ok_or(Error::Unfit)?;
    // One is enough: many machines have no IPv6, and some resolvers give no answer about it.
    let (v6, v4) = tokio::join!(
        of_kind(&name, kind::AAAA, resolvers, settings),
        of_kind(&name, kind::A, resolvers, settings)
    );
    let (v6, v4) = match (v6, v4) {
        (Err(error), Err(_)) => return Err(error),
        (v6, v4) => (v6.unwrap_or_default(), v4.unwrap_or_default()),
    };
    let rcode = if v6.addresses.is_empty() { v4.rcode } else { v6.rcode };
    let mut addresses: Vec<(IpAddr, Duration)> = Vec::new();
    for (address, life) in v6.addresses.into_iter().chain(v4.addresses) {
        let address = address.to_canonical();
        if !addresses.iter().any(|(known, _)| *known == address) {
            addresses.push((address, life));
        }
    }
    let mut refused = v6.refused;
    refused.extend(v4.refused);
    Ok(Found { addresses, refused, rcode: Rcode(rcode) })
}

async fn of_kind(
    name: &Name,
    kind: u16,
    resolvers: &[SocketAddr],
    settings: &Settings,
) -> Result<Answer, Error> {
    let edns = Edns { payload: PAYLOAD, extended_rcode: 0, version: 0, flags: 0 };
    let question = Question { name: name.clone(), kind, class: IN };
    let query = Query { id: 0, flags: flag::RD, question, edns: Some(edns) };
    let mut failed = Error::Unfit;
    for resolver in resolvers {
        match of_resolver(&query, *resolver, settings).await {
            // There is such a name with or without such an address, or there is none.
            Ok(answer) if matches!(answer.rcode, rcode::NOERROR | rcode::NXDOMAIN) => return Ok(answer),
            Ok(_) => failed = Error::Unreadable,
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

async fn of_resolver(query: &Query, resolver: SocketAddr, settings: &Settings) -> Result<Answer, Error> {
    let asking = async {
        let id = upstream::random_id()?;
        let question = write::question(query, id);
        let answers = |message: &[u8]| answer::answers(message, id, &query.question);
        let message = upstream::by_udp(resolver, &question, &Buffer::new(), answers).await?;
        match Header::read(&message) {
            Ok(header) if header.has(flag::TC) => upstream::by_tcp(resolver, &question, answers).await,
            _ => Ok(message),
        }
    };
    let wait = settings.wait;
    let message = timeout(wait, asking).await.map_err(|_| Error::Silent(wait))?.map_err(Error::Resolver)?;
    let terms = Terms { lifetimes: (settings.floor, settings.ceiling), own: settings.own.as_ref() };
    answer::judge(query, message, MAX_MESSAGE, &terms).map_err(|_| Error::Unreadable)
}
