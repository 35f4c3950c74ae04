//! The tables read exactly as the kernel side reads them.
//!
//! Whatever the tables hold, reading them ends, after as many steps as the path has bytes; what is not there is
//! [`Broken`], as it is in the kernel.

mod net;

use sandbox_ebpf::abi::policy::{Automaton, DigestKey, Entry, MAX_ENTRIES, Sets, below, owner, value};

use super::tables::Tables;
use crate::access::{Access, AccessSet};
use crate::digest::Digest;

pub use net::NetEnd;

/// The tables name a cell that is not there, or more of something than there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the tables of the policy are not whole")]
pub struct Broken;

/// What is denied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Denied {
    /// The accesses that are denied.
    pub accesses: AccessSet,
    /// Those of them that some rule denies, not only a default. Complete for `run` only: where a default denies an
    /// access that nothing allows, the tables do not say that a rule does so too.
    pub by_rule: AccessSet,
}

/// What is said so far.
#[derive(Clone, Copy, Default)]
struct Tally {
    /// Of the policy under way.
    allow: u16,
    deny: u16,
    /// Of all policies that are closed.
    denied: u16,
    by_rule: u16,
}

impl Tally {
    fn close(&mut self, default_deny: u16) {
        self.denied |= self.deny | (default_deny & !self.allow);
        self.by_rule |= self.deny;
        (self.allow, self.deny) = (0, 0);
    }
}

/// Of whom and what an entry's conditions are asked.
#[derive(Clone, Copy)]
struct Asked<'a> {
    sets: &'a Sets,
    /// The sets that the object belongs to.
    object: u64,
}

impl Asked<'_> {
    /// Whether the conditions of an entry surely hold, and whether they may.
    fn holds(&self, entry: &Entry) -> (bool, bool) {
        let has = |mask: u64, number: u8| mask >> (number.wrapping_sub(1) & 63) & 1 != 0;
        let Sets { sure_own, may_own, sure_line, may_line } = *self.sets;
        let object = entry.except == 0 || !has(self.object, entry.except);
        let each = |by: u64, unless_by: u64, under: u64| {
            object
                && (entry.by == 0 || has(by, entry.by))
                && (entry.unless_by == 0 || !has(unless_by, entry.unless_by))
                && (entry.under == 0 || has(under, entry.under))
        };
        // Whoever executed nothing yet may be any executable, though it is no one's ancestor as that.
        (each(sure_own, may_own, sure_line), each(may_own, sure_own, may_line | may_own))
    }
}

impl Tables {
    /// The file and exec accesses among `accesses` that are denied at `path` to a process of which `sets` is known.
    /// What rules on contents say is left out.
    ///
    /// # Errors
    ///
    /// The tables are not whole.
    pub fn denied_at(&self, sets: &Sets, accesses: AccessSet, path: &[u8]) -> Result<Denied, Broken> {
        let tally = self.judge(&Asked { sets, object: 0 }, path, None)?;
        Ok(Denied {
            accesses: AccessSet::from_path_bits(accesses.path_bits() & tally.denied),
            by_rule: AccessSet::from_path_bits(accesses.path_bits() & tally.by_rule),
        })
    }

    /// Whether a process may not execute the file at `path`, which holds what `digest` is the digest of. Where that
    /// is not known and some rule is about contents, it may not.
    ///
    /// # Errors
    ///
    /// The tables are not whole.
    pub fn denied_exec(&self, sets: &Sets, path: &[u8], digest: Option<&Digest>) -> Result<Denied, Broken> {
        let run = AccessSet::from(Access::Run);
        if self.header.hashes != 0 && digest.is_none() {
            return Ok(Denied { accesses: run, by_rule: run });
        }
        let asked = Asked { sets, object: self.mask_of(path)? };
        let tally = self.judge(&asked, path, digest.filter(|_| self.header.hashes != 0))?;
        Ok(Denied {
            accesses: AccessSet::from_path_bits(run.path_bits() & tally.denied),
            by_rule: AccessSet::from_path_bits(run.path_bits() & tally.by_rule),
        })
    }

    /// What is known of a process that has executed the file at `exe` (`None` where that is not known), of which
    /// `before` was known.
    ///
    /// # Errors
    ///
    /// The tables are not whole.
    pub fn sets_of(&self, exe: Option<&[u8]>, before: &Sets) -> Result<Sets, Broken> {
        let (sure_own, may_own) = match exe {
            Some(exe) => {
                let mask = self.mask_of(exe)?;
                (mask, mask | !self.header.sets)
            }
            None => (0, u64::MAX),
        };
        let sure_line = before.sure_line | sure_own;
        Ok(Sets { sure_own, may_own, sure_line, may_line: before.may_line | may_own })
    }

