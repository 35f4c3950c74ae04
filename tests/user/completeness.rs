//! Completeness against the truth: the same workloads as for the other layers, under `strace` inside a run of an ordinary
//! user. Every attempt that strace saw is in the log, with its path; and nothing that strace did not see.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use sandbox_tests::attempt::Kind;
use sandbox_tests::binaries::binary;
use sandbox_tests::log::Logged;
use sandbox_tests::requirement::say;
use sandbox_tests::truth::Seen;
use sandbox_tests::watched::{
    C_PROJECT, GIT_AND_PYTHON, PATHS, PROCESSES, SOCKETS, Workload, trace_file, truth,
};

use crate::place::{Place, USER, possible};

#[test]
fn git_and_python() {
    complete(&GIT_AND_PYTHON);
}

#[test]
fn c_project() {
    complete(&C_PROJECT);
}

#[test]
fn paths() {
    complete(&PATHS);
}

#[test]
fn processes() {
    complete(&PROCESSES);
}

#[test]
fn sockets() {
    complete(&SOCKETS);
}

fn complete(workload: &Workload) {
    let test = format!("completeness for a user, {}", workload.name);
    if !possible(&test, &workload.needs()) {
        return;
    }
    let place = Place::new();
    let trace = trace_file(&place.scene);
    std::fs::write(&trace, "").expect("strace's file");
    std::os::unix::fs::chown(&trace, Some(USER), Some(USER)).expect("of the user's own");
    let own = binary("workload").into_os_string();
    // The user may not be able to read the built one.
    let words = workload.under_strace(&place.scene).into_iter().map(|word| match word {
        word if word == own => place.bin("workload").into_os_string(),
        word => word,
    });
    let words: Vec<OsString> = words.collect();
    hand_over(&place.work());
    let done = place.record(words).expect(0);
    let log = place.log();
    assert_eq!(log.seal().uint("lost"), Some(0), "{}", done.stderr);
    let (seen, processes) = truth(&trace);
    let mut logged = log.attempts_without_results(&processes);
    let mut missing = Vec::new();
    let (mut agreed, mut failed) = (std::collections::BTreeMap::<Kind, usize>::new(), 0);
    // Attempts whose path strace could not tell take what is left.
    let (named, nameless): (Vec<_>, Vec<_>) = seen.iter().partition(|seen| seen.attempt.path.is_some());
    for one in named.into_iter().chain(nameless) {
        match logged.iter().position(|logged| tells(logged, one)) {
            Some(found) => {
                logged.swap_remove(found);
                *agreed.entry(one.attempt.kind).or_default() += 1;
                failed += usize::from(one.attempt.ret < 0);
            }
            None => missing.push(format!("- {}  (strace line {})", one.attempt, one.line)),
        }
    }
    let extra = logged.iter().map(|logged| format!("+ {}  (log line {})", logged.attempt, logged.line));
    missing.extend(extra);
    say(&format!("{test}: {agreed:?}, {failed} of them failed; {} differences", missing.len()));
    assert!(
        missing.is_empty(),
        "{test}\n{}",
        missing.iter().take(60).cloned().collect::<Vec<_>>().join("\n")
    );
    workload.check_minimum(|kind| agreed.get(&kind).copied().unwrap_or(0), failed);
}

/// Gives what a workload prepared to the user.
fn hand_over(directory: &Path) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        std::os::unix::fs::lchown(entry.path(), Some(USER), Some(USER)).expect("a file for the user");
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            hand_over(&entry.path());
        }
    }
}

/// Whether an event tells of this attempt; of its result it need not know.
fn tells(logged: &Logged, seen: &Seen) -> bool {
    let (told, real) = (&logged.attempt, &seen.attempt);
    let path = match (&real.path, &told.path) {
        (None, _) => true,
        (Some(path), Some(told)) => {
            leads(path, told, real.pid) || (real.kind == Kind::Link && linked(path, told))
        }
        (Some(_), None) => false,
    };
    let second = match (&real.path2, &told.path2) {
        (None, _) => true,
        // Of a symbolic link a text.
        (Some(text), Some(told)) if real.kind == Kind::Symlink => begins(text, told),
        (Some(path), Some(told)) => leads(path, told, real.pid),
        (Some(_), None) => false,
    };
    (told.pid, told.kind) == (real.pid, real.kind)
        && path
        && second
        && (real.argv.is_none() || executed(logged, seen))
        && (real.address.is_none() || real.address == told.address)
        && (real.family.is_none() || real.family == told.family)
}

/// Of what the kernel refused as too long strace's reader keeps a part.
fn begins(real: &[u8], told: &[u8]) -> bool {
    const KEPT: usize = 1024;
    real == told || (real.len() == KEPT && told.starts_with(real))
}

/// Whether the event has this path, or the place where it really is.
fn leads(real: &[u8], told: &[u8], pid: u32) -> bool {
    // A file without a name (O_TMPFILE) has one when it is open; the call names its directory.
    let unnamed = real.rsplitn(2, |byte| *byte == b'/').collect::<Vec<_>>();
    let unnamed = matches!(unnamed.as_slice(), [leaf, above] if leaf.starts_with(b"#") && *above == told);
    let own = own_process(real, pid);
    begins(real, told)
        || unnamed
        || really(real).is_some_and(|real| real == told)
        || own.as_deref() == Some(told)
}

/// Whether the name is a link's that linkat(2) was told to follow (AT_SYMLINK_FOLLOW), and the event has where it leads.
fn linked(real: &[u8], told: &[u8]) -> bool {
    let path = Path::new(std::ffi::OsStr::from_bytes(real));
    path.is_symlink() && path.canonicalize().is_ok_and(|path| path.as_os_str().as_bytes() == told)
}

/// `/proc/self` is told by its number also where nothing is there.
fn own_process(real: &[u8], pid: u32) -> Option<Vec<u8>> {
    real.strip_prefix(b"/proc/self").map(|rest| [format!("/proc/{pid}").as_bytes(), rest].concat())
}

/// A path without symbolic links in its directory.
fn really(path: &[u8]) -> Option<Vec<u8>> {
    let path = Path::new(std::ffi::OsStr::from_bytes(path));
    let directory = path.parent()?.canonicalize().ok()?;
    Some(directory.join(path.file_name()?).into_os_string().into_vec())
}

fn executed(logged: &Logged, seen: &Seen) -> bool {
    let (Some(real), Some(told)) = (&seen.attempt.argv, &logged.attempt.argv) else { return false };
    let begun = |real: &Vec<u8>, told: &Vec<u8>| real.starts_with(told);
    let cut = logged.argv_truncated
        && told.len() <= real.len()
        && told.iter().zip(real).all(|(told, real)| begun(real, told));
    // What an interpreter got: its own words, the name of the script, the caller's arguments but the first.
    let Some(name) = &seen.name else { return real == told || cut };
    let tail: Vec<&Vec<u8>> = std::iter::once(name).chain(real.iter().skip(1)).collect();
    let script = told.len() > tail.len() && told[told.len() - tail.len()..].iter().eq(tail);
    real == told || cut || script
}
