//! What the layers of a run hold together: rule by rule, who holds it, and what nobody does.
//!
//! A rule is held where each access that it denies is denied by some layer, to everything that the rule is about. The
//! layers are asked one by one; none is trusted to hold what it does not say that it holds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::landlock::{LandlockPlan, Place};
use super::lsm::{Held, LsmPlan};
use super::{Unheld, Unsupported};
use crate::access::{Access, AccessSet};
use crate::lint;
use crate::model::{Mode, Policy, Rule, RuleName, Section};
use crate::pattern::{Element, Pattern};
use crate::settings::KERNEL;

/// A layer that holds rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    /// BPF programs on LSM hooks.
    Lsm,
    /// BPF programs of the run's control group.
    CgroupNet,
    /// Landlock.
    Landlock,
    /// The system call filter.
    Seccomp,
    /// The run's own mounts.
    Mountns,
    /// The run's own network.
    Netns,
    /// Owners and modes of files, of a command that cannot gain privileges.
    Permissions,
}

impl Layer {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lsm => "lsm",
            Self::CgroupNet => "cgroup-net",
            Self::Landlock => "landlock",
            Self::Seccomp => "seccomp",
            Self::Mountns => "mountns",
            Self::Netns => "netns",
            Self::Permissions => "permissions",
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Accesses that a layer denies at places, whatever policies say.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Who.
    pub layer: Layer,
    /// What is denied.
    pub accesses: AccessSet,
    /// Where.
    pub places: Vec<Pattern>,
}

impl Kept {
    /// Where any of `kept` denies an access.
    pub(crate) fn places(kept: &[Kept], access: Access) -> Vec<Pattern> {
        let denying = kept.iter().filter(|kept| kept.accesses.contains(access));
        denying.flat_map(|kept| kept.places.iter().cloned()).collect()
    }
}

/// What a rule denies at one place, and nobody holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uncovered {
    /// The rule.
    pub rule: RuleName,
    /// What it denies there.
    pub accesses: AccessSet,
    /// Where, absolute.
    pub path: Vec<u8>,
    /// Whether it is about what lies below as well.
    pub place: Place,
}

/// Whether a run can make unix sockets to connect with. What a rule keeps from being read is not to be connected to
/// either, and Landlock has no say in that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnixSockets {
    /// It can.
    Open,
    /// It cannot.
    Closed,
}

/// The words of the section `kernel` that something holds, each with who does.
pub type Words = BTreeMap<&'static str, BTreeSet<Layer>>;

/// What the layers of a run hold.
#[derive(Clone, Debug)]
pub struct Layers<'a> {
    /// What programs in the kernel judge by the policies' tables.
    pub programs: Held,
    /// Who they are, of files and of the network.
    pub judges: (Option<Layer>, Option<Layer>),
    /// Landlock's plans, one for each policy; empty where it is not used.
    pub landlock: &'a [LandlockPlan],
    /// What is denied beside the policies.
    pub kept: &'a [Kept],
    /// Whether the run can make unix sockets.
    pub unix: UnixSockets,
    /// Words of the section `kernel`.
    pub words: &'a Words,
}

