//! The plan of Landlock: the part of a policy that lists of allowed directories, files and TCP ports can express.
//!
//! Landlock denies what it handles and no rule of its own grants. So it can hold a section whose default is `deny`,
//! and of its rules those that allow whole directories or single files. It cannot deny inside of what it grants.
//!
//! **The plan never grants what the policy denies without saying so**: each rule that denies and is not held is
//! listed, by access. A rule that allows and cannot be expressed is left out, which makes the plan narrower, and is
//! listed too. Where a rule is listed, another layer must hold it.
//!
//! What can be read can be mapped as code and handed to an interpreter or the dynamic loader, of which Landlock sees
//! nothing: so `run` and `load` are held only where reading is denied as well. Its ports of TCP hold nothing alone (UDP,
//! MPTCP and fast open go past them): they are granted by port whatever the address, and every network rule is listed.
//! Files in memory alone (`/memfd:…`) it leaves to everybody.
//!
//! Right numbers are those of include/uapi/linux/landlock.h. Opening the directories is the caller's.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use super::layers::Kept;
use super::{Unheld, Unsupported, capabilities};
use crate::access::{Access, AccessSet, SectionKind};
use crate::address::{Protocol, Target};
use crate::ends::{Meaning, Source};
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
    /// Make any kind of file in a directory but a device (MAKE_DIR, MAKE_REG, MAKE_SOCK, MAKE_FIFO, MAKE_SYM).
    pub const MAKE: u64 = 0x7f << 6 & !MAKE_DEVICES;
    /// Make devices (MAKE_CHAR, MAKE_BLOCK).
    pub const MAKE_DEVICES: u64 = 1 << 6 | 1 << 11;
    /// Link or rename to another directory; ABI 2.
    pub const REFER: u64 = 1 << 13;
    /// Truncate a file; ABI 3.
    pub const TRUNCATE: u64 = 1 << 14;
    /// Commands of devices (ioctl(2)); ABI 5.
    pub const IOCTL_DEV: u64 = 1 << 15;
    /// Those that a rule on a file that is no directory may have.
    pub const OF_FILES: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV;
    /// Bind a TCP port; ABI 4.
    pub const BIND_TCP: u64 = 1 << 0;
    /// Connect to a TCP port; ABI 4.
    pub const CONNECT_TCP: u64 = 1 << 1;
    /// Scope: abstract unix sockets of others; ABI 6.
    pub const SCOPE_ABSTRACT: u64 = 1 << 0;
    /// Scope: signals to others; ABI 6.
    pub const SCOPE_SIGNAL: u64 = 1 << 1;
}

/// The ABI that knows REFER.
const WITH_REFER: u32 = 2;
/// The ABI that knows TRUNCATE, before which `write` is not held.
const WITH_TRUNCATE: u32 = 3;
/// The ABI that knows ports.
const WITH_PORTS: u32 = 4;
/// The ABI that knows commands of devices.
const WITH_IOCTL: u32 = 5;
/// The ABI that knows scopes.
const WITH_SCOPES: u32 = 6;
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
    /// What is denied to those outside of the run.
    pub scopes: u64,
    abi: u32,
    /// Whether root is left what shows it the memory of processes outside, past Landlock.
    sees_memory: bool,
    grants: Vec<Grant>,
    narrower: Vec<Unheld>,
}

/// As whom a command runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// As root, with its capabilities.
    Root,
    /// As anybody else, without any.
    User,
}

/// What a rule that allows became.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Grant {
    accesses: AccessSet,
    pattern: Pattern,
}

