//! What a rule is about, as far as it can be compared with another: patterns by their automata, targets one by one.

use crate::address::{Prefix, Target};
use crate::ends::Meaning;
use crate::model::Rule;
use crate::pattern::Pattern;

use super::cover::Search;

/// What a rule is about: its objects without its exceptions.
#[derive(Debug)]
pub(super) struct Extent<'a, O> {
    pub objects: &'a [O],
    pub except: &'a [O],
}

impl<O> Clone for Extent<'_, O> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<O> Copy for Extent<'_, O> {}

impl<'a, O> Extent<'a, O> {
    pub fn of(rule: &'a Rule<O>) -> Self {
        Self { objects: &rule.objects, except: &rule.except }
    }
}

/// What rules are about.
pub(super) trait Object: Sized + PartialEq {
    /// As the language writes it.
    fn text(&self) -> &str;

    /// True for a host name.
    fn is_host(&self) -> bool {
        false
    }

    /// False where a glance shows that nothing is matched by both.
    fn could_meet(&self, other: &Self) -> bool;

    /// False only where certainly nothing is matched by both.
    fn may_meet(search: &mut Search, one: &Self, other: &Self) -> bool;

    /// True only where certainly all of `inner` lies in some of `outers`.
    fn surely_within(search: &mut Search, inner: Extent<'_, Self>, outers: &[Extent<'_, Self>]) -> bool;
}

impl Object for Pattern {
    fn text(&self) -> &str {
        self.text()
    }

    fn could_meet(&self, other: &Self) -> bool {
        super::cover::could_meet(self, other)
    }

    fn may_meet(search: &mut Search, one: &Self, other: &Self) -> bool {
        let one = Extent { objects: std::slice::from_ref(one), except: &[] };
        search.may_have(one, Some(std::slice::from_ref(other)), &[])
    }

    fn surely_within(search: &mut Search, inner: Extent<'_, Self>, outers: &[Extent<'_, Self>]) -> bool {
        !search.may_have(inner, None, outers)
    }
}

impl Object for Target {
    fn text(&self) -> &str {
        self.text()
    }

    fn is_host(&self) -> bool {
        self.is_host()
    }

    fn could_meet(&self, other: &Self) -> bool {
        let ((low, high), (other_low, other_high)) = (self.port_range(), other.port_range());
        let protocols =
            self.protocol.is_none() || other.protocol.is_none() || self.protocol == other.protocol;
        protocols && low <= other_high && other_low <= high && meanings_could_meet(self, other)
    }

    fn may_meet(search: &mut Search, one: &Self, other: &Self) -> bool {
        one.could_meet(other)
            && match (&one.meaning, &other.meaning) {
                (Meaning::Path(one), Meaning::Path(other))
                | (Meaning::Abstract(one), Meaning::Abstract(other)) => Object::may_meet(search, one, other),
                _ => true,
            }
    }

    fn surely_within(search: &mut Search, inner: Extent<'_, Self>, outers: &[Extent<'_, Self>]) -> bool {
        inner.objects.iter().all(|target| {
            let excepted = inner.except.iter().any(|except| lies_in(search, target, except));
            excepted
                || outers.iter().any(|outer| {
                    let kept = !outer.except.iter().any(|except| Object::may_meet(search, target, except));
                    kept && outer.objects.iter().any(|object| lies_in(search, target, object))
                })
        })
    }
}

fn meanings_could_meet(one: &Target, other: &Target) -> bool {
    let is_path = |target: &Target| matches!(target.meaning, Meaning::Path(_));
    let is_abstract = |target: &Target| matches!(target.meaning, Meaning::Abstract(_));
    match (&one.meaning, &other.meaning) {
        (Meaning::Addresses, Meaning::Addresses) => {
            one.prefixes.iter().any(|one| other.prefixes.iter().any(|other| overlap(*one, *other)))
        }
        // Names and listeners have addresses.
        _ => is_path(one) == is_path(other) && is_abstract(one) == is_abstract(other),
    }
}

/// True only where certainly all of `inner` is matched by `outer`.
fn lies_in(search: &mut Search, inner: &Target, outer: &Target) -> bool {
    if !outer.is_wherever(inner) {
        return false;
    }
    match (&inner.meaning, &outer.meaning) {
        (Meaning::Addresses, Meaning::Addresses) => {
            inner.prefixes.iter().all(|inner| outer.prefixes.iter().any(|outer| covers(*outer, *inner)))
        }
        (Meaning::Host { .. } | Meaning::Own, Meaning::Addresses) => outer.is_every_address(),
        (Meaning::Path(inner), Meaning::Path(outer))
        | (Meaning::Abstract(inner), Meaning::Abstract(outer)) => {
            let extent = |pattern| Extent { objects: std::slice::from_ref(pattern), except: &[] };
            Object::surely_within(search, extent(inner), &[extent(outer)])
        }
        (inner, outer) => inner == outer,
    }
}

fn covers(outer: Prefix, inner: Prefix) -> bool {
    match (outer, inner) {
        (Prefix::V4 { length, .. }, Prefix::V4 { bits, length: inner }) => {
            length <= inner && outer.contains(std::net::Ipv4Addr::from_bits(bits).into())
        }
        (Prefix::V6 { length, .. }, Prefix::V6 { bits, length: inner }) => {
            length <= inner && outer.contains(std::net::Ipv6Addr::from_bits(bits).into())
        }
        _ => false,
    }
}

fn overlap(one: Prefix, other: Prefix) -> bool {
    covers(one, other) || covers(other, one)
}
