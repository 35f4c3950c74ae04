//! The denials of a recorded run, with the policies that the run had last.

use std::io::{self, Read};
use std::path::PathBuf;

use audit_verify::canonical::Record;
use policy::Policies;

use crate::explain::{Denials, Group, READ};
use crate::record::lines::Lines;
use crate::record::store::{Found, open_regular};
use crate::record::{EFFECTIVE_POLICY, LOG, sha256_hex};

/// Longest stored policy that is read, bytes: above what the language takes, for each of several policies.
const LONGEST: u64 = 256 << 20;

/// What was denied in a run.
#[derive(Debug)]
pub struct RunDenials {
    /// In the order of their first attempts, without remedies.
    pub groups: Vec<Group>,
    /// Denied attempts that no group stands for.
    pub more: u64,
    /// Whether a policy judged the run.
    pub judged: bool,
    /// The policies that did, where they are there as they were.
    pub policies: Option<Policies>,
    /// What the reader should know: lines that could not be read, a policy that is not the run's.
    pub notes: Vec<String>,
}

/// A run whose denials cannot be told.
#[derive(Debug, thiserror::Error)]
#[error("{act} {}: {why}{}", .path.display(), match why.kind() {
    io::ErrorKind::PermissionDenied => "; it is another user's record: read it with sudo",
    _ => "",
})]
pub struct DenialsError {
    act: &'static str,
    path: PathBuf,
    why: io::Error,
}

/// Reads the denials of a run, also of one that goes on.
///
/// # Errors
/// The log cannot be read.
pub fn read(run: &Found) -> Result<RunDenials, DenialsError> {
    let path = run.path.join(LOG);
    let failed = |act| {
        let path = path.clone();
        move |why| DenialsError { act, path, why }
    };
    let mut lines = Lines::new(open_regular(&path).map_err(failed("open"))?, 0);
    let mut denials = Denials::new(READ);
    let mut unread = 0u64;
    let mut held: Option<Stored> = None;
    while let Some(line) = lines.next_line().map_err(failed("read"))? {
        match Record::parse(line.text) {
            Ok(record) => {
                if matches!(record.text("event_type"), Some("run_start" | "policy_apply")) {
                    held = Stored::of(&record).or(held);
                }
                denials.read(&record);
            }
            Err(_) => unread += 1,
        }
    }
    let mut notes = Vec::new();
    if unread > 0 {
        notes.push(format!("{unread} lines of the log could not be read; `audit-verify` says more"));
    }
    let judged = held.is_some();
    let mut policies = None;
    if let Some(stored) = held.filter(|_| !denials.groups().is_empty()) {
        match effective(run, &stored) {
            Ok(found) => policies = Some(found),
            Err(why) => notes.push(format!("{}: {why}; no lines are suggested", stored.file)),
        }
    }
    let (groups, more) = denials.into_parts();
    Ok(RunDenials { groups, more, judged, policies, notes })
}

/// Policies as they are stored beside a log.
#[derive(Debug)]
struct Stored {
    file: String,
    sha256: String,
}

impl Stored {
    /// Those that an event says to hold from then on.
    fn of(record: &Record<'_>) -> Option<Stored> {
        let sha256 = record.text("policy_sha256")?.to_owned();
        let file = record.text("target").unwrap_or(EFFECTIVE_POLICY).to_owned();
        // The log may be anybody's: it names no file elsewhere.
        (!file.contains('/')).then_some(Stored { file, sha256 })
    }
}

/// The policies that the run had last, if they are those that its log names.
fn effective(run: &Found, stored: &Stored) -> Result<Policies, String> {
    let file = open_regular(&run.path.join(&stored.file)).map_err(|error| error.to_string())?;
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if sha256_hex(text.as_bytes()) != stored.sha256 {
        return Err("it is not the policy that the log names".to_owned());
    }
    Policies::parse_effective(&stored.file, &text).map_err(|errors| errors.to_string())
}
