//! The conditions of a [`Filter`], put to an index block by block.
//!
//! Each condition picks a set of rows of a block, which the block's lists say without a look at the rows. The
//! sets are put together, and what is left are the rows that match. Of rows that no block tells of yet (the run
//! goes on) one is made first, so there is one way to answer.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use audit_verify::index::lists::{BLOCK_ROWS, ListFault, RowSet, read_list, read_moments};
use audit_verify::index::{Block, BlockBuilder, Field, MOMENTS, NUMBERS, STRINGS, columns};
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::destination::{Destination, Place};
use super::filter::{Filter, Outcome, Prefix, UNDER_WAY, rule_matches};
use crate::record::index::{BlockHead, OpenIndex};

/// How far apart rows may stand to be read in one go.
const NEAR: usize = 8;

/// An index that gives no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// SQLite's answer.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// What it says of a block cannot be read.
    #[error(transparent)]
    List(#[from] ListFault),
    /// A block tells of a row that is not there.
    #[error("it has no row for seq {0}")]
    NoRow(i64),
}

/// A condition on rows.
enum Condition<'q> {
    /// A column has one of some values.
    Value(Field, Wanted<'q>),
    /// `wall_ns` lies between two moments, both included.
    Between(i64, i64),
    /// All of these hold.
    All(Vec<Condition<'q>>),
    /// One of these holds.
    Any(Vec<Condition<'q>>),
}

/// Values of a column.
enum Wanted<'q> {
    /// These, ascending.
    Numbers(Rc<[i64]>),
    /// Results of attempts that failed.
    Failures,
    /// Numbers of strings that something is true of.
    Strings(Strings<'q>),
}

/// Something that may be true of a string.
type StringTest<'q> = dyn Fn(&[u8]) -> bool + 'q;

/// Whether something is true of a string, asked once for each.
struct Strings<'q> {
    wanted: Box<StringTest<'q>>,
    known: RefCell<HashMap<i64, bool>>,
}

fn strings<'q>(field: Field, wanted: impl Fn(&[u8]) -> bool + 'q) -> Condition<'q> {
    let known = RefCell::default();
    Condition::Value(field, Wanted::Strings(Strings { wanted: Box::new(wanted), known }))
}

/// Where a row's line stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    /// `seq` of the line.
    pub seq: u64,
    /// Its first byte in the log.
    pub offset: u64,
    /// Its bytes, without the newline.
    pub length: usize,
}

/// How many rows are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// All of them.
    All,
    /// The first so many.
    First(usize),
}

/// A filter's conditions, text left aside, as an index has them.
pub struct Question<'q> {
    index: &'q OpenIndex,
    conditions: Vec<Condition<'q>>,
}

impl<'q> Question<'q> {
    /// Reads in the index what the conditions of a filter mean there.
    pub fn new(index: &'q OpenIndex, filter: &'q Filter) -> Result<Self, AskError> {
        Ok(Question { index, conditions: conditions(&index.connection, filter)? })
    }

    /// How many rows match.
    pub fn count(&self) -> Result<u64, AskError> {
        let mut count = 0;
        self.each_block(|_, rows| {
            count += rows.count();
            Ok::<_, AskError>(true)
        })?;
        Ok(count)
    }

    /// Hands on where the lines of the rows that match stand, in order, until `each` fails.
    pub fn spots<E: From<AskError> + From<rusqlite::Error>>(
        &self,
        wish: Wish,
        mut each: impl FnMut(Spot) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut left = match wish {
            Wish::All => usize::MAX,
            Wish::First(0) => return Ok(()),
            Wish::First(first) => first,
        };
        self.each_block(|first, rows| {
            self.spots_of(first, rows, &mut left, &mut each)?;
            Ok::<_, E>(left > 0)
        })
    }

