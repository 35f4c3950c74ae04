//! What one run asked of a policy, counted while its record is read: each path and each program is kept once.

use std::collections::{BTreeMap, BTreeSet};

use foldhash::HashMap;

use super::{PROGRAMS, Reach, Tally};
use crate::access::{Access, AccessSet};

/// What one run asked of a policy.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    programs: Programs,
    pub(super) files: HashMap<Box<[u8]>, Count>,
    pub(super) executed: HashMap<Box<[u8]>, Count>,
    pub(super) ends: HashMap<Reach, Count>,
    pub(super) renamed: BTreeSet<(Vec<u8>, Vec<u8>, bool)>,
    /// Those of them that are directories.
    pub(super) moved: BTreeSet<(Vec<u8>, Vec<u8>, bool)>,
    pub(super) words: BTreeMap<&'static [&'static str], Count>,
}

/// Executables, each with a number.
#[derive(Clone, Debug, Default)]
struct Programs {
    names: Vec<Box<[u8]>>,
    numbers: HashMap<Box<[u8]>, u32>,
}

impl Programs {
    fn number(&mut self, program: &[u8]) -> u32 {
        if let Some(number) = self.numbers.get(program) {
            return *number;
        }
        // A record has far fewer lines.
        let number = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        self.names.push(program.into());
        self.numbers.insert(program.into(), number);
        number
    }
}

/// How often one run asked for something, and who did.
#[derive(Clone, Debug, Default)]
pub(super) struct Count {
    pub accesses: AccessSet,
    pub times: u64,
    /// The first of them.
    uses: Vec<Deed>,
}

/// What one program asked for at once, and how often it did.
#[derive(Clone, Copy, Debug)]
struct Deed {
    /// By its number.
    program: u32,
    accesses: AccessSet,
    times: u64,
}

impl Count {
    fn add(&mut self, accesses: AccessSet, program: u32, times: u64) {
        self.accesses = self.accesses.union(accesses);
        self.times = self.times.saturating_add(times);
        let same = |deed: &Deed| (deed.program, deed.accesses) == (program, accesses);
        match self.uses.iter().position(same) {
            Some(at) => self.uses[at].times = self.uses[at].times.saturating_add(times),
            None if self.uses.len() < PROGRAMS => self.uses.push(Deed { program, accesses, times }),
            None => {}
        }
    }

    /// The same, asked for nowhere.
    fn unused(&self) -> Count {
        let uses = self.uses.iter().map(|deed| Deed { times: 0, ..*deed }).collect();
        Count { accesses: self.accesses, times: 0, uses }
    }

    /// Those who asked for any of these accesses; an execution and a question have none.
    fn uses(&self, accesses: AccessSet) -> impl Iterator<Item = &Deed> {
        let meant = move |deed: &&Deed| accesses.is_empty() || deed.accesses.overlaps(accesses);
        self.uses.iter().filter(meant)
    }

    /// How often any of these accesses was asked for.
    pub fn times(&self, accesses: AccessSet) -> u64 {
        self.uses(accesses).fold(0, |all, deed| all.saturating_add(deed.times))
    }
}

/// Adds to a count under a key that is only copied where it is new.
fn count(map: &mut HashMap<Box<[u8]>, Count>, key: &[u8], accesses: AccessSet, by: u32, times: u64) {
    match map.get_mut(key) {
        Some(count) => count.add(accesses, by, times),
        None => map.entry(key.into()).or_default().add(accesses, by, times),
    }
}

/// What is asked below either of two directories is asked below both; it counts once.
fn mirror(map: &mut HashMap<Box<[u8]>, Count>, one: &[u8], other: &[u8]) {
    let below = |path: &[u8], from: &[u8], to: &[u8]| -> Option<Box<[u8]>> {
        let rest = path.strip_prefix(from).filter(|rest| rest.starts_with(b"/"))?;
        Some([to, rest].concat().into())
    };
    let twins: Vec<(Box<[u8]>, Count)> = map
        .iter()
        .filter_map(|(path, count)| {
            let twin = below(path, one, other).or_else(|| below(path, other, one))?;
            Some((twin, count.unused()))
        })
        .collect();
    for (twin, count) in twins {
        let known = map.entry(twin).or_insert_with(|| Count { accesses: AccessSet::EMPTY, ..count.clone() });
        known.accesses = known.accesses.union(count.accesses);
    }
}

impl Seen {
    /// Accesses of the section `files` to a path.
    pub fn file(&mut self, accesses: AccessSet, path: &[u8], by: &[u8], times: u64) {
        let by = self.programs.number(by);
        count(&mut self.files, path, accesses, by, times);
    }

    /// The execution of a file.
    pub fn executed(&mut self, path: &[u8], by: &[u8], times: u64) {
        let by = self.programs.number(by);
        count(&mut self.executed, path, Access::Run.into(), by, times);
    }

    /// A network access, or a question for a name.
    pub fn reached(&mut self, access: Option<Access>, end: Reach, by: &[u8], times: u64) {
        let by = self.programs.number(by);
        let accesses = access.map_or(AccessSet::EMPTY, AccessSet::from);
        self.ends.entry(end).or_default().add(accesses, by, times);
    }

    /// What lies at `old` got the name `new`; with `swap` also the other way round.
    pub fn renamed(&mut self, old: &[u8], new: &[u8], swap: bool) {
        self.renamed.insert((old.to_vec(), new.to_vec(), swap));
    }

    /// The same of a directory, after [`Seen::renamed`]: everything below it gets a new name too.
    pub fn moved(&mut self, old: &[u8], new: &[u8], swap: bool) {
        self.moved.insert((old.to_vec(), new.to_vec(), swap));
    }

    /// To be called when all was seen. A directory may move only between places of which the hooks can tell that the same
    /// is allowed below both: whatever was asked below one name was as good as asked below the other.
    pub fn settle(&mut self) {
        for (old, new, _) in &self.moved {
            for map in [&mut self.files, &mut self.executed] {
                mirror(map, old, new);
            }
        }
    }

    /// An act that any of these words of `kernel` opens.
    pub fn kernel(&mut self, words: &'static [&'static str], by: &[u8], times: u64) {
        let by = self.programs.number(by);
        self.words.entry(words).or_default().add(AccessSet::EMPTY, by, times);
    }

    /// Adds the programs that asked for any of these accesses to a tally, in the order of their names.
    pub(super) fn tell_programs(&self, count: &Count, accesses: AccessSet, tally: &mut Tally) {
        if tally.programs.len() < PROGRAMS {
            let mut names: Vec<&[u8]> =
                count.uses(accesses).filter_map(|deed| self.names(deed.program)).collect();
            names.sort_unstable();
            names.into_iter().for_each(|name| tally.by(name));
        }
    }

    fn names(&self, number: u32) -> Option<&[u8]> {
        self.programs.names.get(usize::try_from(number).ok()?).map(AsRef::as_ref)
    }

    /// A count of the run at this place among all as a tally.
    pub(super) fn tally(&self, count: &Count, run: usize) -> Tally {
        Tally { count: count.times, ..self.tally_of(count, count.accesses, run) }
    }

    /// The same of some of the accesses.
    pub(super) fn tally_of(&self, count: &Count, accesses: AccessSet, run: usize) -> Tally {
        let runs = BTreeSet::from([run]);
        let mut tally = Tally { accesses, runs, count: count.times(accesses), programs: BTreeSet::new() };
        self.tell_programs(count, accesses, &mut tally);
        tally
    }
}
