//! System calls by name, and their numbers on the architectures that are known.
//!
//! It says nothing about what a call does, nor whether it is closed: that is [`crate::compile::seccomp`]'s.

use std::sync::LazyLock;

use crate::nearest::nearest;

/// `name x86_64 aarch64`, a line each.
const TABLE: &str = include_str!("syscalls.txt");

/// A machine's set of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Architecture {
    /// x86-64; x32 and 32-bit calls are others.
    X86_64,
    /// 64-bit ARM.
    Aarch64,
}

impl Architecture {
    /// All of them.
    pub const ALL: [Architecture; 2] = [Architecture::X86_64, Architecture::Aarch64];
}

/// One call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Syscall {
    /// As the manual pages call it, and the kernel's tables.
    pub name: &'static str,
    x86_64: Option<u32>,
    aarch64: Option<u32>,
}

impl Syscall {
    /// Its number; `None` where the architecture has no such call.
    pub fn number(&self, architecture: Architecture) -> Option<u32> {
        match architecture {
            Architecture::X86_64 => self.x86_64,
            Architecture::Aarch64 => self.aarch64,
        }
    }
}

static CALLS: LazyLock<Vec<Syscall>> = LazyLock::new(|| TABLE.lines().filter_map(line).collect());

fn line(text: &'static str) -> Option<Syscall> {
    if text.starts_with('#') {
        return None;
    }
    let mut words = text.split(' ');
    let name = words.next()?;
    let mut number = || words.next().map(|word| word.parse().ok());
    Some(Syscall { name, x86_64: number()?, aarch64: number()? })
}

/// All that is known, ascending by name.
pub fn all() -> &'static [Syscall] {
    &CALLS
}

/// The call of this name.
pub fn find(name: &str) -> Option<&'static Syscall> {
    let at = CALLS.binary_search_by(|call| call.name.cmp(name)).ok()?;
    Some(&CALLS[at])
}

/// The highest number that is known: a call above it is newer than this table.
pub fn newest(architecture: Architecture) -> u32 {
    CALLS.iter().filter_map(|call| call.number(architecture)).max().unwrap_or_default()
}

/// The name that a misspelt one was most likely meant to be.
pub(crate) fn nearest_to(name: &str) -> Option<&'static str> {
    nearest(name, CALLS.iter().map(|call| call.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_line_is_a_call_with_a_number_and_stands_in_its_place() {
        let lines: Vec<&str> = TABLE.lines().filter(|line| !line.starts_with('#')).collect();
        let again: Vec<String> = all()
            .iter()
            .map(|call| {
                let word = |number: Option<u32>| number.map_or("-".to_owned(), |number| number.to_string());
                format!("{} {} {}", call.name, word(call.x86_64), word(call.aarch64))
            })
            .collect();
        assert_eq!(again, lines);
        assert!(all().is_sorted_by(|a, b| a.name < b.name));
        for architecture in Architecture::ALL {
            let numbers: Vec<u32> = all().iter().filter_map(|call| call.number(architecture)).collect();
            assert_eq!(numbers.iter().collect::<BTreeSet<_>>().len(), numbers.len(), "a number stands twice");
            assert_eq!(newest(architecture), 470);
        }
        assert!(all().iter().all(|call| call.x86_64.is_some() || call.aarch64.is_some()));
        assert_eq!(find("uselib").and_then(|call| call.number(Architecture::Aarch64)), None);
        assert_eq!(find("openat").and_then(|call| call.number(Architecture::Aarch64)), Some(56));
        assert_eq!((find("opnat"), nearest_to("opnat")), (None, Some("openat")));
    }
}
