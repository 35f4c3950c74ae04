//! What other policies come to: those that hold from now on, or why nothing changes.

use std::sync::Arc;

use policy::compile::seccomp::Hooks;
use policy::other_names::Marks;
use policy::{Mode, Policies, Policy};

use super::Applied;
use crate::enforce::lsm::Force;
use crate::launch::policy::not_judged;
use crate::record::{self, store::RunDir};
use crate::sensor::{HELD_BY_HOOKS, Planned, Terms};

/// Who applies policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Process id.
    pub pid: u32,
    /// User id.
    pub uid: u32,
}

/// Policies that can be put in force at once.
#[derive(Debug)]
pub struct Change {
    /// All that hold from now on.
    pub policies: Arc<Policies>,
    /// Their tables.
    pub planned: Planned,
    /// What they are put in the place of.
    pub force: Force,
    /// The files that are denied by another name.
    pub marks: Marks,
    /// What the user is told, and the record.
    pub applied: Applied,
    /// Who wants it.
    pub peer: Peer,
    /// Whether those that held before hold no longer.
    pub widen: bool,
}

/// What a run was when it began, as far as it stays so.
#[derive(Clone, Debug)]
pub struct Beginning {
    /// Its policies.
    pub policies: Policies,
    /// Whether verdicts are law.
    pub law: bool,
    /// The runner's own policy, which always holds.
    pub guard: Option<Policy>,
}

/// What holds in a run, and how it began.
pub struct Ways<'a> {
    /// The policies, without what answers opened.
    pub in_force: &'a Policies,
    /// What it was when it began.
    pub beginning: &'a Beginning,
    /// Its directory.
    pub run_dir: &'a RunDir,
    /// Puts into policies what answers opened.
    pub open: &'a dyn Fn(&Policies) -> Policies,
}

/// What came of a request.
#[derive(Debug)]
pub enum Prepared {
    /// It can be put in force: the policies without what answers opened, and what that takes.
    Change(Policies, Box<Change>),
    /// It is in force already.
    Nothing(Applied),
}

/// Finds out what `given` policies come to beside, or in place of, those in force.
///
/// # Errors
/// Why not: nothing has changed but that more files may be marked as denied by their other names.
pub fn prepare(
    given: &Policies,
    widen: bool,
    peer: Peer,
    ways: &Ways<'_>,
    terms: &mut Terms,
) -> Result<Prepared, String> {
    let Ways { in_force, beginning, run_dir, open } = *ways;
    if widen && peer.uid != 0 {
        return Err("only root may put other policies in the place of those that hold (--widen)".to_owned());
    }
    let policies = match widen {
        true => beginning.guard.iter().fold(given.clone(), |all, guard| all.and(guard.clone())),
        false => given.iter().fold(in_force.clone(), |all, policy| all.and(policy.clone())),
    };
    let text = policies.effective_yaml();
    let sha256 = record::sha256_hex(text.as_bytes());
    let mut applied =
        Applied { names: policies.names(), sha256, file: String::new(), changed: false, notes: Vec::new() };
    if text == in_force.effective_yaml() {
        return Ok(Prepared::Nothing(applied));
    }
    if beginning.law {
        let fixed = fixed_at_start(&policies, &beginning.policies, terms.hooks());
        if !fixed.is_empty() {
            return Err(format!(
                "what only the start of a run can hold is otherwise in this policy:\n{}\n  change that in the policy, \
                 or start a new run with it",
                fixed.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
            ));
        }
        applied.notes.extend(still_closed(&policies, &beginning.policies, terms.hooks()));
    } else {
        applied.notes.extend(given.iter().flat_map(without_effect));
    }
    let opened = open(&policies);
    let list: Vec<&Policy> = opened.iter().collect();
    let text_of = |error: crate::sensor::SensorError| format!("{:#}", anyhow::Error::new(error));
    let planned = terms.plan(&list).map_err(text_of)?;
    applied.notes.extend(terms.spellings(&list).map_err(text_of)?);
    applied.file = record::effective_policy(planned.id);
    run_dir
        .replace_file(&applied.file, text.as_bytes())
        .map_err(|error| format!("cannot write {} into the run's directory: {error}", applied.file))?;
    // Before it is in force: for a moment more is denied than the one says that holds, never less than the next.
    let closed: Vec<&Policy> = policies.iter().collect();
    applied.notes.extend(terms.mark(&closed).map_err(text_of)?);
    applied.changed = true;
    let (opened, marks) = (Arc::new(opened), terms.marks());
    let force = Force::Whole;
    let change = Change { policies: opened, planned, force, marks, applied, peer, widen };
    Ok(Prepared::Change(policies, Box::new(change)))
}

/// What of a policy has no effect in a run that only audits.
fn without_effect(policy: &Policy) -> Vec<String> {
    let env = policy.settings().env.as_ref().map(|_| {
        format!("`env` of {} has no effect: the command has its environment already", policy.name())
    });
    not_judged(policy).into_iter().chain(env).collect()
}

/// What policies say of things that are settled when a run starts, where they say it otherwise.
pub(super) fn fixed_at_start(policies: &Policies, first: &Policies, hooks: Hooks) -> Vec<String> {
    let law = |policies: &Policies| {
        policies.iter().filter(|policy| policy.mode() == Mode::Enforce).cloned().collect::<Vec<Policy>>()
    };
    let before = law(first);
    let mut lines = Vec::new();
    for policy in law(policies) {
        let env = &policy.settings().env;
        if env.is_some() && !before.iter().any(|before| before.settings().env == *env) {
            lines.push(format!("`env` of {}: the command has its environment already", policy.name()));
        }
    }
    if policies.private_tmp() && !first.private_tmp() {
        lines.push("`tmp: private`: the command has the machine's /tmp already".to_owned());
    }
    let (now, then) = (policies.limits(), first.limits());
    if now != then && now.and(&then) != then {
        lines.push("`limits` that are tighter than those it began with".to_owned());
    }
    let allowed = policies.kernel_allowed();
    for word in first.kernel_allowed() {
        if !allowed.contains(&word) && is_by_filter(word, hooks) {
            lines.push(format!(
                "`kernel` without `{word}`: the filter of system calls that closes it is in place"
            ));
        }
    }
    let filter = first.filter();
    for policy in law(policies) {
        let alone = Policies::from(policy.clone()).filter();
        if !filter.is_as_strict_as(&alone) {
            lines.push(format!("`syscalls` of {}: the filter of system calls is in place", policy.name()));
        }
    }
    lines
}

/// Whether a word of `kernel` is closed by the filter of a run with these hooks, for good, or not at all.
fn is_by_filter(word: &str, hooks: Hooks) -> bool {
    hooks == Hooks::Missing || !HELD_BY_HOOKS.contains(&word)
}

/// What policies open and the filter of system calls keeps closed.
pub(super) fn still_closed(policies: &Policies, first: &Policies, hooks: Hooks) -> Option<String> {
    let before = first.kernel_allowed();
    let open = policies.kernel_allowed();
    let mut closed: Vec<&str> =
        open.into_iter().filter(|word| !before.contains(word) && is_by_filter(word, hooks)).collect();
    if !policies.filter().is_as_strict_as(&first.filter()) {
        closed.push("what its `syscalls` closed");
    }
    (!closed.is_empty()).then(|| {
        format!("still closed by the filter of system calls that the run began with: {}", closed.join(", "))
    })
}
