//! Lists of rows by value, and sets of rows: the bytes of the columns of `block`.
//!
//! ```text
//! list    = (value, rows)…              values ascending, each once
//! value   = varint                      what it is above the one before; the first, above -2^63
//! rows    = varint N, N bytes of gaps   N is not zero
//!         | varint 0, 8192 bytes        row R is bit R % 8 of byte R / 8
//! gaps    = varint…                     how many rows lie between a row and the one before it
//! moments = varint…                     difference to the moment before; the first, to 0; zigzag
//! varint  = seven bits a byte, the lowest first, the high bit in all but the last
//! ```
//!
//! Rows are counted from 0, the first of their block. Gaps are written where they are shorter than bits. So
//! one content has one form. Readers take hostile bytes.

/// Rows of a block but the last, which may have fewer.
pub const BLOCK_ROWS: usize = 1 << 16;

/// Bytes of a set of rows as bits.
const BITS: usize = BLOCK_ROWS / 8;

/// Bytes that are no list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a list of a block is damaged")]
pub struct ListFault;

/// Rows of one block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowSet {
    words: Vec<u64>,
}

impl RowSet {
    /// No row.
    pub fn none() -> Self {
        RowSet { words: vec![0; BLOCK_ROWS / 64] }
    }

    /// The first `rows` rows, at most [`BLOCK_ROWS`].
    pub fn first(rows: usize) -> Self {
        let mut set = RowSet::none();
        let rows = rows.min(BLOCK_ROWS);
        set.words[..rows / 64].fill(u64::MAX);
        if !rows.is_multiple_of(64) {
            set.words[rows / 64] = (1 << (rows % 64)) - 1;
        }
        set
    }

    /// Keeps the rows that `other` has too.
    pub fn intersect(&mut self, other: &RowSet) {
        self.words.iter_mut().zip(&other.words).for_each(|(word, other)| *word &= other);
    }

    /// Adds the rows of `other`.
    pub fn unite(&mut self, other: &RowSet) {
        self.words.iter_mut().zip(&other.words).for_each(|(word, other)| *word |= other);
    }

    /// How many rows.
    pub fn count(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Whether it has no row.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Whether it has row `at`, which is less than [`BLOCK_ROWS`].
    pub fn has(&self, at: usize) -> bool {
        self.words[at / 64] >> (at % 64) & 1 == 1
    }

    /// The rows, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(at, word)| {
            let left = std::iter::successors(Some(*word), |left| Some(left & left.wrapping_sub(1)));
            left.take_while(|left| *left != 0).map(move |left| at * 64 + left.trailing_zeros() as usize)
        })
    }

    fn insert(&mut self, at: usize) {
        self.words[at / 64] |= 1 << (at % 64);
    }

    /// Adds what 8192 bytes say.
    fn unite_bits(&mut self, bits: &[u8]) {
        for (word, bytes) in self.words.iter_mut().zip(bits.as_chunks().0) {
            *word |= u64::from_le_bytes(*bytes);
        }
    }
}

/// Writes the list of these values and rows, which may be in any order of values; rows of a value ascend.
pub(super) fn write_list(rows: &mut [(i64, u16)], out: &mut Vec<u8>) {
    // Stable, so that rows still ascend, and quick where values come in runs.
    rows.sort_by_key(|(value, _)| *value);
    let mut before = i64::MIN;
    let mut gaps = Vec::new();
    for of_one in rows.chunk_by(|one, next| one.0 == next.0) {
        let value = of_one[0].0;
        put(out, value.wrapping_sub(before) as u64);
        before = value;
        gaps.clear();
        let mut next = 0;
        for (_, row) in of_one {
            put(&mut gaps, u64::from(u32::from(*row) - next));
            next = u32::from(*row) + 1;
        }
        if gaps.len() < BITS {
            put(out, gaps.len() as u64);
            out.extend_from_slice(&gaps);
        } else {
            put(out, 0);
            let from = out.len();
            out.resize(from + BITS, 0);
            of_one.iter().for_each(|(_, row)| out[from + usize::from(*row) / 8] |= 1 << (row % 8));
        }
    }
}

/// Adds to `found` the rows of all values that are `wanted`. The block has `rows` rows.
///
/// # Errors
/// `list` is none, or tells of rows that the block does not have; or `wanted` fails.
pub fn read_list<E: From<ListFault>>(
    list: &[u8],
    rows: usize,
    mut wanted: impl FnMut(i64) -> Result<bool, E>,
    found: &mut RowSet,
) -> Result<(), E> {
    let mut rest = list;
    let mut value = i64::MIN;
    let all = RowSet::first(rows);
    while !rest.is_empty() {
        value = value.wrapping_add(get(&mut rest)? as i64);
        let length = usize::try_from(get(&mut rest)?).map_err(|_| ListFault)?;
        let gaps = if length == 0 { BITS } else { length };
        let (of_one, behind) = rest.split_at_checked(gaps).ok_or(ListFault)?;
        rest = behind;
        if !wanted(value)? {
            continue;
        }
        if length == 0 {
            let mut set = RowSet::none();
            set.unite_bits(of_one);
            found.unite(&set);
            set.intersect(&all);
            if set.count() != of_one.iter().map(|byte| u64::from(byte.count_ones())).sum() {
                return Err(ListFault.into());
            }
        } else {
            read_gaps(of_one, rows, found)?;
        }
    }
    Ok(())
}

