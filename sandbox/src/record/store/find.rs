//! Finding runs that were recorded.

use std::cmp::Ordering;
use std::io;
use std::path::{Path, PathBuf};

use super::{Place, StoreError};
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
    #[error("no run {}; {}", if id.is_empty() { "without a name" } else { id }, match nearest { Some(nearest) => format!("did you mean {nearest}?"), None => "`sandbox runs` lists them".to_owned() })]
    Unknown {
        /// What was asked for.
        id: String,
        /// The id most like it.
        nearest: Option<String>,
    },
    /// A path that holds no log.
    #[error("{}: no events.jsonl there, so it is not the directory of a run", .0.display())]
    NotARun(PathBuf),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
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
                true
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
        match (which, runs.pop()) {
            (_, None) => Err(FindError::NoRuns(self.stores.clone())),
            ("last", Some(last)) => Ok(last),
            (_, Some(last)) => {
                runs.push(last);
                Err(FindError::Unknown { id: which.to_owned(), nearest: nearest(which, &runs) })
            }
        }
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

/// The id with the fewest edits to `which`, if that is at most half of it.
fn nearest(which: &str, runs: &[Found]) -> Option<String> {
    let (distance, run) =
        runs.iter().rev().map(|run| (distance(which, &run.id), run)).min_by_key(|(distance, _)| *distance)?;
    (distance <= which.len().max(run.id.len()) / 2).then(|| run.id.clone())
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
