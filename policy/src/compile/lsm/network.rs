//! What the network rules say, source by source: addresses, names, the run's own listeners, unix sockets; see
//! [`sandbox_ebpf::abi::policy`].
//!
//! An exception that the same source knows is made while its tables are. What another source knows, and that another
//! name of the same address is excepted, is a condition: a set of ends, which the blocks of the sources that know
//! them name.

use sandbox_ebpf::abi::policy::{AddressNode, MAX_SETS, PolicyHeader};

use super::addresses::{self, Trie};
use super::block::{Blocks, Meaning};
use super::layout::{Front, Full, States};
use super::minimise::Automaton;
use super::ports::{Lists, Placing};
use super::sockets::{self, Kind};
use super::{AddressEntry, Names, hosts, ports};
use crate::address::Target;
use crate::compile::CompileError;
use crate::ends::Source;

/// What one rule says.
pub(super) struct Rule<'a> {
    /// Its policy, among those that hold together.
    pub part: usize,
    pub name: u32,
    pub meaning: Meaning,
    pub objects: &'a [Target],
    pub except: &'a [Target],
}

impl<'a> Rule<'a> {
    fn new(part: usize, name: u32, meaning: Meaning, objects: &'a [Target], except: &'a [Target]) -> Self {
        Self { part, name, meaning, objects, except }
    }

    /// Whether its exceptions that the source knows must be told to others: an end has one address, and is the run's
    /// or not, but may have several names.
    fn tells(&self, source: Source) -> bool {
        let elsewhere = |target: &Target| match target.meaning.source() {
            Source::Socket => false,
            of_target => source == Source::Name || of_target != source,
        };
        source != Source::Socket && self.objects.iter().any(elsewhere)
    }

    /// The exceptions that are told to other sources.
    fn told(&self) -> impl Iterator<Item = &'a Target> {
        self.except.iter().filter(|target| self.tells(target.meaning.source()))
    }

    /// The set that an end belongs to where an exception that the source knows matches.
    pub fn marks(&self, source: Source) -> Option<u8> {
        self.meaning.condition.except.checked_sub(1).filter(|_| self.tells(source))
    }
}

/// The rules as they are collected.
#[derive(Default)]
pub(super) struct Network<'a> {
    rules: Vec<Rule<'a>>,
    /// Sets of ends by number: exceptions as they are written, ascending.
    sets: Vec<Vec<&'a str>>,
    /// How many exceptions of the sets each rule has.
    weights: Vec<(u32, usize)>,
}

impl<'a> Network<'a> {
    /// Adds what one rule of a policy says.
    pub fn add(
        &mut self,
        part: usize,
        (name, meaning): (u32, Meaning),
        (objects, except): (&'a [Target], &'a [Target]),
        names: &Names,
    ) -> Result<(), CompileError> {
        let mut rule = Rule::new(part, name, meaning, objects, except);
        let mut told: Vec<&str> = rule.told().map(Target::text).collect();
        told.sort_unstable();
        told.dedup();
        if !told.is_empty() {
            self.weights.push((name, told.len()));
            let at = self.sets.iter().position(|set| *set == told).unwrap_or(self.sets.len());
            if at == MAX_SETS {
                let rules = names.heaviest(self.weights.iter().copied());
                return Err(CompileError::ExceptionsTooMany { limit: MAX_SETS, rules });
            }
            if at == self.sets.len() {
                self.sets.push(told);
            }
            rule.meaning.condition.except = u8::try_from(at + 1).unwrap_or(u8::MAX);
        }
        self.rules.push(rule);
        Ok(())
    }

    /// Makes the tables of all sources. `defaults` are the accesses that each policy denies where no rule of its own
    /// allows them.
    pub fn compile(
        &self,
        defaults: Vec<u16>,
        blocks: &mut Blocks,
        names: &Names,
    ) -> Result<Sources, CompileError> {
        let (rules, parts) = (self.rules.as_slice(), defaults.len());
        let path = sockets::compile(Kind::Path, rules, parts, blocks, names)?;
        let abstracts = sockets::compile(Kind::Abstract, rules, parts, blocks, names)?;
        let mut lists = Lists::new(rules, parts, blocks, names);
        let trie = addresses::compile(rules, &mut lists, names)?;
        let hosts = hosts::compile(rules, &mut lists, names)?;
        let own: Vec<_> = ports::Entry::all(rules, Source::Own).collect();
        let own = lists.add(Source::Own, &own, || "`own`".to_owned())?;
        let lists = lists.finish();
        let on_sockets = rules
            .iter()
            .filter(|rule| rule.objects.iter().any(|target| target.meaning.source() == Source::Socket));
        let unix = on_sockets.fold(0, |all, rule| all | rule.meaning.allow | rule.meaning.deny);
        Ok(Sources { defaults, marks: !self.sets.is_empty(), unix, lists, trie, hosts, own, path, abstracts })
    }
}

/// The tables of all sources, before they have their cells.
pub(super) struct Sources {
    defaults: Vec<u16>,
    marks: bool,
    /// Accesses that some rule on a unix socket is about.
    unix: u16,
    lists: Placing,
    trie: Trie,
    hosts: Option<Automaton>,
    /// The number of a list.
    own: u32,
    path: Option<Automaton>,
    abstracts: Option<Automaton>,
}

/// An automaton, and the cell of what each state says.
type Said = (Automaton, Vec<u32>);

/// The same where all but the states has its cells.
pub(super) struct Placed {
    pub addresses: Vec<AddressEntry>,
    defaults: Vec<u16>,
    marks: bool,
    unix: u16,
    own: AddressNode,
    hosts: Option<Said>,
    path: Option<Said>,
    abstracts: Option<Said>,
}

impl Sources {
    /// Puts what is no state among the cells.
    pub fn place(self, id: u32, front: &mut Front<'_>) -> Placed {
        let Sources { defaults, marks, unix, lists, trie, hosts, own, path, abstracts } = self;
        let nodes = lists.place(front);
        let hosts = hosts.map(|automaton| {
            let cells = front.nodes(&automaton, &nodes);
            (automaton, cells)
        });
        let [path, abstracts] = [path, abstracts].map(|automaton| {
            automaton.map(|automaton| {
                let cells = front.verdicts(&automaton);
                (automaton, cells)
            })
        });
        let own = match own {
            0 => AddressNode::default(),
            list => nodes[list as usize],
        };
        Placed { addresses: trie.place(id, &nodes), defaults, marks, unix, own, hosts, path, abstracts }
    }
}

impl Placed {
    /// Puts the states among the cells, and all of it into the header.
    pub fn finish(&self, room: &mut States, header: &mut PolicyHeader) -> Result<(), Full> {
        header.parts = u32::try_from(self.defaults.len()).unwrap_or(u32::MAX);
        header.net_defaults.iter_mut().zip(&self.defaults).for_each(|(place, default)| *place = *default);
        header.net_default_deny = self.defaults.iter().fold(0, |all, default| all | u32::from(*default));
        header.net_marks = self.marks.into();
        header.unix = self.unix.into();
        header.own = self.own;
        let automata = [
            (&self.hosts, &mut header.host),
            (&self.path, &mut header.unix_path),
            (&self.abstracts, &mut header.unix_abstract),
        ];
        for (automaton, place) in automata {
            if let Some((automaton, cells)) = automaton {
                *place = room.place(automaton, cells)?;
            }
        }
        Ok(())
    }
}
