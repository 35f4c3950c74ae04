//! `index.sqlite`: what the index of a log holds, and whether an index says what its log says.
//!
//! The log is the truth and the index a copy that answers questions quickly. `sandbox` makes it; what it must
//! hold is said here, where [`compare()`] proves it row by row. Nothing here writes an index or answers a question.
//!
//! # Schema
//!
//! `event` has one row a line, its key the line's `seq`. Strings repeat on almost every line, so each stands
//! once in `strings` and `event` has its number; the view `events` puts them back:
//!
//! ```sql
//! SELECT seq, pid, path FROM events WHERE type = 'file_delete' AND path LIKE '/etc/%';
//! ```
//!
//! A string that is UTF-8 without NUL is TEXT, any other is BLOB, so that paths come back byte for byte and
//! usual ones compare with usual text. `wall_ns` is nanoseconds since 1970, `mono_ns` CLOCK_MONOTONIC;
//! `offset` and `length` are the line's place in `events.jsonl` in bytes, without its newline. Integers
//! beyond `i64` stand as the `i64` with the same bits.
//!
//! `block` says of each 65,536 rows which of them have which values ([`Block`], [`lists`]): a question is answered
//! by putting such sets of rows together, without a look at the rows.

mod block;
mod compare;
pub mod lines;
pub mod lists;
mod row;
mod schema;
mod time;

pub use block::{Block, BlockBuilder, Field, MOMENTS, block_columns};
pub use compare::{CompareError, IndexVerdict, compare, open};
pub use row::{LineFault, NUMBERS, Row, STRINGS, SqlText, Text, is_text};
pub use schema::{SCHEMA_VERSION, SchemaFault, TABLES, check_schema, columns};
pub use time::parse_timestamp;

/// The index's name in the run's directory.
pub const FILE: &str = "index.sqlite";
