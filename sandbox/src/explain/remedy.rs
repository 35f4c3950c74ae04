//! The narrowest lines of a policy that would allow what was denied: the policy crate's, put to what a record says.
//!
//! A record names what was attempted and the rule that decided, not each part of the attempt. Which part is denied
//! (which end of a rename, which access that a new name would open) is found by asking the policy again.

use std::net::IpAddr;
use std::time::Instant;

use policy::suggest::{self, NoSuggestion, Suggester, Suggestion};
use policy::{
    Access, AccessSet, Act, Decision, End, Mode, Owner, Policies, Policy, Protocol, SectionKind, Subject,
    Variables, evaluate, questions,
};
use sandbox_ebpf::abi::resolver::PORT;

use super::{Effect, Group, Matter};
use crate::event::decode::rule_protocol;
use crate::launch::guard;

/// Finds remedies that can all be put into the same files: no two name different rules alike.
#[derive(Debug)]
pub struct Remedies<'p> {
    policies: Vec<(&'p Policy, Suggester<'p>)>,
}

impl<'p> Remedies<'p> {
    /// For the policies of a run.
    pub fn new(policies: &'p Policies) -> Self {
        // The values of the run's variables are not in its record: paths are written out.
        static NONE: std::sync::LazyLock<Variables> = std::sync::LazyLock::new(Variables::new);
        // The runner's own has no file that somebody could change.
        let policies = policies.iter().filter(|policy| policy.name() != guard::NAME);
        let policies = policies.map(|policy| (policy, Suggester::new(policy, &NONE)));
        Self { policies: policies.collect() }
    }

    /// Finds those of `groups` that have none yet, until it is too late; gives how many are left.
    pub fn fill(&mut self, groups: &mut [Group], deadline: Instant) -> usize {
        let mut missing = groups.iter_mut().filter(|group| group.remedy.is_none());
        while Instant::now() < deadline {
            let Some(group) = missing.next() else { return 0 };
            group.remedy = Some(self.of(group));
        }
        missing.count()
    }

    /// The lines that would allow a group's attempts, each with where it goes; several are all needed. None where no
    /// rule decided, or no line can name the object.
    pub fn of(&mut self, group: &Group) -> Vec<String> {
        if group.matter.rule.is_none() {
            return Vec::new();
        }
        let several = self.policies.len() > 1;
        let mut lines = Vec::new();
        for (policy, suggester) in &mut self.policies {
            let Some((suggestion, aside)) = find(policy, suggester, group) else { continue };
            let last = suggestion.edits.len().saturating_sub(1);
            for (at, edit) in suggestion.edits.iter().enumerate() {
                let mut line = format!("{}  # {}", edit.line, edit.site);
                if several {
                    line = format!("{line} of {}", policy.name());
                }
                if at == last && !suggestion.also.is_empty() {
                    line = format!("{line}; opens {} too", suggestion.also);
                }
                if at == last
                    && let Some(aside) = aside
                {
                    line = format!("{line}; {aside}");
                }
                lines.push(line);
            }
        }
        lines
    }
}

/// What one policy would have to say, where it is among those that deny; with something to add.
fn find(
    policy: &Policy,
    suggester: &mut Suggester<'_>,
    group: &Group,
) -> Option<(Suggestion, Option<&'static str>)> {
    let matter = &group.matter;
    if let Some(words) = kernel_words(matter) {
        let law = policy.mode() == Mode::Enforce;
        let allowed = policy.settings().kernel_allowed();
        let word = words.iter().find(|word| !allowed.contains(word)).filter(|_| law)?;
        let aside = (word == &"ptrace-own").then_some("ptrace-any for a process outside the run");
        return Some((suggest::kernel(policy, word).ok()?, aside));
    }
    if let ("dns_answer", Some(host)) = (matter.kind.as_str(), &matter.host) {
        // Which resolver it was for makes no difference: whoever may speak to any may ask for everything.
        let asked =
            questions::ask(std::iter::once(policy), host, (IpAddr::from([0, 0, 0, 0]), PORT), Protocol::Udp);
        if matches!(asked, questions::Asked::Allowed { .. }) {
            return None;
        }
        return Some((suggester.question(host).ok()?, Some("with the port that it is about")));
    }
    let exe = group.programs.first().map(Vec::as_slice).unwrap_or_default();
    // The tables may hold less than the policy says of a process; then it is denied as one that nobody knows.
    for subject in [Subject { exe, ancestors: &[b""] }, Subject::UNKNOWN] {
        let denied = |act: &Act<'_>| denies(policy, &subject, act, matter.effect);
        let act = with_acts(matter, |acts| {
            let act = acts.direct.iter().find(|act| denied(act));
            let gained = || {
                let mut gained = acts.gained.iter();
                gained.find(|(at_old, at_new)| denied(at_old) && !denied(at_new)).map(|(at_old, _)| at_old)
            };
            act.or_else(gained).map(|act| suggester.narrowest(&subject, act))
        });
        match act {
            Some(Ok(suggestion)) => return Some((suggestion, sorts(policy, &subject, matter))),
            Some(Err(NoSuggestion::Allowed)) | None => {}
            Some(Err(_)) => return None,
        }
    }
    None
}

