//! Hosts that one operator documents together, as the group that ships for them: a registry or a forge answers from one
//! of its hosts today and from another one tomorrow.
//!
//! Groups of hosts of several operators ([`crate::groups`]: `model-apis`) never stand for a host: who needs one of them
//! needs no other.

use std::collections::BTreeMap;

use super::network::{alone, reaches_out};
use super::{Strictness, Tally, Target};
use crate::access::AccessSet;
use crate::groups;

/// The shipped groups of one operator each.
pub(super) const OF_ONE_OPERATOR: [&str; 5] = ["npm", "pypi", "crates", "github", "debian"];

/// Why a group stands where hosts were seen.
const WIDE: &str = "hosts of one operator";

/// Replaces hosts by their groups, where enough of a group was reached: two of its entries, or one when `strictness` is
/// loose. Exact policies keep their hosts.
pub fn grouped(targets: Vec<Target>, strictness: Strictness) -> Vec<Target> {
    let enough = match strictness {
        Strictness::Exact => return targets,
        Strictness::Balanced => 2,
        Strictness::Loose => 1,
    };
    let shipped = groups::shipped();
    let (mut rest, mut out) = (targets, Vec::new());
    for name in OF_ONE_OPERATOR {
        let entries = shipped.get(name).map(Vec::as_slice).unwrap_or_default();
        let entry_of = |target: &Target| match reaches_out(target.accesses) {
            true => entries.iter().position(|entry| stands_for(entry, &target.text)),
            false => None,
        };
        // What is asked of each of them: a group opens the same at all of its entries.
        let mut members: BTreeMap<AccessSet, Vec<(usize, Target)>> = BTreeMap::new();
        let mut others = Vec::new();
        for target in rest {
            match entry_of(&target) {
                Some(entry) => members.entry(target.accesses).or_default().push((entry, target)),
                None => others.push(target),
            }
        }
        for (accesses, members) in members {
            let mut reached: Vec<usize> = members.iter().map(|(entry, _)| *entry).collect();
            reached.sort_unstable();
            reached.dedup();
            if reached.len() < enough {
                others.extend(members.into_iter().map(|(_, target)| target));
                continue;
            }
            let text = format!("@{name}");
            let mut tally = Tally::default();
            members.iter().for_each(|(_, target)| tally.add(&target.tally));
            let by = alone(&text, &tally, strictness);
            out.push(Target { text, accesses, tally, wide: Some(WIDE), by });
        }
        rest = others;
    }
    out.extend(rest);
    out.sort_by(|a, b| (&a.text, a.accesses).cmp(&(&b.text, b.accesses)));
    out
}

/// Whether the entry of a group opens a learned target, `host:port/protocol` both.
fn stands_for(entry: &str, target: &str) -> bool {
    match entry.strip_prefix('*') {
        Some(suffix) => target.len() > suffix.len() && target.ends_with(suffix),
        None => entry == target,
    }
}
