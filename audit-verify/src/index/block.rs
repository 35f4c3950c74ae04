//! What a row of `block` says of a stretch of rows of `event`: which rows have which values.
//!
//! Questions are answered from these alone, so they must be exactly what the rows say. [`super::compare()`]
//! makes them again from the rows and compares every byte.

use super::lists::{BLOCK_ROWS, write_list, write_moment};
use super::row::{NUMBERS, STRINGS};

/// A column that has a list in each block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// Type of event.
    Type,
    /// Action.
    Action,
    /// Results, of rows where it is below zero.
    Ret,
    /// Rule.
    PolicyRule,
    /// The other end's port.
    DstPort,
    /// The other end's address.
    DstIp,
    /// The other end's name.
    Host,
    /// The other end's name in TLS.
    Sni,
    /// Second path.
    Path2,
    /// Executable.
    Exe,
    /// Process.
    Pid,
    /// Path.
    Path,
}

/// How many columns have lists.
pub(super) const FIELDS: usize = 12;

impl Field {
    /// All, in the order of the columns of `block` and of the variants: what is short stands first.
    pub const ALL: [Field; FIELDS] = [
        Field::Type,
        Field::Action,
        Field::Ret,
        Field::PolicyRule,
        Field::DstPort,
        Field::DstIp,
        Field::Host,
        Field::Sni,
        Field::Path2,
        Field::Exe,
        Field::Pid,
        Field::Path,
    ];

    /// The column's name, in `event` as in `block`.
    pub fn name(self) -> &'static str {
        match self {
            Field::Type => "type",
            Field::Action => "action",
            Field::Ret => "ret",
            Field::PolicyRule => "policy_rule",
            Field::DstPort => "dst_port",
            Field::DstIp => "dst_ip",
            Field::Host => "host",
            Field::Sni => "sni",
            Field::Path2 => "path2",
            Field::Exe => "exe",
            Field::Pid => "pid",
            Field::Path => "path",
        }
    }
}

/// Columns of `block` before those of [`Field::ALL`].
pub(super) const HEAD: [&str; 4] = ["first", "rows", "earliest", "latest"];

/// The column of `block` behind those of [`Field::ALL`].
pub const MOMENTS: &str = "wall_ns";

/// The columns of `block` in their order, for SQL.
pub fn block_columns() -> String {
    let fields = Field::ALL.map(Field::name);
    HEAD.iter().chain(&fields).chain(&[MOMENTS]).copied().collect::<Vec<_>>().join(", ")
}

/// A row of `block`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// `seq` of its first row.
    pub first: i64,
    /// How many rows it tells of.
    pub rows: usize,
    /// The least `wall_ns` of them.
    pub earliest: i64,
    /// The greatest.
    pub latest: i64,
    /// The lists of [`Field::ALL`].
    pub lists: [Vec<u8>; FIELDS],
    /// Their `wall_ns`, one by one.
    pub moments: Vec<u8>,
}

impl Block {
    /// The list of a column.
    pub fn list(&self, field: Field) -> &[u8] {
        &self.lists[field as usize]
    }
}

/// Gathers rows until they are a block.
#[derive(Debug)]
pub struct BlockBuilder {
    next: i64,
    rows: usize,
    earliest: i64,
    latest: i64,
    last: i64,
    moments: Vec<u8>,
    lists: [Vec<(i64, u16)>; FIELDS],
}

impl BlockBuilder {
    /// Begins a block with row `first`.
    pub fn new(first: i64) -> Self {
        BlockBuilder {
            next: first,
            rows: 0,
            earliest: i64::MAX,
            latest: i64::MIN,
            last: 0,
            moments: Vec::new(),
            lists: Default::default(),
        }
    }

