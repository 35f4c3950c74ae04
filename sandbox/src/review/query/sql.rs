//! The conditions of a [`Filter`] as SQL, and which of them leads to the rows.
//!
//! SQLite knows nothing of how common a value is, and its guess may cost a second. So each condition has a
//! driver (the rows that it picks, found through a secondary index) and is counted up to a bound; the rarest
//! drives, the others are only put to its rows. Where none is rare, rows are read in their order, and the first
//! that match come soon.

use std::fmt::Write;

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::destination::{Destination, Place};
use super::filter::{Filter, Outcome, Prefix, UNDER_WAY, rule_matches};
use crate::record::index::{OpenIndex, Secondary};

/// A driver that picks no more rows than this is taken without looking for a better one.
const RARE: u64 = 500;

/// Up to how many rows drivers are counted.
const BOUND: u64 = 50_000;

/// One condition.
struct Condition {
    /// For rows that are found otherwise.
    test: Sql,
    /// Selects `seq` of the rows through secondary indexes; none is picked by two of them.
    drivers: Vec<Sql>,
}

/// One of several ways to meet a condition.
struct Way {
    /// As SQLite finds it through a secondary index.
    found: Sql,
    /// The same for rows that are there already: its columns stand behind a `+`, which keeps SQLite from
    /// looking for them.
    test: Sql,
}

impl Way {
    /// The condition `text`, with `COLUMN` for its column.
    fn new(column: &str, text: &Sql) -> Self {
        let with = |sign: &str| Sql {
            text: text.text.replace("COLUMN", &format!("{sign}{column}")),
            values: text.values.clone(),
        };
        Way { found: with(""), test: with("+") }
    }
}

impl Condition {
    fn any(ways: &[Way]) -> Self {
        if ways.is_empty() {
            let drivers = vec![Sql::new("SELECT seq FROM event WHERE FALSE")];
            return Condition { test: Sql::new("FALSE"), drivers };
        }
        let tests: Vec<Sql> = ways.iter().map(|way| way.test.clone()).collect();
        let drivers = ways.iter().enumerate().map(|(at, way)| {
            let mut driver = Sql::new("SELECT seq FROM event WHERE ");
            driver.push(&way.found);
            if at > 0 {
                driver.text.push_str(" AND (");
                driver.push(&Sql::join(&tests[..at], " OR "));
                driver.text.push_str(") IS NOT TRUE");
            }
            driver
        });
        let drivers = drivers.collect();
        let mut test = Sql::new("(");
        test.push(&Sql::join(&tests, " OR "));
        test.text.push(')');
        Condition { test, drivers }
    }

    fn is_one_of(column: &str, ids: &[i64]) -> Self {
        Condition::any(&[Way::new(column, &Sql::new(format!("COLUMN IN ({})", list(ids))))])
    }
}

/// A piece of SQL with the values of its parameters, which are all written as `?`.
#[derive(Clone, Default)]
struct Sql {
    text: String,
    values: Vec<Value>,
}

impl Sql {
    fn new(text: impl Into<String>) -> Self {
        Sql { text: text.into(), values: Vec::new() }
    }

    fn push(&mut self, other: &Sql) {
        self.text.push_str(&other.text);
        self.values.extend(other.values.iter().cloned());
    }

    fn join(parts: &[Sql], between: &str) -> Sql {
        let mut all = Sql::default();
        for (at, part) in parts.iter().enumerate() {
            if at > 0 {
                all.text.push_str(between);
            }
            all.push(part);
        }
        all
    }
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
pub enum Wanted {
    /// All of them.
    All,
    /// The first so many.
    First(usize),
}

/// A filter's conditions, text left aside, as an index has them.
pub struct Question<'i> {
    index: &'i OpenIndex,
    conditions: Vec<Condition>,
}

