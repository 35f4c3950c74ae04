//! The attempts of a file, on names that a command line cannot hold.
//!
//! Each prints `FILE:NUMBER<TAB>RESULT`, the numbers from 0. All lines come in one write at the end, so that
//! printing is no part of what happens between two attempts.

use crate::raw::{self, Errno};
use crate::{names, net, places};
use std::ffi::CString;
use std::fmt::Write as _;
use std::io::Write;
use vm_tests::batch::{Attempt, decode};

/// See the module; fails with what to tell.
pub fn take(file: &str) -> Result<(), String> {
    let bytes = std::fs::read(file).map_err(|error| format!("cannot read {file}: {error}"))?;
    let attempts = decode(&bytes).ok_or_else(|| format!("{file} holds no attempts"))?;
    let mut lines = String::new();
    for (number, one) in attempts.iter().enumerate() {
        let result = attempt(one).ok_or_else(|| format!("no step {:?} in {file}", one.word))?;
        let _ = writeln!(lines, "{file}:{number}\t{}", result.err().map_or(0, |errno| -errno));
    }
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(lines.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| error.to_string())
}

/// One attempt; `None` when there is no such step.
fn attempt(attempt: &Attempt) -> Option<Result<(), Errno>> {
    let [first, second] = attempt.names.clone();
    if let Some(address) = std::str::from_utf8(&first).ok().and_then(|text| text.parse().ok()) {
        return net::attempt(&attempt.word, address);
    }
    if attempt.word.starts_with("unix-") {
        return net::other(&attempt.word, std::str::from_utf8(&first).ok()?);
    }
    let (first, second) = (CString::new(first).ok()?, CString::new(second).ok()?);
    Some(match attempt.word.as_str() {
        "read" => raw::open(&first, libc::O_RDONLY).map(drop),
        "write" => raw::open(&first, libc::O_WRONLY | libc::O_APPEND).map(drop),
        "update" => raw::open(&first, libc::O_RDWR).map(drop),
        "load" => raw::open(&first, libc::O_RDONLY).and_then(|file| raw::map_code(&file)),
        "run" => places::run(&first),
        word => return names::call(word, &first, &second),
    })
}
