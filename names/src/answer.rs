//! What a resolver's answer says about the asked name, and what of it the client gets.
//!
//! An address belongs to the asked name where its record does, or the record of a name that the asked one leads to by
//! CNAME and DNAME records of the same answer. All others open nothing: a resolver, or who answers in its place,
//! could put anything there. Signatures are not checked (DNSSEC is between the client and the resolver).

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;

use crate::address::{self, Reason};
use crate::message::{Edns, Header, IN, Question, Record, Section, flag, kind, rcode, records};
use crate::name::{Junk, Name};
use crate::question::Query;
use crate::svcb;
use crate::write::{self, Explanation};

/// Most aliases on the way to an address. Resolvers follow about as many.
const MAX_ALIASES: usize = 16;

/// By what answers are judged.
pub(crate) struct Terms<'t> {
    /// The shortest and the longest time that an address is opened for.
    pub(crate) lifetimes: (Duration, Duration),
    /// Whether it is an address of this machine.
    pub(crate) own: &'t dyn Fn(IpAddr) -> bool,
}

/// An answer, judged.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// What the client gets.
    pub(crate) bytes: Vec<u8>,
    pub(crate) rcode: u16,
    /// The addresses to be opened, each once.
    pub(crate) addresses: Vec<(IpAddr, Duration)>,
    pub(crate) aliases: Vec<String>,
    pub(crate) ttl: Option<u32>,
    /// Taken out, each once.
    pub(crate) refused: Vec<(IpAddr, Reason)>,
}

/// A record that stays in the answer, with its data where that is no longer the same.
pub(crate) type Kept<'r> = (&'r Record, Option<Vec<u8>>);

/// Whether the message answers what was asked as `id` (RFC 5452, 9.1).
pub(crate) fn answers(message: &[u8], id: u16, asked: &Question) -> bool {
    let Ok(header) = Header::read(message) else { return false };
    header.id == id
        && header.has(flag::QR)
        && !header.has(flag::OPCODE)
        && Question::read(message, &header).is_ok_and(|(question, _)| question.is(asked))
}

/// Judges a message that [`answers`] the query. The client takes at most `limit` bytes.
pub(crate) fn judge(
    query: &Query,
    mut message: Vec<u8>,
    limit: usize,
    terms: &Terms,
) -> Result<Answer, Junk> {
    let header = Header::read(&message)?;
    let (question, at) = Question::read(&message, &header)?;
    let (records, end) = match records(&message, &header, at) {
        Ok(read) => read,
        // It may have been cut anywhere.
        Err(Junk) if header.has(flag::TC) => return Ok(without_records(query, &header)),
        Err(Junk) => return Err(Junk),
    };
    message.truncate(end);
    let extended = Edns::find(&records)?.map_or(0, |edns| edns.extended_rcode);
    let rcode = u16::from(extended) << 4 | header.flags & flag::RCODE;

    let mut answer = Answer { rcode, ..Answer::default() };
    let mut kept: Vec<Kept> = Vec::with_capacity(records.len());
    let mut changed = false;
    // Whether it answers what was asked, and not something beside it.
    let asked_for = |record: &Record| {
        record.section == Section::Answer && record.class == IN && record.kind == question.kind
    };
    let (mut lost, mut told) = (false, HashSet::new());
    for record in &records {
        let data = &message[record.data.clone()];
        let mut refuse = |address: IpAddr| {
            let reason = address::refused(address, terms.own);
            let once = reason.filter(|_| told.insert(address));
            answer.refused.extend(once.map(|reason| (address, reason)));
            reason.is_some()
        };
        match record.kind {
            kind::A | kind::AAAA if record.class == IN => {
                if refuse(address_of(record, data)?) {
                    changed = true;
                    lost |= asked_for(record);
                } else {
                    kept.push((record, None));
                }
            }
            kind::SVCB | kind::HTTPS if record.class == IN => match svcb::hints(data) {
                Ok(hints) if hints.iter().filter(|hint| refuse(**hint)).count() == 0 => {
                    kept.push((record, None))
                }
                Ok(_) => {
                    changed = true;
                    let public = |hint| address::refused(hint, terms.own).is_none();
                    kept.extend(svcb::without(data, &public)?.map(|data| (record, Some(data))));
                }
                // Clients must not use it (RFC 9460, 2.2), and those that do must not find an address in it.
                Err(Junk) => changed = true,
            },
            _ => kept.push((record, None)),
        }
    }
    if changed {
        if lost && !kept.iter().any(|(record, _)| asked_for(record)) {
            return Ok(nothing_left(query, answer));
        }
        answer.bytes = write::rebuilt(&message, (&header, &question), &kept)?;
    }
    if rcode == rcode::NOERROR {
        follow(&message, &question, &kept, terms, &mut answer)?;
    }
    if !changed {
        answer.bytes = message;
    }
    if answer.bytes.len() > limit {
        return Ok(Answer { rcode, refused: answer.refused, ..without_records(query, &header) });
    }
    answer.bytes[..2].copy_from_slice(&query.id.to_be_bytes());
    Ok(answer)
}