impl<'i> Question<'i> {
    /// Reads in the index what the conditions of a filter mean there.
    pub fn new(index: &'i OpenIndex, filter: &Filter) -> rusqlite::Result<Self> {
        let reader = Reader { connection: &index.connection, secondary: index.secondary };
        Ok(Question { index, conditions: reader.conditions(filter)? })
    }

    /// How many rows match.
    pub fn count(&self) -> rusqlite::Result<u64> {
        let mut count = Sql::new("SELECT count(*)");
        match &self.conditions[..] {
            // Secondary indexes alone say how many.
            [only] if self.index.secondary == Secondary::Made => {
                count.text.push_str(" FROM (");
                count.push(&Sql::join(&only.drivers, " UNION ALL "));
                count.text.push(')');
            }
            _ => count.push(&self.rows()?),
        }
        let values = params_from_iter(&count.values);
        let count: i64 = self.index.connection.query_row(&count.text, values, |row| row.get(0))?;
        Ok(count as u64)
    }

    /// Hands on where the lines of the rows that match stand, in order, until `each` fails.
    pub fn spots<E: From<rusqlite::Error>>(
        &self,
        wanted: Wanted,
        mut each: impl FnMut(Spot) -> Result<(), E>,
    ) -> Result<(), E> {
        let limit = match wanted {
            Wanted::All => -1,
            Wanted::First(first) => i64::try_from(first).unwrap_or(i64::MAX),
        };
        let mut spots = Sql::new("SELECT seq, offset, length");
        spots.push(&self.rows()?);
        // Writing to a String does not fail.
        let _ = write!(spots.text, " ORDER BY seq LIMIT {limit}");
        let mut select = self.index.connection.prepare(&spots.text)?;
        let mut rows = select.query(params_from_iter(&spots.values))?;
        while let Some(row) = rows.next()? {
            let number = |at| row.get::<_, i64>(at);
            // What is below zero becomes a place far beyond any log, and is found not to be there.
            each(Spot { seq: number(0)? as u64, offset: number(1)? as u64, length: number(2)? as usize })?;
        }
        Ok(())
    }

    /// From `FROM` on: the rows that match.
    fn rows(&self) -> rusqlite::Result<Sql> {
        // Without secondary indexes every way is as long as reading all rows.
        let rarest = match self.index.secondary {
            Secondary::Made => rarest(&self.index.connection, &self.conditions)?,
            Secondary::Missing => None,
        };
        let mut tests: Vec<Sql> = Vec::new();
        if let Some(rarest) = rarest {
            let mut chosen = Sql::new("seq IN (");
            chosen.push(&Sql::join(&self.conditions[rarest].drivers, " UNION ALL "));
            chosen.text.push(')');
            tests.push(chosen);
        }
        let others = self.conditions.iter().enumerate().filter(|(at, _)| Some(*at) != rarest);
        tests.extend(others.map(|(_, condition)| condition.test.clone()));
        let mut rows = Sql::new(if tests.is_empty() { " FROM event" } else { " FROM event WHERE " });
        rows.push(&Sql::join(&tests, " AND "));
        Ok(rows)
    }
}

/// The condition that picks the fewest rows; none where all pick many.
fn rarest(connection: &Connection, conditions: &[Condition]) -> rusqlite::Result<Option<usize>> {
    let mut found: Option<(usize, u64)> = None;
    for (at, condition) in conditions.iter().enumerate() {
        let bound = found.map_or(BOUND, |(_, count)| count);
        let mut count = Sql::new("SELECT count(*) FROM (");
        count.push(&Sql::join(&condition.drivers, " UNION ALL "));
        // Writing to a String does not fail.
        let _ = write!(count.text, " LIMIT {})", bound + 1);
        let count: i64 =
            connection.query_row(&count.text, params_from_iter(&count.values), |row| row.get(0))?;
        let count = count as u64;
        if count <= bound {
            found = Some((at, count));
        }
        if count <= RARE {
            break;
        }
    }
    Ok(found.map(|(at, _)| at))
}

