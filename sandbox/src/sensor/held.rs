//! What layers hold, and what of a policy a run would not hold.

use std::path::Path;

use policy::{
    Access,
    compile::{
        Unheld,
        landlock::{Command, LandlockPlan},
        layers::{self, Kept, UnixSockets, Words},
        lsm::{Held, LsmPlan},
        seccomp::{self, Alone, Hooks},
    },
    settings::{KERNEL, Limit, LimitSet},
};

use super::{Judging, Request, SensorError, net::with_namespace, tmp::Tmp, tried::Tried};
use crate::{
    enforce::{landlock::Fence, seccomp::ARCHITECTURE},
    launch::cgroup,
    settings::OnUnheld,
};

/// What the hooks of the `lsm` layer can hold.
const HELD_BY_LSM: [Access; 11] = [
    Access::Read,
    Access::Write,
    Access::Create,
    Access::Delete,
    Access::Attributes,
    Access::Load,
    Access::Run,
    Access::Connect,
    Access::Send,
    Access::Bind,
    Access::Listen,
];

/// The words of the section `kernel` that hooks hold; what the others close is closed by a filter from the start.
pub const HELD_BY_HOOKS: [&str; 9] = [
    "mount",
    "userns",
    "chroot",
    "ptrace-own",
    "ptrace-any",
    "bpf",
    "signal-outside",
    "raw-devices",
    "sysctl-write",
];

/// What the programs of a control group can hold of TCP and UDP.
const HELD_BY_GROUP: [Access; 3] = [Access::Connect, Access::Send, Access::Bind];

/// What is held where hooks judge (`lsm`), and where the programs of the run's control group do (`group`).
pub fn held(lsm: bool, group: bool, limits: LimitSet) -> Held {
    let accesses = match (lsm, group) {
        (true, true) => Held::whole(HELD_BY_LSM.into_iter().collect()),
        // Which names an address has, and whose listener is there, only the others know.
        (true, false) => Held { unix: true, ..Held::of(HELD_BY_LSM.into_iter().collect()) },
        (false, true) => {
            let accesses = HELD_BY_GROUP.into_iter().collect();
            Held { accesses, names: true, own: true, ..Held::NOTHING }
        }
        (false, false) => Held::NOTHING,
    };
    Held { limits, ..accesses }
}

/// The words of the section `kernel` that something holds: hooks (`lsm`), plans of Landlock (`landlock`) beside what
/// others keep (`kept`), and the filter of every enforced run.
pub fn words(lsm: bool, landlock: &[LandlockPlan], command: Command, kept: &[Kept]) -> Words {
    let mut words = Words::new();
    let mut add = |word: &'static str, layer| _ = words.entry(word).or_default().insert(layer);
    if lsm {
        HELD_BY_HOOKS.into_iter().for_each(|word| add(word, layers::Layer::Lsm));
    }
    landlock
        .iter()
        .flat_map(|plan| plan.words(command, kept))
        .for_each(|word| add(word, layers::Layer::Landlock));
    let filtered = |word: &&&'static str| match lsm {
        // What has hooks too is theirs where they are.
        true => !HELD_BY_HOOKS.contains(word) && seccomp::words(Hooks::Judge).any(|known| known == **word),
        false => seccomp::alone(word, ARCHITECTURE) == Alone::Whole,
    };
    KERNEL.iter().filter(filtered).for_each(|word| add(word, layers::Layer::Seccomp));
    words
}

/// The limits that are held, where these `words` of the section `kernel` are.
pub(super) fn limits_held(request: &Request<'_>, words: &Words) -> LimitSet {
    let (held, grouped) = (request.limits.held(), request.limits.grouped());
    let left = leaver(request, words).is_some();
    let ends = !matches!(ending(request, words), Ending::Unsure(_));
    held.iter()
        .filter(|limit| !(left && grouped.contains(*limit)) && (ends || *limit != Limit::Time))
        .collect()
}

/// Who makes sure that the end of a run ends all that is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Ending {
    /// Hooks, or a control group that nobody inside can leave; or the run is not ended by its runner at all.
    #[default]
    Sure,
    /// An ender, which the command's process makes.
    Ender,
    /// Nobody: what is found is ended. With the reason.
    Unsure(String),
}

impl Ending {
    /// What the user should know of it before the command starts.
    pub fn note(&self) -> Option<String> {
        match self {
            Ending::Sure | Ending::Ender => None,
            Ending::Unsure(why) => Some(format!(
                "when this run is ended, a chain of processes that fork without a pause may go on: {why}"
            )),
        }
    }
}

/// Who makes sure that the end of the run ends all of it, where these `words` are held.
pub(super) fn ending(request: &Request<'_>, words: &Words) -> Ending {
    let Judging::Enforce(policies, _) = request.judging else { return Ending::Sure };
    let grouped = match request.group {
        Some(_) => leaver_of_group(request, words).map_or(Ok(()), Err),
        None => Err("the run has no control group of its own".to_owned()),
    };
    ends(words, &policies.kernel_allowed(), grouped)
}

