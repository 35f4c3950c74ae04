//! Finding runs that were recorded.

use std::cmp::Ordering;
use std::io;
use std::path::{Path, PathBuf};

use super::{Place, StoreError, open_regular};
use crate::record::meta::Meta;

/// A recorded run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The run's id: the name of its directory.
    pub id: String,
    /// Its directory.
    pub path: PathBuf,
}

/// A run that could not be found.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// Nothing was recorded yet.
    #[error("no runs yet in {}; `sandbox run -- COMMAND` records one", list(.0))]
    NoRuns(Vec<PathBuf>),
    /// There are runs, but not this one.
    #[error("no run {}; {}", if id.is_empty() { "without a name" } else { id }, suggestion(near))]
    Unknown {
        /// What was asked for.
        id: String,
        /// The ids that begin so, the latest first; else those that are nearly the same.
        near: Vec<String>,
    },
    /// There was one.
    #[error("run {id} was removed ({}); the ledger keeps what it was", reason.escape_debug())]
    Removed {
        /// What was asked for.
        id: String,
        /// Why, as the ledger has it.
        reason: String,
    },
    /// A file that is not the log of a run.
    #[error("{}: is a file; a run is a directory with events.jsonl in it. To read this file as a log, put it into a new directory under that name: mkdir DIR && cp {} DIR/events.jsonl", .0.display(), .0.display())]
    AFile(PathBuf),
    /// A path that holds no log.
    #[error("{}: no events.jsonl there, so it is not the directory of a run", .0.display())]
    NotARun(PathBuf),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What to ask for instead.
fn suggestion(near: &[String]) -> String {
    /// As many as a person looks through.
    const NAMED: usize = 5;
    match near {
        [] => "`sandbox runs` lists them".to_owned(),
        [one] => format!("did you mean {one}?"),
        few if few.len() <= NAMED => format!("did you mean one of {}?", few.join(", ")),
        many => {
            let named = many[..NAMED].join(", ");
            format!("did you mean one of {named}, … ({} runs; `sandbox runs` lists them)?", many.len())
        }
    }
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" and ")
}

/// The stores that a user's runs may be in.
#[derive(Clone, Debug)]
pub struct FoundStores {
    stores: Vec<PathBuf>,
}

impl FoundStores {
    /// `$SANDBOX_HOME` alone if it is set; else what root recorded for the user, what the user recorded, and
    /// what this process's own user recorded.
    pub fn for_reading(place: &Place) -> Self {
        let mut stores = match &place.sandbox_home {
            Some(home) => vec![home.clone()],
            None => vec![
                Path::new(super::SYSTEM_STORES).join(place.reader.uid.to_string()),
                place.reader.home.join(".sandbox"),
                place.recorder.home.join(".sandbox"),
            ],
        };
        let mut seen = Vec::new();
        stores.retain(|store| {
            !seen.contains(store) && {
                seen.push(store.clone());
                // A user without a home has no store there; of `SANDBOX_HOME` something else was meant.
                place.sandbox_home.is_some() || store.is_absolute()
            }
        });
        Self { stores }
    }

    /// This store alone.
    pub fn only(store: &Path) -> Self {
        Self { stores: vec![store.to_owned()] }
    }

