//! The plan of Landlock: the part of a policy that lists of allowed directories, files and TCP ports can express.
//!
//! Landlock denies what it handles and no rule of its own grants. So it can hold a section whose default is `deny`,
//! and of its rules those that allow whole directories or single files. It cannot deny inside of what it grants.
//!
//! **The plan never grants what the policy denies without saying so**: each rule that denies and is not held is
//! listed, by access. A rule that allows and cannot be expressed is left out, which makes the plan narrower, and is
//! listed too. Where a rule is listed, another layer must hold it.
//!
//! Right numbers are those of include/uapi/linux/landlock.h. Opening the directories is the caller's.

use std::collections::BTreeSet;

use super::{Unheld, Unsupported};
use crate::access::{Access, AccessSet, SectionKind};
use crate::address::Protocol;
use crate::lint;
use crate::model::{Decision, Mode, Policy, Rule, Section};
use crate::pattern::{Element, Pattern};

/// Rights on files, by what they do.
pub mod right {
    /// Execute a file.
    pub const EXECUTE: u64 = 1 << 0;
    /// Open a file for writing.
    pub const WRITE_FILE: u64 = 1 << 1;
    /// Open a file for reading.
    pub const READ_FILE: u64 = 1 << 2;
    /// List a directory.
    pub const READ_DIR: u64 = 1 << 3;
    /// Remove a directory from one.
    pub const REMOVE_DIR: u64 = 1 << 4;
    /// Remove a file from a directory.
    pub const REMOVE_FILE: u64 = 1 << 5;
    /// Make any kind of file in a directory (MAKE_CHAR to MAKE_SYM).
    pub const MAKE: u64 = 0x7f << 6;
    /// Link or rename to another directory; ABI 2.
    pub const REFER: u64 = 1 << 13;
    /// Truncate a file; ABI 3.
    pub const TRUNCATE: u64 = 1 << 14;
    /// Those that a rule on a file that is no directory may have.
    pub const OF_FILES: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE;
    /// Bind a TCP port; ABI 4.
    pub const BIND_TCP: u64 = 1 << 0;
    /// Connect to a TCP port; ABI 4.
    pub const CONNECT_TCP: u64 = 1 << 1;
}

/// The ABI that knows REFER.
const WITH_REFER: u32 = 2;
/// The ABI that knows TRUNCATE, before which `write` is not held.
const WITH_TRUNCATE: u32 = 3;
/// The ABI that knows ports.
const WITH_PORTS: u32 = 4;
/// Most ports that one target may stand for.
const MANY_PORTS: u16 = 1024;

/// What a path rule is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A directory and what lies below it.
    Beneath,
    /// One file. Where a directory is found there the rule is left out: it would reach below.
    File,
}

/// A grant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PathRule {
    /// Where, absolute. What is not there when the run starts is not granted.
    pub path: Vec<u8>,
    /// What is there.
    pub place: Place,
    /// Which rights.
    pub rights: u64,
}

/// A grant of a TCP port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortRule {
    /// The port.
    pub port: u16,
    /// Which rights.
    pub rights: u64,
}

/// What Landlock is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LandlockPlan {
    /// Rights on files that are denied where no rule grants them; 0 where it holds nothing of files.
    pub handled_files: u64,
    /// Rights on ports, likewise.
    pub handled_ports: u64,
    /// Grants, ascending.
    pub paths: Vec<PathRule>,
    /// Grants of ports, ascending.
    pub ports: Vec<PortRule>,
    unheld: Vec<Unheld>,
}

/// The plan for a kernel whose Landlock has this ABI (1 and up).
pub fn compile(policy: &Policy, abi: u32) -> LandlockPlan {
    let mut plan = LandlockPlan::default();
    if policy.mode == Mode::Audit {
        return plan;
    }
    let mut unheld = BTreeSet::new();
    for (kind, section) in [(SectionKind::Files, &policy.files), (SectionKind::Exec, &policy.exec)] {
        plan.section(kind, section, abi, &mut unheld);
    }
    plan.network(policy, abi, &mut unheld);
    plan.paths.sort();
    plan.paths.dedup();
    plan.ports.sort();
    plan.ports.dedup();
    plan.unheld = unheld.into_iter().collect();
    plan
}