/// Whether `time` ends all of a run, where these `words` are held; `grouped`: it has a control group that it does not leave.
pub fn time_is_held(words: &Words, kernel_allowed: &[&str], grouped: bool) -> bool {
    let grouped = if grouped { Ok(()) } else { Err(String::new()) };
    !matches!(ends(words, kernel_allowed, grouped), Ending::Unsure(_))
}

/// `grouped`: that the run's control group holds it, or why not.
fn ends(words: &Words, kernel_allowed: &[&str], grouped: Result<(), String>) -> Ending {
    // What keeps a run's signals inside keeps whoever is there to end it from the run, and the other way round.
    let by = |layer| words.get("signal-outside").is_some_and(|layers| layers.contains(&layer));
    let hooks = words.values().any(|layers| layers.contains(&layers::Layer::Lsm));
    let outside = kernel_allowed.contains(&"signal-outside");
    match grouped {
        Ok(()) => Ending::Sure,
        Err(_) if hooks => Ending::Sure,
        Err(_) if by(layers::Layer::Landlock) => Ending::Ender,
        Err(why) if outside => Ending::Unsure(format!(
            "{why}, the lsm layer is not there, and the policy allows `signal-outside`"
        )),
        Err(why) => Ending::Unsure(format!(
            "{why}, and neither the lsm layer nor a Landlock that scopes signals (ABI 6, Linux 6.12) is there"
        )),
    }
}

/// Whether nobody inside a run can leave its control groups: their files are settings of the kernel's, which hooks close
/// unless a policy allows them, and Landlock where it grants nothing there. (Being born in another group, by clone3(2), is
/// closed by the filter of every enforced run.)
pub fn groups_are_kept(words: &Words, kernel_allowed: &[&str]) -> bool {
    let by = |layer| words.get("sysctl-write").is_some_and(|layers| layers.contains(&layer));
    let hooks = by(layers::Layer::Lsm) && !kernel_allowed.contains(&"sysctl-write");
    hooks || by(layers::Layer::Landlock) && cgroup::are_all_below(Path::new("/sys"))
}

/// Who inside the run could leave the groups that limit it.
fn leaver(request: &Request<'_>, words: &Words) -> Option<String> {
    let grouped = request.limits.grouped() != LimitSet::EMPTY;
    grouped.then(|| leaver_of_group(request, words)).flatten()
}

/// Who inside the run could leave its groups.
fn leaver_of_group(request: &Request<'_>, words: &Words) -> Option<String> {
    let Judging::Enforce(policies, _) = request.judging else { return None };
    if groups_are_kept(words, &policies.kernel_allowed()) {
        return None;
    }
    if request.root {
        let why = match policies.kernel_allowed().contains(&"sysctl-write") {
            true => "the policy allows `sysctl-write`",
            false => "only the lsm layer would keep it, or landlock where no rule opens /sys for writing",
        };
        return Some(format!("root inside the run can leave the control groups that limit it: {why}"));
    }
    let owner = request.group.and_then(cgroup::owner_above)?;
    Some(format!(
        "the run's control group lies below one of uid {owner}, whose processes can leave it, and its limits with it"
    ))
}

/// The layers that were tried.
#[derive(Clone, Copy)]
pub(super) struct Layers<'a> {
    pub lsm: &'a Option<Tried>,
    pub group: &'a Option<Tried>,
    pub netns: &'a Option<Tried>,
    /// What works of Landlock.
    pub fence: Option<&'a Fence>,
    /// What is kept beside the policies.
    pub kept: &'a [Kept],
    /// Why there are no mounts of the run's own, where they were wanted.
    pub uncovered: Option<&'a str>,
    /// What became of a /tmp of the run's own.
    pub tmp: &'a Tmp,
    /// What leads round the run's own mounts: other names of files, and descriptors.
    pub round: &'a [String],
    /// What hooks do not hold because names have several spellings; empty where there are none.
    pub spelled: &'a [Unheld],
}

impl<'a> Layers<'a> {
    /// Everything that they hold together; `words` are those that they hold of the section `kernel`.
    pub fn together(&self, request: &Request<'_>, words: &'a Words) -> layers::Layers<'a> {
        let (lsm, group) = (works(self.lsm), works(self.group));
        layers::Layers {
            programs: self.tmp.held(held_here(
                held(lsm, group, limits_held(request, words)),
                request,
                works(self.netns),
            )),
            judges: (None, None),
            landlock: self.fence.map(Fence::plans).unwrap_or_default(),
            kept: self.kept,
            unix: match works(self.netns) && request.closes_unix_sockets() {
                true => UnixSockets::Closed,
                false => UnixSockets::Open,
            },
            words,
        }
    }

    /// The words of the section `kernel` that they hold.
    pub fn words(&self, request: &Request<'_>) -> Words {
        let command = if request.root { Command::Root } else { Command::User };
        words(works(self.lsm), self.fence.map(Fence::plans).unwrap_or_default(), command, self.kept)
    }
}