    /// Whether everything that is denied below the directory `old` is denied below `new` too: it may say no where
    /// the answer is yes, never the other way round.
    ///
    /// # Errors
    ///
    /// The tables are not whole.
    pub fn keeps_below(&self, old: &[u8], new: &[u8]) -> Result<bool, Broken> {
        for automaton in self.automata()? {
            let states = [old, new].map(|path| self.walk(automaton, &[path, b"/"].concat()));
            let [old, new] = [states[0]?, states[1]?];
            let marks = |state| -> Result<u16, Broken> {
                match self.block_of(automaton, state)? {
                    0 => Ok(0),
                    block => Ok(allow(self.cell(block)?)),
                }
            };
            let may = old == new || (marks(old)? & below::ORDINARY != 0 && marks(new)? & below::STRICT != 0);
            if !may {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether the hooks let a directory move from `old` to `new`, or with `swap` two change places.
    pub fn lets_move(&self, old: &[u8], new: &[u8], swap: bool) -> bool {
        let keeps = |old, new| self.keeps_below(old, new).unwrap_or(false);
        keeps(old, new) && (!swap || keeps(new, old))
    }

    fn automata(&self) -> Result<&[Automaton], Broken> {
        self.header.paths.get(..self.header.automata as usize).ok_or(Broken)
    }

    fn cell(&self, number: u32) -> Result<u64, Broken> {
        self.cells.get(number as usize).copied().ok_or(Broken)
    }

    /// The state after a path.
    fn walk(&self, automaton: &Automaton, path: &[u8]) -> Result<u32, Broken> {
        let mut state = automaton.start;
        for byte in path {
            if state == 0 {
                break;
            }
            let class = automaton.classes[usize::from(*byte)];
            let cell = self.cell(state.wrapping_add(u32::from(class)))?;
            state = if owner(cell) == state { value(cell) } else { value(self.cell(state)?) };
        }
        Ok(state)
    }

    /// The number of a state's block; 0 where it says nothing.
    fn block_of(&self, automaton: &Automaton, state: u32) -> Result<u32, Broken> {
        if state == 0 {
            return Ok(automaton.dead);
        }
        let cell = self.cell(state.wrapping_add(1))?;
        if owner(cell) == state { Ok(value(cell)) } else { Err(Broken) }
    }

    /// The sets of this policy that an executable belongs to.
    fn mask_of(&self, exe: &[u8]) -> Result<u64, Broken> {
        let subject = &self.header.subject;
        match self.block_of(subject, self.walk(subject, exe)?)? {
            0 => Ok(0),
            block => self.cell(block),
        }
    }

    /// The first cell of a block, and its entries.
    fn block(
        &self,
        block: u32,
    ) -> Result<(u64, impl Iterator<Item = Result<Entry, Broken>> + use<'_>), Broken> {
        let head = self.cell(block)?;
        let count = owner(head);
        if count as usize > MAX_ENTRIES {
            return Err(Broken);
        }
        let entry = move |at| Ok(Entry::from_cell(self.cell(block.checked_add(at).ok_or(Broken)?)?));
        Ok((head, (1..=count).map(entry)))
    }

    /// Adds what a block says.
    fn add(&self, tally: &mut Tally, block: u32, asked: &Asked<'_>) -> Result<(), Broken> {
        if block == 0 {
            return Ok(());
        }
        let (head, entries) = self.block(block)?;
        tally.allow |= allow(head);
        tally.deny |= deny(head);
        for entry in entries {
            let entry = entry?;
            let (surely, perhaps) = asked.holds(&entry);
            tally.allow |= if surely { entry.allow } else { 0 };
            tally.deny |= if perhaps { entry.deny } else { 0 };
        }
        Ok(())
    }

    /// Walks all automata over a path.
    fn judge(&self, asked: &Asked<'_>, path: &[u8], digest: Option<&Digest>) -> Result<Tally, Broken> {
        let mut tally = Tally::default();
        for (part, automaton) in (0..).zip(self.automata()?) {
            let state = self.walk(automaton, path)?;
            self.add(&mut tally, self.block_of(automaton, state)?, asked)?;
            if automaton.last == 0 {
                continue;
            }
            if let Some(Digest(digest)) = digest {
                let key = DigestKey { policy: self.header.id, part, digest: *digest };
                let found = self.digests.iter().find(|(known, _)| *known == key);
                self.add(&mut tally, found.map_or(0, |(_, block)| *block), asked)?;
            }
            tally.close(low(automaton.default_deny));
        }
        Ok(tally)
    }
}

/// What the first cell of a block allows.
fn allow(head: u64) -> u16 {
    low(value(head))
}

/// What the first cell of a block denies.
fn deny(head: u64) -> u16 {
    low(value(head) >> 16)
}

/// The lower half.
fn low(bits: u32) -> u16 {
    let [low, high, ..] = bits.to_le_bytes();
    u16::from_le_bytes([low, high])
}
