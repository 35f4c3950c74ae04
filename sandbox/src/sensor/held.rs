//! What layers hold, and what of a policy a run would not hold.

use policy::{
    Access,
    compile::{
        Unheld,
        lsm::{Held, LsmPlan},
    },
    settings::{Limit, LimitSet},
};

use super::{Judging, Request, SensorError, net::with_namespace, tried::Tried};
use crate::{launch::cgroup, settings::OnUnheld};

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

/// The limits that are held where hooks judge (`lsm`), or do not.
pub(super) fn limits_held(request: &Request<'_>, lsm: bool) -> LimitSet {
    let held = request.limits.held();
    match leaver(request, lsm) {
        None => held,
        Some(_) if held.contains(Limit::Time) => LimitSet::EMPTY.with(Limit::Time),
        Some(_) => LimitSet::EMPTY,
    }
}

/// Whether nobody inside a run can leave its control groups: their files are settings of the kernel's, which hooks close
/// unless a policy allows them.
pub fn groups_are_kept(lsm: bool, kernel_allowed: &[&str]) -> bool {
    lsm && !kernel_allowed.contains(&"sysctl-write")
}

/// Who inside the run could leave the groups that limit it.
fn leaver(request: &Request<'_>, lsm: bool) -> Option<String> {
    let Judging::Enforce(policies, _) = request.judging else { return None };
    if groups_are_kept(lsm, &policies.kernel_allowed()) || !request.limits.are_by_group() {
        return None;
    }
    if request.root {
        let why = if lsm { "the policy allows `sysctl-write`" } else { "only the lsm layer would keep it" };
        return Some(format!("root inside the run can leave the control groups that limit it: {why}"));
    }
    let owner = request.group.and_then(cgroup::owner_above)?;
    Some(format!(
        "the run's control group lies below one of uid {owner}, whose processes can leave it, and its limits with it"
    ))
}

/// What is held, in a network namespace or not.
pub(super) fn held_here(held: Held, apart: bool) -> Held {
    if apart { with_namespace(held) } else { held }
}

/// What a network namespace does not hold of a closed network.
fn beyond_namespace(request: &Request<'_>, plan: &LsmPlan) -> Vec<String> {
    let mut lines = Vec::new();
    if plan.header.net_default_deny != 0 {
        lines.push(
            "`network: default: deny` closes unix sockets with a path too, which only the lsm layer holds"
                .to_owned(),
        );
    }
    if request.root {
        lines.push(
            "root inside the run can get into the machine's network again, by another process of it: only the lsm \
             layer would keep it"
                .to_owned(),
        );
    }
    lines
}

/// What an enforced policy says and this run would not hold: refused, or listed where the user chose so.
pub(super) fn unheld(
    request: &Request<'_>,
    plan: Option<&LsmPlan>,
    lsm: &Option<Tried>,
    group: &Option<Tried>,
    netns: &Option<Tried>,
) -> Result<Vec<String>, SensorError> {
    let (Judging::Enforce(_, choice), Some(plan)) = (request.judging, plan) else { return Ok(Vec::new()) };
    let works = |tried: &Option<Tried>| matches!(tried, Some(Ok(_)));
    let apart = works(netns);
    let held = held_here(held(works(lsm), works(group), limits_held(request, works(lsm))), apart);
    let mut lines = Unheld::lines(&plan.unheld(&held));
    // What no rule names is held by hooks alone: unix sockets, and families besides TCP and UDP.
    if !held.unix && works(group) && plan.header.net_default_deny != 0 {
        lines.push("`network: default: deny` closes unix sockets and other families too, which only the lsm layer holds".to_owned());
    }
    if apart {
        lines.extend(beyond_namespace(request, plan));
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
    lines.extend(leaver(request, works(lsm)));
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