impl Layers<'_> {
    /// What the policies say and nobody holds. `plan` is that of all of `policies`, which stand in the order of the
    /// plans of Landlock.
    pub fn unheld(&self, plan: &LsmPlan, policies: &[&Policy]) -> Vec<Unheld> {
        let mut all: BTreeSet<Unheld> = plan.unheld(&self.programs).into_iter().collect();
        all.retain(|unheld| !policies.iter().enumerate().any(|(at, policy)| self.holds(at, policy, unheld)));
        all.extend(self.landlock.iter().flat_map(LandlockPlan::narrower).cloned());
        all.extend(policies.iter().flat_map(|policy| self.open_words(policy)));
        all.into_iter().collect()
    }

    /// The words that a policy closes and nobody holds.
    fn open_words<'p>(&'p self, policy: &'p Policy) -> impl Iterator<Item = Unheld> + 'p {
        let closed = closed_words(policy).filter(|word| !self.words.contains_key(word));
        closed.map(|word| Unheld { rule: policy.kernel_default(), what: Unsupported::Word(word) })
    }

    /// Whether what programs do not hold of a rule of `policy`, which has the plan of Landlock at `at`, others do.
    fn holds(&self, at: usize, policy: &Policy, unheld: &Unheld) -> bool {
        match unheld.what {
            Unsupported::Access(access) => self.holders(at, policy, &unheld.rule, access).is_some(),
            // Who is denied it all the same need not be told apart.
            Unsupported::Condition(_) => {
                let rule = rule_named(policy, &unheld.rule);
                let accesses = rule.filter(|rule| rule.effect != crate::Decision::Allow).map(|r| r.accesses);
                accesses.is_some_and(|accesses| {
                    accesses.iter().all(|access| self.holders(at, policy, &unheld.rule, access).is_some())
                })
            }
            _ => false,
        }
    }

    /// Who denies, beside programs, an access that a rule of files or programs denies, or a default.
    fn holders(
        &self,
        at: usize,
        policy: &Policy,
        name: &RuleName,
        access: Access,
    ) -> Option<BTreeSet<Layer>> {
        if [&policy.files.default_name, &policy.exec.default_name].contains(&name) {
            let plan = self.landlock.get(at)?;
            let mut layers = BTreeSet::from([Layer::Landlock]);
            if plan.denies_by_default(policy, access, &[]) {
                return Some(layers);
            }
            let kept = self.kept.iter().filter(|kept| kept.accesses.contains(access));
            layers.extend(kept.map(|kept| kept.layer));
            let places = Kept::places(self.kept, access);
            return plan.denies_by_default(policy, access, &places).then_some(layers);
        }
        let rule = rule_named(policy, name)?;
        if rule.objects.is_empty() {
            return None;
        }
        let globs = rule.objects.iter().flat_map(Pattern::globs);
        globs.map(|glob| self.keeper(access, &Pattern::of_glob(glob.clone()))).collect()
    }

    /// Who denies an access to all of one pattern.
    fn keeper(&self, access: Access, pattern: &Pattern) -> Option<Layer> {
        let one = std::slice::from_ref(pattern);
        let kept = self.kept.iter().filter(|kept| kept.accesses.contains(access));
        if let Some(kept) = kept.into_iter().find(|kept| lint::surely_covered(pattern, &kept.places)) {
            return Some(kept.layer);
        }
        // What cannot be read may be a socket that is connected to.
        if access == Access::Read && self.unix == UnixSockets::Open {
            return None;
        }
        self.landlock.iter().any(|plan| plan.denies(access, one)).then_some(Layer::Landlock)
    }

    /// What rules deny at places that can be pointed at, and nobody holds: for a layer that lays something over them.
    /// Rules that are about some processes only, or make exceptions, are left out: they deny less than all of it.
    pub fn uncovered(&self, policies: &[&Policy]) -> Vec<Uncovered> {
        let mut all = Vec::new();
        for policy in policies.iter().filter(|policy| policy.mode == Mode::Enforce) {
            let strict = policy.files.rules.iter().chain(&policy.exec.rules).filter(|rule| {
                let law = rule.effect != crate::Decision::Allow && rule.mode == Mode::Enforce;
                law && rule.who.is_anyone() && rule.except.is_empty() && rule.sha256.is_empty()
            });
            for rule in strict {
                for glob in rule.objects.iter().flat_map(Pattern::globs) {
                    let pattern = Pattern::of_glob(glob.clone());
                    let Some((path, place)) = place(glob) else { continue };
                    let open = |access: &Access| {
                        !self.programs.accesses.contains(*access) && self.keeper(*access, &pattern).is_none()
                    };
                    let accesses: AccessSet = rule.accesses.iter().filter(open).collect();
                    if !accesses.is_empty() {
                        all.push(Uncovered { rule: rule.name.clone(), accesses, path, place });
                    }
                }
            }
        }
        all
    }

    /// Places that may be read although nothing there may be run or mapped as code, and Landlock alone does not hold that:
    /// for a layer that has a switch for it.
    pub fn read_only_as_data(&self, policies: &[&Policy]) -> BTreeSet<(Vec<u8>, Place)> {
        let mut all = BTreeSet::new();
        for (plan, policy) in self.landlock.iter().zip(policies) {
            for access in
                [Access::Load, Access::Run].into_iter().filter(|a| !self.programs.accesses.contains(*a))
            {
                let section = if access == Access::Run { &policy.exec } else { &policy.files };
                if section.default == crate::Decision::Allow || policy.mode == Mode::Audit {
                    continue;
                }
                let beyond = plan.read_beyond(policy, access, &[]).flat_map(Pattern::globs);
                all.extend(beyond.filter_map(|glob| place(glob)));
            }
        }
        all
    }

    /// Whether nothing below `path` may be run or mapped as code, by one of the policies.
    pub fn is_closed_to_code(policies: &[&Policy], path: &[u8]) -> bool {
        let below = [Pattern::beneath(path)];
        let apart = |section: &Section<Pattern>, access| {
            let allowing = section.rules.iter().filter(|rule| {
                rule.effect == crate::Decision::Allow && rule.accesses.contains(access) && !rule.is_void()
            });
            let mut objects = allowing.flat_map(|rule| &rule.objects);
            section.default != crate::Decision::Allow
                && objects.all(|pattern| lint::surely_apart(pattern, &below))
        };
        policies
            .iter()
            .filter(|policy| policy.mode == Mode::Enforce)
            .any(|policy| apart(&policy.files, Access::Load) && apart(&policy.exec, Access::Run))
    }

    /// For every rule of a policy that denies, every default that does, and its section `kernel`: the layers that hold
    /// it together; none where something of it is not held. `plan` is the policy's own, as its plan of Landlock is.
    pub fn holding(&self, plan: &LsmPlan, policy: &Policy) -> BTreeMap<RuleName, BTreeSet<Layer>> {
        let unheld = self.unheld(plan, &[policy]);
        let is_held = |name: &RuleName| !unheld.iter().any(|unheld| unheld.rule == *name);
        let beyond = plan.unheld(&self.programs);
        let mut all: BTreeMap<RuleName, BTreeSet<Layer>> = BTreeMap::new();
        let (files, network) = self.judges;
        let mut add = |name: &RuleName, judge: Option<Layer>| {
            let mut layers = BTreeSet::new();
            if is_held(name) {
                let others = beyond.iter().filter(|unheld| unheld.rule == *name);
                for unheld in others {
                    if let Unsupported::Access(access) = unheld.what {
                        layers.extend(self.holders(0, policy, name, access).into_iter().flatten());
                    }
                }
                layers.extend(judge);
            }
            all.insert(name.clone(), layers);
        };
        names(&policy.files).chain(names(&policy.exec)).for_each(|name| add(name, files));
        names(&policy.network).for_each(|name| add(name, network));
        let kernel = policy.kernel_default();
        let mut layers = BTreeSet::new();
        if is_held(&kernel) {
            let closed = closed_words(policy).filter_map(|word| self.words.get(word));
            layers.extend(closed.flatten());
        }
        all.insert(kernel, layers);
        all
    }
}

/// The place that a glob points at.
fn place(glob: &[Element]) -> Option<(Vec<u8>, Place)> {
    let (literal, place) = match glob {
        [literal @ .., Element::Below] => (literal, Place::Beneath),
        literal => (literal, Place::File),
    };
    let path: Option<Vec<u8>> = literal.iter().map(Element::byte).collect();
    Some((path.filter(|path| !path.is_empty())?, place))
}

fn closed_words(policy: &Policy) -> impl Iterator<Item = &'static str> {
    let law = policy.mode == Mode::Enforce;
    let allowed = policy.settings.kernel_allowed();
    KERNEL.into_iter().filter(move |word| law && !allowed.contains(word))
}

fn names<O>(section: &Section<O>) -> impl Iterator<Item = &RuleName> {
    section.rules.iter().map(|rule| &rule.name).chain([&section.default_name])
}

/// A rule on files or programs.
fn rule_named<'p>(policy: &'p Policy, name: &RuleName) -> Option<&'p Rule<Pattern>> {
    policy.files.rules.iter().chain(&policy.exec.rules).find(|rule| rule.name == *name)
}
