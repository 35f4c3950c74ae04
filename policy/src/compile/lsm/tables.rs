//! A plan as the kernel's maps hold it: pages of cells, addresses and digests; and as bytes.

use sandbox_ebpf::abi::policy::{
    AddressKey, AddressNode, Automaton, CELLS_PER_PAGE, DigestKey, MAX_AUTOMATA, MAX_CELLS, MAX_DIGESTS,
    MAX_PREFIXES, PolicyHeader,
};

/// One entry of the address trie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressEntry {
    /// Length of the prefix in bits, the 32 of the policy's number included.
    pub prefix_len: u32,
    /// The policy's number, and the address.
    pub key: AddressKey,
    /// Which port ranges hold there.
    pub node: AddressNode,
}

/// What is written into the kernel's maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tables {
    /// The header; page 0 of the cells holds it too.
    pub header: PolicyHeader,
    /// All cells, numbered from 0, in whole pages.
    pub cells: Vec<u64>,
    /// The address trie, ascending by prefix length, then address.
    pub addresses: Vec<AddressEntry>,
    /// The digests that rules name, each with the number of its block.
    pub digests: Vec<(DigestKey, u32)>,
}

/// Why bytes are not the tables of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// They begin differently.
    #[error("these are not the tables of a plan, or those of another version")]
    Version,
    /// There are more or fewer of them than they say themselves.
    #[error("the tables are {found} bytes long where {expected} are announced")]
    Length {
        /// How many there are.
        found: usize,
        /// How many there should be.
        expected: usize,
    },
    /// More of something than there may be.
    #[error("the tables have {found} {what}, and may have {limit}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many there may be.
        limit: usize,
    },
}

/// What the bytes begin with; the last one is the version of the format.
const MAGIC: [u8; 8] = *b"SBXPLAN\x02";
/// Bytes of an entry of the trie: length, key, node.
const ADDRESS_BYTES: usize = 4 + 20 + 8;
/// Bytes of a digest's entry: key, block.
const DIGEST_BYTES: usize = 40 + 4;

impl Tables {
    /// Tables of a header and of cells, whose first page it becomes.
    pub(super) fn new(
        header: PolicyHeader,
        mut cells: Vec<u64>,
        addresses: Vec<AddressEntry>,
        digests: Vec<(DigestKey, u32)>,
    ) -> Self {
        for (cell, bytes) in cells.iter_mut().zip(header_bytes(&header).chunks(8)) {
            *cell = u64::from_le_bytes(padded(bytes));
        }
        Self { header, cells, addresses, digests }
    }

    /// The values of the map of pages, the first one with the header.
    pub fn pages(&self) -> impl Iterator<Item = [u64; CELLS_PER_PAGE]> {
        self.cells.chunks(CELLS_PER_PAGE).map(padded)
    }