/// The plan for a kernel whose Landlock has this ABI (1 and up).
pub fn compile(policy: &Policy, abi: u32) -> LandlockPlan {
    let mut plan = LandlockPlan { abi, ..LandlockPlan::default() };
    if policy.mode == Mode::Audit {
        return plan;
    }
    plan.sees_memory = capabilities::sees_memory(policy.settings.kernel_allowed());
    let mut narrower = BTreeSet::new();
    let devices = policy.settings.kernel_allowed().contains(&"raw-devices");
    for (kind, section) in [(SectionKind::Files, &policy.files), (SectionKind::Exec, &policy.exec)] {
        plan.grant(kind, section, &mut narrower);
    }
    if plan.handles(Access::Create) {
        plan.handled_files |= right::MAKE_DEVICES;
        let makers = plan.paths.iter_mut().filter(|rule| devices && rule.rights & right::MAKE != 0);
        makers.for_each(|rule| rule.rights |= right::MAKE_DEVICES);
    }
    if abi >= WITH_IOCTL && plan.handles(Access::Read) && plan.handles(Access::Write) {
        plan.handled_files |= right::IOCTL_DEV;
        let opened = right::READ_FILE | right::WRITE_FILE;
        let used = plan.paths.iter_mut().filter(|rule| rule.rights & opened != 0);
        used.for_each(|rule| rule.rights |= right::IOCTL_DEV);
    }
    plan.ports(policy);
    plan.scope(policy);
    plan.paths.sort();
    plan.paths.dedup();
    plan.ports.sort();
    plan.ports.dedup();
    // Whoever is restricted has these closed, whatever else is granted.
    let closed = [("mount", plan.handled_files != 0), ("ptrace-any", !plan.is_empty())];
    for (word, _) in closed.into_iter().filter(|(_, closed)| *closed) {
        if policy.settings.kernel_allowed().contains(&word) {
            narrower.insert(Unheld { rule: policy.kernel_default(), what: Unsupported::Closed(word) });
        }
    }
    plan.narrower = narrower.into_iter().collect();
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
    /// What the policy that it was made from says and Landlock alone does not hold: denials that go past it, and rules
    /// that allow what it denies. It compares every rule with every grant.
    pub fn unheld(&self, policy: &Policy) -> Vec<Unheld> {
        if policy.mode == Mode::Audit {
            return Vec::new();
        }
        let mut unheld: BTreeSet<Unheld> = self.narrower.iter().cloned().collect();
        for (kind, section) in [(SectionKind::Files, &policy.files), (SectionKind::Exec, &policy.exec)] {
            self.compare(policy, kind, section, &mut unheld);
        }
        of_network(policy, &mut unheld);
        unheld.into_iter().collect()
    }

    /// Rules that allow what it denies.
    pub fn narrower(&self) -> &[Unheld] {
        &self.narrower
    }

    /// Whether it denies anything.
    pub fn is_empty(&self) -> bool {
        self.handled_files == 0 && self.handled_ports == 0 && self.scopes == 0
    }

    /// Whether it denies an access where nothing grants it.
    fn handles(&self, access: Access) -> bool {
        let (rights, whole) = rights(access, self.abi);
        whole && rights != 0 && self.handled_files & rights == rights
    }

    /// Grants of any of the rights that an access needs.
    fn granting(&self, access: Access) -> impl Iterator<Item = &Pattern> {
        self.grants.iter().filter(move |grant| grant.accesses.contains(access)).map(|grant| &grant.pattern)
    }

    /// Whether it denies an access to all that `objects` match.
    pub fn denies(&self, access: Access, objects: &[Pattern]) -> bool {
        let apart = |access| {
            self.handles(access) && self.granting(access).all(|pattern| lint::surely_apart(pattern, objects))
        };
        let named = || NAMELESS_PATTERNS.iter().all(|pattern| lint::surely_apart(pattern, objects));
        match access {
            Access::Read | Access::Write | Access::Create | Access::Delete => apart(access) && named(),
            // Mapping as code asks nobody but who opened the file; so does an interpreter.
            Access::Load => apart(Access::Read) && named(),
            Access::Run => apart(Access::Run) && apart(Access::Read) && named(),
            Access::Attributes => false,
            Access::Connect | Access::Send | Access::Bind | Access::Listen => false,
        }
    }

    /// Whether it denies an access wherever no rule of the policy allows it, given that others deny it at `kept`.
    pub fn denies_by_default(&self, policy: &Policy, access: Access, kept: &[Pattern]) -> bool {
        match access {
            Access::Load | Access::Run => {
                let handled = access == Access::Load || self.handles(Access::Run);
                handled
                    && self.handles(Access::Read)
                    && self.read_beyond(policy, access, kept).next().is_none()
            }
            access => self.handles(access),
        }
    }

    /// What is read and may not be run, or not be mapped as code (`access`), and is not kept from it: open to it all the
    /// same.
    pub fn read_beyond<'p>(
        &'p self,
        policy: &Policy,
        access: Access,
        kept: &[Pattern],
    ) -> impl Iterator<Item = &'p Pattern> {
        let section = if access == Access::Run { &policy.exec } else { &policy.files };
        let allowed = section.rules.iter().filter(|rule| {
            let open = rule.effect == Decision::Allow && rule.accesses.contains(access);
            open && why_not(rule).is_empty() && !rule.is_void()
        });
        let mut within: Vec<Pattern> = allowed.flat_map(|rule| rule.objects.iter().cloned()).collect();
        within.extend_from_slice(kept);
        let read = self.granting(Access::Read).chain(NAMELESS_PATTERNS.iter());
        read.filter(move |pattern| !lint::surely_covered(pattern, &within))
    }

    /// The words of the section `kernel` that it holds wherever it is in force, given what others keep.
    pub fn words(&self, command: Command, kept: &[Kept]) -> Vec<&'static str> {
        let mut words = Vec::new();
        if self.handled_files != 0 {
            // Who is restricted in files changes no mounts (security/landlock/fs.c).
            words.push("mount");
        }
        let past_it = command == Command::Root && self.sees_memory;
        if !self.is_empty() && !past_it {
            // Nor does it reach into processes that are not restricted as it is (security/landlock/task.c).
            words.push("ptrace-any");
        }
        if self.scopes & right::SCOPE_SIGNAL != 0 {
            words.push("signal-outside");
        }
        let closed = |access, places: &[Pattern], harmless: &[Pattern]| {
            let others = Kept::places(kept, access);
            let left: Vec<Pattern> =
                places.iter().filter(|place| !lint::surely_covered(place, &others)).cloned().collect();
            let mut granted =
                self.granting(access).filter(|pattern| !lint::surely_covered(pattern, harmless));
            !places.is_empty()
                && self.handles(access)
                && granted.all(|pattern| lint::surely_apart(pattern, &left))
        };
        // /proc/kcore needs CAP_SYS_RAWIO besides (fs/proc/kcore.c), which root gives up.
        let (devices, harmless, settings) = (patterns(DEVICES), patterns(HARMLESS), patterns(SETTINGS));
        let read_and_written = [Access::Read, Access::Write, Access::Create];
        if read_and_written.into_iter().all(|access| closed(access, &devices, &harmless))
            && self.paths.iter().all(|rule| rule.rights & right::MAKE_DEVICES == 0)
        {
            words.push("raw-devices");
        }
        if [Access::Write, Access::Create].into_iter().all(|access| closed(access, &settings, &[])) {
            words.push("sysctl-write");
        }
        words
    }

    /// The accesses among `accesses` that are denied at `path`, as the kernel would judge a file there.
    pub fn denied_at(&self, accesses: AccessSet, path: &[u8]) -> AccessSet {
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
            rights(*access, self.abi).0 & needed & self.handled_files & !granted(place) != 0
        };
        accesses.iter().filter(denied).collect()
    }

    /// Grants what a closed section allows; `narrower` are the rules that say more than it can.
    fn grant(&mut self, kind: SectionKind, section: &Section<Pattern>, narrower: &mut BTreeSet<Unheld>) {
        if section.default == Decision::Allow {
            return;
        }
        let open = |access: &Access| everywhere(section, *access);
        let closed: AccessSet = kind.accesses().iter().filter(|access| !open(access)).collect();
        self.handled_files |= of_accesses(closed, self.abi);
        let allowing = section.rules.iter().filter(|rule| rule.effect == Decision::Allow && !rule.is_void());
        for rule in allowing {
            let accesses = rule.accesses.iter().filter(|access| closed.contains(*access)).collect();
            let rights = of_accesses(accesses, self.abi);
            if rights == 0 {
                continue;
            }
            let mut tell = |what| _ = narrower.insert(Unheld { rule: rule.name.clone(), what });
            let whys = why_not(rule);
            if !whys.is_empty() {
                whys.into_iter().for_each(tell);
                continue;
            }
            let globs = || rule.objects.iter().flat_map(Pattern::globs);
            let is_directory = |glob: &&Vec<Element>| {
                path_rule(glob, rights).is_some_and(|path| path.place == Place::Beneath)
            };
            let directories: Vec<Pattern> =
                globs().filter(is_directory).map(|glob| Pattern::of_glob(glob.clone())).collect();
            for glob in globs() {
                let pattern = Pattern::of_glob(glob.clone());
                if lint::surely_covered(&pattern, &NAMELESS_PATTERNS) {
                    continue;
                }
                let path = path_rule(glob, rights);
                // Making and removing the name of a single file is its directory's matter.
                let whole =
                    path.as_ref().is_some_and(|path| path.place == Place::Beneath || !names(accesses));
                // What lies in a directory that the same rule grants needs no grant of its own.
                if !whole && !lint::surely_covered(&pattern, &directories) {
                    tell(Unsupported::Shape);
                }
                if let Some(path) = path.filter(|path| path.rights != 0) {
                    self.grants.push(Grant { accesses, pattern });
                    self.paths.push(path);
                }
            }
        }
    }

    /// Lists what a section denies and the plan does not.
    fn compare(
        &self,
        policy: &Policy,
        kind: SectionKind,
        section: &Section<Pattern>,
        unheld: &mut BTreeSet<Unheld>,
    ) {
        let strict =
            section.rules.iter().filter(|rule| rule.effect != Decision::Allow && rule.mode == Mode::Enforce);
        for rule in strict.filter(|rule| !rule.is_void()) {
            for access in rule.accesses.iter() {
                if rule.objects.is_empty() || !self.denies(access, &rule.objects) {
                    unheld.insert(Unheld { rule: rule.name.clone(), what: Unsupported::Access(access) });
                }
            }
        }
        if section.default == Decision::Allow {
            return;
        }
        let closed = kind.accesses().iter().filter(|access| !everywhere(section, *access));
        for access in closed.filter(|access| !self.denies_by_default(policy, *access, &[])) {
            let rule = section.default_name.clone();
            unheld.insert(Unheld { rule, what: Unsupported::Access(access) });
        }
    }

    /// Grants ports of TCP, whatever the address is.
    fn ports(&mut self, policy: &Policy) {
        let section = &policy.network;
        if section.default == Decision::Allow || self.abi < WITH_PORTS {
            return;
        }
        // A right that some rule grants at every port is not handled: there is no port for "every".
        let mut open = 0;
        let law = |rule: &&Rule<Target>| !rule.is_void() && rule.effect == Decision::Allow;
        for rule in section.rules.iter().filter(law) {
            let (connect, bind) =
                (rule.accesses.contains(Access::Connect), rule.accesses.contains(Access::Bind));
            let rights = (u64::from(connect) * right::CONNECT_TCP) | (u64::from(bind) * right::BIND_TCP);
            let tcp = |target: &&Target| {
                target.meaning.source() != Source::Socket
                    && target.protocol.is_none_or(|protocol| protocol == Protocol::Tcp)
            };
            for target in rule.objects.iter().filter(tcp) {
                match target.port_range() {
                    (low, high) if high - low < MANY_PORTS => {
                        self.ports.extend((low..=high).map(|port| PortRule { port, rights }));
                    }
                    _ => open |= rights,
                }
            }
        }
        self.handled_ports = (right::CONNECT_TCP | right::BIND_TCP) & !open;
        self.ports.retain_mut(|rule| {
            rule.rights &= self.handled_ports;
            rule.rights != 0
        });
    }

    /// What those outside of the run are out of reach of.
    fn scope(&mut self, policy: &Policy) {
        if self.abi < WITH_SCOPES {
            return;
        }
        if !policy.settings.kernel_allowed().contains(&"signal-outside") {
            self.scopes |= right::SCOPE_SIGNAL;
        }
        let network = &policy.network;
        let names_one = network.rules.iter().filter(|rule| rule.effect == Decision::Allow).any(|rule| {
            let reaches = rule.accesses.contains(Access::Connect) || rule.accesses.contains(Access::Send);
            let one = |target: &Target| matches!(target.meaning, Meaning::Abstract(_));
            reaches && !rule.is_void() && rule.objects.iter().any(one)
        });
        if network.default != Decision::Allow && !names_one {
            self.scopes |= right::SCOPE_ABSTRACT;
        }
    }
}

