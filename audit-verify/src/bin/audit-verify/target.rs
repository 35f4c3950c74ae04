//! From what was asked for to the logs that are meant.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use audit_verify::ledger::LINE_MAX;
use audit_verify::output::EVENTS;

use crate::store::{Caller, alike, run_name, runs};

/// A log to be checked.
#[derive(Debug)]
pub struct Log {
    /// What it is called in the output.
    pub name: String,
    /// Where it is.
    pub source: Source,
}

/// Where a log is.
#[derive(Debug)]
pub enum Source {
    /// Standard input.
    Stdin,
    /// A file that was named.
    File(PathBuf),
    /// The log of a run. It must be a regular file: reading a pipe that someone put there would never end.
    Run(PathBuf),
}

/// Why a target could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// No run has that name.
    #[error("no such run, file or directory: {target}{}", nearest(.stores, .runs))]
    NoSuchRun { target: String, stores: Vec<PathBuf>, runs: Vec<String> },
    /// The store holds no run.
    #[error("no runs in {}", list(.stores))]
    NoRuns { stores: Vec<PathBuf> },
    /// A directory that is neither a run's nor a store.
    #[error("no events.jsonl and no runs in {}: neither a run's directory nor a store", .directory.display())]
    NeitherRunNorStore { directory: PathBuf },
    /// The ledger of a store, which is no log.
    #[error("{} is the ledger of a store, not a log: give the store's directory ({})", .path.display(), .store.display())]
    Ledger { path: PathBuf, store: PathBuf },
    /// There is no home directory, so there is no store.
    #[error("no store to look in: neither SANDBOX_HOME nor HOME is set")]
    NoStore,
    /// Reading failed.
    #[error("failed to read {path}: {source}{}", advice(.source))]
    Read { path: String, source: io::Error },
}

impl TargetError {
    /// One word.
    pub fn name(&self) -> &'static str {
        match self {
            TargetError::NoSuchRun { .. } => "no-such-run",
            TargetError::NoRuns { .. } => "no-runs",
            TargetError::NeitherRunNorStore { .. } => "neither-run-nor-store",
            TargetError::Ledger { .. } => "ledger-file",
            TargetError::NoStore => "no-store",
            TargetError::Read { .. } => "read",
        }
    }

    /// Turns the error of reading `path` into one that names it.
    pub fn read(path: &Path) -> impl FnOnce(io::Error) -> TargetError {
        move |source| TargetError::Read { path: path.display().to_string(), source }
    }
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::PermissionDenied => {
            "; a record can be read by the user it was made for and by root: try sudo"
        }
        _ => "",
    }
}

fn list(stores: &[PathBuf]) -> String {
    stores.iter().map(|store| store.join("runs").display().to_string()).collect::<Vec<_>>().join(" or ")
}

/// The runs whose names are most alike, for the message.
fn nearest(stores: &[PathBuf], runs: &[String]) -> String {
    if runs.is_empty() {
        return format!("; there are no runs in {}", list(stores));
    }
    let mut text = format!("; the nearest runs in {} are", list(stores));
    for run in runs {
        text.push_str("\n  ");
        text.push_str(&run.escape_debug().to_string());
    }
    text
}

/// What a target means.
#[derive(Debug, Default)]
pub struct Resolved {
    /// The logs.
    pub logs: Vec<Log>,
    /// The store whose runs these are, where the whole of it is meant.
    pub store: Option<PathBuf>,
}

impl From<Log> for Resolved {
    fn from(log: Log) -> Resolved {
        Resolved { logs: vec![log], store: None }
    }
}

/// The logs that `target` means.
pub fn resolve(target: &OsStr) -> Result<Resolved, TargetError> {
    let name = target.to_string_lossy().into_owned();
    if target == "-" {
        return Ok(Log { name: "standard input".into(), source: Source::Stdin }.into());
    }
    if target == "last" {
        let stores = stores()?;
        let run = runs(&stores)?.pop().ok_or(TargetError::NoRuns { stores })?;
        return Ok(run_log(&run).into());
    }
    let path = Path::new(target);
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => directory(path),
        Ok(_) => Ok(Log { name, source: Source::File(path.to_owned()) }.into()),
        Err(error) if error.kind() != ErrorKind::NotFound => Err(TargetError::read(path)(error)),
        Err(error) if path.components().count() > 1 => Err(TargetError::read(path)(error)),
        Err(_) => {
            let stores = stores()?;
            let runs = runs(&stores)?;
            if let Some(at) = runs.iter().position(|run| run.file_name() == Some(target)) {
                return Ok(run_log(&runs[at]).into());
            }
            let runs = alike(&name, &runs);
            Err(TargetError::NoSuchRun { target: name, stores, runs })
        }
    }
}

fn directory(path: &Path) -> Result<Resolved, TargetError> {
    if fs::symlink_metadata(path.join(EVENTS)).is_ok() {
        return Ok(run_log(path).into());
    }
    let has_ledger = path.join(audit_verify::ledger::FILE).is_file();
    // Without its runs a store is one still: the ledger says which are missing.
    if !path.join("runs").is_dir() && !has_ledger {
        // A directory that may not be searched has neither, as far as one can see.
        fs::read_dir(path).map_err(TargetError::read(path))?;
        return Err(TargetError::NeitherRunNorStore { directory: path.to_owned() });
    }
    let stores = vec![path.to_owned()];
    let runs = runs(&stores)?;
    if runs.is_empty() && !has_ledger {
        return Err(TargetError::NoRuns { stores });
    }
    Ok(Resolved { logs: runs.iter().map(|run| run_log(run)).collect(), store: Some(path.to_owned()) })
}

/// The stores of whoever calls.
fn stores() -> Result<Vec<PathBuf>, TargetError> {
    let stores = Caller::of_this_process().stores();
    if stores.is_empty() { Err(TargetError::NoStore) } else { Ok(stores) }
}

/// The log in a run's directory. Where there is none, reading it will say so.
fn run_log(run: &Path) -> Log {
    let name = run.canonicalize().map_or_else(|_| run_name(run), |run| run_name(&run));
    Log { name, source: Source::Run(run.join(EVENTS)) }
}

/// Whether a file that was named is the ledger of a store, and then the error that says so.
pub fn is_ledger(path: &Path) -> Option<TargetError> {
    let mut line = Vec::new();
    // What cannot be read is told of where it is judged; a pipe can be read only once.
    let file = open_regular(path).ok()?;
    BufReader::new(file.take(LINE_MAX as u64 + 1)).read_until(b'\n', &mut line).ok()?;
    let line = line.strip_suffix(b"\n")?;
    audit_verify::ledger::starts_with(line).then(|| {
        let store = path.parent().filter(|store| !store.as_os_str().is_empty()).unwrap_or(Path::new("."));
        TargetError::Ledger { path: path.to_owned(), store: store.to_owned() }
    })
}

/// Opens a file of a store if it is a regular one: reading a pipe that someone put there would never end.
pub fn open_regular(path: &Path) -> io::Result<fs::File> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "not a regular file"));
    }
    fs::File::open(path)
}
