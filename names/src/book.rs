//! The book of leases: by which names addresses are known, and until when.
//!
//! Pure: the caller says what time it is, in nanoseconds of CLOCK_BOOTTIME. Ended leases stay for five minutes,
//! because events are told a little later than they happen.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Most addresses that are known at a time.
pub const MAX_ADDRESSES: usize = 65_536;
/// Most leases, each of one address by one name without a gap.
pub const MAX_LEASES: usize = 2 * MAX_ADDRESSES;
/// How long an ended lease is kept, in nanoseconds.
pub const KEPT_NS: u64 = 300 * 1_000_000_000;

/// The book is full; nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// [`MAX_ADDRESSES`] are known.
    #[error("know more than {MAX_ADDRESSES} addresses by name")]
    Addresses,
    /// There are [`MAX_LEASES`].
    #[error("know addresses by more than {MAX_LEASES} names")]
    Leases,
}

/// From when until when, which is no longer part of it.
#[derive(Clone, Copy, Debug)]
struct Span {
    from: u64,
    until: u64,
}

/// The leases of one address by one name: ascending, with gaps between them.
type Spans = Vec<Span>;

/// Which addresses are known by which names. IPv4-mapped addresses are their IPv4 addresses.
#[derive(Debug)]
pub struct Book {
    addresses: HashMap<IpAddr, HashMap<Arc<str>, Spans>>,
    leases: usize,
    most: (usize, usize),
}

impl Default for Book {
    fn default() -> Book {
        Book { addresses: HashMap::new(), leases: 0, most: (MAX_ADDRESSES, MAX_LEASES) }
    }
}

impl Book {
    /// Writes that the addresses are known by the name from `now` until the times beside them. A lease that has not
    /// ended is made longer, never shorter. `now` is not before the last call's.
    ///
    /// # Errors
    ///
    /// There is no room for all of them: then none is written.
    pub fn open(&mut self, name: &str, addresses: &[(IpAddr, u64)], now: u64) -> Result<(), Full> {
        // Those that stand twice in the list are counted twice: it is only near the limit that this is seen.
        let (mut more_addresses, mut more_leases) = (0, 0);
        for (address, until) in addresses {
            let names = self.addresses.get(&address.to_canonical());
            more_addresses += usize::from(names.is_none());
            let last = names.and_then(|names| names.get(name)).and_then(|spans| spans.last());
            more_leases += usize::from(*until > now && last.is_none_or(|last| last.until < now));
        }
        if self.addresses.len() + more_addresses > self.most.0 {
            return Err(Full::Addresses);
        }
        if self.leases + more_leases > self.most.1 {
            return Err(Full::Leases);
        }
        let name: Arc<str> = name.into();
        for (address, until) in addresses.iter().filter(|(_, until)| *until > now) {
            let spans = self.addresses.entry(address.to_canonical()).or_default().entry(Arc::clone(&name));
            let spans = spans.or_default();
            match spans.last_mut().filter(|last| last.until >= now) {
                Some(last) => last.until = last.until.max(*until),
                None => {
                    spans.push(Span { from: now, until: *until });
                    self.leases += 1;
                }
            }
        }
        Ok(())
    }

    /// By which names the address was known at the time, in alphabetical order. What ended more than five minutes
    /// before the last [`Book::prune`] is forgotten.
    pub fn names_at(&self, address: IpAddr, time: u64) -> Vec<&str> {
        let at = |spans: &Spans| spans.iter().any(|span| (span.from..span.until).contains(&time));
        let names = self.addresses.get(&address.to_canonical()).into_iter().flatten();
        let mut names: Vec<&str> = names.filter(|(_, spans)| at(spans)).map(|(name, _)| &**name).collect();
        names.sort_unstable();
        names
    }

    /// By which names the address is known now, in alphabetical order, and until when.
    pub fn live(&self, address: IpAddr, now: u64) -> Vec<(&str, u64)> {
        let names = self.addresses.get(&address.to_canonical()).into_iter().flatten();
        let last = names.filter_map(|(name, spans)| Some((&**name, spans.last()?)));
        let mut live: Vec<_> = last
            .filter(|(_, span)| span.from <= now && now < span.until)
            .map(|(name, span)| (name, span.until))
            .collect();
        live.sort_unstable();
        live
    }