    /// All runs, the oldest first.
    pub fn runs(&self) -> Result<Vec<Found>, StoreError> {
        let mut runs = Vec::new();
        for store in &self.stores {
            if !store.is_absolute() {
                // As who records is told.
                return Err(StoreError::Relative(store.clone()));
            }
            let directory = store.join("runs");
            let entries = match std::fs::read_dir(&directory) {
                Ok(entries) => entries,
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound) => continue,
                Err(error) => return Err(StoreError::io("read", &directory, error)),
            };
            for entry in entries {
                let entry = entry.map_err(|e| StoreError::io("list", &directory, e))?;
                // What is no directory, or has a name that no run has, is not the product's.
                if let Ok(id) = entry.file_name().into_string()
                    && !id.starts_with('.')
                    && entry.file_type().is_ok_and(|kind| kind.is_dir())
                {
                    runs.push(Found { id, path: entry.path() });
                }
            }
        }
        runs.sort_by(by_age);
        Ok(runs)
    }

    /// The run that `which` names: `last`, an id, or the path of a run's directory or log.
    pub fn find(&self, which: &str) -> Result<Found, FindError> {
        if which.contains('/') {
            return at_path(Path::new(which));
        }
        let mut runs = self.runs()?;
        if let Some(at) = runs.iter().position(|run| run.id == which) {
            return Ok(runs.swap_remove(at));
        }
        // `audit-verify` takes a directory by its bare name too.
        if which != "last" && !which.is_empty() && Path::new(which).exists() {
            return at_path(Path::new(which));
        }
        if which != "last"
            && let Some(reason) = self.removed(which)
        {
            return Err(FindError::Removed { id: which.to_owned(), reason });
        }
        match (which, runs.pop()) {
            (_, None) => Err(FindError::NoRuns(self.stores.clone())),
            ("last", Some(last)) => Ok(last),
            (_, Some(last)) => {
                runs.push(last);
                Err(FindError::Unknown { id: which.to_owned(), near: near(which, &runs) })
            }
        }
    }

    /// The runs of these names, in an order of their own: that in which they are named has no meaning, and one is one,
    /// however often.
    ///
    /// # Errors
    /// As for [`FoundStores::find`], of the first.
    pub fn find_all(&self, names: &[String]) -> Result<Vec<Found>, FindError> {
        let mut found: Vec<Found> = names.iter().map(|name| self.find(name)).collect::<Result<_, _>>()?;
        found.sort_by(|one, other| (&one.id, &one.path).cmp(&(&other.id, &other.path)));
        found.dedup_by(|one, other| one.path == other.path);
        Ok(found)
    }

    /// Why a run was removed, as far as a ledger that can be read says so. It is for a message alone: nothing is judged.
    fn removed(&self, id: &str) -> Option<String> {
        self.stores.iter().find_map(|store| {
            let ledger = open_regular(&store.join(audit_verify::ledger::FILE)).ok()?;
            let ledger = audit_verify::ledger::read(ledger, &[]).ok()?;
            ledger.run(id)?.removed.clone()
        })
    }

    /// Where was looked.
    pub fn stores(&self) -> &[PathBuf] {
        &self.stores
    }
}

fn at_path(path: &Path) -> Result<Found, FindError> {
    let directory = if path.file_name().is_some_and(|name| name == "events.jsonl") {
        path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
    } else {
        path
    };
    let directory = directory.canonicalize().map_err(|e| StoreError::io("open", path, e))?;
    if directory.is_file() {
        return Err(FindError::AFile(path.to_owned()));
    }
    match directory.join("events.jsonl").try_exists() {
        Ok(true) => {}
        Ok(false) => return Err(FindError::NotARun(directory)),
        Err(error) => return Err(StoreError::io("look into", &directory, error).into()),
    }
    let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let id = Meta::read(&directory).map_or(name, |meta| meta.run_id);
    Ok(Found { id, path: directory })
}

/// By the second in the id; within one second by the start that meta.json has, which is read only then.
fn by_age(left: &Found, right: &Found) -> Ordering {
    let second = |run: &Found| run.id.get(..15).unwrap_or(&run.id).to_owned();
    let start = |run: &Found| Meta::read(&run.path).map_or(0, |meta| meta.start_ns);
    second(left)
        .cmp(&second(right))
        .then_with(|| start(left).cmp(&start(right)))
        .then_with(|| left.id.len().cmp(&right.id.len()))
        .then_with(|| left.id.cmp(&right.id))
}

/// The ids that begin with `which`, the latest first. Where none does, those with the fewest edits to it, if these are so
/// few that they may be slips: ids of other moments differ in a few digits as well.
fn near(which: &str, runs: &[Found]) -> Vec<String> {
    const SLIPS: usize = 2;
    let latest_first = || runs.iter().rev().map(|run| run.id.clone());
    if !which.is_empty() {
        let begin_so: Vec<String> = latest_first().filter(|id| id.starts_with(which)).collect();
        if !begin_so.is_empty() {
            return begin_so;
        }
    }
    let fewest = runs.iter().map(|run| distance(which, &run.id)).min().unwrap_or(usize::MAX);
    if fewest > SLIPS.min(which.len() / 2) {
        return Vec::new();
    }
    latest_first().filter(|id| distance(which, id) == fewest).collect()
}

/// Levenshtein distance in bytes.
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (at, a) in left.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], at + 1);
        for (column, b) in right.bytes().enumerate() {
            let change = diagonal + usize::from(a != b);
            diagonal = row[column + 1];
            row[column + 1] = change.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}