    /// The tables as bytes, for [`Tables::from_bytes`].
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes();
        for count in [self.cells.len(), self.addresses.len(), self.digests.len()] {
            out.extend(number(count));
        }
        out.extend(self.cells.iter().flat_map(|cell| cell.to_le_bytes()));
        for AddressEntry { prefix_len, key, node } in &self.addresses {
            out.extend(prefix_len.to_le_bytes());
            // In network order on every machine.
            out.extend(key.policy_be.to_ne_bytes());
            out.extend(key.address);
            out.extend([node.first, node.count].map(u32::to_le_bytes).concat());
        }
        for (DigestKey { policy, part, digest }, block) in &self.digests {
            out.extend([*policy, *part].map(u32::to_le_bytes).concat());
            out.extend(digest);
            out.extend(block.to_le_bytes());
        }
        out
    }

    /// Reads what [`Tables::to_bytes`] wrote. What the cells say is not looked at: whoever reads them must expect
    /// anything.
    ///
    /// # Errors
    ///
    /// The bytes are of another version, too long or too short, or hold more than there may be.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut rest = bytes.strip_prefix(&MAGIC).ok_or(DecodeError::Version)?;
        let mut count = || -> Result<usize, DecodeError> {
            let (first, after) =
                rest.split_at_checked(4).ok_or(DecodeError::Length { found: bytes.len(), expected: 20 })?;
            rest = after;
            Ok(u32::from_le_bytes(padded(first)) as usize)
        };
        let counts = [count()?, count()?, count()?];
        let limits = [("cells", MAX_CELLS), ("prefixes", MAX_PREFIXES), ("digests", MAX_DIGESTS)];
        for (found, (what, limit)) in counts.into_iter().zip(limits) {
            if found > limit {
                return Err(DecodeError::TooMany { what, found, limit });
            }
        }
        let [cells, addresses, digests] = counts;
        let whole = cells.next_multiple_of(CELLS_PER_PAGE).max(CELLS_PER_PAGE);
        let body = cells * 8 + addresses * ADDRESS_BYTES + digests * DIGEST_BYTES;
        if rest.len() != body || cells != whole {
            let expected = 20 + body + (whole - cells) * 8;
            return Err(DecodeError::Length { found: bytes.len(), expected });
        }
        let (cells, rest) = rest.split_at(cells * 8);
        let (addresses, digests) = rest.split_at(addresses * ADDRESS_BYTES);
        let number = |bytes: &[u8]| u32::from_le_bytes(padded(bytes));
        let address = |bytes: &[u8]| AddressEntry {
            prefix_len: number(&bytes[..4]),
            key: AddressKey {
                policy_be: u32::from_ne_bytes(padded(&bytes[4..8])),
                address: padded(&bytes[8..24]),
            },
            node: AddressNode { first: number(&bytes[24..28]), count: number(&bytes[28..]) },
        };
        let digest = |bytes: &[u8]| {
            let [policy, part] = [&bytes[..4], &bytes[4..8]].map(number);
            (DigestKey { policy, part, digest: padded(&bytes[8..40]) }, number(&bytes[40..]))
        };
        Ok(Self {
            header: header(&cells[..HEADER_BYTES]),
            cells: cells.chunks(8).map(|bytes| u64::from_le_bytes(padded(bytes))).collect(),
            addresses: addresses.chunks(ADDRESS_BYTES).map(address).collect(),
            digests: digests.chunks(DIGEST_BYTES).map(digest).collect(),
        })
    }
}

/// An array of what is there; zeros behind it.
fn padded<T: Copy + Default, const N: usize>(from: &[T]) -> [T; N] {
    std::array::from_fn(|at| from.get(at).copied().unwrap_or_default())
}

const HEADER_BYTES: usize = size_of::<PolicyHeader>();

/// The header as it lies in memory.
fn header_bytes(header: &PolicyHeader) -> Vec<u8> {
    let PolicyHeader {
        id,
        automata,
        kernel_allow,
        net_default_deny,
        hashes,
        nameless_deny,
        parts,
        names,
        net_marks,
        unix,
        net_defaults,
        own,
        sets,
        subject,
        host,
        unix_path,
        unix_abstract,
        paths,
    } = header;
    let mut out = Vec::with_capacity(HEADER_BYTES);
    let flags = [parts, names, net_marks, unix];
    for field in
        [id, automata, kernel_allow, net_default_deny, hashes, nameless_deny].into_iter().chain(flags)
    {
        out.extend(field.to_le_bytes());
    }
    out.extend(net_defaults.iter().flat_map(|default| default.to_le_bytes()));
    out.extend([own.first, own.count].map(u32::to_le_bytes).concat());
    out.extend(sets.to_le_bytes());
    for Automaton { classes, start, dead, last, default_deny } in
        [subject, host, unix_path, unix_abstract].into_iter().chain(paths)
    {
        out.extend(classes.iter().flat_map(|class| class.to_le_bytes()));
        for field in [start, dead, last, default_deny] {
            out.extend(field.to_le_bytes());
        }
    }
    out
}

