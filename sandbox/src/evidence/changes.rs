//! What the run changed: each path that it wrote, made, renamed, linked or deleted, with size and SHA-256 before and after.
//!
//! The log says which paths they are. They are looked at once more when the run is over, by name and as this process sees
//! it: a run that made mounts of its own may have meant other files.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use super::file::{self, Missing};
use super::workspace::{Before, Known, look};
use crate::event::{Event, EventType, Key, ProcId, Value};
use crate::record::runner_event;

/// Paths that are remembered, at most.
const PATHS_MAX: usize = 200_000;

/// How long one file may take beside the reading: its file system may be one that never answers.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes that any disk gives in a second, as a power of two.
const SLOWEST: u32 = 24;

/// The changes of one run.
pub struct Changes {
    max: u64,
    before: Before,
    /// Whether a path is of a place that only the run saw.
    own: Box<dyn Fn(&Path) -> bool + Send>,
    paths: BTreeSet<Vec<u8>>,
    /// Changes of which the path was not remembered.
    forgotten: u64,
}

impl Changes {
    /// None yet; of files up to `max` bytes the contents count. `own` tells paths of places that only the run sees.
    pub fn new(max: u64, before: Before, own: impl Fn(&Path) -> bool + Send + 'static) -> Changes {
        Changes { max, before, own: Box::new(own), paths: BTreeSet::new(), forgotten: 0 }
    }

    /// Learns from an event.
    pub fn learn(&mut self, event: &Event) {
        // A call whose result is not known may have changed something: whether it did is looked at in the end.
        if !matches!(event.get(Key::Ret), Some(Value::Int(0..)) | None) {
            return;
        }
        let both = [Key::Path, Key::Path2];
        let keys = match event.event_type {
            EventType::FileOpen | EventType::FileCreate if writes(event) => &both[..1],
            EventType::FileCreate | EventType::FileDelete | EventType::FileTruncate => &both[..1],
            EventType::FileRename => &both[..],
            EventType::FileLink => &both[1..],
            _ => return,
        };
        for key in keys {
            match event.get(*key) {
                Some(Value::Bytes(path)) if path.first() == Some(&b'/') && !is_device(path) => self.add(path),
                _ => {}
            }
        }
    }

    fn add(&mut self, path: &[u8]) {
        if self.paths.contains(path) {
            return;
        }
        if self.paths.len() < PATHS_MAX {
            self.paths.insert(path.to_vec());
        } else {
            self.forgotten += 1;
        }
    }

    /// Changes that no event can tell of, because there were too many.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Looks at every path once more; one event each, ascending by path. `process` is the run's first.
    pub fn tell(&mut self, process: ProcId) -> Vec<Event> {
        let paths = std::mem::take(&mut self.paths);
        let (own, others): (BTreeSet<_>, BTreeSet<_>) =
            paths.iter().cloned().partition(|path| (self.own)(Path::new(OsStr::from_bytes(path))));
        let mut after = self.look(&others);
        let mut events = Vec::with_capacity(paths.len());
        for path in paths {
            let unknown = |missing| Known { size: None, sha256: Err(missing) };
            let (before, now) = match own.contains(&path) {
                // By this name there is another file outside, or none.
                true => (unknown(Missing::OwnPlace), unknown(Missing::OwnPlace)),
                false => (
                    self.before.of(Path::new(OsStr::from_bytes(&path))),
                    after.remove(&path).unwrap_or(unknown(Missing::RunEnded)),
                ),
            };
            events.push(told(process, path, before, now));
        }
        events
    }

    /// What the files hold now, as far as they answer. A thread of its own looks, which may hang with its file.
    fn look(&self, paths: &BTreeSet<Vec<u8>>) -> BTreeMap<Vec<u8>, Known> {
        let (send, receive) = channel();
        let (max, list) = (self.max, paths.clone());
        let looking = thread::Builder::new().name("changes".into()).spawn(move || {
            for path in list {
                let known = look(Path::new(OsStr::from_bytes(&path)), max);
                if send.send((path, known)).is_err() {
                    return;
                }
            }
        });
        let patience = PATIENCE + Duration::from_secs(self.max >> SLOWEST);
        let mut known = BTreeMap::new();
        while looking.is_ok() && known.len() < paths.len() {
            match receive.recv_timeout(patience) {
                Ok((path, now)) => _ = known.insert(path, now),
                Err(_) => break,
            }
        }
        known
    }
}

/// Whether an open was for more than reading.
fn writes(event: &Event) -> bool {
    let Some(Value::List(access)) = event.get(Key::Access) else { return false };
    access.iter().any(|word| matches!(word.as_slice(), b"write" | b"create"))
}

/// Terminals, pipes and the kernel's own files hold nothing.
fn is_device(path: &[u8]) -> bool {
    [&b"/dev/"[..], b"/proc/", b"/sys/"].iter().any(|place| path.starts_with(place))
        && !path.starts_with(b"/dev/shm/")
}

fn told(process: ProcId, path: Vec<u8>, before: Known, after: Known) -> Event {
    let mut event = runner_event(EventType::FileChange, process);
    event.details = vec![(Key::Path, Value::Bytes(path))];
    let keys = [
        (before, Key::SizeBefore, Key::Sha256Before, Key::BeforeMissing),
        (after, Key::SizeAfter, Key::Sha256After, Key::AfterMissing),
    ];
    for (known, size, sha256, missing) in keys {
        if let Some(bytes) = known.size {
            event.set(size, Value::Uint(bytes));
        }
        match known.sha256 {
            Ok(hash) => event.set(sha256, Value::Bytes(file::hex(&hash))),
            Err(why) => event.set(missing, Value::Bytes(why.reason().into())),
        }
    }
    event
}