/// What is said of a UDP connect that may only sort addresses: to where TCP is open, or to port 0, where nothing can be
/// sent.
fn sorts(policy: &Policy, subject: &Subject<'_>, matter: &Matter) -> Option<&'static str> {
    if !matter.may_only_sort() {
        return None;
    }
    let host = matter.host.as_deref();
    let mut end = end(matter, host.as_slice())?;
    let End::Address { port, protocol, .. } = &mut end else { return None };
    *protocol = Protocol::Tcp;
    let port = *port;
    let open =
        !denies(policy, subject, &Act::Network { accesses: Access::Connect.into(), end }, Effect::Blocked);
    (open || port == 0).then_some("needless where getaddrinfo only sorts addresses by it")
}

/// Whether a policy denies an act with this effect. What would have been blocked may be on trial, or law of a run
/// that only audits.
fn denies(policy: &Policy, subject: &Subject<'_>, act: &Act<'_>, effect: Effect) -> bool {
    let verdict = evaluate::judge(policy, subject, act);
    verdict.decision != Decision::Allow || (effect == Effect::WouldBlock && verdict.audited.is_some())
}

/// The words of the section `kernel` that open an act of that section, the narrowest first.
fn kernel_words(matter: &Matter) -> Option<&'static [&'static str]> {
    Some(match matter.kind.as_str() {
        "proc_bpf" => &["bpf"],
        "proc_chroot" => &["chroot"],
        "proc_mount" => &["mount"],
        "proc_ptrace" => &["ptrace-own", "ptrace-any"],
        "proc_signal" => &["signal-outside"],
        "proc_userns" => &["userns"],
        _ => return None,
    })
}

/// What an attempt may have been denied for.
#[derive(Debug, Default)]
struct Acts<'a> {
    /// Itself.
    direct: Vec<Act<'a>>,
    /// Because its object would be open by a new name: an access at the old name, and at the new one.
    gained: Vec<(Act<'a>, Act<'a>)>,
}

fn with_acts<T>(matter: &Matter, take: impl FnOnce(Acts<'_>) -> T) -> T {
    let asked: AccessSet = matter.accesses.iter().filter_map(|word| access(word)).collect();
    let mut acts = Acts::default();
    if matter.kind.starts_with("net_") {
        let host = matter.host.as_deref();
        if let Some(end) = end(matter, host.as_slice()) {
            acts.direct.push(Act::Network { accesses: asked, end });
        }
        return take(acts);
    }
    let at = |access: Access, path| match access {
        Access::Run => Act::Exec { path, sha256: None },
        access => Act::File { accesses: access.into(), path },
    };
    let path = matter.path.as_deref();
    match (path, matter.path2.as_deref()) {
        (Some(old), Some(new)) => {
            let ends =
                [(Access::Delete, old), (Access::Create, new), (Access::Create, old), (Access::Delete, new)];
            // A link removes nothing; an exchange does both at both ends.
            let ends = ends.into_iter().filter(|(access, _)| asked.contains(*access));
            acts.direct.extend(ends.map(|(access, path)| at(access, path)));
            acts.gained.extend(Access::OBJECT.map(|access| (at(access, old), at(access, new))));
            acts.gained.extend(Access::OBJECT.map(|access| (at(access, new), at(access, old))));
        }
        (Some(path), None) => {
            let files = asked.intersection(SectionKind::Files.accesses());
            if !files.is_empty() {
                acts.direct.push(Act::File { accesses: files, path });
            }
            // What may not be executed is not loaded either.
            if asked.contains(Access::Run) || asked.contains(Access::Load) {
                acts.direct.push(at(Access::Run, path));
            }
        }
        (None, _) => {}
    }
    take(acts)
}

fn access(word: &str) -> Option<Access> {
    SectionKind::ALL.into_iter().flat_map(|kind| kind.accesses().iter()).find(|access| access.name() == word)
}

/// The other end of a network access, known by these names.
fn end<'m>(matter: &'m Matter, names: &'m [&'m str]) -> Option<End<'m>> {
    if let Some(address) = &matter.address {
        let address: IpAddr = address.parse().ok()?;
        let protocol = Protocol::from_abi(rule_protocol(matter.protocol.as_deref()));
        let port = matter.port.unwrap_or(0);
        let owner = if matter.own { Owner::Run } else { Owner::Elsewhere };
        return Some(End::Address { address, port, protocol, names, owner });
    }
    if let (None, Some(port), [_, ..]) = (&matter.path, matter.port, names) {
        // A name that was not even asked for: an address of nobody's (RFC 5737) stands for those that it may have.
        let address = IpAddr::from([192, 0, 2, 1]);
        let protocol = Protocol::from_abi(rule_protocol(matter.protocol.as_deref()));
        return Some(End::Address { address, port, protocol, names, owner: Owner::Elsewhere });
    }
    match matter.path.as_deref() {
        Some([b'@', name @ ..]) => Some(End::Abstract(name)),
        Some(path) => Some(End::Path(path)),
        None => Some(End::Other),
    }
}