fn read_gaps(mut gaps: &[u8], rows: usize, found: &mut RowSet) -> Result<(), ListFault> {
    let mut next = 0usize;
    while !gaps.is_empty() {
        let gap = usize::try_from(get(&mut gaps)?).map_err(|_| ListFault)?;
        let row = next.checked_add(gap).filter(|row| *row < rows.min(BLOCK_ROWS)).ok_or(ListFault)?;
        found.insert(row);
        next = row + 1;
    }
    Ok(())
}

/// Writes moments one behind the other; each is written as its difference to `before`.
pub(super) fn write_moment(moment: i64, before: i64, out: &mut Vec<u8>) {
    let difference = moment.wrapping_sub(before);
    put(out, (difference << 1 ^ difference >> 63) as u64);
}

/// The rows of a block whose moments lie between two, both included. The block has `rows` rows.
///
/// # Errors
/// `moments` are none, or not so many.
pub fn read_moments(moments: &[u8], rows: usize, since: i64, until: i64) -> Result<RowSet, ListFault> {
    let mut rest = moments;
    let mut found = RowSet::none();
    let mut moment = 0i64;
    for row in 0..rows.min(BLOCK_ROWS) {
        let difference = get(&mut rest)?;
        moment = moment.wrapping_add((difference >> 1) as i64 ^ -((difference & 1) as i64));
        if (since..=until).contains(&moment) {
            found.insert(row);
        }
    }
    if rest.is_empty() { Ok(found) } else { Err(ListFault) }
}

fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

#[inline]
fn get(from: &mut &[u8]) -> Result<u64, ListFault> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first().ok_or(ListFault)?;
        *from = rest;
        // The tenth byte has one bit left.
        if shift == 63 && *byte > 1 {
            return Err(ListFault);
        }
        number |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return Ok(number);
        }
    }
    Err(ListFault)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn set(rows: &BTreeSet<usize>) -> RowSet {
        let mut set = RowSet::none();
        rows.iter().for_each(|row| set.insert(*row));
        set
    }

    fn find(list: &[u8], rows: usize, value: i64) -> Result<RowSet, ListFault> {
        let mut found = RowSet::none();
        read_list(list, rows, |other| Ok::<_, ListFault>(other == value), &mut found).map(|()| found)
    }

    #[test]
    fn sets_are_sets() {
        for rows in [0, 1, 63, 64, 65, 1000, BLOCK_ROWS, BLOCK_ROWS + 1] {
            let first = RowSet::first(rows);
            assert_eq!(first.count(), rows.min(BLOCK_ROWS) as u64);
            assert!(first.iter().eq(0..rows.min(BLOCK_ROWS)));
            assert_eq!(first.is_empty(), rows == 0);
        }
        let (mut some, other) = (set(&[1, 64, 65].into()), set(&[0, 64].into()));
        some.intersect(&other);
        assert!(some.has(64) && some.iter().eq([64]));
        some.unite(&other);
        assert!(some.iter().eq([0, 64]));
    }

    /// One value that most rows have, one that half have, many that are rare.
    #[test]
    fn every_form_of_rows_is_read_back() {
        let value = |row: usize| match row % 8 {
            0..6 => i64::MIN,
            6 => i64::MAX,
            _ => row as i64,
        };
        let mut pairs: Vec<_> = (0..BLOCK_ROWS).map(|row| (value(row), row as u16)).collect();
        let mut list = Vec::new();
        write_list(&mut pairs, &mut list);
        for wanted in [i64::MIN, i64::MAX, 7, 65_535, 8, -1] {
            let expected: BTreeSet<usize> = (0..BLOCK_ROWS).filter(|row| value(*row) == wanted).collect();
            assert_eq!(find(&list, BLOCK_ROWS, wanted), Ok(set(&expected)), "{wanted}");
        }
        assert_eq!(
            find(&list, BLOCK_ROWS - 8, i64::MIN),
            Err(ListFault),
            "rows that the block does not have"
        );
        assert_eq!(find(&list, BLOCK_ROWS - 8, 65_535), Err(ListFault));
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_back(
            rows in proptest::collection::vec(prop_oneof![-3i64..3, any::<i64>()], 0..300),
        ) {
            let mut pairs: Vec<_> = rows.iter().enumerate().map(|(row, value)| (*value, row as u16)).collect();
            let mut list = Vec::new();
            write_list(&mut pairs, &mut list);
            let mut expected: BTreeMap<i64, BTreeSet<usize>> = BTreeMap::new();
            for (row, value) in rows.iter().enumerate() {
                expected.entry(*value).or_default().insert(row);
            }
            for (value, of_one) in &expected {
                prop_assert_eq!(find(&list, rows.len(), *value), Ok(set(of_one)));
            }
            let mut moments = Vec::new();
            let mut before = 0;
            for moment in &rows {
                write_moment(*moment, before, &mut moments);
                before = *moment;
            }
            for (since, until) in [(i64::MIN, i64::MAX), (-1, 1), (1, -1), (0, i64::MAX)] {
                let between = (0..rows.len()).filter(|row| (since..=until).contains(&rows[*row])).collect();
                prop_assert_eq!(read_moments(&moments, rows.len(), since, until), Ok(set(&between)));
            }
            prop_assert_eq!(read_moments(&moments, rows.len() + 1, 0, 1), Err(ListFault));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), rows in 0usize..200) {
            let mut found = RowSet::none();
            let read = read_list(&bytes, rows, |_| Ok::<_, ListFault>(true), &mut found);
            prop_assert!(read.is_err() || found.iter().all(|row| row < rows));
            let _ = read_moments(&bytes, rows, 0, i64::MAX);
        }
    }
}
