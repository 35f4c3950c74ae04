//! The stub before resolvers of the tests' own, with clients of the tests' own.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod asking;
mod forged;
mod life;
mod limits;
mod lookup;
mod rebinding;
mod sizes;
mod support;