/// The rights that an access needs, and whether they are all of it.
fn rights(access: Access, abi: u32) -> (u64, bool) {
    match access {
        Access::Read => (right::READ_FILE | right::READ_DIR, true),
        Access::Write if abi < WITH_TRUNCATE => (right::WRITE_FILE, false),
        Access::Write => (right::WRITE_FILE | right::TRUNCATE, true),
        Access::Create => (right::MAKE, true),
        Access::Delete => (right::REMOVE_DIR | right::REMOVE_FILE, true),
        Access::Run => (right::EXECUTE, true),
        // Mapping as code and changing attributes are not Landlock's.
        Access::Attributes | Access::Load => (0, false),
        Access::Connect | Access::Send | Access::Bind | Access::Listen => (0, false),
    }
}

fn of_accesses(accesses: AccessSet, abi: u32) -> u64 {
    let rights = accesses.iter().fold(0, |all, access| all | rights(access, abi).0);
    let renames = accesses.contains(Access::Create) && accesses.contains(Access::Delete);
    if renames && abi >= WITH_REFER { rights | right::REFER } else { rights }
}

impl LandlockPlan {
    /// What the policy says and Landlock alone does not hold: denials that go past it, and rules that allow what it
    /// denies.
    pub fn unheld(&self) -> &[Unheld] {
        &self.unheld
    }

    /// The accesses among `accesses` that are denied at `path`, as the kernel would judge a file there.
    pub fn denied_at(&self, accesses: AccessSet, path: &[u8], abi: u32) -> AccessSet {
        let parent = path.iter().rposition(|byte| *byte == b'/').map_or(path, |at| &path[..at.max(1)]);
        let granted = |path: &[u8]| {
            let rules = self.paths.iter().filter(|rule| match rule.place {
                Place::File => rule.path == path,
                Place::Beneath => is_beneath(path, &rule.path),
            });
            rules.fold(0, |all, rule| all | rule.rights)
        };
        let denied = |access: &Access| {
            // Names belong to the directory that they are in; a file is no directory that could be listed.
            let (place, needed) = match access {
                Access::Create | Access::Delete => (parent, u64::MAX),
                _ => (path, right::OF_FILES),
            };
            rights(*access, abi).0 & needed & self.handled_files & !granted(place) != 0
        };
        accesses.iter().filter(denied).collect()
    }

    fn section(
        &mut self,
        kind: SectionKind,
        section: &Section<Pattern>,
        abi: u32,
        unheld: &mut BTreeSet<Unheld>,
    ) {
        let closed = section.default != Decision::Allow;
        if closed {
            self.handled_files |= of_accesses(kind.accesses(), abi);
        }
        let mut granted: Vec<(AccessSet, Pattern)> = Vec::new();
        for rule in
            section.rules.iter().filter(|rule| closed && rule.effect == Decision::Allow && !rule.is_void())
        {
            let mut tell = |what| _ = unheld.insert(Unheld { rule: rule.name.clone(), what });
            let whys = why_not(rule);
            if !whys.is_empty() {
                whys.into_iter().for_each(tell);
                continue;
            }
            for glob in rule.objects.iter().flat_map(Pattern::globs) {
                let Some(path) = path_rule(glob, of_accesses(rule.accesses, abi)) else {
                    tell(Unsupported::Shape);
                    continue;
                };
                // Making and removing the name of a single file is its directory's matter.
                if path.place == Place::File && names(rule.accesses) {
                    tell(Unsupported::Shape);
                }
                if path.rights != 0 {
                    granted.push((rule.accesses, Pattern::of_glob(glob.clone())));
                    self.paths.push(path);
                }
            }
        }
        let strict =
            section.rules.iter().filter(|rule| rule.effect != Decision::Allow && rule.mode == Mode::Enforce);
        for rule in strict.filter(|rule| !rule.is_void()) {
            for access in rule.accesses.iter() {
                let reached = granted.iter().any(|(accesses, pattern)| {
                    accesses.contains(access)
                        && (rule.objects.is_empty() || !lint::surely_apart(pattern, &rule.objects))
                });
                if !closed || reached || !rights(access, abi).1 {
                    unheld.insert(Unheld { rule: rule.name.clone(), what: Unsupported::Access(access) });
                }
            }
        }
        if closed {
            let partly = kind.accesses().iter().filter(|access| !rights(*access, abi).1);
            let everywhere = |access| {
                section.rules.iter().any(|rule| {
                    let open = rule.effect == Decision::Allow && rule.accesses.contains(access);
                    open && why_not(rule).is_empty() && rule.objects.iter().any(Pattern::is_everything)
                })
            };
            for access in partly.filter(|access| !everywhere(*access)) {
                let rule = section.default_name.clone();
                unheld.insert(Unheld { rule, what: Unsupported::Access(access) });
            }
        }
    }