/// Every network rule that denies, and the default.
fn of_network(policy: &Policy, unheld: &mut BTreeSet<Unheld>) {
    let section = &policy.network;
    let strict =
        section.rules.iter().filter(|rule| rule.effect != Decision::Allow && rule.mode == Mode::Enforce);
    for rule in strict.filter(|rule| !rule.is_void()) {
        for access in rule.accesses.iter() {
            unheld.insert(Unheld { rule: rule.name.clone(), what: Unsupported::Access(access) });
        }
    }
    if section.default != Decision::Allow {
        for access in SectionKind::Network.accesses().iter() {
            unheld.insert(Unheld { rule: section.default_name.clone(), what: Unsupported::Access(access) });
        }
    }
}

/// Whether some rule allows an access everywhere.
fn everywhere(section: &Section<Pattern>, access: Access) -> bool {
    section.rules.iter().any(|rule| {
        let open = rule.effect == Decision::Allow && rule.accesses.contains(access);
        open && why_not(rule).is_empty() && rule.objects.iter().any(Pattern::is_everything)
    })
}

/// Files that no directory has: it denies nothing of them.
const NAMELESS: &[&str] = &["/memfd:*", "/memfd:*/**"];
/// Their patterns, which every comparison asks for.
static NAMELESS_PATTERNS: LazyLock<Vec<Pattern>> = LazyLock::new(|| patterns(NAMELESS));
/// Where raw devices lie.
const DEVICES: &[&str] = &["/dev/**"];
/// What of these is none.
const HARMLESS: &[&str] = &[
    "/dev",
    "/dev/{null,zero,full,random,urandom,tty,ptmx,stdin,stdout,stderr,fd/**,pts/**,shm/**,mqueue/**}",
];
/// Where the kernel's settings lie.
const SETTINGS: &[&str] = &["/proc/{sys/**,sysrq-trigger,irq/**,acpi/**,bus/**,mtrr,scsi/**}", "/sys/**"];

/// Patterns that are written in this file.
fn patterns(texts: &[&str]) -> Vec<Pattern> {
    texts.iter().filter_map(|text| Pattern::known(text)).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_patterns_of_this_file_are_patterns() {
        for texts in [DEVICES, HARMLESS, SETTINGS, NAMELESS] {
            assert_eq!(patterns(texts).len(), texts.len(), "{texts:?}");
        }
        assert!(patterns(NAMELESS).iter().any(|pattern| pattern.matches(b"/memfd:a/b")));
    }
}