fn without_records(query: &Query, header: &Header) -> Answer {
    Answer { bytes: write::cut(query, header), rcode: header.flags & flag::RCODE, ..Answer::default() }
}

fn nothing_left(query: &Query, answer: Answer) -> Answer {
    let refused: Vec<_> = answer.refused.iter().map(|(address, why)| format!("{address} ({why})")).collect();
    let text = format!("addresses refused: {}", refused.join(", "));
    let bytes = write::reply(query, rcode::NXDOMAIN, Some(&Explanation::new(Explanation::BLOCKED, text)));
    Answer { bytes, rcode: rcode::NXDOMAIN, refused: answer.refused, ..Answer::default() }
}

/// Follows the asked name to its addresses, in what the client gets.
pub(crate) fn follow(
    message: &[u8],
    question: &Question,
    kept: &[Kept],
    terms: &Terms,
    answer: &mut Answer,
) -> Result<(), Junk> {
    let in_answer = |(record, _): &&Kept| record.section == Section::Answer && record.class == IN;
    let kept: Vec<&Kept> = kept.iter().filter(in_answer).collect();
    let records: Vec<&Record> = kept.iter().map(|(record, _)| *record).collect();
    let (mut name, mut least) = (question.name.clone(), None);
    // Who asks for the alias itself does not follow it.
    let follows = !matches!(question.kind, kind::CNAME | kind::DNAME);
    while let Some((next, ttl)) = if follows { alias(message, &records, &name)? } else { None } {
        if answer.aliases.len() == MAX_ALIASES {
            // Too long, or a loop.
            return Ok(());
        }
        answer.aliases.push(next.text());
        least = Some(least.map_or(ttl, |least: u32| least.min(ttl)));
        name = next;
    }
    answer.ttl = least;
    let mut known = HashSet::new();
    for (record, changed) in kept.into_iter().filter(|(record, _)| record.owner.is(&name)) {
        if question.kind != record.kind && question.kind != kind::ANY {
            continue;
        }
        let ttl = least.map_or(ttl_of(record), |least| least.min(ttl_of(record)));
        answer.ttl = Some(answer.ttl.map_or(ttl, |least| least.min(ttl)));
        let data = changed.as_deref().unwrap_or(&message[record.data.clone()]);
        let addresses = match record.kind {
            kind::A | kind::AAAA => vec![address_of(record, data)?],
            kind::SVCB | kind::HTTPS => svcb::hints(data)?,
            _ => continue,
        };
        let (floor, ceiling) = terms.lifetimes;
        let lifetime = Duration::from_secs(ttl.into()).max(floor).min(ceiling);
        let new = addresses.into_iter().filter(|address| known.insert(*address));
        answer.addresses.extend(new.map(|address| (address, lifetime)));
    }
    Ok(())
}

/// Where the name leads to, and how long this holds: its CNAME, or what the nearest DNAME above makes of it.
fn alias(message: &[u8], records: &[&Record], name: &Name) -> Result<Option<(Name, u32)>, Junk> {
    if let Some(record) = records.iter().find(|record| record.kind == kind::CNAME && record.owner.is(name)) {
        return Ok(Some((target(message, record)?, ttl_of(record))));
    }
    let above = records.iter().filter(|record| record.kind == kind::DNAME);
    let Some(record) =
        above.filter(|record| name.is_below(&record.owner)).max_by_key(|r| r.owner.wire().len())
    else {
        return Ok(None);
    };
    let next = name.redirected(&record.owner, &target(message, record)?);
    Ok(next.map(|next| (next, ttl_of(record))))
}

/// The name that a record's data is.
fn target(message: &[u8], record: &Record) -> Result<Name, Junk> {
    let (name, end) = Name::read(&message[..record.data.end], record.data.start)?;
    if end == record.data.end { Ok(name) } else { Err(Junk) }
}

/// The address that an A or AAAA record has.
fn address_of(record: &Record, data: &[u8]) -> Result<IpAddr, Junk> {
    match (record.kind, data.len()) {
        (kind::A, 4) | (kind::AAAA, 16) => svcb::address(data),
        _ => Err(Junk),
    }
}

/// One with the highest bit set is 0 (RFC 2181, 8).
fn ttl_of(record: &Record) -> u32 {
    if record.ttl >> 31 == 0 { record.ttl } else { 0 }
}
