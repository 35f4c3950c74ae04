//! What rules say, as masks and conditions: the verdict blocks of states, port ranges and digests.

use sandbox_ebpf::abi::policy::Entry;

/// Conditions on the process, and in rules on contents and on the network on the object: numbers of sets plus one;
/// 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Condition {
    pub by: u8,
    pub unless_by: u8,
    pub under: u8,
    pub except: u8,
}

impl Condition {
    /// Always true.
    pub const NONE: Self = Self { by: 0, unless_by: 0, under: 0, except: 0 };

    /// Those of an entry.
    pub fn of(entry: &Entry) -> Self {
        let Entry { by, unless_by, under, except, .. } = *entry;
        Self { by, unless_by, under, except }
    }

    fn entry(self, allow: u16, deny: u16) -> Entry {
        let Self { by, unless_by, under, except } = self;
        Entry { allow, deny, by, unless_by, under, except }
    }
}

/// What rules of one kind say where they match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Meaning {
    pub condition: Condition,
    pub allow: u16,
    pub deny: u16,
}

/// What several rules say together, condition by condition.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    /// Ascending by condition. Few: looked through.
    all: Vec<Meaning>,
}

impl Said {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Adds what one more says.
    pub fn add(&mut self, meaning: Meaning) {
        match self.all.binary_search_by_key(&meaning.condition, |known| known.condition) {
            Ok(at) => {
                self.all[at].allow |= meaning.allow;
                self.all[at].deny |= meaning.deny;
            }
            Err(at) => self.all.insert(at, meaning),
        }
    }

    /// What is allowed and denied where a condition holds, as far as that is sure.
    fn under(&self, condition: Condition) -> (u16, u16) {
        let found = |condition| {
            let at = self.all.binary_search_by_key(&condition, |known| known.condition);
            at.map_or((0, 0), |at| (self.all[at].allow, self.all[at].deny))
        };
        let (always, here) = (found(Condition::NONE), found(condition));
        (always.0 | here.0, always.1 | here.1)
    }

    /// Whether `meaning` adds nothing.
    pub fn covers(&self, meaning: &Meaning) -> bool {
        let (allow, deny) = self.under(meaning.condition);
        meaning.deny & !deny == 0 && meaning.allow & !(allow | deny) == 0
    }

    /// The block that says all of it, without what changes nothing: an allow beside a deny, and under a condition
    /// what holds without it.
    pub fn block(&self) -> Block {
        let (allow, deny) = self.under(Condition::NONE);
        let mut block = Block { allow: allow & !deny, deny, entries: Vec::new() };
        for said in self.all.iter().filter(|said| said.condition != Condition::NONE) {
            let more_deny = said.deny & !deny;
            let more_allow = said.allow & !(allow | deny | more_deny);
            if more_allow | more_deny != 0 {
                block.entries.push(said.condition.entry(more_allow, more_deny));
            }
        }
        block
    }
}

impl FromIterator<Meaning> for Said {
    fn from_iter<I: IntoIterator<Item = Meaning>>(iter: I) -> Self {
        let mut said = Self::default();
        iter.into_iter().for_each(|meaning| said.add(meaning));
        said
    }
}

/// A verdict block.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Block {
    /// Without conditions.
    pub allow: u16,
    pub deny: u16,
    /// Under conditions, ascending by them.
    pub entries: Vec<Entry>,
}

impl Block {
    /// A block of the network: what each policy says, closed one by one, and the sets of exceptions that the end
    /// belongs to.
    pub fn of_parts(parts: impl IntoIterator<Item = Said>, marks: impl IntoIterator<Item = u8>) -> Self {
        let mark = |set: u8| Entry { allow: set.into(), by: Entry::MARK, ..Entry::default() };
        let mut all = Self { entries: marks.into_iter().map(mark).collect(), ..Self::default() };
        for (part, said) in parts.into_iter().enumerate() {
            let Self { allow, deny, entries } = said.block();
            if part == 0 {
                (all.allow, all.deny) = (allow, deny);
            } else if allow | deny != 0 {
                all.entries.push(Condition::NONE.entry(allow, deny));
            }
            all.entries.extend(entries);
            all.entries.push(Entry { by: Entry::END, ..Entry::default() });
        }
        all
    }

    /// What it says, to add to.
    pub fn said(&self) -> Said {
        let always = Meaning { condition: Condition::NONE, allow: self.allow, deny: self.deny };
        let under = self.entries.iter().map(|entry| Meaning {
            condition: Condition::of(entry),
            allow: entry.allow,
            deny: entry.deny,
        });
        std::iter::once(always).chain(under).collect()
    }

    /// What is allowed and denied under a condition, besides what is without.
    fn under(&self, condition: Condition) -> (u16, u16) {
        let at = self.entries.binary_search_by_key(&condition, Condition::of);
        at.map_or((0, 0), |at| (self.entries[at].allow, self.entries[at].deny))
    }

    /// Whether nothing is denied that `other` does not deny, whatever conditions hold: its denials are among the
    /// other's, and the other's allowances among its own.
    pub fn denies_within(&self, other: &Self) -> bool {
        let denied = |entry: &Entry| entry.deny & !(other.deny | other.under(Condition::of(entry)).1) == 0;
        let allowed = |entry: &Entry| entry.allow & !(self.allow | self.under(Condition::of(entry)).0) == 0;
        self.deny & !other.deny == 0
            && other.allow & !self.allow == 0
            && self.entries.iter().all(denied)
            && other.entries.iter().all(allowed)
    }
}

/// Blocks by number, each once; number 0 says nothing.
#[derive(Debug)]
pub(super) struct Blocks {
    blocks: Vec<Block>,
    numbers: std::collections::HashMap<Block, u32>,
}

impl Blocks {
    pub fn new() -> Self {
        let nothing = Block::default();
        Self { blocks: vec![nothing.clone()], numbers: std::iter::once((nothing, 0)).collect() }
    }

    pub fn number(&mut self, block: Block) -> u32 {
        if let Some(number) = self.numbers.get(&block) {
            return *number;
        }
        let number = u32::try_from(self.blocks.len()).unwrap_or(u32::MAX);
        self.blocks.push(block.clone());
        self.numbers.insert(block, number);
        number
    }

    pub fn get(&self, number: u32) -> &Block {
        &self.blocks[number as usize]
    }
}