fn works(tried: &Option<Tried>) -> bool {
    matches!(tried, Some(Ok(_)))
}

/// What is held, in a network namespace or not.
pub(super) fn held_here(held: Held, request: &Request<'_>, apart: bool) -> Held {
    match request.judging {
        Judging::Enforce(policies, _) if apart => with_namespace(held, policies),
        _ => held,
    }
}

/// What rings of io_uring do past the system call filter, which hooks do not hold either.
fn past_the_filter(request: &Request<'_>) -> Option<String> {
    let Judging::Enforce(policies, _) = request.judging else { return None };
    policies.rings_pass().then(|| {
        "`syscalls: deny`: the policy allows `io-uring`, whose rings make the same calls past the filter"
            .to_owned()
    })
}

/// What a network namespace does not hold of a closed network.
fn beyond_namespace(request: &Request<'_>, plan: &LsmPlan, words: &Words, unix: bool) -> Vec<String> {
    let mut lines = Vec::new();
    if plan.header.net_default_deny != 0 && !unix {
        lines.push(
            "`network: default: deny` closes unix sockets with a path too: only the lsm layer holds that where rules \
             allow some, or `kernel` allows `io-uring`"
                .to_owned(),
        );
    }
    if request.root && !words.contains_key("ptrace-any") {
        lines.push(
            "root inside the run can get into the machine's network again, by another process of it: only the lsm \
             and landlock layers would keep it"
                .to_owned(),
        );
    }
    lines
}

/// What an enforced policy says and this run would not hold: refused, or listed where the user chose so.
pub(super) fn unheld(
    request: &Request<'_>,
    plan: Option<&LsmPlan>,
    found: &Layers<'_>,
) -> Result<Vec<String>, SensorError> {
    let (Judging::Enforce(policies, choice), Some(plan)) = (request.judging, plan) else {
        return Ok(Vec::new());
    };
    let Layers { lsm, group, netns, uncovered, tmp, round, spelled, .. } = *found;
    let apart = works(netns);
    let words = found.words(request);
    let together = found.together(request, &words);
    let held = together.programs;
    let policies: Vec<_> = policies.iter().collect();
    let mut all = together.unheld(plan, &policies);
    all.extend_from_slice(spelled);
    let mut lines = Unheld::lines(&all);
    lines.extend(round.iter().cloned());
    lines.extend(past_the_filter(request));
    // What no rule names is held by hooks alone: unix sockets, and families besides TCP and UDP.
    if !held.unix && works(group) && plan.header.net_default_deny != 0 {
        lines.push("`network: default: deny` closes unix sockets and other families too, which only the lsm layer holds".to_owned());
    }
    if apart {
        lines.extend(beyond_namespace(request, plan, &words, held.unix));
    }
    if !works(lsm)
        && works(group)
        && let Some(owner) = request.group.and_then(cgroup::owner_above)
    {
        lines.push(format!(
            "the run's control group lies below one of uid {owner}, whose processes can leave it, and the network's \
             rules with it"
        ));
    }
    if lines.is_empty() {
        return Ok(lines);
    }
    lines.extend(request.limits.missing().iter().cloned());
    lines.extend(leaver(request, &words));
    if policies
        .iter()
        .any(|policy| policy.settings().limits.as_ref().is_some_and(|limits| limits.time.is_some()))
        && let Ending::Unsure(why) = ending(request, &words)
    {
        lines.push(format!(
            "`time` ends what is found of the run; a chain of processes that fork without a pause may go on: {why}"
        ));
    }
    if let Some(Err(reason)) = request.fence {
        lines.push(format!("the landlock layer is missing: {reason}"));
    }
    lines.extend(tmp.why_not());
    if let Some(reason) = uncovered {
        lines.push(format!("the mountns layer is missing: {reason}"));
    }
    for (name, tried) in [("lsm", lsm), ("cgroup-net", group), ("netns", netns)] {
        match tried {
            // In a namespace of its own a run needs none; and without a closed network it has none.
            None if (name == "cgroup-net" && apart) || name == "netns" => {}
            Some(Err(reason)) => lines.push(format!("the {name} layer is missing: {reason}")),
            None => lines.push(format!("the {name} layer is not used: --layers leaves it out")),
            Some(Ok(_)) => {}
        }
    }
    match choice {
        OnUnheld::Refuse => Err(SensorError::Unheld(lines)),
        OnUnheld::Record => Ok(lines),
    }
}
