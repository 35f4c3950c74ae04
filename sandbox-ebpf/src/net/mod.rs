//! Programs of the run's control group: they see the sockets that were made in it, whatever task holds them now.
//!
//! `address` judges where sockets go, and leads questions for names to the runner; where hooks judge too, only what they
//! left open is judged here: whether a listener of the run is at the other end. `answer` shows what resolvers answer, in
//! runs whose questions go to them. `inspect` reads which servers connections name. Families besides TCP and UDP, and unix
//! sockets, are not seen here.

mod address;
mod answer;
mod inspect;
mod mark;

/// What a program answers that lets pass.
const PASS: i32 = 1;
/// What one answers that denies: the caller gets EPERM.
const DENY: i32 = 0;