    /// All addresses that it knows, in no order.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.keys().copied()
    }

    /// Forgets what ended more than five minutes ago. Gives the addresses that are no longer known at all.
    pub fn prune(&mut self, now: u64) -> Vec<IpAddr> {
        let oldest = now.saturating_sub(KEPT_NS);
        let (mut leases, mut forgotten) = (0, Vec::new());
        self.addresses.retain(|address, names| {
            names.retain(|_, spans| {
                spans.retain(|span| span.until > oldest);
                leases += spans.len();
                !spans.is_empty()
            });
            if names.is_empty() {
                forgotten.push(*address);
            }
            !names.is_empty()
        });
        self.leases = leases;
        forgotten
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn address(number: u8) -> IpAddr {
        [192, 0, 2, number].into()
    }

    #[test]
    fn leases_end_are_kept_and_forgotten() {
        let mut book = Book::default();
        book.open("a.example", &[(address(1), 100), (address(2), 200)], 10).unwrap();
        book.open("b.example", &[("::ffff:192.0.2.1".parse().unwrap(), 300)], 20).unwrap();
        assert_eq!(book.live(address(1), 50), [("a.example", 100), ("b.example", 300)]);
        assert_eq!(book.live(address(1), 100), [("b.example", 300)]);
        assert_eq!(book.names_at(address(1), 15), ["a.example"]);
        assert_eq!(book.names_at(address(1), 9), [""; 0]);
        book.open("a.example", &[(address(1), 90)], 95).unwrap();
        assert_eq!(book.live(address(1), 99), [("a.example", 100), ("b.example", 300)], "never shorter");
        assert!(book.prune(KEPT_NS + 199).is_empty());
        assert_eq!(book.names_at(address(2), 199), ["a.example"]);
        assert_eq!(book.prune(KEPT_NS + 200), [address(2)]);
        assert_eq!(book.names_at(address(1), 50), ["b.example"]);
        assert_eq!(book.prune(KEPT_NS + 300), [address(1)]);
        assert_eq!(book.leases, 0);
    }

    #[test]
    fn a_gap_stays_a_gap() {
        let mut book = Book::default();
        book.open("a", &[(address(1), 20)], 10).unwrap();
        book.open("a", &[(address(1), 40)], 30).unwrap();
        let known: Vec<u64> = (0..50).filter(|time| !book.names_at(address(1), *time).is_empty()).collect();
        assert_eq!(known, (10..20).chain(30..40).collect::<Vec<_>>());
    }

    #[test]
    fn a_full_book_takes_nothing() {
        let mut book = Book { most: (2, 3), ..Book::default() };
        book.open("a", &[(address(1), 100)], 0).unwrap();
        assert_eq!(book.open("a", &[(address(2), 100), (address(3), 100)], 1), Err(Full::Addresses));
        assert!(book.live(address(2), 1).is_empty());
        book.open("a", &[(address(1), 150), (address(2), 150)], 2).unwrap();
        book.open("b", &[(address(1), 100)], 2).unwrap();
        assert_eq!(book.open("c", &[(address(1), 100)], 3), Err(Full::Leases));
        book.open("b", &[(address(1), 200)], 3).unwrap();
        book.prune(KEPT_NS + 150);
        book.open("c", &[(address(3), u64::MAX)], KEPT_NS + 150).unwrap();
    }

    /// All that was ever opened: name, address, from, until.
    type Model = Vec<(u8, u8, u64, u64)>;

    proptest! {
        #[test]
        fn is_what_a_list_of_all_leases_says(
            steps in prop::collection::vec((0..3_u8, 0..3_u8, 0..200_u64, 0..300_u64, any::<bool>()), 1..60),
        ) {
            const SECOND: u64 = 1_000_000_000;
            let (mut book, mut model, mut now) = (Book::default(), Model::new(), 0);
            for (name, number, wait, lifetime, prune) in steps {
                now += wait * SECOND;
                if prune {
                    book.prune(now);
                }
                let until = now + lifetime * SECOND;
                book.open(&name.to_string(), &[(address(number), until)], now).unwrap();
                model.push((name, number, now, until));
                for number in 0..3 {
                    for ago in [0, 1, 50, 100, 200, 299] {
                        let Some(time) = now.checked_sub(ago * SECOND) else { continue };
                        let names: BTreeSet<String> = model
                            .iter()
                            .filter(|(_, at, from, until)| *at == number && (*from..*until).contains(&time))
                            .map(|(name, ..)| name.to_string())
                            .collect();
                        let found = book.names_at(address(number), time);
                        prop_assert_eq!(&found, &names.iter().map(String::as_str).collect::<Vec<_>>());
                        if ago == 0 {
                            let until = |name: &str| {
                                model.iter().filter(|(n, at, ..)| n.to_string() == name && *at == number)
                                    .map(|(.., until)| *until).max()
                            };
                            for (name, end) in book.live(address(number), now) {
                                prop_assert_eq!(Some(end), until(name));
                            }
                            let live: Vec<_> =
                                book.live(address(number), now).into_iter().map(|(name, _)| name).collect();
                            prop_assert_eq!(live, found);
                        }
                    }
                }
            }
            prop_assert_eq!(book.leases, book.addresses.values().flat_map(HashMap::values).map(Vec::len).sum::<usize>());
        }
    }
}