/// Reads what the conditions need to know of the index.
struct Reader<'c> {
    connection: &'c Connection,
    secondary: Secondary,
}

impl Reader<'_> {
    fn conditions(&self, filter: &Filter) -> rusqlite::Result<Vec<Condition>> {
        let mut all = Vec::new();
        if !filter.pids.is_empty() {
            all.push(Condition::is_one_of("pid", &filter.pids));
        }
        if !filter.rules.is_empty() {
            let rules =
                self.ids("policy_rule", |rule| filter.rules.iter().any(|name| rule_matches(name, rule)))?;
            all.push(Condition::is_one_of("policy_rule", &rules));
        }
        if !filter.destinations.is_empty() {
            all.push(self.destinations(&filter.destinations)?);
        }
        if !filter.actions.is_empty() {
            let wanted = |action: &[u8]| filter.actions.iter().any(|name| action == name.as_bytes());
            all.push(Condition::any(&[self.action(wanted)?]));
        }
        if !filter.types.is_empty() {
            let types = self.ids("type", |kind| filter.types.iter().any(|wanted| wanted.matches(kind)))?;
            all.push(Condition::is_one_of("type", &types));
        }
        if !filter.paths.is_empty() {
            all.push(paths(&filter.paths));
        }
        if !filter.exes.is_empty() {
            let exes = self.ids("exe", |exe| filter.exes.iter().any(|wanted| wanted.matches(exe)))?;
            all.push(Condition::is_one_of("exe", &exes));
        }
        if let Outcome::Failed = filter.outcome {
            all.push(self.failed()?);
        }
        if filter.since.is_some() || filter.until.is_some() {
            let (since, until) = (filter.since.unwrap_or(i64::MIN), filter.until.unwrap_or(i64::MAX));
            let between = Sql::new(format!("COLUMN BETWEEN {since} AND {until}"));
            all.push(Condition::any(&[Way::new("wall_ns", &between)]));
        }
        Ok(all)
    }

    /// Numbers of the distinct strings of a column that `wanted` says yes to.
    fn ids(&self, column: &str, wanted: impl Fn(&[u8]) -> bool) -> rusqlite::Result<Vec<i64>> {
        // With a secondary index each distinct value is looked at once, however many rows there are.
        let next = match self.secondary {
            Secondary::Made => format!(
                "WITH RECURSIVE d (id) AS (
                    SELECT min({column}) FROM event WHERE {column} IS NOT NULL UNION ALL
                    SELECT (SELECT min({column}) FROM event WHERE {column} > d.id) FROM d WHERE d.id IS NOT NULL)
                SELECT s.id, s.value FROM d JOIN strings s ON s.id = d.id"
            ),
            Secondary::Missing => format!(
                "SELECT id, value FROM strings WHERE id IN (SELECT {column} FROM event)"
            ),
        };
        let mut select = self.connection.prepare(&next)?;
        let mut rows = select.query([])?;
        let mut ids = Vec::new();
        while let Some(row) = rows.next()? {
            // A value that is no string is not one that anybody asked for.
            if row.get_ref(1)?.as_bytes().is_ok_and(&wanted) {
                ids.push(row.get(0)?);
            }
        }
        Ok(ids)
    }

    fn action(&self, wanted: impl Fn(&[u8]) -> bool) -> rusqlite::Result<Way> {
        let actions = list(&self.strings(wanted)?);
        // The index of types has the action behind the type.
        let types = list(&self.ids("type", |_| true)?);
        Ok(Way {
            found: Sql::new(format!("type IN ({types}) AND action IN ({actions})")),
            test: Sql::new(format!("+action IN ({actions})")),
        })
    }

    /// Numbers of the strings that stand for actions, which are few and short.
    fn strings(&self, wanted: impl Fn(&[u8]) -> bool) -> rusqlite::Result<Vec<i64>> {
        let mut select = self.connection.prepare("SELECT id FROM strings WHERE value = ?")?;
        let mut ids = Vec::new();
        for action in ["OBSERVED", "ALLOWED", "BLOCKED", "WOULD_BLOCK"] {
            if wanted(action.as_bytes())
                && let Some(row) = select.query([action])?.next()?
            {
                ids.push(row.get(0)?);
            }
        }
        Ok(ids)
    }

    fn failed(&self) -> rusqlite::Result<Condition> {
        let ret = Sql::new(format!("(COLUMN < 0 AND COLUMN <> {UNDER_WAY})"));
        let blocked = self.action(|action| action == b"BLOCKED")?;
        Ok(Condition::any(&[Way::new("ret", &ret), blocked]))
    }

    fn destinations(&self, wanted: &[Destination]) -> rusqlite::Result<Condition> {
        let mut ways = Vec::new();
        for destination in wanted {
            let place = &destination.place;
            let port = destination.port.map(|port| format!(" AND +dst_port = {port}")).unwrap_or_default();
            if let (Place::Anywhere, Some(port)) = (place, destination.port) {
                ways.push(Way::new("dst_port", &Sql::new(format!("COLUMN = {port}"))));
                continue;
            }
            for (column, ids) in [
                ("dst_ip", self.ids("dst_ip", |address| place.has_address(address))?),
                ("host", self.ids("host", |name| place.has_name(name))?),
                ("sni", self.ids("sni", |name| place.has_name(name))?),
            ] {
                // SQLite would look at every row for one that is in an empty list.
                if !ids.is_empty() {
                    ways.push(Way::new(column, &Sql::new(format!("(COLUMN IN ({}){port})", list(&ids)))));
                }
            }
        }
        Ok(Condition::any(&ways))
    }
}