    /// Hands on the rows that match, block by block, each with the `seq` of the block's first row; as long as
    /// `each` says that more are wanted.
    fn each_block<E: From<AskError>>(
        &self,
        mut each: impl FnMut(i64, &RowSet) -> Result<bool, E>,
    ) -> Result<(), E> {
        let mut next = 1;
        for head in &self.index.blocks {
            let view = View { head: *head, lists: Lists::Stored(&self.index.connection) };
            if !each(head.first, &view.matching(&self.conditions)?)? {
                return Ok(());
            }
            next = head.first + head.rows as i64;
        }
        let rows = i64::try_from(self.index.rows).unwrap_or(i64::MAX);
        while next <= rows {
            let view = made(&self.index.connection, next)?;
            if !each(next, &view.matching(&self.conditions)?)? {
                return Ok(());
            }
            next += view.head.rows as i64;
        }
        Ok(())
    }

    /// Hands on the rows `wanted` of a block, at most `left`, which is not zero.
    fn spots_of<E: From<AskError> + From<rusqlite::Error>>(
        &self,
        first: i64,
        wanted: &RowSet,
        left: &mut usize,
        each: &mut impl FnMut(Spot) -> Result<(), E>,
    ) -> Result<(), E> {
        let select = "SELECT seq, offset, length FROM event WHERE seq BETWEEN ? AND ? ORDER BY seq";
        let mut select = self.index.connection.prepare_cached(select)?;
        let no_row = |at: usize| AskError::NoRow(first + at as i64);
        let mut due = wanted.iter();
        for (from, to) in stretches(wanted) {
            let mut rows = select.query([first + from as i64, first + to as i64])?;
            while let Some(row) = rows.next()? {
                let number = |at| row.get::<_, i64>(at);
                let seq = number(0)?;
                let at = (seq - first) as usize;
                if !wanted.has(at) {
                    continue;
                }
                if let Some(missing) = due.next().filter(|due| *due != at) {
                    return Err(no_row(missing).into());
                }
                // What is below zero becomes a place far beyond any log, and is found not to be there.
                each(Spot { seq: seq as u64, offset: number(1)? as u64, length: number(2)? as usize })?;
                *left -= 1;
                if *left == 0 {
                    return Ok(());
                }
            }
        }
        due.next().map_or(Ok(()), |missing| Err(no_row(missing).into()))
    }
}

/// First and last rows of stretches that are read in one go.
fn stretches(rows: &RowSet) -> impl Iterator<Item = (usize, usize)> {
    let mut ahead = rows.iter().peekable();
    std::iter::from_fn(move || {
        let from = ahead.next()?;
        let mut to = from;
        while let Some(next) = ahead.next_if(|next| *next - to <= NEAR) {
            to = next;
        }
        Some((from, to))
    })
}

/// A block, to be asked.
struct View<'c> {
    head: BlockHead,
    lists: Lists<'c>,
}

/// Where the lists of a block are.
enum Lists<'c> {
    /// In the index.
    Stored(&'c Connection),
    /// Made from rows just now.
    Made(&'c Connection, Box<Block>),
}

/// The block of the rows from `seq` on, which is not in the index.
fn made(connection: &Connection, seq: i64) -> Result<View<'_>, AskError> {
    let select = format!("SELECT {} FROM event WHERE seq >= ? ORDER BY seq LIMIT {BLOCK_ROWS}", columns());
    let mut select = connection.prepare_cached(&select)?;
    let mut rows = select.query([seq])?;
    let mut builder = BlockBuilder::new(seq);
    let mut full = None;
    while let Some(row) = rows.next()? {
        let (mut numbers, mut strings) = ([None; NUMBERS.len()], [None; STRINGS.len()]);
        for (at, value) in numbers.iter_mut().chain(&mut strings).enumerate() {
            *value = row.get(at + 1)?;
        }
        full = builder.push(&numbers, &strings);
    }
    let block = full.or_else(|| builder.take()).ok_or(AskError::NoRow(seq))?;
    let head = BlockHead { first: seq, rows: block.rows, earliest: block.earliest, latest: block.latest };
    Ok(View { head, lists: Lists::Made(connection, Box::new(block)) })
}