/// The header of [`HEADER_BYTES`].
fn header(bytes: &[u8]) -> PolicyHeader {
    let mut rest = bytes;
    let mut next = |length: usize| {
        let (field, after) = rest.split_at(length.min(rest.len()));
        rest = after;
        field
    };
    let mut number = || u32::from_le_bytes(padded(next(4)));
    let [id, automata, kernel_allow, net_default_deny, hashes, nameless_deny] =
        std::array::from_fn(|_| number());
    let [parts, names, net_marks, unix] = std::array::from_fn(|_| number());
    let net_defaults = std::array::from_fn(|_| u16::from_le_bytes(padded(next(2))));
    let mut number = || u32::from_le_bytes(padded(next(4)));
    let own = AddressNode { first: number(), count: number() };
    let sets = u64::from_le_bytes(padded(next(8)));
    let mut automaton = || {
        let classes = next(512);
        let classes =
            std::array::from_fn(|byte| u16::from_le_bytes(padded(&classes[2 * byte..2 * byte + 2])));
        let mut number = || u32::from_le_bytes(padded(next(4)));
        let [start, dead, last, default_deny] = std::array::from_fn(|_| number());
        Automaton { classes, start, dead, last, default_deny }
    };
    let [subject, host, unix_path, unix_abstract] = std::array::from_fn(|_| automaton());
    let paths: [Automaton; MAX_AUTOMATA] = std::array::from_fn(|_| automaton());
    PolicyHeader {
        id,
        automata,
        kernel_allow,
        net_default_deny,
        hashes,
        nameless_deny,
        parts,
        names,
        net_marks,
        unix,
        net_defaults,
        own,
        sets,
        subject,
        host,
        unix_path,
        unix_abstract,
        paths,
    }
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    /// A header of which each field differs from all others.
    fn telling() -> PolicyHeader {
        let mut header = PolicyHeader {
            id: 0x0101_0101,
            automata: 0x0202_0202,
            kernel_allow: 0x0303_0303,
            net_default_deny: 0x0404_0404,
            hashes: 0x0505_0505,
            nameless_deny: 0x60,
            parts: 0x61,
            names: 0x62,
            net_marks: 0x63,
            unix: 0x64,
            net_defaults: std::array::from_fn(|part| 0x6500 + u16::try_from(part).unwrap()),
            own: AddressNode { first: 0x6600, count: 0x67 },
            sets: 0x0606_0606_0606_0606,
            ..PolicyHeader::EMPTY
        };
        let PolicyHeader { subject, host, unix_path, unix_abstract, paths, .. } = &mut header;
        let automata = [subject, host, unix_path, unix_abstract].into_iter().chain(paths);
        for (at, automaton) in automata.enumerate() {
            let at = u16::try_from(at).unwrap();
            automaton.classes = std::array::from_fn(|byte| 0x1000 * (at % 8) + u16::try_from(byte).unwrap());
            automaton.start = 0x0700_0000 + u32::from(at);
            automaton.dead = 0x0800_0000 + u32::from(at);
            automaton.last = 0x0900_0000 + u32::from(at);
            automaton.default_deny = 0x0a00_0000 + u32::from(at);
        }
        header
    }

    #[test]
    fn the_header_lies_in_its_page_as_in_memory() {
        let tables = Tables::new(telling(), vec![0; CELLS_PER_PAGE], Vec::new(), Vec::new());
        let page: Vec<u8> = tables.cells.iter().flat_map(|cell| cell.to_le_bytes()).collect();
        assert_eq!(header_bytes(&tables.header).len(), HEADER_BYTES);
        let u32_at = |at: usize| u32::from_le_bytes(page[at..at + 4].try_into().unwrap());
        let header = telling();
        assert_eq!(u32_at(offset_of!(PolicyHeader, id)), header.id);
        assert_eq!(u32_at(offset_of!(PolicyHeader, automata)), header.automata);
        assert_eq!(u32_at(offset_of!(PolicyHeader, kernel_allow)), header.kernel_allow);
        assert_eq!(u32_at(offset_of!(PolicyHeader, net_default_deny)), header.net_default_deny);
        assert_eq!(u32_at(offset_of!(PolicyHeader, hashes)), header.hashes);
        assert_eq!(u32_at(offset_of!(PolicyHeader, nameless_deny)), 0x60);
        assert_eq!(u32_at(offset_of!(PolicyHeader, parts)), 0x61);
        assert_eq!(u32_at(offset_of!(PolicyHeader, names)), 0x62);
        assert_eq!(u32_at(offset_of!(PolicyHeader, net_marks)), 0x63);
        assert_eq!(u32_at(offset_of!(PolicyHeader, unix)), 0x64);
        for (part, default) in header.net_defaults.iter().enumerate() {
            let at = offset_of!(PolicyHeader, net_defaults) + 2 * part;
            assert_eq!(page[at..at + 2], default.to_le_bytes());
        }
        let own = offset_of!(PolicyHeader, own);
        assert_eq!(u32_at(own + offset_of!(AddressNode, first)), 0x6600);
        assert_eq!(u32_at(own + offset_of!(AddressNode, count)), 0x67);
        let sets = offset_of!(PolicyHeader, sets);
        assert_eq!(page[sets..sets + 8], header.sets.to_le_bytes());
        let paths = header.paths.iter().enumerate();
        let paths =
            paths.map(|(at, path)| (offset_of!(PolicyHeader, paths) + at * size_of::<Automaton>(), path));
        let others = [
            (offset_of!(PolicyHeader, subject), &header.subject),
            (offset_of!(PolicyHeader, host), &header.host),
            (offset_of!(PolicyHeader, unix_path), &header.unix_path),
            (offset_of!(PolicyHeader, unix_abstract), &header.unix_abstract),
        ];
        for (base, automaton) in others.into_iter().chain(paths) {
            for (byte, class) in automaton.classes.iter().enumerate() {
                let at = base + offset_of!(Automaton, classes) + 2 * byte;
                assert_eq!(page[at..at + 2], class.to_le_bytes());
            }
            assert_eq!(u32_at(base + offset_of!(Automaton, start)), automaton.start);
            assert_eq!(u32_at(base + offset_of!(Automaton, dead)), automaton.dead);
            assert_eq!(u32_at(base + offset_of!(Automaton, last)), automaton.last);
            assert_eq!(u32_at(base + offset_of!(Automaton, default_deny)), automaton.default_deny);
        }
        assert!(page[HEADER_BYTES..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn tables_survive_as_bytes_and_nothing_else_passes() {
        let key = AddressKey { policy_be: 7_u32.to_be(), address: [9; 16] };
        let tables = Tables::new(
            telling(),
            vec![0; 2 * CELLS_PER_PAGE],
            vec![AddressEntry { prefix_len: 40, key, node: AddressNode { first: 3, count: 4 } }],
            vec![(DigestKey { policy: 7, part: 2, digest: [5; 32] }, 99)],
        );
        let bytes = tables.to_bytes();
        assert_eq!(Tables::from_bytes(&bytes).as_ref(), Ok(&tables));
        assert_eq!(tables.pages().flatten().collect::<Vec<u64>>(), tables.cells);
        for length in (0..64).chain([bytes.len() - 1]) {
            assert!(Tables::from_bytes(&bytes[..length]).is_err(), "{length}");
        }
        let mut more = bytes.clone();
        more.push(0);
        assert!(matches!(Tables::from_bytes(&more), Err(DecodeError::Length { .. })));
        let mut huge = bytes.clone();
        huge[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(Tables::from_bytes(&huge), Err(DecodeError::TooMany { what: "cells", .. })));
        let mut other = bytes;
        other[7] += 1;
        assert_eq!(Tables::from_bytes(&other), Err(DecodeError::Version));
    }
}