fn paths(wanted: &[Prefix]) -> Condition {
    let conditions: Vec<Sql> = wanted.iter().flat_map(below).collect();
    let mut strings = Sql::default();
    for (at, condition) in conditions.iter().enumerate() {
        strings.text.push_str(if at > 0 { " UNION ALL " } else { "" });
        strings.text.push_str("SELECT id FROM strings WHERE ");
        strings.push(condition);
    }
    let any = Sql::join(&conditions, " OR ");
    Condition::any(&["path", "path2"].map(|column| {
        let with = |before: String, sql: &Sql, behind: &str| Sql {
            text: format!("{before}{}{behind}", sql.text),
            values: sql.values.clone(),
        };
        Way {
            found: with(format!("{column} IN ("), &strings, ")"),
            // One look at the string of a row; a list of all strings may be much longer than the rows are many.
            test: with(format!("EXISTS (SELECT 1 FROM strings WHERE id = +{column} AND ("), &any, "))"),
        }
    }))
}

/// The strings that are a path, and those that begin with it and a slash. TEXT and BLOB are apart in the order
/// of SQLite, so each has a range.
fn below(prefix: &Prefix) -> Vec<Sql> {
    let path = prefix.path();
    let with = |end: u8| [path, &[end]].concat();
    let (from, to) = (with(b'/'), with(b'/' + 1));
    let select = |condition: &str, values: &[&[u8]]| {
        let text = condition.to_owned();
        let blobs = values.iter().map(|value| Value::Blob(value.to_vec())).collect();
        let texts = values.iter().map(|value| Some(Value::Text(String::from_utf8(value.to_vec()).ok()?)));
        // Text cannot begin with what is none.
        let texts = texts.collect::<Option<Vec<Value>>>().map(|values| Sql { text: text.clone(), values });
        [Some(Sql { text, values: blobs }), texts]
    };
    let itself = if path.is_empty() { [None, None] } else { select("value = ?", &[path]) };
    let below = select("(value >= ? AND value < ?)", &[&from, &to]);
    itself.into_iter().chain(below).flatten().collect()
}

fn list(ids: &[i64]) -> String {
    ids.iter().map(i64::to_string).collect::<Vec<_>>().join(",")
}