    /// Adds the next row: its [`NUMBERS`], and the numbers of its [`STRINGS`]. Returns the block that it fills.
    #[inline]
    pub fn push(
        &mut self,
        numbers: &[Option<i64>; NUMBERS.len()],
        strings: &[Option<i64>; STRINGS.len()],
    ) -> Option<Block> {
        let [wall_ns, _, pid, _, _, dst_port, ret, _, _] = *numbers;
        let [kind, action, _, exe, path, path2, dst_ip, host, sni, rule, _] = *strings;
        let ret = ret.filter(|ret| *ret < 0);
        let values = [kind, action, ret, rule, dst_port, dst_ip, host, sni, path2, exe, pid, path];
        for (list, value) in self.lists.iter_mut().zip(values) {
            if let Some(value) = value {
                list.push((value, self.rows as u16));
            }
        }
        // A row without a moment is none of ours, and differs before its block does.
        let moment = wall_ns.unwrap_or(0);
        write_moment(moment, self.last, &mut self.moments);
        self.last = moment;
        self.earliest = self.earliest.min(moment);
        self.latest = self.latest.max(moment);
        self.rows += 1;
        if self.rows == BLOCK_ROWS { self.take() } else { None }
    }

    /// The block of the rows that are there, if there are any. The next row begins another.
    pub fn take(&mut self) -> Option<Block> {
        if self.rows == 0 {
            return None;
        }
        let first = self.next;
        let lists = self.lists.each_mut().map(|rows| {
            let mut list = Vec::new();
            write_list(rows, &mut list);
            rows.clear();
            list
        });
        let block = Block {
            first,
            rows: self.rows,
            earliest: self.earliest,
            latest: self.latest,
            lists,
            moments: std::mem::take(&mut self.moments),
        };
        self.next = first + self.rows as i64;
        (self.rows, self.last, self.earliest, self.latest) = (0, 0, i64::MAX, i64::MIN);
        Some(block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::lists::{ListFault, RowSet, read_list, read_moments};

    /// Each column has a number of its own, and must turn up under its own name.
    #[test]
    fn each_list_is_of_the_column_of_its_name() {
        let numbers: [Option<i64>; NUMBERS.len()] = std::array::from_fn(|at| Some(-1 - at as i64));
        let strings: [Option<i64>; STRINGS.len()] = std::array::from_fn(|at| Some(100 + at as i64));
        let mut builder = BlockBuilder::new(1);
        assert_eq!(builder.push(&numbers, &strings), None);
        let block = builder.take().unwrap();
        for field in Field::ALL {
            let list = block.list(field);
            let number = NUMBERS.iter().position(|name| *name == field.name()).and_then(|at| numbers[at]);
            let string = STRINGS.iter().position(|name| *name == field.name()).and_then(|at| strings[at]);
            let expected = number.or(string).unwrap();
            let mut found = RowSet::none();
            read_list(list, 1, |value| Ok::<_, ListFault>(value == expected), &mut found).unwrap();
            assert_eq!(found.count(), 1, "{field:?}");
        }
        assert_eq!((block.earliest, block.latest), (-1, -1));
        assert_eq!(read_moments(&block.moments, 1, -1, -1).unwrap().count(), 1);
    }

    #[test]
    fn a_block_is_handed_out_when_it_is_full() {
        let mut builder = BlockBuilder::new(1);
        let (mut numbers, strings) = ([None; NUMBERS.len()], [None; STRINGS.len()]);
        let mut blocks = Vec::new();
        for at in 0..BLOCK_ROWS as i64 + 3 {
            numbers[0] = Some(-at);
            blocks.extend(builder.push(&numbers, &strings));
        }
        blocks.extend(builder.take());
        assert_eq!(builder.take(), None);
        let heads: Vec<_> = blocks.iter().map(|b| (b.first, b.rows, b.earliest, b.latest)).collect();
        assert_eq!(heads, [(1, 65_536, -65_535, 0), (65_537, 3, -65_538, -65_536)]);
        let last = read_moments(&blocks[1].moments, 3, -65_537, 0).unwrap();
        assert!(last.iter().eq([0, 1]));
    }
}