impl View<'_> {
    fn matching(&self, conditions: &[Condition<'_>]) -> Result<RowSet, AskError> {
        let mut all = RowSet::first(self.head.rows);
        for condition in conditions {
            all.intersect(&self.rows(condition)?);
            if all.is_empty() {
                break;
            }
        }
        Ok(all)
    }

    fn rows(&self, condition: &Condition<'_>) -> Result<RowSet, AskError> {
        match condition {
            Condition::Value(field, wanted) => self.rows_with(*field, wanted),
            Condition::Between(since, until) => self.rows_between(*since, *until),
            Condition::All(conditions) => self.matching(conditions),
            Condition::Any(conditions) => {
                let mut any = RowSet::none();
                for condition in conditions {
                    any.unite(&self.rows(condition)?);
                }
                Ok(any)
            }
        }
    }

    fn rows_with(&self, field: Field, wanted: &Wanted<'_>) -> Result<RowSet, AskError> {
        let mut found = RowSet::none();
        let list = match &self.lists {
            Lists::Stored(connection) => &self.stored(connection, field.name())?,
            Lists::Made(_, block) => block.list(field),
        };
        let rows = self.head.rows;
        match wanted {
            Wanted::Failures => {
                let failed = |ret| Ok::<_, AskError>(ret < 0 && ret != UNDER_WAY);
                read_list(list, rows, failed, &mut found)?;
            }
            Wanted::Numbers(numbers) => {
                let mut rest = numbers.iter().peekable();
                // Both ascend.
                let is_one = |value| {
                    while rest.next_if(|number| **number < value).is_some() {}
                    Ok::<_, AskError>(rest.peek() == Some(&&value))
                };
                read_list(list, rows, is_one, &mut found)?;
            }
            Wanted::Strings(strings) => {
                let (Lists::Stored(connection) | Lists::Made(connection, _)) = &self.lists;
                let mut known = strings.known.borrow_mut();
                let mut select = connection.prepare_cached("SELECT value FROM strings WHERE id = ?")?;
                let is_one = |id| {
                    if let Some(known) = known.get(&id) {
                        return Ok(*known);
                    }
                    let mut string = select.query([id])?;
                    // A value that is no string is not one that anybody asked for.
                    let wanted = match string.next()? {
                        Some(row) => row.get_ref(0)?.as_bytes().is_ok_and(&*strings.wanted),
                        None => false,
                    };
                    known.insert(id, wanted);
                    Ok::<_, AskError>(wanted)
                };
                read_list(list, rows, is_one, &mut found)?;
            }
        }
        Ok(found)
    }

    fn rows_between(&self, since: i64, until: i64) -> Result<RowSet, AskError> {
        let BlockHead { rows, earliest, latest, .. } = self.head;
        if latest < since || earliest > until {
            return Ok(RowSet::none());
        }
        if since <= earliest && latest <= until {
            return Ok(RowSet::first(rows));
        }
        let moments = match &self.lists {
            Lists::Stored(connection) => &self.stored(connection, MOMENTS)?,
            Lists::Made(_, block) => &block.moments,
        };
        Ok(read_moments(moments, rows, since, until)?)
    }

    fn stored(&self, connection: &Connection, column: &str) -> rusqlite::Result<Vec<u8>> {
        let mut select = connection.prepare_cached(&format!("SELECT {column} FROM block WHERE first = ?"))?;
        select.query_row([self.head.first], |row| row.get(0))
    }
}