    /// Ports of TCP only: what else a rule denies is not held, whatever it is about.
    fn network(&mut self, policy: &Policy, abi: u32, unheld: &mut BTreeSet<Unheld>) {
        let section = &policy.network;
        let closed = section.default != Decision::Allow;
        let mut open = 0;
        for rule in section.rules.iter().filter(|rule| !rule.is_void() && rule.mode == Mode::Enforce) {
            if rule.effect != Decision::Allow {
                for access in rule.accesses.iter() {
                    unheld.insert(Unheld { rule: rule.name.clone(), what: Unsupported::Access(access) });
                }
                continue;
            }
            let (connect, bind) =
                (rule.accesses.contains(Access::Connect), rule.accesses.contains(Access::Bind));
            let rights = (u64::from(connect) * right::CONNECT_TCP) | (u64::from(bind) * right::BIND_TCP);
            if !closed || abi < WITH_PORTS || rights == 0 {
                continue;
            }
            let mut tell = |what| _ = unheld.insert(Unheld { rule: rule.name.clone(), what });
            let whys = why_not(rule);
            if !whys.is_empty() {
                whys.into_iter().for_each(tell);
                continue;
            }
            for target in &rule.objects {
                let tcp = target.protocol.is_none_or(|protocol| protocol == Protocol::Tcp);
                if !tcp {
                    continue;
                }
                match target.port_range() {
                    _ if !target.is_every_address() => tell(Unsupported::Shape),
                    (0, u16::MAX) => open |= rights,
                    (low, high) if high - low < MANY_PORTS => {
                        self.ports.extend((low..=high).map(|port| PortRule { port, rights }));
                    }
                    _ => tell(Unsupported::Shape),
                }
            }
        }
        if !closed {
            return;
        }
        if abi >= WITH_PORTS {
            // A right that some rule grants at every port is not handled: there is no port for "every".
            self.handled_ports = (right::CONNECT_TCP | right::BIND_TCP) & !open;
            self.ports.retain_mut(|rule| {
                rule.rights &= self.handled_ports;
                rule.rights != 0
            });
        }
        for access in SectionKind::Network.accesses().iter() {
            unheld.insert(Unheld { rule: section.default_name.clone(), what: Unsupported::Access(access) });
        }
    }
}

/// What keeps a rule that allows out of the plan.
fn why_not<O>(rule: &Rule<O>) -> Vec<Unsupported> {
    let mut all: Vec<Unsupported> = rule.who.keys().map(Unsupported::Condition).collect();
    if !rule.sha256.is_empty() {
        all.push(Unsupported::Sha256);
    }
    if !rule.except.is_empty() {
        all.push(Unsupported::Shape);
    }
    all
}

fn names(accesses: AccessSet) -> bool {
    accesses.contains(Access::Create) || accesses.contains(Access::Delete)
}

/// The grant that means the same as a glob, as far as Landlock has one.
fn path_rule(glob: &[Element], rights: u64) -> Option<PathRule> {
    if let [Element::Byte(b'/'), Element::Any] = glob {
        return Some(PathRule { path: b"/".to_vec(), place: Place::Beneath, rights });
    }
    let (literal, place, rights) = match glob {
        [literal @ .., Element::Below] => (literal, Place::Beneath, rights),
        literal => (literal, Place::File, rights & right::OF_FILES),
    };
    let path = literal.iter().map(Element::byte).collect::<Option<Vec<u8>>>()?;
    Some(PathRule { path, place, rights })
}

fn is_beneath(path: &[u8], directory: &[u8]) -> bool {
    let rest = if directory == b"/" { Some(path) } else { path.strip_prefix(directory) };
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}
