//! JSON as Python's `json` module reads and prints it, for logs that are not in canonical form.
//!
//! [`Object::parse`] does what `json.dumps(json.loads(line), sort_keys=True)` does to one object: the last of
//! equal keys wins, keys sort by code point, `NaN` and `Infinity` are numbers, a lone surrogate is a
//! character, integers have any length up to 4,300 digits, fractions are printed by `repr`. With it the
//! question whether a hash chain holds has the same answer here as in a few lines of Python, for any bytes.
//!
//! Two bounds are CPython's own and differ between its versions: how deep values nest ([`MAX_DEPTH`]) and how
//! many digits an integer has ([`MAX_DIGITS`]). Here they are those of Python 3.11. Both refuse; neither
//! lets anything through.

mod float;
mod parse;

pub use parse::{JsonError, MAX_DEPTH, MAX_DIGITS, Object};
