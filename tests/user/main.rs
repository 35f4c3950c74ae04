//! Runs of an ordinary user without any capability: observed by their own calls (`notify`).
//!
//! The tests start as root and give everything up before they start the product, so that it finds an ordinary account.

mod arguments;
mod calls;
mod completeness;
mod ends;
mod enforced;
mod executions;
mod inside;
mod limits;
mod names;
mod nested;
mod others;
mod pairs;
mod place;
mod terminal;
mod tmp;