/// The conditions of a filter; those that are read quickly and often leave nothing stand first.
fn conditions<'q>(connection: &Connection, filter: &'q Filter) -> Result<Vec<Condition<'q>>, AskError> {
    let mut all = Vec::new();
    if filter.since.is_some() || filter.until.is_some() {
        all.push(Condition::Between(filter.since.unwrap_or(i64::MIN), filter.until.unwrap_or(i64::MAX)));
    }
    if !filter.rules.is_empty() {
        let rule = |rule: &[u8]| filter.rules.iter().any(|name| rule_matches(name, rule));
        all.push(strings(Field::PolicyRule, rule));
    }
    if !filter.destinations.is_empty() {
        all.push(Condition::Any(filter.destinations.iter().map(destination).collect()));
    }
    if !filter.actions.is_empty() {
        let action = |action: &[u8]| filter.actions.iter().any(|name| action == name.as_bytes());
        all.push(strings(Field::Action, action));
    }
    if !filter.types.is_empty() {
        all.push(strings(Field::Type, |kind| filter.types.iter().any(|wanted| wanted.matches(kind))));
    }
    if let Outcome::Failed = filter.outcome {
        let blocked = strings(Field::Action, |action| action == b"BLOCKED");
        all.push(Condition::Any(vec![Condition::Value(Field::Ret, Wanted::Failures), blocked]));
    }
    if !filter.exes.is_empty() {
        all.push(strings(Field::Exe, |exe| filter.exes.iter().any(|wanted| wanted.matches(exe))));
    }
    if !filter.pids.is_empty() {
        all.push(Condition::Value(Field::Pid, Wanted::Numbers(ascending(filter.pids.clone()))));
    }
    if !filter.paths.is_empty() {
        let ids = ascending(ids_below(connection, &filter.paths)?);
        let paths =
            [Field::Path, Field::Path2].map(|field| Condition::Value(field, Wanted::Numbers(ids.clone())));
        all.push(Condition::Any(paths.into()));
    }
    Ok(all)
}

fn ascending(mut numbers: Vec<i64>) -> Rc<[i64]> {
    numbers.sort_unstable();
    numbers.dedup();
    numbers.into()
}

fn destination(wanted: &Destination) -> Condition<'_> {
    let Destination { place, port } = wanted;
    let mut all = Vec::new();
    if let Some(port) = port {
        all.push(Condition::Value(Field::DstPort, Wanted::Numbers([i64::from(*port)].into())));
    }
    match place {
        Place::Anywhere => {}
        Place::Net { .. } => all.push(strings(Field::DstIp, |address| place.has_address(address))),
        Place::Host(_) | Place::Below(_) => {
            let names = [Field::Host, Field::Sni].map(|field| strings(field, |name| place.has_name(name)));
            all.push(Condition::Any(names.into()));
        }
    }
    Condition::All(all)
}

/// Numbers of the strings that are one of some paths or lie below it.
fn ids_below(connection: &Connection, paths: &[Prefix]) -> rusqlite::Result<Vec<i64>> {
    let mut ids = Vec::new();
    for (condition, values) in paths.iter().flat_map(below) {
        let mut select = connection.prepare_cached(&format!("SELECT id FROM strings WHERE {condition}"))?;
        for id in select.query_map(params_from_iter(values), |row| row.get(0))? {
            ids.push(id?);
        }
    }
    Ok(ids)
}

/// The strings that are a path, and those that begin with it and a slash, as SQL with its values. TEXT and BLOB
/// are apart in the order of SQLite, so each has a range.
fn below(prefix: &Prefix) -> Vec<(&'static str, Vec<Value>)> {
    let path = prefix.path();
    let with = |end: u8| [path, &[end]].concat();
    let (from, to) = (with(b'/'), with(b'/' + 1));
    let select = |condition, values: &[&[u8]]| {
        let blobs = values.iter().map(|value| Value::Blob(value.to_vec())).collect();
        let texts = values.iter().map(|value| Some(Value::Text(String::from_utf8(value.to_vec()).ok()?)));
        // Text cannot begin with what is none.
        let texts = texts.collect::<Option<Vec<Value>>>().map(|values| (condition, values));
        [Some((condition, blobs)), texts]
    };
    let itself = if path.is_empty() { [None, None] } else { select("value = ?", &[path]) };
    let below = select("value >= ? AND value < ?", &[&from, &to]);
    itself.into_iter().chain(below).flatten().collect()
}
